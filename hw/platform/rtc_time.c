/* SPDX-License-Identifier: Apache-2.0 */
/* The real-time clock's time: calendar, BCD and 12-hour forms, alarms. MC146818A §"Time, Calendar".
 */
#include "hw/platform/rtc.h"
#include "hw/platform/rtc_int.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include "hw/platform/trace_events.h"

bool rtc_is_time_byte(unsigned index)
{
    switch (index) {
    case RTC_SECONDS:
    case RTC_MINUTES:
    case RTC_HOURS:
    case RTC_DAY_OF_WEEK:
    case RTC_DAY_OF_MONTH:
    case RTC_MONTH:
    case RTC_YEAR:
    case RTC_CENTURY:
        return true;
    default:
        return false;
    }
}

bool rtc_runs(const Rtc *r)
{
    return (r->state.cmos[RTC_B] & RTC_B_SET) == 0 &&
           (r->state.cmos[RTC_A] & RTC_A_DIVIDER) == RTC_A_DIVIDER_32KHZ;
}

/* Time of the clock that the RTC follows. */
static int64_t rtc_source_ns(const Rtc *r)
{
    switch (r->clock) {
    case RTC_CLOCK_RT:
        return aio_now_ns(r->base.env->main_ctx) + r->source_base_ns;
    case RTC_CLOCK_VM:
        return vm_clock_now_ns() + r->source_base_ns;
    default:
        return vm_clock_wall_ns();
    }
}

int64_t rtc_now_s(const Rtc *r, int64_t *fraction_ns)
{
    int64_t ns = rtc_source_ns(r) + r->state.phase_ns;
    int64_t s = ns / RTC_NS_PER_S;
    int64_t fraction = ns % RTC_NS_PER_S;
    if (fraction < 0) {
        fraction += RTC_NS_PER_S;
        s--;
    }
    if (fraction_ns != NULL) {
        *fraction_ns = fraction;
    }
    return (int64_t)((uint64_t)s + r->state.offset_s);
}

void rtc_set_now_s(Rtc *r, int64_t seconds)
{
    trace_rtc_set_time(device_label(&r->base), seconds);
    r->state.offset_s += (uint64_t)seconds - (uint64_t)rtc_now_s(r, NULL);
}

void rtc_set_phase_half(Rtc *r)
{
    int64_t fraction_ns;
    int64_t seconds = rtc_now_s(r, &fraction_ns);
    int64_t phase_ns = r->state.phase_ns + RTC_NS_PER_S / 2 - fraction_ns;
    r->state.phase_ns = (uint32_t)((phase_ns + RTC_NS_PER_S) % RTC_NS_PER_S);
    rtc_set_now_s(r, seconds);
}

/* ---- calendar ---- */

static uint8_t rtc_to_form(const Rtc *r, unsigned value)
{
    bool binary = (r->state.cmos[RTC_B] & RTC_B_BINARY) != 0;
    return (uint8_t)(binary ? value : value / 10 << 4 | value % 10);
}

/* Any byte gives a number, also one that is not BCD. */
static unsigned rtc_from_form(const Rtc *r, uint8_t value)
{
    bool binary = (r->state.cmos[RTC_B] & RTC_B_BINARY) != 0;
    return binary ? value : (unsigned)(value >> 4) * 10 + (value & 0xf);
}

static uint8_t rtc_encode_hours(const Rtc *r, unsigned hours)
{
    if ((r->state.cmos[RTC_B] & RTC_B_24_HOURS) != 0) {
        return rtc_to_form(r, hours);
    }
    unsigned of_12 = hours % 12 == 0 ? 12 : hours % 12;
    return rtc_to_form(r, of_12) | (hours >= 12 ? RTC_HOURS_PM : 0);
}

static unsigned rtc_decode_hours(const Rtc *r, uint8_t value)
{
    if ((r->state.cmos[RTC_B] & RTC_B_24_HOURS) != 0) {
        return rtc_from_form(r, value);
    }
    unsigned hours = rtc_from_form(r, value & (uint8_t)~RTC_HOURS_PM) % 12;
    return hours + ((value & RTC_HOURS_PM) != 0 ? 12 : 0);
}

/* Years have four digits, so that nothing below overflows. */
static struct tm rtc_calendar(int64_t seconds)
{
    const int64_t first = INT64_C(-62135596800), last = INT64_C(253402300799); /* years 1 to 9999 */
    time_t t = (time_t)CLAMP(seconds, first, last);
    struct tm tm;
    gmtime_r(&t, &tm);
    return tm;
}

void rtc_encode(const Rtc *r, uint8_t *cmos, int64_t seconds)
{
    struct tm tm = rtc_calendar(seconds);
    unsigned year = (unsigned)(tm.tm_year + 1900);
    cmos[RTC_SECONDS] = rtc_to_form(r, (unsigned)tm.tm_sec);
    cmos[RTC_MINUTES] = rtc_to_form(r, (unsigned)tm.tm_min);
    cmos[RTC_HOURS] = rtc_encode_hours(r, (unsigned)tm.tm_hour);
    cmos[RTC_DAY_OF_WEEK] = rtc_to_form(r, (unsigned)tm.tm_wday + 1);
    cmos[RTC_DAY_OF_MONTH] = rtc_to_form(r, (unsigned)tm.tm_mday);
    cmos[RTC_MONTH] = rtc_to_form(r, (unsigned)tm.tm_mon + 1);
    cmos[RTC_YEAR] = rtc_to_form(r, year % 100);
    cmos[RTC_CENTURY] = rtc_to_form(r, year / 100);
}

int64_t rtc_decode(const Rtc *r, const uint8_t *cmos)
{
    struct tm tm = {
        .tm_sec = (int)rtc_from_form(r, cmos[RTC_SECONDS]),
        .tm_min = (int)rtc_from_form(r, cmos[RTC_MINUTES]),
        .tm_hour = (int)rtc_decode_hours(r, cmos[RTC_HOURS]),
        .tm_mday = (int)rtc_from_form(r, cmos[RTC_DAY_OF_MONTH]),
        .tm_mon = (int)rtc_from_form(r, cmos[RTC_MONTH]) - 1,
        .tm_year =
            (int)(rtc_from_form(r, cmos[RTC_CENTURY]) * 100 + rtc_from_form(r, cmos[RTC_YEAR])) -
            1900,
    };
    return timegm(&tm); /* normalizes values out of range, such as 31 February */
}

/* ---- alarm and periods ---- */

static bool rtc_alarm_any(uint8_t alarm)
{
    return (alarm & RTC_ALARM_ANY) == RTC_ALARM_ANY;
}

int64_t rtc_next_alarm_s(const Rtc *r, int64_t seconds)
{
    const uint8_t *cmos = r->state.cmos;
    unsigned hour = rtc_decode_hours(r, cmos[RTC_HOURS_ALARM]);
    unsigned minute = rtc_from_form(r, cmos[RTC_MINUTES_ALARM]);
    unsigned second = rtc_from_form(r, cmos[RTC_SECONDS_ALARM]);
    const int64_t day = 86400;
    int64_t t = seconds + 1;
    while (t <= seconds + day) {
        unsigned of_day = (unsigned)(((t % day) + day) % day);
        if (!rtc_alarm_any(cmos[RTC_HOURS_ALARM]) && of_day / 3600 != hour) {
            t += 3600 - of_day % 3600;
        } else if (!rtc_alarm_any(cmos[RTC_MINUTES_ALARM]) && of_day / 60 % 60 != minute) {
            t += 60 - of_day % 60;
        } else if (!rtc_alarm_any(cmos[RTC_SECONDS_ALARM]) && of_day % 60 != second) {
            t++;
        } else {
            return t;
        }
    }
    return INT64_MAX;
}

unsigned rtc_period_ticks(const Rtc *r)
{
    unsigned rate = r->state.cmos[RTC_A] & RTC_A_RATE;
    if (rate == 0 || (r->state.cmos[RTC_A] & RTC_A_DIVIDER) != RTC_A_DIVIDER_32KHZ) {
        return 0;
    }
    return 1u << ((rate <= 2 ? rate + 7 : rate) - 1); /* 1 and 2 are 256 and 128 Hz */
}

/* ---- the property ---- */

static bool rtc_parse_date(const char *text, int64_t *seconds)
{
    struct tm tm = {0};
    int used = 0;
    int n = sscanf(text, "%4d-%2d-%2d%nT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &used,
                   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used);
    if ((n != 3 && n != 6) || text[used] != '\0') {
        return false;
    }
    struct tm wanted = tm;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *seconds = timegm(&tm);
    return tm.tm_mday == wanted.tm_mday && tm.tm_mon + 1 == wanted.tm_mon &&
           tm.tm_hour == wanted.tm_hour && tm.tm_min == wanted.tm_min && tm.tm_sec == wanted.tm_sec;
}

static bool rtc_parse_base(const char *base, time_t host_s, int64_t *seconds, GError **error)
{
    *seconds = host_s;
    if (strcmp(base, "localtime") == 0) {
        struct tm tm;
        localtime_r(&host_s, &tm);
        *seconds = host_s + tm.tm_gmtoff;
    } else if (strcmp(base, "utc") != 0 && !rtc_parse_date(base, seconds)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "base=%s: must be utc, localtime, or a date as 2026-11-20 or "
                    "2026-11-20T12:34:56",
                    base);
        return false;
    }
    return true;
}

bool rtc_check_base(const char *base, GError **error)
{
    int64_t seconds;
    return rtc_parse_base(base, 0, &seconds, error);
}

bool rtc_set_base(Rtc *r, GError **error)
{
    int64_t seconds, wall_ns = vm_clock_wall_ns();
    if (!rtc_parse_base(r->base_time, (time_t)(wall_ns / RTC_NS_PER_S), &seconds, error)) {
        return false;
    }
    r->source_base_ns = r->clock == RTC_CLOCK_RT ? wall_ns - aio_now_ns(r->base.env->main_ctx) : 0;
    if (r->clock == RTC_CLOCK_VM) {
        int64_t phase_ns = (wall_ns - vm_clock_now_ns()) % RTC_NS_PER_S;
        r->state.phase_ns = (uint32_t)((phase_ns + RTC_NS_PER_S) % RTC_NS_PER_S);
    }
    rtc_set_now_s(r, seconds);
    return true;
}
