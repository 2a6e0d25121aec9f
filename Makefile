# Two commands: `make demo` and `make test`. Both make .venv first, and again only when what it is made from has changed.
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint bench audit

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("shiftproof needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setup: installing into .venv (the first time fetches PyTorch: some minutes)"
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "setup: .venv holds shiftproof and all that its tests need"

demo: $(STAMP)
	@$(BIN)/shiftproof demo --out runs/demo
	@echo "demo: trained, evaluated and wrote its report under runs/demo"

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@echo "lint: ruff and mypy found nothing"

# One thread a worker: two workers that each start a thread for every core only wait for each other. What the audit finds
# is said, and stops only `make audit`: it changes from day to day, and the tests do not.
test: lint
	@-$(BIN)/python .ci/audit.py constraints.txt
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --durations=10
	@echo "test: lint, tests, and the examples in docstrings and pages passed"

bench: $(STAMP)
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/aupro.py --images 32 --repeats 1
	@$(BIN)/python benchmarks/train_speed.py --images 64 --repeats 1
	@OMP_NUM_THREADS=2 $(BIN)/python benchmarks/peers.py --out runs/race_short --no-wide --epochs 1 --rounds 1 --seconds 1 \
		--only "shiftproof rd-lite0" "shiftproof rd-resnet18" "anomalib padim" "anomalib patchcore" "anomalib reverse_distillation"
	@echo "bench: the ratios above are to anomalib and adeval, measured in one run; docs/results has the long ones"

audit: $(STAMP)
	@$(BIN)/python .ci/audit.py constraints.txt
