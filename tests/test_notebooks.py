"""The notebooks as they are stored: executed, quiet, small, and asserting what they say. `--nbval` re-runs them."""

import ast
import json
import re
from itertools import groupby
from pathlib import Path

import nbformat
import pytest

from notebooks.execute import execute
from tests.core.scipys import LEAST_SQUARES_METHODS, METHODS
from tests.links import broken_links
from torchmin_nb import GLOBAL_METHODS

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COURSE = [
    "00_index",
    "01_quickstart",
    "02_method_explorer",
    "03_reading_the_dashboard",
    "04_choosing_a_method",
    "10_gradient_free",
    "11_nelder_mead",
    "12_powell",
    "13_cobyla",
    "14_cobyqa",
    "20_first_order",
    "21_cg",
    "30_quasi_newton",
    "31_bfgs",
    "32_l_bfgs_b",
    "40_newton_and_trust_region",
    "41_newton_cg",
    "42_trust_ncg",
    "43_trust_krylov",
    "44_trust_exact",
    "45_dogleg",
    "46_tnc",
    "50_constrained",
    "51_slsqp",
    "52_trust_constr",
    "60_global_search",
    "61_basin_hopping",
    "62_dual_annealing",
    "63_differential_evolution",
    "64_shgo_direct_brute",
    "70_least_squares",
    "80_how_the_hessian_is_made",
    "81_float32_and_float64",
    "82_when_things_go_wrong",
    "90_pinn",
    "91_hessian_spectrum",
    "92_laplace",
    "93_inverse_problem",
    "94_gaussian_process",
    "95_full_batch_and_torchrun",
    "96_why_did_it_stop",
]
UNWRITTEN: set[str] = set()
"""Of COURSE, what may still be missing."""
TAUGHT = {*METHODS, *GLOBAL_METHODS, *LEAST_SQUARES_METHODS}
TIME = re.compile(r"^\*\*Time\*\* (\d+) minutes of reading · (\d+) seconds of computing\.$", re.MULTILINE)
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
    """Those of the course, and none besides; gaps between the numbers are room for more."""
    names = {path.stem for path in PATHS}
    assert names <= set(COURSE)
    assert set(COURSE) - names <= UNWRITTEN
    assert len({name[:2] for name in COURSE}) == len(COURSE)


def title(book):
    return book.cells[0].source.lstrip().splitlines()[0].removeprefix("# ")


def named(book):
    """The methods that a notebook is about: those in its title."""
    return TAUGHT & set(re.findall(r"`([^`]+)`", title(book)))


def tagged(book, tag):
    return [index for index, cell in enumerate(book.cells) if tag in cell.metadata.get("tags", [])]


def test_every_method_is_taught():
    books = [nbformat.read(path, as_version=4) for path in PATHS]
    assert set().union(*map(named, books)) == TAUGHT


def test_the_index_lists_the_course():
    """Every other notebook once, in order, under its own title."""
    text = prose(nbformat.read(ROOT / "notebooks" / "00_index.ipynb", as_version=4))
    rows = re.findall(r"^\| \[([^\]]+)\]\((\w+)\.ipynb\) \| ([^|]+) \|", text, re.MULTILINE)
    assert [stem for _, stem, _ in rows] == COURSE[1:]
    assert all(len(what) > 20 for _, _, what in rows)
    written = {path.stem for path in PATHS}
    for told, stem, _ in rows:
        if stem in written:
            assert told == title(nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4))


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
    assert book.cells[0].source.lstrip().startswith("# ")
    assert len(re.findall(r"^# ", prose(book), re.MULTILINE)) == 1


def test_it_opens_as_all_do(path, book):
    opening = book.cells[0].source
    assert title(book).startswith(f"{path.name[:2]} · ")
    assert all(f"**{words}** " in opening for words in ("You will learn", "You need"))
    assert len(TIME.findall(opening)) == 1


def test_it_closes_as_all_do(path, book):
    if path.stem == "00_index":
        return  # the table of the course is all that there is to remember
    assert book.cells[-1].cell_type == "markdown"
    closing = re.split(r"^## ", prose(book), flags=re.MULTILINE)[-1]
    assert closing.startswith("Remember\n")
    assert 1 <= len(re.findall(r"^- ", closing, re.MULTILINE)) <= 3
    last = closing.strip().split("\n\n")[-1]
    assert last.startswith("**Where next:** ")
    assert ".ipynb)" in last


def test_a_notebook_of_a_method_has_an_exercise(book):
    """A seed, a solution between its marks, and a check that asserts, in this order, in a section of their own."""
    if not named(book):
        return
    seeds = [index for index, cell in enumerate(book.cells) if re.search(r"^SEED = 0$", cell.source, re.MULTILINE)]
    solutions, checks = tagged(book, "solution"), tagged(book, "check")
    assert len(re.findall(r"^## Exercise", prose(book), re.MULTILINE)) == 1
    assert len(seeds) == 1
    assert seeds[0] < min(solutions) <= max(solutions) < max(checks)
    for index in solutions:
        assert book.cells[index].source.count("# BEGIN SOLUTION\n") == 1
        assert book.cells[index].source.rstrip().endswith("# END SOLUTION")
    assert all(asserts(book.cells[index]) for index in checks)


def test_a_notebook_of_a_method_is_live(book):
    """A run with the panel, as the last statement of a cell; its picture is stored, and the next cell checks it."""
    if not named(book):
        return
    cells = code(book)
    live = [index for index, cell in enumerate(cells) if "Dashboard(" in cell.source]
    assert live
    for index in live:
        assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in cells[index].outputs)
        assert asserts(cells[index + 1])


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
    assert set(broken_links(prose(book), path.parent, ROOT)) <= {f"{name}.ipynb" for name in UNWRITTEN}


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


@pytest.mark.slow
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
