/* SPDX-License-Identifier: Apache-2.0 */
/* A flash on the mem driver, whose requests the test completes, and a guest's accesses to it. */
#ifndef SKIFF_TESTS_HW_FIRMWARE_PFLASH_BENCH_H
#define SKIFF_TESTS_HW_FIRMWARE_PFLASH_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "guest-images/lib/flash_model.h"
#include "hw/firmware/pflash_int.h"
#include "tests/support/blk_guest.h"

extern const DeviceType pflash_type;

#define FLASH_GPA 0xfff00000u
#define FLASH_BLOCK 4096u

typedef struct FlashBench {
    VirtioBench *bench;
    BlkDisk disk;
    Device *dev;
    FakeMachine *m;
} FlashBench;

static inline FlashBench *flash_bench_new(const char *disk, const char *properties)
{
    FlashBench *f = g_new0(FlashBench, 1);
    f->bench = virtio_bench_new();
    f->m = f->bench->machine;
    if (g_str_has_prefix(disk, "driver=")) {
        blk_disk_open_as(&f->disk, f->bench, disk);
    } else {
        blk_disk_open(&f->disk, f->bench, disk);
    }
    f->dev = virtio_bench_device_of(f->bench, &pflash_type, properties);
    enter_main();
    pflash_map(f->dev, FLASH_GPA);
    guest_ram_log_stop(&f->m->ram); /* begins again, with the flash's memory */
    if (!guest_ram_log_start(&f->m->ram, NULL)) {
        g_error("dirty memory is not logged");
    }
    return f;
}

static inline void flash_bench_free(FlashBench *f)
{
    virtio_bench_unplug(f->bench, f->dev);
    blk_disk_close(&f->disk);
    virtio_bench_free(f->bench);
    g_free(f);
}

static inline Pflash *flash_of(FlashBench *f)
{
    return (Pflash *)f->dev;
}

/* One dispatch, as a vCPU's. */
static inline MmioResult flash_dispatch(FlashBench *f, uint32_t offset, IoAccess *a)
{
    bql_lock();
    MmioResult result = address_space_dispatch(f->m->env.mmio, FLASH_GPA + offset, a, NULL);
    bql_unlock();
    return result;
}

/* An access to its end; the disk completes by itself. */
static inline uint32_t flash_access(FlashBench *f, uint32_t offset, uint32_t value, unsigned size,
                                    bool is_write)
{
    IoAccess a = {
        .value = is_write ? value : UINT64_MAX, .size = (uint8_t)size, .is_write = is_write};
    while (flash_dispatch(f, offset, &a) == MMIO_PENDING) {
        while (!completion_done(&a.waiter.done)) {
            virtio_bench_settle(f->bench);
        }
    }
    return (uint32_t)a.value;
}

static inline void flash_write(FlashBench *f, uint32_t offset, uint32_t value, unsigned size)
{
    flash_access(f, offset, value, size, true);
}

static inline uint32_t flash_read(FlashBench *f, uint32_t offset, unsigned size)
{
    return flash_access(f, offset, 0, size, false);
}

static inline void flash_program(FlashBench *f, uint32_t offset, uint8_t byte)
{
    flash_write(f, offset, 0x10, 1);
    flash_write(f, offset, byte, 1);
}

/* Sends a command and its second cycle, whose operation the disk holds. */
static inline void flash_hold(FlashBench *f, uint32_t offset, uint8_t command, uint8_t second,
                              IoAccess *a)
{
    IoAccess first = {.value = command, .size = 1, .is_write = true};
    *a = (IoAccess){.value = second, .size = 1, .is_write = true};
    assert_int_equal(flash_dispatch(f, offset, &first), MMIO_DONE);
    assert_int_equal(flash_dispatch(f, offset, a), MMIO_PENDING);
    virtio_bench_settle(f->bench);
    assert_int_equal(block_mem_waiting(f->disk.node), 1);
    assert_false(completion_done(&a->waiter.done));
}

#endif
