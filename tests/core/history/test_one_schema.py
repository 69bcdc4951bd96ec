"""A run stored by `to_json`, HistoryFile, RunStore and Checkpoint: the same records, read by one decoder."""

import json

import msgspec
import pytest
import torch

from torchmin_nb import Checkpoint, History, HistoryFile, MinimizeWrapper, RunStore
from torchmin_nb.core.history.records import Evaluation, Iteration
from torchmin_nb.core.history.rows import stored_form


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Its history, and the parts that each of the four has stored, read as plain JSON."""
    folder = tmp_path_factory.mktemp("run")
    x = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    keepers = [HistoryFile(folder / "run.jsonl"), RunStore(folder / "runs"), Checkpoint(folder / "run.pt")]
    kept = dict(keep_parameters=True, keep_evaluations=True)
    optimizer = MinimizeWrapper([x], dict(method="trust-exact", options=dict(gtol=1e-9)), callbacks=keepers, **kept)

    def closure():
        loss = (x**4).sum()
        optimizer.record(half=loss / 2, undefined=float("nan"))
        return loss

    optimizer.step(closure)
    (stored,) = folder.glob("runs/*.jsonl")
    checkpoint = torch.load(folder / "run.pt", weights_only=True)
    return optimizer.history, {
        "to_json": json.loads(optimizer.history.to_json()),
        "Checkpoint": json.loads(checkpoint["optimizer"]["run"]["history"]),
        "HistoryFile": of_lines(folder / "run.jsonl"),
        "RunStore": of_lines(stored),
    }


def of_lines(path):
    """The parts of a file of lines under the names that they have in one text."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    parts = {**lines[0], "iterations": [], "evaluations": [], "parameters": [], "trials": []}
    names = {"iteration": "iterations", "evaluation": "evaluations", "parameters": "parameters", "trial": "trials"}
    for line in lines[1:]:
        for name in names.keys() & line.keys():
            parts[names[name]].append(line[name])
        parts.update(line.get("ending", {}))
    return {name: value for name, value in parts.items() if name not in ("run", "keep_parameters", "keep_evaluations")}


WRITERS = ["to_json", "Checkpoint", "HistoryFile", "RunStore"]


@pytest.mark.parametrize("writer", WRITERS)
def test_each_stores_the_same_parts_in_the_same_form(run, writer):
    _, stored = run
    one, other = ({**stored[name], "format": None} for name in (writer, "to_json"))
    assert one == other
    assert one["iterations"][0]["metrics"] == {"half": 48.5, "undefined": "nan"}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(("part", "kind"), [("iterations", Iteration), ("evaluations", Evaluation)])
def test_each_record_is_read_by_one_decoder(run, writer, part, kind):
    history, stored = run
    decoder = msgspec.json.Decoder(stored_form(kind))
    records = [decoder.decode(json.dumps(record)) for record in stored[writer][part]]
    rows = list(history) if kind is Iteration else history.evaluations
    assert [(record.index, record.loss) for record in records] == [(row.index, row.loss) for row in rows]
    assert len(records) > 3


@pytest.mark.parametrize("writer", WRITERS)
def test_each_is_read_as_the_history(run, writer):
    history, stored = run
    assert History.from_parts(stored[writer]) == history
