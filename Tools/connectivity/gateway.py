"""gateway.py LAN-ADDRESS EXTERNAL-ADDRESS [pcp] [natpmp] : a home router's port mapping for homes.sh, in the foreground.

Speaks PCP (RFC 6887: MAP and ANNOUNCE) and NAT-PMP (RFC 6886), both or one, and forwards by rules of nftables (table `ip home`, chain `before`). As many
routers do it forwards what comes in, and leaves what goes out to masquerading. SIGUSR1 is a restart: mappings and epoch are gone. Prints a line for
each mapping.
"""
import signal
import socket
import struct
import subprocess
import sys
import time

TCP, UDP = 6, 17
lan, external = sys.argv[1:3]
speaks = set(sys.argv[3:]) or {"pcp", "natpmp"}
booted = time.monotonic()
mappings = {}  # (protocol, external port): (address, port, nonce, end)


def epoch():
    return int(time.monotonic() - booted)


def write_rules():
    rules = ["flush chain ip home before"]
    for (protocol, outer), (address, port, _, _) in sorted(mappings.items()):
        name = "tcp" if protocol == TCP else "udp"
        rules.append(f'add rule ip home before iifname "wan" {name} dport {outer} dnat to {address}:{port}')
    subprocess.run(["nft", "-f", "-"], input="\n".join(rules) + "\n", text=True, check=True)


def expire():
    gone = [key for key, value in mappings.items() if value[3] <= time.monotonic()]
    for key in gone:
        del mappings[key]
    if gone:
        write_rules()


def change(protocol, address, port, wish, life, nonce):
    """The external port, or None where somebody else with another nonce has the mapping."""
    old = next((key for key, value in mappings.items() if key[0] == protocol and value[:2] == (address, port)), None)
    if old and mappings[old][2] != nonce:
        return None
    if life == 0:
        if old:
            del mappings[old]
            write_rules()
            print(f"ended {old}", flush=True)
        return 0
    outer = old[1] if old else wish or port
    while not old and (protocol, outer) in mappings:
        outer = outer % 65535 + 1
    mappings[protocol, outer] = (address, port, nonce, time.monotonic() + life)
    if not old:
        write_rules()
        print(f"forwards {'tcp' if protocol == TCP else 'udp'} {outer} to {address}:{port} for {life} s", flush=True)
    return outer


def pcp(data, sender):
    version, opcode = data[0], data[1]

    def head(code, life):
        return struct.pack("!BBBBII12x", 2, 0x80 | opcode, 0, code, life, epoch())

    if version != 2:
        return head(1, 1800)
    if opcode == 0:
        return head(0, 0)
    if opcode != 1 or len(data) != 60:
        return head(4, 1800)
    rest = data[24:60]
    if data[8:24] != b"\0" * 10 + b"\xff\xff" + socket.inet_aton(sender):
        return head(12, 1800) + rest
    life = struct.unpack("!I", data[4:8])[0]
    protocol, port, wish = rest[12], *struct.unpack("!HH", rest[16:20])
    if protocol not in (TCP, UDP):
        return head(9, 1800) + rest
    outer = change(protocol, sender, port, wish, min(life, 86400), bytes(rest[:12]))
    if outer is None:
        return head(2, 1800) + rest
    return head(0, life) + rest[:18] + struct.pack("!H", outer) + b"\0" * 10 + b"\xff\xff" + socket.inet_aton(external)


def natpmp(data, sender):
    opcode = data[1]
    if opcode == 0 and len(data) == 2:
        return struct.pack("!BBHI", 0, 128, 0, epoch()) + socket.inet_aton(external)
    if opcode not in (1, 2) or len(data) != 12:
        return struct.pack("!BBHI", 0, 0x80 | opcode, 5, epoch())
    port, wish, life = struct.unpack("!HHI", data[4:12])
    outer = change(UDP if opcode == 1 else TCP, sender, port, wish, life, None)
    return struct.pack("!BBHIHHI", 0, 0x80 | opcode, 0, epoch(), port, outer or 0, life)


def restart(*_):
    global booted
    mappings.clear()
    booted = time.monotonic()
    write_rules()
    print("restarted", flush=True)


signal.signal(signal.SIGUSR1, restart)
door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
door.bind((lan, 5351))
door.settimeout(1)
print(f"port mapping at {lan}: {' '.join(sorted(speaks))}", flush=True)
while True:
    expire()
    try:
        data, (sender, port) = door.recvfrom(1200)
    except TimeoutError:
        continue
    if len(data) < 2 or data[1] & 0x80:
        continue
    answer = None
    if data[0] == 0 and "natpmp" in speaks:
        answer = natpmp(data, sender)
    elif data[0] != 0 and "pcp" in speaks:
        answer = pcp(data, sender)
    elif data[0] != 0 and "natpmp" in speaks:
        # RFC 6886 §3.5: a version that it does not speak.
        answer = struct.pack("!BBHI", 0, 0x80 | data[1], 1, epoch())
    if answer:
        door.sendto(answer, (sender, port))
