# Two commands do everything on a fresh machine with Python, pip and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The kernels compile once and are kept beside the code; two threads, where a command does not ask for others.
export NUMBA_NUM_THREADS ?= 2
export OMP_NUM_THREADS ?= 2
BENCH ?= isolation floor hooks scale instruments lesions peers report overhead

.PHONY: help install demo report test test-all audit check bench docs clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)

install: $(READY) ## create .venv and install the package with what tests and demo need

demo: $(READY) ## train an MLP on digits with the monitor; say how to open TensorBoard
	$(BIN)/python -m experiments.train fit --config experiments/configs/digits_mlp.yaml

report: $(READY) ## train three regularisations with three seeds each on digits; compare them in one page
	$(BIN)/python -m experiments.sweep experiments/sweeps/digits.yaml
	$(BIN)/fnet report runs/digits -o runs/digits/report.html

test: $(READY) ## the whole test suite, in two processes; a quarter of an hour at most
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(READY) ## every cell of every table: all strategies, 20,000 steps, 50 killed runs, ten resumed ones, 100,000 fuzzed files
	OMP_NUM_THREADS=1 FNET_ALL=1 $(BIN)/python -m pytest -n 2 --dist worksteal

audit: $(READY) ## known vulnerabilities of what is installed, where their database can be reached
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt pip-audit
	$(BIN)/pip-audit --skip-editable

check: $(READY) ## lint, types, doctests, the layer test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest --doctest-modules fnet_callbacks tests/test_layers.py

bench: $(READY) ## what things cost, as tables; `make bench BENCH=floor` for one of isolation, floor, hooks, scale, instruments, lesions, peers, report, overhead
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,benchmark]"
	for name in $(BENCH); do $(BIN)/python -m benchmarks.$$name || exit 1; done

docs: $(READY) ## the documentation as a site, in build/docs
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

clean: ## remove what the other commands made
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .ruff_cache .hypothesis
