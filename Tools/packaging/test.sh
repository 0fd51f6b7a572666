#!/usr/bin/env bash
# Whether the package installs on a bare Debian, works there, and leaves what is its owner's: test.sh PACKAGE [DEBIAN]. DEBIAN is the folder of a
# minimal root (debootstrap --variant=minbase bookworm FOLDER), which is not changed. Needs root, overlayfs, and a network for apt.
set -euo pipefail
package=$(realpath "$1")
base=${2:-}
[ "$(id -u)" = 0 ] || { echo "not done: needs root (chroot, mount)"; exit 77; }
if [ -z "$base" ] || [ ! -x "$base/usr/bin/dpkg" ]; then
    echo "not done: no Debian root given. debootstrap --variant=minbase bookworm FOLDER makes one"
    exit 77
fi
base=$(realpath "$base")
work=$(mktemp -d)
PACKAGE=$package BASE=$base WORK=$work exec unshare --mount bash -euo pipefail -c '
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/up" "$WORK/work" "$WORK/root"
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$WORK/up,workdir=$WORK/work" "$WORK/root"
root=$WORK/root
mount --bind /proc "$root/proc"; mount --bind /dev "$root/dev"; mount -t tmpfs tmpfs "$root/tmp"
cp -L /etc/resolv.conf "$root/etc/" 2>/dev/null || true
cp -L /etc/apt/sources.list.d/* "$root/etc/apt/sources.list.d/" 2>/dev/null || true
cp "$PACKAGE" "$root/tmp/atoll.deb"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive "$@"; }
bad=0
check() { local what=$1; shift; if "$@" >"$WORK/log" 2>&1; then echo "ok    $what"; else echo "FAIL  $what"; tail -5 "$WORK/log"; bad=1; fi; }
inside apt-get update -qq >/dev/null 2>&1 || true
begun=$(date +%s)
check "installs, with what it depends on" inside apt-get install -qq -y --no-install-recommends /tmp/atoll.deb
echo "      $(( $(date +%s) - begun )) s"
check "says its version" inside atoll --version
check "has no library missing" sh -c "! chroot $root ldd /usr/bin/atoll | grep \"not found\""
check "looks at the machine" sh -c "chroot $root env -i PATH=/usr/bin:/bin HOME=/root atoll doctor --json | grep -q findings"
check "finds its topologies" sh -c "cd / && chroot $root env -i PATH=/usr/bin:/bin HOME=/root atoll plan /usr/share/atoll/Topologies/demo.yaml --job /usr/share/atoll/Topologies/jobs/demo.yaml"
check "cites" sh -c "chroot $root env -i PATH=/usr/bin:/bin HOME=/root atoll cite --help"
check "has man pages, completions, units" test -e "$root/usr/share/man/man1/atoll-peer.1.gz" -a -e "$root/usr/share/bash-completion/completions/atoll" -a -e "$root/usr/lib/systemd/system/atoll-peer.service" -a -e "$root/usr/lib/systemd/user/atoll-peer.service"
begun=$(date +%s)
check "trains: atoll demo, without a project around it" inside sh -c "cd /tmp && atoll demo ${DEMO:-} --out /tmp/demo && test -s /tmp/demo/report.json"
echo "      $(( $(date +%s) - begun )) s"
check "has figures beside the report" inside sh -c "test \$(wc -l < /tmp/demo/rounds.csv) -gt 2 && ls /tmp/demo/tensorboard/*.atoll"
inside sh -c "mkdir -p /var/lib/private/atoll/peer && echo key > /var/lib/private/atoll/peer/key"
check "is removed" inside apt-get purge -qq -y atoll
check "leaves its owner the keys" test -e "$root/var/lib/private/atoll/peer/key"
check "leaves nothing else" sh -c "! find $root/usr -path $root/usr/share/doc/atoll -o -name \"*atoll*\" -print | grep ."
exit $bad'
