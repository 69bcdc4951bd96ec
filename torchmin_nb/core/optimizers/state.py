"""The run in a state_dict: plain types and tensors only, so that `torch.load` reads it by default."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult

from ...errors import HistoryError, StartWarning
from ..execution.result import Result
from ..history.history import History
from ..methods.local import MethodSpec
from ..storage.atomic_files import UNREADABLE
from .request import Request

__all__ = ["continued", "packed", "unpacked"]

_PLAIN = (bool, int, float, str)
_BELOW_MAXIMUM = 0.999
"""SciPy requires an initial trust radius strictly below the largest one."""


def packed(history: History, result: OptimizeResult | None) -> dict[str, Any]:
    """A run that has ended, as plain types and tensors. `load_state_dict` of the same method continues it."""
    return {"method": history.method, "history": history.to_json(), "result": _plain_fields(result)}


def unpacked(state: Mapping[str, Any]) -> tuple[History, OptimizeResult | None]:
    """The inverse of `packed`: history and result. Raises HistoryError for other values."""
    try:
        result, stored = state["result"], state["history"]
        fields = None if result is None else {str(name): _numpy(value) for name, value in result.items()}
        history = History.from_text(stored)
        return history, None if fields is None else Result.of_run(_with_status(fields, history), history)
    except (*UNREADABLE, RuntimeError) as error:
        raise HistoryError(f"the state_dict contains no run: {error}; pass the return value of state_dict()") from error


def _with_status(fields: dict[str, Any], history: History) -> dict[str, Any]:
    """The fields of a result, with the status of the history if both are equal."""
    return {**fields, "status": history.status} if fields.get("status", -1) == history.status else fields


def continued(request: Request, history: History, result: OptimizeResult | None, *, plain: bool) -> Request:
    """The request of a run that continues where `history` ended, with its trust radius, inverse Hessian or simplex.

    plain: the same number of variables, without scale and fixed entries, so that SciPy's arrays need no conversion.
    A StartWarning names the part of the method's memory that is lost.
    """
    spec = request.spec
    options = {}
    if history.method == spec.name and result is not None:
        options = {**_radius(spec, request, history), **(_arrays(spec, result) if plain else {})}
    lost = spec.lost_state or ("" if len(options) >= len(spec.warm_start_options) else "its memory")
    if lost:
        message = f"{spec.name} continues from the loaded point without {lost}: a state_dict does not contain it"
        warnings.warn(message, StartWarning, stacklevel=4)
    return replace(request, options={**request.options, **options})


def _radius(spec: MethodSpec, request: Request, history: History) -> dict[str, float]:
    radii = history.trust_radius[np.isfinite(history.trust_radius)]
    if spec.radius_option is None or not radii.size:
        return {}
    largest = request.options.get("max_trust_radius", 1000.0) if "max_trust_radius" in spec.options else np.inf
    return {spec.radius_option: float(min(radii[-1], _BELOW_MAXIMUM * largest))}


def _arrays(spec: MethodSpec, result: OptimizeResult) -> dict[str, Any]:
    rows = [row for row in spec.warm_start_options if isinstance(result.get(row[1]), np.ndarray)]
    return {option: prepare(result[name]) for option, name, prepare in rows}


def _plain_fields(result: OptimizeResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    values = {name: _first_array(value) for name, value in result.items()}
    return {name: _tensor(value) for name, value in values.items() if isinstance(value, (*_PLAIN, np.ndarray))}


def _first_array(value: Any) -> Any:
    """Nelder-Mead's final_simplex is a pair of points and losses; the points are what continues."""
    if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
        return value[0]
    if isinstance(value, IntEnum):  # torch.load does not read classes
        return int(value)
    return value.item() if isinstance(value, np.generic) else value


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" else value


def _numpy(value: Any) -> Any:
    return value.numpy().copy() if isinstance(value, torch.Tensor) else value
