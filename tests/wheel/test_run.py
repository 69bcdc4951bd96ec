"""What `make dist` refuses to ship."""

import pytest

from tests.wheel.run import LARGEST, mistakes, package_files

INFO = "torchmin_nb-0.1.0.dist-info/METADATA"


def test_the_files_of_the_package_are_what_a_wheel_contains():
    files = package_files()
    assert {"torchmin_nb/py.typed", "torchmin_nb/__main__.py", "torchmin_nb/views/live_panel/panel.js"} <= files
    assert {"torchmin_nb/views/live_panel/panel.css", "torchmin_nb/views/explorer/static/menu.js"} <= files
    assert not [name for name in files if name.endswith(".pyc")]
    assert list(mistakes({*files, INFO}, LARGEST)) == []


def test_a_large_wheel_is_refused():
    assert list(mistakes({*package_files(), INFO}, LARGEST + 1)) == [
        "it has 1,000,001 bytes; at most 1,000,000 are allowed"
    ]


@pytest.mark.parametrize("name", ["tests/conftest.py", "notebooks/00_index.ipynb", "torchmin_nb/old.py"])
def test_a_file_that_is_not_of_the_package_is_refused(name):
    assert list(mistakes({*package_files(), INFO, name}, LARGEST)) == [f"not of the package: {name}"]


@pytest.mark.parametrize("name", ["torchmin_nb/py.typed", "torchmin_nb/views/live_panel/panel.js"])
def test_a_file_that_is_missing_is_refused(name):
    assert list(mistakes(package_files() - {name}, LARGEST)) == [f"missing: {name}"]
