"""The examples of the guides on error bars and on curvature run, without a warning."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parent.parent / "docs" / "guide"


@pytest.mark.parametrize("name", ["error-bars", "curvature"])
def test_the_examples_run(name, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", (GUIDE / f"{name}.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), name, "exec"), {})
    assert "±" in capsys.readouterr().out
