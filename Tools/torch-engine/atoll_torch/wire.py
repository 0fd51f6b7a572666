"""Frames over a socket, and the shared memory that numbers lie in."""
import array
import json
import mmap
import socket
import struct

FRAME_LIMIT = 1 << 16


class Gone(Exception):
    """The daemon has closed its end."""


class Refused(Exception):
    """A request that cannot be done; the stage is as it was."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Channel:
    """Frames of a u32 length and as many bytes of JSON; a descriptor may come with one."""

    def __init__(self, descriptor):
        self.socket = socket.socket(fileno=descriptor)

    def receive(self):
        """The next message, and the descriptor that came with it, or None."""
        descriptors = []
        (length,) = struct.unpack("<I", self._bytes(4, descriptors))
        if length > FRAME_LIMIT:
            raise Gone(f"a message of {length} bytes")
        message = json.loads(self._bytes(length, descriptors))
        return message, descriptors[0] if descriptors else None

    def send(self, message):
        body = json.dumps(message).encode()
        self.socket.sendall(struct.pack("<I", len(body)) + body)

    def _bytes(self, count, descriptors):
        out = b""
        while len(out) < count:
            size = array.array("i").itemsize
            part, control, _, _ = self.socket.recvmsg(count - len(out), socket.CMSG_SPACE(size))
            if not part:
                raise Gone("closed")
            for level, kind, data in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.extend(array.array("i", data[:size]))
            out += part
        return out


class Arena:
    """Memory that the daemon sees too. Whoever holds a request's turn owns it."""

    def __init__(self, descriptor, size):
        self.memory = mmap.mmap(descriptor, size)
        self.size = size

    def place(self, where, width=4):
        """Checked (offset, count) of numbers of `width` bytes."""
        offset, count = where["offset"], where["count"]
        if offset < 0 or offset % width or count < 0 or offset + width * count > self.size:
            raise Refused("bad_shape", f"{count} numbers at byte {offset} of {self.size}")
        return offset, count
