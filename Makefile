# Mailrace: what a developer or an operator of a fresh machine runs. Needs Python 3.11+, git and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
TESTED := $(VENV)/.installed-test
LOCK   := --quiet --upgrade --strip-extras --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# Without compiled files every process that a test starts, and each of its workers, would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run demo check test bench notebooks screenshots lock clean

run: $(READY)            ## start Mailrace: console on 8485, SMTP on 2525
	@$(BIN)/mailrace serve

demo: $(READY)           ## the same, with a simulated internet and traffic
	@$(BIN)/mailrace demo

check: $(TESTED)         ## lint, types, unit tests: about a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.support.javascript
	HYPOTHESIS_PROFILE=quick $(BIN)/pytest -q -m "not (system or browser or slow)" --ignore tests/system -n 3 --dist worksteal

test: $(TESTED) .ci/packages.ok  ## everything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.support.javascript --strict
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

bench: $(TESTED) .ci/packages.ok ## the benchmarks, with a table
	$(BIN)/python -m tests.bench

notebooks: $(TESTED)     ## the delivery log in Jupyter
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

.PHONY: .ci/packages.ok
.ci/packages.ok:
	@.ci/packages

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Mailrace needs Python 3.11 or later; set PYTHON"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(READY): $(VENV)/bin/python requirements.lock pyproject.toml
	@echo "installing what Mailrace needs into $(VENV): some minutes, the first time"
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(TESTED): $(READY) requirements-test.lock
	@echo "installing what tests and notebooks need into $(VENV): some minutes, the first time"
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-test.lock
	@touch $@

screenshots: $(TESTED) .ci/packages.ok ## pictures of every view, into screenshots/
	$(BIN)/python -m tests.support.screenshots

lock: $(TESTED)          ## renew the locked versions
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile $(LOCK) --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile $(LOCK) --extra test --extra notebooks --output-file requirements-test.lock pyproject.toml

clean:                   ## remove what was installed and built; keeps var/
	rm -rf $(VENV) build notebooks/.sample *.egg-info
