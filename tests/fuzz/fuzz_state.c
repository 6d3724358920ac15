/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads of damaged states of a whole machine's devices (tests/support/device_rack.h): values of fields, bytes,
 * sections of other machines, bytes of the stream itself. What is accepted runs: queues, timers, and a guest
 * that accesses registers at random.
 *
 * What must hold: a refused load has changed nothing; what a device has become can be saved, unless it says why
 * not, and what was saved can be loaded, and is the same when it is saved again.
 *
 *   fuzz_state [--seconds N] [--seed N] [--steps N]
 */
#include <string.h>
#include "hw/core/vm_clock.h"
#include "tests/support/device_rack.h"
#include "tests/support/fuzzer.h"
#include "tests/support/state_seal.h"
#include "util/state/state_table.h"

#define SEEDS 3 /* after a reset; stirred, with INTx and with MSI-X */

typedef struct Seed {
    GByteArray *stream;
    RackGuest *guest;
} Seed;

typedef struct Fuzz {
    Seed seeds[SEEDS];
    DeviceRack *rack;
    unsigned accepted, refused;
} Fuzz;

/* ---- seeds ---- */

static void fuzz_make_seed(Seed *s, unsigned n)
{
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    if (n > 0) {
        device_rack_stir(r, n == 2);
    }
    device_rack_stop(r);
    s->stream = device_rack_save(r, NULL);
    s->guest = device_rack_leave(r);
    device_rack_free(r);
}

/* ---- damage ---- */

static uint64_t fuzz_value(uint64_t max)
{
    switch (fuzz_below(6)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return max;
    case 3:
        return max + 1;
    case 4:
        return UINT64_C(1) << fuzz_below(64);
    default:
        return fuzz_random();
    }
}

typedef struct Pick {
    uint64_t left; /* fields to pass over */
    uint8_t *stream;
    const uint8_t *base;
} Pick;

/* Changes an element of a field when its turn comes. */
static void fuzz_field(void *opaque, const StateTableField *f, const uint8_t *data, uint32_t count)
{
    Pick *p = opaque;
    unsigned size = state_type_size(f->type);
    if (count == 0 || p->left-- != 0) {
        return;
    }
    size_t at = (size_t)(data - p->base) + fuzz_below(count) * size;
    uint64_t value = fuzz_value(f->max);
    for (unsigned i = 0; i < size; i++) {
        p->stream[at + i] = (uint8_t)(value >> (8 * i));
    }
}

static void fuzz_change_field(GByteArray *bad, const StateStream *s, const Seed *seed)
{
    static const StateVisitor visitor = {.values = fuzz_field};
    const StateSection *x = s->sections->pdata[fuzz_below(s->sections->len)];
    Pick p = {fuzz_below(fuzz_below(2) != 0 ? 40 : 800), bad->data, seed->stream->data};
    state_table_walk(x->table, x->payload, x->payload_size, &visitor, &p, NULL);
}

static void fuzz_change_bytes(GByteArray *bad, const StateStream *s, const Seed *seed)
{
    const StateSection *x = s->sections->pdata[fuzz_below(s->sections->len)];
    size_t at = (size_t)(x->payload - seed->stream->data);
    for (uint64_t n = fuzz_below(16); n > 0 && x->payload_size > 0; n--) {
        bad->data[at + fuzz_below(x->payload_size)] = (uint8_t)fuzz_random();
    }
}

/* The same section as another machine has it. */
static void fuzz_take_section(Fuzz *z, GByteArray *bad, const StateStream *s, const Seed *seed)
{
    const Seed *other = &z->seeds[fuzz_below(SEEDS)];
    g_autoptr(StateStream) t = state_stream_decode(other->stream->data, other->stream->len, NULL);
    unsigned n = (unsigned)fuzz_below(s->sections->len);
    const StateSection *x = s->sections->pdata[n], *y = t->sections->pdata[n];
    if (x->payload_size == y->payload_size) {
        memcpy(bad->data + (x->payload - seed->stream->data), y->payload, y->payload_size);
    }
}

static GByteArray *fuzz_damage(Fuzz *z, const Seed *seed)
{
    GByteArray *bad = g_byte_array_new();
    g_autoptr(StateStream) s = state_stream_decode(seed->stream->data, seed->stream->len, NULL);
    g_byte_array_append(bad, seed->stream->data, seed->stream->len);
    for (uint64_t n = fuzz_below(6); n > 0; n--) {
        switch (fuzz_below(8)) {
        case 0:
            fuzz_change_bytes(bad, s, seed);
            break;
        case 1:
            fuzz_take_section(z, bad, s, seed);
            break;
        default:
            fuzz_change_field(bad, s, seed);
            break;
        }
    }
    if (fuzz_below(16) == 0) { /* anywhere */
        bad->data[fuzz_below(bad->len)] = (uint8_t)fuzz_random();
    }
    if (fuzz_below(32) == 0) {
        g_byte_array_set_size(bad, (guint)fuzz_below(bad->len));
    }
    if (fuzz_below(64) != 0) {
        state_seal(bad);
    }
    return bad;
}

/* ---- the guest ---- */

static void fuzz_access(DeviceRack *r, AddressSpace *as, uint64_t address)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 8};
    IoAccess a = {.size = FUZZ_PICK(sizes),
                  .is_write = fuzz_below(2) != 0,
                  .value = fuzz_value(0xffff),
                  .must_retire = true};
    for (unsigned round = 0; round < 1000; round++) {
        bql_lock();
        MmioResult result = address_space_dispatch(as, address, &a, NULL);
        bql_unlock();
        if (result != MMIO_PENDING) {
            return;
        }
        for (unsigned turn = 0; turn < 1000 && !completion_done(&a.waiter.done); turn++) {
            virtio_bench_settle(r->bench);
        }
        g_assert(completion_done(&a.waiter.done));
    }
    g_error("a pended access is never let go");
}

static uint64_t fuzz_mmio_address(DeviceRack *r)
{
    const Device *dev = r->devices->pdata[fuzz_below(r->devices->len)];
    if (dev->type->base_state != &pci_device_state_desc) {
        static const uint64_t fixed[] = {RACK_FLASH_GPA, 0xff000000, 0xfed1f410};
        return FUZZ_PICK(fixed) + fuzz_below(0x10000);
    }
    const PciDevice *pci = (const PciDevice *)(const void *)dev;
    const PciBar *bar = &pci->bars[fuzz_below(PCI_MAX_BARS)];
    if (bar->region != NULL && bar->region->space != NULL && fuzz_below(4) != 0) {
        return bar->region->base + fuzz_below(bar->size);
    }
    return pci_bus_windows(r->bench->bus)->ecam_base + ((uint64_t)pci->devfn << 12) +
           fuzz_below(0x100);
}

static void fuzz_accesses(DeviceRack *r)
{
    static const uint16_t ports[] = {0x60,  0x70,  0x80,  0x92,  0xb2,  0xe0,  0x3f8,  0x402, 0x501,
                                     0x505, 0x510, 0x514, 0x600, 0x620, 0x660, 0x2000, 0xcf8};
    for (uint64_t n = fuzz_below(24); n > 0; n--) {
        if (fuzz_below(2) != 0) {
            fuzz_access(r, r->m->env.pio, FUZZ_PICK(ports) + fuzz_below(12));
        } else {
            fuzz_access(r, r->m->env.mmio, fuzz_mmio_address(r));
        }
    }
}

/* A device may refuse to start: its back end has been given impossible rings. */
static void fuzz_run(DeviceRack *r)
{
    enter_main();
    for (unsigned i = 0; i < r->devices->len; i++) {
        g_autofree char *refusal = virtio_bench_try_start(r->bench, r->devices->pdata[i]);
    }
    vm_clock_resume();
    virtio_bench_settle(r->bench);
    fuzz_accesses(r);
    fake_machine_advance(r->m, (int64_t)fuzz_below(3000000000));
    r->running = true;
    device_rack_stop(r);
    r->m->request_count = r->m->delivered_count = 0;
    for (unsigned i = 0; i < RACK_CHARDEVS; i++) {
        g_string_truncate(r->chardevs[i]->output, 0);
    }
}

/* ---- what must hold ---- */

static void fuzz_require_equal(const GByteArray *a, const GByteArray *b, const char *what)
{
    fuzz_require(a->len == b->len && memcmp(a->data, b->data, a->len) == 0, what, NULL);
}

/* What was saved can be loaded, and is the same when it is saved again. */
static void fuzz_save_and_load(DeviceRack *r)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) saved = device_rack_save(r, &error);
    if (saved == NULL) {
        return;
    }
    bool ok = device_rack_load(r, saved, vm_clock_now_ns(), &error);
    fuzz_require(ok, "a saved state is refused", error != NULL ? error->message : NULL);
    g_autoptr(GByteArray) once = device_rack_save(r, NULL);
    ok = device_rack_load(r, once, vm_clock_now_ns(), &error);
    fuzz_require(ok, "a loaded state is refused", error != NULL ? error->message : NULL);
    g_autoptr(GByteArray) twice = device_rack_save(r, NULL);
    fuzz_require_equal(once, twice, "a loaded state is another one when it is saved");
}

static void fuzz_step(Fuzz *z)
{
    DeviceRack *r = z->rack;
    const Seed *seed = &z->seeds[fuzz_below(SEEDS)];
    g_autoptr(GByteArray) bad = fuzz_damage(z, seed);
    g_autoptr(GByteArray) before = device_rack_tables(r);
    g_autoptr(GError) error = NULL;
    device_rack_adopt(r, seed->guest);
    if (!device_rack_load(r, bad, (int64_t)fuzz_below(1ull << 40), &error)) {
        g_autoptr(GByteArray) after = device_rack_tables(r);
        fuzz_require_equal(before, after, "a refused load has changed a device");
        z->refused++;
        return;
    }
    z->accepted++;
    fuzz_run(r);
    fuzz_save_and_load(r);
}

int main(int argc, char **argv)
{
    static Fuzz z;
    bool more = true;
    fuzz_begin("fuzz_state", argc, argv);
    log_open("/dev/null", false); /* a hostile stream has much to be told */
    for (unsigned i = 0; i < SEEDS; i++) {
        fuzz_make_seed(&z.seeds[i], i);
    }
    while (more) {
        z.rack = device_rack_new(RACK_WALL_NS);
        device_rack_stop(z.rack);
        for (unsigned i = 0; i < 200 && (more = fuzz_goes_on()); i++) {
            fuzz_step(&z);
        }
        device_rack_free(z.rack);
    }
    for (unsigned i = 0; i < SEEDS; i++) {
        g_byte_array_unref(z.seeds[i].stream);
        rack_guest_free(z.seeds[i].guest);
    }
    g_print("%u loads accepted, %u refused\n", z.accepted, z.refused);
    fuzz_end("loads");
    return 0;
}
