"""The command line: python -m torchmin_nb methods | demo | env."""

import getpass
import importlib.metadata
import platform
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
import threadpoolctl
import torch

from tests.hidden import Hidden
from torchmin_nb import GLOBAL_METHODS, LEAST_SQUARES_METHODS, METHODS, __version__, demo, environment
from torchmin_nb.__main__ import main
from torchmin_nb.problems.sources import mnist


def first_words(text):
    return [line.split()[0] for line in text.splitlines() if line.strip()]


@pytest.mark.slow
def test_methods_prints_every_method():
    done = subprocess.run([sys.executable, "-m", "torchmin_nb", "methods"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    blocks = done.stdout.split("\n\n")
    assert blocks[::3] == ["MinimizeWrapper", "LeastSquaresWrapper", "Global search"]
    for table, sentences, known in zip(
        blocks[1::3], blocks[2::3], (METHODS, LEAST_SQUARES_METHODS, GLOBAL_METHODS), strict=True
    ):
        assert first_words(table)[2:] == list(known)
        assert [word for word in first_words(sentences) if word in known] == list(known)


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_the_sentences_are_folded_to_the_terminal(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["methods"]) == 0
    for sentences in capsys.readouterr().out.split("\n\n")[2::3]:
        assert max(map(len, sentences.splitlines())) <= max(60, columns)


class Loaded(HTMLParser):
    """What a page asks the network for, and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.scripts, self._tag = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._tag = tag
        self.addresses += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        if self._tag == "script":
            self.scripts.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Where the demo, once run, wrote its page."""
    return tmp_path_factory.mktemp("demo") / "new folder" / "curves.html"


@pytest.fixture(scope="module")
def printed(page):
    """What the demo prints, run with two iterations a method."""
    command = [sys.executable, "-m", "torchmin_nb", "demo", "--iterations", "2", "--output", str(page)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_the_demo_prints_a_table_of_five_methods(printed, page):
    head, rule, *rows = printed.stdout.split("\n\n")[-2].strip().splitlines()
    names = ["method", "loss", "gradient norm", "iterations", "closure calls", "HVPs", "seconds", "test accuracy"]
    assert [name.strip() for name in head.split("  ") if name.strip()] == names
    assert len(rule.split()) == len(names)
    assert [row.split()[0] for row in rows] == list(demo.DEMO_METHODS)
    for row in rows:
        _, loss, gradient, iterations, calls, products, _, accuracy = row.split()
        assert 0.2 < float(loss) < 2.303
        assert float(gradient) > 0
        assert int(iterations) == 2
        assert int(calls) >= 3
        assert (int(products) > 0) == (row.startswith(("Newton", "trust")))
        assert 20 < float(accuracy.rstrip("%")) < 95
    assert printed.stdout.rstrip().endswith(f"curves: {page}")


@pytest.mark.slow
def test_the_demo_reports_progress_in_a_line_a_method(printed):
    assert first_words(printed.stderr) == list(demo.DEMO_METHODS)


@pytest.mark.slow
def test_the_page_of_the_demo_stands_alone(printed, page):
    loaded = Loaded(page.read_text())
    assert loaded.addresses == []
    assert any("plotly.js v" in script for script in loaded.scripts)
    assert all(any(f'"name":"{method}"' in script for script in loaded.scripts) for method in demo.DEMO_METHODS)


@pytest.mark.slow
def test_the_page_of_the_demo_says_what_it_shows(printed, page):
    text = page.read_text()
    assert "<h1>Handwritten digits" in text
    assert "4,000 digits to train, 1,000 to test" in text
    rows = printed.stdout.split("\n\n")[-2].strip().splitlines()[2:]
    for row in rows:  # the numbers of the table, the test accuracy too
        assert re.search("".join(f"<td[^>]*>{re.escape(cell)}</td>" for cell in row.split()), text)
    best = min(rows, key=lambda row: float(row.split()[1]))
    assert f"The lowest loss is that of {best.split()[0]}: {best.split()[1]}." in text
    assert '"label":"linear"' in text
    assert '"label":"log"' in text


@pytest.mark.parametrize("package", ["plotly", "mlxtend"])
def test_without_the_extra_the_demo_says_what_to_install(monkeypatch, capsys, tmp_path, package):
    loaded = [name for name in sys.modules if name.split(".")[0] == package]
    for name in [*loaded, "torchmin_nb.demo", "torchmin_nb.views.figures"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hidden(package), *sys.meta_path])
    mnist.cache_clear()  # an earlier test may have read the digits
    assert main(["demo", "--output", str(tmp_path / "demo.html")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install 'torchmin-nb[notebook]'" in err
    assert package in err
    assert err.count("\n") == 1


def facts(capsys):
    """[(name, value), …] that `env` prints."""
    assert main(["env"]) == 0
    return [tuple(re.split(r" {2,}", line, maxsplit=1)) for line in capsys.readouterr().out.splitlines()]


def test_env_prints_the_version_of_every_dependency_and_of_what_shows_the_panel(capsys):
    printed = dict(facts(capsys))
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    needed = [re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]]
    for package in [*needed, "plotly", "ipywidgets", "anywidget", "ipykernel", "jupyterlab"]:
        assert printed[package] == importlib.metadata.version(package)
    assert printed["torchmin_nb"] == __version__
    assert printed["python"].startswith(platform.python_version())


def test_env_says_what_is_not_installed(capsys, monkeypatch):
    def version(package):
        if package == "jupyterlab":
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(environment, "version", version)
    printed = dict(facts(capsys))
    assert printed["jupyterlab"] == "not installed"
    assert printed["ipykernel"] == "1.0"


def test_env_prints_the_threads_of_every_library(capsys):
    printed = facts(capsys)
    assert ("torch threads", str(torch.get_num_threads())) in printed
    libraries = [(name, value.split()[0]) for name, value in printed if name in ("blas threads", "openmp threads")]
    assert libraries == [
        (f"{each['user_api']} threads", str(each["num_threads"])) for each in threadpoolctl.threadpool_info()
    ]
    assert libraries


@pytest.mark.parametrize(
    ("chosen", "printed"), [(None, "terminal"), ("static", "static"), ("a wish", "unknown: TORCHMIN_NB_FRONT_END")]
)
def test_env_prints_the_front_end_and_never_fails_for_it(capsys, monkeypatch, chosen, printed):
    monkeypatch.delenv("TORCHMIN_NB_FRONT_END", raising=False)
    if chosen:
        monkeypatch.setenv("TORCHMIN_NB_FRONT_END", chosen)
    assert dict(facts(capsys))["front end"].startswith(printed)


def test_env_prints_the_devices(capsys, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    printed = dict(facts(capsys))
    assert (printed["CUDA"], printed["MPS"]) == ("12.8: Card 0, Card 1", "available")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert dict(facts(capsys))["CUDA"] == "not available (torch is built for 12.8)"


@pytest.mark.slow
def test_env_names_no_folder_no_user_and_no_host():
    done = subprocess.run([sys.executable, "-m", "torchmin_nb", "env"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not re.search(r"[/\\]", done.stdout)
    words = set(re.split(r"[^\w-]+", done.stdout))
    assert not words & {platform.node(), getpass.getuser()}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required"),
        (["fit"], "'fit'"),
        (["demo", "--iterations", "0"], "at least 1, got 0"),
        (["demo", "--iterations", "many"], "'many'"),
        (["methods", "--all"], "--all"),
    ],
)
def test_a_bad_command_ends_with_status_2_and_the_usage(capsys, arguments, complaint):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: torchmin-nb")
    assert complaint in err
