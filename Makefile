# make demo         train, measure and export on 4,000 real images
# make check        lint, and the three quarters of the tests that are quick
# make test         all tests but the slow ones
# make test-slow    the slow ones: many processes, 20 kills, the longest replays,
#                   and the cases that `quick` leaves out
# make lint         the checks that change nothing: style, imports, types, docs
#
# Tests run in two processes; PYTEST_FLAGS adds flags of pytest.
#
# Each target first makes .venv, if it is missing or its lock file has changed,
# with the first of Python 3.11 to 3.13 that is found; PYTHON=... names another.
# On a machine with an NVIDIA driver, CUDA's libraries are installed, too;
# LOCK=requirements.lock leaves them out.

BIN := .venv/bin

# A name on PATH may start nothing, as the shims of pyenv do.
is_right = $(shell $(1) -c 'import sys; \
	sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2> /dev/null && echo $(1))
# Debian packages ensurepip, which venv needs, separately.
is_whole = $(shell $(1) -c 'import ensurepip, venv' 2> /dev/null && echo $(1))

KNOWN := python3.11 python3.12 python3.13 python3 python
ASKED := $(or $(PYTHON),$(KNOWN))
right = $(strip $(foreach name,$(ASKED),$(call is_right,$(name))))
chosen = $(firstword $(foreach name,$(right),$(call is_whole,$(name))))

no_python = Python 3.11, 3.12 or 3.13 is expected: install one, \
	or give its path as PYTHON=... Looked for: $(ASKED)
no_venv = $(firstword $(right)) lacks its module venv: on Debian and Ubuntu, \
	apt-get install $(notdir $(firstword $(right)))-venv

DRIVER := $(shell test -e /proc/driver/nvidia/version && echo kernel; \
	command -v nvidia-smi; \
	(ldconfig -p || /sbin/ldconfig -p) 2> /dev/null | grep -F libcuda.so.1)
LOCK := $(if $(DRIVER),requirements-gpu.lock,requirements.lock)
INSTALLED := .venv/installed$(if $(findstring gpu,$(LOCK)),-gpu)

.PHONY: demo check test test-slow lint

# In the order of tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 2 --dist=loadscope

demo: $(INSTALLED)
	$(BIN)/python main.py --flagfile=recipes/demo.cfg

# tests/conftest.py knows which tests are long.
check: lint
	$(PYTEST) -m "not long and not slow and not slowest" $(PYTEST_FLAGS)

test: $(INSTALLED)
	$(PYTEST) $(PYTEST_FLAGS)

test-slow: $(INSTALLED)
	$(PYTEST) -m "slow or slowest"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/pyright
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

# Touched last, so that an interrupted installation is repeated.
$(INSTALLED): $(LOCK)
	$(if $(chosen),,$(error $(if $(right),$(no_venv),$(no_python))))
	$(chosen) -m venv --clear .venv
	$(BIN)/python -m pip install --requirement $(LOCK)
	touch $@
