/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time from the TSC. Its rate is measured against the ACPI PM timer, else PIT channel 2, else PIT
 * channel 0, or given by the word `tsc_khz=N`. Any CPU after clock_init().
 */
#ifndef LIB_CLOCK_H
#define LIB_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_NS_PER_S 1000000000ul
#define CLOCK_NS_PER_MS 1000000ul
#define CLOCK_NS_PER_US 1000ul
#define CLOCK_PM_TIMER_HZ 3579545
#define CLOCK_PIT_HZ 1193182

/* Measures once; later calls return at once. Boot CPU, at CPL 3. */
void clock_init(void);

/* "pm-timer", "pit2", "pit0" or "command line". */
const char *clock_source(void);
uint64_t clock_tsc_hz(void);

/* Nanoseconds since clock_init(). */
uint64_t clock_now_ns(void);
void clock_wait_ns(uint64_t ns);

/* The PIT's channel 0 or 2 from 65535 downwards, once. */
void clock_pit_start(unsigned channel);
uint16_t clock_pit_read(unsigned channel);

/* The 24 bits of the PM timer; there must be one. */
uint32_t clock_pm_timer_read(void);

#endif
