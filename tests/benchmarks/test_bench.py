"""The benchmark script runs; what it measures is for people to read."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.on_device import inner_table

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_a_section_prints_its_table():
    """The smallest section, which needs no peer."""
    command = [sys.executable, "-m", "tests.benchmarks.bench", "--quick", "--only", "hessian"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "torch.func.hessian" in run.stdout
    assert " 1.00" in run.stdout


def test_peers_that_are_missing_are_named():
    """Blocks the peers' imports and compares on a handful of iterations."""
    code = """
import sys
sys.modules["torchmin"] = sys.modules["autograd_minimize"] = None
from tests.benchmarks.measure import compare, show
from tests.benchmarks.problems import mlp
show("small", compare(mlp((4, 3, 2), 10), "L-BFGS", 3, 1))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "torch.optim.LBFGS" in run.stdout
    assert "autograd-minimize: not installed" in run.stdout


def test_engines_are_compared_without_their_closure_calls():
    assert re.fullmatch(r"BFGS, 940 .* SciPy [\d.]+ ms, on the device [\d.]+ ms; ratio \d+, .*", inner_table(1, 0.1))
