#!/usr/bin/env bash
# homes.sh ATOLL [FOLDER] : two homes, a launcher at a third, and one public node, each behind a router of its own, train a small job.
#
# An internet of network namespaces: nothing of it touches this machine's network. Routers give each destination another port and let in
# answers only (KIND=symmetric), or show one port to all (KIND=port-restricted): then the homes' sessions leave the relay (`punched`). With KIND=datagrams
# they show one port to all as well, but let no connection in, whatever was written before: then sessions leave the relay by flows. MAPPING="pcp natpmp upnp" has
# the homes' routers forward ports to who asks for them (gateway.py): then others dial in, and nothing is relayed. Root, iproute2 and nftables. Prints who reached whom how, and
# what the job came to; the folder keeps everybody's log.
set -euo pipefail
atoll=$(realpath "${1:?homes.sh ATOLL [FOLDER]}")
out=${2:-out/homes}
kind=${KIND:-symmetric}
relay=${RELAY_UP:-50}
mapping=${MAPPING:-}
here=$(cd "$(dirname "$0")" && pwd)
name=atoll-homes-$$
mkdir -p "$out"
out=$(realpath "$out")
pids=()

inside() { ip netns exec "$name-$1" "${@:2}"; }
cleanup() {
    for pid in "${pids[@]}"; do kill -INT "$pid" 2> /dev/null || true; done
    sleep 1
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2> /dev/null || true; done
    for space in inet node r1 r2 r3 h1 h2 h3; do ip netns del "$name-$space" 2> /dev/null || true; done
}
trap cleanup EXIT

for space in inet node r1 r2 r3 h1 h2 h3; do
    ip netns add "$name-$space"
    inside "$space" ip link set lo up
done
inside inet sysctl -qw net.ipv4.ip_forward=1

# A line from somewhere to the internet, with one public address.
line() { # SPACE ADDRESS
    ip link add wan netns "$name-$1" type veth peer name "p-$1" netns "$name-inet"
    inside inet ip addr add 169.254.0.1/32 dev "p-$1"
    inside inet ip link set "p-$1" up
    inside inet ip route add "$2/32" dev "p-$1"
    inside "$1" ip addr add "$2/32" dev wan
    inside "$1" ip link set wan up
    inside "$1" ip route add 169.254.0.1/32 dev wan
    inside "$1" ip route add default via 169.254.0.1 dev wan onlink
}
line node 198.51.100.1
closed=
[ "$kind" = datagrams ] && closed='iifname "wan" tcp flags & (syn|ack) == syn drop'
[ "$kind" = symmetric ] && ports="masquerade random,fully-random" || ports=masquerade
for home in 1 2 3; do
    line "r$home" "198.51.10$home.7"
    inside "r$home" sysctl -qw net.ipv4.ip_forward=1
    ip link add lan netns "$name-r$home" type veth peer name eth0 netns "$name-h$home"
    inside "r$home" ip addr add "192.168.$home.1/24" dev lan
    inside "r$home" ip link set lan up
    inside "h$home" ip addr add "192.168.$home.2/24" dev eth0
    inside "h$home" ip link set eth0 up
    inside "h$home" ip route add default via "192.168.$home.1"
    inside "r$home" nft -f - << RULES
table ip home {
  chain before { type nat hook prerouting priority dstnat; }
  chain after { type nat hook postrouting priority srcnat; oifname "wan" $ports; }
  chain through { type filter hook forward priority filter; policy drop;
    $closed
    ct state established,related accept
    iifname "lan" accept
    ct status dnat accept
  }
  chain inside { type filter hook input priority filter; policy drop;
    $closed
    ct state established,related accept
    iifname { "lan", "lo" } accept
  }
}
RULES
done

run() { # LOG SPACE COMMAND...
    ip netns exec "$name-$2" "${@:3}" > "$out/$1.log" 2>&1 &
    pids+=($!)
}
for home in ${mapping:+1 2 3}; do
    # shellcheck disable=SC2086 # words on purpose
    run "router$home" "r$home" python3 "$here/gateway.py" "192.168.$home.1" "198.51.10$home.7" $mapping
    # Routers are there before the machines behind them.
    for _ in $(seq 100); do [ -s "$out/router$home.log" ] && break; sleep 0.1; done
done
cat > "$out/job.yaml" << 'JOB'
name: homes
model: {architecture: llama, hidden_size: 32, layers: 3, heads: 4, kv_heads: 2, intermediate_size: 64, context: 32, tokenizer: byte}
data: {path: text.txt, validation_fraction: 0.1}
train: {tokens: 40_000, batch_tokens: 256, optimizer: adamw, learning_rate: 3e-3, schedule: cosine, clip: 1.0, seed: 1}
parallel: {virtual_pipelines: 2, micro_batch: 2, pipelines: 2, stages: 1, inner_steps: 4}
exchange: {codec: fp32, quality_budget: 10}
activations: {codec: fp32}
electors: 1
JOB
for i in $(seq 400); do echo "home $i is where the line ends, and the line is where the others begin"; done > "$out/text.txt"

run node node "$atoll" node --listen 198.51.100.1:7070 --data "$out/node" --invite "$out/invite.yaml" --relay-up "$relay" --json
for _ in $(seq 100); do [ -s "$out/invite.yaml" ] && break; sleep 0.1; done
for home in 1 2; do
    run "peer$home" "h$home" "$atoll" peer --invite "$out/invite.yaml" --data "$out/peer$home" --name "home-$home" --listen 0.0.0.0:7071 --json
done
begun=$(date +%s%N)
status=0
ip netns exec "$name-h3" timeout "${LIMIT:-240}" "$atoll" launch "$out/job.yaml" --invite "$out/invite.yaml" --out "$out/result" --peers 2 --events \
    > "$out/launch.log" 2>&1 || status=$?
echo "routers: $kind${mapping:+, ports forwarded by $mapping}; the launch ended with $status after $((($(date +%s%N) - begun) / 1000000)) ms"
for log in launch peer1 peer2; do
    echo "$log: reachable $(grep -ho '"reachable":"[a-z]*"' "$out/$log.log" | tail -1 | cut -d: -f2), berths granted $(grep -c '"berth_granted"' "$out/$log.log" || true)," \
        "sessions relayed $(grep -c '"connection_relayed"' "$out/$log.log" || true), punched $(grep -c '"connection_punched"' "$out/$log.log" || true) ($(grep '"connection_punched"' "$out/$log.log" | grep -c 'by datagrams' || true) by datagrams), ports opened $(grep -c '"port_opened"' "$out/$log.log" || true), moved or resumed $(grep -c '"connection_resumed"' "$out/$log.log" || true)"
done
grep -h '"round_sealed"' "$out/launch.log" | tail -1 || true
exit $status
