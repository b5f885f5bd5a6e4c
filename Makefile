# Two commands do everything on a new machine: make demo, make test.

SHELL := /bin/sh
BIN := .venv/bin
PORT ?= 8000
PIP := python -m pip --disable-pip-version-check --quiet
# What the files name, and nothing else; then this project, by the pinned tools that build it.
PINNED := $(PIP) install --require-hashes --requirement
THIS := $(PIP) install --no-deps --no-build-isolation --editable .
EXTRAS := daphne,redis,uvicorn,yaml
SYSTEM := $(or $(WSRT_TEST_REDIS_SERVER),redis-server) postgresql chromium nodejs npm gettext

.PHONY: demo test test-all test-latest test-lowest suite unit check bench docs dist lock clean

demo: .venv/demo.stamp
	@$(BIN)/python scripts/demo.py --port $(PORT) $(if $(filter 1,$(REDIS)),--redis)

test: check suite

# The long tests too, and what they cover. Measuring that doubles the time of most tests.
test-all:
	$(MAKE) --no-print-directory check
	$(MAKE) --no-print-directory suite ALL=1

# Without servers and browsers; DJANGO=6.0 for another series than the pinned one.
unit: .venv/test.stamp
	@$(BIN)/python scripts/system.py $(SYSTEM)
	$(if $(DJANGO),@$(BIN)/$(PINNED) requirements/django-$(DJANGO).txt --no-deps)
	$(BIN)/python -m tests --units

suite: .venv/test.stamp
	@$(BIN)/python scripts/system.py $(SYSTEM)
	@rm -f .coverage .coverage.*
	$(BIN)/python -m tests $(if $(ALL),--all --coverage)

# The newest of everything that pyproject.toml allows, on the newest Python that is here.
test-latest:
	@rm -rf .venv-latest
	@sh scripts/venv.sh newest .venv-latest
	@.venv-latest/bin/$(PIP) install --upgrade --group build
	@.venv-latest/bin/$(PIP) install --no-build-isolation --editable ".[$(EXTRAS)]" --group test
	@.venv-latest/bin/python scripts/system.py $(SYSTEM)
	.venv-latest/bin/python -m tests $(if $(ALL),--all)

# The lowest versions that pyproject.toml declares, on the oldest Python that is here.
test-lowest:
	@rm -rf .venv-lowest
	@sh scripts/venv.sh oldest .venv-lowest
	@.venv-lowest/bin/$(PINNED) requirements/lowest.txt
	@.venv-lowest/bin/$(THIS)
	@.venv-lowest/bin/python scripts/system.py $(SYSTEM)
	.venv-lowest/bin/python -m tests $(if $(ALL),--all)

check: .venv/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/bench.stamp
	@$(BIN)/python scripts/system.py redis-server
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.presence
	$(BIN)/python -m benchmarks.history
	$(BIN)/python -m benchmarks.durable
	$(BIN)/python -m benchmarks.storm
	$(BIN)/python -m benchmarks.figure

docs: .venv/docs.stamp .venv/test.stamp
	@$(BIN)/python scripts/system.py chromium
	$(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest tests/site

# What is published: the wheel and the sdist.
dist: .venv/pip.stamp
	@rm -rf dist
	$(BIN)/python -m hatchling build

# Writes requirements/ and package-lock.json: the newest that pyproject.toml and package.json allow.
lock: .venv/lock.stamp
	@$(BIN)/python scripts/system.py nodejs npm
	$(BIN)/python scripts/lock.py

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* dist site

.venv/pip.stamp: requirements/build.txt
	@sh scripts/venv.sh oldest .venv
	@touch $@

.venv/docs.stamp .venv/lock.stamp: .venv/%.stamp: .venv/pip.stamp requirements/%.txt
	@$(BIN)/$(PINNED) requirements/$*.txt
	@touch $@

.venv/%.stamp: .venv/pip.stamp requirements/%.txt pyproject.toml
	@echo "Installing what '$*' needs into .venv ..."
	@$(BIN)/$(PINNED) requirements/$*.txt
	@$(BIN)/$(THIS)
	@touch $@
