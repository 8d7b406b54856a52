# The everyday commands. `make` alone lists them.
#
# Everything is installed into .venv and remembered by stamp files, so that a second run starts at once.
# The package is built into a wheel once, as a user would build it, and each command installs that wheel
# with the extra it needs: the tests test what is shipped.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

DEMO_ARGS ?=
TEST_ARGS ?=
TEST_JOBS ?= 2
BENCH_ARGS ?=
PEERS_ARGS ?=

# Libraries that are compared with fastrnn, in environments of their own.
PEERS_VENV := .venv-peers
PEER_STAMPS := $(foreach name,torch keras paddle jax,$(PEERS_VENV)/$(name).stamp) $(PEERS_VENV)/fastrnn.stamp

# The build runs in an isolated environment: old versions of pip take its pins from the first
# variable, new ones from the second.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP := $(BIN)/python -m pip

BUILD_FILES := $(wildcard pyproject.toml constraints.txt CMakeLists.txt README.md LICENSE)
SOURCES := $(shell find fastrnn csrc -type f -not -path '*/__pycache__/*' -not -name '*.so' 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test thorough sanitize lint format bench bench-peers resources dev clean

help: ## Show this list
	@echo "fastrnn: make <command>"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/demo.stamp ## Install, then watch a classifier learn from few labels (about 4 minutes)
	$(BIN)/fastrnn demo $(DEMO_ARGS)

test: $(VENV)/test.stamp ## Install, then run the tests (TEST_ARGS="-k name" to choose, TEST_JOBS=0 for one at a time)
	$(BIN)/pytest -n $(TEST_JOBS) --dist loadfile $(TEST_ARGS)

thorough: $(VENV)/test.stamp ## Go through the grids of the kernels in full, and search 2,000 random problems for a wrong result
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest tests/recurrence -k "grid or random_problems"
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest tests/benchmarks/test_triton_resources.py tests/benchmarks/test_cuda_resources.py

sanitize: $(VENV)/test.stamp ## Run the CPU kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
	NATIVE_GRID=full $(BIN)/pytest tests/native -s

lint: $(VENV)/dev.stamp ## Check style and types: ruff, mypy, clang-format
	$(BIN)/pre-commit run --all-files

format: $(VENV)/dev.stamp ## Put all sources into the house style
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	find csrc tests benchmarks -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh' \) \
	  -exec $(BIN)/clang-format -i {} +

bench: $(VENV)/test.stamp ## Measure speed against torch.nn.LSTM (BENCH_ARGS to choose)
	$(BIN)/pytest benchmarks/ --benchmark-only $(BENCH_ARGS)

bench-peers: $(VENV)/test.stamp $(PEER_STAMPS) ## Measure speed against other libraries (PEERS_ARGS to choose)
	$(BIN)/python -m benchmarks.peers $(PEERS_ARGS)
	$(BIN)/python -m benchmarks.report

resources: $(VENV)/test.stamp ## Store what the Triton and CUDA kernels take of a GPU; none is needed
	$(BIN)/python -m benchmarks.triton_resources
	$(BIN)/python -m benchmarks.cuda_resources

dev: $(VENV)/dev.stamp ## Install everything a contributor needs, and the git hook
	@if git rev-parse --git-dir >/dev/null 2>&1; then $(BIN)/pre-commit install; fi
	@echo "Ready. Activate the environment with: source $(VENV)/bin/activate"

clean: ## Delete .venv, build results and caches
	rm -rf $(VENV) $(PEERS_VENV) build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -path ./.git -prune -o -type d -name __pycache__ -exec rm -rf {} +

$(VENV)/venv.stamp:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "error: '$(PYTHON)' was not found. Install Python 3.11 or newer, or say: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: fastrnn needs Python 3.11 or newer, but '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." >&2; \
	  echo "       Say which one to use: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' comes without its venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/wheel.stamp: $(VENV)/venv.stamp $(BUILD_FILES) $(SOURCES)
	@echo "Building fastrnn (a minute or two)"
	@rm -rf $(VENV)/wheel
	$(PIP) wheel --quiet --no-deps --wheel-dir $(VENV)/wheel .
	@touch $@

# The second command renews the package itself: to pip the same version is the same package.
$(VENV)/%.stamp: $(VENV)/wheel.stamp
	@echo "Installing fastrnn[$*] into $(VENV) (the first time this downloads PyTorch)"
	$(PIP) install --quiet "$$(echo $(VENV)/wheel/fastrnn-*.whl)[$*]"
	$(PIP) install --quiet --force-reinstall --no-deps $(VENV)/wheel/fastrnn-*.whl
	@touch $@

# Their versions are pinned apart from those of this project.
$(PEERS_VENV)/%.stamp: benchmarks/peers/requirements/%.txt $(VENV)/venv.stamp
	@echo "Installing $* and what is measured with it into $(PEERS_VENV)/$*"
	"$(PYTHON)" -m venv $(PEERS_VENV)/$*
	PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= $(PEERS_VENV)/$*/bin/python -m pip install --quiet -r $<
	@touch $@

$(PEERS_VENV)/fastrnn.stamp: $(PEERS_VENV)/torch.stamp $(VENV)/wheel.stamp
	$(PEERS_VENV)/torch/bin/python -m pip install --quiet --force-reinstall --no-deps $(VENV)/wheel/fastrnn-*.whl
	@touch $@
