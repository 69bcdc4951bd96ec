"""Files are UTF-8 under any locale: written and read in a child process that has ASCII for its own."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

CHILD = """
import locale, sys
from pathlib import Path
import torch
from torchmin_nb import Checkpoint, History, HistoryFile, MinimizeWrapper
from torchmin_nb.explore import Call, RunTable, of_function, report_html, run
from torchmin_nb.views import convergence_figure

assert locale.getpreferredencoding(False).lower().replace("-", "") not in ("utf8",), "the locale is UTF-8"
folder = Path(sys.argv[1])
name = "f\\u00fcr \\u65e5\\u672c \\u2212 \\u03b1"
x = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
optimizer = MinimizeWrapper([x], "BFGS", callbacks=[HistoryFile(folder / "history.jsonl"), Checkpoint(folder / "c.pt")])

def closure():
    optimizer.record(**{name: 1.0})
    return (x ** 2).sum()

optimizer.step(closure)
history = optimizer.history
history.method = name
history.to_json(folder / "history.json")
history.to_csv(folder / "history.csv")
history.to_html(folder / "history.html")
history.to_html(folder / "animated.html", animate=True, title=name)
assert History.from_json(folder / "history.json") == history
assert list(HistoryFile.read(folder / "history.jsonl").metrics) == [name]
row = run(Call(of_function(lambda x: (x ** 2).sum(), [1.0], name=name), "BFGS"), name=name)
report_html(RunTable().add(row), title=name, path=folder / "report.html")
convergence_figure({name: history}, title=name).write_html(folder / "figure.html")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(folder)],
        env={**os.environ, **ascii_only, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["history.html", "animated.html", "report.html", "history.csv"])
def test_files_are_utf_8_under_an_ascii_locale(folder, name):
    assert "für 日本 − α" in (folder / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["history.json", "history.jsonl", "figure.html"])
def test_others_are_utf_8_too(folder, name):
    (folder / name).read_text(encoding="utf-8")
