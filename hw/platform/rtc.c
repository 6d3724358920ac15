/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MC146818 real-time clock with 128 bytes of CMOS RAM at ports 0x70/0x71, interrupt 8.
 *
 * The time is the host's calendar time plus an offset, so it continues while the VM is stopped or
 * saved, as in a battery-backed clock (unless the property clock says otherwise). There is no tick: time bytes are computed when read, and
 * flags are updated when used. The timer runs only for an enabled interrupt whose flag is not set
 * yet. Periodic ticks follow VM time.
 *
 * A periodic tick that comes while PF is still set is lost, or, with lost_tick_policy=slew, is
 * delivered when the guest reads C: at most 20 in a row, so that the guest also gets to other work.
 */
#include "hw/platform/rtc.h"

#include "hw/platform/isa.h"
#include "hw/platform/rtc_int.h"
#include "hw/platform/trace_events.h"

#define RTC_PORT 0x70
#define RTC_IRQ 8
#define RTC_HZ 32768
#define RTC_LATE_IN_A_ROW 20
#define RTC_LOST_MAX 1000000 /* a few minutes of ticks; more are lost */
#define RTC_UIP_NS 244000    /* UIP is set for this time before an update */
#define RTC_LIMIT_S                                                                                \
    INT64_C(500000000000) /* 15000 years: arithmetic with saved times cannot overflow */

static const StateField rtc_fields[] = {
    STATE_FIELD(RtcState, STATE_U64, offset_s),
    STATE_FIELD(RtcState, STATE_U64, checked_s),
    STATE_FIELD(RtcState, STATE_U64, vm_ns),
    STATE_FIELD_MAX(RtcState, STATE_U32, phase_ns, 999999999),
    STATE_FIELD_MAX(RtcState, STATE_U32, lost_ticks, RTC_LOST_MAX),
    STATE_FIELD_MAX(RtcState, STATE_U8, index, RTC_CMOS_SIZE - 1),
    STATE_PADDING(RtcState, reserved),
    STATE_ARRAY(RtcState, STATE_BYTES, cmos),
    {0},
};

static const StateDesc rtc_state = STATE_DESC("mc146818rtc", 1, Rtc, state, RtcState, rtc_fields);

/* ---- flags, interrupt, timer ---- */

static uint64_t rtc_ticks_at(int64_t vm_ns)
{
    return (uint64_t)((unsigned __int128)(uint64_t)vm_ns * RTC_HZ / RTC_NS_PER_S);
}

/* @count periodic ticks have come since the last call. */
static void rtc_tick(Rtc *r, uint64_t count)
{
    RtcState *s = &r->state;
    bool unread = (s->cmos[RTC_C] & RTC_PERIODIC) != 0;
    uint64_t lost = s->lost_ticks + count - (unread ? 0 : 1);
    if (r->lost_policy == RTC_LOST_SLEW && (s->cmos[RTC_B] & RTC_PERIODIC) != 0) {
        s->lost_ticks = (uint32_t)MIN(lost, RTC_LOST_MAX);
    }
    s->cmos[RTC_C] |= RTC_PERIODIC;
    r->delivered_late = 0;
}

/* Sets the flags of the events since the last call. */
static void rtc_update_flags(Rtc *r)
{
    uint8_t *flags = &r->state.cmos[RTC_C];
    int64_t checked_s = (int64_t)r->state.checked_s;
    int64_t now_s = rtc_now_s(r, NULL);
    if (rtc_runs(r) && now_s != checked_s) {
        *flags |= RTC_UPDATE;
        if (now_s > checked_s && rtc_next_alarm_s(r, checked_s) <= now_s) {
            *flags |= RTC_ALARM;
        }
    }
    r->state.checked_s = (uint64_t)now_s;
    unsigned ticks = rtc_period_ticks(r);
    if (ticks != 0) {
        uint64_t period = rtc_ticks_at(vm_clock_now_ns()) / ticks;
        if (period != r->checked_period) {
            rtc_tick(r, period - r->checked_period);
            r->checked_period = period;
        }
    }
}

/* VM time of the next flag that raises an enabled interrupt. */
static int64_t rtc_next_event_ns(const Rtc *r)
{
    unsigned wanted = r->state.cmos[RTC_B] & ~r->state.cmos[RTC_C] & RTC_INTERRUPTS;
    int64_t now_ns = vm_clock_now_ns(), next_ns = INT64_MAX;
    int64_t fraction_ns;
    int64_t now_s = rtc_now_s(r, &fraction_ns);
    if (rtc_runs(r) && (wanted & RTC_UPDATE) != 0) {
        next_ns = now_ns + RTC_NS_PER_S - fraction_ns;
    }
    int64_t alarm_s = rtc_next_alarm_s(r, now_s);
    if (rtc_runs(r) && (wanted & RTC_ALARM) != 0 && alarm_s != INT64_MAX) {
        next_ns = MIN(next_ns, now_ns + (alarm_s - now_s) * RTC_NS_PER_S - fraction_ns);
    }
    unsigned ticks = rtc_period_ticks(r);
    if (ticks != 0 && (wanted & RTC_PERIODIC) != 0) {
        uint64_t at = (rtc_ticks_at(now_ns) / ticks + 1) * ticks;
        /* rounded up: not before the tick */
        next_ns =
            MIN(next_ns, (int64_t)(((unsigned __int128)at * RTC_NS_PER_S + RTC_HZ - 1) / RTC_HZ));
    }
    return next_ns;
}

static void rtc_update(Rtc *r) BQL_HELD
{
    rtc_update_flags(r);
    unsigned raised = r->state.cmos[RTC_B] & r->state.cmos[RTC_C] & RTC_INTERRUPTS;
    if (raised != 0) {
        trace_rtc_interrupt(device_label(&r->base), raised);
    }
    irq_line_set(&r->irq, raised != 0);
    int64_t next_ns = rtc_next_event_ns(r);
    if (next_ns == INT64_MAX) {
        vm_timer_disarm(&r->timer);
    } else {
        vm_timer_arm(&r->timer, next_ns);
    }
}

/* The timer fired, or the VM resumed and calendar time has jumped. */
static void rtc_timer_fired(void *opaque)
{
    assert_bql();
    rtc_update(opaque);
}

/* ---- registers ---- */

/* Flags are raised only for events from now on. */
static void rtc_mark_checked(Rtc *r)
{
    unsigned ticks = rtc_period_ticks(r);
    r->state.checked_s = (uint64_t)rtc_now_s(r, NULL);
    r->checked_period = ticks != 0 ? rtc_ticks_at(vm_clock_now_ns()) / ticks : 0;
}

/* Lost ticks stand for the same time at another rate; without ticks there are none. */
static void rtc_convert_lost_ticks(Rtc *r, unsigned old_ticks)
{
    unsigned ticks = rtc_period_ticks(r);
    if (ticks == 0 || (r->state.cmos[RTC_B] & RTC_PERIODIC) == 0) {
        r->state.lost_ticks = 0;
    } else if (old_ticks != 0) {
        uint64_t lost = (uint64_t)r->state.lost_ticks * old_ticks / ticks;
        r->state.lost_ticks = (uint32_t)MIN(lost, RTC_LOST_MAX);
    }
}

/* Writes A or B. When the clock stops, its bytes hold the time; when it starts, it continues from
 * them. */
static void rtc_write_control(Rtc *r, unsigned index, uint8_t value) BQL_HELD
{
    RtcState *s = &r->state;
    rtc_update_flags(r);
    bool ran = rtc_runs(r);
    bool divider_stopped = (s->cmos[RTC_A] & RTC_A_DIVIDER) != RTC_A_DIVIDER_32KHZ;
    int64_t time_s = rtc_now_s(r, NULL);
    unsigned old_ticks = rtc_period_ticks(r);
    if (index == RTC_A) {
        value &= (uint8_t)~RTC_A_UIP;
    } else if ((value & RTC_B_SET) != 0) {
        value &= (uint8_t)~RTC_UPDATE; /* as the chip does */
    }
    s->cmos[index] = value;
    if (ran) {
        rtc_encode(r, s->cmos, time_s);
    } else if (rtc_runs(r)) {
        rtc_set_now_s(r, rtc_decode(r, s->cmos));
        if (divider_stopped) {
            rtc_set_phase_half(r);
        }
    }
    rtc_convert_lost_ticks(r, old_ticks);
    rtc_mark_checked(r);
    rtc_update(r);
}

static void rtc_write_time(Rtc *r, unsigned index, uint8_t value) BQL_HELD
{
    RtcState *s = &r->state;
    if (!rtc_runs(r)) {
        s->cmos[index] = value;
        return;
    }
    rtc_update_flags(r);
    rtc_encode(r, s->cmos, rtc_now_s(r, NULL));
    s->cmos[index] = value;
    rtc_set_now_s(r, rtc_decode(r, s->cmos));
    rtc_mark_checked(r);
    rtc_update(r);
}

static void rtc_write(Rtc *r, unsigned index, uint8_t value) BQL_HELD
{
    switch (index) {
    case RTC_A:
    case RTC_B:
        rtc_write_control(r, index, value);
        break;
    case RTC_C:
    case RTC_D:
        break; /* read-only */
    case RTC_SECONDS_ALARM:
    case RTC_MINUTES_ALARM:
    case RTC_HOURS_ALARM:
        rtc_update_flags(r); /* the old alarm's flag, if it is due */
        r->state.cmos[index] = value;
        rtc_update(r);
        break;
    default:
        if (rtc_is_time_byte(index)) {
            rtc_write_time(r, index, value);
        } else {
            r->state.cmos[index] = value;
        }
        break;
    }
}

static uint8_t rtc_read_c(Rtc *r) BQL_HELD
{
    RtcState *s = &r->state;
    rtc_update_flags(r);
    uint8_t value = s->cmos[RTC_C];
    if ((value & s->cmos[RTC_B] & RTC_INTERRUPTS) != 0) {
        value |= RTC_C_IRQF;
    }
    s->cmos[RTC_C] = 0;
    rtc_update(r);
    if (s->lost_ticks > 0 && r->delivered_late < RTC_LATE_IN_A_ROW) {
        s->lost_ticks--;
        r->delivered_late++;
        s->cmos[RTC_C] |= RTC_PERIODIC;
        rtc_update(r);
    }
    return value;
}

static uint8_t rtc_read_a(const Rtc *r)
{
    int64_t fraction_ns;
    rtc_now_s(r, &fraction_ns);
    bool soon = rtc_runs(r) && fraction_ns >= RTC_NS_PER_S - RTC_UIP_NS;
    return r->state.cmos[RTC_A] | (soon ? RTC_A_UIP : 0);
}

static uint8_t rtc_read(Rtc *r, unsigned index) BQL_HELD
{
    switch (index) {
    case RTC_A:
        return rtc_read_a(r);
    case RTC_C:
        return rtc_read_c(r);
    default:
        if (rtc_is_time_byte(index) && rtc_runs(r)) {
            rtc_encode(r, r->state.cmos, rtc_now_s(r, NULL));
        }
        return r->state.cmos[index];
    }
}

static MmioResult rtc_access(void *opaque, IoAccess *access)
{
    Rtc *r = opaque;
    assert_bql();
    bool is_data = access->offset == 1;
    if (is_data && access->is_write) {
        rtc_write(r, r->state.index, (uint8_t)access->value);
    } else if (is_data) {
        access->value = rtc_read(r, r->state.index);
    } else if (access->is_write) {
        r->state.index = (uint8_t)access->value & (RTC_CMOS_SIZE - 1); /* bit 7 masks the NMI */
    }
    return MMIO_DONE;
}

static const IoRegionOps rtc_ops = {.access = rtc_access, .min_size = 1, .max_size = 1};

/* ---- life cycle ---- */

static bool rtc_realize(Device *dev, GError **error)
{
    Rtc *r = (Rtc *)dev;
    enter_main();
    r->state = (RtcState){0};
    r->state.cmos[RTC_A] = RTC_A_DIVIDER_32KHZ | 6; /* 1024 Hz */
    r->state.cmos[RTC_B] = RTC_B_24_HOURS;
    r->state.cmos[RTC_D] = RTC_D_VALID;
    r->region = (IoRegion){.name = "rtc", .ops = &rtc_ops, .opaque = r, .size = 2};
    isa_irq_connect(dev, &r->irq, RTC_IRQ);
    if (!rtc_set_base(r, error) || !isa_device_attach(dev, &r->region, RTC_PORT, error)) {
        return false;
    }
    rtc_mark_checked(r);
    vm_timer_init(&r->timer, rtc_timer_fired, r);
    r->listener = (VmClockListener){.resumed = rtc_timer_fired, .opaque = r};
    vm_clock_listen(&r->listener);
    return true;
}

static void rtc_unrealize(Device *dev)
{
    Rtc *r = (Rtc *)dev;
    enter_main();
    vm_clock_unlisten(&r->listener);
    vm_timer_fini(&r->timer);
    isa_device_detach(&r->region);
    irq_line_set(&r->irq, false);
}

/* The RESET pin disables interrupts and clears flags. Time, modes and RAM are battery-backed. */
static void rtc_reset(Device *dev)
{
    Rtc *r = (Rtc *)dev;
    assert_bql();
    rtc_update_flags(r);
    r->state.cmos[RTC_B] &= (uint8_t) ~(RTC_INTERRUPTS | 0x08);
    r->state.cmos[RTC_C] = 0;
    r->state.lost_ticks = 0;
    rtc_update(r);
}

static void rtc_pre_save(Device *dev)
{
    Rtc *r = (Rtc *)dev;
    assert_bql();
    rtc_update_flags(r); /* the periodic tick up to which flags are valid is not saved */
    r->state.vm_ns = (uint64_t)(vm_clock_now_ns() + r->source_base_ns);
}

static bool rtc_check_state(const Device *dev, const void *state, GError **error)
{
    const RtcState *s = state;
    int64_t offset_s = (int64_t)s->offset_s, checked_s = (int64_t)s->checked_s;
    if (offset_s > RTC_LIMIT_S || offset_s < -RTC_LIMIT_S || checked_s > 2 * RTC_LIMIT_S ||
        checked_s < -2 * RTC_LIMIT_S) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s: the saved time is out of range",
                    device_label(dev));
        return false;
    }
    return true;
}

static bool rtc_post_load(Device *dev, GError **error)
{
    Rtc *r = (Rtc *)dev;
    assert_bql();
    RtcState *s = &r->state;
    if (!rtc_check_state(dev, s, error)) {
        return false;
    }
    if (r->clock == RTC_CLOCK_VM) {
        uint64_t saved_ns = MIN(s->vm_ns, (uint64_t)INT64_MAX / 4);
        r->source_base_ns = (int64_t)saved_ns - vm_clock_now_ns();
    }
    s->cmos[RTC_A] &= (uint8_t)~RTC_A_UIP;
    s->cmos[RTC_C] &= RTC_INTERRUPTS;
    unsigned ticks = rtc_period_ticks(r);
    r->checked_period = ticks != 0 ? rtc_ticks_at(vm_clock_now_ns()) / ticks : 0;
    if (r->lost_policy != RTC_LOST_SLEW || (s->cmos[RTC_B] & RTC_PERIODIC) == 0) {
        s->lost_ticks = 0;
    }
    rtc_update(r);
    return true;
}

/* ---- the board ---- */

void rtc_set_cmos(Device *rtc, unsigned index, uint8_t value)
{
    g_assert(index > RTC_D && index < RTC_CMOS_SIZE && !rtc_is_time_byte(index));
    bql_lock();
    ((Rtc *)rtc)->state.cmos[index] = value;
    bql_unlock();
}

static void rtc_set_cmos_u16(Device *rtc, unsigned index, uint64_t value) RUNS_IN_MAIN
{
    value = MIN(value, 0xffff);
    rtc_set_cmos(rtc, index, (uint8_t)value);
    rtc_set_cmos(rtc, index + 1, (uint8_t)(value >> 8));
}

void rtc_set_memory_size(Device *rtc, uint64_t below_4g, uint64_t above_4g)
{
    const uint64_t kib = 1024, mib = 1024 * kib;
    uint64_t extended = below_4g > mib ? (below_4g - mib) / kib : 0;
    rtc_set_cmos_u16(rtc, 0x15, MIN(below_4g / kib, 640));
    rtc_set_cmos_u16(rtc, 0x17, extended);
    rtc_set_cmos_u16(rtc, 0x30, extended);
    rtc_set_cmos_u16(rtc, 0x34, below_4g > 16 * mib ? (below_4g - 16 * mib) / (64 * kib) : 0);
    uint64_t high = above_4g / (64 * kib);
    rtc_set_cmos_u16(rtc, 0x5b, high & 0xffff);
    rtc_set_cmos(rtc, 0x5d, (uint8_t)(high >> 16));
}

static const char *const rtc_clocks[] = {"host", "rt", "vm", NULL};
static const char *const rtc_lost_policies[] = {"discard", "slew", NULL};

static const OptSpec rtc_properties[] = {
    {.name = "base",
     .type = OPT_STRING,
     .offset = offsetof(Rtc, base_time),
     .help = "utc, localtime, or a date (2026-11-20T12:34:56) at which the clock starts",
     .def = "utc"},
    {.name = "clock",
     .type = OPT_ENUM,
     .offset = offsetof(Rtc, clock),
     .names = rtc_clocks,
     .help = "the clock that it follows",
     .def = "host"},
    {.name = "lost_tick_policy",
     .type = OPT_ENUM,
     .offset = offsetof(Rtc, lost_policy),
     .names = rtc_lost_policies,
     .help = "what becomes of a periodic tick that comes while the last one is unread",
     .def = "discard"},
    {0},
};

const DeviceType rtc_type = {
    .name = "mc146818rtc",
    .description = "real-time clock and CMOS RAM",
    .instance_size = sizeof(Rtc),
    .properties = rtc_properties,
    .state = &rtc_state,
    .bus = "isa",
    .realize = rtc_realize,
    .reset = rtc_reset,
    .unrealize = rtc_unrealize,
    .pre_save = rtc_pre_save,
    .check_state = rtc_check_state,
    .post_load = rtc_post_load,
};
