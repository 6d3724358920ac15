/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot CPU erases and programs flash, block after block; the others read the same flash and
 * count. What they read is the array before or after a program, or the status.
 *
 * Words: those of lib/flash.h, `ms=` (1000) how long; 0: for ever, `cpus=`. `log` prints each
 * program after it has retired, "stored BYTE at OFFSET", and never goes back to the array: what is
 * printed is in the image then; `erased`: it does not erase before. `ticks` prints "tick N" as `count` does.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/flash.h"
#include "lib/smp.h"

#define NS_PER_TICK (20 * CLOCK_NS_PER_MS)

static Flash flash;
static volatile bool ended;
static uint64_t programs, erases;
static volatile uint64_t counts[CPU_MAX], reads[CPU_MAX];

/* What @at has after its program. */
static uint8_t pattern(uint32_t at)
{
    return (uint8_t)(at * 7 + (at >> 8) + 1);
}

static void read_and_count(unsigned me)
{
    uint32_t at = 0;
    while (!ended) {
        for (unsigned i = 0; i < 1000; i++) {
            counts[me]++;
        }
        uint8_t byte = (uint8_t)flash_read(&flash, at, 1);
        if (byte != 0xff && byte != pattern(at) && byte != FLASH_READY) {
            guest_fail("pflash-stress: 0x%x at 0x%x, expected 0x%x or ff", byte, at, pattern(at));
        }
        reads[me]++;
        at = (at + 61) % flash.size;
    }
}

static void check_block(uint32_t block)
{
    for (uint32_t at = block; at < block + FLASH_BLOCK; at++) {
        uint8_t byte = (uint8_t)flash_read(&flash, at, 1);
        if (byte != pattern(at)) {
            guest_fail("pflash-stress: 0x%x at 0x%x after its program, expected 0x%x", byte, at,
                       pattern(at));
        }
    }
}

static void change_block(uint32_t block, uint64_t until_ns)
{
    flash_erase(&flash, block);
    erases++;
    uint32_t at = block;
    while (at < block + FLASH_BLOCK && clock_now_ns() < until_ns) {
        flash_program(&flash, at, pattern(at), 1);
        programs++;
        at++;
    }
    flash_show_array(&flash);
    if (at == block + FLASH_BLOCK) {
        check_block(block);
    }
}

static void change_flash(void)
{
    uint64_t ms = bootinfo_get_number("ms", 1000);
    uint64_t until_ns = ms ? clock_now_ns() + ms * CLOCK_NS_PER_MS : UINT64_MAX;
    for (uint32_t block = 0; clock_now_ns() < until_ns;) {
        change_block(block, until_ns);
        block = (block + FLASH_BLOCK) % flash.size;
    }
    ended = true;
}

static void store_and_log(void)
{
    for (uint32_t block = 0; block < flash.size && !bootinfo_has_word("erased");
         block += FLASH_BLOCK) {
        flash_erase(&flash, block);
    }
    for (uint32_t at = 0;; at = (at + 4099) % flash.size) {
        flash_program(&flash, at, pattern(at), 1);
        printf("stored %u at %u\n", pattern(at), at);
    }
}

static void tick(void)
{
    uint64_t next_ns = 0, ticks = 0;
    while (!ended) {
        if (clock_now_ns() >= next_ns) {
            next_ns = clock_now_ns() + NS_PER_TICK;
            printf("tick %lu\n", ++ticks);
        }
    }
}

static void work(void *arg)
{
    unsigned me = cpu_this()->index;
    if (me == 0) {
        change_flash();
    } else if (bootinfo_has_word("ticks")) {
        tick();
    } else {
        read_and_count(me);
    }
}

void guest_main(void)
{
    flash = flash_find();
    clock_init();
    if (bootinfo_has_word("log")) {
        store_and_log();
    }
    unsigned cpus = smp_start();
    for (uint32_t block = 0; block < flash.size; block += FLASH_BLOCK) {
        flash_erase(&flash, block);
    }
    flash_show_array(&flash);
    printf("pflash-stress: cpus=%u\n", cpus);
    smp_run_all(work, NULL);
    for (unsigned i = 1; i < cpus && !bootinfo_has_word("ticks"); i++) {
        if (!counts[i] || !reads[i]) {
            guest_fail("pflash-stress: CPU %u did nothing", i);
        }
    }
    printf("pflash-stress: PASS cpus=%u programs=%lu erases=%lu counts=%lu reads=%lu\n", cpus,
           programs, erases, counts[1], reads[1]);
}
