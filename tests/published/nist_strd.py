"""The nonlinear regressions of the NIST Statistical Reference Datasets, all 27, each with two starts.

`nist_strd.txt` has the data and what NIST certifies to 11 digits, set after set: a name and the number of predictors,
labelled lines, then a response and its predictors a line. The data are in the public domain.

Source: https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

Tensor = torch.Tensor
Model = Callable[[Tensor, Tensor], Tensor]

__all__ = ["STRD", "Regression"]


@dataclass(frozen=True)
class Regression:
    """min Σ (model(b, x) − y)² over b (n,). x: (m,), or (m, 2). starts: the farther first. squares: the least sum."""

    name: str
    model: Model
    x: Tensor
    y: Tensor
    starts: tuple[Tensor, Tensor]
    certified: Tensor
    deviations: Tensor
    squares: float

    def residuals(self, b: Tensor) -> Tensor:
        """Shape (m,)."""
        return self.model(b, self.x) - self.y

    def digits(self, b: Tensor) -> float:
        """How many digits of the certified parameters are met by all of b; -inf where b is not finite."""
        error = ((b - self.certified) / self.certified).abs().max().item()
        return -math.log10(max(error, 1e-16)) if math.isfinite(error) else -math.inf


def _chwirut(b: Tensor, x: Tensor) -> Tensor:
    return torch.exp(-b[0] * x) / (b[1] + b[2] * x)


def _enso(b: Tensor, x: Tensor) -> Tensor:
    def waves(period: Tensor | float, i: int) -> Tensor:
        angle = 2 * math.pi * x / period
        return b[i] * torch.cos(angle) + b[i + 1] * torch.sin(angle)

    return b[0] + waves(12.0, 1) + waves(b[3], 4) + waves(b[6], 7)


def _gauss(b: Tensor, x: Tensor) -> Tensor:
    peaks = [b[i] * torch.exp(-(((x - b[i + 1]) / b[i + 2]) ** 2)) for i in (2, 5)]
    return b[0] * torch.exp(-b[1] * x) + peaks[0] + peaks[1]


def _cubics(b: Tensor, x: Tensor) -> Tensor:
    above = b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3
    return above / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def _lanczos(b: Tensor, x: Tensor) -> Tensor:
    return b[0] * torch.exp(-b[1] * x) + b[2] * torch.exp(-b[3] * x) + b[4] * torch.exp(-b[5] * x)


_MODELS: Mapping[str, Model] = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": lambda b, x: b[0] * (1 - torch.exp(-b[1] * x)),
    "Chwirut1": _chwirut,
    "Chwirut2": _chwirut,
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "Eckerle4": lambda b, x: b[0] / b[1] * torch.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "ENSO": _enso,
    "Gauss1": _gauss,
    "Gauss2": _gauss,
    "Gauss3": _gauss,
    "Hahn1": _cubics,
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": _lanczos,
    "Lanczos2": _lanczos,
    "Lanczos3": _lanczos,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * torch.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * torch.exp(-x * b[3]) + b[2] * torch.exp(-x * b[4]),
    "Misra1a": lambda b, x: b[0] * (1 - torch.exp(-b[1] * x)),
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x: b[0] - b[1] * x[:, 0] * torch.exp(-b[2] * x[:, 1]),
    "Rat42": lambda b, x: b[0] / (1 + torch.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + torch.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - torch.arctan(b[2] / (x - b[3])) / math.pi,
    "Thurber": _cubics,
}
_OF_LOGARITHMS = ("Nelson",)
"""Sets whose model predicts log y."""


def _read(section: str) -> Regression:
    (name, predictors), *lines = (line.split() for line in section.splitlines())
    labelled = {label: torch.tensor(list(map(float, values)), dtype=torch.float64) for label, *values in lines[:5]}
    table = torch.tensor([list(map(float, line)) for line in lines[5:]], dtype=torch.float64)
    y, x = table[:, 0], table[:, 1:]
    return Regression(
        name,
        _MODELS[name],
        x if predictors == "2" else x[:, 0],
        torch.log(y) if name in _OF_LOGARITHMS else y,
        (labelled["far"], labelled["near"]),
        labelled["certified"],
        labelled["deviations"],
        labelled["squares"].item(),
    )


_SECTIONS = Path(__file__).with_suffix(".txt").read_text("utf-8").strip().split("\n\n")
STRD: Mapping[str, Regression] = MappingProxyType({each.name: each for each in map(_read, _SECTIONS)})
"""The sets by NIST's name."""
