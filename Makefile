# `make` lists what there is. Every target makes .venv and installs what it needs there, once.
#
#   PYTHON       the Python >= 3.12 to use; by default the first of CANDIDATES that runs
#   PIP_OPTIONS  extra options for pip, for instance a mirror or PyTorch's index of CPU builds
#   ARGS         extra arguments for the command, for instance: make test ARGS="-k units"

CANDIDATES := python3 python3.14 python3.13 python3.12
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PIP_OPTIONS ?=
ARGS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL: # two pips must not write one .venv, and the tests share out the cores themselves
.PHONY: help demo test serve lab report lint clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16
	@echo
	@echo 'PYTHON=..., PIP_OPTIONS="..." and ARGS="..." may follow any of them: see the head of Makefile.'

demo: $(VENV)/.demo ## train three arms on three cases, print the table, write report.html
	$(BIN)/mfbench demo $(ARGS)

test: $(VENV)/.test ## run the tests
	$(BIN)/python -m pytest -n 2 $(ARGS)

serve: $(VENV)/.serve ## open the dashboards
	$(BIN)/mfbench serve $(ARGS)

lab: $(VENV)/.lab ## open the tutorials in JupyterLab
	$(BIN)/jupyter lab notebooks/ $(ARGS)

report: $(VENV)/.demo ## rewrite report.html from the runs there are
	$(BIN)/mfbench report $(ARGS)

lint: $(VENV)/.test ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove .venv, caches and build outputs; runs and reports stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed for a target holds what is installed for those before it: demo, serve, lab, test.
$(VENV)/.demo: EXTRAS =
$(VENV)/.demo: HOLDS = demo
$(VENV)/.serve: EXTRAS = [dashboards]
$(VENV)/.serve: HOLDS = demo serve
$(VENV)/.lab: EXTRAS = [dashboards,notebooks]
$(VENV)/.lab: HOLDS = demo serve lab
$(VENV)/.test: EXTRAS = [dev]
$(VENV)/.test: HOLDS = demo serve lab test

$(addprefix $(VENV)/.,demo serve lab test): pyproject.toml $(VENV)/.made
	@echo 'Installing mfbench$(EXTRAS) into $(VENV). On Linux the first time downloads about 3.3 GB (7 GB on disk),'
	@echo 'most of it the default (CUDA) build of torch; with a CPU build it is about 0.5 GB. Variable for pip:'
	@echo '  PIP_OPTIONS="--extra-index-url <URL of the CPU builds, see pytorch.org, Get Started>"'
	@echo '  PIP_OPTIONS="--index-url <URL of a mirror>"'
	@$(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) --editable '.$(EXTRAS)' || { \
	  echo >&2; \
	  echo 'pip could not install mfbench$(EXTRAS): its message is above. Common causes: no network (give a mirror' >&2; \
	  echo 'in PIP_OPTIONS), less than 12 GB of free disk, or a Python too new for torch (give an older one in PYTHON).' >&2; \
	  exit 1; }
	@touch $(addprefix $(VENV)/.,$(HOLDS))

# Runs each candidate: one that exists may still fail (a pyenv shim), be too old, or lack venv (Debian).
$(VENV)/.made:
	@tried=; bare=; \
	for python in $(or $(PYTHON),$(CANDIDATES)); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 12))' \
	    2>/dev/null) || { tried="$$tried $$python ($${version:-does not run})"; continue; }; \
	  $$python -c 'import venv, ensurepip' 2>/dev/null || { bare="$$bare $$python ($$version)"; continue; }; \
	  echo "Making $(VENV) with $$python (Python $$version)."; \
	  $$python -m venv $(VENV) || { echo "$$python could not make $(VENV): its message is above." >&2; exit 1; }; \
	  $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' && touch $@ && exit 0; \
	  echo "$(VENV) was there already, with an older Python: remove it (make clean), then call make again." >&2; exit 1; \
	done; \
	if [ -n "$$bare" ]; then \
	  echo "Found$$bare, but without the modules venv and ensurepip. On Debian or Ubuntu install the package" >&2; \
	  echo "python3-venv (or python3.12-venv and so on, of the same version), then call make again." >&2; \
	else \
	  echo "mfbench needs Python >= 3.12. Tried:$$tried" >&2; \
	  echo 'Install one, or name one: make PYTHON=/path/to/python3.12 (with the target you want).' >&2; \
	fi; exit 1
