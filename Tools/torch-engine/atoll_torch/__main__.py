"""The worker's loop: one request, one answer (docs/WORKER.md)."""
import argparse
import ctypes
import os
import signal
import sys

from .wire import Arena, Channel, Gone, Refused

PROTOCOL = 1


def die_with_parent():
    """The kernel ends us when the daemon ends, however that happens; elsewhere the closed socket does."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


class Worker:
    def __init__(self, torch, device, precision, team):
        self.team = team
        self.torch, self.device, self.precision = torch, device, precision
        self.arena = self.stage = self.optimizer = None
        # Micro-batches between forward and backward; what left the final norm of those whose head is to be added yet.
        self.in_flight, self.lent = {}, {}
        self.version = 0

    # memory

    def view(self, where, kind):
        """Numbers where they lie in the arena."""
        offset, count = self.arena.place(where)
        if count == 0:
            return self.torch.zeros(0, dtype=kind)
        return self.torch.frombuffer(self.arena.memory, dtype=kind, count=count, offset=offset)

    def numbers(self, where, part=slice(None)):
        """A copy on the device of fp32 numbers in the arena."""
        return self.view(where, self.torch.float32)[part].to(self.device, copy=True)

    def answer(self, where, values, start=0, whole=None):
        """Puts numbers into the arena: all that are asked for, or this device's, which begin at `start` of `whole`."""
        flat, values = self.view(where, self.torch.float32), values.detach().reshape(-1)
        whole = values.numel() if whole is None else whole
        if len(flat) != whole:
            raise Refused("bad_shape", f"{len(flat)} numbers are wanted, there are {whole}")
        flat[start:start + values.numel()] = values

    def answer_rows(self, where, values, sequences):
        """As `answer`, of what this device has computed of so many sequences."""
        start, end = self.team.share(sequences)
        each = values.numel() // max(1, end - start)
        self.answer(where, values.reshape(-1)[:(end - start) * each], start * each, sequences * each)

    def rows(self, flat, sequences, idle):
        """This device's sequences of `flat`; where it has none, one of which nothing comes, as all devices compute together."""
        start, end = self.team.share(sequences)
        own = flat.view(sequences, -1)[start:end]
        if start == end:
            own = self.torch.full_like(flat.view(sequences, -1)[:1], idle)
        return own.to(self.device, copy=True)

    def ids(self, message, name, sequences):
        if name not in message:
            return None
        flat = self.view(message[name], self.torch.int32)
        if len(flat) != sequences * self.stage.context:
            raise Refused("bad_shape", f"{len(flat)} {name} for {sequences} sequences")
        # Looked at here, where nothing has to be waited for.
        self.stage.check(flat, name)
        return self.rows(flat, sequences, -1 if name == "targets" else 0)

    def hidden(self, message, sequences):
        if "in" not in message:
            return None
        flat = self.view(message["in"], self.torch.float32)
        if len(flat) != sequences * self.stage.context * self.stage.m["hidden_size"]:
            raise Refused("bad_shape", f"{len(flat)} numbers for {sequences} sequences")
        own = self.rows(flat, sequences, 0)
        return own.view(len(own), self.stage.context, -1)

    # requests

    def hello(self, message, descriptor):
        name, memory = self.device.type, 0
        if name == "cuda":
            name = f"{self.device} {self.torch.cuda.get_device_name(self.device)}"
            memory = self.torch.cuda.get_device_properties(self.device).total_memory
        if self.team.size > 1:
            name = f"{self.team.size} × {name}"
        return {
            "protocol": PROTOCOL, "device": f"{name}, torch {self.torch.__version__}, {self.precision}",
            "memory": memory * self.team.size,
        }

    def load(self, message, descriptor):
        from .model import Stage
        from .optimizer import Optimizer

        self.in_flight, self.lent, self.stage, self.optimizer = {}, {}, None, None
        self.torch.manual_seed(int(message["seed"]) % (1 << 63))
        self.stage = Stage(message, self.device, self.precision == "bf16", self.team)
        # Where gradients are exchanged every step, the daemon takes the steps.
        self.optimizer = None
        if message.get("steps", True):
            self.optimizer = self.stage.adapters or Optimizer(self.stage, message)

    def arena_(self, message, descriptor):
        if descriptor is None:
            raise Refused("bad_shape", "no descriptor came")
        self.arena = Arena(descriptor, message["bytes"])
        os.close(descriptor)

    def quantity(self, message):
        unit = message["unit"]
        held = {"parameters": self.stage.units[unit].data}
        if not self.stage.adapters:
            held["gradient"] = self.stage.units[unit].grad
            if self.optimizer:
                held |= {"first_moment": self.optimizer.first[unit], "second_moment": self.optimizer.second[unit]}
        if message["quantity"] not in held:
            raise Refused("bad_shape", f"there is no {message['quantity']} here")
        return held[message["quantity"]]

    def unit(self, message):
        if message["unit"] not in self.stage.units:
            raise Refused("bad_shape", f"unit {message['unit']} is not held")
        return message["unit"]

    def get(self, message, descriptor):
        unit = self.unit(message)
        is_whole = message["quantity"] == "parameters"
        self.answer_share(message["out"], unit, self.stage.merged(unit) if is_whole else self.quantity(message))

    def answer_share(self, where, unit, values):
        start, end = self.stage.held(unit)
        self.answer(where, values[:end - start], start, self.stage.count(unit))

    def put(self, message, descriptor):
        unit, adapters = self.unit(message), self.stage.adapters
        if message["quantity"] == "adapters" and adapters:
            values = self.numbers(message["in"])
            self.expect(values, adapters.inputs(unit))
            return adapters.put(unit, values)
        self.expect(self.view(message["in"], self.torch.float32), self.stage.count(unit))
        start, end = self.stage.held(unit)
        self.quantity(message)[:end - start] = self.numbers(message["in"], slice(start, end))
        if adapters:
            adapters.begin(unit)

    def expect(self, values, count):
        if values.numel() != count:
            raise Refused("bad_shape", f"{values.numel()} numbers for {count}")

    def recompute(self, message, descriptor):
        self.stage.recompute = bool(message["on"])

    def forward(self, message, descriptor):
        stage, n = self.stage, self.stage.micro_batch
        tokens, targets = self.ids(message, "tokens", n), self.ids(message, "targets", n)
        hidden = self.hidden(message, n)
        if hidden is not None:
            hidden.requires_grad_()
        output = stage.run(tokens, hidden, self.ids(message, "first_seen", n))
        key = tuple(message["key"])
        if not stage.ends_with_loss:
            output = stage.normed(output) if stage.is_last else output
            self.answer_rows(message["out"], output, n)
            self.in_flight[key] = (hidden, output, targets)
            return {}
        losses, squares = stage.token_losses(stage.normed(output), targets)
        self.in_flight[key] = (hidden, self.mean(losses, squares), None)
        return {"loss": self.loss(losses)}

    def loss(self, losses):
        """What this device adds to a micro-batch's mean loss."""
        return float(losses.detach().sum() / self.stage.places)

    def mean(self, losses, squares):
        return (losses.sum() + self.stage.z_loss * squares.sum()) / self.stage.places

    def head(self, message, descriptor):
        """The head of tied embeddings, for the last stage; its table's gradient is added here."""
        stage = self.stage
        if not stage.lends_table:
            raise Refused("bad_shape", "no table is lent here")
        key = tuple(message["key"])
        _, _, targets = self.in_flight[key]
        normed = self.hidden(message, stage.micro_batch).requires_grad_()
        losses, squares = stage.token_losses(normed, targets)
        if self.optimizer or len(self.in_flight) == 1:
            self.mean(losses, squares).backward()
            self.answer_rows(message["out"], normed.grad, stage.micro_batch)
        else:
            # Virtual pipelines are taken one by one, and an earlier one may be due: the table's gradient is not to get into its sum. The
            # micro-batch's backward makes the logits again.
            gradient = self.torch.autograd.grad(self.mean(losses, squares), normed)[0]
            self.answer_rows(message["out"], gradient, stage.micro_batch)
            self.lent[key] = normed.detach()
        return {"loss": self.loss(losses)}

    def evaluate_head(self, message, descriptor):
        n = message["sequences"]
        with self.torch.no_grad():
            losses, _ = self.stage.token_losses(self.hidden(message, n), self.ids(message, "targets", n))
            self.answer_rows(message["out"], losses, n)

    def backward(self, message, descriptor):
        key = tuple(message["key"])
        hidden, output, targets = self.in_flight.pop(key)
        if key in self.lent:
            self.mean(*self.stage.token_losses(self.lent.pop(key), targets)).backward()
        gradient = self.hidden(message, self.stage.micro_batch)
        # Of an embedding alone nothing moves with adapters.
        if output.requires_grad:
            output.backward(gradient)
        if "out" in message:
            self.answer_rows(message["out"], hidden.grad, self.stage.micro_batch)

    def evaluate(self, message, descriptor):
        stage, n = self.stage, message["sequences"]
        with self.torch.no_grad():
            tokens, targets = self.ids(message, "tokens", n), self.ids(message, "targets", n)
            output = stage.run(tokens, self.hidden(message, n), self.ids(message, "first_seen", n))
            output = stage.normed(output) if stage.is_last else output
            output = stage.token_losses(output, targets)[0] if stage.ends_with_loss else output
            self.answer_rows(message["out"], output, n)

    def take(self, message, descriptor):
        """The sum of a unit's gradients, which begins anew; micro-batches in flight stay."""
        unit = self.unit(message)
        gradient = self.stage.units[unit].grad
        self.answer_share(message["out"], unit, gradient)
        gradient.zero_()

    def finish(self, message, descriptor):
        sums = (self.stage.adapters or self.stage).finish(message["micro_batches"])
        if self.team.rank == 0:
            self.answer(message["out"], self.torch.stack(sums).square().float())

    def step(self, message, descriptor):
        self.optimizer.step(message["learning_rate"], message["gradient_scale"], message["steps"])
        self.drop(message, descriptor)

    def drop(self, message, descriptor):
        self.in_flight, self.lent = {}, {}
        (self.stage.adapters or self.stage).drop()

    def benchmark(self, message, descriptor):
        side = 4096 if self.device.type != "cpu" else 512
        kind = self.torch.bfloat16 if self.precision == "bf16" else self.torch.float32
        a = self.torch.rand(side, side, device=self.device, dtype=kind)
        for _ in range(max(1, round(message["flops"] / self.team.size / (2 * side ** 3)))):
            a = (a @ a) / side
        float(a[0, 0])

    def ping(self, message, descriptor):
        return {}

    CHANGES = {"put", "forward", "head", "backward", "take", "finish", "step", "drop"}
    NEEDS_STAGE = CHANGES | {"get", "recompute", "evaluate", "evaluate_head"}

    def perform(self, message, descriptor):
        """The answer to a request, without its number."""
        operation = message["op"]
        if operation in self.NEEDS_STAGE and (self.stage is None or self.arena is None):
            raise Refused("bad_state", "no stage is loaded")
        if operation not in self.NEEDS_STAGE | {"hello", "load", "arena", "benchmark", "ping"}:
            raise Refused("unsupported", f"{operation}")
        if message["version"] != self.version:
            raise Refused("bad_state", f"meant for state {message['version']}, this is {self.version}")
        result = getattr(self, "arena_" if operation == "arena" else operation)(message, descriptor) or {}
        self.version += operation in self.CHANGES
        return {"ok": True, **result}


def pick_devices(torch, wanted):
    """The names of the devices asked for; of those that sum together all are of one kind."""
    if wanted == "all":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    names = wanted.split(",")
    kinds = {name.split(":")[0] for name in names}
    if len(names) > 1 and (len(kinds) > 1 or not kinds <= {"cuda", "cpu"}):
        raise Refused("unsupported", f"{wanted}: several devices are all cuda:N, or all cpu")
    return names


def pick_device(torch, wanted):
    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda:0")
    if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def performed(worker, message, descriptor):
    try:
        return worker.perform(message, descriptor)
    except Refused as error:
        return {"error": {"kind": error.kind, "message": str(error)}}
    except worker.torch.OutOfMemoryError as error:
        if worker.team.size > 1:
            # The others are within a sum that nobody will end.
            raise
        worker.in_flight, worker.lent = {}, {}
        return {"error": {"kind": "out_of_memory", "message": str(error)[:300]}}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return {"error": {"kind": "internal", "message": f"{type(error).__name__}: {error}"[:300]}}


def together(replies):
    """One answer of several devices."""
    for reply in replies:
        if "error" in reply:
            return reply
    if "loss" in replies[0]:
        replies[0]["loss"] = sum(reply["loss"] for reply in replies)
    return replies[0]


def serve(channel, worker, helpers=None):
    last = (None, None)
    while True:
        message, descriptor = channel.receive()
        number = message.get("seq")
        if number == last[0]:
            # A repeat: what was done is done.
            channel.send(last[1])
            continue
        if helpers:
            helpers.send(message, descriptor)
        reply = performed(worker, message, descriptor)
        if helpers:
            reply = together([reply, *helpers.receive()])
        reply["seq"] = number
        last = (number, reply)
        channel.send(reply)


def assembled(torch, arguments, channel):
    """The worker of this process, and the others' processes where it is the first of several."""
    from .team import Alone, Helpers, Team

    if arguments.helper:
        rank, size, meeting = arguments.helper.split(":", 2)
        device = torch.device(arguments.device)
        return Worker(torch, device, arguments.precision, Team(int(rank), int(size), device, meeting)), None
    try:
        names = pick_devices(torch, arguments.device)
    except Refused as error:
        message, _ = channel.receive()
        channel.send({"seq": message["seq"], "error": {"kind": error.kind, "message": str(error)}})
        raise Gone(str(error)) from error
    device = pick_device(torch, names[0])
    if len(names) == 1:
        return Worker(torch, device, arguments.precision, Alone()), None
    helpers = Helpers(names, ["--precision", arguments.precision, "--threads", str(arguments.threads)])
    return Worker(torch, device, arguments.precision, Team(0, len(names), device, helpers.meeting)), helpers


def main():
    parser = argparse.ArgumentParser(prog="atoll_torch", description=__doc__)
    parser.add_argument("--fd", type=int, default=3, help="the socket to the daemon")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:N, mps; several with commas between them; all")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="of matrix products")
    parser.add_argument("--threads", type=int, default=0, help="on the processor; 0 for as many as there are")
    parser.add_argument("--helper", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    die_with_parent()
    channel = Channel(arguments.fd)
    try:
        try:
            import torch
        except ImportError:
            message, _ = channel.receive()
            text = "PyTorch is not installed for " + sys.executable + ": python3 -m pip install torch"
            channel.send({"seq": message["seq"], "error": {"kind": "unsupported", "message": text}})
            return 1
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        serve(channel, *assembled(torch, arguments, channel))
    except Gone:
        return 0


if __name__ == "__main__":
    sys.exit(main())
