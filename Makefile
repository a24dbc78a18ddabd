# Each target sets up its own virtual environment: a fresh machine needs Python 3.11 or newer, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: run test long-test vm-test lint clean

run: $(STAMP)
	$(BIN)/holdfast up $(UP)

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST)

# What takes too long for every change: needs root.
long-test: $(STAMP)
	$(BIN)/python -m tests.system.power_cuts --cuts 100 $(LONG)

# The same, in a virtual machine: also needs QEMU and mmdebstrap. It says what is missing.
vm-test: $(STAMP)
	$(BIN)/python -m tests.system.virtual_faults $(VM)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 agent rules

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# pip older than 25.1 cannot read [dependency-groups], so the environment first brings its own.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "holdfast needs Python 3.11 or newer; say which with: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "this Python has no venv module; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev --editable '.[collector,broker]'
	@touch $(STAMP)
