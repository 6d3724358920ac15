/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/clock.h"
#include "lib/acpi.h"
#include "lib/bootinfo.h"
#include "lib/cpu.h"
#include "lib/exit.h"

#define PIT_CHANNEL_PORT 0x40
#define PIT_COMMAND_PORT 0x43
#define PIT_LATCH 0x00
#define PIT_LOW_THEN_HIGH 0x30
#define PORT_B 0x61
#define PORT_B_GATE2 0x01
#define PORT_B_SPEAKER 0x02
#define PM_TIMER_MASK 0xffffff
#define MEASURE_MS 20
#define MEASURE_TRIES 1000000
#define MEASURE_REPEATS 10
#define MULTIPLIER_SHIFT 32

static uint64_t tsc_hz, tsc_start, ns_multiplier;
static const char *source;

void clock_pit_start(unsigned channel)
{
    if (channel == 2) {
        uint8_t port_b = cpu_in8(PORT_B);
        cpu_out8(PORT_B, (uint8_t)((port_b & ~PORT_B_SPEAKER) | PORT_B_GATE2));
    }
    cpu_out8(PIT_COMMAND_PORT, (uint8_t)(channel << 6 | PIT_LOW_THEN_HIGH));
    cpu_out8((uint16_t)(PIT_CHANNEL_PORT + channel), 0xff);
    cpu_out8((uint16_t)(PIT_CHANNEL_PORT + channel), 0xff);
}

uint16_t clock_pit_read(unsigned channel)
{
    cpu_out8(PIT_COMMAND_PORT, (uint8_t)(channel << 6 | PIT_LATCH));
    uint8_t low = cpu_in8((uint16_t)(PIT_CHANNEL_PORT + channel));
    uint8_t high = cpu_in8((uint16_t)(PIT_CHANNEL_PORT + channel));
    return (uint16_t)(high << 8 | low);
}

uint32_t clock_pm_timer_read(void)
{
    return cpu_in32(acpi_facts()->pm_timer_port) & PM_TIMER_MASK;
}

typedef uint32_t ReadCounter(void);

static uint32_t read_pm_timer(void)
{
    return clock_pm_timer_read();
}

static uint32_t read_pit2(void)
{
    return (uint32_t)-clock_pit_read(2) & 0xffff;
}

static uint32_t read_pit0(void)
{
    return (uint32_t)-clock_pit_read(0) & 0xffff;
}

typedef struct Sample {
    uint64_t tsc; /* in the middle of reading the counter */
    uint32_t count;
} Sample;

/* Takes the quickest of a few reads. */
static Sample take_sample(ReadCounter *read)
{
    Sample best = {0, 0};
    uint64_t best_span = UINT64_MAX;
    for (unsigned i = 0; i < 5; i++) {
        uint64_t before = cpu_read_tsc();
        uint32_t count = read();
        uint64_t span = cpu_read_tsc() - before;
        if (span < best_span) {
            best_span = span;
            best = (Sample){before + span / 2, count};
        }
    }
    return best;
}

/* Measures the TSC's rate against a counter that counts up with @hz; 0 when the counter is
 * stopped. */
static uint64_t measure(ReadCounter *read, uint32_t mask, uint32_t hz)
{
    uint32_t wanted = hz / 1000 * MEASURE_MS;
    Sample start = take_sample(read);
    unsigned tries = 0;
    while (((read() - start.count) & mask) < wanted) {
        tries++;
        if (tries == MEASURE_TRIES || (tries == MEASURE_TRIES / 1000 && read() == start.count)) {
            return 0;
        }
    }
    Sample end = take_sample(read);
    return (end.tsc - start.tsc) * hz / ((end.count - start.count) & mask);
}

/* As measure(), for a counter that may wrap while a busy host has descheduled the processor. Such a
 * measurement is too fast, so the slower of two that agree is used. */
static uint64_t measure_short_counter(ReadCounter *read)
{
    uint64_t best = measure(read, 0xffff, CLOCK_PIT_HZ);
    for (unsigned i = 0; i < MEASURE_REPEATS && best; i++) {
        uint64_t next = measure(read, 0xffff, CLOCK_PIT_HZ);
        uint64_t low = next < best ? next : best, high = next < best ? best : next;
        best = low;
        if (high - low < low / 100) {
            break;
        }
    }
    return best;
}

void clock_init(void)
{
    if (tsc_hz) {
        return;
    }
    tsc_hz = bootinfo_get_number("tsc_khz", 0) * 1000;
    source = "command line";
    if (!tsc_hz && acpi_facts()->pm_timer_port) {
        tsc_hz = measure(read_pm_timer, PM_TIMER_MASK, CLOCK_PM_TIMER_HZ);
        source = "pm-timer";
    }
    if (!tsc_hz) {
        clock_pit_start(2);
        tsc_hz = measure_short_counter(read_pit2);
        source = "pit2";
    }
    if (!tsc_hz) {
        clock_pit_start(0);
        tsc_hz = measure_short_counter(read_pit0);
        source = "pit0";
    }
    if (!tsc_hz) {
        guest_refuse(EXIT_MISSING, "neither PM timer nor PIT; give tsc_khz=");
    }
    ns_multiplier = (CLOCK_NS_PER_S << MULTIPLIER_SHIFT) / tsc_hz;
    tsc_start = cpu_read_tsc();
}

const char *clock_source(void)
{
    return source;
}

uint64_t clock_tsc_hz(void)
{
    return tsc_hz;
}

uint64_t clock_now_ns(void)
{
    uint64_t tsc = cpu_read_tsc() - tsc_start;
    return (uint64_t)((unsigned __int128)tsc * ns_multiplier >> MULTIPLIER_SHIFT);
}

void clock_wait_ns(uint64_t ns)
{
    uint64_t start = clock_now_ns();
    while (clock_now_ns() - start < ns) {
        cpu_pause();
    }
}
