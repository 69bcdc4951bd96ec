"""Simplicial homology global optimisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult

from ...methods.global_search import GLOBAL_METHODS, SHGO_OPTIONS
from ...signatures import shares_parameters, shows_keywords
from ..common import COMMON, Common
from .base import GlobalOptimizer
from .kwargs import SearchCommon
from .local import as_arguments
from .population import LossOfParameters
from .search import Search, pairs

__all__ = ["SHGOWrapper"]


@shares_parameters(Common)
class SHGOWrapper(GlobalOptimizer):
    """`scipy.optimize.shgo`: samples the box, and descends from each candidate basin on autograd derivatives.

    An iteration is a descent. Its metrics are ``candidate``, the loss of its local minimum, ``minima``, the number of
    distinct minima known so far, and ``sampled``, the number of points sampled so far.

    Parameters
    ----------
    params : iterable of torch.Tensor, of (str, torch.Tensor) or of dict
        Tensors, named parameters or param groups, as for `MinimizeWrapper`. A group may have ``bounds=(low, high)`` and
        ``scale=``.
    minimizer_args : dict, str, callable or None, optional
        The local method, as for `MinimizeWrapper`, but without ``callback``. SLSQP if none is named; with
        ``ftol=1e-12`` if this is None, as in SciPy. All its options count; SciPy's own shgo drops most of them.
    search_args : dict or None, optional
        SciPy's other keywords: ``GLOBAL_METHODS["shgo"].options`` lists them. ``bounds`` is one of them, unless the
        groups have bounds. ``jac``, ``hess``, ``hessp`` and ``ftol`` may also stand in SciPy's ``options``.
    loss : callable or None, optional
        The loss as a function of the list of parameters, in the order of the optimizer. Samples are then evaluated
        together, as they are for a closure with ``model`` and ``loss(model)``.
    {shared}

    Attributes
    ----------
    result : OptimizeResult or None
        SciPy's result of the last run, with ``minima``, a list of (loss, x), lowest first.
    history : History
        The descents of the last run.

    Raises
    ------
    UnknownMethodError
        If there is no such local method.
    UnknownOptionError
        If shgo has no such keyword, or the local method no such option.
    ArgumentError
        If an argument has a value that is not allowed, or there are no finite bounds.
    ArgumentTypeError
        If an argument has a wrong type, or a keyword does not exist.
    ParameterError
        If the parameters cannot be minimised over.

    References
    ----------
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.shgo.html

    S. C. Endres, C. Sandrock, W. W. Focke, "A simplicial homology algorithm for Lipschitz optimisation", J. Glob.
    Optim. 72, 181 (2018).

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    >>> optimizer = SHGOWrapper([x], search_args=dict(bounds=(-2, 2), n=64, sampling_method="sobol"))
    >>> loss = optimizer.step(lambda: (x**4 - 2 * x**2 + 0.1 * x).sum())
    >>> [(round(loss, 3), x.round(3).tolist()) for loss, x in optimizer.result.minima]
    [(-1.101, [-1.012]), (-0.901, [0.987])]
    """

    spec = GLOBAL_METHODS["shgo"]

    @shows_keywords(COMMON)
    def __init__(
        self,
        params: Any,
        minimizer_args: Any = None,
        search_args: Mapping[str, Any] | None = None,
        *,
        loss: LossOfParameters | None = None,
        **common: Unpack[SearchCommon],
    ):
        super().__init__(params, minimizer_args, search_args, loss=loss, **common)

    def _local_arguments(self, minimizer_args: Any, search_args: Any) -> Any:
        return _with_options(minimizer_args, search_args)

    def _vectorizes(self, *, possible: bool) -> bool:
        return not self._constraints

    def _disp(self) -> bool:
        return bool((self._kwargs.get("options") or {}).get("disp", False))

    def _stopping_rules(self) -> dict[str, Any] | None:
        """The options without those of the local method and of torchmin_nb."""
        passed = self._kwargs.get("options")
        return passed and {name: value for name, value in passed.items() if not SHGO_OPTIONS[name].ours}

    def _solve(self, search: Search) -> OptimizeResult:
        assert search.local is not None
        sampling = _Sampling(search)
        search.local.ended = sampling.descended
        search.local.user_callback = self._user_callback
        result = scipy.optimize.shgo(
            sampling.value,
            pairs(search.variables),
            constraints=search.constraints.for_scipy("dict", curvature=False) or None,
            minimizer_kwargs={"method": search.local, "options": {}},
            workers=sampling.together if search.vectorized else 1,
            options=self._stopping_rules(),
            **self._passed("bounds", "constraints", "callback", "options"),
        )
        result.njev, result.nhev = result.get("nljev", 0), result.get("nlhev", 0)
        return result


def _with_options(minimizer_args: Any, kwargs: Any) -> Any:
    """minimizer_args with values that SciPy's shgo accepts in its options: jac, hess and hessp, and ftol."""
    options = kwargs.get("options") if isinstance(kwargs, Mapping) else None
    if not isinstance(options, Mapping):
        return minimizer_args
    moved = {name: options[name] for name in ("jac", "hess", "hessp") if options.get(name) is not None}
    if options.get("ftol") is not None:
        moved["options"] = {"ftol": options["ftol"]}
    if not moved:
        return minimizer_args
    passed = as_arguments(minimizer_args)
    inner = {**moved.pop("options", {}), **(passed.get("options") or {})}
    return {**moved, **passed, **({"options": inner} if inner else {})}


class _Sampling:
    """shgo's samples, counted."""

    def __init__(self, search: Search):
        self._search = search
        self._sampled = 0

    def value(self, z: NDArray[np.float64]) -> float:
        assert self._search.local is not None
        self._sampled += not self._search.local.active
        return self._search.value(z)

    def together(self, function: Callable[..., float], samples: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """A stand-in for the parallel map of shgo."""
        self._sampled += len(samples)
        return self._search.values(samples)

    def descended(self, result: OptimizeResult) -> None:
        self._search.record_iteration({"candidate": float(result.fun), "sampled": float(self._sampled)})
