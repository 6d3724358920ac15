/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/platform/pm.h"

#include "hw/platform/isa.h"
#include "hw/platform/trace_events.h"

#define PM_TIMER_HZ 3579545
#define PM_TIMER_BITS 24

#define PM1_TIMER 0x0001 /* bits of PM1_STS and PM1_EN */
#define PM1_GLOBAL 0x0020
#define PM1_POWER_BUTTON 0x0100
#define PM1_RTC 0x0400
#define PM1_WAKE 0x8000
#define PM1_STATUS_CLEARABLE (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_RTC | PM1_WAKE)
#define PM1_ENABLE_WRITABLE (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_RTC)

#define PM1_CONTROL_SCI_ENABLE 0x0001
#define PM1_CONTROL_SLEEP_TYPE 0x1c00
#define PM1_CONTROL_SLEEP_TYPE_SHIFT 10
#define PM1_CONTROL_SLEEP_ENABLE 0x2000 /* reads as zero */
#define PM1_CONTROL_WRITABLE (PM1_CONTROL_SLEEP_TYPE | 0x0002)

#define PM_REG_EVENT 0x00
#define PM_REG_CONTROL 0x04
#define PM_REG_TIMER 0x08
#define PM_REG_GPE_STATUS 0x20
#define PM_REG_GPE_ENABLE 0x28
#define PM_REG_SMI_ENABLE 0x30
/* If it is set, firmware does not set up SMM; there is no SMM. */
#define PM_SMI_ENABLE_APMC 0x20

#define PM_PORT_SMI_COMMAND 0xb2
#define PM_PORT_RESET 0xcf9
#define PM_RESET_CPU 0x04
#define PM_RESET_STORED 0x0a /* system reset, full reset: all kinds are the same here */

static const StateField pm_fields[] = {
    STATE_FIELD(PmState, STATE_U64, gpe_status),
    STATE_FIELD(PmState, STATE_U64, gpe_enable),
    STATE_FIELD(PmState, STATE_U64, timer_ticks),
    STATE_FIELD(PmState, STATE_U64, timer_halves),
    STATE_FIELD(PmState, STATE_U16, pm1_status),
    STATE_FIELD(PmState, STATE_U16, pm1_enable),
    STATE_FIELD(PmState, STATE_U16, pm1_control),
    STATE_FIELD(PmState, STATE_U8, smi_command),
    STATE_FIELD(PmState, STATE_U8, smi_status),
    STATE_FIELD(PmState, STATE_U8, reset_control),
    STATE_PADDING(PmState, reserved),
    {0},
};

const StateDesc pm_state_desc = {.name = "pm",
                                 .version = 1,
                                 .min_version = 1,
                                 .struct_size = sizeof(PmState),
                                 .fields = pm_fields};

/* ---- timer and SCI ---- */

static uint64_t pm_ticks_at(int64_t ns)
{
    return (uint64_t)((unsigned __int128)(uint64_t)ns * PM_TIMER_HZ / 1000000000);
}

static uint64_t pm_timer_ticks(const Pm *pm)
{
    return pm_ticks_at(vm_clock_now_ns()) + pm->timer_offset;
}

/* TMR_STS is set whenever the timer's top bit toggles: every 2^23 ticks (2.3 s). */
static uint64_t pm_timer_halves(const Pm *pm)
{
    return pm_timer_ticks(pm) >> (PM_TIMER_BITS - 1);
}

static void pm_update_status(Pm *pm) BQL_HELD
{
    PmState *s = pm->state;
    uint64_t halves = pm_timer_halves(pm);
    if (halves != s->timer_halves) {
        s->timer_halves = halves;
        s->pm1_status |= PM1_TIMER;
    }
    s->gpe_status |= pm->gpe_level;
}

/* Sets the SCI from status and enable bits, and arms the timer for the next change of the PM
 * timer. */
static void pm_update(Pm *pm) BQL_HELD
{
    PmState *s = pm->state;
    pm_update_status(pm);
    bool cause = (s->pm1_status & s->pm1_enable & PM1_ENABLE_WRITABLE) != 0 ||
                 (s->gpe_status & s->gpe_enable) != 0;
    irq_line_set(&pm->sci, cause && (s->pm1_control & PM1_CONTROL_SCI_ENABLE) != 0);
    if ((s->pm1_enable & PM1_TIMER) != 0 && (s->pm1_status & PM1_TIMER) == 0) {
        uint64_t next = (s->timer_halves + 1) << (PM_TIMER_BITS - 1);
        uint64_t ticks = next - pm_timer_ticks(pm);
        /* One more tick, so that rounding never fires before the bit has toggled. */
        int64_t wait_ns = (int64_t)((ticks + 1) * 1000000000 / PM_TIMER_HZ);
        vm_timer_arm(&pm->timer, vm_clock_now_ns() + wait_ns);
    } else {
        vm_timer_disarm(&pm->timer);
    }
}

static void pm_timer_fired(void *opaque)
{
    assert_bql();
    pm_update(opaque);
}

void pm_press_power_button(Pm *pm)
{
    trace_pm_power_button(device_label(pm->owner));
    pm->state->pm1_status |= PM1_POWER_BUTTON;
    pm_update(pm);
}

void pm_set_gpe(Pm *pm, unsigned gpe, bool level)
{
    uint64_t bit = UINT64_C(1) << gpe;
    uint64_t levels = (pm->gpe_level & ~bit) | (level ? bit : 0);
    if (levels != pm->gpe_level) {
        trace_pm_gpe(device_label(pm->owner), gpe, level);
        pm->gpe_level = levels;
        pm_update(pm);
    }
}

void pm_raise_gpe(Pm *pm, unsigned gpe)
{
    trace_pm_gpe(device_label(pm->owner), gpe, true);
    pm->state->gpe_status |= UINT64_C(1) << gpe;
    pm_update(pm);
}

/* ---- the block ---- */

static void pm_request(Pm *pm, int request)
{
    const Machine *machine = pm->owner->env->machine;
    machine_request(machine, request, 0);
}

static void pm_sleep(Pm *pm, unsigned type)
{
    trace_pm_sleep(device_label(pm->owner), type);
    if (type == PM_SLEEP_TYPE_S5 || type == 7) {
        pm_request(pm, VM_REQUEST_POWEROFF);
        return;
    }
    log_guest_error(&pm->owner->log_limit, device_label(pm->owner),
                    "sleep type %u requested: only soft-off (%u) exists", type, PM_SLEEP_TYPE_S5);
    pm->state->pm1_status |= PM1_WAKE; /* it sleeps and wakes at once */
}

/* Reads the doubleword at @reg. */
static uint32_t pm_read(Pm *pm, unsigned reg) BQL_HELD
{
    PmState *s = pm->state;
    switch (reg) {
    case PM_REG_EVENT:
        pm_update_status(pm);
        return s->pm1_status | (uint32_t)s->pm1_enable << 16;
    case PM_REG_CONTROL:
        return s->pm1_control;
    case PM_REG_TIMER:
        return (uint32_t)(pm_timer_ticks(pm) & ((1u << PM_TIMER_BITS) - 1));
    case PM_REG_GPE_STATUS:
        return (uint32_t)s->gpe_status;
    case PM_REG_GPE_STATUS + 4:
        return (uint32_t)(s->gpe_status >> 32);
    case PM_REG_GPE_ENABLE:
        return (uint32_t)s->gpe_enable;
    case PM_REG_GPE_ENABLE + 4:
        return (uint32_t)(s->gpe_enable >> 32);
    case PM_REG_SMI_ENABLE:
        return PM_SMI_ENABLE_APMC;
    default:
        return 0;
    }
}

static void pm_write_event(Pm *pm, uint32_t value, uint32_t mask) BQL_HELD
{
    PmState *s = pm->state;
    uint16_t enable_mask = (mask >> 16) & PM1_ENABLE_WRITABLE;
    pm_update_status(pm);
    s->pm1_status &= (uint16_t) ~(value & mask & PM1_STATUS_CLEARABLE);
    s->pm1_enable = (uint16_t)((s->pm1_enable & ~enable_mask) | (value >> 16 & enable_mask));
}

static void pm_write_control(Pm *pm, uint32_t value, uint32_t mask)
{
    PmState *s = pm->state;
    uint16_t writable = mask & PM1_CONTROL_WRITABLE;
    s->pm1_control = (uint16_t)((s->pm1_control & ~writable) | (value & writable));
    if ((value & mask & PM1_CONTROL_SLEEP_ENABLE) != 0) {
        pm_sleep(pm, (s->pm1_control & PM1_CONTROL_SLEEP_TYPE) >> PM1_CONTROL_SLEEP_TYPE_SHIFT);
    }
}

/* Writes the bits of @mask of the doubleword at @reg. */
static void pm_write(Pm *pm, unsigned reg, uint32_t value, uint32_t mask) BQL_HELD
{
    PmState *s = pm->state;
    unsigned shift = (reg & 4) * 8; /* of the upper half of a 64-bit register */
    uint64_t value64 = (uint64_t)value << shift, mask64 = (uint64_t)mask << shift;
    switch (reg) {
    case PM_REG_EVENT:
        pm_write_event(pm, value, mask);
        break;
    case PM_REG_CONTROL:
        pm_write_control(pm, value, mask);
        break;
    case PM_REG_GPE_STATUS:
    case PM_REG_GPE_STATUS + 4:
        s->gpe_status &= ~(value64 & mask64);
        break;
    case PM_REG_GPE_ENABLE:
    case PM_REG_GPE_ENABLE + 4:
        s->gpe_enable = (s->gpe_enable & ~mask64) | (value64 & mask64);
        break;
    default:
        return;
    }
    pm_update(pm);
}

static MmioResult pm_block_access(void *opaque, IoAccess *access)
{
    Pm *pm = opaque;
    assert_bql();
    /* At most four bytes, naturally aligned: always inside one doubleword. */
    unsigned reg = (unsigned)access->offset & ~3u, shift = (access->offset & 3) * 8;
    uint32_t mask = (access->size == 4 ? UINT32_MAX : (1u << (access->size * 8)) - 1) << shift;
    if (access->is_write) {
        pm_write(pm, reg, (uint32_t)access->value << shift, mask);
    } else {
        access->value = (pm_read(pm, reg) & mask) >> shift;
    }
    return MMIO_DONE;
}

static const IoRegionOps pm_block_ops = {.access = pm_block_access, .min_size = 1, .max_size = 4};

/* ---- fixed ports ---- */

static MmioResult pm_smi_access(void *opaque, IoAccess *access)
{
    Pm *pm = opaque;
    PmState *s = pm->state;
    assert_bql();
    uint8_t *reg = access->offset == 0 ? &s->smi_command : &s->smi_status;
    if (!access->is_write) {
        access->value = *reg;
        return MMIO_DONE;
    }
    *reg = (uint8_t)access->value;
    if (access->offset == 0 && *reg == PM_ACPI_ENABLE) {
        s->pm1_control |= PM1_CONTROL_SCI_ENABLE;
    } else if (access->offset == 0 && *reg == PM_ACPI_DISABLE) {
        s->pm1_control &= (uint16_t)~PM1_CONTROL_SCI_ENABLE;
    }
    pm_update(pm);
    return MMIO_DONE;
}

static const IoRegionOps pm_smi_ops = {.access = pm_smi_access, .min_size = 1, .max_size = 1};

static MmioResult pm_reset_port_access(void *opaque, IoAccess *access)
{
    Pm *pm = opaque;
    assert_bql();
    if (!access->is_write) {
        access->value = pm->state->reset_control;
        return MMIO_DONE;
    }
    trace_pm_reset_register(device_label(pm->owner), (unsigned)access->value);
    pm->state->reset_control = (uint8_t)access->value & PM_RESET_STORED;
    if ((access->value & PM_RESET_CPU) != 0) {
        pm_request(pm, VM_REQUEST_RESET);
    }
    return MMIO_DONE;
}

static const IoRegionOps pm_reset_port_ops = {
    .access = pm_reset_port_access, .min_size = 1, .max_size = 1};

/* ---- life cycle ---- */

bool pm_init(Pm *pm, Device *owner, PmState *state, GError **error)
{
    pm->owner = owner;
    pm->state = state;
    pm->block =
        (IoRegion){.name = "acpi-pm", .ops = &pm_block_ops, .opaque = pm, .size = PM_BLOCK_SIZE};
    pm->smi_ports = (IoRegion){.name = "smi-command", .ops = &pm_smi_ops, .opaque = pm, .size = 2};
    pm->reset_port =
        (IoRegion){.name = "reset-control", .ops = &pm_reset_port_ops, .opaque = pm, .size = 1};
    isa_irq_connect(owner, &pm->sci, PM_SCI_IRQ);
    vm_timer_init(&pm->timer, pm_timer_fired, pm);
    bql_lock();
    /* Above the config ports, with which it shares an address. */
    address_space_map(owner->env->pio, &pm->reset_port, PM_PORT_RESET, 2);
    bql_unlock();
    if (!isa_device_attach(owner, &pm->smi_ports, PM_PORT_SMI_COMMAND, error)) {
        pm_fini(pm);
        return false;
    }
    return true;
}

void pm_fini(Pm *pm)
{
    isa_device_detach(&pm->block);
    isa_device_detach(&pm->smi_ports);
    isa_device_detach(&pm->reset_port);
    vm_timer_fini(&pm->timer);
    irq_line_set(&pm->sci, false);
}

void pm_reset(Pm *pm)
{
    *pm->state = (PmState){.pm1_control = PM1_CONTROL_SCI_ENABLE};
    pm->state->timer_halves = pm_timer_halves(pm); /* the timer continues through a reset */
    pm_update(pm);
}

void pm_pre_save(Pm *pm)
{
    pm_update_status(pm);
    pm->state->timer_ticks = pm_timer_ticks(pm);
}

void pm_post_load(Pm *pm)
{
    pm->timer_offset = pm->state->timer_ticks - pm_ticks_at(vm_clock_now_ns());
    pm->gpe_level = 0; /* its sources report it again */
    pm_update(pm);
}

void pm_set_base(Pm *pm, uint16_t base, bool enabled)
{
    IoRegion *block = &pm->block;
    if (enabled && block->space != NULL && block->base == base) {
        return;
    }
    trace_pm_place(device_label(pm->owner), base, enabled);
    address_space_unmap(block);
    if (enabled) {
        address_space_map(pm->owner->env->pio, block, base, 1);
    }
}
