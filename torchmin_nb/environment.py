"""What a bug report needs to know: versions, front end, devices, threads. No paths, no names of users or hosts."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import threadpoolctl
import torch

from ._version import __version__
from .core.runtime.processes import cores
from .errors import ArgumentError
from .views.frontend import front_end

__all__ = ["environment_text"]

_PACKAGES = (
    *("torch", "scipy", "numpy", "threadpoolctl", "msgspec", "cloudpickle"),
    *("plotly", "ipywidgets", "anywidget", "ipykernel", "jupyterlab"),
)


def environment_text() -> str:
    """A line for each fact: its name, then its value."""
    rows = list(_rows())
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows)


def _rows() -> Iterator[tuple[str, str]]:
    yield "torchmin_nb", __version__
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    for package in _PACKAGES:
        yield package, _version(package)
    yield "platform", platform.platform()
    yield "front end", _front_end()
    yield "CUDA", _cuda()
    yield "MPS", "available" if torch.backends.mps.is_available() else "not available"
    yield "cores", str(cores())
    yield "torch threads", str(torch.get_num_threads())
    for library in threadpoolctl.threadpool_info():
        facts = [library["internal_api"], library["version"], library.get("architecture")]
        yield f"{library['user_api']} threads", f"{library['num_threads']} ({', '.join(filter(None, facts))})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _front_end() -> str:
    try:
        return front_end()
    except ArgumentError:
        return "unknown: TORCHMIN_NB_FRONT_END has a wrong value"


def _cuda() -> str:
    built = torch.version.cuda
    if not torch.cuda.is_available():
        return "not available" + (f" (torch is built for {built})" if built else "")
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{built}: {', '.join(devices)}"
