# SPDX-License-Identifier: Apache-2.0
# The bare-metal guests: every guest-images/src/NAME.c with guest-images/lib becomes
# build/guests/NAME.elf (ELF64, PVH) and build/guests/NAME.mb.elf (ELF32, Multiboot 1);
# every guest-images/src/NAME.S becomes the raw image build/guests/NAME.bin; guests that use flash also become
# build/guests/NAME.rom, firmware of 128 KiB that ends at 4 GiB. See README.md there.

GUEST_CC ?= x86_64-linux-gnu-gcc
GUEST_OBJCOPY ?= x86_64-linux-gnu-objcopy
GUEST_OUT := build/guests
GUEST_OBJ := $(GUEST_OUT)/obj
GUEST_CFLAGS := -std=gnu11 -O2 -g -ffreestanding -fno-pic -mcmodel=small -mno-red-zone -mgeneral-regs-only \
        -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -fno-omit-frame-pointer \
        -fno-tree-loop-distribute-patterns -fno-strict-aliasing -Iguest-images -I. \
        -Wall -Wextra -Wshadow -Wmissing-prototypes -Wimplicit-fallthrough -Wvla -Wno-unused-parameter -Werror
GUEST_LDFLAGS := -nostdlib -static -no-pie -Wl,-z,max-page-size=0x1000 -Wl,--build-id=none \
        -Wl,--fatal-warnings -Wl,-T,guest-images/lib/guest.ld

GUEST_LIB_OBJ := $(patsubst guest-images/%,$(GUEST_OBJ)/%.o,$(filter-out %/multiboot.S,\
        $(wildcard guest-images/lib/*.c guest-images/lib/*.S)))
GUEST_MB_OBJ := $(GUEST_OBJ)/lib/multiboot.S.o
GUEST_NAMES := $(patsubst guest-images/src/%.c,%,$(wildcard guest-images/src/*.c))
GUEST_RAW := $(patsubst guest-images/src/%.S,%,$(wildcard guest-images/src/*.S))
GUEST_ELF := $(GUEST_NAMES:%=$(GUEST_OUT)/%.elf)
GUEST_MB_ELF := $(GUEST_NAMES:%=$(GUEST_OUT)/%.mb.elf)
GUEST_BIN := $(GUEST_RAW:%=$(GUEST_OUT)/%.bin)

GUEST_ROM := $(patsubst %,$(GUEST_OUT)/%.rom,$(filter pflash-% mix,$(GUEST_NAMES)))
GUEST_ROM_SIZE := 0x20000
GUEST_ROM_BASE := 0xfffe0000

guests: $(GUEST_ELF) $(GUEST_MB_ELF) $(GUEST_BIN) $(GUEST_ROM)

$(GUEST_OBJ)/%.o: guest-images/%
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUEST_ELF): $(GUEST_OUT)/%.elf: $(GUEST_OBJ)/src/%.c.o $(GUEST_LIB_OBJ) guest-images/lib/guest.ld
	$(call say,LD,$@)
	$(Q)$(GUEST_CC) $(GUEST_LDFLAGS) -Wl,-e,boot_pvh_entry -o $@ $(filter %.o,$^) -lgcc

$(GUEST_MB_ELF): $(GUEST_OUT)/%.mb.elf: $(GUEST_OBJ)/src/%.c.o $(GUEST_MB_OBJ) $(GUEST_LIB_OBJ) \
        guest-images/lib/guest.ld
	$(call say,LD,$@)
	$(Q)$(GUEST_CC) $(GUEST_LDFLAGS) -Wl,-e,boot_multiboot_entry -o $(GUEST_OBJ)/$*.mb64.elf $(filter %.o,$^) -lgcc
	$(Q)$(GUEST_OBJCOPY) -O elf32-i386 $(GUEST_OBJ)/$*.mb64.elf $@

$(GUEST_BIN): $(GUEST_OUT)/%.bin: $(GUEST_OBJ)/src/%.S.o
	$(call say,LD,$@)
	$(Q)$(GUEST_OBJCOPY) -O binary -j .text $< $@

$(GUEST_ROM): $(GUEST_OUT)/%.rom: $(GUEST_OUT)/%.elf guest-images/rom.S
	$(call say,ROM,$@)
	$(Q)$(GUEST_OBJCOPY) -O binary $< $(GUEST_OBJ)/$*.flat
	$(Q)address() { nm $< | sed -n "s/ . $$1$$//p"; }; \
	$(GUEST_CC) -c -DROM_SIZE=$(GUEST_ROM_SIZE) -DPAYLOAD='"$(GUEST_OBJ)/$*.flat"' \
	    -DENTRY=0x$$(address boot_pvh_entry) -DIMAGE_END=0x$$(address image_end) \
	    -o $(GUEST_OBJ)/$*.rom.o guest-images/rom.S
	$(Q)$(GUEST_CC) -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-Ttext=$(GUEST_ROM_BASE) -Wl,-e,$(GUEST_ROM_BASE) \
	    -o $(GUEST_OBJ)/$*.rom.elf $(GUEST_OBJ)/$*.rom.o
	$(Q)$(GUEST_OBJCOPY) -O binary -j .text $(GUEST_OBJ)/$*.rom.elf $@

-include $(wildcard $(GUEST_OBJ)/*/*.d)

.PHONY: guests
