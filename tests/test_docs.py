"""README and documentation: complete, linked, with words beside pictures, and examples that run. See `make docs`."""

import inspect
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import torchmin_nb
from docs.check import mistakes
from docs.generate.pages import GENERATED, pages, write_pages
from docs.generate.reference import public_names
from tests.links import anchors, broken_links
from tests.test_docstrings import PACKAGES
from torchmin_nb import GLOBAL_METHODS, LEAST_SQUARES_METHODS, METHODS
from torchmin_nb.core.methods.tables import method_tables

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = pages()
WRITTEN = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
    for path in [*DOCS.glob("*.md"), *DOCS.glob("guide/*.md"), *DOCS.glob("migrate/*.md")]
    if path.relative_to(DOCS).as_posix() not in MADE
}
README = (ROOT / "README.md").read_text(encoding="utf-8")
WITH_EXAMPLES = {"README.md": README, **WRITTEN}
EXAMPLE = re.compile(r"(?:<!-- not run: (?P<reason>.+) -->\n)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
ROWS = {**METHODS, **LEAST_SQUARES_METHODS, **GLOBAL_METHODS}


# What is there


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_every_public_name_is_in_the_reference():
    for package in PACKAGES:
        for name in import_module(package).__all__:
            value = getattr(import_module(package), name)
            listed = f"reference/{package}.rst"
            own = [f"reference/{home}.{name}.rst" for home in PACKAGES if f"reference/{home}.{name}.rst" in MADE]
            assert f" {package}.{name}\n" in MADE[listed] if package == "torchmin_nb.errors" else own, (package, name)
            if own and not inspect.ismodule(value):
                assert re.search(rf"\.{name}>`|<{re.escape(package)}\.{name}>", MADE[listed]), (package, name)


@pytest.mark.parametrize("name", ROWS)
def test_a_method_has_a_page_with_its_options_and_its_notebook(name):
    row = ROWS[name]
    page = MADE[f"methods/{name.lower().replace('_', '-')}.md"]
    assert page.startswith(f"# {name}\n\n{row.summary}\n")
    for option in row.options.values():
        assert f"| `{option.name}` |" in page
    notebook = re.search(r"\[(\d\d) · [^\n]*\]\(\.\./course/(\w+)\.ipynb\)", page)
    if "scipy" in row.engines:
        assert f"`{name}`" in notebook[0]
        assert f"course/{notebook[2]}.ipynb" in MADE
    assert row.cost in page


def test_the_page_of_methods_shows_their_tables():
    text = MADE["methods/index.md"]
    for rows in method_tables().values():
        for name, *cells, when in rows[1:]:
            page = f"[{name}]({name.lower().replace('_', '-')}.md)"
            assert f"| {' | '.join([page, *cells])} |" in text
            assert f"- {page}: {when}" in text


def test_the_course_is_there_with_all_its_outputs():
    """Pictures keep their words, and figures their data, for figures.js."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        stored, shown = nbformat.read(path, as_version=4), nbformat.reads(MADE[f"course/{path.name}"], as_version=4)
        kept = [cell for cell in shown.cells if cell.cell_type == "code"]
        code = [cell for cell in stored.cells if cell.cell_type == "code"]
        assert [cell.source for cell in kept] == [cell.source for cell in code]
        outputs = zip((o for c in code for o in c.outputs), (o for c in kept for o in c.outputs), strict=True)
        for output, made in outputs:
            if "image/png" in output.get("data", {}):
                assert re.search(r'<img class="dark-light" alt="[^"]+" src="data:image/png', made.data["text/html"])
                figure = "application/vnd.plotly.v1+json" in output.data
                assert ('<script type="application/json">{' in made.data["text/html"]) == figure
            else:
                assert made == output


def test_the_first_page_of_the_course_leads_to_all_others():
    *_, contents = nbformat.reads(MADE["course/00_index.ipynb"], as_version=4).cells
    others = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))[1:]
    assert re.findall(r"^\d\d_\w+$", contents.source, re.MULTILINE) == others


def test_a_page_that_is_made_no_more_is_removed(tmp_path):
    for folder in GENERATED:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old.md").write_text("old")
    write_pages(tmp_path)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(MADE)


def test_public_names_lead_to_their_pages():
    known = public_names()
    assert known["MinimizeWrapper"] == "torchmin_nb.MinimizeWrapper"
    assert known["compare()"] == "torchmin_nb.compare"
    assert known["Run.branch"] == "torchmin_nb.Run.branch"
    assert "Problem" not in known  # two packages have one
    assert "run" not in known  # a word; with parentheses it is a function


# Links and pictures


@pytest.mark.parametrize("name", WRITTEN)
def test_links_of_a_page_lead_somewhere(name):
    broken = broken_links(WRITTEN[name], (DOCS / name).parent, ROOT)
    assert [link for link in broken if not is_made(name, link)] == []


def is_made(page, link):
    path = (DOCS / page).parent.joinpath(link.split("#")[0]).resolve()
    return path.is_relative_to(DOCS) and path.relative_to(DOCS).as_posix() in MADE


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_headings_that_links_name_are_there(name):
    folder = ROOT if name == "README.md" else (DOCS / name).parent
    for path, anchor in re.findall(r"\]\(([\w./-]+\.md)#([\w-]+)\)", WITH_EXAMPLES[name]):
        target = folder / path
        assert anchor in anchors(target.read_text(encoding="utf-8")), (path, anchor)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_pictures_have_words(name):
    text = WITH_EXAMPLES[name]
    assert all(len(words) > 20 for words in re.findall(r"!\[([^\]]*)\]\(", text))
    assert "<img" not in text


def test_every_page_of_the_guide_is_listed():
    text = WRITTEN["guide/index.md"]
    for path in DOCS.glob("guide/*.md"):
        if path.stem != "index":
            assert f"]({path.name}):" in text, f"add a line on {path.name}"


def test_targets_of_make_that_the_text_names_are_there():
    makefile = (ROOT / "Makefile").read_text()
    for text in WRITTEN.values():
        for target in re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


# Examples


def known_names(folder):
    """What the examples take as given: a small network, its data and its loss."""
    torch.manual_seed(0)
    inputs = torch.randn(60, 3)
    labels = inputs.sum(1).gt(0).long()
    targets = torch.nn.functional.one_hot(labels).float()
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))

    def loss_fn(predictions, wanted):
        decay = 1e-3 * sum((p**2).sum() for p in model.parameters())
        return cross_entropy(predictions, wanted) + decay

    def closure():
        model.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        return loss

    dataset = TensorDataset(inputs, labels)
    loader = DataLoader(dataset, batch_size=20)
    names = {name: getattr(torchmin_nb, name) for name in ("MinimizeWrapper",)}
    return names | dict(
        torch=torch,
        inputs=inputs,
        targets=targets,
        model=model,
        loss_fn=loss_fn,
        closure=closure,
        loader=loader,
        cross_entropy=cross_entropy,
    )


def examples(text):
    """(code, reason not to run it or None) of each block of Python."""
    return [(found["code"], found["reason"]) for found in EXAMPLE.finditer(text)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, text in WITH_EXAMPLES.items() if examples(text)])
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    """Those of a page one after another, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    names = known_names(tmp_path)
    for number, (code, reason) in enumerate(examples(WITH_EXAMPLES[name])):
        if reason is None:
            exec(compile(code, f"{name}, example {number}", "exec"), names)
        else:
            compile(code, f"{name}, example {number}", "exec")


def test_few_examples_are_not_run():
    reasons = [reason for text in WITH_EXAMPLES.values() for _, reason in examples(text) if reason]
    assert len(reasons) <= 4
    assert all(reason.startswith(("needs ", "watches ")) for reason in reasons)


@cache
def typed_readme():
    given = "from typing import Any\nmodel: Any\nclosure: Any\ninputs: Any\ntargets: Any\nloss_fn: Any\n"
    return "\n".join([given, *(code for code, reason in examples(README) if reason is None)])


@pytest.mark.slow
def test_the_readmes_examples_are_typed(tmp_path):
    path = tmp_path / "readme.py"
    path.write_text(typed_readme())
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# The check of the built site


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ('<a href="other.html#here">x</a><img alt="words" src="a.png"><a href="https://scipy.org">x</a>', None),
        ('<img alt="words" src="data:image/png;base64,AA=="><a href="#mine">x</a><p id="mine">', None),
        ('<a href="none.html">x</a>', "leads nowhere: none.html"),
        ('<a href="other.html#there">x</a>', "leads nowhere: other.html#there"),
        ('<a href="#there">x</a>', "leads nowhere: #there"),
        ('<img alt="words" src="none.png">', "leads nowhere: none.png"),
        ('<img src="a.png">', "a picture without words: a.png"),
        ('<img alt=" " src="a.png">', "a picture without words: a.png"),
        ('<script src="https://cdn.example.org/x.js"></script>', "fetched from outside: https://cdn.example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "fetched from outside: //example.org/x.css"),
    ],
)
def test_the_built_site_is_checked(tmp_path, body, mistake):
    (tmp_path / "_static").mkdir()
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "other.html").write_text('<p id="here">')
    (tmp_path / "index.html").write_text(body)
    assert list(mistakes(tmp_path)) == ([] if mistake is None else [f"index.html: {mistake}"])


def test_a_style_that_fetches_from_outside_is_found(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "site.css").write_text("@font-face { src: url('https://example.org/font.woff2') }")
    assert list(mistakes(tmp_path)) == ["site.css: fetched from outside: https://example.org/font.woff2"]
