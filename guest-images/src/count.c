/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Never ends: every CPU spins and counts, and the boot CPU prints "tick N" every `ms=` (1000)
 * milliseconds, the first when all CPUs have begun. The counters are in RAM at LAYOUT_SHARED_GPA,
 * for a reader outside the guest.
 *
 * With `dirty=SIZE` every CPU also walks its share of that much RAM, writes the number of its round
 * to each page and checks that the round before is still there; a page that lost a write fails the
 * guest. With `fill=SIZE` it first fills that much other RAM with numbers, and leaves it alone from then
 * on. Used to test snapshots and migration.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/memory.h"
#include "lib/random.h"
#include "lib/smp.h"

#define FOUR_GIB (1ul << 32)
#define FILL_SPARES (1ul << 20)
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

static void fill_range(uint64_t base, uint64_t size)
{
    uint64_t *word = (uint64_t *)base;
    for (uint64_t i = 0; i < size / sizeof(*word); i++) {
        word[i] = random_mix(base + i);
    }
}

/* What is left below 4 GiB but some for the page tables, then what is above. */
static void fill(uint64_t size)
{
    uint64_t below = memory_left() & -MEMORY_PAGE_SIZE;
    below = below > FILL_SPARES ? below - FILL_SPARES : 0;
    below = size < below ? size : below;
    if (below) {
        fill_range((uint64_t)memory_alloc(below, MEMORY_PAGE_SIZE), below);
    }
    size -= below;
    for (unsigned i = 0; i < bootinfo.range_count && size; i++) {
        const BootRange *r = &bootinfo.ranges[i];
        if (r->type == BOOTINFO_TYPE_RAM && r->base >= FOUR_GIB) {
            uint64_t part = size < r->size ? size : r->size;
            memory_map(r->base, part);
            fill_range(r->base, part);
            size -= part;
        }
    }
    if (size) {
        guest_refuse(EXIT_USAGE, "no RAM left for %lu bytes of fill=", size);
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
    fill(bootinfo_get_number("fill", 0) & -MEMORY_PAGE_SIZE);
    tick_ns = bootinfo_get_number("ms", 1000) * CLOCK_NS_PER_MS;
    printf("count: cpus=%u dirty=%lu counters=0x%lx\n", shared->cpu_count, shared->dirty_size,
           (uint64_t)shared->cpus);
    memcpy(shared->magic, "SKCOUNT1", 8);
    smp_run_all(count_forever, NULL);
}
