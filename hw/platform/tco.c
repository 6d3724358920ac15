/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/platform/tco.h"

#include "hw/platform/trace_events.h"

#define TCO_TICK_NS INT64_C(600000000)
#define TCO_TICKS_MAX 0x3ff
#define TCO_TICKS_MIN 2 /* the chip ignores smaller values of TCO_TMR */

#define TCO_REG_RELOAD 0x00
#define TCO_REG_DATA 0x02
#define TCO_REG_STATUS1 0x04
#define TCO_REG_STATUS2 0x06
#define TCO_REG_CONTROL1 0x08
#define TCO_REG_CONTROL2 0x0a
#define TCO_REG_MESSAGE 0x0c
#define TCO_REG_WDCNT 0x0e
#define TCO_REG_SW_IRQ_GEN 0x10
#define TCO_REG_TIMER 0x12

#define TCO_STATUS1_SW_SMI 0x0002
#define TCO_STATUS1_INT 0x0004
#define TCO_STATUS1_TIMEOUT 0x0008
#define TCO_STATUS1_CLEARABLE (TCO_STATUS1_SW_SMI | TCO_STATUS1_INT | TCO_STATUS1_TIMEOUT)
#define TCO_STATUS2_SECOND 0x0002
#define TCO_STATUS2_BOOT 0x0004
#define TCO_STATUS2_CLEARABLE (TCO_STATUS2_SECOND | TCO_STATUS2_BOOT)
#define TCO_CONTROL1_HALT 0x0800
#define TCO_CONTROL1_LOCK 0x1000 /* stays set until a reset */
#define TCO_CONTROL1_WRITABLE (TCO_CONTROL1_HALT | TCO_CONTROL1_LOCK | 0x0200)
#define TCO_CONTROL2_WRITABLE 0x003e
#define TCO_CONTROL2_POWER_ON 0x0008
#define TCO_SW_IRQ_GEN_WRITABLE 0x03
#define TCO_TIMER_POWER_ON 4

#define TCO_CHIPSET_GCS 0x3410
#define TCO_GCS_NO_REBOOT 0x20

static const StateField tco_fields[] = {
    STATE_FIELD(TcoState, STATE_U64, remaining_ns),
    STATE_FIELD(TcoState, STATE_U32, gcs),
    STATE_FIELD(TcoState, STATE_U16, reload),
    STATE_FIELD(TcoState, STATE_U16, status1),
    STATE_FIELD(TcoState, STATE_U16, status2),
    STATE_FIELD(TcoState, STATE_U16, control1),
    STATE_FIELD(TcoState, STATE_U16, control2),
    STATE_FIELD(TcoState, STATE_U16, timer),
    STATE_FIELD(TcoState, STATE_U8, data_in),
    STATE_FIELD(TcoState, STATE_U8, data_out),
    STATE_ARRAY(TcoState, STATE_U8, message),
    STATE_FIELD(TcoState, STATE_U8, wdcnt),
    STATE_FIELD(TcoState, STATE_U8, sw_irq_gen),
    STATE_FIELD_MAX(TcoState, STATE_U8, time_outs, 1),
    STATE_FIELD_MAX(TcoState, STATE_U8, runs, 1),
    {0},
};

const StateDesc tco_state_desc = {.name = "tco",
                                  .version = 1,
                                  .min_version = 1,
                                  .struct_size = sizeof(TcoState),
                                  .fields = tco_fields};

/* ---- the timer ---- */

static bool tco_may_run(const Tco *tco)
{
    return (tco->state->control1 & TCO_CONTROL1_HALT) == 0 && tco->state->timer >= TCO_TICKS_MIN;
}

static void tco_stop(Tco *tco) BQL_HELD
{
    tco->state->runs = 0;
    vm_timer_disarm(&tco->timer);
}

static void tco_run(Tco *tco) BQL_HELD
{
    TcoState *s = tco->state;
    trace_tco_reload(device_label(tco->owner), s->timer);
    s->runs = 1;
    int64_t ticks = MAX(s->timer, TCO_TICKS_MIN);
    vm_timer_arm(&tco->timer, vm_clock_now_ns() + ticks * TCO_TICK_NS);
}

static void tco_timer_fired(void *opaque)
{
    Tco *tco = opaque;
    TcoState *s = tco->state;
    assert_bql();
    bool reboots = (s->gcs & TCO_GCS_NO_REBOOT) == 0;
    trace_tco_expired(device_label(tco->owner), s->time_outs + 1u, reboots);
    s->status1 |= TCO_STATUS1_TIMEOUT;
    if (s->time_outs == 0) {
        s->time_outs = 1;
        tco_run(tco);
        return;
    }
    s->time_outs = 0;
    s->status2 |= TCO_STATUS2_SECOND | TCO_STATUS2_BOOT;
    if (reboots) {
        const Machine *machine = tco->owner->env->machine;
        s->reload = 0;
        tco_stop(tco);
        machine_request(machine, VM_REQUEST_WATCHDOG, 0);
    } else {
        tco_run(tco);
    }
}

/* ---- registers ---- */

static uint16_t tco_ticks_left(const Tco *tco)
{
    if (tco->state->runs == 0) {
        return tco->state->reload;
    }
    int64_t left_ns = tco->timer.deadline_ns - vm_clock_now_ns();
    return (uint16_t)(MAX(left_ns, 0) / TCO_TICK_NS);
}

/* Reads the word at @reg. */
static uint16_t tco_read(const Tco *tco, unsigned reg)
{
    const TcoState *s = tco->state;
    switch (reg) {
    case TCO_REG_RELOAD:
        return tco_ticks_left(tco);
    case TCO_REG_DATA:
        return (uint16_t)(s->data_in | s->data_out << 8);
    case TCO_REG_STATUS1:
        return s->status1;
    case TCO_REG_STATUS2:
        return s->status2;
    case TCO_REG_CONTROL1:
        return s->control1;
    case TCO_REG_CONTROL2:
        return s->control2;
    case TCO_REG_MESSAGE:
        return (uint16_t)(s->message[0] | s->message[1] << 8);
    case TCO_REG_WDCNT:
        return s->wdcnt;
    case TCO_REG_SW_IRQ_GEN:
        return s->sw_irq_gen;
    case TCO_REG_TIMER:
        return s->timer;
    default:
        return 0;
    }
}

static void tco_write_reload(Tco *tco, uint16_t value) BQL_HELD
{
    tco->state->time_outs = 0;
    if (tco_may_run(tco)) {
        tco_run(tco);
    } else {
        tco->state->reload = value & TCO_TICKS_MAX;
    }
}

static void tco_write_control1(Tco *tco, uint16_t value) BQL_HELD
{
    TcoState *s = tco->state;
    s->control1 = (value & TCO_CONTROL1_WRITABLE) | (s->control1 & TCO_CONTROL1_LOCK);
    if (tco_may_run(tco)) {
        s->time_outs = 0;
        tco_run(tco);
    } else {
        s->reload = tco_ticks_left(tco);
        tco_stop(tco);
    }
}

static void tco_write_data(Tco *tco, uint16_t value, uint16_t mask)
{
    TcoState *s = tco->state;
    if ((mask & 0xff) != 0) {
        s->data_in = (uint8_t)value;
        s->status1 |= TCO_STATUS1_SW_SMI;
    }
    if ((mask & 0xff00) != 0) {
        s->data_out = (uint8_t)(value >> 8);
        s->status1 |= TCO_STATUS1_INT;
    }
}

/* Writes the bits of @mask of the word at @reg. */
static void tco_write(Tco *tco, unsigned reg, uint16_t value, uint16_t mask) BQL_HELD
{
    TcoState *s = tco->state;
    uint16_t merged = (uint16_t)((tco_read(tco, reg) & ~mask) | (value & mask));
    switch (reg) {
    case TCO_REG_RELOAD:
        tco_write_reload(tco, merged);
        break;
    case TCO_REG_DATA:
        tco_write_data(tco, value, mask);
        break;
    case TCO_REG_STATUS1:
        s->status1 &= (uint16_t) ~(value & mask & TCO_STATUS1_CLEARABLE);
        break;
    case TCO_REG_STATUS2:
        s->status2 &= (uint16_t) ~(value & mask & TCO_STATUS2_CLEARABLE);
        break;
    case TCO_REG_CONTROL1:
        tco_write_control1(tco, merged);
        break;
    case TCO_REG_CONTROL2:
        s->control2 = merged & TCO_CONTROL2_WRITABLE;
        break;
    case TCO_REG_MESSAGE:
        s->message[0] = (uint8_t)merged;
        s->message[1] = (uint8_t)(merged >> 8);
        break;
    case TCO_REG_WDCNT:
        s->wdcnt = (uint8_t)merged;
        break;
    case TCO_REG_SW_IRQ_GEN:
        s->sw_irq_gen = merged & TCO_SW_IRQ_GEN_WRITABLE;
        break;
    case TCO_REG_TIMER:
        s->timer = merged & TCO_TICKS_MAX;
        break;
    default:
        break;
    }
}

static MmioResult tco_access(void *opaque, IoAccess *access)
{
    Tco *tco = opaque;
    assert_bql();
    /* At most two bytes, naturally aligned: always inside one word. */
    unsigned reg = (unsigned)access->offset & ~1u, shift = (access->offset & 1) * 8;
    uint16_t mask = (uint16_t)((access->size == 2 ? 0xffff : 0xff) << shift);
    if (access->is_write) {
        tco_write(tco, reg, (uint16_t)(access->value << shift), mask);
    } else {
        access->value = (uint16_t)(tco_read(tco, reg) & mask) >> shift;
    }
    return MMIO_DONE;
}

static const IoRegionOps tco_ops = {.access = tco_access, .min_size = 1, .max_size = 2};

static MmioResult tco_chipset_access(void *opaque, IoAccess *access)
{
    Tco *tco = opaque;
    TcoState *s = tco->state;
    assert_bql();
    unsigned reg = (unsigned)access->offset & ~3u, shift = (access->offset & 3) * 8;
    bool is_gcs = reg == TCO_CHIPSET_GCS;
    if (!access->is_write) {
        access->value = is_gcs ? s->gcs >> shift : 0;
    } else if (is_gcs && shift == 0) {
        s->gcs = (uint32_t)access->value & TCO_GCS_NO_REBOOT;
        s->gcs |= tco->no_reboot ? TCO_GCS_NO_REBOOT : 0;
    }
    return MMIO_DONE;
}

static const IoRegionOps tco_chipset_ops = {
    .access = tco_chipset_access, .min_size = 1, .max_size = 4};

/* ---- life cycle ---- */

void tco_init(Tco *tco, Device *owner, TcoState *state, bool no_reboot)
{
    tco->owner = owner;
    tco->state = state;
    tco->no_reboot = no_reboot;
    tco->block = (IoRegion){.name = "tco", .ops = &tco_ops, .opaque = tco, .size = TCO_SIZE};
    tco->chipset = (IoRegion){
        .name = "chipset-config", .ops = &tco_chipset_ops, .opaque = tco, .size = TCO_CHIPSET_SIZE};
    vm_timer_init(&tco->timer, tco_timer_fired, tco);
}

void tco_fini(Tco *tco)
{
    bql_lock();
    address_space_unmap(&tco->block);
    address_space_unmap(&tco->chipset);
    bql_unlock();
    vm_timer_fini(&tco->timer);
}

void tco_reset(Tco *tco)
{
    *tco->state = (TcoState){
        .gcs = TCO_GCS_NO_REBOOT,
        .status2 = tco->state->status2 & TCO_STATUS2_CLEARABLE,
        .control2 = TCO_CONTROL2_POWER_ON,
        .timer = TCO_TIMER_POWER_ON,
        .sw_irq_gen = TCO_SW_IRQ_GEN_WRITABLE,
    };
    tco_stop(tco);
}

void tco_pre_save(Tco *tco)
{
    int64_t left_ns = tco->state->runs != 0 ? tco->timer.deadline_ns - vm_clock_now_ns() : 0;
    tco->state->remaining_ns = (uint64_t)MAX(left_ns, 0);
}

void tco_post_load(Tco *tco)
{
    TcoState *s = tco->state;
    s->gcs = (s->gcs & TCO_GCS_NO_REBOOT) | (tco->no_reboot ? TCO_GCS_NO_REBOOT : 0);
    s->reload &= TCO_TICKS_MAX;
    s->status1 &= TCO_STATUS1_CLEARABLE;
    s->status2 &= TCO_STATUS2_CLEARABLE;
    s->control1 &= TCO_CONTROL1_WRITABLE;
    s->control2 &= TCO_CONTROL2_WRITABLE;
    s->timer &= TCO_TICKS_MAX;
    s->sw_irq_gen &= TCO_SW_IRQ_GEN_WRITABLE;
    if (s->runs == 0 || (s->control1 & TCO_CONTROL1_HALT) != 0) {
        tco_stop(tco);
        return;
    }
    const uint64_t longest_ns = TCO_TICKS_MAX * TCO_TICK_NS;
    vm_timer_arm(&tco->timer, vm_clock_now_ns() + (int64_t)MIN(s->remaining_ns, longest_ns));
}

static void tco_place(Tco *tco, AddressSpace *space, IoRegion *region, uint64_t base, bool enabled)
    BQL_HELD
{
    if (enabled && region->space != NULL && region->base == base) {
        return;
    }
    address_space_unmap(region);
    if (enabled) {
        trace_tco_place(device_label(tco->owner), region->name, base);
        address_space_map(space, region, base, 2); /* above the ACPI block, which is around it */
    }
}

void tco_set_base(Tco *tco, uint16_t base, bool enabled)
{
    tco_place(tco, tco->owner->env->pio, &tco->block, base + TCO_OFFSET, enabled);
}

void tco_set_chipset(Tco *tco, uint32_t base, bool enabled)
{
    tco_place(tco, tco->owner->env->mmio, &tco->chipset, base, enabled);
}
