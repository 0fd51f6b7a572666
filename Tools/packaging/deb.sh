#!/usr/bin/env bash
# A Debian package around a program that is built: deb.sh PROGRAM FOLDER. Needs dpkg-dev, binutils and python3; no compiler.
# The program should be linked with Swift's runtime in it (build.sh): what it asks for besides is found by dpkg-shlibdeps.
set -euo pipefail
program=$(realpath "$1")
out=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=$("$program" --version)
architecture=$(dpkg --print-architecture)
# The same commit gives the same package.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
day=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)
umask 022
mkdir -p "$out"
out=$(cd "$out" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
tree=$stage/atoll

install -D -m 755 "$program" "$tree/usr/bin/atoll"
strip --strip-all --remove-section=.comment --remove-section=.swift_ast "$tree/usr/bin/atoll"
if "$tree/usr/bin/atoll" --version >/dev/null; then :; else echo "the stripped program does not run" >&2; exit 1; fi

share=$tree/usr/share
mkdir -p "$share/atoll" "$share/doc/atoll" "$share/man/man1"
cp -r "$root/Topologies" "$share/atoll/"
mkdir -p "$share/atoll/torch-engine" && cp -r "$root/Tools/torch-engine/atoll_torch" "$share/atoll/torch-engine/" && find "$share/atoll/torch-engine" -name __pycache__ -prune -exec rm -r {} +
if command -v bible >/dev/null; then
    mkdir -p "$share/atoll/texts"
    bible -f gen1:1-rev22:21 >"$share/atoll/texts/kjv.txt" 2>/dev/null </dev/null
else
    echo "note: no program bible (Debian package bible-kjv): atoll demo will want --data FILE" >&2
fi
"$program" --experimental-dump-help | python3 "$here/manual.py" "$share/man/man1" "$version" "$day"
gzip -9n "$share"/man/man1/*.1
completion() { install -D -m 644 /dev/stdin "$2" < <("$program" --generate-completion-script "$1" | sed '1{/^#!/d}'); }
completion bash "$share/bash-completion/completions/atoll"
completion zsh "$share/zsh/vendor-completions/_atoll"
completion fish "$share/fish/vendor_completions.d/atoll.fish"
cp "$root"/docs/*.md "$root/README.md" "$share/doc/atoll/"
cp "$here/copyright" "$share/doc/atoll/copyright"
printf 'atoll (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- the Atoll authors <atoll@atoll.invalid>  %s\n' \
    "$version" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$share/doc/atoll/changelog.gz"
gzip -9nc "$root/CHANGELOG.md" >"$share/doc/atoll/CHANGELOG.md.gz"
install -D -m 644 "$here/lintian-overrides" "$share/lintian/overrides/atoll"
install -D -m 644 "$here"/systemd/*.service -t "$tree/usr/lib/systemd/system"
install -D -m 644 "$here"/systemd/user/*.service -t "$tree/usr/lib/systemd/user"
chmod -R u=rwX,go=rX "$tree"

mkdir -p "$stage/debian" "$tree/DEBIAN"
printf 'Source: atoll\n\nPackage: atoll\nArchitecture: any\n' >"$stage/debian/control"
depends=$(cd "$stage" && dpkg-shlibdeps -O -e"$tree/usr/bin/atoll" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
# Packed relocations take a newer C library than any symbol says (bookworm's dpkg-shlibdeps does not look at them).
if readelf -V "$tree/usr/bin/atoll" | grep -q GLIBC_ABI_DT_RELR; then
    depends=$(sed -E 's/libc6 \(>= 2\.([0-2][0-9]|3[0-5])\)/libc6 (>= 2.36)/' <<<"$depends")
fi
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f1)
cat >"$tree/DEBIAN/control" <<CONTROL
Package: atoll
Version: $version
Architecture: $architecture
Maintainer: the Atoll authors <atoll@atoll.invalid>
Installed-Size: $size
Depends: $depends
Suggests: python3, libsystemd0
Section: science
Priority: optional
Description: train a language model together, over the internet
 People who own ordinary computers join a pool; somebody launches a job.
 Atoll finds the peers through a Kademlia overlay, cuts the training into
 shards that fit links and memory, survives whoever leaves, and ends with a
 standard checkpoint. A peer takes no more of its machine than its owner
 lends. Begin with "atoll demo", or "atoll peer --invite FILE".
CONTROL
install -m 755 "$here"/debian/* "$tree/DEBIAN/"
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
chmod 644 "$tree/DEBIAN/md5sums"
package=$out/atoll_${version}_${architecture}.deb
dpkg-deb --root-owner-group -Zxz --build "$tree" "$package" >/dev/null
printf '%s\n  program  %s bytes, stripped\n  package  %s bytes\n  depends  %s\n' \
    "$package" "$(stat -c %s "$tree/usr/bin/atoll")" "$(stat -c %s "$package")" "$depends"
