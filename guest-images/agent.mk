# SPDX-License-Identifier: Apache-2.0
# The agent of -exec: build/agent/skiff-agent, a static program without a C library for any x86_64
# Linux guest. docs/exec.md describes how it gets into a guest.

AGENT_OUT := build/agent
AGENT := $(AGENT_OUT)/skiff-agent
AGENT_CFLAGS := -std=gnu11 -Os -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none \
        -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -ffunction-sections -I. \
        -Wall -Wextra -Wshadow -Wmissing-prototypes -Wimplicit-fallthrough -Wvla -Wno-unused-parameter -Werror
AGENT_LDFLAGS := -nostdlib -static -no-pie -s -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,noexecstack
AGENT_OBJ := $(patsubst guest-images/agent/%,$(AGENT_OUT)/%.o,\
        $(wildcard guest-images/agent/*.c guest-images/agent/*.S))

agent: $(AGENT)

$(AGENT_OUT)/%.o: guest-images/agent/%
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(AGENT_CFLAGS) -MMD -MP -c -o $@ $<

$(AGENT): $(AGENT_OBJ)
	$(call say,LD,$@)
	$(Q)$(GUEST_CC) $(AGENT_LDFLAGS) -o $@ $(AGENT_OBJ)

-include $(wildcard $(AGENT_OUT)/*.d)

.PHONY: agent
