"""The files around the package agree with each other."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import torchmin_nb
from tests.links import broken_links

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TARGETS = [
    *("demo", "explorer", "test", "test-oldest", "lab", "check", "quick", "notebooks", "bench", "docs", "dist"),
]
DOCUMENTS = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/policy.md"]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def required(requirements):
    """The names of packages in a list of requirements."""
    return [canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements]


def pins(path):
    """{package: version} of a constraints file; each line must pin exactly."""
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    pairs = [re.fullmatch(r"([\w.-]+)==([\w.+-]+)", line) for line in lines if line]
    assert all(pairs), f"{path.name} has a line that is not name==version"
    return {canonical(pair[1]): pair[2] for pair in pairs}


def release(version):
    return tuple(int(part) for part in version.split("+")[0].split("."))


def makefile():
    """{target: recipe} of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([\w-]+):[^=\n]*\n((?:\t.*\n)*)", text, re.MULTILINE))


# Versions and extras


def test_the_version_is_written_once():
    assert importlib.metadata.version("torchmin-nb") == torchmin_nb.__version__
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    sources = [*ROOT.glob("torchmin_nb/**/*.py"), ROOT / "pyproject.toml", ROOT / "environment.yml"]
    assert [p.name for p in sources if f'"{torchmin_nb.__version__}"' in p.read_text()] == ["_version.py"]


@pytest.mark.parametrize("extra", ["", "notebook", "test", "app", "docs"])
def test_every_direct_dependency_is_pinned_within_its_range(extra):
    requirements = EXTRAS[extra] if extra else PROJECT["dependencies"]
    pinned = pins(ROOT / "constraints.txt")
    for name, requirement in zip(required(requirements), requirements, strict=True):
        lowest = re.fullmatch(r"[\w.-]+>=([\d.]+)", requirement)
        assert lowest, f"{requirement} should be a name and a lower bound"
        assert name in pinned, f"{name} is missing in constraints.txt"
        assert release(pinned[name]) >= release(lowest[1])


def test_the_tools_of_a_release_are_pinned():
    assert {"build", "twine"} <= pins(ROOT / "constraints.txt").keys()


def test_torch_is_the_build_that_the_tests_know():
    assert pins(ROOT / "constraints.txt")["torch"] == "2.13.0"
    assert pins(ROOT / "constraints-oldest.txt")["torch"] == "2.13.0"


def test_the_oldest_versions_are_the_lower_bounds():
    oldest = pins(ROOT / "constraints-oldest.txt")
    for name, requirement in zip(required(PROJECT["dependencies"]), PROJECT["dependencies"], strict=True):
        if name != "torch":  # an old torch brings gigabytes of its own CUDA
            assert release(oldest[name])[:2] == release(requirement.split(">=")[1])[:2]


def test_every_import_of_the_package_is_declared():
    declared = {*required(PROJECT["dependencies"]), *required(EXTRAS["notebook"])}
    # IPython comes with ipykernel, PIL with matplotlib
    packages = {"sklearn": "scikit-learn", "IPython": "ipykernel", "PIL": "matplotlib"}
    for path in ROOT.glob("torchmin_nb/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in {name.split(".")[0] for name in names} - __import__("sys").stdlib_module_names:
                assert canonical(packages.get(name, name)) in declared, f"{path.name} imports {name}"


def test_conda_brings_python_and_pip_the_rest():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    python = next(entry for entry in conda if entry.startswith("python"))
    assert python.startswith(f"python{PROJECT['requires-python']},<")
    assert "pip" in conda
    assert {entry.split(">")[0] for entry in conda} == {"python", "pip"}
    constraints, itself = (entry.split(maxsplit=1) for entry in pip["pip"])
    assert constraints == ["-c", "constraints.txt"]
    assert itself[0] == "-e"
    assert itself[1] == ".[notebook,test]"
    assert ".[notebook,test]" in (ROOT / "Makefile").read_text()


def test_the_typed_marker_is_packaged():
    assert (ROOT / "torchmin_nb" / "py.typed").exists()
    assert "py.typed" in (ROOT / "pyproject.toml").read_text()


# Commands


@pytest.mark.parametrize("target", TARGETS)
def test_the_makefile_has_the_target(target):
    assert makefile()[target].strip()
    assert re.search(rf"^\.PHONY:.*\b{target}\b", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_make_understands_the_target(target):
    done = subprocess.run(["make", "-n", "-C", str(ROOT), target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_what_the_makefile_runs_exists():
    recipes = "\n".join(makefile().values())
    scripts = re.findall(r"python (\S+\.py)", recipes)
    modules = [name.replace(".", "/") for name in re.findall(r"python -m ([\w.]+)", recipes)]
    assert scripts
    for path in scripts:
        assert (ROOT / path).is_file(), path
    for module in set(modules) - {"pytest", "venv"}:
        assert (ROOT / module).is_dir() or (ROOT / f"{module}.py").is_file(), module


def test_the_page_of_the_explorer_asks_for_a_token_ends_idle_kernels_and_has_a_title():
    app = ROOT / "app"
    settings = json.loads((app / "voila.json").read_text())
    assert settings["Voila"]["auto_token"]
    assert 0 < settings["MappingKernelManager"]["cull_idle_timeout"] <= 3600
    assert (app / "voila" / "templates" / settings["VoilaConfiguration"]["template"] / "index.html.j2").is_file()
    book = json.loads((app / "explorer.ipynb").read_text())
    assert book["metadata"]["title"]
    assert "".join(book["cells"][0]["source"]).startswith("# ")


def test_continuous_integration_checks_and_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line.strip() for line in script.read_text().splitlines()]
    assert commands[0].startswith("#!")
    assert "make check" in commands
    assert "make test" in commands
    assert any(command.startswith("set -e") for command in commands)


# Documents


def test_the_hooks_of_commits_are_those_of_make_check():
    """They are commands of the environment, and fetch nothing."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in repository["hooks"])
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert entries == [line.strip().removeprefix("$(BIN)/") for line in makefile()["check"].splitlines()]


def test_the_citation_has_what_its_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["message"]
    assert citation["title"] == "torchmin_nb"
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert citation["version"] == torchmin_nb.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["abstract"].startswith(PROJECT["description"].split(":")[0])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_document_is_there(name):
    assert len((ROOT / name).read_text()) > 200


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("*.md")))
def test_the_links_of_a_document_lead_somewhere(path):
    assert broken_links((ROOT / path).read_text(), ROOT, ROOT) == []


def test_the_changelog_knows_this_version():
    assert torchmin_nb.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_names_the_targets_it_has():
    targets = set(re.findall(r"`?make ([a-z][\w-]*)`?", (ROOT / "README.md").read_text()))
    assert targets <= set(makefile()) | {"sense", "sure"}
