"""Products with weights that stand still."""
import torch
import torch.nn.functional as F


class Frozen(torch.autograd.Function):
    """x·Wᵀ of a W that stands still and is kept in two bytes a number: it is opened for this product, and once more for the
    gradient of x, instead of being kept open between the two."""

    @staticmethod
    def forward(context, x, weight):
        context.save_for_backward(weight)
        return F.linear(x, weight.to(x.dtype))

    @staticmethod
    def backward(context, gradient):
        (weight,) = context.saved_tensors
        return gradient @ weight.to(gradient.dtype), None


def product(x, weight):
    """x·Wᵀ, whatever W is kept in."""
    if weight.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
        return F.linear(x, weight)
    return Frozen.apply(x, weight)
