# SPDX-License-Identifier: Apache-2.0
# The Linux guest; guest-images/linux/build lists the files.

LINUX_GUEST := $(addprefix build/linux/,vmlinuz vmlinux initramfs.cpio.gz rootfs.img)

# Programs for the guest that busybox does not have.
LINUX_PROGRAMS := build/linux-programs/vsock-peer build/linux-programs/clock-peer

build/linux-programs/vsock-peer: guest-images/vsock/vsock-peer.c
build/linux-programs/clock-peer: guest-images/clock/clock-peer.c

$(LINUX_PROGRAMS):
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -std=gnu11 -Os -Wall -Wextra -Werror -static -s -o $@ $<

linux-guest: $(LINUX_GUEST)

$(LINUX_GUEST) &: $(AGENT) $(LINUX_PROGRAMS) $(filter-out %/run,$(wildcard guest-images/linux/*))
	guest-images/linux/build
	@touch $(LINUX_GUEST)

.PHONY: linux-guest
