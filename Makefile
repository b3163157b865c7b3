# Everything that is done with a checkout. Each target makes the environment in .venv itself when it is missing or out of date.

PYTHON ?= python3
WORKERS ?= 2
SCHEDULES ?= 1000

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PRODUCT := $(VENV)/.product
PRISM := .prism/5.14.2

.DEFAULT_GOAL := help
.PHONY: help demo test prism taps check lint types format bench bench-quick chaos clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: $(PRODUCT)  ## the whole story in a temporary folder, with the sandbox: nothing leaves this machine
	@$(BIN)/syncd demo

test: $(INSTALLED)  ## all tests
	$(BIN)/pytest -n $(WORKERS)

prism: $(PRISM)  ## a server that checks requests against the CRMs' API descriptions, for the tests (needs npm)

check: lint types test  ## what must be green before a commit

lint: $(INSTALLED)  ## style and likely mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)  ## strict type checking
	$(BIN)/mypy

format: $(INSTALLED)  ## put the code into its one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## speed and memory at size (minutes)
	$(BIN)/python bench/main_job.py 20_000 100_000 1_000_000
	$(BIN)/python bench/latency.py
	$(BIN)/python bench/rate_limit.py
	$(BIN)/python bench/read_web_apis.py

bench-quick: $(INSTALLED)  ## whether the main job has become slower than the committed figures (two minutes)
	$(BIN)/python bench/quick.py

chaos: $(INSTALLED)  ## random worlds against the whole product: crashes, lost answers, people, operators, full disks, SIGKILL (an hour)
	PYTHONPATH=tests $(BIN)/python -m world 1 $(SCHEDULES)
	PYTHONPATH=tests $(BIN)/python -m world --kill 1 $(SCHEDULES)
	HYPOTHESIS_PROFILE=chaos EXAMPLES=$(SCHEDULES) $(BIN)/pytest tests/test_machine.py -k random

# Each tap has an environment of its own, as its users are told to make it.
taps: $(INSTALLED)  ## two real Singer taps from PyPI, against PostgreSQL and MariaDB on this machine (minutes)
	@set -e; for tap in meltanolabs-tap-postgres==0.10.0 pipelinewise-tap-mysql==1.6.0; do \
		folder=.taps/$${tap%%==*}; echo "Installing $$tap in $$folder ..." >&2; $(PYTHON) -m venv --clear $$folder; \
		$$folder/bin/pip install --quiet --quiet --disable-pip-version-check $$tap; done
	$(BIN)/pytest -rs tests/test_singer_taps.py

clean:  ## remove the environment and everything that the tools left
	rm -rf $(VENV) .prism .taps build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The newest version needs a Node that Debian 12 and Ubuntu 24.04 do not have.
$(PRISM):
	@command -v npm >/dev/null || { echo "npm is needed to install Prism, which checks what is asked of the CRMs" \
		"(Debian, Ubuntu: the package npm). Without it, make test skips these tests." >&2; exit 1; }
	@echo "Installing Prism in .prism (half a minute) ..." >&2
	@rm -rf .prism
	@npm install --prefix .prism --no-save --no-package-lock --no-audit --no-fund --loglevel=error @stoplight/prism-cli@$(notdir $@)
	@touch $@

# The stamps are written last: an installation that broke off is done again. The demo needs less, and so waits less.
$(PRODUCT): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fluenzr-syncd needs Python 3.11 or newer, and '$(PYTHON)' is not. Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "Making the environment in $(VENV) ..." >&2; \
		$(PYTHON) -m venv --clear $(VENV) || { echo "Python's venv module is needed (Debian, Ubuntu: the package python3-venv)." >&2; exit 1; }; }
	@echo "Installing fluenzr-syncd and what it needs (a minute the first time) ..." >&2
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(INSTALLED): $(PRODUCT)
	@echo "Installing what the tests need (a minute the first time) ..." >&2
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,sql,parquet,remote]'
	@touch $@
