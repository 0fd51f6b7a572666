#!/bin/sh
# What boot.sh has checked within: a node and a peer as system services.
bad=0
check() { what=$1; shift; if "$@" >/tmp/said 2>&1; then echo "ok    $what"; else echo "FAIL  $what"; tail -3 /tmp/said; bad=1; fi; }
until_is() { for _ in $(seq 150); do if eval "$1"; then return 0; fi; sleep 0.2; done; eval "$1"; }
show() { systemctl show -P "$1" "$2"; }
ip link set lo up 2>/dev/null || true
mkdir -p /etc/atoll /etc/default
echo 'ATOLL_NODE_OPTIONS="--listen 127.0.0.1:7070"
ATOLL_PEER_OPTIONS="--listen 127.0.0.1:0 --memory 64"' >/etc/default/atoll
for unit in atoll-node atoll-peer; do
    mkdir -p /run/systemd/system/$unit.service.d
    printf '[Service]\nWatchdogSec=4s\nRestartSec=1s\n' >/run/systemd/system/$unit.service.d/soon.conf
done
systemctl daemon-reload
begun=$(date +%s%N)
check "the node says that it is ready" systemctl start atoll-node
check "it has an invite" until_is 'test -s /var/lib/private/atoll/node/invite.yaml'
install -m 600 /var/lib/private/atoll/node/invite.yaml /etc/atoll/invite.yaml
check "the peer says that it is ready" systemctl start atoll-peer
[ $bad = 0 ] || { systemctl status --no-pager -l atoll-peer; journalctl --no-pager -n 20 -u atoll-peer; exit 1; }
echo "      $(( ($(date +%s%N) - begun) / 1000000 )) ms"
check "it says what it does" until_is 'show StatusText atoll-peer | grep -q "knows 1 node of its pool"'
check "its owner can ask it" atoll status --data /var/lib/atoll/peer
check "it runs as a user of its own" sh -c "test \"\$(stat -c %u /proc/$(show MainPID atoll-peer))\" -ge 61184"
check "no core with its key is written" sh -c "grep -q 'Max core file size *0 ' /proc/$(show MainPID atoll-peer)/limits"
check "arithmetic has the lowest priority" until_is 'for t in /proc/$(show MainPID atoll-peer)/task/*/stat; do sed "s/.*) //" $t | cut -d" " -f39; done | grep -qx 5'
sleep 9
check "while its loop turns it is left alone" sh -c 'test "$(systemctl show -P NRestarts atoll-peer)" = 0 && systemctl is-active -q atoll-peer'
begun=$(date +%s%N)
systemctl kill -s STOP --kill-whom=main atoll-peer
check "one that hangs is started anew" until_is 'test "$(show NRestarts atoll-peer)" = 1 && systemctl is-active -q atoll-peer'
echo "      $(( ($(date +%s%N) - begun) / 1000000 )) ms, with a watchdog of 4 s"
check "it has the key that it had" until_is 'show StatusText atoll-peer | grep -q "knows 1 node of its pool"'
begun=$(date +%s%N)
check "it says goodbye when it is stopped" systemctl stop atoll-peer
echo "      $(( ($(date +%s%N) - begun) / 1000000 )) ms"
check "that counts as success" sh -c 'test "$(systemctl show -P Result atoll-peer)" = success'
check "its key stays, and is its own" sh -c 'test "$(stat -c %a /var/lib/private/atoll/peer/key)" = 600'
check "the node has gone on" sh -c 'systemctl is-active -q atoll-node && test "$(systemctl show -P NRestarts atoll-node)" = 0'
exit $bad
