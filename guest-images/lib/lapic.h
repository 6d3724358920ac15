/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC of the calling CPU: xAPIC registers at 0xfee00000, or x2APIC MSRs if the firmware
 * or the word `apic=x2apic` chose them. Every function acts on the calling CPU, at any CPL. Source:
 * Intel SDM vol. 3, chapter 11.
 */
#ifndef LIB_LAPIC_H
#define LIB_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#define LAPIC_LVT_MASKED 0x10000u
#define LAPIC_LVT_EXTINT 0x00700u
#define LAPIC_TIMER_PERIODIC 0x20000u
#define LAPIC_TIMER_TSC_DEADLINE 0x40000u

/* Enables it with all local vectors masked and every priority accepted. */
void lapic_init(void);

bool lapic_is_x2apic(void);
uint32_t lapic_id(void);
void lapic_end_interrupt(void);

void lapic_send_ipi(uint32_t apic_id, uint8_t vector);
void lapic_send_ipi_others(uint8_t vector);
void lapic_send_init(uint32_t apic_id);
void lapic_send_startup(uint32_t apic_id, uint8_t page);

/* LINT0: LAPIC_LVT_EXTINT delivers interrupts of the 8259, LAPIC_LVT_MASKED does not. */
void lapic_set_lint0(uint32_t lvt);

/* The timer's LVT entry (vector and mode), divided by 16; then the count that starts it. */
void lapic_timer_setup(uint32_t lvt);
void lapic_timer_start(uint32_t count);
uint32_t lapic_timer_read(void);

/* Counts a second at divide by 16, measured against clock.h. Masks the timer. */
uint64_t lapic_timer_measure_hz(void);

#endif
