# Every target sets up .venv by itself; `make demo` and `make test` are the two to know.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
ROOMS := models mapper sim rtl explore reports
CODE := $(ROOMS) tests examples benchmarks
CASES ?= 560
SEED ?= 0
JOBS ?= 2
FILES ?= 2000
SHARED ?= ../shared/data

.PHONY: help demo test test-all check wheel-check verify-all prove pe-cost bench methods reversals headline fuzz clean

help:
	@echo "make demo        trains, simulates, verifies and places a small network; build/demo/report.html"
	@echo "make test        style, types and the quick tests"
	@echo "make test-all    the slow tests too, and the wheel in a clean environment"
	@echo "make verify-all  CASES=$(CASES) random networks on random machines: reference, model and RTL"
	@echo "make prove       the units' proofs and their broken twins"
	@echo "make pe-cost     LUTs, registers and DSP blocks of the PEs' parts, beside their targets"
	@echo "make bench       the speed of cycle model beside RTL, of mapping, of the integer reference and of the systolic mode"
	@echo "make methods     every compression recipe that ships; writes docs/methods.md"
	@echo "make reversals   what proxies rank otherwise than a core does, on trained networks; writes docs/reversals.md"
	@echo "make headline    the published compressions of LeNets and ResNet-20, and few bits' gaps to float; writes docs/headline.md, low_bit_gaps.md"
	@echo "make fuzz        FILES=$(FILES) damaged model files: each is read, or refused by one line"
	@echo "make clean       removes build/, dist/ and .venv"

$(STAMP): pyproject.toml constraints.txt
	@command -v g++ >/dev/null || { echo "g++ is missing: install it with your system's packages (Debian, Ubuntu: apt install g++ make; Fedora: dnf install gcc-c++ make; macOS: xcode-select --install)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,oracle]'
	@touch $@

demo: $(STAMP)
	$(BIN)/bitwright demo -o build/demo

# An editable install hides the rooms from mypy, which then reports success on next to nothing:
# links give it the tree, and the number of files it read is required.
check: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	@mkdir -p build/typing/bitwright
	@for room in $(ROOMS); do ln -sfn ../../../$$room build/typing/bitwright/$$room; done
	$(BIN)/mypy | tee build/mypy.txt
	@count=$$(sed -n 's/^Success: .* in \([0-9]*\) source files$$/\1/p' build/mypy.txt); \
	  [ "$${count:-0}" -gt 20 ] || { echo "mypy read $${count:-0} files, more than 20 are expected" >&2; exit 1; }

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

test-all: check wheel-check
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The wheel as a user gets it: installed alone, run from another folder.
wheel-check: $(STAMP)
	rm -rf build/lib build/bdist.* build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps -w build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet -c constraints.txt build/wheel/*.whl
	cd build/wheel && venv/bin/bitwright --version && venv/bin/bitwright doctor \
	  && venv/bin/bitwright simulate zoo:resnet8-stack --machine core-small >/dev/null \
	  && venv/bin/bitwright verify zoo:random-1 --machine core-small --images 1
	rm -rf build/wheel build/lib build/bdist.*

verify-all: $(STAMP)
	$(BIN)/bitwright verify --random $(CASES) --seed $(SEED) --jobs $(JOBS)

prove: $(STAMP)
	$(BIN)/python -m bitwright.rtl.prove

pe-cost: $(STAMP)
	$(BIN)/python benchmarks/pe_cost.py

bench: $(STAMP)
	$(BIN)/python benchmarks/model_speed.py
	$(BIN)/python benchmarks/core_mapping_speed.py
	$(BIN)/python benchmarks/reference_speed.py
	$(BIN)/python benchmarks/systolic_speed.py
	$(BIN)/python benchmarks/search_speed.py

methods: $(STAMP)
	@if [ -d $(SHARED) ]; then $(BIN)/python -m bitwright.reports.methods_document --jobs $(JOBS) \
	  --data mnist=$(SHARED)/mnist.npz --data cifar10=$(SHARED)/cifar10_10k_2k.npz \
	  --data spoken-digits=$(SHARED)/fsdd_8k_1s.npz -o docs/methods.md; \
	else echo "skipped: the data isn't there: $(SHARED)"; fi

reversals: $(STAMP)
	@if [ -d $(SHARED) ]; then $(BIN)/python -m bitwright.reports.reversals --data mnist=$(SHARED)/mnist.npz \
	  -o docs/reversals.md; else echo "skipped: the data isn't there: $(SHARED)"; fi

headline: $(STAMP)
	@status=0; \
	$(BIN)/python benchmarks/headline.py --shared $(SHARED) --jobs $(JOBS) --output docs/headline.md || status=1; \
	$(BIN)/python benchmarks/low_bit_gaps.py --shared $(SHARED) --output docs/low_bit_gaps.md || status=1; \
	exit $$status

fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/fuzz_drive.py --count $(FILES) --seed $(SEED)

clean:
	rm -rf build dist $(VENV) *.egg-info
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
