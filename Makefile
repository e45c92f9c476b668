# `make demo` and `make test` need nothing but Python >= 3.11 and make; both build .venv first.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9

# Where this is set, every process would compile torch and diffusers anew: 12 s of CPU each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-long lint format docs lock clean

demo: .venv/.installed
	$(BIN)/imagewizard demo configs/demo.yaml

# In two processes, which share no file, so that fixtures of a module are made once; tests/conftest.py says which of
# them has the clusters.
test: .venv/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations=10

# What takes minutes: kills, many nodes, soaks.
test-long: .venv/.installed
	$(BIN)/python -m pytest -m long --timeout 1200 --numprocesses 2 --dist loadfile --durations=20

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The reference of config keys, from the classes that check them.
docs: .venv/.installed
	$(BIN)/python -m docs.generate

# uv, because pip takes many minutes over what uv installs in one.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Image Wizard needs Python 3.11 or newer; say which with make PYTHON=python3.12 …" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# Rewrites requirements.lock from pyproject.toml; commit both.
lock:
	uv pip compile --universal --generate-hashes --python-version 3.11 --group dev pyproject.toml --no-header -o requirements.lock

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
