# SPDX-License-Identifier: Apache-2.0
# The DSDT: ASL compiled to AML, as a C array, by iasl (Debian: acpica-tools).

IASL ?= iasl

$(B)/gen/dsdt.h: vmm/board/x86_64/dsdt.asl
	@mkdir -p $(@D)
	@command -v $(IASL) >/dev/null || { echo "iasl not found: apt-get install acpica-tools" >&2; exit 1; }
	$(IASL) -we -vs -tc -p $(@D)/dsdt $< >/dev/null
	@mv $(@D)/dsdt.hex $@

$(B)/vmm/board/x86_64/acpi.o: $(B)/gen/dsdt.h
