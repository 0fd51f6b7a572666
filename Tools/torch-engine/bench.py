"""Measures the worker on a device: its gradients beside the processor's, its tokens a second beside a plain PyTorch loop.

    python3 Tools/torch-engine/bench.py [--device cuda:0[,cuda:1,…]] [--out FOLDER] [--quick]

Needs Python 3 with PyTorch 2.5 or later and nothing else: neither network nor a build of Atoll. The worker runs as a daemon runs
it, in a process of its own, and is spoken to over its own protocol (docs/WORKER.md). Weights are random. One JSON object a
measurement goes to the output and to FOLDER/worker.jsonl. Takes about three minutes on one H100. Exits with 1 where gradients differ.
"""
import argparse
import array
import json
import math
import mmap
import os
import socket
import statistics
import struct
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from atoll_torch.model import rope_frequencies, unit_tensors  # noqa: E402

BASE = dict(
    norm_epsilon=1e-5, projection_bias="none", query_key_norm=False, rope_theta=100000.0, rope_scaling={"type": "none"},
    layers_without_rope=[],
)
SMALL = dict(
    BASE, hidden_size=96, layers=3, heads=6, kv_heads=2, head_size=16, intermediate_size=200, vocabulary=509, tied=True)
SMOL = dict(
    BASE, hidden_size=576, layers=30, heads=9, kv_heads=3, head_size=64, intermediate_size=1536, vocabulary=49152, tied=True)
TENTH = dict(
    BASE, hidden_size=288, layers=8, heads=6, kv_heads=6, head_size=48, intermediate_size=768, vocabulary=8192, tied=False)


class Worker:
    """A worker's process, and requests to it."""

    def __init__(self, device, precision, threads=0):
        ours, theirs = socket.socketpair()
        code = f"import os; os.dup2({theirs.fileno()}, 3); from atoll_torch.__main__ import main; import sys; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "--device", device, "--precision", precision, "--threads", str(threads)],
            env=dict(os.environ, PYTHONPATH=HERE), pass_fds=[theirs.fileno()])
        theirs.close()
        self.socket, self.sequence, self.version = ours, 0, 0
        self.device = self.ask("hello", protocol=1)["device"]

    def ask(self, op, descriptor=None, **fields):
        self.sequence += 1
        body = json.dumps(dict(fields, op=op, seq=self.sequence, version=self.version)).encode()
        frame = struct.pack("<I", len(body)) + body
        if descriptor is None:
            self.socket.sendall(frame)
        else:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            self.socket.sendmsg([frame], [rights])
        (length,) = struct.unpack("<I", self.read(4))
        reply = json.loads(self.read(length))
        if not reply.get("ok"):
            raise SystemExit(f"{op}: {reply}")
        self.version += op in ("put", "forward", "backward", "finish", "step", "drop")
        return reply

    def read(self, count):
        out = b""
        while len(out) < count:
            part = self.socket.recv(count - len(out))
            if not part:
                raise SystemExit("the worker has ended")
            out += part
        return out

    def load(self, model, context, sequences):
        self.model, self.rows = model, sequences * context
        self.counts = [
            sum(math.prod(shape) for _, shape in unit_tensors(model, unit)) for unit in range(model["layers"] + 2)]
        optimizer = dict(
            kind="adamw", momentum=0.95, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, decays="matrices", z_loss=0.0,
            state="fp32", weights="fp32")
        self.ask(
            "load", model=model, units=[0, model["layers"] + 2], context=context, micro_batch=sequences, recompute=False,
            seed="1", optimizer=optimizer)
        size = 4 * max(max(self.counts), 4 * self.rows) + 4096
        memory = os.memfd_create("arena")
        os.ftruncate(memory, size)
        self.memory = mmap.mmap(memory, size)
        self.ask("arena", descriptor=memory, bytes=size)
        os.close(memory)

    def floats(self, count):
        return torch.frombuffer(self.memory, dtype=torch.float32, count=count)

    def put(self, units):
        for unit, values in enumerate(units):
            self.floats(len(values)).copy_(values)
            self.ask("put", quantity="parameters", unit=unit, **{"in": {"offset": 0, "count": len(values)}})

    def get(self, quantity):
        out = []
        for unit, count in enumerate(self.counts):
            self.ask("get", quantity=quantity, unit=unit, out={"offset": 0, "count": count})
            out.append(self.floats(count).clone())
        return out

    def micro_batch(self, key, tokens, targets):
        both = torch.frombuffer(self.memory, dtype=torch.int32, count=2 * self.rows)
        both[: self.rows], both[self.rows :] = tokens, targets
        place = dict(
            tokens={"offset": 0, "count": self.rows}, targets={"offset": 4 * self.rows, "count": self.rows})
        loss = self.ask("forward", key=key, **place)["loss"]
        self.ask("backward", key=key)
        return loss

    def finish(self, count):
        tensors = sum(len(unit_tensors(self.model, unit)) for unit in range(len(self.counts)))
        self.ask("finish", micro_batches=count, out={"offset": 0, "count": tensors})
        return float(self.floats(tensors).double().sum().sqrt())

    def end(self):
        self.socket.close()
        self.process.wait(30)


def weights(model):
    """Random ones of each unit, flat."""
    generator = torch.Generator().manual_seed(7)
    out = []
    for unit in range(model["layers"] + 2):
        parts = [
            torch.ones(shape) if len(shape) == 1 else 0.02 * torch.randn(shape, generator=generator)
            for _, shape in unit_tensors(model, unit)]
        out.append(torch.cat([part.flatten() for part in parts]))
    return out


class Plain:
    """The same model and AdamW as one writes them in PyTorch: parameters of their own, attention and optimizer of the library."""

    def __init__(self, model, units, context, device, precision):
        self.m, self.device, self.autocast = model, device, precision == "bf16"
        self.w = []
        for unit, flat in enumerate(units):
            own, at = {}, 0
            for name, shape in unit_tensors(model, unit):
                count = math.prod(shape)
                own[name] = flat[at:at + count].view(shape).to(device).clone().requires_grad_()
                at += count
            self.w.append(own)
        angles = torch.arange(context, dtype=torch.float64)[:, None] * rope_frequencies(model)
        self.cos, self.sin = angles.cos().float().to(device), angles.sin().float().to(device)
        every = [p for own in self.w for p in own.values()]
        groups = [
            dict(params=[p for p in every if p.dim() > 1], weight_decay=0.1),
            dict(params=[p for p in every if p.dim() == 1], weight_decay=0.0)]
        self.every = every
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=device.type == "cuda")

    def turned(self, x):
        low, high = x.chunk(2, -1)
        return torch.cat((low * self.cos - high * self.sin, high * self.cos + low * self.sin), -1)

    def loss(self, tokens, targets):
        m, w = self.m, self.w
        n, length = tokens.shape
        x = F.embedding(tokens, w[0]["embed"])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            for own in w[1:-1]:
                y = F.rms_norm(x, x.shape[-1:], own["input_norm"], m["norm_epsilon"])
                q, k, v = (
                    F.linear(y, own[name]).view(n, length, -1, m["head_size"]).transpose(1, 2) for name in "qkv")
                q, k = self.turned(q).to(v.dtype), self.turned(k).to(v.dtype)
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=m["heads"] != m["kv_heads"])
                x = x + F.linear(y.transpose(1, 2).reshape(n, length, -1), own["o"])
                y = F.rms_norm(x, x.shape[-1:], own["middle_norm"], m["norm_epsilon"])
                x = x + F.linear(F.silu(F.linear(y, own["gate"])) * F.linear(y, own["up"]), own["down"])
            y = F.rms_norm(x, x.shape[-1:], w[-1]["norm"], m["norm_epsilon"])
            logits = F.linear(y, w[0]["embed"] if m["tied"] else w[-1]["head"])
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten().long())

    def step(self, batches):
        for tokens, targets in batches:
            (self.loss(tokens.to(self.device), targets.to(self.device)) / len(batches)).backward()
        torch.nn.utils.clip_grad_norm_(self.every, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def batches(model, context, sequences, count):
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(model["vocabulary"], (count, sequences, context + 1), generator=generator, dtype=torch.int32)
    return [(part[:, :-1].contiguous(), part[:, 1:].contiguous()) for part in ids]


def gradients(model, context, sequences, device, precision):
    worker = Worker(device, precision)
    worker.load(model, context, sequences)
    worker.put(weights(model))
    tokens, targets = batches(model, context, sequences, 1)[0]
    loss = worker.micro_batch([0, 0, 0], tokens.flatten(), targets.flatten())
    worker.finish(1)
    found, name = worker.get("gradient"), worker.device
    worker.end()
    return loss, found, name


def compare(model, context, sequences, device):
    """Each tensor's gradient on the device beside that of the processor, and the cosine of the whole one."""
    exact, truth, _ = gradients(model, context, sequences, "cpu", "fp32")
    for precision, most, least in (("fp32", 1e-4, 0.999999), ("bf16", 1.0, 0.99)):
        loss, found, name = gradients(model, context, sequences, device, precision)
        worst = 0.0
        for unit, (a, b) in enumerate(zip(found, truth)):
            at = 0
            for _, shape in unit_tensors(model, unit):
                part = slice(at, at + math.prod(shape))
                at = part.stop
                worst = max(worst, float((a[part] - b[part]).double().norm() / b[part].double().norm()))
        a, b = torch.cat(found).double(), torch.cat(truth).double()
        cosine = float(a @ b / (a.norm() * b.norm()))
        yield dict(
            what="gradients", device=name, precision=precision, worst_relative_l2_of_a_tensor=worst, cosine=cosine,
            loss_difference=abs(loss - exact), ok=worst <= most and cosine >= least)


def speed(label, model, context, sequences, count, device, precision, rounds, devices=None):
    """Steps in turns; medians. The plain loop is on one device."""
    units, work = weights(model), batches(model, context, sequences, count)
    worker = Worker(devices or str(device), precision)
    worker.load(model, context, sequences)
    worker.put(units)
    plain = Plain(model, units, context, device, precision)
    flat = [(tokens.flatten(), targets.flatten()) for tokens, targets in work]

    def ours(step):
        for index, (tokens, targets) in enumerate(flat):
            worker.micro_batch([step, 0, index], tokens, targets)
        norm = worker.finish(count)
        worker.ask("step", learning_rate=1e-3, gradient_scale=min(1.0, 1.0 / norm), steps=[step + 1] * len(units))
        worker.ask("ping")

    def theirs():
        plain.step(work)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = ([], [])
    for step in range(rounds + 3):
        for kind, run in enumerate((lambda: ours(step), theirs)):
            start = time.perf_counter()
            run()
            if step >= 3:
                times[kind].append(time.perf_counter() - start)
    worker.ask("get", quantity="parameters", unit=0, out={"offset": 0, "count": worker.counts[0]})
    drift = float(
        (worker.floats(worker.counts[0]) - plain.w[0]["embed"].detach().flatten().cpu()).norm() / units[0].norm())
    name = worker.device
    worker.end()
    tokens = context * sequences * count
    a, b = (tokens / statistics.median(t) for t in times)
    return dict(
        what="speed", model=label, device=name, precision=precision, context=context, sequences=sequences, micro_batches=count,
        worker_tokens_a_second=round(a), plain_tokens_a_second=round(b), ratio=round(a / b, 4), steps=rounds,
        embedding_apart_after_all_steps=drift)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", default=os.environ.get("OUT", "."))
    parser.add_argument("--quick", action="store_true", help="small models only: to try the script itself")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    names = arguments.device.split(",")
    device = torch.device(names[0])
    good = True
    os.makedirs(arguments.out, exist_ok=True)
    with open(f"{arguments.out}/worker.jsonl", "w") as file:

        def tell(row):
            nonlocal good
            good = good and row.get("ok", True)
            print(json.dumps(row), flush=True)
            file.write(json.dumps(row) + "\n")
            file.flush()

        for row in compare(SMALL, 40, 3, arguments.device):
            tell(row)
        if arguments.quick:
            tell(speed("small", SMALL, 64, 2, 2, device, "fp32", 3, arguments.device))
        else:
            for row in compare(TENTH, 256, 2, arguments.device):
                tell(row)
            if device.type == "cpu":
                # What the protocol costs: both compute on the same processor.
                tell(speed("10M", TENTH, 256, 2, 2, device, "fp32", 8, arguments.device))
                sys.exit(0 if good else 1)
            for precision in ("bf16", "fp32"):
                tell(speed("SmolLM2-135M's shape", SMOL, 1024, 8, 4, device, precision, 12, arguments.device))
            tell(speed("10M", TENTH, 512, 8, 4, device, "bf16", 12, arguments.device))
    sys.exit(0 if good else 1)


main()
