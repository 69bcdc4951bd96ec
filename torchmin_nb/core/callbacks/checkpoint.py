"""Checkpoint: a callback that stores parameters and history on disk, so that a run survives its kernel."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import OptimizeResult

from ...errors import ArgumentTypeError, BusyError, ParameterError, StorageError
from ..history.history import History
from ..history.records import Evaluation, Iteration
from ..optimizers.state import packed
from ..parameters.flat import FlatParameters, trainable
from ..runtime.control import UNDER_WAY
from ..storage.atomic_files import (
    as_path,
    atomic_replacement,
    open_regular_file,
    remove_stale_parts,
    require_writable,
    warn_dropped,
)
from ..validation import positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..optimizers.base import ScipyOptimizer

__all__ = ["Checkpoint", "SavedRun"]

_FORMAT = "torchmin_nb checkpoint 1"
_IDLE = 19
"""The pause after a save, in durations of that save: saving takes at most a twentieth of the time."""


@dataclass(frozen=True, eq=False)
class SavedRun:
    """What a checkpoint holds. Tensors are one for each trainable parameter, in the parameters' dtypes, on the CPU.

    Attributes
    ----------
    parameters : list of torch.Tensor
        The current iterate; of a run that has ended, the end point.
    loss : float
        The loss there.
    best : list of torch.Tensor or None
        The best point seen; None if there was none.
    best_loss : float or None
        The loss there.
    model : dict or None
        The ``state_dict`` of the model at the iterate, buffers included; None unless `Checkpoint` was given the model.
    optimizer : dict
        What ``optimizer.load_state_dict`` takes.
    history : History
        The iterations. Its ``message`` is None if the run was under way.

    See Also
    --------
    Checkpoint : saves it, and has an example.
    """

    parameters: list[torch.Tensor]
    loss: float
    best: list[torch.Tensor] | None
    best_loss: float | None
    model: dict[str, Any] | None
    optimizer: dict[str, Any]
    history: History

    def restore(self, optimizer: ScipyOptimizer, *, best: bool = False) -> None:
        """Put the parameters and the state back, so that ``optimizer.step(closure)`` continues the run.

        Buffers of a model are not among the parameters: load them with ``model.load_state_dict(saved.model)`` first.

        Parameters
        ----------
        optimizer : MinimizeWrapper, LeastSquaresWrapper or a global wrapper
            An optimizer made as the saved one was.
        best : bool, optional
            True: the best point instead of the current iterate. Default False.

        Raises
        ------
        ParameterError
            If number or shapes of the parameters differ.
        ValueError
            By torch, if the param groups differ.
        """
        values = self.best if best and self.best is not None else self.parameters
        tensors = trainable(optimizer.param_groups)
        here, there = [tuple(t.shape) for t in tensors], [tuple(value.shape) for value in values]
        if here != there:
            raise ParameterError(
                f"the checkpoint has parameters of shapes {there}, the optimizer has {here}; build the same model and "
                f"the same optimizer before loading"
            )
        optimizer.load_state_dict(self.optimizer)
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)


class Checkpoint:
    """A callback that saves parameters, best point and history while a run goes on.

    Parameters
    ----------
    path : str or path-like
        The file. It is replaced as a whole each time: neither a reader nor a kill meets half of one. A file that an
        earlier run left there is kept beside it as ``<path>.previous``.
    model : torch.nn.Module or None, optional
        Its ``state_dict`` is saved too, at the current iterate and with its buffers.
    every : float, optional
        Seconds between two saves. There is one more when the run is over. A save that takes long is made less often:
        saving takes at most a twentieth of the time. It is made at the end of an iteration or of a closure call.
        Default 30.
    clock : callable, optional
        Returns seconds; for tests.

    Attributes
    ----------
    path : Path
        The file.

    Raises
    ------
    StorageError
        Before any work: if the path cannot be written or holds something else, or if `torch.load` would refuse the
        state of the model.
    ArgumentTypeError
        If the model has no ``state_dict``.
    ArgumentError
        If `every` is not positive.

    Warns
    -----
    StorageWarning
        If the disk fails later. The checkpoint is dropped, the run goes on, and the last whole checkpoint stays.

    Notes
    -----
    A second run while the first one goes on raises BusyError.

    After the kernel has died, build model and optimizer as before. Then load the model, the optimizer and go on, as in
    the example; ``saved.restore(optimizer)`` does both without a model. The trust radius is used again if the method
    has one. What is lost, such as an inverse Hessian that SciPy gives only at the end, is named by a StartWarning.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1)
    >>> closure = lambda: (model(torch.ones(2)) - 1).square().sum()
    >>> optimizer = MinimizeWrapper(model.parameters(), "CG", callbacks=[Checkpoint("fit.pt", model)])
    >>> loss = optimizer.step(closure)
    >>> saved = Checkpoint.load("fit.pt")
    >>> saved.loss == optimizer.result.fun, [tuple(tensor.shape) for tensor in saved.parameters]
    (True, [(1, 2), (1,)])
    >>> model.load_state_dict(saved.model)
    <All keys matched successfully>
    >>> optimizer.load_state_dict(saved.optimizer)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: torch.nn.Module | None = None,
        *,
        every: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        if model is not None and not hasattr(model, "state_dict"):
            raise ArgumentTypeError(f"model must be a torch.nn.Module or None, got {type(model).__name__}")
        self.path = as_path(path)
        self.model = model
        self.every = float(positive("every", every) or 0.0)
        self._clock = clock
        self._optimizer: ScipyOptimizer | None = None
        self._history: History | None = None
        self._x: NDArray[np.float64] | None = None
        self._due = 0.0
        self._saved = False
        require_writable(self.path)
        remove_stale_parts(self.previous)
        if self.path.exists() and self.path.stat().st_size:
            self.load(self.path)
        if model is not None:
            _require_plain(model.state_dict())

    @property
    def previous(self) -> Path:
        """Where the checkpoint of an earlier run is kept."""
        return self.path.with_name(f"{self.path.name}.previous")

    def on_bind(self, optimizer: ScipyOptimizer) -> None:
        """Take the optimizer of the run that is to begin. Runs call it.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            The optimizer.

        Raises
        ------
        BusyError
            If this checkpoint keeps another run that goes on.
        StorageError
            If the file cannot be written.
        """
        if self._optimizer is not None:
            raise BusyError(f"this Checkpoint of {str(self.path)!r} is in use by a run; create one for each run")
        require_writable(self.path)
        self._optimizer, self._saved = optimizer, False

    def on_start(self, history: History) -> None:
        """Note the history; the clock begins here. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.

        Raises
        ------
        ArgumentTypeError
            If the run is not one of torchmin_nb's own wrappers.
        """
        if self._optimizer is None:
            raise ArgumentTypeError("a Checkpoint stores only runs of torchmin_nb's wrappers; else use HistoryFile")
        self._history, self._x = history, None
        self._due = self._clock() + self.every

    def __call__(self, iteration: Iteration) -> None:
        """Note the iterate, and save if it is time."""
        if self._optimizer is not None:
            self._x = _flat(self._optimizer).read()
            self._save_if_due()

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Save if it is time: an iteration can be hundreds of closure calls long. Runs call it.

        Parameters
        ----------
        evaluation : Evaluation
            The closure call.
        """
        self._save_if_due()

    def on_release(self, optimizer: ScipyOptimizer) -> None:
        """Save the end point, with the whole result. Runs call it.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            The optimizer.
        """
        try:
            if self._x is not None:
                self._x = _flat(optimizer).read()
                self._save()
        finally:
            self._forget()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SavedRun:
        """Read what was saved, by ``torch.load(path, weights_only=True)``, which runs no code of the file.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        SavedRun
            What was saved.

        Raises
        ------
        StorageError
            If the file cannot be read or is no checkpoint.
        """
        try:
            with open_regular_file(path) as file:
                stored = torch.load(file, map_location="cpu", weights_only=True)
            if stored["format"] != _FORMAT:
                raise ValueError(f"format is {stored['format']!r}, expected {_FORMAT!r}")
            fields = {name: value for name, value in stored.items() if name != "format"}
            _require_types(fields)
            return SavedRun(**fields, history=History.from_text(stored["optimizer"]["run"]["history"]))
        except Exception as error:  # torch.load raises whatever the bytes lead it to
            raise StorageError(
                f"{str(path)!r} is not a readable checkpoint: {error}; pass a file that Checkpoint wrote"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """For copies: they store nothing until they are used in a run."""
        return {**self.__dict__, "_optimizer": None, "_history": None, "_x": None}

    def _save_if_due(self) -> None:
        if self._x is not None and self._clock() >= self._due:
            self._save()

    def _save(self) -> None:
        begun = self._clock()
        try:
            state = self._state()
            self._keep_previous()
            with atomic_replacement(self.path) as file:
                torch.save(state, file)
        except Exception as error:
            self._forget()
            warn_dropped(f"the checkpoint {str(self.path)!r}", error, "the last complete one remains", stacklevel=4)
            return
        self._saved = True
        self._due = self._clock() + max(self.every, _IDLE * (self._clock() - begun))

    def _state(self) -> dict[str, Any]:
        optimizer, history, x = self._optimizer, self._history, self._x
        assert optimizer is not None
        assert history is not None
        assert x is not None
        result = _under_way(history, x) if optimizer.result is None else optimizer.result
        flat = _flat(optimizer)
        parameters = flat.scatter(x)
        best, best_loss = optimizer.best_point() or (None, None)
        return {
            "format": _FORMAT,
            "parameters": parameters,
            "loss": float(result.fun),
            "best": best,
            "best_loss": best_loss,
            "model": self.model and _model_state(self.model, flat.tensors, parameters),
            "optimizer": {**torch.optim.Optimizer.state_dict(optimizer), "run": packed(history, result)},
        }

    def _keep_previous(self) -> None:
        """Once in a run: copy the checkpoint of an earlier run before it is replaced."""
        if not self._saved and self.path.exists():
            with self.path.open("rb") as earlier, atomic_replacement(self.previous) as file:
                shutil.copyfileobj(earlier, file)

    def _forget(self) -> None:
        self._optimizer = self._history = self._x = None


def _require_types(fields: Mapping[str, Any]) -> None:
    """Raise TypeError for fields of the wrong type."""
    kinds = {"loss": float, "best_loss": float | None, "model": dict | None, "optimizer": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(fields.get(name), kind)]
    wrong += [name for name in ("parameters", "best") if not _are_tensors(fields.get(name), none=name == "best")]
    if wrong:
        raise TypeError(f"{', '.join(wrong)} have types that a checkpoint does not contain")


def _are_tensors(values: Any, *, none: bool) -> bool:
    if values is None:
        return none
    return isinstance(values, list) and all(isinstance(value, torch.Tensor) for value in values)


def _flat(optimizer: ScipyOptimizer) -> FlatParameters:
    return FlatParameters(trainable(optimizer.param_groups))


def _under_way(history: History, x: NDArray[np.float64]) -> OptimizeResult:
    """The result of a running run, at its current iterate: success is False."""
    last = history[-1]
    counts = {name: getattr(last, name) for name in ("nfev", "njev", "nhev")}
    return OptimizeResult(x=x, fun=last.loss, nit=last.index, **counts, **UNDER_WAY._asdict())


def _model_state(
    model: torch.nn.Module, tensors: Sequence[torch.Tensor], values: Sequence[torch.Tensor]
) -> dict[str, Any]:
    """The model's state_dict with the iterate written in: between iterations the parameters hold a trial."""
    iterate = {_place(tensor): value for tensor, value in zip(tensors, values, strict=True)}
    state: Mapping[str, Any] = model.state_dict()
    return {
        name: iterate.get(_place(value), value) if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    """The memory of a tensor: a state_dict has different tensor objects with the same storage."""
    return tensor.data_ptr(), tensor.device, tensor.shape, tensor.stride()


def _require_plain(state: Mapping[str, Any]) -> None:
    """Refuse entries that are not tensors and that `torch.load` with weights_only=True would refuse."""
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            continue
        stored = BytesIO()
        try:
            torch.save(value, stored)
            stored.seek(0)
            torch.load(stored, weights_only=True)
        except Exception as error:
            raise StorageError(
                f"the model's state {name!r} is {type(value).__name__}, which torch.load(weights_only=True) does not "
                f"read; return tensors and plain types from get_extra_state, or do not pass model"
            ) from error
