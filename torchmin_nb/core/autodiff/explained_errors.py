"""Errors that a closure's call raises for want of something that an earlier call used up, as errors of the closure."""

from __future__ import annotations

from ...errors import ClosureError, SecondDerivativeError, text_of

__all__ = ["COMPILED", "MADE_BEFORE", "explained", "is_compiled", "is_exhausted", "repeated_call_error"]

MADE_BEFORE = (
    "the loss depends on values that were computed before the closure was called, such as a prediction made outside "
    "it, which keep to the parameters of that time: compute everything that depends on the parameters inside the "
    "closure, anew at each call"
)
COMPILED = (
    "code compiled by torch.compile can be differentiated once only, and not by the row: call the module as it was "
    "before in the closure (model._orig_mod, or the function that was compiled)"
)
_USED_UP = (
    "the closure asked an iterator for more than it had (StopIteration); a closure is called several times, more than "
    "once at the start, and needs the same data each time: take the batch before it, batch = next(iter(loader)), or "
    "loop over the whole loader inside it"
)
_AGAIN = (
    "the closure could be called once, and failed when it was called again at the same parameters: {error}; a closure "
    "is called several times and needs the same data each time: let it use up no iterator, generator or file, but take "
    "the batch before it, batch = next(iter(loader)), or loop over the whole loader inside it"
)
_TWICE = (
    "backward() met a graph that an earlier backward() had freed: it was made before the closure was called, as a "
    "prediction outside it is, or backward() is called twice on it; compute everything that depends on the parameters "
    "inside the closure, anew at each call, and call backward() once, on the sum of the losses"
)


def explained(error: Exception) -> Exception:
    """The error itself, or an error of ours that names the cause and the remedy."""
    if _exhausted(error):
        return _with_traceback(ClosureError(_USED_UP), error)
    if _freed(error):
        return _with_traceback(ClosureError(_TWICE), error)
    if is_compiled(error) and not isinstance(error, ClosureError):
        return _with_traceback(SecondDerivativeError(COMPILED), error)
    return error


def is_compiled(error: Exception) -> bool:
    """Whether torch refused to differentiate compiled code once more."""
    return isinstance(error, RuntimeError) and ("aot_autograd" in text_of(error) or "donated buffer" in text_of(error))


def is_exhausted(error: Exception) -> bool:
    """Whether the closure met a graph or an iterator that an earlier call had used up."""
    return _exhausted(error) or _freed(error) or _freed(error.__cause__)


def repeated_call_error(error: Exception) -> Exception:
    """The error of another call, where the first one, at the same point, went well."""
    if _exhausted(error) or text_of(error) == _USED_UP:
        return explained(error)
    if is_exhausted(error):
        return _with_traceback(ClosureError(MADE_BEFORE), error)
    if isinstance(error, ClosureError):
        return _with_traceback(ClosureError(_AGAIN.format(error=error)), error)
    error.add_note("torchmin_nb: " + _AGAIN.format(error=type(error).__name__))
    return error


def _exhausted(error: Exception) -> bool:
    return isinstance(error, StopIteration) or isinstance(error.__cause__, StopIteration)


def _freed(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and "graph a second time" in text_of(error)


def _with_traceback(new: Exception, error: Exception) -> Exception:
    """With the traceback of the old error. Raise it `from None`: torch's own advice would hide the fault."""
    return new.with_traceback(error.__traceback__)
