# make demo    train, measure and export on 4,000 real images
# make test    the tests, but for the slow ones, two at a time; PYTEST_FLAGS are
#              flags of pytest
# make test-slow    the slow ones: many processes, 20 kills, the longest replays
# make lint    the checks that change nothing
#
# Each makes .venv first, if it is not there or its lock file has changed, with
# the first Python of 3.11 to 3.13 that is found; PYTHON=... is another.
# Where there is an NVIDIA driver, CUDA's libraries are installed, too;
# LOCK=requirements.lock leaves them out.

BIN := .venv/bin

# A name may be there and start nothing, as those of pyenv do.
is_right = $(shell $(1) -c 'import sys; \
	sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2> /dev/null && echo $(1))
# Debian has ensurepip, which venv needs, in a package of its own.
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

.PHONY: demo test test-slow lint

demo: $(INSTALLED)
	$(BIN)/python main.py --flagfile=recipes/demo.cfg

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist=loadscope $(PYTEST_FLAGS)

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow or slowest" -n 2 --dist=loadscope

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Written last, so that an interrupted installation does not count as one.
$(INSTALLED): $(LOCK)
	$(if $(chosen),,$(error $(if $(right),$(no_venv),$(no_python))))
	$(chosen) -m venv --clear .venv
	$(BIN)/python -m pip install --requirement $(LOCK)
	touch $@
