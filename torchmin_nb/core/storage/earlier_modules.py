"""Old module names, for pickles of earlier versions: an import of one finds its new module, with the old names only.

Pickles of this version name the packages (see `torchmin_nb._public`) and, for a few private classes, their modules.
After another move, add a row here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["find_earlier_modules"]

_CORE = __name__.rpartition(".storage.")[0]
_WRAPPERS = ("basinhopping", "brute", "differential_evolution", "direct", "dual_annealing", "shgo")
_MOVED: dict[str, tuple[str, ...]] = {
    "check": ("autodiff.closure_check",),
    "checkpoint": ("callbacks.checkpoint",),
    "constraints": ("objective.constraints",),
    "control": ("runtime.control",),
    "cost": ("objective.robust_loss",),
    "events": ("history.records", "history.history"),
    "functional": ("optimizers.functional",),
    "global_search": ("optimizers.global_search",),
    **{f"global_search.{name}": (f"optimizers.global_search.{name}",) for name in _WRAPPERS},
    "global_search.table": ("methods.global_search",),
    "history_file": ("callbacks.history_file",),
    "least_squares": ("optimizers.least_squares",),
    "least_squares_methods": ("methods.least_squares", "optimizers.least_squares_request"),
    "metrics": ("history.metrics",),
    "observe": ("optimizers.observe",),
    "optimizer": ("optimizers.minimize",),
    "own": ("methods.user",),
    "request": ("optimizers.request",),
    "result": ("execution.result",),
    "rows": ("history.rows",),
    "run": ("execution.run",),
    "tensorboard": ("callbacks.tensorboard",),
    "uncertainty": ("covariance.covariance",),
}
"""Modules of `torchmin_nb.core` by their earlier name. `methods` is a package now, and has these names."""
_RENAMED = {"result": {"Story": "RunSummary"}}
"""Renamed objects: for each earlier module, the earlier and the present names."""


class _EarlierModules(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.removeprefix(f"{_CORE}.")
        known = name in _MOVED and name != fullname
        return ModuleSpec(fullname, self, is_package=name == "global_search") if known else None

    def exec_module(self, module: ModuleType) -> None:
        earlier, names = module.__name__.removeprefix(f"{_CORE}."), vars(module)
        for name in _MOVED[earlier]:
            present_names = vars(import_module(f"{_CORE}.{name}"))
            names.update({key: value for key, value in present_names.items() if key[:2] != "__"})
        names.update({former: names[present] for former, present in _RENAMED.get(earlier, {}).items()})


def find_earlier_modules() -> None:
    """Register the finder for these modules."""
    if not any(isinstance(finder, _EarlierModules) for finder in sys.meta_path):
        sys.meta_path.append(_EarlierModules())
