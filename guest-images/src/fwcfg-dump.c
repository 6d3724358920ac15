/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists the files of fw_cfg with their sums, and checks that ports and DMA read the same, that DMA
 * reports its errors, and that reads beyond an item's end are zeros. Files below "opt/" are printed.
 * Source: QEMU docs/specs/fw_cfg.rst.
 *
 * With `hammer=MS` all CPUs but the boot CPU then use the device for that long: transfers of the
 * largest possible size, wrong descriptors, selections. The boot CPU prints "tick N" meanwhile.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/memory.h"
#include "lib/smp.h"

#define PORT_SELECTOR 0x510
#define PORT_DATA 0x511
#define PORT_DMA 0x514
#define KEY_SIGNATURE 0
#define KEY_FEATURES 1
#define KEY_DIRECTORY 0x19
#define FEATURES 3 /* ports and DMA */
#define BUFFER_SIZE (4ul << 20)
#define PORT_BYTES 300 /* of each file, read by the ports too */
#define SHOWN_MAX 200
#define TICK_NS (100 * CLOCK_NS_PER_MS)

enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };

typedef struct Descriptor {
    volatile uint32_t control; /* all big-endian */
    uint32_t length;
    uint64_t address;
} Descriptor;

typedef struct __attribute__((packed)) DirectoryEntry {
    uint32_t size; /* big-endian */
    uint16_t key, reserved;
    char name[56];
} DirectoryEntry;

static uint8_t *buffer;
static volatile bool hammering;
static volatile uint64_t operations[CPU_MAX];

/* ---- the device ---- */

static void select_item(uint16_t key)
{
    cpu_out16(PORT_SELECTOR, key);
}

static void read_ports(uint16_t key, uint8_t *data, uint32_t size)
{
    select_item(key);
    for (uint32_t i = 0; i < size; i++) {
        data[i] = cpu_in8(PORT_DATA);
    }
}

/* Runs @d; returns its control field afterwards. */
static uint32_t run_dma(Descriptor *d)
{
    uint64_t gpa = (uint64_t)d;
    cpu_out32(PORT_DMA, __builtin_bswap32((uint32_t)(gpa >> 32)));
    cpu_out32(PORT_DMA + 4, __builtin_bswap32((uint32_t)gpa));
    uint32_t control;
    do {
        control = __builtin_bswap32(d->control);
    } while ((control & ~DMA_ERROR) != 0);
    return control;
}

static uint32_t dma(uint16_t key, uint32_t operation, uint64_t address, uint32_t length)
{
    Descriptor d = {.control = __builtin_bswap32((uint32_t)key << 16 | DMA_SELECT | operation),
                    .length = __builtin_bswap32(length),
                    .address = __builtin_bswap64(address)};
    return run_dma(&d);
}

static void read_dma(uint16_t key, uint8_t *data, uint32_t size)
{
    uint32_t control = dma(key, DMA_READ, (uint64_t)data, size);
    if (control != 0) {
        guest_fail("fwcfg-dump: key 0x%x: DMA of %u bytes ended with 0x%x", key, size, control);
    }
}

static void check_identity(void)
{
    uint32_t features;
    uint8_t signature[8];
    read_ports(KEY_SIGNATURE, signature, sizeof(signature));
    if (memcmp(signature, "QEMU\0\0\0\0", 8) != 0) {
        guest_refuse(EXIT_MISSING, "there is no fw_cfg");
    }
    read_ports(KEY_FEATURES, (uint8_t *)&features, sizeof(features));
    uint32_t high = __builtin_bswap32(cpu_in32(PORT_DMA));
    uint32_t low = __builtin_bswap32(cpu_in32(PORT_DMA + 4));
    if (features != FEATURES || high != 0x51454d55 || low != 0x20434647) {
        guest_fail("fwcfg-dump: features 0x%x, DMA register 0x%x%x", features, high, low);
    }
}

/* ---- files ---- */

/* Reads the file by DMA, with a few bytes more, and its beginning by the ports. */
static uint32_t read_file(const DirectoryEntry *e)
{
    uint32_t size = __builtin_bswap32(e->size), sum = 0;
    uint16_t key = __builtin_bswap16(e->key);
    uint8_t start[PORT_BYTES];
    if (size > BUFFER_SIZE - 16) {
        guest_refuse(EXIT_USAGE, "file %s has %u bytes: too large", e->name, size);
    }
    memset(buffer, 0xee, size + 16);
    read_dma(key, buffer, size + 8);
    for (uint32_t i = 0; i < size; i++) {
        sum += buffer[i];
    }
    for (uint32_t i = size; i < size + 16; i++) {
        if (buffer[i] != (i < size + 8 ? 0 : 0xee)) {
            guest_fail("fwcfg-dump: %s: byte %u beyond the end is 0x%x", e->name, i, buffer[i]);
        }
    }
    uint32_t count = size + 8 < PORT_BYTES ? size + 8 : PORT_BYTES;
    read_ports(key, start, count);
    if (memcmp(start, buffer, count) != 0) {
        guest_fail("fwcfg-dump: %s: ports and DMA differ", e->name);
    }
    return sum;
}

static void show_text(const DirectoryEntry *e)
{
    uint32_t size = __builtin_bswap32(e->size);
    if (memcmp(e->name, "opt/", 4) == 0 && size < SHOWN_MAX) {
        buffer[size] = '\0';
        printf("fwcfg-dump: %s is '%s'\n", e->name, (const char *)buffer);
    }
}

static unsigned list_files(void)
{
    uint32_t count;
    read_dma(KEY_DIRECTORY, (uint8_t *)&count, sizeof(count));
    count = __builtin_bswap32(count);
    DirectoryEntry *entries = memory_alloc((count + 1) * sizeof(*entries), 64);
    uint8_t *directory = (uint8_t *)entries;
    read_dma(KEY_DIRECTORY, directory, 4 + count * sizeof(*entries));
    memmove(entries, directory + 4, count * sizeof(*entries));
    for (uint32_t i = 0; i < count; i++) {
        const DirectoryEntry *e = &entries[i];
        uint32_t sum = read_file(e);
        printf("fwcfg-dump: key=0x%x size=%u sum=%u %s\n", __builtin_bswap16(e->key),
               __builtin_bswap32(e->size), sum, e->name);
        show_text(e);
    }
    return count;
}

/* ---- errors ---- */

static void expect_error(const char *what, uint32_t control)
{
    if (control != DMA_ERROR) {
        guest_fail("fwcfg-dump: %s ended with 0x%x, not with an error", what, control);
    }
}

static void check_errors(void)
{
    Descriptor self = {.control = __builtin_bswap32(DMA_SELECT | DMA_READ),
                       .length = __builtin_bswap32(4)};
    self.address = __builtin_bswap64((uint64_t)&self.address);
    expect_error("a transfer to its descriptor", run_dma(&self));
    expect_error("a transfer to MMIO", dma(KEY_SIGNATURE, DMA_READ, 0xfee00000, 4));
    expect_error("a transfer that wraps", dma(KEY_SIGNATURE, DMA_READ, UINT64_MAX - 1, 4));
    expect_error("a write to an item", dma(KEY_SIGNATURE, DMA_WRITE, (uint64_t)buffer, 4));
    if (dma(KEY_SIGNATURE, DMA_SKIP, 0, UINT32_MAX) != 0) {
        guest_fail("fwcfg-dump: a skip failed");
    }
    cpu_out32(PORT_DMA + 4, __builtin_bswap32(0xfee00000)); /* a descriptor in MMIO: no effect */
}

/* ---- hammer ---- */

static void hammer(void *arg)
{
    unsigned index = cpu_this()->index;
    while (hammering) {
        operations[index]++;
        select_item((uint16_t)operations[index]);
        cpu_in8(PORT_DATA);
        /* The CPUs share the buffer: its content has no meaning. */
        dma(KEY_SIGNATURE, DMA_READ, (uint64_t)buffer, BUFFER_SIZE);
        dma(KEY_DIRECTORY, DMA_READ, 0xfee00000, UINT32_MAX);
    }
}

static void hammer_all(uint64_t ms)
{
    unsigned cpus = smp_start();
    uint64_t sum = 0, end = clock_now_ns() + ms * CLOCK_NS_PER_MS, ticks = 0;
    hammering = true;
    for (unsigned i = 1; i < cpus; i++) {
        smp_run(i, hammer, NULL);
    }
    while (clock_now_ns() < end) {
        clock_wait_ns(TICK_NS);
        printf("tick %lu\n", ++ticks);
    }
    hammering = false;
    for (unsigned i = 1; i < cpus; i++) {
        sum += operations[i];
        if (operations[i] == 0) {
            guest_fail("fwcfg-dump: CPU %u did nothing", i);
        }
    }
    printf("fwcfg-dump: hammered by %u CPUs, %lu rounds\n", cpus - 1, sum);
}

void guest_main(void)
{
    buffer = memory_alloc(BUFFER_SIZE, MEMORY_PAGE_SIZE);
    check_identity();
    unsigned count = list_files();
    check_errors();
    uint64_t ms = bootinfo_get_number("hammer", 0);
    if (ms != 0) {
        hammer_all(ms);
    }
    printf("fwcfg-dump: PASS files=%u\n", count);
}
