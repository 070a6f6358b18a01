# make demo   the whole line on a simulated sky        make test   every test but the slow ones
# Both first run `make setup`, which does nothing where nothing changed.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs

.PHONY: demo test test-slow soak lint format setup system clean

demo: setup
	$(BIN)/dhs demo --out $(OUT)

test: setup
	$(BIN)/pytest -q -n 2 --dist loadgroup -m "not slow" $(ARGS)

test-slow: setup
	$(BIN)/pytest -q -m slow $(ARGS)

soak: setup
	$(BIN)/python -m pytest -q -m slow tests/pipeline/test_kill.py tests/lensing/test_soak.py \
	  tests/evaluate/test_coverage.py --soak $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

setup: $(STAMP) system

# A failed install leaves no stamp, so that the next call tries again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "python3 -m venv failed; on Debian: apt-get install -y python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

# What the tests need of the system. Without root, tests that need it are skipped with the command.
system:
	@bash deploy/system-packages.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache
