"""A real JupyterLab, a real Notebook 7 and a real Chromium."""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = bool(os.environ.get("TORCHMIN_NB_REQUIRE_BROWSER"))
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = Path(__file__).parent / "screenshots"
OPENINGS = int(os.environ.get("TORCHMIN_NB_OPENINGS", "0"))
"""How many openings `make proof` makes in each front end; 0 in all other runs."""
PATIENCE = 3 if OPENINGS else 1
"""How much longer than on an idle machine a test waits before it fails."""
RECORD = Path(__file__).parent / "proof.txt"
ROOT = Path(__file__).parents[2]
SERVER = f"{'' if OPENINGS else 'import tests.warm_kernels; '}from jupyterlab.labapp import main; main()"
"""JupyterLab; `make proof` opens its panels in kernels that begin with nothing imported, as those of users."""
LOADS = {
    "processor": "while True: sum(range(10**6))",
    "memory": "import numpy as np\nwhile True: np.ones(5 * 10**7).sum()",
    "disk": """
import os, sys
while True:
    with open(sys.argv[1], "wb") as file:
        for _ in range(64):
            file.write(os.urandom(2**20))
        file.flush()
        os.fsync(file.fileno())
""",
}


def pytest_collection_modifyitems(items):
    """Browser tests are skipped where there is no Chromium, unless CI demands them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None and not REQUIRED:
                item.add_marker(pytest.mark.skip(reason="no Chromium: apt-get install chromium"))


def pytest_terminal_summary(terminalreporter):
    """`make proof` keeps how each of its tests went: a line for each, which the next run of that test replaces."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    tests = defaultdict(list)
    for report in reports:
        if report.when == "call" and ("proof", True) in report.user_properties:
            tests[report.nodeid.split("::")[1].split("[")[0].removeprefix("test_")].append(report)
    if tests:
        lines = RECORD.read_text().splitlines() if RECORD.exists() else []
        kept = {line.split(": ")[0]: line for line in lines} | {name: _went(name, of) for name, of in tests.items()}
        RECORD.write_text("\n".join(kept.values()) + "\n")


def _went(name: str, reports: list) -> str:
    """Of one test: the day, how many of its cases passed, and in how many seconds; then the numbers that it noted."""
    noted = defaultdict(list, {"seconds": [report.duration for report in reports]})
    for report in reports:
        for what, value in report.user_properties:
            if what != "proof":
                noted[what].append(value)
    numbers = [f"{what} {median(values):.1f} (at most {max(values):.1f})" for what, values in noted.items()]
    passed = sum(report.passed for report in reports)
    return f"{name}: {date.today()}, {passed} of {len(reports)} passed; {', '.join(numbers)}"


@pytest.fixture
def busy_machine(tmp_path_factory, record_property) -> Iterator[None]:
    """Both cores, the memory and the disk have other work; how the test goes is kept in proof.txt."""
    record_property("proof", True)
    file = tmp_path_factory.mktemp("load") / "noise"
    loads = [subprocess.Popen([sys.executable, "-c", LOADS[what], str(file)]) for what in ("processor", *LOADS)]
    yield
    for load in loads:
        load.kill()
        load.wait()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def lab(workspace) -> Iterator[str]:
    """The address of a server of JupyterLab and Notebook 7 on `workspace`."""
    with serving(workspace) as address:
        yield address


@contextmanager
def serving(workspace: Path) -> Iterator[str]:
    """The same for a folder; docs/pictures.py uses it too."""
    _configure(workspace, "apputils-extension/notification", {"fetchNews": "false"})
    _configure(workspace, "notebook-extension/tracker", {"autoStartDefaultKernel": True})
    port = free_port()
    command = [sys.executable, "-c", SERVER, "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--IdentityProvider.token=", f"--ServerApp.root_dir={workspace}"]
    command += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
    command += ["--ServerApp.port_retries=0", "--ServerApp.disable_check_xsrf=True"]
    environment = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(workspace / ".settings")}
    with (workspace / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            _await_server(f"{address}/api/status", workspace / "server.log")
            yield address
        finally:
            server.terminate()
            server.wait(timeout=20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _configure(workspace: Path, plugin: str, values: dict[str, object]) -> None:
    """No questions asked of the person who is not there."""
    path = workspace / ".settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def _await_server(url: str, log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not answer; its log:\n{log.read_text()}")


@pytest.fixture
def page():
    """A fresh Chromium page; what it reports as errors is collected in `page.errors`."""
    with browsing() as page:
        yield page
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "last.png")


@contextmanager
def browsing(width: int = 1280, height: int = 1100, scale: float = 1.0) -> Iterator:
    """The same in this size; docs/pictures.py uses it too."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "a browser is required here and none was found"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
        yield page
        browser.close()


@pytest.fixture
def notebook(page, lab, workspace):
    """Opens a notebook of the given cells in "lab" or "notebook", and returns a driver for it. Kernels end with it."""
    yield lambda name, cells, app="lab": Notebook(page, lab, workspace / f"{name}-{app}.ipynb", cells, app)
    for kernel in json.loads(_ask(f"{lab}/api/kernels")):
        _ask(f"{lab}/api/kernels/{kernel['id']}", "DELETE")


def _ask(address: str, method: str = "GET") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=60) as answer:
        return answer.read()


ADDRESSES = {"lab": "lab/tree/{}?reset", "notebook": "notebooks/{}"}
# calcdata is what is really drawn; a curve without points has one entry that is not drawn.
POINTS = "(document.querySelector('.js-plotly-plot')?.calcdata?.[0]?.filter(p => p.x !== undefined).length ?? -1)"
WORDS = """['.js-plotly-plot .gtitle', '.tmnb-badge', '.tmnb-method', '.tmnb-verdict', '.tmnb-facts']
    .map(part => document.querySelector(part)?.textContent ?? '').join(' · ')"""
# Widgets that are made before the kernel has answered are lost to the front end.
KERNEL_ANSWERS = """async () => {
    const session = window.jupyterapp.shell.currentWidget.sessionContext;
    await session.ready;
    await session.session.kernel.info;
    await session.session.kernel.requestCommInfo({});
}"""
IDLE = ".jp-Notebook-ExecutionIndicator[data-status='idle']"
NOT_OURS = (
    "reading 'schema'",
    "registered.",
    "Failed to load resource",
    "favicon",
    "is deprecated",
    "Permissions policy",
    "MathJax",
    "mermaid",
)
"""What the front ends themselves complain of without a network."""


class Notebook:
    """One open notebook: run it, press its buttons, read its figure, save it."""

    def __init__(self, page, address: str, path: Path, cells: list[str], app: str):
        import nbformat

        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        nbformat.write(book, path)
        self.page, self.path = page, path
        self.open(f"{address}/{ADDRESSES[app].format(path.name)}")

    def open(self, address: str) -> None:
        """Go to a notebook's page, and wait for its kernel."""
        self.page.goto(address)
        self.await_ready()

    def in_another_page(self, page) -> Notebook:
        """The same notebook in another page, as it was saved."""
        other = copy.copy(self)
        other.page = page
        other.open(self.page.url)
        return other

    def reload(self) -> None:
        """What a person does with F5."""
        self.page.reload()
        self.await_ready()

    def await_ready(self) -> None:
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000 * PATIENCE)
        self.wait("window.jupyterapp?.shell?.currentWidget?.sessionContext?.isReady")
        self.page.evaluate(KERNEL_ANSWERS)
        self.page.wait_for_selector(IDLE, timeout=60_000 * PATIENCE, state="attached")

    def command(self, name: str, **arguments: object) -> None:
        """Execute a JupyterLab command without waiting for its end."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments])

    def run_all(self) -> None:
        """Run all cells; asked again where the kernel was not connected yet and the request was lost."""
        from playwright.sync_api import TimeoutError as Late

        for _ in range(10):
            self.command("notebook:run-all-cells")
            try:
                self.wait("document.querySelector('.jp-CodeCell .jp-InputPrompt').textContent !== '[ ]:'", 3)
            except Late:
                continue
            return
        raise AssertionError("the first cell never started")

    def press(self, name: str) -> None:
        """Click the button of this name, when it can be clicked."""
        self.page.get_by_role("button", name=name, exact=True).click(timeout=60_000 * PATIENCE)

    def points(self) -> int:
        """How many points the first curve in the page has; -1 where there is no figure."""
        return int(self.page.evaluate(POINTS))

    def title(self) -> str:
        """The words above the first figure: of the live panel, or of the picture that stayed."""
        return self.page.evaluate(WORDS)

    def wait(self, condition: str, seconds: float = 60) -> None:
        self.page.wait_for_function(condition, timeout=seconds * 1000 * PATIENCE)

    def wait_for_points(self, count: int, seconds: float = 60) -> None:
        self.wait(f"{POINTS} >= {count}", seconds)

    def wait_for_exactly(self, count: int, seconds: float = 60) -> None:
        self.wait(f"{POINTS} === {count}", seconds)

    def wait_for_title(self, text: str, seconds: float = 60) -> None:
        self.wait(f"({WORDS}).includes({text!r})", seconds)

    def wait_idle(self, seconds: float = 120) -> None:
        """Until no cell is waiting or running."""
        self.wait(
            "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every(p => !p.textContent.includes('*'))",
            seconds,
        )

    def await_picture(self) -> None:
        """JupyterLab adds its picture to the outputs shortly after it has drawn them."""
        self.page.wait_for_timeout(1500)

    def save(self) -> dict:
        """Save, and return what the file then holds."""
        self.page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:save') }")
        return json.loads(self.path.read_text())

    def errors(self) -> list[str]:
        """What the page has complained of, but for what a front end says of itself."""
        return [error for error in self.page.errors if not any(known in error for known in NOT_OURS)]

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
