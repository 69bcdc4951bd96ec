"""The available memory, to refuse a run before it needs too much."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["available_bytes", "readable_bytes"]

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 2**63


class _Group(NamedTuple):
    """The files of one version of Linux's control groups with the memory limit and usage of a container."""

    limit: str
    used: str
    stat: str
    inactive: str


_GROUPS = (
    _Group("memory.max", "memory.current", "memory.stat", "inactive_file"),
    _Group("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def available_bytes() -> int:
    """Memory that this process can still get: the kernel's number, bounded by the container's limit."""
    return min(_system_available(), _container_available())


def readable_bytes(size: float) -> str:
    """1536 -> '1.5 kB'."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def _system_available() -> int:
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_available() -> int:
    """The memory left below the smallest limit of a control group; very large without a limit."""
    return min((_available_in(group) for group in _GROUPS), default=_UNLIMITED)


def _available_in(group: _Group) -> int:
    """Bytes below the limit. Reclaimable page cache is counted as used, but is available, so it is added."""
    limit, used = _number(_CGROUP / group.limit), _number(_CGROUP / group.used)
    if limit is None or used is None:
        return _UNLIMITED
    reclaimable = _entry(_CGROUP / group.stat, group.inactive) or 0
    return max(0, limit - max(0, used - reclaimable))


def _number(path: Path) -> int | None:
    """The number in a file; None if the file does not exist, or contains a word such as "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _entry(path: Path, name: str) -> int | None:
    """The number for a name in a file of lines "name number"; None if there is none."""
    try:
        rows = (line.split() for line in path.read_text().splitlines())
        return next((int(row[1]) for row in rows if row[:1] == [name]), None)
    except (OSError, ValueError, IndexError):
        return None
