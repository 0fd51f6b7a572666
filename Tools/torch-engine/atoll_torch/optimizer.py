"""Inner steps: AdamW with decoupled decay, and Muon for the blocks' matrices (docs/JOB.md, `train`)."""
import math

import torch

from .wire import Refused

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix):
    """Five steps of the Newton–Schulz iteration of Muon."""
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


class Optimizer:
    """Moments of a stage, in fp32 or bf16, and its steps."""

    def __init__(self, stage, spec):
        self.stage, self.o = stage, spec["optimizer"]
        if self.o["kind"] == "muon" and stage.team.size > 1:
            raise Refused("unsupported", "Muon on several devices, of which none has a whole matrix; give the worker one of them")
        kept = torch.bfloat16 if self.o["state"] == "bf16" else torch.float32
        self.first = {u: torch.zeros_like(p, dtype=kept, requires_grad=False) for u, p in stage.units.items()}
        self.second = {u: torch.zeros_like(p, dtype=kept, requires_grad=False) for u, p in stage.units.items()}

    def decays(self, unit, shape):
        if self.o["decays"] == "all":
            return True
        return len(shape) == 2 and (self.o["decays"] == "matrices" or 1 <= unit <= self.stage.m["layers"])

    @torch.no_grad()
    def step(self, learning_rate, gradient_scale, steps):
        muon = self.o["kind"] == "muon"
        for unit, flat in self.stage.units.items():
            gradient = flat.grad * gradient_scale
            plain = []
            for shape, part in self.stage.parts(unit):
                if self.decays(unit, shape):
                    flat[part] *= 1 - learning_rate * self.o["weight_decay"]
                if muon and len(shape) == 2 and 1 <= unit <= self.stage.m["layers"]:
                    self.muon(unit, part, shape, gradient[part], flat[part], learning_rate)
                elif plain and plain[-1].stop == part.start:
                    plain[-1] = slice(plain[-1].start, part.stop)
                else:
                    plain.append(part)
            # Neighbours together: the arithmetic is value by value.
            for part in plain:
                self.adam(unit, part, gradient[part], flat[part], learning_rate, steps[unit - self.stage.first])
            if self.o["weights"] == "bf16":
                flat.copy_(rounded(flat))

    def adam(self, unit, part, gradient, weights, rate, steps):
        beta1, beta2 = self.o["beta1"], self.o["beta2"]
        m = self.first[unit][part].float().mul_(beta1).add_(gradient, alpha=1 - beta1)
        v = self.second[unit][part].float().mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        size = (v / (1 - beta2 ** steps)).sqrt_().add_(self.o["epsilon"])
        weights.addcdiv_(m, size, value=-rate / (1 - beta1 ** steps))
        self.keep(self.first[unit], part, m)
        self.keep(self.second[unit], part, v)

    def muon(self, unit, part, shape, gradient, weights, rate):
        mu = self.o["momentum"]
        m = self.first[unit][part].float().mul_(mu).add_(gradient)
        update = orthogonal((gradient + mu * m).view(shape)).reshape(-1)
        weights.add_(update, alpha=-rate * 0.2 * math.sqrt(max(shape)))
        self.keep(self.first[unit], part, m)

    def keep(self, kept, part, values):
        kept[part] = values if kept.dtype == torch.float32 else rounded(values).to(torch.bfloat16)


def rounded(values):
    """To bf16 by chance: up with the share of the way that a number lies above the one below."""
    bits = values.view(torch.int32)
    chance = torch.randint_like(bits, 0, 1 << 16)
    return ((bits + chance) & ~0xFFFF).view(torch.float32)
