/* SPDX-License-Identifier: Apache-2.0 */
/* The VM's own chips on x86-64: PICs, IOAPIC and kvmclock, all in the kernel. The PIT is in pit.c. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "util/log.h"
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/arch_vm.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/pit.h"

/* The chips' state as KVM created them, restored at a reset. One VM per process. */
static struct {
    struct kvm_irqchip chips[3]; /* PIC master, PIC slave, IOAPIC */
    struct kvm_clock_data clock; /* while the VM is stopped */
    bool clock_stopped;
} chips;

static bool arch_fail(GError **error, const char *what)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "KVM: %s: %s", what,
                g_strerror(err));
    return false;
}

static bool arch_save_chips(Kvm *kvm, GError **error)
{
    static const uint32_t ids[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
                                   KVM_IRQCHIP_IOAPIC};
    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        chips.chips[i].chip_id = ids[i];
        if (ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chips.chips[i]) != 0) {
            return arch_fail(error, "KVM_GET_IRQCHIP");
        }
    }
    return true;
}

/* KVM's default table has the PIT at pin 0 of the I/O APIC; the MADT, as on every PC, has pin 2. */
static unsigned arch_fill_fixed_routes(struct kvm_irq_routing_entry *entries)
{
    unsigned n = 0;
    for (uint32_t gsi = 0; gsi < 16; gsi++) {
        if (gsi == X86_GSI_TIMER) {
            continue; /* the cascade; GSI 2 of the IOAPIC is the timer's, below */
        }
        entries[n++] = (struct kvm_irq_routing_entry){
            .gsi = gsi,
            .type = KVM_IRQ_ROUTING_IRQCHIP,
            .u.irqchip = {.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                          .pin = gsi % 8},
        };
    }
    for (uint32_t gsi = 0; gsi < X86_GSI_COUNT; gsi++) {
        if (gsi == X86_GSI_TIMER) {
            continue;
        }
        /* The PIT raises IRQ 0, which the MADT maps to pin 2. */
        entries[n++] = (struct kvm_irq_routing_entry){
            .gsi = gsi,
            .type = KVM_IRQ_ROUTING_IRQCHIP,
            .u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = gsi == 0 ? X86_GSI_TIMER : gsi},
        };
    }
    return n;
}

bool arch_vm_init(Kvm *kvm, GError **error)
{
    /* Both are for Intel processors that cannot run real mode themselves; harmless elsewhere. */
    uint64_t identity_map = X86_KVM_IDENTITY_MAP_GPA;
    if (kvm_check(kvm, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0 &&
        ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) != 0) {
        return arch_fail(error, "KVM_SET_IDENTITY_MAP_ADDR");
    }
    if (kvm_check(kvm, KVM_CAP_SET_TSS_ADDR) > 0 &&
        ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, X86_KVM_TSS_GPA) != 0) {
        return arch_fail(error, "KVM_SET_TSS_ADDR");
    }
    if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP) != 0) {
        return arch_fail(error, "KVM_CREATE_IRQCHIP");
    }
    struct kvm_irq_routing_entry fixed[KVM_MAX_FIXED_ROUTES];
    unsigned count = arch_fill_fixed_routes(fixed);
    return kvm_init_routes(kvm, fixed, count, ARCH_FIRST_MSI_GSI, error) &&
           arch_save_chips(kvm, error);
}

bool arch_vm_discard_late_ticks(Kvm *kvm, GError **error)
{
    return x86_pit_discard_late_ticks(kvm, error);
}

bool arch_vm_reset(Kvm *kvm, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(chips.chips); i++) {
        if (ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &chips.chips[i]) != 0) {
            return arch_fail(error, "KVM_SET_IRQCHIP");
        }
    }
    return x86_pit_reset(kvm, error);
}

/* ---- the state that a BIOS leaves ---- */

#define PIC_TIMER_AND_CASCADE 0x05u /* IRQ 0 and 2 */
#define PIC_MASTER_VECTOR 0x08
#define PIC_SLAVE_VECTOR 0x70

static bool arch_set_bios_pic(Kvm *kvm, unsigned index, uint8_t vector, uint8_t mask,
                              GError **error)
{
    struct kvm_irqchip chip = chips.chips[index];
    chip.chip.pic.irq_base = vector;
    chip.chip.pic.imr = mask;
    chip.chip.pic.init4 = 1;
    return ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &chip) == 0 || arch_fail(error, "KVM_SET_IRQCHIP");
}

bool x86_vm_start_bios_timer(Kvm *kvm, bool has_pit, GError **error)
{
    return arch_set_bios_pic(kvm, 0, PIC_MASTER_VECTOR, (uint8_t)~PIC_TIMER_AND_CASCADE, error) &&
           arch_set_bios_pic(kvm, 1, PIC_SLAVE_VECTOR, 0xff, error) &&
           (!has_pit || x86_pit_start_bios_timer(kvm, error));
}

void arch_vm_clock_stop(Kvm *kvm)
{
    chips.clock_stopped = ioctl(kvm->vm_fd, KVM_GET_CLOCK, &chips.clock) == 0;
}

void arch_vm_clock_start(Kvm *kvm)
{
    if (!chips.clock_stopped) {
        return;
    }
    chips.clock_stopped = false;
    struct kvm_clock_data clock = {.clock = chips.clock.clock};
    if (ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock) != 0) {
        log_warn("KVM_SET_CLOCK: %s: the guest's clock jumps", g_strerror(errno));
    }
}

uint64_t x86_vm_clock_get(Kvm *kvm)
{
    struct kvm_clock_data now;
    if (chips.clock_stopped) {
        return chips.clock.clock;
    }
    return ioctl(kvm->vm_fd, KVM_GET_CLOCK, &now) == 0 ? now.clock : 0;
}

void x86_vm_clock_set(uint64_t ns)
{
    chips.clock = (struct kvm_clock_data){.clock = ns};
    chips.clock_stopped = true;
}
