/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Never ends: every CPU spins and counts, and the boot CPU prints "tick N" every `ms=` (1000)
 * milliseconds, the first when all CPUs have begun. The counters are in RAM at LAYOUT_SHARED_GPA,
 * for a reader outside the guest.
 *
 * With `dirty=SIZE` every CPU also walks its share of that much RAM, writes the number of its round
 * to each page and checks that the round before is still there; a page that lost a write fails the
 * guest. Used to test snapshots and migration.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/memory.h"
#include "lib/smp.h"

#define WORDS_PER_PAGE (MEMORY_PAGE_SIZE / sizeof(uint64_t))

typedef struct CountCpu {
    volatile uint64_t counter; /* grows continuously */
    volatile uint64_t rounds;  /* complete walks over the dirty memory */
    uint64_t reserved[6];
} CountCpu;

typedef struct CountShared {
    char magic[8]; /* "SKCOUNT1" once all CPUs are up */
    uint32_t cpu_count, stride;
    volatile uint64_t ticks;
    uint64_t dirty_base, dirty_size;
    uint64_t reserved[3];
    CountCpu cpus[CPU_MAX];
} CountShared;

_Static_assert(offsetof(CountShared, cpus) == 64 && sizeof(CountCpu) == 64, "documented");

static CountShared *const shared = (CountShared *)LAYOUT_SHARED_GPA;
static uint64_t tick_ns, next_tick_ns;

/* Handles one page of the walk; the last word distinguishes a torn page from a lost one. */
static void touch_page(volatile uint64_t *page, uint64_t round)
{
    uint64_t first = page[0];
    uint64_t last = page[WORDS_PER_PAGE - 1];
    if (first != round - 1 || last != round - 1) {
        guest_fail("count: page 0x%lx holds %lu and %lu, expected %lu", (uint64_t)page, first, last,
                   round - 1);
    }
    page[0] = round;
    page[WORDS_PER_PAGE - 1] = round;
}

static bool all_have_begun(void)
{
    for (unsigned i = 0; i < shared->cpu_count; i++) {
        if (shared->cpus[i].counter == 0) {
            return false;
        }
    }
    return true;
}

static void tick(void)
{
    if (shared->ticks == 0 && !all_have_begun()) {
        return;
    }
    if (clock_now_ns() >= next_tick_ns) {
        next_tick_ns = clock_now_ns() + tick_ns;
        shared->ticks++;
        printf("tick %lu\n", shared->ticks);
    }
}

static void count_forever(void *arg)
{
    unsigned index = cpu_this()->index;
    CountCpu *mine = &shared->cpus[index];
    uint64_t pages = shared->dirty_size / MEMORY_PAGE_SIZE / shared->cpu_count;
    uint64_t base = shared->dirty_base + index * pages * MEMORY_PAGE_SIZE;
    uint64_t page = 0;
    for (;;) {
        mine->counter++;
        if (pages) {
            touch_page((volatile uint64_t *)(base + page * MEMORY_PAGE_SIZE), mine->rounds + 1);
            if (++page == pages) {
                page = 0;
                mine->rounds++;
            }
        }
        if (index == 0 && mine->counter % 256 == 0) {
            tick();
        }
    }
}

void guest_main(void)
{
    memset(shared, 0, sizeof(*shared));
    shared->cpu_count = smp_start();
    shared->stride = sizeof(CountCpu);
    shared->dirty_size = bootinfo_get_number("dirty", 0) & -MEMORY_PAGE_SIZE;
    if (shared->dirty_size) {
        shared->dirty_base = (uint64_t)memory_alloc(shared->dirty_size, MEMORY_PAGE_SIZE);
    }
    tick_ns = bootinfo_get_number("ms", 1000) * CLOCK_NS_PER_MS;
    printf("count: cpus=%u dirty=%lu counters=0x%lx\n", shared->cpu_count, shared->dirty_size,
           (uint64_t)shared->cpus);
    memcpy(shared->magic, "SKCOUNT1", 8);
    smp_run_all(count_forever, NULL);
}
