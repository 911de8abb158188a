# make demo    train, measure and export on 4,000 real images
# make test    the tests, but for the slow ones, two at a time
# make test-slow    the slow ones: many processes, 20 kills, the longest replays
# make lint    the checks that change nothing
#
# Each makes .venv first, if it is not there or requirements.lock has changed.

PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-slow lint

demo: .venv/installed
	$(BIN)/python main.py --flagfile=recipes/demo.cfg

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist=loadscope

test-slow: .venv/installed
	$(BIN)/python -m pytest -m "slow or slowest" -n 2 --dist=loadscope

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Written last, so that an interrupted installation does not count as one.
.venv/installed: requirements.lock
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --requirement requirements.lock
	touch $@
