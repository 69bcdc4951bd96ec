"""Classifiers on real data: convex ones, with a minimum known to full precision, and a small network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from .mnist import digits
from .networks import forward, layers
from .problem import Problem, ProblemSpec, Setting
from .sources import sklearn_table

__all__ = ["LEARNING"]

_SAMPLES = 1000
_DIGITS_DECAY = 1e-3
_CANCER_DECAY = 1e-3
_NETWORK_DECAY = 1e-4
_NETWORK_TARGET = 0.05
_HELD_OUT = 400

# By Newton-CG to a gradient norm g below 1e-9, float64. The loss is strongly convex with the weight decay as modulus,
# so the minimum is at most g²/(2 decay) below the computed loss. The tests repeat this.
_DIGITS_BEST = 0.13994837298302681
_CANCER_BEST = 0.05982947188180508


def _small(shapes: Sequence[tuple[int, ...]], spread: float, dtype: torch.dtype, seed: int) -> list[torch.nn.Parameter]:
    """Zeros (seed 0), or normal random numbers of this spread."""
    generator = torch.Generator().manual_seed(seed)
    scale = spread if seed else 0.0
    draws = [scale * torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    return [torch.nn.Parameter(draw.to(dtype)) for draw in draws]


def _decay(parameters: Sequence[torch.Tensor], weight_decay: float) -> torch.Tensor:
    """weight_decay/2 times the sum of squares of all parameters, biases included: the minimum is unique with it."""
    return weight_decay / 2 * torch.stack([parameter.square().sum() for parameter in parameters]).sum()


def _accuracy(
    name: str, predict: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, labels: torch.Tensor
) -> Callable[[], dict[str, float]]:
    def measure() -> dict[str, float]:
        with torch.no_grad():
            return {name: float((predict(inputs) == labels).double().mean())}

    return measure


def _softmax(*, dtype: torch.dtype, seed: int, samples: int, weight_decay: float) -> Problem:
    data = digits(dtype=dtype)
    inputs, labels = data.train_inputs[:samples].clone(), data.train_labels[:samples].clone()
    weight, bias = parameters = _small([(10, 784), (10,)], 0.1, dtype, seed)

    def closure() -> torch.Tensor:
        loss = cross_entropy(torch.nn.functional.linear(inputs, weight, bias), labels)
        return loss + _decay(parameters, weight_decay)

    return Problem(
        parameters,
        closure,
        best_loss=_DIGITS_BEST if (samples, weight_decay) == (_SAMPLES, _DIGITS_DECAY) else None,
        tolerance=1e-5,
        measures=_accuracy(
            "test accuracy", lambda x: (x @ weight.T + bias).argmax(1), data.test_inputs, data.test_labels
        ),
    )


def _logistic(*, dtype: torch.dtype, seed: int, weight_decay: float) -> Problem:
    table = sklearn_table("breast_cancer")
    scaled = (table.inputs - table.inputs.mean(0)) / table.inputs.std(0)
    inputs, labels = torch.from_numpy(scaled).to(dtype), torch.from_numpy(table.targets.copy()).to(dtype)
    weight, bias = parameters = _small([(inputs.shape[1],), (1,)], 1.0, dtype, seed)

    def closure() -> torch.Tensor:
        return binary_cross_entropy_with_logits(inputs @ weight + bias, labels) + _decay(parameters, weight_decay)

    return Problem(
        parameters,
        closure,
        best_loss=_CANCER_BEST if weight_decay == _CANCER_DECAY else None,
        tolerance=1e-6,
        measures=_accuracy("training accuracy", lambda x: (x @ weight + bias > 0).to(dtype), inputs, labels),
    )


def _network(*, dtype: torch.dtype, seed: int, hidden: int) -> Problem:
    table = sklearn_table("digits")
    pixels, classes = torch.from_numpy(table.inputs / 16).to(dtype), torch.from_numpy(table.targets.astype(np.int64))
    inputs, labels = pixels[:-_HELD_OUT], classes[:-_HELD_OUT]
    parameters = layers([pixels.shape[1], hidden, 10], dtype, seed)

    return Problem(
        parameters,
        lambda: cross_entropy(forward(parameters, inputs), labels) + _decay(parameters, _NETWORK_DECAY),
        target=_NETWORK_TARGET,
        tolerance=0.0,
        measures=_accuracy(
            "test accuracy", lambda x: forward(parameters, x).argmax(1), pixels[-_HELD_OUT:], classes[-_HELD_OUT:]
        ),
    )


def _weight_decay(default: float) -> Setting:
    return Setting("weight_decay", default, 1e-5, 1.0, "factor of half the sum of squares of all parameters", log=True)


LEARNING = (
    ProblemSpec(
        "Breast cancer",
        "real data",
        hard="strongly correlated features: the Hessian's eigenvalues differ widely, and gradient descent is slow",
        answer="0.0598294719 with the usual weight decay, the only minimum; 98.8 % of the training data are right",
        source="W. H. Wolberg, O. L. Mangasarian, W. N. Street, Breast Cancer Wisconsin (Diagnostic), UCI (1995)",
        build=_logistic,
        settings=(_weight_decay(_CANCER_DECAY),),
        convex=True,
    ),
    ProblemSpec(
        "Digits softmax",
        "real data",
        hard="7,850 parameters: an N × N array takes half a gigabyte, so only products with the Hessian are practical",
        answer="0.1399483730 at the usual settings, the only minimum; 85.9 % of 1,000 other digits are right",
        source='Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1,000 of them',
        build=_softmax,
        settings=(
            Setting("samples", _SAMPLES, 100, 4000, "number of digits to fit", log=True),
            _weight_decay(_DIGITS_DECAY),
        ),
        convex=True,
    ),
    ProblemSpec(
        "Digits network",
        "network",
        hard="a network with one hidden layer: not convex, many minima and saddles, hidden units may be swapped",
        answer="not unique: 0.05 is good enough, with 91 % of 400 other digits right; about 0.02 is the lowest seen",
        source="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), as in scikit-learn",
        build=_network,
        settings=(Setting("hidden", 16, 8, 64, "number of hidden units"),),
        many_minima=True,
    ),
)
