#!/usr/bin/env bash
# Whether the package installs on a bare Debian, works there, and leaves what is its owner's: test.sh PACKAGE [DEBIAN]. DEBIAN is the folder of a
# minimal root (debootstrap --variant=minbase bookworm FOLDER), which is not changed. Needs root, overlayfs, and a network for apt. DEMO: options of
# the demo; --no-kill is none of them.
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
cp "$PACKAGE" "$root/tmp/atoll.deb"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive "$@"; }
bad=0
check() { local what=$1; shift; if "$@" >"$WORK/log" 2>&1; then echo "ok    $what"; else echo "FAIL  $what"; tail -5 "$WORK/log"; bad=1; fi; }
seconds() { echo "      $(( ($(date +%s%N) - begun) / 100000000 ))" | sed "s/\(.\)\$/.\1 s/; s/ \././"; }
# Where the root names no place to get packages from, those of this machine.
inside apt-get update -qq >/dev/null 2>&1 || { cp -L /etc/apt/sources.list.d/* "$root/etc/apt/sources.list.d/"; inside apt-get update -qq >/dev/null 2>&1; } || true
check "is no larger than it may be: 15 MB, its program 45 MB" sh -c "dpkg-deb -x \"$PACKAGE\" \"$WORK/out\" && test \$(stat -c %s \"$PACKAGE\") -le 15000000 -a \$(stat -c %s \"$WORK/out/usr/bin/atoll\") -le 45000000"
# A pool that is there already, of the same program on this machine.
ATOLL_HOME=$WORK/home "$WORK/out/usr/bin/atoll" node --listen 127.0.0.1:0 >"$WORK/node.log" 2>&1 &
node=$!
trap "kill $node 2>/dev/null || true" EXIT
for _ in $(seq 100); do grep -q joined "$WORK/node.log" && break; sleep 0.1; done
cp "$WORK/home/node/invite.yaml" "$root/tmp/"
begun=$(date +%s%N)
check "installs, with what it depends on" inside apt-get install -qq -y --no-install-recommends /tmp/atoll.deb
seconds
check "joins a pool, by the second command" inside sh -c "atoll peer --invite /tmp/invite.yaml --listen 127.0.0.1:0 >/tmp/peer.log 2>&1 & peer=\$!; for _ in \$(seq 600); do grep -q \"joined the pool, and knows 1\" /tmp/peer.log && break; sleep 0.05; done; kill \$peer; grep -q \"joined the pool, and knows 1\" /tmp/peer.log"
seconds
kill $node
check "says its version" inside atoll --version
check "has no library missing" sh -c "! chroot $root ldd /usr/bin/atoll | grep \"not found\""
check "looks at the machine" sh -c "chroot $root env -i PATH=/usr/bin:/bin HOME=/root atoll doctor --json | grep -q findings"
check "finds its topologies" sh -c "cd / && chroot $root env -i PATH=/usr/bin:/bin HOME=/root atoll plan /usr/share/atoll/Topologies/demo.yaml --job /usr/share/atoll/Topologies/jobs/demo.yaml"
check "cites" sh -c "chroot $root env -i PATH=/usr/bin:/bin HOME=/root atoll cite --help"
check "has man pages, completions, units" test -e "$root/usr/share/man/man1/atoll-peer.1.gz" -a -e "$root/usr/share/bash-completion/completions/atoll" -a -e "$root/usr/lib/systemd/system/atoll-peer.service" -a -e "$root/usr/lib/systemd/user/atoll-peer.service"
begun=$(date +%s%N)
check "trains: atoll demo, without a project around it" inside sh -c "cd /tmp && atoll demo ${DEMO:-} --out /tmp/demo >/tmp/demo.log 2>&1 && test -s /tmp/demo/report.json"
seconds
grep -E "killed, on purpose|training goes on|validation loss|^the whole demo" "$root/tmp/demo.log" | sed "s/^/      /" || true
check "goes on when one is killed" grep -q "training goes on" "$root/tmp/demo.log"
check "ends with a checkpoint that writes" sh -c "chroot $root env -i PATH=/usr/bin:/bin HOME=/root atoll generate /tmp/demo/checkpoint --prompt God --count 20 | grep -q God"
check "has figures beside the report" inside sh -c "test \$(wc -l < /tmp/demo/rounds.csv) -gt 2 && ls /tmp/demo/tensorboard/*.atoll"
inside sh -c "mkdir -p /var/lib/private/atoll/peer && echo key > /var/lib/private/atoll/peer/key"
check "is removed" inside apt-get purge -qq -y atoll
check "leaves its owner the keys" test -e "$root/var/lib/private/atoll/peer/key"
check "leaves nothing else" sh -c "! find $root/usr -path $root/usr/share/doc/atoll -o -name \"*atoll*\" -print | grep ."
exit $bad'
