# Everything that is done with a checkout. Each target makes the environment in .venv itself when it is missing or out of date.

PYTHON ?= python3
WORKERS ?= 3
SCHEDULES ?= 1000

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PRODUCT := $(VENV)/.product
DOCS := $(VENV)/.docs
PRISM := .prism/5.14.2

.DEFAULT_GOAL := help
.PHONY: help demo test prism taps check lint types format docs man dist bench bench-quick bench-peers chaos clean

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

docs: $(DOCS)  ## the docs as a site, in site/: python3 -m http.server -d site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

man: $(INSTALLED)  ## the man page, from what --help says
	$(BIN)/python -m handbook.man > docs/syncd.1

# The wheel is made of the unpacked sdist, and lives in an environment that has nothing else: what one of them lacks is missed.
dist: $(INSTALLED)  ## the sdist and the wheel, in dist/, and whether what they install works
	@rm -rf dist && $(BIN)/python -m build
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; $(PYTHON) -m venv "$$folder"; \
		"$$folder/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl; cd "$$folder"; \
		bin/syncd --version; bin/syncd demo --help >/dev/null; bin/syncd connectors >/dev/null; bin/syncd demo --folder demo >/dev/null; \
		test -s share/man/man1/syncd.1; echo "What dist/ installs works."

bench: $(INSTALLED)  ## speed and memory at size (minutes)
	$(BIN)/python bench/main_job.py 20_000 100_000 1_000_000
	$(BIN)/python bench/latency.py
	$(BIN)/python bench/rate_limit.py
	$(BIN)/python bench/read_web_apis.py

bench-quick: $(INSTALLED)  ## whether the main job has become slower than the committed figures (two minutes)
	$(BIN)/python bench/quick.py

bench-peers: $(INSTALLED)  ## the same work done by other tools, which get an environment of their own in .peers (ten minutes)
	$(BIN)/python bench/peers.py

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
	rm -rf $(VENV) .prism .taps .peers build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
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
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,alerts,sql,parquet,remote]'
	@touch $@

# Apart from what the tests need: its icons alone are a hundred megabytes.
$(DOCS): $(INSTALLED)
	@echo "Installing what the docs need (half a minute the first time) ..." >&2
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@
