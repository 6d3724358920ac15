# SPDX-License-Identifier: Apache-2.0
# ASL compiled to AML, as C arrays, by iasl (Debian: acpica-tools). Message 6035 is an _HID whose
# number is not hexadecimal: QEMUVGID is one.

IASL ?= iasl

$(B)/gen/%.h: vmm/board/x86_64/%.asl
	@mkdir -p $(@D)
	@command -v $(IASL) >/dev/null || { echo "iasl not found: apt-get install acpica-tools" >&2; exit 1; }
	$(IASL) -we -vs -vw 6035 -tc -p $(@D)/$* $< >/dev/null
	@mv $(@D)/$*.hex $@

$(B)/vmm/board/x86_64/acpi.o: $(B)/gen/dsdt.h $(B)/gen/vmgenid.h
