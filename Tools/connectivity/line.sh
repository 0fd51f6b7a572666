#!/usr/bin/env bash
# line.sh ATOLL [KIND...] : what `atoll doctor net` says behind routers of several kinds, in network namespaces.
#
# Two nodes in networks of their own, and a home whose router is, one after another, of each KIND: public (none), port-restricted, symmetric; or one of these with +pcp or
# +natpmp, where the router forwards ports to who asks (gateway.py), or +cgn, where it does so behind a second router. Prints kind and sentence. Root, iproute2 and nftables.
set -euo pipefail
atoll=$(realpath "${1:?line.sh ATOLL [KIND...]}")
here=$(cd "$(dirname "$0")" && pwd)
kinds=("${@:2}")
[ ${#kinds[@]} -gt 0 ] || kinds=(public port-restricted symmetric symmetric+pcp port-restricted+natpmp port-restricted+cgn)
name=atoll-line-$$
out=$(mktemp -d)
pids=()
# In the background only whole commands: to end a function's shell does not end what it runs.
inside() { ip netns exec "$name-$1" "${@:2}"; }
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
    for space in inet n1 n2 cgn home host; do ip netns del "$name-$space" 2> /dev/null || true; done
    rm -rf "$out"
}
trap cleanup EXIT
space() { ip netns add "$name-$1" && inside "$1" ip link set lo up; }
# A line from SPACE to UPSTREAM, with one address.
line() { # SPACE UPSTREAM ADDRESS
    ip link add wan netns "$name-$1" type veth peer name "p-$1" netns "$name-$2"
    inside "$2" ip addr add 169.254.0.1/32 dev "p-$1"
    inside "$2" ip link set "p-$1" up
    inside "$2" ip route add "$3/32" dev "p-$1"
    inside "$1" ip addr add "$3/32" dev wan
    inside "$1" ip link set wan up
    inside "$1" ip route add 169.254.0.1/32 dev wan
    inside "$1" ip route add default via 169.254.0.1 dev wan onlink
    inside "$2" sysctl -qw net.ipv4.ip_forward=1
}
router() { # SPACE INSIDE PORTS
    inside "$1" sysctl -qw net.ipv4.ip_forward=1
    inside "$1" nft -f - << RULES
table ip home {
  chain before { type nat hook prerouting priority dstnat; }
  chain after { type nat hook postrouting priority srcnat; oifname "wan" masquerade $3; }
  chain through { type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "$2" accept
    ct status dnat accept
  }
  chain inside { type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname { "$2", "lo" } accept
  }
}
RULES
}
for s in inet n1 n2; do space $s; done
line n1 inet 198.51.100.1
line n2 inet 203.0.113.1
ip netns exec "$name-n1" "$atoll" node --listen 198.51.100.1:7070 --data "$out/n1" --invite "$out/invite.yaml" > "$out/n1.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do [ -s "$out/invite.yaml" ] && break; sleep 0.1; done
ip netns exec "$name-n2" "$atoll" node --listen 203.0.113.1:7070 --data "$out/n2" --join "$out/invite.yaml" > "$out/n2.log" 2>&1 &
pids+=($!)
sleep 2
number=9
for kind in "${kinds[@]}"; do
    # Each has an address of its own: others dial one back once a minute.
    number=$((number + 1))
    address=192.0.2.$number
    : > "$out/gateway.log"
    space host
    if [ "$kind" = public ]; then
        line host inet "$address"
    else
        space home
        if [[ $kind == *+cgn ]]; then
            space cgn
            line cgn inet "$address"
            line home cgn 100.64.0.2
            router cgn p-home ""
            public=100.64.0.2
        else
            line home inet "$address"
            public=$address
        fi
        ip link add lan netns "$name-home" type veth peer name eth0 netns "$name-host"
        inside home ip addr add 192.168.1.1/24 dev lan
        inside home ip link set lan up
        inside host ip addr add 192.168.1.2/24 dev eth0
        inside host ip link set eth0 up
        inside host ip route add default via 192.168.1.1
        [[ $kind == symmetric* ]] && ports=random,fully-random || ports=""
        router home lan "$ports"
        case $kind in *+cgn) speaks=pcp ;; *+*) speaks=${kind#*+} ;; *) speaks="" ;; esac
        gate=""
        if [ -n "$speaks" ]; then
            ip netns exec "$name-home" python3 "$here/gateway.py" 192.168.1.1 $public "$speaks" > "$out/gateway.log" 2>&1 &
            gate=$!
            for _ in $(seq 50); do [ -s "$out/gateway.log" ] && break; sleep 0.1; done
        fi
    fi
    echo "== $kind"
    ip netns exec "$name-host" env ATOLL_HOME="$out/none" "$atoll" doctor net --invite "$out/invite.yaml" --json ${LISTEN:+--listen "$LISTEN"} > "$out/found.json" || true
    python3 - "$out/found.json" << 'SHOW'
import json, sys
found = json.load(open(sys.argv[1]))
print(json.dumps(found["line"], sort_keys=True))
print(" ".join(f"{one['code']}:{one['state']}" for one in found["findings"] if one["state"] != "ok"))
SHOW
    [ -n "${gate:-}" ] && kill "$gate" 2> /dev/null && wait "$gate" 2> /dev/null || true
    gate=""
    # A namespace goes some time after it is asked to; its end of a line here must not be in the way of the next.
    for link in host home cgn; do inside inet ip link del "p-$link" 2> /dev/null || true; done
    for s in cgn home host; do ip netns del "$name-$s" 2> /dev/null || true; done
done
