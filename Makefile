# Each target makes the virtual environment it needs. PYTHON: any Python >= 3.11.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
# What depends on the version of SciPy; the rest of tests/core is run by `make test`.
OLDEST  = $(addprefix tests/core/,objective execution methods optimizers parameters test_endings.py test_every_method.py \
          test_loss_at_the_end.py test_methods.py test_options.py test_parity.py test_search_args.py test_status.py) \
          $(addprefix --ignore=tests/core/,execution/test_run.py optimizers/multistart optimizers/test_engine.py \
          optimizers/test_observe.py)
SYSTEM  = $(shell command -v $(PYTHON) 2>/dev/null || command -v python3.11 2>/dev/null || command -v python)

.PHONY: demo explorer test test-oldest check quick lab notebooks mutants student bench proof docs pictures dist clean

demo: $(VENV)/.ready
	$(BIN)/python -m torchmin_nb demo

# Prints the address to open. app/voila.json has the settings: a token in the address; an idle kernel whose page is closed
# ends after ten minutes.
explorer: $(VENV)-app/.ready
	JUPYTER_CONFIG_PATH=app JUPYTER_PATH=app $(VENV)-app/bin/voila app/explorer.ipynb

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/browser
	$(BIN)/python -m pytest tests/browser -n 2 --dist worksteal
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest notebooks -n 2 --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=120 -p no:cacheprovider -p tests.warm_kernels

test-oldest: $(VENV)-oldest/.ready
	$(VENV)-oldest/bin/python -m pytest $(OLDEST) -n 2 --dist loadfile

# For work on the code: of each test function one case, without those marked as slow.
quick: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/mypy
	TORCHMIN_NB_QUICK=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/browser

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(VENV)/.ready
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks

notebooks: $(VENV)/.ready
	$(BIN)/python notebooks/execute.py

mutants: $(VENV)/.ready
	$(BIN)/python -m tests.mutants.run

student: $(VENV)/.ready
	$(BIN)/python notebooks/student.py $(ID)

bench: $(VENV)-bench/.ready
	$(VENV)-bench/bin/python -m tests.benchmarks.bench

proof: $(VENV)/.ready $(VENV)-app/.ready
	$(BIN)/python -m tests.published.proof
	$(BIN)/python -m tests.published.least_squares
	TORCHMIN_NB_STUDENTS=20 $(BIN)/python -m pytest tests/exercises -n 2 --dist loadfile
	TORCHMIN_NB_PROOF=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/browser
	TORCHMIN_NB_OPENINGS=20 TORCHMIN_NB_VOILA=$(abspath $(VENV)-app/bin/voila) $(BIN)/python -m pytest tests/browser/test_panel_proof.py

# The pictures of README and documentation, from runs in a real browser.
pictures: $(VENV)/.ready
	PYTHONPATH=$(CURDIR) $(BIN)/python -m docs.pictures

# The documentation, into docs/_build/html. A warning, a broken link, a picture without words or a missing name fails it.
docs: $(VENV)-docs/.ready
	$(VENV)-docs/bin/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html
	$(VENV)-docs/bin/python docs/check.py docs/_build/html

# sdist and wheel, into dist/; then the demo and a smoke test with the wheel alone, in an empty environment.
dist: $(VENV)-dist/.ready
	$(VENV)-dist/bin/python -m tests.wheel.run

clean:
	rm -rf $(VENV) $(VENV)-app $(VENV)-oldest $(VENV)-bench $(VENV)-docs $(VENV)-dist docs/_build demo.html student dist build

$(VENV)/.ready: pyproject.toml constraints.txt
	$(SYSTEM) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebook,test]'
	touch $@

$(VENV)-app/.ready: pyproject.toml constraints.txt
	$(SYSTEM) -m venv $(VENV)-app
	$(VENV)-app/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebook,app]'
	touch $@

$(VENV)-oldest/.ready: pyproject.toml constraints-oldest.txt
	$(SYSTEM) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.' pytest pytest-timeout pytest-xdist pandas scikit-learn
	touch $@

$(VENV)-bench/.ready: pyproject.toml constraints.txt
	$(SYSTEM) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebook,bench]' pytest
	touch $@

$(VENV)-docs/.ready: pyproject.toml constraints.txt
	$(SYSTEM) -m venv $(VENV)-docs
	$(VENV)-docs/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebook,docs]'
	touch $@

$(VENV)-dist/.ready: constraints.txt
	$(SYSTEM) -m venv $(VENV)-dist
	$(VENV)-dist/bin/pip install --quiet --disable-pip-version-check -c constraints.txt build twine
	touch $@
