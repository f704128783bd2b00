# Everything from a bare Python 3.11 and make: `make demo`, `make test`. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Set PYTHON=/path/to/python to choose the interpreter of .venv; otherwise python3.11, then python3.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DENDRITE_VENV := .venv-dendrite
DENDRITE_REQUIREMENTS := tests/wire/requirements-dendrite.txt
DENDRITE_READY := $(DENDRITE_VENV)/.ready
BRAKET_VENV := .venv-braket
BRAKET_REQUIREMENTS := tests/doubles/requirements-braket.txt
BRAKET_READY := $(BRAKET_VENV)/.ready
PM2 := pm2@7.0.4
PM2_FOLDER := build/pm2
PM2_READY := $(PM2_FOLDER)/.ready-$(subst @,-,$(PM2))
UV := $(shell sed -n 's/.*"\(uv==[0-9.]*\)".*/\1/p' pyproject.toml)

# An environment somebody has activated must not leak into ours.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONSTARTUP VIRTUAL_ENV CONDA_PREFIX UV_PYTHON UV_PROJECT UV_EXTRA
# Set in many containers; with it hundreds of short processes, and each run of pytest, compile all they import anew.
unexport PYTHONDONTWRITEBYTECODE
export UV_PROJECT_ENVIRONMENT := $(VENV)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(READY) ## run the daemon against an embedded platform and show what happens; KEEP=1 leaves it running
	@$(BIN)/python -m qcompute.local.demo $(if $(KEEP),--keep)

# Four at a time on two cores, because many wait for processes, leases and batch systems; folders of long files first, so
# that all end at the same time (pytest-xdist would take the files with the most tests first, which are the quick ones).
# The second list measures, so nothing may run beside it. What is in neither would not be
# run: tests/test_house_rules.py sees to that.
TOGETHER := tests/crash tests/e2e tests/dashboard tests/packaging tests/hostile tests/providers tests/ledger tests/wire tests/fuzz tests/gpu tests/unit tests/docs
ALONE := tests/bench tests/live tests/test_house_rules.py

.PHONY: test
test: $(READY) $(DENDRITE_READY) $(BRAKET_READY) $(PM2_READY) ## run all tests but the live ones
	$(BIN)/python -m pytest -m "not live" --numprocesses 4 --dist loadfile --no-loadscope-reorder $(TOGETHER)
	$(BIN)/python -m pytest -m "not live" $(ALONE)

.PHONY: bench
bench: $(READY) ## measure against the reference's figures; NAME=collect runs one
	@$(BIN)/python -m tests.bench $(NAME)

.PHONY: performance
performance: $(READY) ## write docs/reference/performance.md from the last run of each benchmark
	$(BIN)/python -m tests.docs.performance

.PHONY: bench-faults
bench-faults: $(READY) $(BRAKET_READY) ## every vendor's double failing in every way: the table of outcomes; NAME=ionq runs one
	@$(BIN)/python -W ignore -m tests.bench.faults $(NAME)

.PHONY: crash
crash: $(READY) ## kill -9 at every side effect, at pairs of them, and broken surroundings: the whole table (an hour); PAIRS=100, NAME=submit, STORE=postgres
	@$(BIN)/python -m tests.crash $(if $(PAIRS),--pairs $(PAIRS)) $(if $(STORE),--store $(STORE)) $(NAME)
	@$(BIN)/python -m tests.crash.surroundings

.PHONY: hostile
hostile: $(READY) ## hostile circuits, requests and addresses against a real daemon: the whole table; NAME=ssrf runs one part
	@$(BIN)/python -m tests.hostile $(NAME)

.PHONY: fuzz
fuzz: $(READY) ## coverage-guided fuzzing of the screen, the axon's parsers and cursors, from the kept corpus; SECONDS=60 for each
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

.PHONY: reliability
reliability: $(READY) ## write docs/reference/reliability.md from what crash, hostile, fuzz and bench-faults saw
	$(BIN)/python -m tests.docs.reliability

.PHONY: live
live: $(READY) ## the adapter contract on a real account: costs money, see tests/live/test_real_account.py
	$(BIN)/python -m pytest -m live tests/live -s

.PHONY: coverage
coverage: $(READY) $(BRAKET_READY) ## branches of every adapter that its tests reach; below 95 % it fails
	@$(BIN)/python -m tests.providers.coverage

.PHONY: lint
lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(READY) ## basedpyright, strict, tests too
	$(BIN)/basedpyright

.PHONY: layers
layers: $(READY) ## import-linter: who may import whom
	$(BIN)/lint-imports

.PHONY: docs
docs: $(READY) ## write the generated pages of docs/reference anew
	$(BIN)/python -m tests.docs.generate

.PHONY: docs-check
docs-check: $(READY) ## generated pages fresh, links and make targets exist, examples of settings valid
	$(BIN)/python -m pytest -q tests/docs

.PHONY: check
check: lint types layers docs-check test ## all that CI runs

.PHONY: format
format: $(READY) ## ruff: write the format and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: install
install: $(READY) ## set up .venv and nothing else

.PHONY: dendrite-env
dendrite-env: $(DENDRITE_READY) ## set up .venv-dendrite, the old bittensor whose dendrite the wire tests use

.PHONY: braket-env
braket-env: $(BRAKET_READY) ## set up .venv-braket: Amazon's simulator and moto's S3, behind the double of Braket

POSTGRES := postgresql-15

.PHONY: postgres
postgres: ## install the system's Postgres, whose server the tests of the ledger start for themselves; needs root
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then \
	  echo "make: $(POSTGRES) is not installed, and installing it needs root: sudo make postgres" >&2; exit 1; \
	fi; \
	mkdir -p /etc/postgresql-common; \
	if [ ! -e /etc/postgresql-common/createcluster.conf ]; then \
	  echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf; \
	fi; \
	apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(POSTGRES) >/dev/null

.PHONY: slurm
slurm: ## install the system's SLURM, which the tests of the provider `dask` start for themselves; needs root
	@$(call install_package,slurm-wlm,/usr/sbin/slurmctld)

.PHONY: sshd
sshd: ## install the system's ssh server, which the tests of the provider `dask` start for themselves; needs root
	@$(call install_package,openssh-server,/usr/sbin/sshd)

.PHONY: chromium
chromium: ## install the system's Chromium, which the tests of the dashboard drive; needs root
	@$(call install_package,chromium,/usr/bin/chromium)

.PHONY: vendored
vendored: $(READY) ## fetch the dashboard's scripts of others from npm again, and compare them with those kept
	@$(BIN)/python -m tests.vendored

.PHONY: prometheus
prometheus: ## install the system's Prometheus, whose promtool checks the alert rules we ship; needs root
	@$(call install_package,prometheus,/usr/bin/promtool)

.PHONY: node
node: ## install the system's node and npm, with which pm2 is installed and run; needs root
	@if command -v npm >/dev/null; then exit 0; fi; $(call install_package,nodejs npm,/usr/bin/npm)

.PHONY: systemd
systemd: ## install the system's systemd-analyze, with which the tests read the unit file; needs root
	@$(call install_package,systemd,/usr/bin/systemd-analyze)

.PHONY: pm2
pm2: $(PM2_READY) ## install pm2 into build/pm2, for the tests and for trying

# Debian's package and a program of it. What it would start by itself at the next boot is not ours to decide: no service is started now.
define install_package
if [ -x $(2) ]; then exit 0; fi; \
if [ "$$(id -u)" != 0 ]; then \
  echo "make: $(1) is not installed, and installing it needs root: sudo make $@" >&2; exit 1; \
fi; \
apt-get update -qq; \
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(1) >/dev/null
endef

.PHONY: clean
clean: ## remove what make and the tools made, .venv too
	rm -rf $(VENV) $(DENDRITE_VENV) $(BRAKET_VENV) build dist .pytest_cache .coverage* .ruff_cache .hypothesis .import_linter_cache .coverage
	find qcompute neurons tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock
	@$(MAKE) --no-print-directory bootstrap
	@echo "installing what uv.lock names into $(VENV) (a few minutes the first time)"
	@$(BIN)/uv sync --quiet --frozen --all-extras
	@touch $@

# Python's own venv and pip bring uv in; uv brings the locked rest. uv is in the lock too, so that its sync keeps it.
.PHONY: bootstrap
bootstrap:
	@test -n "$(UV)" || { echo "make: pyproject.toml names no uv==VERSION" >&2; exit 1; }
	@if [ ! -x $(BIN)/python ]; then \
	  for candidate in $(PYTHON) $(if $(PYTHON),,python3.11 python3); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then chosen="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$${chosen:-}" ]; then \
	    echo "make: Python 3.11 or newer is needed: $(or $(PYTHON),neither python3.11 nor python3) will not do." >&2; \
	    echo "make: install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	  fi; \
	  echo "setting up $(VENV) with $$("$$chosen" --version)"; \
	  "$$chosen" -m venv $(VENV); \
	fi
	@if [ ! -x $(BIN)/uv ]; then \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check "$(UV)"; \
	fi

$(DENDRITE_READY): $(DENDRITE_REQUIREMENTS) $(READY)
	@echo "installing bittensor's old dendrite into $(DENDRITE_VENV), for the wire tests"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DENDRITE_VENV)
	@$(BIN)/uv pip install --quiet --python $(DENDRITE_VENV)/bin/python -r $(DENDRITE_REQUIREMENTS)
	@touch $@

$(PM2_READY):
	@command -v npm >/dev/null || { echo "make: npm is not installed: sudo make node" >&2; exit 1; }
	@echo "installing $(PM2) into $(PM2_FOLDER)"
	@rm -rf $(PM2_FOLDER); mkdir -p $(PM2_FOLDER)
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(PM2_FOLDER) $(PM2)
	@touch $@

.PHONY: site
site: $(READY) ## build the documentation site into build/site, strictly; SERVE=1 shows it on 127.0.0.1:8000
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(if $(SERVE),serve,build --strict --quiet)

$(BRAKET_READY): $(BRAKET_REQUIREMENTS) $(READY)
	@echo "installing Amazon Braket's simulator and moto into $(BRAKET_VENV), for the double of Braket"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(BRAKET_VENV)
	@$(BIN)/uv pip install --quiet --python $(BRAKET_VENV)/bin/python -r $(BRAKET_REQUIREMENTS)
	@touch $@
