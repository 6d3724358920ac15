/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include "hw/core/disk.h"
#include "hw/firmware/pflash_int.h"
#include "hw/firmware/trace_events.h"
#include "util/loop/sched_point.h"

/* ---- the mapping ---- */

/* Shows the array to the guest exactly while reads give it and no operation runs. */
static BQL_HELD void pflash_update_view(Pflash *p)
{
    const Machine *m = p->base.env->machine;
    bool show = p->state.mode == CFI_ARRAY && p->work.owner == NULL;
    if (show == p->shown || !p->placed) {
        return;
    }
    if (!m->ops->set_rom_mapped(m->opaque, p->region.base, show)) {
        log_limited(&p->base.log_limit, "%s: the flash's mapping does not change: reads are %s",
                    device_label(&p->base), show ? "slow" : "wrong while it executes a command");
        return;
    }
    p->shown = show;
    trace_pflash_show(device_label(&p->base), show);
}

/* ---- operations ---- */

static const char *pflash_work_name(const PflashWork *w)
{
    static const char *const names[] = {
        [CFI_OP_NONE] = "flush", [CFI_OP_PROGRAM] = "program", [CFI_OP_ERASE] = "erase"};
    return names[w->op.kind];
}

static BQL_HELD MmioResult pflash_work_begin(Pflash *p, IoAccess *access, CfiOperation op)
{
    PflashWork *w = &p->work;
    *w = (PflashWork){.owner = access, .op = op};
    trace_pflash_begin(device_label(&p->base), pflash_work_name(w), op.offset, op.bytes);
    pflash_update_view(p);
    MmioResult result = pended_wait_for_io(access, "a write to flash");
    SP("pflash.pended", p);
    co_start(blk_home(p->blk), pflash_work_run, p);
    return result;
}

static BQL_HELD void pflash_work_end(Pflash *p)
{
    PflashWork *w = &p->work;
    w->owner = NULL;
    trace_pflash_end(device_label(&p->base), w->ret);
    if (w->ret < 0) {
        log_limited(&p->base.log_limit, "%s: %s at offset 0x%x: %s", device_label(&p->base),
                    pflash_work_name(w), w->op.offset, g_strerror(-w->ret));
    }
    if (w->op.kind != CFI_OP_NONE) {
        cfi_end(&p->cfi, &w->op, w->done);
        if (p->placed) {
            guest_ram_mark(p->base.env->ram, p->region.base + w->op.offset, w->op.bytes);
        }
    } else if (w->ret == 0) {
        p->state.unflushed = false;
    }
    if (w->ret < 0) {
        p->state.status |= w->op.kind == CFI_OP_ERASE ? CFI_SR_ERASE_ERROR : CFI_SR_PROGRAM_ERROR;
    }
    pflash_update_view(p);
    pended_finish(&p->busy);
}

/* ---- accesses ---- */

static BQL_HELD MmioResult pflash_write(Pflash *p, IoAccess *access)
{
    trace_pflash_write(device_label(&p->base), access->offset, access->size, access->value);
    CfiOperation op =
        cfi_write(&p->cfi, (uint32_t)access->offset, (uint32_t)access->value, access->size);
    if (op.kind != CFI_OP_NONE) {
        return pflash_work_begin(p, access, op);
    }
    if (p->state.mode == CFI_ARRAY && p->state.unflushed && blk_write_cache(p->blk)) {
        return pflash_work_begin(p, access, op);
    }
    pflash_update_view(p);
    return MMIO_DONE;
}

static MmioResult pflash_access(void *opaque, IoAccess *access)
{
    Pflash *p = opaque;
    assert_bql();
    if (p->work.owner == access) {
        pflash_work_end(p);
        return MMIO_DONE;
    }
    if (p->work.owner != NULL) {
        return pended_wait_for(&p->busy, access);
    }
    if (access->is_write) {
        return pflash_write(p, access);
    }
    access->value = cfi_read(&p->cfi, (uint32_t)access->offset, access->size);
    return MMIO_DONE;
}

/* Unaligned: a read of the array that comes while the mapping changes is answered here. */
static const IoRegionOps pflash_ops = {
    .access = pflash_access, .min_size = 1, .max_size = 4, .unaligned = true};

/* ---- life cycle ---- */

static CfiGeometry pflash_geometry(const Pflash *p)
{
    CfiGeometry g = {
        .bank_width = (uint8_t)p->bank_width,
        .device_width = (uint8_t)p->device_width,
        .max_device_width =
            (uint8_t)(p->max_device_width != 0 ? p->max_device_width : p->device_width),
        .block_size = p->block_size,
        .block_count = (uint32_t)(p->size / p->block_size),
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(g.id); i++) {
        g.id[i] = (uint16_t)p->id[i];
    }
    return g;
}

static bool pflash_check_size(const Pflash *p, GError **error)
{
    if (p->size == 0 || p->size % p->block_size != 0 || p->size / p->block_size > CFI_BLOCKS_MAX) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "drive '%s' has %" PRIu64 " bytes; a flash is a multiple of 0x%x bytes, at "
                    "most %u of them",
                    p->drive, p->size, p->block_size, CFI_BLOCKS_MAX);
        return false;
    }
    return true;
}

static bool pflash_allocate(Pflash *p, GError **error)
{
    p->array = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->array == MAP_FAILED) {
        p->array = NULL;
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "no memory for %" PRIu64 " bytes of flash",
                    p->size);
        return false;
    }
    p->result = g_malloc(p->block_size);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool pflash_co_open(Pflash *p, GError **error)
{
    p->blk = disk_co_open(&p->base, p->drive, NULL, false, error);
    if (p->blk == NULL) {
        return false;
    }
    blk_set_write_cache(p->blk, p->write_cache);
    p->size = blk_size(p->blk);
    if (!pflash_check_size(p, error)) {
        return false;
    }
    CfiGeometry g = pflash_geometry(p);
    if (!cfi_check_geometry(&g, error) || !pflash_allocate(p, error)) {
        return false;
    }
    int ret = pflash_co_read_all(p);
    if (ret < 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "reading drive '%s': %s", p->drive,
                    g_strerror(-ret));
        return false;
    }
    cfi_init(&p->cfi, &g, &p->state, p->array, p->result, blk_read_only(p->blk));
    return true;
}

static void pflash_unrealize(Device *dev)
{
    Pflash *p = (Pflash *)dev;
    enter_main();
    enter_coroutine();
    bql_lock();
    g_assert(p->work.owner == NULL);
    if (p->region.space != NULL) {
        address_space_unmap(&p->region);
    }
    pended_finish(&p->busy);
    bql_unlock();
    if (p->blk != NULL) {
        blk_co_free(g_steal_pointer(&p->blk));
    }
    g_free(g_steal_pointer(&p->result));
    if (p->array != NULL && !p->placed) { /* else GuestRam refers to it for ever */
        munmap(p->array, p->size);
    }
    p->array = NULL;
}

static bool pflash_realize(Device *dev, GError **error)
{
    Pflash *p = (Pflash *)dev;
    enter_main();
    enter_coroutine();
    p->busy.what = "another vCPU's flash operation";
    p->shown = true;
    if (p->drive == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING, "drive= is missing");
        return false;
    }
    if (!pflash_co_open(p, error)) {
        pflash_unrealize(dev);
        return false;
    }
    p->region = (IoRegion){.name = "pflash", .ops = &pflash_ops, .opaque = p, .size = p->size};
    return true;
}

static void pflash_reset(Device *dev)
{
    Pflash *p = (Pflash *)dev;
    assert_bql();
    g_assert(p->work.owner == NULL);
    bool unflushed = p->state.unflushed;
    cfi_reset(&p->cfi);
    p->state.unflushed = unflushed;
    pflash_update_view(p);
}

static void pflash_pre_save(Device *dev)
{
    const Pflash *p = (Pflash *)dev;
    assert_bql();
    g_assert(p->work.owner == NULL);
    assert_cfi_state(&p->cfi);
}

static bool pflash_check_state(const Device *dev, const void *state, GError **error)
{
    return cfi_check_state(&((const Pflash *)dev)->cfi, state, error);
}

static bool pflash_post_load(Device *dev, GError **error)
{
    Pflash *p = (Pflash *)dev;
    assert_bql();
    if (!cfi_check_state(&p->cfi, &p->state, error)) {
        return false;
    }
    pflash_update_view(p);
    return true;
}

/* ---- for the board ---- */

void pflash_map(Device *dev, uint64_t base)
{
    Pflash *p = (Pflash *)dev;
    enter_main();
    const RamBlock block = {.gpa = base,
                            .size = p->size,
                            .host = p->array,
                            .read_only = true,
                            .fd = -1,
                            .name = device_label(dev)};
    guest_ram_add(dev->env->ram, &block);
    bql_lock();
    address_space_map(dev->env->mmio, &p->region, base, 0);
    p->placed = true;
    bql_unlock();
}

const uint8_t *pflash_array(const Device *dev)
{
    return ((const Pflash *)dev)->array;
}

uint64_t pflash_size(const Device *dev)
{
    return ((const Pflash *)dev)->size;
}

/* ---- the type ---- */

static const OptSpec pflash_properties[] = {
    OPT_SPEC(Pflash, "drive", OPT_STRING, drive, .help = "node with the content"),
    OPT_SPEC(Pflash, "sector-length", OPT_U32, block_size, .def = "4096",
             .help = "bytes of an erase block"),
    OPT_SPEC(Pflash, "width", OPT_U32, bank_width, .def = "1", .max = 4,
             .help = "bytes of the bank's bus"),
    OPT_SPEC(Pflash, "device-width", OPT_U32, device_width, .def = "0", .max = 4,
             .help = "bytes of a chip's bus; 0: one chip answers for the bank"),
    OPT_SPEC(Pflash, "max-device-width", OPT_U32, max_device_width, .def = "0", .max = 4,
             .help = "the greatest that the chip can have; 0: device-width"),
    OPT_SPEC(Pflash, "id0", OPT_U32, id[0], .def = "0", .max = 0xffff, .help = "identifiers"),
    OPT_SPEC(Pflash, "id1", OPT_U32, id[1], .def = "0", .max = 0xffff),
    OPT_SPEC(Pflash, "id2", OPT_U32, id[2], .def = "0", .max = 0xffff),
    OPT_SPEC(Pflash, "id3", OPT_U32, id[3], .def = "0", .max = 0xffff),
    OPT_SPEC(Pflash, "write-cache", OPT_BOOL, write_cache, .def = "on",
             .help = "off: each program is on stable storage before it retires"),
    {0},
};

static const StateDesc pflash_state =
    STATE_DESC("cfi.pflash01", 1, Pflash, state, CfiState, cfi_state_fields);

const DeviceType pflash_type = {
    .name = "cfi.pflash01",
    .description = "parallel flash (Intel command set)",
    .instance_size = sizeof(Pflash),
    .properties = pflash_properties,
    .state = &pflash_state,
    .realize = pflash_realize,
    .reset = pflash_reset,
    .unrealize = pflash_unrealize,
    .pre_save = pflash_pre_save,
    .check_state = pflash_check_state,
    .post_load = pflash_post_load,
};
