"""The error family. Every error derives from TorchminError and from the built-in class that fits it.

TorchminError
├── ArgumentError (ValueError)            a minimizer argument has a value that is not allowed
│   ├── UnknownMethodError
│   └── UnknownOptionError
├── ArgumentTypeError (TypeError)         an argument is of the wrong type
├── ParameterError (ValueError)           the parameters cannot be optimised
├── ClosureError (RuntimeError)           the closure's loss or gradient cannot be used
│   ├── NonFiniteStartError               the loss or the gradient is not finite at the start
│   ├── ConstantLossError                 the loss is finite but has no gradient
│   ├── InconsistentClosureError          captured and real derivatives disagree
│   └── SecondDerivativeError             an operation of the closure has no second derivative
├── NotAMinimumError (RuntimeError)       the end point is not a minimum and has no covariance
├── MemoryBudgetError (RuntimeError)      arrays of the method would not fit in memory
├── DistributedError (RuntimeError)       more than one process
├── BusyError (RuntimeError)              another run is moving the parameters, or a run would wait for itself
├── RescueError (RuntimeError)            no remedy of a diagnosis lowered the loss
├── WorkerError (RuntimeError)            an object cannot be sent to a worker process, or such a process has ended
├── HistoryError (ValueError)             a stored history that cannot be read
└── StorageError (RuntimeError)           a file that is to keep a run cannot be written, or a kept one read

Examples
--------
>>> import torch
>>> from torchmin_nb import minimize
>>> from torchmin_nb.errors import TorchminError
>>> try:
...     minimize(lambda x: (x**2).sum(), torch.ones(2), "BFGS", options=dict(gtoll=1e-9))
... except TorchminError as error:
...     print(type(error).__name__, str(error)[:26])
UnknownOptionError BFGS has no option 'gtoll'
"""

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "BusyError",
    "ClosureError",
    "ClosureWarning",
    "ConstantLossError",
    "ConvergenceWarning",
    "CovarianceWarning",
    "DistributedError",
    "HistoryError",
    "InconsistentClosureError",
    "MemoryBudgetError",
    "NonFiniteStartError",
    "NotAMinimumError",
    "ParameterError",
    "RescueError",
    "SecondDerivativeError",
    "StartWarning",
    "StorageError",
    "StorageWarning",
    "TorchminError",
    "UnknownMethodError",
    "UnknownOptionError",
    "ViewWarning",
    "WorkerError",
]


def text_of(error: BaseException) -> str:
    """The message of an exception, also where its `__str__` raises."""
    try:
        return str(error)
    except BaseException as failure:  # SystemExit too: a failing __str__ must not replace the ending of the run
        return f"(its text cannot be shown: __str__ raised {type(failure).__name__})"


def described(error: BaseException) -> str:
    """The class, the message and the notes of an exception, on one line."""
    text, notes = text_of(error), "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return type(error).__name__ + (f": {text}" if text else "") + notes


class TorchminError(Exception):
    """Base of all errors that torchmin_nb raises."""


class ArgumentError(TorchminError, ValueError):
    """A minimizer argument has a value that is not allowed."""


class UnknownMethodError(ArgumentError):
    """The method name is not one of METHODS."""


class UnknownOptionError(ArgumentError):
    """The method has no option of this name."""


class ArgumentTypeError(TorchminError, TypeError):
    """An argument is of the wrong type."""


class ParameterError(TorchminError, ValueError):
    """These parameters cannot be minimised over."""


class ClosureError(TorchminError, RuntimeError):
    """What the closure returned or left in `.grad` cannot be used."""


class NonFiniteStartError(ClosureError):
    """The loss or its gradient is NaN or infinite at the starting point."""


class ConstantLossError(ClosureError):
    """The loss is finite and no gradient comes from it.

    Parameters
    ----------
    message : str
        What is wrong, and the remedy.
    loss : float, optional
        The loss; an attribute. Default 0.
    """

    def __init__(self, message: str, loss: float = 0.0):
        super().__init__(message)
        self.loss = loss


class InconsistentClosureError(ClosureError):
    """The closure's own gradient or loss disagrees with the derivative captured from it."""


class SecondDerivativeError(ClosureError):
    """An operation inside the closure has no second derivative."""


class NotAMinimumError(TorchminError, RuntimeError):
    """The loss curves downwards at the end point, which therefore has no covariance."""


class MemoryBudgetError(TorchminError, RuntimeError):
    """The arrays of this method would not fit in memory, or not in ``memory_budget``."""


class DistributedError(TorchminError, RuntimeError):
    """The run would span more than one process."""


class BusyError(TorchminError, RuntimeError):
    """Another run is moving the same parameters, or a run is asked to wait for itself."""


class RescueError(TorchminError, RuntimeError):
    """No remedy of a diagnosis lowered the loss."""


class WorkerError(TorchminError, RuntimeError):
    """An object cannot be sent to a worker process, or a worker process has ended."""


class HistoryError(TorchminError, ValueError):
    """A stored history cannot be read."""


class StorageError(TorchminError, RuntimeError):
    """A file that is to keep a run cannot be written, or one that kept a run cannot be read."""


class ClosureWarning(UserWarning):
    """The closure works, but not as a deterministic, differentiable function of all the parameters."""


class ConvergenceWarning(UserWarning):
    """A fit did not converge, or a method reports success where it is not shown: the KKT residual is not small."""


class CovarianceWarning(UserWarning):
    """The covariance does not say all that it seems to: parameters are not determined, or lie on their bounds."""


class StartWarning(UserWarning):
    """The run does not start where, or as, it was asked to; or it ends there, and its method calls that a success."""


class StorageWarning(UserWarning):
    """What keeps the run failed and was dropped; the run goes on."""


class ViewWarning(UserWarning):
    """A view failed and was dropped; the run goes on."""
