# make quickstart   set up, run the embedded default, print the path of the report
# make test         set up, run the tests
# make docs         docs/ as a site in build/site/index.html
# make faults       kill, interrupt, fill up, cut off; then compare with a run left alone
# make chaos        an hour of a run of 1,040 cells in which something dies every minute
# make crash-points disturb each file operation of a small run in turn, and go on
# make fuzz         10,000 spoiled grid files, command lines, tables, rows, task files and records
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: docs quickstart test test-fast test-slow faults chaos crash-points fuzz lint lock clean

quickstart: $(READY)
	$(VENV)/bin/python -m sweep.run grids/quickstart.yaml

test: $(READY)
	$(VENV)/bin/python -m pytest

test-fast: $(READY)
	$(VENV)/bin/python -m pytest -m "not slow and not gpu and not engine"

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -m "slow and not fault"

crash-points: $(READY)
	$(VENV)/bin/python -m tests.crash_points

faults: $(READY)
	$(VENV)/bin/python -m tests.faults

chaos: $(READY)
	$(VENV)/bin/python -m tests.faults.chaos

fuzz: $(READY)
	FUZZ_EXAMPLES=10000 $(VENV)/bin/python -m pytest tests/fuzz -n 2 --dist load --timeout 7200

docs: $(READY)
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet --strict
	@echo "build/site/index.html; with search: $(VENV)/bin/python -m http.server -b 127.0.0.1 -d build/site"

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

# No hashes in the lock file: torch==2.13.0 is one pin for the CPU build and the CUDA builds.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# Pins afresh what pyproject.toml asks for, in a new environment.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[dev,docs]'
	build/lock/bin/python -m pip freeze --exclude lr-bs-sweep | sed 's/^torch==\([0-9.]*\)+cpu/torch==\1/' > requirements.lock

clean:
	rm -rf $(VENV) build
