/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at fw_cfg: any selector, and DMA descriptors that lie, overlap their data, wrap,
 * point at MMIO, are unaligned, and change while they are used; several vCPUs at once; resets, saves
 * and loads in between. A model predicts each access that is alone: its result, the bytes that it
 * moves, and that no other byte changes.
 *
 *   fuzz_fw_cfg [--seconds N] [--seed N] [--steps N]
 */
#include <string.h>
#include "hw/firmware/fw_cfg.h"
#include "hw/firmware/vmcoreinfo.h"
#include "hw/firmware/vmgenid.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fuzzer.h"

#define SELECTOR 0x510
#define DATA 0x511
#define DMA 0x514
#define VCPUS 4
#define FILE_COUNT 8
#define LARGEST (FW_CFG_DMA_CHUNK * 3 + 77)
#define GUARD 32

enum { ERROR = 1, READ = 2, SKIP = 4, SELECT = 8, WRITE = 16 };

typedef struct FuzzAccess {
    bool used;
    uint16_t port;
    IoAccess access;
} FuzzAccess;

typedef struct Fuzz {
    FakeMachine *m;
    Device *fw_cfg, *vmgenid, *vmcoreinfo;
    uint8_t writable[64]; /* a file of the fuzzer's own */
    unsigned written;
    FuzzAccess pended[VCPUS];
    /* the model, while nothing is pended */
    bool known;
    uint16_t key;
    uint32_t offset;
} Fuzz;

static uint8_t *ram(const Fuzz *z)
{
    return z->m->ram.blocks[0].host;
}

/* ---- the model ---- */

/* The item's bytes, by way of the device's own table: the model is of the transfer. */
static GBytes *model_item(Fuzz *z, uint16_t key)
{
    static const char *const names[] = {"etc/vmcoreinfo", "etc/vmgenid_addr", "etc/vmgenid_guid",
                                        "opt/empty",      "opt/large",        "opt/made",
                                        "opt/one",        "opt/writable"};
    G_STATIC_ASSERT(G_N_ELEMENTS(names) == FILE_COUNT);
    unsigned index = key & 0x3fff;
    if (key & 0x8000) {
        return NULL;
    }
    return index >= 0x20 && index < 0x20 + FILE_COUNT
               ? fw_cfg_get_file(z->fw_cfg, names[index - 0x20])
           : index == 0 ? g_bytes_new("QEMU", 4)
           : index == 1 ? g_bytes_new("\3\0\0\0", 4)
                        : NULL;
}

/* The keys that the model does not have: the directory and numbers. */
static bool model_has(uint16_t key)
{
    unsigned index = key & 0x3fff;
    return (key & 0x8000) != 0 || index < 2 || index >= 0x20;
}

static bool model_writable(uint16_t key)
{
    unsigned index = key & 0x3fff;
    return (key & 0x8000) == 0 && (index == 0x20 || index == 0x21 || index == 0x27);
}

static bool model_is_ram(uint64_t gpa, uint64_t size)
{
    return gpa < FAKE_RAM_SIZE && size <= FAKE_RAM_SIZE - gpa;
}

/* The generated file changes when it is selected for the first time after a reset. */
static void model_generate(Fuzz *z, uint16_t key)
{
    if ((key & 0xbfff) == 0x25) {
        fake_out16(z->m, SELECTOR, key);
    }
}

/* ---- accesses ---- */

static MmioResult fuzz_dispatch(Fuzz *z, FuzzAccess *a)
{
    bql_lock();
    MmioResult result = address_space_dispatch(z->m->env.pio, a->port, &a->access, NULL);
    bql_unlock();
    a->used = result == MMIO_PENDING;
    return result;
}

/* Returns whether anything is still pended. */
static bool fuzz_retry(Fuzz *z)
{
    bool any = false;
    fake_machine_run(z->m);
    for (unsigned i = 0; i < VCPUS; i++) {
        FuzzAccess *a = &z->pended[i];
        if (a->used) {
            g_assert(completion_done(&a->access.waiter.done)); /* main has had its turn */
            any |= fuzz_dispatch(z, a) == MMIO_PENDING;
        }
    }
    return any;
}

static void fuzz_settle(Fuzz *z)
{
    for (unsigned round = 0; fuzz_retry(z); round++) {
        g_assert(round < 2000); /* all of RAM in pieces, by each vCPU in turn */
    }
}

static void fuzz_access(Fuzz *z, uint16_t port, unsigned size, bool is_write, uint64_t value)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        FuzzAccess *a = &z->pended[i];
        if (!a->used) {
            *a = (FuzzAccess){.port = port,
                              .access = {.size = (uint8_t)size,
                                         .is_write = is_write,
                                         .value = value,
                                         .must_retire = fuzz_below(4) == 0}};
            fuzz_dispatch(z, a);
            z->known = false;
            return;
        }
    }
    fuzz_settle(z);
}

/* ---- what the guest writes ---- */

static uint16_t fuzz_key(void)
{
    static const uint16_t keys[] = {0, 1, 3, 5, 0x0f, 0x19, 0x1f, 0x8000, 0x8002, 0x8007, 0xffff};
    switch (fuzz_below(4)) {
    case 0:
        return FUZZ_PICK(keys);
    case 1:
        return (uint16_t)fuzz_random();
    default:
        return (uint16_t)(0x20 + fuzz_below(FILE_COUNT + 1) + (fuzz_below(8) == 0 ? 0x4000 : 0));
    }
}

static uint64_t fuzz_gpa(uint64_t near)
{
    static const uint64_t places[] = {0, 0xfee00000, 0xb0000000, UINT64_MAX, UINT64_C(1) << 32};
    switch (fuzz_below(8)) {
    case 0:
        return FAKE_RAM_SIZE - fuzz_below(40); /* its end */
    case 1:
        return FUZZ_PICK(places) - fuzz_below(20);
    case 2:
        return near + fuzz_below(40) - 20;
    default:
        return 0x1000 + fuzz_below(FAKE_RAM_SIZE - 0x2000);
    }
}

static uint32_t fuzz_length(void)
{
    static const uint32_t lengths[] = {0, 1, 2, 4, 8, 16, 4096, LARGEST, UINT32_MAX};
    switch (fuzz_below(4)) {
    case 0:
        return FUZZ_PICK(lengths);
    case 1:
        return (uint32_t)fuzz_below(FAKE_RAM_SIZE + 100);
    default:
        return (uint32_t)fuzz_below(80);
    }
}

static uint32_t fuzz_control(void)
{
    uint32_t control = (uint32_t)fuzz_below(32);
    if (fuzz_below(8) == 0) {
        control = (uint32_t)fuzz_random();
    }
    return (control & 0xffff) | (uint32_t)fuzz_key() << 16;
}

static void fuzz_put_descriptor(Fuzz *z, uint64_t gpa, uint32_t control, uint32_t length,
                                uint64_t address)
{
    const uint32_t words[] = {GUINT32_TO_BE(control), GUINT32_TO_BE(length),
                              GUINT32_TO_BE((uint32_t)(address >> 32)),
                              GUINT32_TO_BE((uint32_t)address)};
    if (model_is_ram(gpa, sizeof(words))) {
        memcpy(ram(z) + gpa, words, sizeof(words));
    }
}

static void fuzz_trigger(Fuzz *z, uint64_t gpa)
{
    if (gpa >> 32 != 0 || fuzz_below(4) == 0) {
        fuzz_access(z, DMA, 4, true, GUINT32_SWAP_LE_BE((uint32_t)(gpa >> 32)));
    }
    fuzz_access(z, DMA + 4, 4, true, GUINT32_SWAP_LE_BE((uint32_t)gpa));
}

/* Anything, with other accesses pended. */
static void fuzz_wild_dma(Fuzz *z)
{
    uint64_t gpa = fuzz_gpa(0x2000);
    fuzz_put_descriptor(z, gpa, fuzz_control(), fuzz_length(), fuzz_gpa(gpa));
    fuzz_trigger(z, gpa);
    if (fuzz_below(2) == 0) { /* the guest changes it meanwhile */
        fuzz_put_descriptor(z, gpa, fuzz_control(), fuzz_length(), fuzz_gpa(gpa));
    }
}

static void fuzz_wild_port(Fuzz *z)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 8, 3};
    uint16_t port = (uint16_t)(0x50e + fuzz_below(16));
    fuzz_access(z, port, FUZZ_PICK(sizes), fuzz_below(2) == 0, fuzz_random());
}

/* ---- one access that the model predicts ---- */

typedef struct Prediction {
    uint32_t result; /* the control field */
    uint8_t *data;   /* the bytes at @gpa afterwards */
    uint32_t size;
    uint32_t offset;
} Prediction;

static Prediction model_dma(Fuzz *z, uint64_t descriptor, uint32_t control, uint32_t length,
                            uint64_t gpa)
{
    uint32_t offset = (control & SELECT) != 0 ? 0 : z->offset;
    uint32_t operation = control & READ ? READ : control & WRITE ? WRITE : control & SKIP;
    g_autoptr(GBytes) item = model_item(z, z->key);
    uint32_t end = item != NULL ? (uint32_t)g_bytes_get_size(item) : 0;
    uint32_t inside = offset < end ? MIN(length, end - offset) : 0;
    Prediction p = {.offset = offset + (operation != 0 ? inside : 0)};
    if (operation == 0 || operation == SKIP || length == 0) {
        return p;
    }
    bool clear = gpa + length <= descriptor || gpa >= descriptor + 16;
    if (!model_is_ram(gpa, length) || !clear) {
        p.result = ERROR;
        return p;
    }
    if (operation == WRITE && (!model_writable(z->key) || inside != length)) {
        p.result = ERROR;
        return p;
    }
    p.size = length;
    p.data = g_memdup2(ram(z) + gpa, length);
    if (operation == READ) {
        memset(p.data, 0, length);
        if (inside > 0) {
            memcpy(p.data, (const uint8_t *)g_bytes_get_data(item, NULL) + offset, inside);
        }
    }
    return p;
}

static void fuzz_check_guards(const uint8_t *before, const uint8_t *after, uint64_t gpa,
                              uint64_t size, uint64_t descriptor)
{
    for (uint64_t at = gpa - GUARD; at < gpa + size + GUARD && at < FAKE_RAM_SIZE; at++) {
        bool changed_by_device =
            (at >= gpa && at < gpa + size) || (at >= descriptor && at < descriptor + 4);
        g_assert(changed_by_device || before[at - (gpa - GUARD)] == after[at]);
    }
}

static void fuzz_model_dma(Fuzz *z)
{
    uint64_t descriptor = 0x1000 + fuzz_below(0x1000), gpa = fuzz_gpa(descriptor);
    uint32_t control = fuzz_control(), length = fuzz_length(), result;
    fuzz_settle(z);
    if ((control & SELECT) == 0 && !z->known) {
        control |= SELECT;
    }
    z->key = (control & SELECT) != 0 ? (uint16_t)(control >> 16) : z->key;
    /* An error in the middle of a transfer leaves its first part: not predicted. */
    if (!model_has(z->key) || (gpa < FAKE_RAM_SIZE && !model_is_ram(gpa, length))) {
        z->known = false;
        return;
    }
    if ((control & SELECT) != 0) {
        model_generate(z, z->key);
    }
    Prediction p = model_dma(z, descriptor, control, length, gpa);
    /* A write of the generation id's address writes the id anywhere. */
    bool guarded = p.data != NULL && gpa >= GUARD && (control & READ) != 0;
    g_autofree uint8_t *before =
        guarded ? g_memdup2(ram(z) + gpa - GUARD,
                            (gsize)MIN((uint64_t)length + 2 * GUARD, FAKE_RAM_SIZE - (gpa - GUARD)))
                : NULL;
    fuzz_put_descriptor(z, descriptor, control, length, gpa);
    bool overlaps = gpa < descriptor + 16 + GUARD && gpa + length + GUARD > descriptor;
    fuzz_access(z, DMA, 4, true, 0);
    fuzz_access(z, DMA + 4, 4, true, GUINT32_SWAP_LE_BE((uint32_t)descriptor));
    fuzz_settle(z);
    memcpy(&result, ram(z) + descriptor, 4);
    g_assert(GUINT32_FROM_BE(result) == p.result);
    if (p.data != NULL && (control & READ) != 0) {
        g_assert(memcmp(ram(z) + gpa, p.data, p.size) == 0);
    }
    if (guarded && !overlaps) {
        fuzz_check_guards(before, ram(z), gpa, length, descriptor);
    }
    g_free(p.data);
    z->offset = p.offset;
    z->known = p.result == 0;
}

static void fuzz_model_port(Fuzz *z)
{
    fuzz_settle(z);
    z->key = fuzz_key();
    model_generate(z, z->key);
    fake_out16(z->m, SELECTOR, z->key);
    g_autoptr(GBytes) item = model_item(z, z->key);
    gsize size = item != NULL ? g_bytes_get_size(item) : 0;
    z->offset = 0;
    for (unsigned i = 0; i < 20 && model_has(z->key); i++) {
        uint8_t expected =
            z->offset < size ? ((const uint8_t *)g_bytes_get_data(item, NULL))[z->offset++] : 0;
        g_assert(fake_in8(z->m, DATA) == expected);
    }
    z->known = model_has(z->key);
}

/* ---- life ---- */

static void fuzz_check(Fuzz *z)
{
    uint64_t gpa;
    uint32_t size;
    bql_lock();
    bool valid = vmcoreinfo_get(z->vmcoreinfo, &gpa, &size);
    bql_unlock();
    g_assert(!valid || (size > 0 && size <= VMCOREINFO_SIZE_MAX));
    g_assert(fake_in32(z->m, DMA) == GUINT32_SWAP_LE_BE(0x51454d55));
}

static void fuzz_reset(Fuzz *z)
{
    Device *const devices[] = {z->fw_cfg, z->vmgenid, z->vmcoreinfo};
    fuzz_settle(z); /* vCPUs are parked */
    bql_lock();
    for (unsigned i = 0; i < G_N_ELEMENTS(devices); i++) {
        devices[i]->type->reset(devices[i]);
    }
    bql_unlock();
    z->known = true;
    z->key = 0;
    z->offset = 0;
}

static void fuzz_save_and_load(Fuzz *z)
{
    fuzz_settle(z);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    state_save(z->fw_cfg->type->state, z->fw_cfg, saved);
    if (fuzz_below(2) == 0) {
        saved->data[fuzz_below(saved->len)] = (uint8_t)fuzz_random();
        z->known = false;
    }
    gsize used;
    if (!state_load(z->fw_cfg->type->state, z->fw_cfg, saved->data, saved->len, &used, &error)) {
        g_assert(error != NULL);
    }
}

static void fuzz_generate(void *opaque)
{
    uint8_t text[4];
    uint32_t value = (uint32_t)fuzz_random();
    memcpy(text, &value, sizeof(text));
    fw_cfg_set_file(((Fuzz *)opaque)->fw_cfg, "opt/made", g_bytes_new(text, sizeof(text)));
}

static void fuzz_count_write(void *opaque, uint32_t offset, uint32_t size)
{
    Fuzz *z = opaque;
    g_assert(size > 0 && offset < sizeof(z->writable) && size <= sizeof(z->writable) - offset);
    z->written++;
}

static void fuzz_set_up(Fuzz *z)
{
    uint8_t *large = g_malloc(LARGEST);
    for (unsigned i = 0; i < LARGEST; i++) {
        large[i] = (uint8_t)(i * 7 + i / 256);
    }
    *z = (Fuzz){.m = fake_machine_new()};
    z->fw_cfg = z->m->env.fw_cfg = fake_device(z->m, "fw_cfg_io", NULL);
    z->vmgenid = fake_device(z->m, "vmgenid", NULL);
    z->vmcoreinfo = fake_device(z->m, "vmcoreinfo", NULL);
    bool ok = fw_cfg_add_file(z->fw_cfg, "opt/empty", g_bytes_new(NULL, 0), NULL) &&
              fw_cfg_add_file(z->fw_cfg, "opt/large", g_bytes_new_take(large, LARGEST), NULL) &&
              fw_cfg_add_file(z->fw_cfg, "opt/one", g_bytes_new("1", 1), NULL) &&
              fw_cfg_add_file(z->fw_cfg, "opt/made", g_bytes_new("0000", 4), NULL) &&
              fw_cfg_add_writable(z->fw_cfg, "opt/writable", z->writable, sizeof(z->writable),
                                  fuzz_count_write, z, NULL);
    g_assert(ok);
    fw_cfg_set_generator(z->fw_cfg, fuzz_generate, z);
    fw_cfg_mark_generated(z->fw_cfg, "opt/made");
    fuzz_reset(z);
}

static void fuzz_tear_down(Fuzz *z)
{
    fuzz_settle(z);
    fake_device_gone(z->vmcoreinfo);
    fake_device_gone(z->vmgenid);
    fake_device_gone(z->fw_cfg);
    fake_machine_free(z->m);
}

static void fuzz_step(Fuzz *z)
{
    switch (fuzz_below(16)) {
    case 0:
        fuzz_check(z);
        break;
    case 1:
        if (fuzz_below(8) == 0) {
            fuzz_reset(z);
        }
        break;
    case 2:
        fuzz_save_and_load(z);
        break;
    case 3:
    case 4:
        fuzz_retry(z);
        break;
    case 5:
    case 6:
        fuzz_model_port(z);
        break;
    case 7:
    case 8:
    case 9:
        fuzz_wild_dma(z);
        break;
    case 10:
        fuzz_wild_port(z);
        break;
    default:
        fuzz_model_dma(z);
        break;
    }
}

int main(int argc, char **argv)
{
    static Fuzz z;
    bool more = true;
    fuzz_begin("fuzz_fw_cfg", argc, argv);
    log_open("/dev/null", false); /* a hostile guest is logged a lot */
    while (more) {
        fuzz_set_up(&z);
        for (unsigned i = 0; i < 20000 && (more = fuzz_goes_on()); i++) {
            fuzz_step(&z);
        }
        fuzz_tear_down(&z);
    }
    fuzz_end("steps");
    return 0;
}
