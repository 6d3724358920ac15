# SPDX-License-Identifier: Apache-2.0
# The Linux guest; guest-images/linux/build lists the files.

LINUX_GUEST := $(addprefix build/linux/,vmlinuz vmlinux initramfs.cpio.gz rootfs.img)

linux-guest: $(LINUX_GUEST)

$(LINUX_GUEST) &: $(AGENT) $(filter-out %/run,$(wildcard guest-images/linux/*))
	guest-images/linux/build
	@touch $(LINUX_GUEST)

.PHONY: linux-guest
