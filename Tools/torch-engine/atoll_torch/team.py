"""Several devices of one machine as one worker: a process for each, of which the first speaks to the daemon.

Weights, gradients and moments are cut into equal shares of each unit, one a device; a unit's weights are put together where a
product needs them, and its gradients are summed into the shares (ZeRO-3, Rajbhandari et al. 2020, 1910.02054; what PyTorch calls
FSDP). The sequences of a micro-batch are cut likewise. All processes see the daemon's memory, so each reads and writes what is its
own of it, and only weights, gradients and a few norms travel between devices.

The first process starts the others, as torchrun would, and hands each request on to them. One that ends takes all with it: the
daemon then begins the round anew.
"""
import array
import json
import os
import socket
import struct
import subprocess
import sys
import threading

import torch
import torch.distributed as dist

from .wire import Channel, Gone


# As newer versions of PyTorch call them, and older ones.
GATHER = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
SCATTER = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


class Alone:
    """One device: everything is its own."""

    rank, size = 0, 1

    def share(self, count):
        return 0, count

    def summed(self, values):
        return values


class Team:
    """This process among the devices' processes."""

    def __init__(self, rank, size, device, meeting):
        self.rank, self.size = rank, size
        # Nothing but this machine is met.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self.is_gloo = device.type != "cuda"
        dist.init_process_group(
            "gloo" if self.is_gloo else "nccl", init_method=f"file://{meeting}", rank=rank, world_size=size)

    def share(self, count):
        """What of `count` things is this device's, from and to; the first devices may have one more, the last ones none."""
        whole, rest = divmod(count, self.size)
        start = self.rank * whole + min(self.rank, rest)
        return start, start + whole + (self.rank < rest)

    def summed(self, values):
        dist.all_reduce(values)
        return values

    def gathered(self, share):
        out = share.new_empty(share.numel() * self.size)
        GATHER(out, share.contiguous())
        return out

    def scattered(self, values):
        """The sum over all devices of what is this one's share of `values`."""
        size = values.numel() // self.size
        if self.is_gloo:
            return self.summed(values.clone())[self.rank * size:(self.rank + 1) * size]
        out = values.new_empty(size)
        SCATTER(out, values.contiguous())
        return out


class Gathered(torch.autograd.Function):
    """A unit's weights out of the shares of all devices; the gradient goes back to the shares."""

    @staticmethod
    def forward(context, share, team):
        context.team = team
        return team.gathered(share.detach())

    @staticmethod
    def backward(context, gradient):
        return context.team.scattered(gradient), None


class Helpers:
    """The other processes, as the first one has them."""

    def __init__(self, devices, arguments):
        self.channels = []
        # Where the processes find each other: a file that no other user sees, and that is gone with them.
        place = os.memfd_create("meeting")
        self.meeting = f"/proc/self/fd/{place}"
        for rank, device in enumerate(devices[1:], 1):
            ours, theirs = socket.socketpair()
            command = [sys.executable, "-m", "atoll_torch", "--fd", str(theirs.fileno()), "--device", device, *arguments]
            process = subprocess.Popen(
                command + ["--helper", f"{rank}:{len(devices)}:{self.meeting}"], pass_fds=[theirs.fileno(), place])
            theirs.close()
            self.channels.append(Channel(ours.detach()))
            threading.Thread(target=self.watch, args=(process, device), daemon=True).start()

    @staticmethod
    def watch(process, device):
        """Whoever waits for the others' numbers would wait for ever."""
        code = process.wait()
        if code:
            print(f"the process of {device} has ended with {code}; so does the worker", file=sys.stderr)
            os._exit(1)

    def send(self, message, descriptor):
        body = json.dumps(message).encode()
        frame = struct.pack("<I", len(body)) + body
        for channel in self.channels:
            rights = [] if descriptor is None else [
                (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            try:
                channel.socket.sendmsg([frame], rights)
            except OSError:
                self.end()

    def receive(self):
        try:
            return [channel.receive()[0] for channel in self.channels]
        except (Gone, OSError):
            self.end()

    @staticmethod
    def end():
        sys.exit("the process of one of this worker's devices has ended; so does the worker")
