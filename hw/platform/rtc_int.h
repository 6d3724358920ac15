/* SPDX-License-Identifier: Apache-2.0 */
/* The MC146818's registers and its time, for rtc.c and rtc_time.c. All under the BQL. */
#ifndef SKIFF_HW_PLATFORM_RTC_INT_H
#define SKIFF_HW_PLATFORM_RTC_INT_H

#include "hw/core/device.h"
#include "hw/core/vm_clock.h"

#define RTC_CMOS_SIZE 128
#define RTC_NS_PER_S INT64_C(1000000000)

enum {
    RTC_SECONDS = 0x00,
    RTC_SECONDS_ALARM = 0x01,
    RTC_MINUTES = 0x02,
    RTC_MINUTES_ALARM = 0x03,
    RTC_HOURS = 0x04,
    RTC_HOURS_ALARM = 0x05,
    RTC_DAY_OF_WEEK = 0x06,
    RTC_DAY_OF_MONTH = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0a,
    RTC_B = 0x0b,
    RTC_C = 0x0c,
    RTC_D = 0x0d,
    RTC_CENTURY = 0x32,
};

#define RTC_A_UIP 0x80
#define RTC_A_DIVIDER 0x70
#define RTC_A_DIVIDER_32KHZ 0x20
#define RTC_A_RATE 0x0f
#define RTC_B_SET 0x80
#define RTC_B_BINARY 0x04
#define RTC_B_24_HOURS 0x02
#define RTC_INTERRUPTS 0x70 /* enables in B and flags in C, at the same bits */
#define RTC_PERIODIC 0x40
#define RTC_ALARM 0x20
#define RTC_UPDATE 0x10
#define RTC_C_IRQF 0x80
#define RTC_D_VALID 0x80
#define RTC_HOURS_PM 0x80
#define RTC_ALARM_ANY 0xc0 /* an alarm byte with both bits set matches every value */

/* The clock that the RTC follows, as in -rtc clock=. */
typedef enum RtcClock {
    RTC_CLOCK_HOST, /* the host's calendar time */
    RTC_CLOCK_RT,   /* the host's calendar time at the start, and monotonic time since */
    RTC_CLOCK_VM,   /* the VM's time: stands while the VM is stopped */
} RtcClock;

/* Policy for periodic ticks that came while the last one was unread, as in -rtc driftfix=. */
typedef enum RtcLostTicks {
    RTC_LOST_DISCARD,
    RTC_LOST_SLEW, /* are delivered later */
} RtcLostTicks;

typedef struct RtcState {
    uint64_t offset_s;   /* guest's time = its clock's + phase, in whole seconds, + this (signed) */
    uint64_t checked_s;  /* flags are valid up to this second of guest's time (signed) */
    uint64_t vm_ns;      /* VM's time; updated before a save */
    uint32_t phase_ns;   /* below a second */
    uint32_t lost_ticks; /* to be delivered; RTC_LOST_SLEW only */
    uint8_t index;       /* port 0x70 */
    uint8_t reserved[7];
    /* The time bytes are valid while the clock is stopped (SET, or divider off); otherwise they are
     * computed. */
    uint8_t cmos[RTC_CMOS_SIZE];
} RtcState;

typedef struct Rtc {
    Device base;
    char *base_time; /* property: utc, localtime, or a date */
    int clock;       /* property: RtcClock */
    int lost_policy; /* property: RtcLostTicks */
    RtcState state;
    IoRegion region;
    IrqLine irq;
    VmTimer timer;
    VmClockListener listener;
    uint64_t checked_period; /* the periodic tick up to which PF is valid */
    unsigned delivered_late; /* lost ticks delivered since the last one in time */
    int64_t source_base_ns;  /* RT: calendar minus monotonic time; VM: saved minus VM's time */
} Rtc;

/* ---- rtc_time.c ---- */
bool rtc_is_time_byte(unsigned index) ANY_THREAD;
/* Whether the clock runs: neither SET nor a stopped divider. */
bool rtc_runs(const Rtc *r) ANY_THREAD;
/* Guest's time in seconds since 1970 in its calendar; *@fraction_ns may be NULL. */
int64_t rtc_now_s(const Rtc *r, int64_t *fraction_ns) ANY_THREAD;
/* Convert @seconds to the time bytes of @cmos and back, in the modes set in B. */
void rtc_encode(const Rtc *r, uint8_t *cmos, int64_t seconds) ANY_THREAD;
int64_t rtc_decode(const Rtc *r, const uint8_t *cmos) ANY_THREAD;
/* Sets the guest's time to @seconds; the fraction of the second is unchanged. */
void rtc_set_now_s(Rtc *r, int64_t seconds) ANY_THREAD;
/* Sets the phase as the chip does when its divider is released: half a second before the next
 * update. */
void rtc_set_phase_half(Rtc *r) ANY_THREAD;
/* The first second after @seconds that the alarm bytes match, within a day; INT64_MAX: none. */
int64_t rtc_next_alarm_s(const Rtc *r, int64_t seconds) ANY_THREAD;
/* Length of a periodic tick in 1/32768 s; 0: off. */
unsigned rtc_period_ticks(const Rtc *r) ANY_THREAD;
/* Sets the time from the property. */
bool rtc_set_base(Rtc *r, GError **error) ANY_THREAD;

#endif
