# vis_ros on a machine without ROS 2: make, make demo, make test. On a robot use colcon build (see README.md).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build/venv
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
VIDEO ?=

# Idle OpenMP threads must sleep, not spin: see the section on threads in README.md.
export OMP_WAIT_POLICY ?= PASSIVE

SOURCES := $(shell find vis_core vis_ros launch config msg include cmake -type f -not -name '*.pyc' 2>/dev/null)
RETRY = { echo; echo "*** $(1) failed: look at the message above. If a download broke off, check the network (and PIP_INDEX_URL, if you use a mirror), then type 'make' again: what is done is kept."; exit 1; }

.DEFAULT_GOAL := install
.PHONY: install demo test test-all lint format clean help

install: $(VENV)/.installed ## make .venv with everything in it (also an ament prefix)

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "*** Python 3.10 to 3.13 is needed, the ROS 2 wheels exist for no other; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11"; exit 1; }
	@command -v cmake > /dev/null && command -v c++ > /dev/null || \
	  { echo "*** cmake and a C++ compiler are needed to build the messages (Debian, Ubuntu: apt install cmake g++)"; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.dependencies: $(VENV)/.created pyproject.toml setup.py package.xml constraints.txt
	@echo "installing the dependencies (a minute or two the first time)"
	@$(PIP) install -c constraints.txt setuptools wheel || $(call RETRY,installing setuptools)
	@$(PIP) install -c constraints.txt --no-build-isolation '.[ros,ros-build,report,dev]' || $(call RETRY,installing the dependencies)
	@rm -rf build/lib build/bdist.* vis_ros.egg-info
	@$(BIN)/python cmake/repair_wheel_exports.py $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies CMakeLists.txt $(SOURCES)
	@echo "building the messages and installing into $(VENV)"
	@mkdir -p $(BUILD)
	@{ cmake -S . -B $(BUILD) -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=$(abspath $(VENV)) \
	    -DCMAKE_PREFIX_PATH=$(abspath $(VENV)) -DPython3_EXECUTABLE=$(abspath $(BIN))/python -DBUILD_TESTING=OFF \
	  && cmake --build $(BUILD) --parallel 2 && cmake --install $(BUILD); } > $(BUILD)/log.txt 2>&1 \
	  || { tail -n 30 $(BUILD)/log.txt; echo "*** building the messages failed; the whole log: $(BUILD)/log.txt"; exit 1; }
	@touch $@

demo: install ## replay a real clip through the ROS 2 node (VIDEO=file takes your own)
	@$(BIN)/python -m vis_ros.demo --out demo $(if $(VIDEO),--video '$(VIDEO)')

test: install ## the tests, but for the slow ones
	@$(BIN)/python -m pytest -q -m 'not slow'

test-all: install ## all tests
	@$(BIN)/python -m pytest -q

lint: install ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: install ## let ruff format the sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove .venv, build and demo
	rm -rf $(VENV) build demo vis_ros.egg-info

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/make \1\t\2/' | expand -t 18
