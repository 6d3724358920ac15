# SPDX-License-Identifier: Apache-2.0
# Programs that measure skiff's own parts, or are what it is measured against; tests/bench/run
# starts them.

BENCH_SRC := $(shell find tests/bench -name 'bench_*.c' 2>/dev/null | sort)
BENCH_BIN := $(BENCH_SRC:%.c=$(B)/%)
MINIMAL_VM := $(B)/tests/bench/minimal_vm

$(BENCH_BIN): $(B)/%: $(B)/%.o $(LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(LIBS) $(PKG_LIBS)

# With nothing but the C library: what it does not load is part of the comparison.
$(MINIMAL_VM): $(MINIMAL_VM).o
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $<

bench-bins: $(BENCH_BIN) $(MINIMAL_VM)
.PHONY: bench-bins
