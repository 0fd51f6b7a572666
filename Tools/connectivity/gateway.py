"""gateway.py LAN-ADDRESS EXTERNAL-ADDRESS [pcp] [natpmp] [upnp] [permanent] : a home router's port mapping for homes.sh, in the foreground.

Speaks PCP (RFC 6887: MAP and ANNOUNCE), NAT-PMP (RFC 6886), UPnP (WANIPConnection:1; `permanent`: without ends, as many routers do), all or some, and forwards by rules of nftables (table `ip home`, chain `before`). As many
routers do it forwards what comes in, and leaves what goes out to masquerading. SIGUSR1 is a restart: mappings and epoch are gone. Prints a line for
each mapping.
"""
import http.server
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
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


SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DESCRIPTION = f"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>router</friendlyName><UDN>uuid:1</UDN><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><UDN>uuid:2</UDN><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><UDN>uuid:3</UDN><serviceList><service>
<serviceType>{SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><SCPDURL>/s.xml</SCPDURL><controlURL>/control</controlURL>
<eventSubURL>/events</eventSubURL></service></serviceList></device></deviceList></device></deviceList></device></root>"""


class Device(http.server.BaseHTTPRequestHandler):
    """The description, and three actions of WANIPConnection:1."""

    def log_message(self, *_):
        pass

    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, DESCRIPTION)

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        action = self.headers.get("SOAPAction", "").strip('"').split("#")[-1]

        def given(name):
            found = re.search(f"<{name}>([^<]*)</{name}>", text)
            return found.group(1) if found else ""

        result = ""
        if action == "GetExternalIPAddress":
            result = f"<NewExternalIPAddress>{external}</NewExternalIPAddress>"
        elif action == "AddPortMapping":
            life = int(given("NewLeaseDuration") or 0)
            if "permanent" in speaks and life:
                return self.refuse(725)
            wish = int(given("NewExternalPort"))
            protocol = TCP if given("NewProtocol") == "TCP" else UDP
            inner = (given("NewInternalClient"), int(given("NewInternalPort")))
            if mappings.get((protocol, wish), (*inner, 0, 0))[:2] != inner:
                return self.refuse(718)
            change(protocol, *inner, wish, life or 1 << 30, None)
        elif action == "DeletePortMapping":
            protocol = TCP if given("NewProtocol") == "TCP" else UDP
            found = mappings.get((protocol, int(given("NewExternalPort"))))
            if not found:
                return self.refuse(714)
            change(protocol, *found[:2], 0, 0, None)
        else:
            return self.refuse(401)
        self.answer(200, '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
                         f'<u:{action}Response xmlns:u="{SERVICE}">{result}</u:{action}Response></s:Body></s:Envelope>')

    def refuse(self, code):
        self.answer(500, '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode>'
                         "<faultstring>UPnPError</faultstring><detail><UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\">"
                         f"<errorCode>{code}</errorCode></UPnPError></detail></s:Fault></s:Body></s:Envelope>")


def announce():
    """Answers those who look for it (SSDP)."""
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind(("", 1900))
    ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.255.255.250") + socket.inet_aton(lan))
    while True:
        data, sender = ear.recvfrom(2000)
        wanted = re.search(rb"ST: *([^\r\n]+)", data, re.I)
        if data.startswith(b"M-SEARCH") and wanted:
            ear.sendto(f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {wanted.group(1).decode()}\r\nUSN: uuid:1::x\r\nEXT:\r\n"
                       f"SERVER: x\r\nLOCATION: http://{lan}:5000/d.xml\r\n\r\n".encode(), sender)


if "upnp" in speaks:
    threading.Thread(target=announce, daemon=True).start()
    threading.Thread(target=http.server.ThreadingHTTPServer((lan, 5000), Device).serve_forever, daemon=True).start()
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
