"""The notebooks as they are stored: executed, quiet, small, and asserting what they say. `--nbval` re-runs them."""

import ast
import json
import re
from itertools import groupby
from pathlib import Path

import nbformat
import pytest

from notebooks.execute import execute
from tests.links import broken_links

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 300_000
WIDGET = "application/vnd.jupyter.widget-view+json"
DRAWN = {"application/vnd.plotly.v1+json", "image/png", "image/svg+xml"}
LIVE = re.compile(r"\b(Dashboard|MethodExplorer)\(|\bshow\(|\.start\(")
TORCH_RANDOM = re.compile(
    r"torch\.(rand\w*|normal|bernoulli|multinomial)\(|\.(normal|uniform|random|bernoulli)_\(|DataLoader\("
    r"|\bnn\.(Linear|Bilinear|Conv\w+|RNN|LSTM|GRU|Embedding|Dropout|MultiheadAttention|Transformer\w*)\("
)
NUMPY_RANDOM = re.compile(r"default_rng\(\s*\)|np\.random\.(?!default_rng|Generator)|^\s*import random\b", re.MULTILINE)


@pytest.fixture(params=PATHS, ids=[path.stem for path in PATHS])
def path(request):
    return request.param


@pytest.fixture
def book(path):
    return nbformat.read(path, as_version=4)


def code(book):
    """The code cells that are not empty."""
    return [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]


def prose(book):
    return "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")


def outputs(book):
    return [output for cell in code(book) for output in cell.outputs]


def sections(book):
    """(heading, code cells) of each ## section that has code."""
    headings, heading = [], ""
    for cell in book.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            heading = cell.source.splitlines()[0]
        headings.append(heading)
    cells = [pair for pair in zip(headings, book.cells, strict=True) if pair[0] and pair[1].cell_type == "code"]
    return {heading: [cell for _, cell in pairs] for heading, pairs in groupby(cells, key=lambda pair: pair[0])}


def asserts(cell):
    source = "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!")))
    return any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source)))


def test_there_are_notebooks():
    assert PATHS
    assert [path.name[:3] for path in PATHS] == [f"{number:02d}_" for number in range(1, len(PATHS) + 1)]


# As stored


def test_it_is_valid(book):
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    assert set(book.metadata) <= {"kernelspec", "language_info"}


def test_it_is_stored_executed_from_top_to_bottom(book):
    assert [cell.execution_count for cell in code(book)] == list(range(1, len(code(book)) + 1))


def test_its_cells_have_stable_names(book):
    assert [cell.id for cell in book.cells] == [f"cell-{number:02d}" for number in range(len(book.cells))]


def test_it_has_no_widgets(book):
    assert "widgets" not in book.metadata
    assert not any(WIDGET in output.get("data", {}) for output in outputs(book))


def test_it_ran_without_errors_and_warnings(book):
    for output in outputs(book):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert "Warning:" not in output.get("text", "")


def test_it_is_small(path):
    assert path.stat().st_size < LARGEST


def test_it_tells_nothing_of_the_machine(path):
    """Neither folders nor moments of the machine that ran it."""
    text = path.read_text()
    assert not re.search(r"/home/|/root/|/Users/|/tmp/|[A-Z]:\\\\\\\\Users", text)
    assert "iopub.execute_input" not in text


# For those who read it


def test_it_begins_with_its_one_title(book):
    assert book.cells[0].source.startswith("# ")
    assert len(re.findall(r"^# ", prose(book), re.MULTILINE)) == 1


def test_its_pictures_have_words(book):
    for output in outputs(book):
        for kind in set(output.get("data", {})) & {"image/png", "image/svg+xml", "image/jpeg"}:
            assert output.metadata[kind]["alt"].strip()
    for image in re.findall(r"!\[([^\]]*)\]\(", prose(book)):
        assert image.strip()
    for image in re.findall(r"<img\b[^>]*>", prose(book)):
        assert re.search(r'\balt="[^"]+"', image)


def test_its_figures_have_a_picture_and_text_beside_them(book):
    for output in outputs(book):
        if "application/vnd.plotly.v1+json" in output.get("data", {}):
            assert {"image/png", "text/plain"} <= set(output.data)


def test_its_links_lead_somewhere(path, book):
    assert broken_links(prose(book), path.parent, ROOT) == []


# For those who run it again


def test_its_random_numbers_are_seeded(book):
    sources = [cell.source for cell in code(book)]
    drawing = [number for number, source in enumerate(sources) if TORCH_RANDOM.search(source)]
    seeding = [number for number, source in enumerate(sources) if "manual_seed(" in source]
    if drawing:
        assert seeding
        assert seeding[0] <= drawing[0]
    for source in sources:
        assert not NUMPY_RANDOM.search(source), source


def test_what_changes_from_run_to_run_is_not_compared(book):
    for cell in code(book):
        drawn = any(DRAWN & set(output.get("data", {})) for output in cell.outputs)
        if drawn or LIVE.search(cell.source):
            assert "nbval-ignore-output" in cell.metadata.get("tags", []), cell.source


def test_no_cell_is_skipped_or_may_fail(book):
    for cell in code(book):
        assert not {"nbval-skip", "raises-exception", "nbval-raises-exception"} & set(cell.metadata.get("tags", []))


def test_every_section_asserts_what_it_says(book):
    assert sections(book)
    for heading, cells in sections(book).items():
        assert any(asserts(cell) for cell in cells), f"{heading!r} has code and no assertion"


def test_what_is_not_compared_is_asserted_soon_after(book):
    cells = code(book)
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            assert asserts(cell) or (following is not None and asserts(following)), cell.source


# The script that stores them

PICTURE = """
from IPython.display import display
print(6 * 7)
display({"image/png": "iVBORw0K", "text/plain": "a dot"}, raw=True)
"""
WIDGET_ONLY = "import ipywidgets\nipywidgets.IntSlider()"


def test_executing_again_changes_nothing(tmp_path, capsys):
    path = tmp_path / "small.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# A title")]
    cells += [nbformat.v4.new_code_cell(source) for source in (PICTURE, WIDGET_ONLY)]
    cells[1].metadata = {"tags": ["nbval-ignore-output"], "collapsed": True, "execution": {"iopub.status.busy": "now"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"authors": []}), path)

    execute(path)
    first = path.read_text()
    execute(path)
    assert path.read_text() == first
    assert "small.ipynb: " in capsys.readouterr().out

    stored = json.loads(first)
    assert set(stored["metadata"]) == {"kernelspec", "language_info"}
    assert [cell["id"] for cell in stored["cells"]] == ["cell-00", "cell-01", "cell-02"]
    assert stored["cells"][1]["metadata"] == {"tags": ["nbval-ignore-output"]}
    printed, picture = stored["cells"][1]["outputs"]
    assert printed["text"] == ["42\n"]
    assert picture["metadata"] == {"image/png": {"alt": "a dot"}}
    assert stored["cells"][2]["outputs"] == []
