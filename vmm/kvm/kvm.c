/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define KVM_PATH "/dev/kvm"

static const char *kvm_open_advice(int err)
{
    switch (err) {
    case ENOENT:
        return "load the module (modprobe kvm_intel or kvm_amd); inside a VM, turn on nested "
               "virtualization";
    case EACCES:
    case EPERM:
        return "add yourself to the group that owns it (usermod -aG kvm $USER, then log in again)";
    case ENXIO:
    case ENODEV:
        return "the host's processor or firmware has virtualization turned off, or no KVM module "
               "is loaded";
    case EBUSY:
        return "another hypervisor uses the processor's virtualization";
    case EMFILE:
        return "raise the limit of open files (ulimit -n)";
    case ENFILE:
        return "the host as a whole has too many files open (fs.file-max)";
    default:
        return "see dmesg for KVM's message";
    }
}

static bool kvm_fail(GError **error, const char *what)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "KVM: %s: %s", what,
                g_strerror(err));
    return false;
}

static bool kvm_check_required(Kvm *kvm, GError **error)
{
    static const struct {
        int capability;
        const char *name;
    } required[] = {
        {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
        {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
        {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
        {KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
        {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
        {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
        {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
        {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(required); i++) {
        if (kvm_check(kvm, required[i].capability) <= 0) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                        "KVM: this host's KVM lacks %s: Linux 4.13 or later has it",
                        required[i].name);
            return false;
        }
    }
    return true;
}

bool kvm_open(Kvm *kvm, GError **error)
{
    memset(kvm, 0, sizeof(*kvm));
    kvm->vm_fd = -1;
    kvm->fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
    if (kvm->fd < 0) {
        int err = errno;
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err),
                    "cannot open " KVM_PATH ": %s: %s", g_strerror(err), kvm_open_advice(err));
        return false;
    }
    int version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS,
                    KVM_PATH " has an unknown KVM API ( version %d, expected %d)", version,
                    KVM_API_VERSION);
        kvm_close(kvm);
        return false;
    }
    int run_size = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < 0) {
        kvm_fail(error, "KVM_GET_VCPU_MMAP_SIZE");
        kvm_close(kvm);
        return false;
    }
    kvm->run_size = (size_t)run_size;
    if (!kvm_check_required(kvm, error)) {
        kvm_close(kvm);
        return false;
    }
    int max = kvm_check(kvm, KVM_CAP_MAX_VCPUS);
    kvm->max_vcpus = max > 0 ? (unsigned)max : 4;
    return true;
}

int kvm_check(const Kvm *kvm, int capability)
{
    int ret = ioctl(kvm->vm_fd >= 0 ? kvm->vm_fd : kvm->fd, KVM_CHECK_EXTENSION, capability);
    return MAX(ret, 0);
}

bool kvm_create_vm(Kvm *kvm, const GuestRam *ram, GError **error)
{
    do { /* a signal during creation is not an error */
        kvm->vm_fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
    } while (kvm->vm_fd < 0 && errno == EINTR);
    if (kvm->vm_fd < 0) {
        return kvm_fail(error, "KVM_CREATE_VM");
    }
    kvm->has_msi_devid = kvm_check(kvm, KVM_CAP_MSI_DEVID) > 0;
    /* RAM comes before the architecture's chips. A slot takes effect after a grace period of the
     * kernel, which ends at once unless another wait for one is under way. The chips register on
     * KVM's buses and start such a wait (Linux 6.18), so RAM after them would wait for some ticks
     * of the host's clock. */
    return kvm_slots_init(kvm, ram, error);
}

void kvm_close(Kvm *kvm)
{
    if (kvm->vm_fd >= 0) {
        close(kvm->vm_fd);
    }
    if (kvm->fd >= 0) {
        close(kvm->fd);
    }
    kvm->fd = kvm->vm_fd = -1;
    kvm_free_routes(kvm);
}

void kvm_fill_machine_ops(MachineOps *ops)
{
    kvm_irq_fill_ops(ops);
    kvm_doorbell_fill_ops(ops);
    kvm_slots_fill_ops(ops);
}
