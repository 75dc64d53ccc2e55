# Two commands on a fresh machine: `make chat` and `make test`. Each makes .venv itself.
PYTHON ?= python3
PORT ?= 8080
BIN := .venv/bin

.PHONY: chat test lint bench cov fuzz clean

chat: .venv/installed
	$(BIN)/python -m silly examples/chat.py --port=$(PORT)

test: .venv/tested
	$(BIN)/python -m pytest

lint: .venv/linted
	$(BIN)/ruff check .
	$(BIN)/mypy

# Line and branch coverage; the protocol modules must stay at 100 %.
cov: .venv/tested
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
	$(BIN)/coverage report --include='silly/_wire/*' --fail-under=100 >/dev/null

# Each parser for a minute; stops at the first finding. The suite replays the kept corpus.
SECONDS ?= 60
TARGETS ?= frames inflate handshake requests chunks responses content conditional urls
fuzz: .venv/tested
	for target in $(TARGETS); do $(BIN)/python -m tests.fuzz $$target --seconds $(SECONDS) || exit 1; done

bench: .venv/installed
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv build dist *.egg-info .coverage* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install -q -e .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@

.venv/linted: .venv/installed
	$(BIN)/python -m pip install -q -e '.[lint]'
	touch $@
