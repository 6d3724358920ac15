# SPDX-License-Identifier: Apache-2.0
# One non-recursive Makefile. A new source or test file edits no list.
#
#   make            build/skiff and build/skiff-img (optimized; asserts stay in)
#   make run        boot a Debian guest (installs what it needs)
#   make check      every test (installs what it needs). NO_KVM=1: as on a machine without /dev/kvm;
#                   TESTS='PROGRAM…': only these
#   make check-long  the same with full counts; with KVM_UNIT_TESTS=DIR, a built tree of them, also those
#   make check-sandbox  the tests that start skiff, each time with -sandbox on
#   make soak       disks under load for a while, with asan and tsan; part of check-long
#   make lint asan ubsan tsan fuzz bench install

SHELL := /bin/bash
.SUFFIXES:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VERSION := 0.1.0
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
PREFIX ?= /usr/local
DESTDIR ?=

# ---- variants: each has its own object tree -------------------------------------------------
# release: the installed program. test: with schedule points and rank stacks. asan/ubsan/tsan: test
# + sanitizer.
V ?= release
B := build/$(V)

WARN := -Wall -Wextra -Wshadow -Wimplicit-fallthrough -Wmissing-prototypes -Wcast-qual \
        -Wpointer-arith -Wvla -Wno-unused-parameter -Werror
BASE_CFLAGS := -std=gnu11 -g -fno-omit-frame-pointer -pthread -D_GNU_SOURCE -I. \
        -DSKIFF_VERSION='"$(VERSION)"' $(WARN)
CFLAGS_release := -O2
CFLAGS_test    := -O1 -DSKIFF_TESTING
CFLAGS_asan    := -O1 -DSKIFF_TESTING -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS_ubsan   := -O1 -DSKIFF_TESTING -fsanitize=undefined -fno-sanitize-recover=all
CFLAGS_tsan    := -O1 -DSKIFF_TESTING -fsanitize=thread
# The seam to the kernel (util/sys/sys_fault.h): every variant but the release has it.
SYS_WRAP := $(shell sed -nE 's/^SYS_CALL[A-Z_]*.([a-z0-9_]+),.*/-Wl,--wrap=\1/p' util/sys/sys_fault.c) \
            -Wl,--wrap=open,--wrap=close -Wl,--wrap=ioctl
LDFLAGS_test   := $(SYS_WRAP)
LDFLAGS_asan   := -fsanitize=address,undefined $(SYS_WRAP)
LDFLAGS_ubsan  := -fsanitize=undefined $(SYS_WRAP)
LDFLAGS_tsan   := -fsanitize=thread $(SYS_WRAP)

PKGS := glib-2.0 json-c liburing libseccomp zlib libdeflate libzstd slirp
# Loaded when they are first used (util/library.h); tests call them directly.
LATE_PKGS := gnutls libnbd
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) $(LATE_PKGS) 2>/dev/null)
TEST_LIBS  := $(shell pkg-config --libs $(LATE_PKGS) 2>/dev/null) -lcmocka
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -laio -lm

CFLAGS_ALL = $(BASE_CFLAGS) $(CFLAGS_$(V)) -I$(B)/gen $(PKG_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = -pthread $(LDFLAGS_$(V)) $(LDFLAGS)

# Commands are abbreviated; VERBOSE=1 shows them in full.
ifdef VERBOSE
say = @:
Q :=
else
say = @printf '  %-4s %s\n' '$(1)' '$(2)'
Q := @
endif

# ---- sources --------------------------------------------------------------------------------
LIB_SRC := $(shell find util block hw migration vmm -name '*.c' ! -path vmm/main.c ! -path block/img/skiff_img.c \
             ! -path '*/aarch64/*' 2>/dev/null | sort)
LIB_ASM := $(shell find util vmm -name '*.S' 2>/dev/null | sort)
# Compiling each folder's trace_events.h once with TRACE_EVENTS_DEFINE defines its trace events.
TRACE_HDR := $(shell find util block hw migration vmm -name trace_events.h 2>/dev/null | sort)
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o) $(LIB_ASM:%.S=$(B)/%.o) $(TRACE_HDR:%.h=$(B)/%.o)
# One archive for each layer, the highest first: the linker finds no symbol of a layer in a higher
# one, unless a still higher one needs it too.
LAYERS := $(foreach layer,vmm migration hw block util,$(if $(filter $(B)/$(layer)/%,$(LIB_OBJ)),$(layer)))
LIBS := $(LAYERS:%=$(B)/lib%.a)
MAIN_OBJ := $(B)/vmm/main.o
IMG_OBJ := $(B)/block/img/skiff_img.o
TEST_SUPPORT_SRC := $(shell find tests/support -name '*.c' 2>/dev/null | sort)
TEST_SUPPORT_OBJ := $(TEST_SUPPORT_SRC:%.c=$(B)/%.o)
TEST_SRC := $(shell find tests -name 'test_*.c' ! -path 'tests/fuzz/*' 2>/dev/null | sort)
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)
FUZZ_SRC := $(shell find tests/fuzz -name 'fuzz_*.c' 2>/dev/null | sort)
FUZZ_BIN := $(FUZZ_SRC:%.c=$(B)/%)

# Every executable of tests/guest, and test-*.sh elsewhere.
TEST_SCRIPTS := $(shell find tests -type f -perm -u+x \( -path 'tests/guest/*' -o -name 'test-*.sh' \) | LC_ALL=C sort)

# Both are always the release, whichever variants are built beside it.
all: $(B)/skiff $(B)/skiff-img $(if $(filter release,$(V)),build/skiff build/skiff-img)

build/skiff build/skiff-img: build/%: build/release/%
	@ln -sfn release/$* $@

$(B)/skiff-img: $(IMG_OBJ) $(B)/libblock.a $(B)/libutil.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

$(B)/skiff: $(MAIN_OBJ) $(LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(MAIN_OBJ) $(LIBS) $(PKG_LIBS)

define layer_archive
$(B)/lib$(1).a: $(filter $(B)/$(1)/%,$(LIB_OBJ))
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@
	$$(Q)ar rcs $$@ $$^
endef
$(foreach layer,$(LAYERS),$(eval $(call layer_archive,$(layer))))

$(B)/%.o: %.c
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/%.o: %.S
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/%/trace_events.o: %/trace_events.h
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -DTRACE_EVENTS_DEFINE -MMD -MP -c -o $@ -x c $<

$(TEST_BIN): $(B)/%: $(B)/%.o $(TEST_SUPPORT_OBJ) $(LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(TEST_SUPPORT_OBJ) $(LIBS) $(PKG_LIBS) $(TEST_LIBS)

$(FUZZ_BIN): $(B)/%: $(B)/%.o $(TEST_SUPPORT_OBJ) $(LIBS)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< $(TEST_SUPPORT_OBJ) $(LIBS) $(PKG_LIBS) $(TEST_LIBS)

test-bins: $(TEST_BIN)
fuzz-bins: $(FUZZ_BIN)

# ---- run, check, install --------------------------------------------------------------------
# These targets install their packages and then run make again, so that it finds the libraries.

SUBMAKE = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

run:
	@tests/install-deps build run
	@$(SUBMAKE) --quiet V=release all guests linux-guest
	@guest-images/linux/run $(RUN_ARGS)

# Options of tests/run: a selection of programs, and whether /dev/kvm is hidden from them.
TESTS ?=
NO_KVM ?=

# Unit tests and the fast guests use the variant with every check compiled in; the lab runs the
# release.
check:
	@tests/install-deps build test
	@$(SUBMAKE) V=release all
	@$(SUBMAKE) V=test run-tests

check-long:
	@tests/install-deps build test long
	@$(SUBMAKE) V=release all
	@$(SUBMAKE) V=test run-tests LONG=1
	@$(SUBMAKE) soak
	$(if $(KVM_UNIT_TESTS),tests/kvm-unit-tests/run --lab 7200 '$(KVM_UNIT_TESTS)')

# Disks under load, for that time with each of these sanitizers.
SOAK_SECONDS ?= 600
soak:
	@tests/install-deps build test
	@$(SUBMAKE) V=asan all
	@$(SUBMAKE) V=tsan all guests
	$(Q)tests/soak $(SOAK_SECONDS) build/asan/skiff build/tsan/skiff

# Every script that starts skiff, here and in the lab, with its system calls filtered.
check-sandbox:
	@tests/install-deps build test
	@$(SUBMAKE) V=release all
	@$(SUBMAKE) V=test run-tests-sandboxed

asan ubsan tsan:
	@tests/install-deps build test
	@$(SUBMAKE) V=$@ run-tests

RUN_TESTS_test  := --skiff unit=$(B)/skiff --skiff kvm=$(B)/skiff --skiff lab=build/release/skiff
RUN_TESTS_san    = --tier unit,kvm --skiff unit=$(B)/skiff --skiff kvm=$(B)/skiff
RUN_TESTS_asan   = $(RUN_TESTS_san) --slow 3
RUN_TESTS_ubsan  = $(RUN_TESTS_san) --slow 2
# TSan's shadow memory does not cover every randomized address space.
RUN_TESTS_tsan   = $(RUN_TESTS_san) --slow 10 --wrap 'setarch -R'

RUN_HOW = $(if $(NO_KVM),--no-kvm) $(if $(LONG),--long)

# Sanitizers are useless for programs that do not run skiff or skiff-img.
SKIFF_SCRIPTS := $(filter-out %/qemu-selftest,$(filter tests/guest/% tests/img/%,$(TEST_SCRIPTS)))
RUN_SCRIPTS    = $(if $(filter test,$(V)),$(TEST_SCRIPTS),$(SKIFF_SCRIPTS))

# The lab is built first, so that no test's time includes it.
run-tests: $(B)/skiff $(B)/skiff-img test-bins guests agent linux-guest lab-image
	$(Q)tests/run $(RUN_TESTS_$(V)) $(RUN_HOW) $(or $(TESTS),$(TEST_BIN) $(RUN_SCRIPTS))

run-tests-sandboxed: $(B)/skiff guests agent linux-guest lab-image
	$(Q)tests/run --sandbox $(RUN_TESTS_test) $(RUN_HOW) $(filter tests/guest/%,$(SKIFF_SCRIPTS))

lab-image: linux-guest
	$(Q)tests/lab/prepare

lint:
	@tests/install-deps build test lint
	@$(SUBMAKE) V=test run-lint

# The library first, because sources include generated headers.
run-lint: $(LIBS)
	$(Q)CLANG='$(CLANG)' LIBS='$(LIBS)' tests/lint/lint $(B)/gen $(PKG_CFLAGS)

FUZZ_SECONDS ?= 60
FUZZ_SEED ?= $(shell date +%s)
fuzz:
	@tests/install-deps build test
	@$(SUBMAKE) V=asan run-fuzzers FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED)

run-fuzzers: fuzz-bins
	$(Q)printf '%s\n' $(FUZZ_BIN) | xargs -r -P $$(nproc) -I{} \
	    sh -c '{} --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED) || { echo "{} --seed $(FUZZ_SEED) failed"; exit 255; }'

bench:
	@tests/install-deps build test bench
	@$(SUBMAKE) V=release all guests linux-guest bench-bins
	tests/bench/run

# Compares QMP with QEMU's; writes docs/qmp-differences.md.
compare-qmp:
	@tests/install-deps build test
	@$(SUBMAKE) V=release all guests lab-image
	$(Q)tests/compare-qmp/get-qemu build/qemu-10
	$(Q)tests/compare-qmp/compare

install: all agent
	install -D -m 755 build/release/skiff $(DESTDIR)$(PREFIX)/bin/skiff
	install -D -m 755 build/agent/skiff-agent $(DESTDIR)$(PREFIX)/lib/skiff/skiff-agent
	install -D -m 755 build/release/skiff-img $(DESTDIR)$(PREFIX)/bin/skiff-img
	install -D -m 644 docs/skiff-img.1 $(DESTDIR)$(PREFIX)/share/man/man1/skiff-img.1
	install -D -m 644 docs/skiff.1 $(DESTDIR)$(PREFIX)/share/man/man1/skiff.1
	install -D -m 644 vmm/skiff-gdb.py $(DESTDIR)$(PREFIX)/share/skiff/skiff-gdb.py
	install -d $(DESTDIR)$(PREFIX)/share/gdb/auto-load$(PREFIX)/bin
	ln -sfn $(PREFIX)/share/skiff/skiff-gdb.py \
	    $(DESTDIR)$(PREFIX)/share/gdb/auto-load$(PREFIX)/bin/skiff-gdb.py

clean:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
-include $(shell find guest-images tests vmm -name '*.mk' | sort)

.PHONY: all run check check-long soak compare-qmp check-sandbox run-tests-sandboxed lint asan ubsan tsan fuzz bench install clean
.PHONY: test-bins fuzz-bins run-tests run-lint run-fuzzers lab-image
