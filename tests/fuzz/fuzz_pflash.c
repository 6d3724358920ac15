/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at its flash: commands and data of every width at every address by several vCPUs,
 * with writes that hang, fail and end, drained sections, parked vCPUs, resets, saves and damaged
 * loads in between. After each step the array is what the disk has, and the mapping is shown exactly
 * in array mode; each access ends.
 *
 *   fuzz_pflash [--seconds N] [--seed N] [--steps N]
 */
#include "tests/hw/firmware/pflash_bench.h"
#include "tests/support/fuzzer.h"
#include "util/log.h"

#define VCPUS 6u
#define SIZE 0x8000u
#define STEPS_PER_BENCH 2000u

typedef struct FuzzVcpu {
    bool pended;
    uint32_t offset;
    IoAccess access;
} FuzzVcpu;

typedef struct Fuzz {
    FlashBench *f;
    FuzzVcpu vcpus[VCPUS];
    bool holding;
} Fuzz;

/* ---- accesses ---- */

static void fuzz_dispatch(Fuzz *z, FuzzVcpu *v)
{
    v->access.must_retire = v->access.must_retire || fuzz_below(8) == 0;
    v->pended = flash_dispatch(z->f, v->offset, &v->access) == MMIO_PENDING;
    if (v->pended && fuzz_below(4) == 0) {
        bql_lock();
        pended_cancel(&v->access.waiter); /* main parks it */
        bql_unlock();
    }
}

static uint64_t fuzz_value(void)
{
    static const uint8_t codes[] = {0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xb0, 0xd0,
                                    0xd0, 0xd0, 0xe8, 0xff, 0xff, 0x01, 0x03, 0x00, 0xf0, 0x2f};
    switch (fuzz_below(8)) {
    case 0:
        return fuzz_random();
    case 1:
        return fuzz_below(300);
    default:
        return FUZZ_PICK(codes) * (fuzz_below(2) ? UINT64_C(0x0101010101010101) : 1);
    }
}

static uint32_t fuzz_offset(void)
{
    switch (fuzz_below(4)) {
    case 0:
        return (uint32_t)fuzz_below(SIZE);
    case 1:
        return (uint32_t)(SIZE - 1 - fuzz_below(16));
    default:
        return (uint32_t)(0xff0 + fuzz_below(0x140));
    }
}

static void act_access(Fuzz *z)
{
    FuzzVcpu *v = &z->vcpus[fuzz_below(VCPUS)];
    if (v->pended) {
        return;
    }
    *v = (FuzzVcpu){.offset = fuzz_offset()};
    v->access.size = (uint8_t)(1 + fuzz_below(8));
    v->access.is_write = fuzz_below(4) != 0;
    v->access.value = v->access.is_write ? fuzz_value() : UINT64_MAX;
    fuzz_dispatch(z, v);
}

/* A command in one go, by one vCPU, so that long ones happen. */
static void act_sequence(Fuzz *z)
{
    unsigned width = flash_of(z->f)->cfi.geometry.bank_width;
    uint32_t offset = fuzz_offset() & ~3u;
    FuzzVcpu *v = &z->vcpus[fuzz_below(VCPUS)];
    unsigned words = 1 + (unsigned)fuzz_below(80);
    for (unsigned i = 0; i < words + 3 && !v->pended; i++) {
        uint64_t value = i == 0           ? 0xe8e8e8e8u
                         : i == 1         ? words - 1
                         : i == words + 2 ? 0xd0d0d0d0u
                                          : fuzz_random();
        *v = (FuzzVcpu){.offset = offset + (i > 1 ? (i - 2) * width : 0)};
        if (v->offset + width > SIZE) {
            return;
        }
        v->access = (IoAccess){.size = (uint8_t)width, .is_write = true, .value = value};
        fuzz_dispatch(z, v);
    }
}

static void retry_pended(Fuzz *z)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        FuzzVcpu *v = &z->vcpus[i];
        if (v->pended && completion_done(&v->access.waiter.done)) {
            fuzz_dispatch(z, v);
        }
    }
}

/* ---- the disk ---- */

static void act_disk(Fuzz *z)
{
    if (!z->holding) {
        blk_disk_set_manual(&z->f->disk, true);
        z->holding = true;
    } else {
        blk_disk_complete(&z->f->disk, fuzz_below(4) ? 0 : fuzz_below(2) ? -EIO : -ENOSPC);
    }
}

static void disk_release(Fuzz *z)
{
    if (z->holding) {
        z->holding = false;
        blk_disk_set_manual(&z->f->disk, false);
        while (blk_disk_complete(&z->f->disk, 0)) {
        }
    }
}

static void drained_section(void *opaque)
{
    Fuzz *z = opaque;
    enter_main();
    enter_coroutine();
    BlockBackend *blk = flash_of(z->f)->blk;
    co_drained_begin(&blk, 1);
    co_drained_end(&blk, 1);
}

static void act_section(Fuzz *z)
{
    disk_release(z);
    virtio_bench_run(z->f->bench, drained_section, z);
}

/* ---- parked: save, load, reset ---- */

static void finish_all(Fuzz *z)
{
    disk_release(z);
    for (unsigned round = 0; round < 100; round++) {
        bool any = false;
        virtio_bench_settle(z->f->bench);
        retry_pended(z);
        for (unsigned i = 0; i < VCPUS; i++) {
            any |= z->vcpus[i].pended;
        }
        if (!any) {
            return;
        }
    }
    fuzz_require(false, "a pended access never ends", NULL);
}

static void check(Fuzz *z)
{
    Pflash *p = flash_of(z->f);
    assert_cfi_state(&p->cfi);
    if (p->work.owner == NULL) {
        fuzz_require(memcmp(p->array, blk_disk_data(&z->f->disk), SIZE) == 0,
                     "the array is not what the disk has", NULL);
        fuzz_require(z->f->m->rom_hidden == (p->state.mode != CFI_ARRAY),
                     "the mapping does not follow the mode", NULL);
    } else {
        fuzz_require(z->f->m->rom_hidden, "the array is shown during an operation", NULL);
    }
}

static void act_parked(Fuzz *z)
{
    finish_all(z);
    check(z);
    if (fuzz_below(4) == 0) {
        virtio_bench_reset(z->f->bench, z->f->dev);
        return;
    }
    g_autoptr(GByteArray) saved = virtio_bench_save(z->f->bench, z->f->dev);
    for (unsigned i = (unsigned)fuzz_below(4); i > 0; i--) {
        saved->data[fuzz_below(fuzz_below(2) ? 48 : saved->len)] = (uint8_t)fuzz_random();
    }
    g_autofree char *text = virtio_bench_load(z->f->bench, z->f->dev, saved);
    (void)text;
}

static void fuzz_step(Fuzz *z)
{
    switch (fuzz_below(32)) {
    case 0:
        act_parked(z);
        break;
    case 1:
        act_section(z);
        break;
    case 2:
    case 3:
    case 4:
        act_disk(z);
        break;
    case 5:
        act_sequence(z);
        break;
    default:
        act_access(z);
    }
    virtio_bench_settle(z->f->bench);
    retry_pended(z);
    check(z);
}

static void fuzz_bench(void)
{
    static const char *const shapes[] = {"width=1",
                                         "width=2",
                                         "width=4",
                                         "width=4,device-width=2",
                                         "width=4,device-width=1,max-device-width=2",
                                         "width=1,write-cache=off"};
    Fuzz z = {0};
    g_autofree char *props = g_strdup_printf("drive=disk,%s", FUZZ_PICK(shapes));
    z.f = flash_bench_new(fuzz_below(8) ? "size=32K" : "size=32K,read-only=on", props);
    for (unsigned i = 0; i < STEPS_PER_BENCH && fuzz_goes_on(); i++) {
        fuzz_step(&z);
    }
    finish_all(&z);
    flash_bench_free(z.f);
}

int main(int argc, char **argv)
{
    fuzz_begin("fuzz_pflash", argc, argv);
    log_open("/dev/null", false); /* what the guest does wrong is not news here */
    while (fuzz_goes_on()) {
        fuzz_bench();
    }
    fuzz_end("steps");
    return 0;
}
