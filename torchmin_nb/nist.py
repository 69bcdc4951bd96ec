"""Nonlinear regressions of the NIST Statistical Reference Datasets, with certified answers.

Parameters, standard deviations and residual sums of squares are certified to 11 digits: computed by NIST in
128-bit precision with two algorithms. The data are in the public domain.

Source: https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

__all__ = ["NIST", "NistProblem"]

Model = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class NistProblem:
    """One data set of NIST's nonlinear regressions, with certified answers.

    Attributes
    ----------
    name : str
        Name of the data set.
    title : str
        What was measured, in words.
    formula : str
        The model as a formula.
    model : callable
        ``model(b, x)`` predicts y at x: parameters b of shape (n,), x of shape (m,), result of shape (m,).
    starts : tuple of two tuples of float
        NIST's two starts, each of n numbers; the second is nearer.
    certified : tuple of float
        The n certified parameters.
    deviations : tuple of float
        Their n certified standard deviations.
    residual_sum : float
        The certified sum of squared residuals.
    level : str
        Level of difficulty, in NIST's words.
    source : str
        Page of the data set.
    table : str
        The data as text: y and x in each line.

    Examples
    --------
    >>> problem = NIST["Misra1a"]
    >>> problem.x.shape, problem.level
    (torch.Size([14]), 'lower')
    >>> b = torch.nn.Parameter(torch.tensor(problem.starts[1], dtype=torch.float64))
    >>> optimizer = LeastSquaresWrapper([b], "lm")
    >>> cost = optimizer.step(lambda: problem.residuals(b))
    >>> round(2 * cost.item() / problem.residual_sum, 6)
    1.0
    """

    name: str
    title: str
    formula: str
    model: Model
    starts: tuple[tuple[float, ...], tuple[float, ...]]
    certified: tuple[float, ...]
    deviations: tuple[float, ...]
    residual_sum: float
    level: str
    source: str
    table: str

    @property
    def x(self) -> torch.Tensor:
        """The predictor, shape (m,), float64."""
        return self._column(1)

    @property
    def y(self) -> torch.Tensor:
        """The response, shape (m,), float64."""
        return self._column(0)

    def residuals(self, b: torch.Tensor) -> torch.Tensor:
        """The residuals, model(b, x) − y.

        Parameters
        ----------
        b : torch.Tensor of shape (n,)
            The parameters.

        Returns
        -------
        torch.Tensor of shape (m,)
            In the dtype and on the device of b.
        """
        return self.model(b, self.x.to(b)) - self.y.to(b)

    def _column(self, index: int) -> torch.Tensor:
        rows = [line.split() for line in self.table.strip().splitlines()]
        return torch.tensor([float(row[index]) for row in rows], dtype=torch.float64)


def _misra1a(b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return b[0] * (1 - torch.exp(-b[1] * x))


def _thurber(b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def _mgh09(b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3])


def _eckerle4(b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return b[0] / b[1] * torch.exp(-0.5 * ((x - b[2]) / b[1]) ** 2)


_MISRA1A = NistProblem(
    "Misra1a",
    "Dental research: volume of a monomolecular adsorbate against pressure",
    "b1·(1 − exp(−b2·x))",
    _misra1a,
    starts=((500.0, 0.0001), (250.0, 0.0005)),
    certified=(2.3894212918e02, 5.5015643181e-04),
    deviations=(2.7070075241e00, 7.2668688436e-06),
    residual_sum=1.2455138894e-01,
    level="lower",
    source="https://www.itl.nist.gov/div898/strd/nls/data/misra1a.shtml",
    table="""
    10.07  77.6
    14.73 114.9
    17.94 141.1
    23.93 190.8
    29.61 239.9
    35.18 289.0
    40.02 332.8
    44.82 378.4
    50.76 434.8
    55.05 477.3
    61.01 536.8
    66.40 593.1
    75.47 689.1
    81.78 760.0
    """,
)

_THURBER = NistProblem(
    "Thurber",
    "Electron mobility in a semiconductor against the logarithm of the density",
    "(b1 + b2·x + b3·x² + b4·x³) / (1 + b5·x + b6·x² + b7·x³)",
    _thurber,
    starts=((1000.0, 1000.0, 400.0, 40.0, 0.7, 0.3, 0.03), (1300.0, 1500.0, 500.0, 75.0, 1.0, 0.4, 0.05)),
    certified=(
        1.2881396800e03,
        1.4910792535e03,
        5.8323836877e02,
        7.5416644291e01,
        9.6629502864e-01,
        3.9797285797e-01,
        4.9727297349e-02,
    ),
    deviations=(
        4.6647963344e00,
        3.9571156086e01,
        2.8698696102e01,
        5.5675370270e00,
        3.1333340687e-02,
        1.4984928198e-02,
        6.5842344623e-03,
    ),
    residual_sum=5.6427082397e03,
    level="higher",
    source="https://www.itl.nist.gov/div898/strd/nls/data/thurber.shtml",
    table="""
      80.574 -3.067
      84.248 -2.981
      87.264 -2.921
      87.195 -2.912
      89.076 -2.840
      89.608 -2.797
      89.868 -2.702
      90.101 -2.699
      92.405 -2.633
      95.854 -2.481
     100.696 -2.363
     101.060 -2.322
     401.672 -1.501
     390.724 -1.460
     567.534 -1.274
     635.316 -1.212
     733.054 -1.100
     759.087 -1.046
     894.206 -0.915
     990.785 -0.714
    1090.109 -0.566
    1080.914 -0.545
    1122.643 -0.400
    1178.351 -0.309
    1260.531 -0.109
    1273.514 -0.103
    1288.339  0.010
    1327.543  0.119
    1353.863  0.377
    1414.509  0.790
    1425.208  0.963
    1421.384  1.006
    1442.962  1.115
    1464.350  1.572
    1468.705  1.841
    1447.894  2.047
    1457.628  2.200
    """,
)

_MGH09 = NistProblem(
    "MGH09",
    "Kowalik and Osborne's enzyme reaction: there is a local minimum at infinity",
    "b1·(x² + x·b2) / (x² + x·b3 + b4)",
    _mgh09,
    starts=((25.0, 39.0, 41.5, 39.0), (0.25, 0.39, 0.415, 0.39)),
    certified=(1.9280693458e-01, 1.9128232873e-01, 1.2305650693e-01, 1.3606233068e-01),
    deviations=(1.1435312227e-02, 1.9633220911e-01, 8.0842031232e-02, 9.0025542308e-02),
    residual_sum=3.0750560385e-04,
    level="higher",
    source="https://www.itl.nist.gov/div898/strd/nls/data/mgh09.shtml",
    table="""
    0.1957 4.0000
    0.1947 2.0000
    0.1735 1.0000
    0.1600 0.5000
    0.0844 0.2500
    0.0627 0.1670
    0.0456 0.1250
    0.0342 0.1000
    0.0323 0.0833
    0.0235 0.0714
    0.0246 0.0625
    """,
)

_ECKERLE4 = NistProblem(
    "Eckerle4",
    "Circular interference: transmittance against wavelength",
    "(b1/b2)·exp(−½·((x − b3)/b2)²)",
    _eckerle4,
    starts=((1.0, 10.0, 500.0), (1.5, 5.0, 450.0)),
    certified=(1.5543827178e00, 4.0888321754e00, 4.5154121844e02),
    deviations=(1.5408051163e-02, 4.6803020753e-02, 4.6800518816e-02),
    residual_sum=1.4635887487e-03,
    level="higher",
    source="https://www.itl.nist.gov/div898/strd/nls/data/eckerle4.shtml",
    table="""
    0.0001575 400.0
    0.0001699 405.0
    0.0002350 410.0
    0.0003102 415.0
    0.0004917 420.0
    0.0008710 425.0
    0.0017418 430.0
    0.0046400 435.0
    0.0065895 436.5
    0.0097302 438.0
    0.0149002 439.5
    0.0237310 441.0
    0.0401683 442.5
    0.0712559 444.0
    0.1264458 445.5
    0.2073413 447.0
    0.2902366 448.5
    0.3445623 450.0
    0.3698049 451.5
    0.3668534 453.0
    0.3106727 454.5
    0.2078154 456.0
    0.1164354 457.5
    0.0616764 459.0
    0.0337200 460.5
    0.0194023 462.0
    0.0117831 463.5
    0.0074357 465.0
    0.0022732 470.0
    0.0008800 475.0
    0.0004579 480.0
    0.0002345 485.0
    0.0001586 490.0
    0.0001143 495.0
    0.0000710 500.0
    """,
)

NIST: Mapping[str, NistProblem] = MappingProxyType(
    {problem.name: problem for problem in (_MISRA1A, _THURBER, _MGH09, _ECKERLE4)}
)
"""The data sets by NIST's name."""
