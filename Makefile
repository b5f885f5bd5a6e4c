# Two commands do everything on a new machine: make demo, make test.

SHELL := /bin/sh
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	if command -v $$python >/dev/null 2>&1 && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; \
	then echo $$python; break; fi; done)
BIN := .venv/bin
PORT ?= 8000
# A file's tests stay together, for they share servers. Those of servers wait more than they work.
PARALLEL := --dist loadfile --numprocesses

.PHONY: demo test check bench docs clean

demo: .venv/demo.stamp
	@$(BIN)/python scripts/demo.py --port $(PORT) $(if $(filter 1,$(REDIS)),--redis)

test: .venv/test.stamp
	@$(BIN)/python scripts/system.py redis-server chromium nodejs npm gettext
	$(MAKE) --no-print-directory check
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest $(PARALLEL) auto --cov --cov-report= --cov-fail-under=0 -m "not servers and not browser"
	WSRT_COVERAGE=1 $(BIN)/python -m pytest $(PARALLEL) 3 --cov --cov-append --cov-report=term -m "servers or browser"

check: .venv/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/bench.stamp
	@$(BIN)/python scripts/system.py redis-server
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.presence

docs: .venv/docs.stamp
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* site

.venv/pip.stamp:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "The venv module is needed: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@touch $@

.venv/demo.stamp: .venv/pip.stamp pyproject.toml
	@echo "Installing the demo into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[daphne,redis]"
	@touch $@

.venv/%.stamp: .venv/pip.stamp pyproject.toml
	@echo "Installing what '$*' needs into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[daphne,redis,uvicorn]" \
		--group $(if $(filter test,$*),test --group lint,$*)
	@touch $@
