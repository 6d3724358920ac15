/* SPDX-License-Identifier: Apache-2.0 */
/* The board's interface to the real-time clock ("mc146818rtc"). Main; each takes the BQL. */
#ifndef SKIFF_HW_PLATFORM_RTC_H
#define SKIFF_HW_PLATFORM_RTC_H

#include "hw/core/device.h"

/* Sets a byte of CMOS RAM, index 0x0e to 0x7f. A reset does not change it: it is battery-backed. */
void rtc_set_cmos(Device *rtc, unsigned index, uint8_t value) RUNS_IN_MAIN;
/* Writes the memory sizes where PC firmware reads them: base memory, extended memory in KiB and in
 * 64 KiB above 16 MiB, and 64 KiB units above 4 GiB. */
void rtc_set_memory_size(Device *rtc, uint64_t below_4g, uint64_t above_4g) RUNS_IN_MAIN;
/* Checks a value of the property "base": utc, localtime, or a date. */
bool rtc_check_base(const char *base, GError **error) ANY_THREAD;

#endif
