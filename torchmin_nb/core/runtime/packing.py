"""Objects packed for another process: what they share stays shared, and what cannot be packed is named."""

from __future__ import annotations

import functools
import inspect
import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import cloudpickle

from ...errors import WorkerError, text_of

__all__ = ["Packer", "unpack"]

_DEEPEST = 12


class Packer:
    """Packs several objects into one pickle, with functions of a notebook by value.

    watched: objects; `met` is true as soon as one of them was packed.
    """

    def __init__(self, watched: Iterable[object] = ()):
        self._file = io.BytesIO()
        self._pickler = _Pickler(self._file, watched)

    @property
    def met(self) -> bool:
        """Whether one of the watched objects is in the pickle."""
        return self._pickler.met

    @property
    def data(self) -> bytes:
        """The pickle, for `unpack`."""
        return self._file.getvalue()

    def add(self, name: str, value: Any) -> None:
        """Pack an object. Raises WorkerError, which names the part of it that cannot be packed."""
        try:
            self._pickler.dump(value)
        except Exception as error:
            place, part, reason = _culprit(name, value, error)
            raise WorkerError(
                f"{name} cannot be sent to another process, because of {place}, of type {type(part).__name__}: "
                f"{type(reason).__name__}: {text_of(reason)}. Make it inside the closure, leave it out, or use "
                f"workers=1, which runs everything in this process"
            ) from error

    def add_closure(self, closure: Callable[..., Any]) -> None:
        """Pack a closure before anything else that holds the watched parameters, which it must take with it.

        Raises WorkerError if it would not: then its parameters in the other process are not the optimizer's.
        """
        self.add("the closure", closure)
        if not self.met:
            raise WorkerError(
                f"the closure does not take the optimizer's parameters with it to another process: it is a function of "
                f"the module {closure.__module__!r}, which a worker process imports anew, with new parameters. Define "
                f"the closure in the notebook or inside a function, or use workers=1"
            )


def unpack(data: bytes) -> list[Any]:
    """The objects in the order in which they were packed, new ones. Raises WorkerError if one cannot be read."""
    file = io.BytesIO(data)
    unpickler, values = pickle.Unpickler(file), []
    try:
        while file.tell() < len(data):
            values.append(unpickler.load())
    except Exception as error:
        raise WorkerError(
            f"a worker process cannot read what was sent: {type(error).__name__}: {text_of(error)}. It needs the same "
            f"packages and modules as this process"
        ) from error
    return values


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    def __init__(self, file: io.BytesIO, watched: Iterable[object]):
        super().__init__(file)
        self._watched = {id(each) for each in watched}
        self.met = False

    def persistent_id(self, value: object) -> None:
        """Called by pickle for every object; None for an ordinary one."""
        if id(value) in self._watched:
            self.met = True


def _culprit(name: str, value: Any, error: Exception) -> tuple[str, Any, Exception]:
    """Where the object is that cannot be packed, the object, and the reason."""
    place, reason, seen = name, error, {id(value)}
    for _ in range(_DEEPEST):
        refused = _first_refused(value, seen)
        if refused is None:
            break
        label, value, reason = refused
        place += label
        seen.add(id(value))
    return place, value, reason


def _first_refused(value: Any, seen: set[int]) -> tuple[str, Any, Exception] | None:
    for label, part in _parts(value):
        if id(part) not in seen:
            try:
                cloudpickle.dumps(part)
            except Exception as error:
                return label, part, error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object consists of for pickle, each with how it is reached."""
    if isinstance(value, FunctionType):
        variables = inspect.getclosurevars(value)
        yield from ((f" → {name}", part) for name, part in {**variables.nonlocals, **variables.globals}.items())
        yield from ((f" → default {part!r:.40}", part) for part in value.__defaults__ or ())
    elif isinstance(value, MethodType):
        yield " → its object", value.__self__
    elif isinstance(value, functools.partial):
        yield " → its function", value.func
        yield from ((f" → argument {index}", part) for index, part in enumerate(value.args))
        yield from ((f" → argument {name}", part) for name, part in value.keywords.items())
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r:.40}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    else:
        yield from ((f".{name}", part) for name, part in _state(value).items())


def _state(value: Any) -> Mapping[str, Any]:
    try:
        state = value.__getstate__()
    except Exception:
        state = None
    fields = state if isinstance(state, Mapping) else getattr(value, "__dict__", {})
    return {str(name): part for name, part in fields.items()}
