"""What SECURITY.md says of files from others: reading them runs no code."""

import pickle
import re
import sys
from pathlib import Path

import pytest
import torch

import torchmin_nb
from torchmin_nb import Checkpoint, History, HistoryFile, RunStore
from torchmin_nb.errors import HistoryError, StorageError, StorageWarning

PACKAGE = Path(torchmin_nb.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
PIPES = {"core/batches/ranks.py", "core/runtime/packing.py", "core/runtime/processes.py", "core/runtime/worker.py"}
"""What reads pickles: those of the run's own processes and ranks."""


class Hostile:
    """Its pickle runs code when it is read."""

    def __reduce__(self):
        return exec, ("import sys; sys.hostile = True",)


@pytest.fixture
def path(tmp_path):
    """A file of a stranger, whose code must not have run when the test ends."""
    yield tmp_path / "file.jsonl"
    assert not vars(sys).pop("hostile", False)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_checkpoint_runs_no_code(path, write):
    write({"format": "torchmin_nb checkpoint 1", "parameters": [Hostile()]}, path)
    with pytest.raises(StorageError):
        Checkpoint.load(path)


@pytest.mark.parametrize("read", [History.from_json, HistoryFile.read])
def test_a_history_runs_no_code(path, read):
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises((HistoryError, StorageError)):
        read(path)


def test_a_store_runs_no_code(path):
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.warns(StorageWarning):
        assert RunStore(path.parent).runs == []


def test_pickles_are_read_only_from_the_runs_own_processes():
    readers = {name for name, text in SOURCES.items() if re.search(r"pickle\.(load|Unpickler)|marshal|shelve", text)}
    assert readers == PIPES


def test_torch_reads_only_tensors_and_plain_types():
    calls = [call for text in SOURCES.values() for call in re.findall(r"(?<!`)\btorch\.load\((?!weights)[^\n]*", text)]
    assert len(calls) == 2
    assert all("weights_only=True" in call for call in calls)


def test_no_text_is_executed():
    """Of files, of fields of a panel, of names."""
    assert [name for name, text in SOURCES.items() if re.search(r"(?<![\w.])(eval|exec)\(", text)] == []
