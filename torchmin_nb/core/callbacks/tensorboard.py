"""TensorBoard: a callback that writes the columns of a run as scalars."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ...errors import ArgumentTypeError, StorageError
from ..history.history import History
from ..history.records import Iteration
from ..storage.atomic_files import require_writable, warn_dropped

__all__ = ["ScalarWriter", "TensorBoard"]

_SCALARS = (
    "loss",
    "grad_norm",
    "grad_norm_inf",
    "step_norm",
    "trust_radius",
    "reduction_ratio",
    "constraint_violation",
    "kkt_residual",
    "nfev",
)
_FLUSH_SECONDS = 10
_UNFIT = re.compile(r"[^\w.-]+")


class ScalarWriter(Protocol):
    """The used part of a SummaryWriter, of torch or of tensorboardX."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any: ...


class TensorBoard:
    """A callback that writes each iteration for TensorBoard; then run ``tensorboard --logdir runs``.

    Tags are the names of Iteration: loss, grad_norm, grad_norm_inf, step_norm, trust_radius, reduction_ratio,
    constraint_violation, kkt_residual and nfev, if the method reports them, and metrics/<name> for what the closure
    recorded.

    Parameters
    ----------
    target : str, path-like or SummaryWriter
        A folder, or a writer of your own. In a folder each run has a folder of its own: ``1-trust-ncg``, ``2-BFGS`` and
        so on. Its writer is flushed every 10 seconds and closed when the run is over. A writer of your own is never
        closed; a further run continues at the steps where the last one ended.
    prefix : str, optional
        Put before every tag. Default: empty.

    Attributes
    ----------
    folder : Path or None
        The folder; None with a writer of your own.

    Raises
    ------
    ImportError
        If the target is a folder and the package tensorboard is missing.
    StorageError
        If the folder cannot be written.
    ArgumentTypeError
        If the target is something else.

    Warns
    -----
    StorageWarning
        If the writer fails later. It is dropped, and the run goes on.

    Examples
    --------
    >>> class Printed:
    ...     def add_scalar(self, tag, value, step):
    ...         if tag == "fit/loss":
    ...             print(step, tag, round(value, 6))
    >>> board = TensorBoard(Printed(), prefix="fit/")
    >>> result = minimize(lambda x: 0.5 * (x**2).sum(), [2.0], "Newton-CG", callbacks=[board])
    0 fit/loss 2.0
    1 fit/loss 0.0
    2 fit/loss 0.0
    """

    def __init__(self, target: str | os.PathLike[str] | ScalarWriter, *, prefix: str = ""):
        self.folder: Path | None = None
        self.prefix = prefix
        self._writer: Any = None
        self._run_folder: Path | None = None
        self._first_step = 0
        self._dropped = False
        if isinstance(target, str | os.PathLike):
            _summary_writer()
            self.folder = Path(target).absolute()
            _make(self.folder)
        elif hasattr(target, "add_scalar"):
            self._writer = target
        else:
            raise ArgumentTypeError(f"TensorBoard takes a folder or a SummaryWriter, got {type(target).__name__}")

    def on_start(self, history: History) -> None:
        """Make the run's folder. Its writer is opened with the first iteration. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.
        """
        self._dropped = False
        if self.folder is not None:
            self._run_folder = _new_run_folder(self.folder, history.method)

    def __call__(self, iteration: Iteration) -> None:
        """Write the reported values of an iteration."""
        self._guarded(lambda: self._write(iteration))

    def on_end(self, history: History) -> None:
        """Close the writer that was opened here; flush one of your own. Runs call it.

        Parameters
        ----------
        history : History
            The history of the run.
        """
        self._guarded(self._close)
        self._first_step += len(history) if self.folder is None else 0

    def __getstate__(self) -> dict[str, Any]:
        """For copies: a writer that this callback opened is not copied."""
        return self.__dict__ if self.folder is None else {**self.__dict__, "_writer": None}

    def _write(self, iteration: Iteration) -> None:
        if self._writer is None:
            self._writer = _summary_writer()(str(self._run_folder), flush_secs=_FLUSH_SECONDS)
        for tag, value in _scalars(iteration):
            self._writer.add_scalar(f"{self.prefix}{tag}", value, self._first_step + iteration.index)

    def _close(self) -> None:
        writer = self._writer
        if self.folder is not None:
            self._writer = None
        action = getattr(writer, "flush" if self.folder is None else "close", None)
        if action is not None:
            action()

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._dropped:
            return
        try:
            action()
        except Exception as error:
            self._dropped = True
            warn_dropped("the TensorBoard writer", error, "the values that it has flushed remain", stacklevel=4)


def _scalars(iteration: Iteration) -> Iterator[tuple[str, float]]:
    """Tags and values of the reported numbers."""
    for name in _SCALARS:
        value = getattr(iteration, name)
        if value is not None:
            yield name, value
    for name, value in iteration.metrics.items():
        yield f"metrics/{name}", value


def _new_run_folder(folder: Path, method: str) -> Path:
    """The next number and the method's name. The folder is created here, so that two runs never share one."""
    try:
        taken = (re.match(r"(\d+)-", each.name) for each in folder.iterdir())
        number = max((int(match[1]) for match in taken if match), default=0)
        run = folder / f"{number + 1}-{_UNFIT.sub('_', method) or 'run'}"
        run.mkdir()
    except OSError as error:
        raise _not_writable(folder, error) from error
    return run


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise _not_writable(folder, error) from error
    require_writable(folder / "events")


def _not_writable(folder: Path, error: OSError | ValueError) -> StorageError:
    reason = getattr(error, "strerror", None) or error
    return StorageError(f"{str(folder)!r} cannot be written: {reason}; choose a folder in which files can be created")


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard needs the package tensorboard: pip install tensorboard") from error
    return SummaryWriter
