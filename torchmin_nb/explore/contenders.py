"""What can be compared: the methods of METHODS, by either engine, and the optimizers of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from ..core.execution.run import Run
from ..core.history.callbacks import Callback
from ..core.methods.local import METHODS, MethodSpec
from ..core.optimizers.minimize import MinimizeWrapper
from ..core.optimizers.observe import observe
from ..errors import ArgumentError, ArgumentTypeError, UnknownMethodError
from .catalogue import LOCAL, entry
from .literal import literal

__all__ = ["Contender", "Limits", "Task", "contenders"]

_ARGUMENTS = ("options", "tol", "jac", "hess", "hessp", "bounds")
_STEPS = 10**9


class Limits(NamedTuple):
    """What ends a run: closure calls, seconds."""

    evaluations: int | None
    seconds: float | None


class Task(NamedTuple):
    """What a run is given: the parameters and the loss, what ends it, and who listens."""

    parameters: Sequence[torch.Tensor]
    closure: Callable[[], Any]
    limits: Limits
    callbacks: list[Callback]


class Contender(Protocol):
    """One method with its settings."""

    @property
    def name(self) -> str:
        """The method, with its settings."""
        ...

    @property
    def products(self) -> bool:
        """Whether it uses Hessian-vector products."""
        ...

    def start(self, task: Task, *, paused: bool) -> Run:
        """Begin a run."""
        ...

    def code(self, parameters: str, steps: int) -> str:
        """Code that does it again, with its panel. parameters: code for them. steps: of the run."""
        ...


@dataclass(frozen=True)
class OwnMethod:
    """A method of METHODS. arguments: of minimizer_args; keywords: of MinimizeWrapper."""

    name: str
    arguments: Mapping[str, Any]
    keywords: Mapping[str, Any]

    @property
    def products(self) -> bool:
        """See Contender."""
        spec = entry(self.arguments["method"]).spec
        return isinstance(spec, MethodSpec) and spec.curvature != "none"

    def start(self, task: Task, *, paused: bool) -> Run:
        """See Contender."""
        optimizer = MinimizeWrapper(
            task.parameters,
            dict(self.arguments),
            callbacks=task.callbacks,
            max_evaluations=task.limits.evaluations,
            max_seconds=task.limits.seconds,
            start_check=False,
            **self.keywords,
        )
        return optimizer.start(task.closure, paused=paused)

    def code(self, parameters: str, steps: int) -> str:
        """See Contender."""
        arguments = self.arguments if len(self.arguments) > 1 else self.arguments["method"]
        parts = [parameters, literal(arguments), "callbacks=[Dashboard()]"]
        parts += [f"{name}={literal(value)}" for name, value in self.keywords.items()]
        lines = [
            "from torchmin_nb import MinimizeWrapper",
            "from torchmin_nb.views import Dashboard",
            "",
            f"optimizer = MinimizeWrapper({', '.join(parts)})",
            "optimizer.step(closure)",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class TorchOptimizer:
    """An optimizer of torch. kind: its class; keywords: of its constructor."""

    name: str
    kind: type[torch.optim.Optimizer]
    keywords: Mapping[str, Any]

    @property
    def products(self) -> bool:
        """See Contender."""
        return False

    def start(self, task: Task, *, paused: bool) -> Run:
        """See Contender."""
        optimizer = self.kind(list(task.parameters), **self.keywords)
        return observe(
            optimizer,
            task.closure,
            _STEPS,
            callbacks=task.callbacks,
            paused=paused,
            max_evaluations=task.limits.evaluations,
            max_seconds=task.limits.seconds,
        )

    def code(self, parameters: str, steps: int) -> str:
        """See Contender."""
        keywords = "".join(f", {name}={literal(value)}" for name, value in self.keywords.items())
        lines = [
            "import torch",
            "from torchmin_nb import observe",
            "from torchmin_nb.views import Dashboard",
            "",
            f"optimizer = torch.optim.{self.kind.__name__}({parameters}{keywords})",
            f"run = observe(optimizer, closure, steps={steps}, callbacks=[Dashboard()])",
            "run.wait()",
        ]
        return "\n".join(lines)


def contenders(methods: Sequence[Any]) -> list[Contender]:
    """The methods that are named, with different names. Raises ArgumentError, UnknownMethodError."""
    if isinstance(methods, str) or not methods:
        raise ArgumentError(f"methods must be a list of at least one method, such as ['L-BFGS-B']; got {methods!r}")
    found = [_read(each) for each in methods]
    for one in found:
        twins = [other for other in found if other.name == one.name]
        if len(twins) > 1:
            raise ArgumentError(f"{one.name} with the same settings is there {len(twins)} times; name it once")
    return found


def _read(given: Any) -> Contender:
    name, settings = (given, {}) if isinstance(given, str) else _pair(given)
    kind = _torch_optimizer(name)
    if kind is not None:
        return _of_torch(kind, settings)
    row = entry(name)
    if row.kind != LOCAL:
        raise ArgumentError(f"{row.name} cannot be compared on a model: {row.kind} has a wrapper of its own")
    options = {key: value for key, value in settings.items() if key in row.spec.options}
    arguments = {key: value for key, value in settings.items() if key in _ARGUMENTS}
    keywords = {key: value for key, value in settings.items() if key not in options and key not in arguments}
    options = {**arguments.pop("options", {}), **options}
    made = OwnMethod(
        _named(row.name, settings),
        {"method": row.name, **arguments, **({"options": options} if options else {})},
        keywords,
    )
    MinimizeWrapper([torch.nn.Parameter(torch.zeros(1))], dict(made.arguments), **keywords)  # refuses what is wrong
    return made


def _pair(given: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(given, tuple | list) and len(given) == 2:
        name, settings = given
        if isinstance(name, str) and isinstance(settings, Mapping):
            return name, settings
    raise ArgumentTypeError(f"a method is a name or a pair (name, dict of settings), got {given!r}")


def _torch_optimizer(name: str) -> type[torch.optim.Optimizer] | None:
    """The class for "torch.LBFGS", and for "Adam", which is no method of ours; else None."""
    prefix, dot, rest = name.partition("torch.")
    own = not dot or bool(prefix)
    kind = getattr(torch.optim, name if own else rest.removeprefix("optim."), None)
    known = isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    if known and not (own and name in METHODS):
        return kind
    if not own:
        able = sorted(each for each in torch.optim.__all__ if isinstance(getattr(torch.optim, each, None), type))
        raise UnknownMethodError(f"torch.optim has no {rest!r}; it has {', '.join(able)}")
    return None


def _of_torch(kind: type[torch.optim.Optimizer], settings: Mapping[str, Any]) -> TorchOptimizer:
    if kind is torch.optim.LBFGS:  # without a line search it diverges on most losses
        settings = {"line_search_fn": "strong_wolfe", **settings}
    try:
        kind([torch.nn.Parameter(torch.zeros(1))], **settings)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"torch.optim.{kind.__name__}: {error}") from error
    shown = {name: value for name, value in settings.items() if name != "line_search_fn"}
    return TorchOptimizer(_named(f"torch.{kind.__name__}", shown), kind, settings)


def _named(name: str, settings: Mapping[str, Any]) -> str:
    words = [str(value) if key == "engine" else f"{key}={literal(value)}" for key, value in settings.items()]
    return f"{name} ({', '.join(words)})" if words else name
