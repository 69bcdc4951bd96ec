"""How much memory a container leaves: its limit, less what it holds and cannot give up."""

from pathlib import Path

import pytest

from torchmin_nb.core.runtime import memory

GB = 10**9
STAT = "anon 1000\ninactive_file {}\nactive_file 5\ntotal_inactive_file {}\n"


def version_2(folder: Path, limit: str, used: str, stat: str | None) -> None:
    written(folder, {"memory.max": limit, "memory.current": used, "memory.stat": stat})


def version_1(folder: Path, limit: str, used: str, stat: str | None) -> None:
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}
    (folder / "memory").mkdir()
    written(folder / "memory", files)


def written(folder: Path, files: dict[str, str | None]) -> None:
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 GB, whose control group stands in the folder that is returned."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 70000000 kB\nMemFree: 1 kB\nMemAvailable: 62500000 kB\n")
    group = tmp_path / "cgroup"
    group.mkdir()
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CGROUP", group)
    return group


VERSIONS = pytest.mark.parametrize("write", [version_2, version_1])


@VERSIONS
@pytest.mark.parametrize(
    ("limit", "used", "cache", "left"),
    [
        (8 * GB, 3 * GB, 0, 5 * GB),
        (8 * GB, 7 * GB, 6 * GB, 7 * GB),
        (8 * GB, 8 * GB, 1, 1),
        (8 * GB, 9 * GB, 0, 0),
        (8 * GB, 1 * GB, 2 * GB, 8 * GB),
        (100 * GB, 1 * GB, 0, 64 * GB),
    ],
)
def test_the_page_cache_can_be_had(machine, write, limit, used, cache, left):
    mine, other = (cache, 0) if write is version_2 else (7, cache)
    write(machine, f"{limit}\n", f"{used}\n", STAT.format(mine, other))
    assert memory.available_bytes() == left


@VERSIONS
@pytest.mark.parametrize(
    "stat", [None, "", "anon 5\n", "inactive_file\ntotal_inactive_file\n", "\n\ninactive_file x\n"]
)
def test_without_its_size_the_page_cache_counts_as_used(machine, write, stat):
    write(machine, str(8 * GB), str(3 * GB), stat)
    assert memory.available_bytes() == 5 * GB


@VERSIONS
@pytest.mark.parametrize(("limit", "used"), [("max", str(3 * GB)), (str(2**63 - 4096), "5"), ("", "1"), ("8", "")])
def test_where_no_limit_is_known_the_system_decides(machine, write, limit, used):
    write(machine, limit, used, STAT.format(0, 0))
    assert memory.available_bytes() == 64 * GB


def test_without_a_control_group_the_system_decides(machine):
    assert memory.available_bytes() == 64 * GB


def test_the_tightest_limit_counts(machine):
    version_2(machine, str(8 * GB), str(1 * GB), None)
    version_1(machine, str(4 * GB), str(1 * GB), None)
    assert memory.available_bytes() == 3 * GB


def test_without_meminfo_the_physical_memory_counts(machine, tmp_path):
    (tmp_path / "meminfo").unlink()
    assert memory.available_bytes() > 0
