# vis_ros on a machine without ROS 2: make, make demo, make test. On a robot use colcon build (see README.md).

# The ROS 2 distribution whose wheels are taken: kilted, or jazzy (in a folder of its own, .venv-jazzy).
DISTRO ?= kilted
suffix := $(if $(filter-out kilted,$(DISTRO)),-$(DISTRO))

VENV := .venv$(suffix)
BIN := $(VENV)/bin
BUILD := build/venv$(suffix)
PIP := $(BIN)/python -m pip --disable-pip-version-check
VIDEO ?=

# The first Python that the ROS 2 wheels exist for; make PYTHON=/path/to/python names another.
SUITABLE := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.10; do \
  $$name -c '$(SUITABLE)' 2> /dev/null && { echo $$name; exit; }; done; echo python3)

# Idle OpenMP threads must sleep, not spin: see the section on threads in README.md.
export OMP_WAIT_POLICY ?= PASSIVE

# A ROS 2 installation that was sourced in this shell must not mix with the wheels.
unexport PYTHONPATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH
ifdef ROS_DISTRO
unexport LD_LIBRARY_PATH ROS_DISTRO
endif

# Folders are listed too: their time changes when a file in them is deleted.
SOURCES := $(shell find vis_core vis_ros launch config msg include cmake examples -not -path '*/__pycache__*')

# $(call INSTALL,what,log): pip tells which large packages it fetches, and their sizes; the log has the rest.
define INSTALL
{ mkdir -p $(BUILD); $(PIP) install -c $(CONSTRAINTS) $(1) > $(2) 2>&1 & \
  tail -f -n +1 --pid=$$! $(2) 2> /dev/null | sed -unE 's/^ *(Downloading|Using cached) ([^ ]*\/)?([^ ]+ \([0-9.]+ [MG]B\)).*/  \3/p; \
    s/^Installing collected packages:.*/  unpacking/p'; \
  wait $$! || { tail -n 20 $(2) >&2; false; }; }
endef

define RETRY
{ echo; echo "*** $(1) failed; the reason stands above. If it is the network: check it (and PIP_INDEX_URL, if you use"; \
  echo "*** a mirror), then type 'make' again. What is done is kept, and nothing needs to be cleaned up."; exit 1; } >&2
endef

.DEFAULT_GOAL := install
.PHONY: install demo test test-slow test-all test-oldest lint format docs clean help

install: $(VENV)/.installed ## make .venv with everything in it (also an ament prefix)

# A virtual environment names itself by its full path everywhere, and lives on the Python that made it: where this folder
# was moved, or that Python is gone, it is made anew.
ANEW := $(shell test -x $(BIN)/python && test "$$(cat $(VENV)/.created)" = '$(CURDIR)' || echo anew)
.PHONY: anew

$(VENV)/.created: $(ANEW)
	@$(PYTHON) -c '$(SUITABLE)' || { echo "*** Python 3.10 to 3.13 is needed, the ROS 2 wheels exist for no other;" \
	  "$(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11" >&2; exit 1; }
	@test "$$(uname -s) $$(uname -m)" = "Linux x86_64" || { echo "*** There are no ROS 2 wheels for $$(uname -sm):" \
	  "use a ROS 2 installation and colcon build, or pip install . for vis_core alone (see README.md)" >&2; exit 1; }
	@command -v cmake > /dev/null && command -v c++ > /dev/null || { echo "*** cmake and a C++ compiler are needed" \
	  "to build the messages (Debian, Ubuntu: apt install cmake g++)" >&2; exit 1; }
	@test -f "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
	  { echo "*** $(PYTHON) comes without Python.h, which the messages need" \
	  "(Debian, Ubuntu: apt install python3-dev)" >&2; exit 1; }
	@test ! -f $@ || echo "$(VENV) was made for $$(cat $@), or for a Python that is gone: it is made anew"
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(BUILD)
	@$(PYTHON) -m venv --clear $(VENV) || { echo "*** making $(VENV) failed" \
	  "(Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo '$(CURDIR)' > $@

# Another distribution has its own versions of the ROS packages.
CONSTRAINTS := $(if $(suffix),$(VENV)/constraints.txt,constraints.txt)

$(VENV)/constraints.txt: $(VENV)/.created constraints.txt constraints$(suffix).txt
	@{ grep -v '^ros-' constraints.txt; cat constraints$(suffix).txt; } > $@

PACKAGE := .[ros$(suffix),ros-build$(suffix),train]

$(VENV)/.dependencies: $(VENV)/.created pyproject.toml setup.py package.xml $(CONSTRAINTS) cmake/repair_wheel_exports.py
	@echo "installing the dependencies into $(VENV), some minutes the first time; what is fetched:"
	@rm -rf $(VENV)/lib/python*/site-packages/vis_ros-*.egg-info
	@$(call INSTALL,setuptools wheel,$(BUILD)/pip.txt) || $(call RETRY,installing setuptools)
	@$(call INSTALL,--no-build-isolation '$(PACKAGE)',$(BUILD)/pip.txt) || \
	  $(call RETRY,installing the dependencies)
	@rm -rf build/lib build/bdist.* vis_ros.egg-info
	@$(BIN)/python cmake/repair_wheel_exports.py $(VENV)
	@touch $@

# The generator's metadata, *.egg-info, would hide those of pip, which know the commands.
$(VENV)/.installed: $(VENV)/.dependencies CMakeLists.txt $(SOURCES)
	@echo "building the messages and installing into $(VENV)"
	@mkdir -p $(BUILD)
	@{ cmake -S . -B $(BUILD) -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX='$(CURDIR)/$(VENV)' \
	    -DCMAKE_PREFIX_PATH='$(CURDIR)/$(VENV)' -DPython3_EXECUTABLE='$(CURDIR)/$(BIN)/python' -DBUILD_TESTING=OFF \
	  && cmake --build $(BUILD) --parallel 2 && cmake --install $(BUILD); } > $(BUILD)/log.txt 2>&1 || \
	  { tail -n 30 $(BUILD)/log.txt; echo "*** building the messages failed; the whole log: $(BUILD)/log.txt" >&2; exit 1; }
	@rm -rf $(VENV)/lib/python*/site-packages/vis_ros-*.egg-info
	@touch $@
	@echo "done; next: make demo, make test, or: source $(BIN)/activate"

demo: install ## replay a real clip through the ROS 2 node (VIDEO=file takes your own)
	@$(BIN)/python -m vis_ros.demo --out demo --force $(if $(VIDEO),--video '$(VIDEO)')

# What an extra of pyproject.toml names, without installing this package again. (Python 3.10 has no tomllib.)
$(VENV)/.test $(VENV)/.lint $(VENV)/.docs: $(VENV)/.%: $(VENV)/.dependencies
	@$(BIN)/python -c 'from pip._vendor import tomli; \
	  print(*tomli.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$*"], sep="\n")' > $(BUILD)/$*.txt
	@echo "installing what '$*' needs; what is fetched:"
	@$(call INSTALL,-r $(BUILD)/$*.txt,$(BUILD)/pip-$*.txt) || $(call RETRY,installing what '$*' needs)
	@touch $@

# Two processes of one thread each: on two cores a third quicker than two of two threads.
test: install $(VENV)/.test ## the tests, but for the slow ones
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'not slow' -n 2 --dist loadfile

test-slow: install $(VENV)/.test ## the slow tests
	@$(BIN)/python -m pytest -q -m slow

test-all: install $(VENV)/.test ## all tests
	@$(BIN)/python -m pytest -q

# The core alone, with the oldest versions that pyproject.toml allows: gigabytes, since such a torch brings CUDA along.
OLDEST := .venv-oldest

$(OLDEST)/.installed: constraints-oldest.txt
	@$(PYTHON) -m venv --clear $(OLDEST)
	@$(OLDEST)/bin/python -m pip --disable-pip-version-check --quiet install -r constraints-oldest.txt \
	  hypothesis psutil pytest pytest-timeout pytest-xdist || $(call RETRY,installing the oldest versions)
	@touch $@

test-oldest: $(OLDEST)/.installed ## the tests of vis_core with the oldest versions (wants Python 3.11)
	@OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -q -m 'not slow' -n 2 --dist loadfile tests/vis_core

lint: install $(VENV)/.lint ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: install $(VENV)/.lint ## let ruff format the sources
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: install $(VENV)/.docs ## the site of the documentation, build/docs/index.html (a broken link is an error)
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

clean: ## remove .venv and .venv-oldest, build and demo
	rm -rf $(VENV) $(OLDEST) build demo vis_ros.egg-info

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/make \1\t\2/' | expand -t 18
