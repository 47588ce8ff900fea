# Two commands from a bare machine (Python 3.11+, a C++ compiler, nothing else):
#   make demo    the whole chain on docs/, offline, at most 10 minutes on two cores
#   make test    the tests
# A machine with no CUDA wants the CPU build of torch; where pip would take the CUDA one:
#   make demo TORCH_INSTALL='uv pip install --python .venv/bin/python --torch-backend cpu torch==2.13.0'

PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.ready
# torch comes first and by itself: every range below is then satisfied by this build.
TORCH_INSTALL ?= $(VENV)/bin/pip install --quiet torch==2.13.0
# Two processes on two cores: each model takes one thread, or they wait for each other.
PYTEST_ARGS ?= -n 2 --dist loadfile

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint bench clean

help:
	@sed -n 's/^#   //p' Makefile

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; run: make PYTHON=python3.11" >&2; exit 3; }
	@echo "setting up $(VENV) (once; llama.cpp is compiled, some minutes)"
	$(PYTHON) -m venv $(VENV)
	$(TORCH_INSTALL)
	$(VENV)/bin/pip install --quiet -e '.[all,demo,dev]'
	@touch $@

demo: $(READY)
	@$(VENV)/bin/python scripts/demo.py

test: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(PYTEST_ARGS) -m "not slow and not gpu"

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(READY)
	@for each in bench/*.py; do echo "== $$each"; $(VENV)/bin/python $$each || exit 1; done

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
