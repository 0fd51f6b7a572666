"""One stage of a model of the Llama family: consecutive units, forward and backward.

The parameters of a unit are one flat tensor in the daemon's canonical order; the weights that the arithmetic uses are views of
it, so that reading, writing and stepping need no copies.
"""
import math

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from .products import product
from .team import Gathered
from .wire import Refused


def unit_tensors(m, unit):
    """(name, shape) of a unit's tensors, canonical order: unit 0 is the embedding, the last the final norm and the head."""
    d, f, q = m["hidden_size"], m["intermediate_size"], m["heads"] * m["head_size"]
    kv = m["kv_heads"] * m["head_size"]
    if unit == 0:
        return [("embed", (m["vocabulary"], d))]
    if unit == m["layers"] + 1:
        return [("norm", (d,))] + ([] if m["tied"] else [("head", (m["vocabulary"], d))])
    bias = m["projection_bias"]
    tensors = [("input_norm", (d,)), ("q", (q, d)), ("k", (kv, d)), ("v", (kv, d))]
    if bias != "none":
        tensors += [("q_bias", (q,)), ("k_bias", (kv,)), ("v_bias", (kv,))]
    if m["query_key_norm"]:
        tensors += [("q_norm", (m["head_size"],)), ("k_norm", (m["head_size"],))]
    tensors.append(("o", (d, q)))
    if bias == "all":
        tensors.append(("o_bias", (d,)))
    return tensors + [("middle_norm", (d,)), ("gate", (f, d)), ("up", (f, d)), ("down", (d, f))]


def rope_frequencies(m):
    """Turn of each pair a token, in radians, in double arithmetic."""
    size, scaling = m["head_size"], m["rope_scaling"]
    out = []
    for i in range(size // 2):
        frequency = m["rope_theta"] ** (-2.0 * i / size)
        if scaling["type"] == "linear":
            frequency /= scaling["factor"]
        elif scaling["type"] == "llama3":
            waves = scaling["original_context"] * frequency / (2 * math.pi)
            low, high = scaling["low_factor"], scaling["high_factor"]
            if waves < low:
                frequency /= scaling["factor"]
            elif waves <= high:
                blend = (waves - low) / (high - low)
                frequency = (1 - blend) * frequency / scaling["factor"] + blend * frequency
        out.append(frequency)
    return torch.tensor(out, dtype=torch.float64)


class Stage:
    """The weights of some units and what they compute."""

    def __init__(self, spec, device, autocast, team):
        self.team = team
        self.m = spec["model"]
        self.first, self.end = spec["units"]
        self.context, self.micro_batch = spec["context"], spec["micro_batch"]
        self.recompute = spec["recompute"]
        # Tokens of a micro-batch, on all devices.
        self.places = self.context * self.micro_batch
        self.z_loss = spec["optimizer"]["z_loss"]
        self.device, self.autocast = device, autocast
        is_large = device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory >= 16 << 30
        self.most_logits = 1 << (28 if is_large else 26)
        self.is_first, self.is_last = self.first == 0, self.end == self.m["layers"] + 2
        # A table that is embedding and head is on the first stage, wherever the final norm is.
        self.lends_table = self.m["tied"] and self.is_first and not self.is_last
        self.ends_with_loss = self.is_last and (self.is_first or not self.m["tied"])
        self.units, self.views = {}, {}
        # With adapters all of these stand still: they have no gradients, and may be kept in two bytes a number.
        self.moves = "adapters" not in spec["optimizer"]
        is_narrow = not self.moves and spec["optimizer"]["weights"] == "bf16"
        for unit in range(self.first, self.end):
            count = -(-self.count(unit) // team.size)
            flat = torch.zeros(count, device=device, dtype=torch.bfloat16 if is_narrow else torch.float32)
            if self.moves:
                flat.grad = torch.zeros_like(flat)
            self.units[unit] = flat
            self.views[unit] = self.leaves(unit, flat) if team.size == 1 else flat.requires_grad_(self.moves)
        self.adapters = None
        if not self.moves:
            from .adapters import Adapters

            self.adapters = Adapters(self, spec["optimizer"])
        angles = torch.arange(self.context, dtype=torch.float64)[:, None] * rope_frequencies(self.m)
        self.cos, self.sin = angles.cos().float().to(device), angles.sin().float().to(device)

    def count(self, unit):
        return sum(math.prod(shape) for _, shape in unit_tensors(self.m, unit))

    def held(self, unit):
        """What of a unit's numbers is on this device, from and to: the shares are equal, the last ones may reach beyond the end."""
        count, size = self.count(unit), self.units[unit].numel()
        return min(count, self.team.rank * size), min(count, (self.team.rank + 1) * size)

    def parts(self, unit):
        """What of each of a unit's tensors is on this device: its shape, and a slice of the flat parameters, maybe empty."""
        start, end = self.held(unit)
        at = 0
        for _, shape in unit_tensors(self.m, unit):
            first, at = at, at + math.prod(shape)
            low = min(max(first, start), end)
            yield shape, slice(low - start, max(low, min(at, end)) - start)

    def leaves(self, unit, flat):
        """The unit's tensors by name: leaves in the memory of its flat parameters, whose gradients are added where its flat
        gradient lies."""
        out, at = {}, 0
        for name, shape in unit_tensors(self.m, unit):
            part = slice(at, at + math.prod(shape))
            at = part.stop
            out[name] = flat[part].view(shape).detach()
            if self.moves:
                out[name].requires_grad_()
                out[name].grad = flat.grad[part].view(shape)
        return out

    def weights(self, unit):
        if self.team.size == 1:
            return self.views[unit]
        whole, out, at = Gathered.apply(self.views[unit], self.team), {}, 0
        for name, shape in unit_tensors(self.m, unit):
            out[name] = whole[at:at + math.prod(shape)].view(shape)
            at += math.prod(shape)
        return out

    def linear(self, unit, w, x, name):
        """What a matrix of a block makes of x, its bias and its adapter included. `w` are the unit's weights."""
        weight, bias = w[name], w.get(name + "_bias")
        if self.moves:
            return F.linear(x, weight, bias)
        y = product(x, weight) + self.adapters.added(unit, name, x)
        return y if bias is None else y + bias.to(y.dtype)

    def merged(self, unit):
        """This device's share of a unit's parameters as they are now."""
        if self.moves:
            return self.units[unit].data
        start, end = self.held(unit)
        flat = self.units[unit] if self.team.size == 1 else self.team.gathered(self.units[unit])
        flat = flat[:self.count(unit)].to(torch.float32, copy=True)
        self.adapters.merge(unit, flat)
        return flat[start:end]

    # gradients

    def finish(self, micro_batches):
        """Divides the sums; the norm of each tensor's."""
        norms = []
        for unit, flat in self.units.items():
            flat.grad /= micro_batches
            for _, part in self.parts(unit):
                norms.append(torch.linalg.vector_norm(flat.grad[part], dtype=torch.float64))
        if self.team.size > 1:
            norms = list(self.team.summed(torch.stack(norms).square()).sqrt())
        return norms

    def drop(self):
        for flat in self.units.values():
            flat.grad.zero_()

    # forward

    def run(self, tokens, hidden, first_seen):
        """[n, T, d] that leaves the last block. `tokens` [n, T] on the first stage, else `hidden` [n, T, d]."""
        if self.is_first:
            hidden = F.embedding(tokens, self.weights(0)["embed"]).float()
        mask = self.mask(first_seen)
        for unit in range(max(1, self.first), min(self.end, self.m["layers"] + 1)):
            if self.recompute and torch.is_grad_enabled():
                hidden = checkpoint(self.block, unit, hidden, mask, use_reentrant=False)
            else:
                hidden = self.block(unit, hidden, mask)
        return hidden

    def mask(self, first_seen):
        """Which positions each one sees where documents follow each other: [n, 1, T, T]; None for the causal half."""
        if first_seen is None:
            return None
        t = torch.arange(first_seen.shape[1], device=self.device)
        return ((t[None, None, :] >= first_seen[:, :, None]) & (t[None, None, :] <= t[None, :, None]))[:, None]

    def block(self, unit, x, mask):
        m, w = self.m, self.weights(unit)
        n, length, _ = x.shape
        size = m["head_size"]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            normed = self.rms(x, w["input_norm"])

            def heads(name, count):
                y = self.linear(unit, w, normed, name).view(n, length, count, size)
                if name != "v" and m["query_key_norm"]:
                    y = self.rms(y, w[name + "_norm"])
                return y.transpose(1, 2)

            q, k, v = heads("q", m["heads"]), heads("k", m["kv_heads"]), heads("v", m["kv_heads"])
            if unit - 1 not in m["layers_without_rope"]:
                q, k = self.turned(q), self.turned(k)
            attended = F.scaled_dot_product_attention(
                q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask, is_causal=mask is None,
                enable_gqa=m["heads"] != m["kv_heads"])
            attended = attended.transpose(1, 2).reshape(n, length, -1)
            x = x + self.linear(unit, w, attended, "o")
            normed = self.rms(x, w["middle_norm"])
            gated = F.silu(self.linear(unit, w, normed, "gate")) * self.linear(unit, w, normed, "up")
            return x + self.linear(unit, w, gated, "down")

    def rms(self, x, gain):
        return F.rms_norm(x.float(), (x.shape[-1],), gain.float(), self.m["norm_epsilon"])

    def turned(self, x):
        cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        low, high = x.float().chunk(2, -1)
        return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)

    def normed(self, hidden):
        """What leaves the final norm."""
        return self.rms(hidden, self.weights(self.end - 1)["norm"])

    def token_losses(self, normed, targets):
        """−log p of each target [n·T], 0 where it is below zero, and log²Σexp of those that count."""
        table = self.weights(0)["embed"] if self.m["tied"] else self.weights(self.end - 1)["head"]
        normed, targets = normed.flatten(0, 1), targets.flatten()
        losses, squares = [], []
        # A stretch of rows at a time, each computed again when it goes backward: there are never logits of all of them, unless
        # a gibibyte of them is little on this device.
        rows = max(64, self.most_logits // self.m["vocabulary"])
        for start in range(0, len(targets), rows):
            part = (normed[start:start + rows], targets[start:start + rows], table)
            if torch.is_grad_enabled() and rows < len(targets):
                loss, square = checkpoint(self.stretch, *part, use_reentrant=False)
            else:
                loss, square = self.stretch(*part)
            losses.append(loss)
            squares.append(square)
        return torch.cat(losses), torch.cat(squares)

    def stretch(self, normed, targets, table):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits = product(normed, table)
        logits = logits.float()
        size = logits.logsumexp(-1)
        counts = targets >= 0
        aimed = logits.gather(1, targets.clamp(min=0).long()[:, None])[:, 0]
        return torch.where(counts, size - aimed, 0), torch.where(counts, size * size, 0)

    def check(self, ids, name):
        """Tokens and targets are below the vocabulary, tokens not below zero."""
        if name == "first_seen" or not ids.numel():
            return
        if int(ids.max()) >= self.m["vocabulary"]:
            raise Refused("bad_shape", f"token {int(ids.max())}, the vocabulary ends before {self.m['vocabulary']}")
        if name == "tokens" and int(ids.min()) < 0:
            raise Refused("bad_shape", "a negative token")
