"""x**4 as functions of the user's own whose backward is not what it should be."""

import torch
from torch.autograd.function import once_differentiable


class Once(torch.autograd.Function):
    """x**4 whose backward cannot be differentiated, and says so."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**4

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 4 * ctx.saved_tensors[0] ** 3 * g


class Detaching(Once):
    """x**4 whose backward cannot be differentiated, and does not say so."""

    @staticmethod
    def backward(ctx, g):
        return 4 * ctx.saved_tensors[0].detach() ** 3 * g


class Wrong(Once):
    """x**4 with the gradient of x**4 / 2."""

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] ** 3 * g
