"""The analysis computes; it brings in no drawing library, and nothing of the views."""

import subprocess
import sys
from pathlib import Path

import pytest

import torchmin_nb

pytestmark = pytest.mark.slow

FOREIGN = ("plotly", "matplotlib", "ipywidgets", "IPython", "pandas", "torchmin_nb.views")


def test_importing_the_analysis_brings_in_no_drawing():
    code = "import sys, torchmin_nb.analysis; print(*sys.modules)"
    root = Path(torchmin_nb.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    modules = done.stdout.split()
    assert "torchmin_nb.analysis.plane" in modules
    assert not [name for name in modules if name.startswith(FOREIGN)]
