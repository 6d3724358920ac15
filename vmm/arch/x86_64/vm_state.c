/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/x86_64/vm_state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/arch_vm.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/pit.h"

#define U8(S, f) STATE_FIELD(S, STATE_U8, f)
#define U8_MAX(S, f, m) STATE_FIELD_MAX(S, STATE_U8, f, m)
#define TABLE(n, S, t)                                                                             \
    {                                                                                              \
        .name = (n), .version = 1, .min_version = 1, .struct_size = sizeof(S), .fields = (t)       \
    }

typedef struct kvm_pic_state Pic;
static const StateField pic_fields[] = {U8(Pic, last_irr),
                                        U8(Pic, irr),
                                        U8(Pic, imr),
                                        U8(Pic, isr),
                                        U8_MAX(Pic, priority_add, 7),
                                        U8(Pic, irq_base),
                                        U8_MAX(Pic, read_reg_select, 1),
                                        U8_MAX(Pic, poll, 4),
                                        U8_MAX(Pic, special_mask, 1),
                                        U8_MAX(Pic, init_state, 3),
                                        U8_MAX(Pic, auto_eoi, 2),
                                        U8_MAX(Pic, rotate_on_auto_eoi, 1),
                                        U8_MAX(Pic, special_fully_nested_mode, 16),
                                        U8_MAX(Pic, init4, 1),
                                        U8(Pic, elcr),
                                        U8(Pic, elcr_mask),
                                        {0}};
static const StateDesc pic_desc = TABLE("pic", Pic, pic_fields);

typedef struct kvm_ioapic_state Ioapic;
static const StateField ioapic_fields[] = {
    STATE_FIELD(Ioapic, STATE_U64, base_address),
    STATE_FIELD_MAX(Ioapic, STATE_U32, ioregsel, UINT8_MAX),
    STATE_FIELD(Ioapic, STATE_U32, id),
    STATE_FIELD_MAX(Ioapic, STATE_U32, irr, (1u << KVM_IOAPIC_NUM_PINS) - 1),
    STATE_PADDING(Ioapic, pad),
    STATE_ARRAY(Ioapic, STATE_U64, redirtbl),
    {0}};
static const StateDesc ioapic_desc = TABLE("ioapic", Ioapic, ioapic_fields);

typedef struct kvm_pit_channel_state Channel;
#define PIT_MODE_LAST 7
/* A counter that KVM runs no timer for, as for one that was never programmed, whose mode is 0xff in KVM. */
#define PIT_MODE_SILENT 5
static const StateField channel_fields[] = {STATE_FIELD_MAX(Channel, STATE_U32, count, 0x10000),
                                            STATE_FIELD(Channel, STATE_U16, latched_count),
                                            U8_MAX(Channel, count_latched, 4),
                                            U8_MAX(Channel, status_latched, 1),
                                            U8(Channel, status),
                                            U8_MAX(Channel, read_state, 4),
                                            U8_MAX(Channel, write_state, 4),
                                            U8(Channel, write_latch),
                                            U8_MAX(Channel, rw_mode, 3),
                                            U8_MAX(Channel, mode, PIT_MODE_LAST),
                                            U8_MAX(Channel, bcd, 1),
                                            U8_MAX(Channel, gate, 1),
                                            STATE_PADDING(Channel, count_load_time),
                                            {0}};
static const StateDesc channel_desc = TABLE("channel", Channel, channel_fields);

typedef struct kvm_pit_state2 Pit;
static const StateField pit_fields[] = {
    STATE_STRUCTS(Pit, channels, &channel_desc),
    STATE_FIELD_MAX(Pit, STATE_U32, flags,
                    KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON),
    STATE_PADDING(Pit, reserved),
    {0}};
static const StateDesc pit_desc = TABLE("pit", Pit, pit_fields);

static const StateField vm_fields[] = {STATE_STRUCTS(ArchVmState, pics, &pic_desc),
                                       STATE_STRUCT_ONE(ArchVmState, ioapic, &ioapic_desc),
                                       STATE_STRUCT_ONE(ArchVmState, pit, &pit_desc),
                                       STATE_FIELD_MAX(ArchVmState, STATE_U64, clock_ns, INT64_MAX),
                                       STATE_FIELD(ArchVmState, STATE_BOOL, has_pit),
                                       STATE_PADDING(ArchVmState, pad),
                                       {0}};

static bool vm_state_check(const void *state, GError **error)
{
    const ArchVmState *s = state;
    if (s->ioapic.base_address == X86_IOAPIC_BASE) {
        return true;
    }
    g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE, "the I/O APIC is at 0x%llx, not at 0x%llx",
                s->ioapic.base_address, (unsigned long long)X86_IOAPIC_BASE);
    return false;
}

const StateDesc arch_vm_state_desc = {.name = "x86-chips",
                                      .version = 1,
                                      .min_version = 1,
                                      .struct_size = sizeof(ArchVmState),
                                      .fields = vm_fields,
                                      .check = vm_state_check};

ArchVmState *arch_vm_state_new(void)
{
    return g_new0(ArchVmState, 1);
}

void arch_vm_state_free(ArchVmState *state)
{
    g_free(state);
}

static bool vm_state_call(Kvm *kvm, unsigned long request, void *data, const char *name,
                          GError **error)
{
    if (ioctl(kvm->vm_fd, request, data) == 0) {
        return true;
    }
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "KVM: %s: %s", name,
                g_strerror(err));
    return false;
}
#define VM_STATE_CALL(request, data) vm_state_call(kvm, (request), (data), #request, error)

static bool vm_state_save_chips(Kvm *kvm, ArchVmState *s, GError **error)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    if (!VM_STATE_CALL(KVM_GET_IRQCHIP, &chip)) {
        return false;
    }
    s->ioapic = chip.chip.ioapic;
    for (unsigned i = 0; i < G_N_ELEMENTS(s->pics); i++) {
        chip = (struct kvm_irqchip){.chip_id =
                                        i == 0 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE};
        if (!VM_STATE_CALL(KVM_GET_IRQCHIP, &chip)) {
            return false;
        }
        s->pics[i] = chip.chip.pic;
    }
    return true;
}

bool arch_vm_save(Kvm *kvm, ArchVmState *state, GError **error)
{
    memset(state, 0, sizeof(*state));
    if (!vm_state_save_chips(kvm, state, error)) {
        return false;
    }
    state->has_pit = x86_pit_exists();
    if (state->has_pit && !VM_STATE_CALL(KVM_GET_PIT2, &state->pit)) {
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(state->pit.channels); i++) {
        Channel *c = &state->pit.channels[i];
        c->count_load_time = 0; /* of this host's clock */
        if (c->mode > PIT_MODE_LAST) {
            c->mode = PIT_MODE_SILENT; /* never programmed */
        }
    }
    state->clock_ns = x86_vm_clock_get(kvm);
    return true;
}

static bool vm_state_apply(Kvm *kvm, const ArchVmState *s, GError **error)
{
    struct kvm_irqchip chips[] = {
        {.chip_id = KVM_IRQCHIP_PIC_MASTER, .chip.pic = s->pics[0]},
        {.chip_id = KVM_IRQCHIP_PIC_SLAVE, .chip.pic = s->pics[1]},
        {.chip_id = KVM_IRQCHIP_IOAPIC, .chip.ioapic = s->ioapic},
    };
    struct kvm_pit_state2 pit = s->pit;
    for (unsigned i = 0; i < G_N_ELEMENTS(chips); i++) {
        if (!VM_STATE_CALL(KVM_SET_IRQCHIP, &chips[i])) {
            return false;
        }
    }
    if (!s->has_pit) {
        return x86_pit_reset(kvm, error);
    }
    return (x86_pit_exists() || x86_pit_create(kvm, error)) && VM_STATE_CALL(KVM_SET_PIT2, &pit);
}

bool arch_vm_load(Kvm *kvm, const ArchVmState *state, GError **error)
{
    g_autoptr(ArchVmState) before = arch_vm_state_new();
    if (!arch_vm_save(kvm, before, error)) {
        return false;
    }
    if (!vm_state_apply(kvm, state, error)) {
        vm_state_apply(kvm, before, NULL);
        return false;
    }
    x86_vm_clock_set(state->clock_ns);
    return true;
}
