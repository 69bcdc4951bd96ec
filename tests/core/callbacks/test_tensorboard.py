"""TensorBoard: the event files, read back, hold the run's columns."""

import copy
import math
import sys

import pytest
import torch

from torchmin_nb import History, Iteration, MinimizeWrapper, TensorBoard
from torchmin_nb.errors import ArgumentTypeError, StorageError, StorageWarning

pytest.importorskip("tensorboard", reason="the oldest environment has only what the core needs")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

LONG = 20.0


def scalars(folder):
    """{tag: [(step, value), ...]} of all event files in a folder."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def column(history, name, first=0):
    """What should be there of a column: float32 values, nothing where nothing is reported."""
    values = history.metrics[name[8:]] if name.startswith("metrics/") else history.column(name)
    pairs = enumerate(torch.as_tensor(values, dtype=torch.float32).tolist(), first)
    return [(step, value) for step, value in pairs if not math.isnan(value)]


def fit(callbacks, method="trust-ncg"):
    """A run on Rosenbrock's function; returns its history."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = MinimizeWrapper([x], method, callbacks=callbacks, max_evaluations=30)

    def closure():
        terms = torch.stack([(1 - x[0]) ** 2, 100 * (x[1] - x[0] ** 2) ** 2])
        optimizer.record(valley=terms[1])
        return terms.sum()

    optimizer.step(closure)
    return optimizer.history


@pytest.mark.parametrize(
    ("method", "reported"),
    [
        ("trust-ncg", {"grad_norm", "grad_norm_inf", "trust_radius", "reduction_ratio"}),
        ("BFGS", {"grad_norm", "grad_norm_inf"}),
        ("Nelder-Mead", set()),
    ],
)
def test_the_columns_of_a_run_are_in_its_event_file(method, reported, tmp_path):
    history = fit(TensorBoard(tmp_path / "runs" / "fit"), method)
    found = scalars(tmp_path / "runs" / "fit" / f"1-{method}")
    assert set(found) == {"loss", "step_norm", "nfev", "metrics/valley"} | reported
    for tag, pairs in found.items():
        assert pairs == column(history, tag), tag
    assert len(found["loss"]) == len(history) > 5


def test_each_run_has_a_folder_of_its_own(tmp_path):
    (tmp_path / "7-old").mkdir()
    (tmp_path / "notes").mkdir()
    board = TensorBoard(str(tmp_path), prefix="fit/")
    histories = [fit(board), fit(board, "CG"), fit(TensorBoard(tmp_path, prefix="fit/"), "CG")]
    for folder, history in zip(["8-trust-ncg", "9-CG", "10-CG"], histories, strict=True):
        assert scalars(tmp_path / folder)["fit/loss"] == column(history, "loss")


def test_a_method_of_any_name_has_a_folder(tmp_path):
    for name in ("<lambda>", "a/b", ""):
        TensorBoard(tmp_path).on_start(History(name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-_lambda_", "2-a_b", "3-run"]


def test_a_writer_of_the_users_goes_on_and_stays_open(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        board = TensorBoard(writer)
        first = fit(board)
        assert scalars(tmp_path)["loss"] == column(first, "loss")  # flushed
        second = fit(board, "BFGS")
        writer.add_scalar("mine", 1.0, 0)
    found = scalars(tmp_path)
    assert found["loss"] == column(first, "loss") + column(second, "loss", len(first))
    assert found["mine"] == [(0, 1.0)]


def test_its_own_writer_is_closed_at_the_end(tmp_path):
    board = TensorBoard(tmp_path)
    board.on_start(History("BFGS"))
    board(Iteration(0, 1.0))
    writer = board._writer
    assert writer.file_writer is not None
    assert copy.deepcopy(board)._writer is None
    board.on_end(History("BFGS"))
    assert (writer.file_writer, writer.all_writers, board._writer) == (None, None, None)


def test_a_stored_history_can_be_replayed(tmp_path):
    history = History("Powell")
    board = TensorBoard(tmp_path)
    board.on_start(history)
    for index in range(3):
        history.append(Iteration(index, math.inf if index == 1 else 1.0 / (index + 1)))
        board(history[-1])
    board.on_end(history)
    assert scalars(tmp_path / "1-Powell")["loss"] == [(0, 1.0), (1, math.inf), (2, pytest.approx(1 / 3))]


def test_a_writer_that_fails_is_dropped_with_one_warning():
    class Broken:
        calls = 0

        def add_scalar(self, tag, value, step):
            self.calls += 1
            if step == 3:
                raise OSError(28, "No space left on device")

    broken = Broken()
    with pytest.warns(StorageWarning, match="TensorBoard writer was dropped, the run continues: OSError") as warned:
        history = fit(TensorBoard(broken))
    assert (len(warned), len(history) > 5) == (1, True)
    board = TensorBoard(broken)
    board.on_start(history)
    board(history[0])  # a further run tries again
    assert broken.calls > 3


def test_without_the_package_a_folder_is_refused_with_the_remedy(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard" or "utils.tensorboard" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="TensorBoard needs the package tensorboard: pip install tensorboard"):
        TensorBoard(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    fit(TensorBoard(type("Writer", (), {"add_scalar": lambda *_: None})()))


def test_what_is_no_target_is_refused(tmp_path):
    with pytest.raises(ArgumentTypeError, match="takes a folder or a SummaryWriter, got int"):
        TensorBoard(3)
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(StorageError, match="cannot be written"):
            TensorBoard(wrong)
