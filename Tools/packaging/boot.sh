#!/usr/bin/env bash
# Whether the units work under a systemd that has booted: boot.sh PACKAGE [DEBIAN]. A node and a peer are started, asked, hung, and stopped. DEBIAN is the folder of a
# minimal root (debootstrap --variant=minbase bookworm FOLDER), which is not changed. Needs root, overlayfs, cgroup v2, and a network for apt; systemd boots in namespaces of its own,
# with no network but loopback. RUNTIME=FOLDER: of Swift's libraries, for a package of a program that has not got them in it.
set -euo pipefail
package=$(realpath "$1")
base=${2:-}
[ "$(id -u)" = 0 ] || { echo "not done: needs root (namespaces, mount)"; exit 77; }
if [ -z "$base" ] || [ ! -x "$base/usr/bin/dpkg" ]; then
    echo "not done: no Debian root given. debootstrap --variant=minbase bookworm FOLDER makes one"
    exit 77
fi
base=$(realpath "$base")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
HERE=$here PACKAGE=$package BASE=$base WORK=$work exec unshare --mount bash -euo pipefail -c '
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/up" "$WORK/work" "$WORK/root" "$WORK/cgroups"
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$WORK/up,workdir=$WORK/work" "$WORK/root"
root=$WORK/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
cp -L /etc/resolv.conf "$root/etc/" 2>/dev/null || true
cp "$PACKAGE" "$root/tmp/atoll.deb"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
inside apt-get update -qq >/dev/null 2>&1 || { cp -L /etc/apt/sources.list.d/* "$root/etc/apt/sources.list.d/"; inside apt-get update -qq >/dev/null 2>&1; } || true
inside apt-get install -qq -y --no-install-recommends /tmp/atoll.deb systemd >"$WORK/apt.log" 2>&1 || { tail -5 "$WORK/apt.log"; exit 1; }
umount "$root/proc"
if [ -n "${RUNTIME:-}" ]; then mkdir -p "$root/$RUNTIME"; mount --bind "$RUNTIME" "$root/$RUNTIME"; fi
install -m 755 "$HERE/boot-check.sh" "$root/usr/local/bin/check"
cat >"$root/etc/systemd/system/check.service" <<UNIT
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c "/usr/local/bin/check >/check.log 2>&1; systemctl exit \$\$?"
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../check.service "$root/etc/systemd/system/multi-user.target.wants/"
# A group of its own in the hierarchy, which is then the root of what systemd sees.
mount -t cgroup2 none "$WORK/cgroups"
group=$WORK/cgroups/atoll-boot-$$
mkdir "$group"
echo $$ >"$group/cgroup.procs"
set +e
timeout -s KILL 150 unshare --cgroup --mount --pid --fork --net --uts --ipc --mount-proc="$root/proc" sh -c "
    mount --rbind \"$root\" \"$root\"; mount -t sysfs -o ro sysfs $root/sys 2>/dev/null; mount -t tmpfs tmpfs $root/run
    mount -t cgroup2 none $root/sys/fs/cgroup || exit 1
    # systemd leaves that to whoever makes a container: what it mounts for one service is seen by it only so.
    mount --make-rshared \"$root\"
    exec chroot $root env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=null --unit=multi-user.target" >"$WORK/boot.log" 2>&1
code=$?
echo $$ >"$WORK/cgroups/cgroup.procs"
for folder in $(find "$group" -depth -type d); do rmdir "$folder" 2>/dev/null; done
cat "$root/check.log" 2>/dev/null || { echo "FAIL  systemd did not boot ($code)"; tail -5 "$WORK/boot.log"; exit 1; }
grep -q "^FAIL" "$root/check.log" && exit 1
exit $code'
