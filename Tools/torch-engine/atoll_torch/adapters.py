"""Low-rank adapters (LoRA, Hu et al. 2021, 2106.09685): of the blocks' matrices named, W + s·B·A, and only A and B move.

They live within a round, as those of the daemon's own engine do (docs/JOB.md, `adapters`): with new weights of a unit B begins at
zero, and A [rank, in] is what the daemon has drawn. What peers exchange is what B·A has become, as a change of W.
"""
import math

import torch
import torch.nn.functional as F

from .model import unit_tensors


class Adapters:
    """Factors of all adapted matrices of a stage, in one flat tensor, A before B; their gradients and moments likewise. On several
    devices each has all of them, and they stay equal: gradients are summed before a step."""

    def __init__(self, stage, optimizer):
        self.stage, self.o = stage, optimizer
        self.rank, self.scale = optimizer["adapters"]["rank"], optimizer["adapters"]["scale"]
        targets, self.places, count = set(optimizer["adapters"]["targets"]), {}, 0
        for unit in stage.units:
            if not 1 <= unit <= stage.m["layers"]:
                continue
            for name, shape in unit_tensors(stage.m, unit):
                if name in targets and len(shape) == 2:
                    self.places[unit, name] = (slice(count, count + self.rank * sum(shape)), shape)
                    count += self.rank * sum(shape)
        self.flat = torch.zeros(count, device=stage.device)
        self.flat.grad = torch.zeros_like(self.flat)
        self.first, self.second = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.steps = 0
        self.leaves = {key: self.pair(*place) for key, place in self.places.items()}

    def pair(self, part, shape):
        """Leaves (A [rank, in], B [out, rank]) in the flat memory, whose gradients are added in the flat gradient."""
        rows, columns = shape
        middle = part.start + self.rank * columns
        out = []
        for own, view in ((slice(part.start, middle), (self.rank, columns)), (slice(middle, part.stop), (rows, self.rank))):
            leaf = self.flat[own].view(view).detach().requires_grad_()
            leaf.grad = self.flat.grad[own].view(view)
            out.append(leaf)
        return tuple(out)

    def added(self, unit, name, x):
        """s·B·A·x, or 0."""
        if (unit, name) not in self.leaves:
            return 0
        a, b = self.leaves[unit, name]
        return self.scale * F.linear(F.linear(x, a), b)

    @torch.no_grad()
    def begin(self, unit):
        """The unit's weights are new: its factors are, too."""
        self.steps = 0
        for (own, _), (part, _) in self.places.items():
            if own == unit:
                for flat in (self.flat, self.flat.grad, self.first, self.second):
                    flat[part] = 0

    def inputs(self, unit):
        """Values of A of all matrices of a unit."""
        return sum(a.numel() for (own, _), (a, _) in self.leaves.items() if own == unit)

    @torch.no_grad()
    def put(self, unit, values):
        """A of all matrices of a unit, one after the other."""
        at = 0
        for (own, _), (a, _) in self.leaves.items():
            if own == unit:
                a.copy_(values[at:at + a.numel()].view_as(a))
                at += a.numel()

    @torch.no_grad()
    def merge(self, unit, flat):
        """Adds s·B·A to a unit's weights."""
        at = 0
        for name, shape in unit_tensors(self.stage.m, unit):
            part = slice(at, at + math.prod(shape))
            at = part.stop
            if (unit, name) in self.leaves:
                a, b = self.leaves[unit, name]
                flat[part].view(shape).addmm_(b, a, alpha=self.scale)

    def finish(self, micro_batches):
        """Divides the sums; the norm of each tensor's, 0 where nothing moves."""
        self.stage.team.summed(self.flat.grad).div_(micro_batches)
        return [
            torch.linalg.vector_norm(self.flat.grad[self.places[unit, name][0]], dtype=torch.float64)
            if (unit, name) in self.places else torch.zeros((), dtype=torch.float64, device=self.stage.device)
            for unit in self.stage.units for name, _ in unit_tensors(self.stage.m, unit)]

    @torch.no_grad()
    def step(self, learning_rate, gradient_scale, steps):
        """AdamW. Their moments began with them, and so do the steps that are counted."""
        self.steps += 1
        beta1, beta2 = self.o["beta1"], self.o["beta2"]
        gradient = self.flat.grad * gradient_scale
        self.flat *= 1 - learning_rate * self.o["weight_decay"]
        self.first.mul_(beta1).add_(gradient, alpha=1 - beta1)
        self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        size = (self.second / (1 - beta2 ** self.steps)).sqrt_().add_(self.o["epsilon"])
        self.flat.addcdiv_(self.first, size, value=-learning_rate / (1 - beta1 ** self.steps))

    def drop(self):
        self.flat.grad.zero_()
