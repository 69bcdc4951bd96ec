"""Errors of a second closure call, explained: the first call used up a graph, an iterator or compiled code."""

from __future__ import annotations

from ...errors import ClosureError, SecondDerivativeError, text_of

__all__ = ["COMPILED", "MADE_BEFORE", "explained", "is_compiled", "is_exhausted", "repeated_call_error"]

MADE_BEFORE = (
    "the loss depends on values from before the closure call, such as a prediction made outside the closure, which do "
    "not change with the parameters: compute everything that depends on the parameters inside the closure, again in "
    "each call"
)
COMPILED = (
    "code compiled by torch.compile can be differentiated only once, and not in batches: call the original module in "
    "the closure (model._orig_mod, or the function before compilation)"
)
_USED_UP = (
    "an iterator in the closure is exhausted (StopIteration); a closure is called several times, more than once at the "
    "start, and needs the same data each time: take the batch before the closure, batch = next(iter(loader)), or loop "
    "over the whole loader inside it"
)
_AGAIN = (
    "the first closure call worked, the second call at the same parameters failed: {error}; a closure is called "
    "several times and needs the same data each time: do not read from an iterator, generator or file inside it; take "
    "the batch before the closure, batch = next(iter(loader)), or loop over the whole loader inside it"
)
_TWICE = (
    "an earlier backward() has freed the graph: the graph was made before the closure call, as by a prediction outside "
    "the closure, or backward() was called twice on it; compute everything that depends on the parameters inside the "
    "closure, again in each call, and call backward() once, on the sum of the losses"
)


def explained(error: Exception) -> Exception:
    """The error itself, or a torchmin_nb error that names the cause and the remedy."""
    if _exhausted(error):
        return _with_traceback(ClosureError(_USED_UP), error)
    if _freed(error):
        return _with_traceback(ClosureError(_TWICE), error)
    if is_compiled(error) and not isinstance(error, ClosureError):
        return _with_traceback(SecondDerivativeError(COMPILED), error)
    return error


def is_compiled(error: Exception) -> bool:
    """Whether torch refused to differentiate compiled code a second time."""
    return isinstance(error, RuntimeError) and ("aot_autograd" in text_of(error) or "donated buffer" in text_of(error))


def is_exhausted(error: Exception) -> bool:
    """Whether the closure met a graph or an iterator that an earlier call had used up."""
    return _exhausted(error) or _freed(error) or _freed(error.__cause__)


def repeated_call_error(error: Exception) -> Exception:
    """The error for a repeated call at the same point, after the first call worked."""
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
    """The error with the traceback of the old one. Raise it `from None`: torch's own advice would hide the cause."""
    return new.with_traceback(error.__traceback__)
