/* SPDX-License-Identifier: Apache-2.0 */
/* Doorbells: guest writes that signal an eventfd without leaving the kernel. KVM api.rst §4.59. */
#include <errno.h>
#include <sys/ioctl.h>
#include "util/loop/held.h"
#include "vmm/kvm/kvm.h"

static int kvm_ioeventfd(Kvm *kvm, bool pio, uint64_t address, unsigned size, bool match,
                         uint64_t data, int event_fd, bool remove)
{
    struct kvm_ioeventfd ioeventfd = {
        .datamatch = data,
        .addr = address,
        .len = size,
        .fd = event_fd,
        .flags = (pio ? KVM_IOEVENTFD_FLAG_PIO : 0) | (match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
                 (remove ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0),
    };
    return ioctl(kvm->vm_fd, KVM_IOEVENTFD, &ioeventfd) == 0 ? 0 : -errno;
}

static int kvm_doorbell_add(void *opaque, bool pio, uint64_t address, unsigned size, bool match,
                            uint64_t data, int event_fd)
{
    assert_bql();
    return kvm_ioeventfd(opaque, pio, address, size, match, data, event_fd, false);
}

static void kvm_doorbell_remove(void *opaque, bool pio, uint64_t address, unsigned size, bool match,
                                uint64_t data, int event_fd)
{
    assert_bql();
    kvm_ioeventfd(opaque, pio, address, size, match, data, event_fd, true);
}

void kvm_doorbell_fill_ops(MachineOps *ops)
{
    ops->doorbell_add = kvm_doorbell_add;
    ops->doorbell_remove = kvm_doorbell_remove;
}
