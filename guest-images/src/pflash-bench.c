/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rates of flash for `ms=` (1000) each; prints one line:
 *
 *   pflash-bench: programs_per_s=N erases_per_s=N reads_per_s=N
 *
 * A program is of one byte, each of another value than the array's, and each block ends with the
 * array command, as OVMF writes variables. An erase is of a block; each pass over the flash ends with
 * the array command. A read is of 4 bytes of the array.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/flash.h"

static Flash flash;
static uint64_t duration_ns;

static uint64_t rate(uint64_t count, uint64_t start_ns)
{
    return count * CLOCK_NS_PER_S / (clock_now_ns() - start_ns);
}

/* Only the programs are timed. */
static uint64_t bench_programs(void)
{
    uint64_t count = 0, spent_ns = 0;
    for (uint32_t block = 0; spent_ns < duration_ns; block = (block + FLASH_BLOCK) % flash.size) {
        flash_erase(&flash, block);
        flash_show_array(&flash);
        uint64_t start_ns = clock_now_ns();
        for (uint32_t i = 0; i < 1024; i++) {
            flash_program(&flash, block + i, i & 0x7f, 1);
        }
        flash_show_array(&flash);
        spent_ns += clock_now_ns() - start_ns;
        count += 1024;
    }
    return count * CLOCK_NS_PER_S / spent_ns;
}

static uint64_t bench_erases(void)
{
    uint64_t count = 0, start_ns = clock_now_ns();
    while (clock_now_ns() - start_ns < duration_ns) {
        for (uint32_t block = 0; block < flash.size; block += FLASH_BLOCK) {
            flash_erase(&flash, block);
            count++;
        }
        flash_show_array(&flash);
    }
    return rate(count, start_ns);
}

static uint64_t bench_reads(void)
{
    uint64_t count = 0, start_ns = clock_now_ns();
    while (clock_now_ns() - start_ns < duration_ns) {
        for (uint32_t at = 0; at < flash.size; at += 4) {
            flash_read(&flash, at, 4);
        }
        count += flash.size / 4;
    }
    return rate(count, start_ns);
}

void guest_main(void)
{
    flash = flash_find();
    clock_init();
    duration_ns = bootinfo_get_number("ms", 1000) * CLOCK_NS_PER_MS;
    uint64_t programs = bench_programs(), erases = bench_erases(), reads = bench_reads();
    printf("pflash-bench: programs_per_s=%lu erases_per_s=%lu reads_per_s=%lu\n", programs, erases,
           reads);
}
