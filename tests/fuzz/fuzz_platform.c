/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at the platform's registers: ports, config space, ECAM, BARs and MSI-X tables in
 * every width, at every address, with time, console traffic, resets, saves and damaged loads in
 * between. What must hold is checked all along; sanitizers see the rest.
 *
 *   fuzz_platform [--seconds N] [--seed N] [--steps N]
 */
#include <string.h>
#include "hw/core/vm_clock.h"
#include "hw/platform/lpc.h"
#include "hw/platform/acpi_hotplug.h"
#include "tests/fuzz/fuzz_platform_check.h"
#include "tests/support/fake_chardev.h"
#include "tests/support/fuzzer.h"
#include "tests/support/pci_dummy.h"

#define TESTDEV_IRQ_PORT 0x2000
#define DUMMY_COUNT 3
#define DEVICE_MAX 16
#define PENDED_MAX 8

/* A guest access that was pended: it is dispatched again when its wait is over. */
typedef struct FuzzPended {
    bool used;
    AddressSpace *as;
    uint64_t address;
    IoAccess access;
} FuzzPended;

typedef struct Fuzz {
    PciFixture *f;
    FakeMachine *m;
    FakeChardev *serial_out, *debug_out;
    DeviceType plug_type; /* the dummy's, as one that may be unplugged */
    PciDummy *dummies[DUMMY_COUNT];
    Device *lpc;
    Device *devices[DEVICE_MAX];
    unsigned device_count;
    FuzzPended pended[PENDED_MAX];
} Fuzz;

static uint64_t fuzz_value(void)
{
    switch (fuzz_below(4)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return UINT64_C(1) << fuzz_below(64);
    default:
        return fuzz_random();
    }
}

static unsigned fuzz_size(void)
{
    static const uint8_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 3, 5, 6, 7};
    return FUZZ_PICK(sizes);
}

/* ---- accesses ---- */

static void fuzz_dispatch(FuzzPended *p)
{
    bql_lock();
    MmioResult result = address_space_dispatch(p->as, p->address, &p->access, NULL);
    bql_unlock();
    p->used = result == MMIO_PENDING;
}

static void fuzz_retry_pended(Fuzz *z)
{
    for (unsigned i = 0; i < PENDED_MAX; i++) {
        FuzzPended *p = &z->pended[i];
        if (p->used && completion_done(&p->access.waiter.done)) {
            fuzz_dispatch(p);
        }
    }
}

/* Every wait ends when the chardevs take all there is, and main has had its turns. */
static void fuzz_finish_pended(Fuzz *z)
{
    for (unsigned round = 0; round < 100; round++) {
        bool any = false;
        fake_chardev_make_room(z->serial_out, SIZE_MAX);
        fake_chardev_make_room(z->debug_out, SIZE_MAX);
        fake_machine_run(z->m); /* transfers of fw_cfg */
        fuzz_retry_pended(z);
        for (unsigned i = 0; i < PENDED_MAX; i++) {
            any |= z->pended[i].used;
        }
        if (!any) {
            return;
        }
    }
    g_error("a pended access is never let go");
}

static void fuzz_access(Fuzz *z, AddressSpace *as, uint64_t address)
{
    for (unsigned i = 0; i < PENDED_MAX; i++) {
        FuzzPended *p = &z->pended[i];
        if (!p->used) {
            *p = (FuzzPended){.as = as, .address = address};
            p->access.size = (uint8_t)fuzz_size();
            p->access.is_write = fuzz_below(3) != 0;
            p->access.value = fuzz_value();
            fuzz_dispatch(p);
            return;
        }
    }
    fuzz_finish_pended(z);
}

static void fuzz_port(Fuzz *z)
{
    static const uint16_t ports[] = {0x60,
                                     0x64,
                                     0x70,
                                     0x71,
                                     0x80,
                                     0x92,
                                     0xb2,
                                     0xe0,
                                     0xe4,
                                     0xe9,
                                     0x2f8,
                                     0x3f8,
                                     0x402,
                                     0x501,
                                     0x505,
                                     0x600,
                                     0x620,
                                     0x510,
                                     0x511,
                                     0x2007,
                                     0xcf8,
                                     0xcfc,
                                     ACPI_HOTPLUG_PORT,
                                     ACPI_HOTPLUG_PORT + 8};
    uint64_t port = FUZZ_PICK(ports);
    switch (fuzz_below(8)) {
    case 0:
        port = fuzz_below(0x10000);
        break;
    case 1:
        port = 0xc000 + fuzz_below(0x400);
        break;
    default:
        port += fuzz_below(12);
        port -= fuzz_below(3);
        break;
    }
    fuzz_access(z, z->m->env.pio, port);
}

/* RTC and CF8 need an index first, or a random access finds little. */
static void fuzz_indexed(Fuzz *z)
{
    if (fuzz_below(2) != 0) {
        fake_out8(z->m, 0x70, (uint8_t)fuzz_below(16));
        fuzz_access(z, z->m->env.pio, 0x71);
        return;
    }
    unsigned devfn = fuzz_below(4) == 0 ? 0x1f << 3 : (unsigned)fuzz_below(5) << 3;
    unsigned offset = (unsigned)fuzz_below(fuzz_below(2) != 0 ? 0x40 : 0x100);
    fake_out32(z->m, 0xcf8, 0x80000000 | devfn << 8 | (offset & 0xfc));
    fuzz_access(z, z->m->env.pio, 0xcfc + (offset & 3));
}

static uint64_t fuzz_mmio_address(Fuzz *z)
{
    const PciDummy *d = z->dummies[fuzz_below(DUMMY_COUNT)];
    const IoRegion *r = fuzz_below(3) == 0 ? &d->mem : &d->pci.msix.region;
    switch (fuzz_below(4)) {
    case 0:
        return pci_fixture_windows.ecam_base + fuzz_below(6) * 0x8000 + fuzz_below(0x1100);
    case 1:
        return fuzz_value();
    default:
        return (r->space != NULL ? r->base : 0xd0000000) + fuzz_below(0x1010);
    }
}

/* ---- everything else that happens ---- */

static void fuzz_console(Fuzz *z)
{
    uint8_t bytes[32];
    memset(bytes, (int)fuzz_random(), sizeof(bytes));
    switch (fuzz_below(5)) {
    case 0:
        fake_chardev_input(z->serial_out, bytes, fuzz_below(sizeof(bytes)));
        break;
    case 1:
        fake_chardev_event(z->serial_out, (ChardevEvent)fuzz_below(3));
        break;
    case 2:
        z->serial_out->disconnected = !z->serial_out->disconnected;
        break;
    case 3:
        fake_chardev_make_room(z->serial_out, fuzz_below(64));
        break;
    default:
        fake_chardev_make_room(z->debug_out, fuzz_below(64));
        break;
    }
    fuzz_retry_pended(z);
}

static void fuzz_interrupts(Fuzz *z)
{
    PciDummy *d = z->dummies[fuzz_below(DUMMY_COUNT)];
    unsigned vector = (unsigned)fuzz_below(64);
    if (fuzz_below(3) == 0) {
        pci_dummy_set_cause(d, fuzz_below(2) != 0);
    } else {
        pci_msix_raise(&d->pci, vector);
    }
    if (fuzz_below(4) == 0) {
        fake_machine_settle(z->m);
    }
    if (fuzz_below(64) == 0) {
        lpc_press_power_button(z->lpc);
    }
}

static void fuzz_time(Fuzz *z)
{
    static const int64_t scales[] = {1000, 100000, 10000000, 1000000000, 100000000000};
    switch (fuzz_below(16)) {
    case 0:
        vm_clock_pause();
        break;
    case 1:
        vm_clock_resume();
        break;
    default:
        fake_machine_advance(z->m, (int64_t)fuzz_below((uint64_t)FUZZ_PICK(scales)));
        break;
    }
}

/* Main's part: announces, asks back, takes apart what was let go of and plugs another. */
static void fuzz_hotplug(Fuzz *z)
{
    unsigned n = (unsigned)fuzz_below(DUMMY_COUNT);
    PciDummy *d = z->dummies[n];
    enter_main();
    if (!pci_dummy_is_hidden(d)) {
        switch (fuzz_below(3)) {
        case 0:
            pci_device_announce(&d->pci);
            break;
        case 1:
            pci_device_request_unplug(&d->pci);
            break;
        default: /* a random write seldom does it */
            fake_out32(z->m, ACPI_HOTPLUG_PORT + 0xc, (uint32_t)fuzz_value());
            break;
        }
        return;
    }
    g_autofree char *where =
        g_strdup_printf("vectors=%u,addr=%x", n == 0 ? 64 : 2, d->pci.devfn >> 3);
    pci_dummy_set_cause(d, false);
    fake_device_gone(&d->pci.base);
    z->dummies[n] = (PciDummy *)(void *)fake_device_of(z->m, &z->plug_type, where);
    for (unsigned i = 0; i < z->device_count; i++) {
        if (z->devices[i] == &d->pci.base) {
            z->devices[i] = &z->dummies[n]->pci.base;
        }
    }
    pci_device_announce(&z->dummies[n]->pci);
}

static void fuzz_reset(Fuzz *z)
{
    bql_lock();
    unsigned only = (unsigned)fuzz_below(z->device_count * 2);
    for (unsigned i = 0; i < z->device_count; i++) {
        if ((only >= z->device_count || only == i) && z->devices[i]->type->reset != NULL) {
            z->devices[i]->type->reset(z->devices[i]);
        }
    }
    if (fuzz_below(2) != 0) {
        pci_bus_assign_resources(z->f->bus);
    }
    bql_unlock();
    fuzz_retry_pended(z);
}

static bool fuzz_load_one(const StateDesc *desc, Device *dev, const GByteArray *saved)
{
    size_t used = 0;
    g_autoptr(GError) error = NULL;
    bool ok = desc == NULL || state_load(desc, dev, saved->data, saved->len, &used, &error);
    g_assert(ok || error != NULL);
    g_assert(used <= saved->len);
    return ok;
}

static bool fuzz_load(Device *dev, const GByteArray *base, const GByteArray *own)
{
    const DeviceType *type = dev->type;
    bool ok = fuzz_load_one(type->base_state, dev, base) && fuzz_load_one(type->state, dev, own);
    bql_lock();
    if (strcmp(type->name, pci_dummy_type.name) == 0) {
        pci_device_post_load((PciDevice *)dev);
    } else if (type->post_load != NULL) {
        ok = type->post_load(dev, NULL) && ok;
    }
    bql_unlock();
    return ok;
}

/* Saves a device; loads that damaged, which may be refused but must do no harm; loads it whole,
 * which must work. */
static void fuzz_save_and_load(Fuzz *z)
{
    Device *dev = z->devices[fuzz_below(z->device_count)];
    const DeviceType *type = dev->type;
    g_autoptr(GByteArray) base = g_byte_array_new(), own = g_byte_array_new();
    bql_lock();
    if (type->pre_save != NULL) {
        type->pre_save(dev);
    }
    bql_unlock();
    if (type->base_state != NULL) {
        state_save(type->base_state, dev, base);
    }
    if (type->state != NULL) {
        state_save(type->state, dev, own);
    }
    g_autoptr(GByteArray) bad_base = g_byte_array_new(), bad_own = g_byte_array_new();
    g_byte_array_append(bad_base, base->data, base->len);
    g_byte_array_append(bad_own, own->data, own->len);
    for (unsigned n = (unsigned)fuzz_below(8); n > 0; n--) {
        GByteArray *bad = fuzz_below(2) != 0 && bad_base->len > 0 ? bad_base : bad_own;
        if (bad->len > 0) {
            bad->data[fuzz_below(bad->len)] = (uint8_t)fuzz_value();
        }
    }
    fuzz_load(dev, bad_base, bad_own);
    g_assert(fuzz_load(dev, base, own));
    fuzz_retry_pended(z);
}

/* ---- what must hold ---- */

static void check_intx(const Fuzz *z)
{
    for (unsigned gate = 0; gate < 4; gate++) {
        bool level = false;
        fake_out8(z->m, (uint16_t)(TESTDEV_IRQ_PORT + 16 + gate), 0); /* pc-testdev's own line */
        for (unsigned i = 0; i < DUMMY_COUNT; i++) {
            const PciDummy *d = z->dummies[i];
            bool disabled = (pci_get(&d->pci, 4, 2) & 0x400) != 0 || pci_msix_enabled(&d->pci) ||
                            pci_dummy_is_hidden(d);
            level |= pci_intx_gate(d->pci.devfn, 1) == gate && d->pci.intx_asserted && !disabled;
        }
        g_assert(z->m->gsi_level[16 + gate] == level);
    }
}

static void fuzz_check(Fuzz *z)
{
    fake_machine_settle(z->m);
    for (unsigned i = 0; i < DUMMY_COUNT; i++) {
        check_bars(z->dummies[i]);
        check_msix(z->dummies[i]);
    }
    check_intx(z);
    for (unsigned i = 0; i < DUMMY_COUNT; i++) {
        unsigned slot = z->dummies[i]->pci.devfn >> 3;
        bool present = (fake_in32(z->m, ACPI_HOTPLUG_PORT + 8) >> slot & 1) != 0;
        g_assert(present == !pci_dummy_is_hidden(z->dummies[i]));
    }
    for (unsigned gsi = 0; gsi < FAKE_GSI_COUNT; gsi++) {
        g_assert(z->m->gsi_level[gsi] == (z->m->gates[gsi].asserted > 0));
    }
    g_assert(fake_in32(z->m, 0xcf8) != UINT32_MAX);
    z->m->request_count = 0;
    g_string_truncate(z->serial_out->output, 0);
    g_string_truncate(z->debug_out->output, 0);
}

/* ---- set-up and loop ---- */

static void fuzz_step(Fuzz *z)
{
    switch (fuzz_below(64)) {
    case 0:
        fuzz_save_and_load(z);
        break;
    case 1:
        fuzz_reset(z);
        break;
    case 2:
    case 3:
        fuzz_time(z);
        break;
    case 4:
    case 5:
    case 6:
        fuzz_console(z);
        break;
    case 7:
    case 8:
    case 9:
        fuzz_interrupts(z);
        break;
    case 10:
        fuzz_check(z);
        break;
    case 11:
    case 12:
        fuzz_hotplug(z);
        break;
    default:
        switch (fuzz_below(3)) {
        case 0:
            fuzz_port(z);
            break;
        case 1:
            fuzz_indexed(z);
            break;
        default:
            fuzz_access(z, z->m->env.mmio, fuzz_mmio_address(z));
            break;
        }
        break;
    }
}

static Device *fuzz_add(Fuzz *z, Device *dev)
{
    g_assert(z->device_count < DEVICE_MAX);
    return z->devices[z->device_count++] = dev;
}

static void fuzz_set_up(Fuzz *z)
{
    z->f = pci_fixture_new();
    z->m = z->f->m;
    vm_clock_set_wall_ns(INT64_C(1700000000000000000));
    z->serial_out = fake_chardev_new("serial");
    z->debug_out = fake_chardev_new("debug");
    z->device_count = 0;
    z->plug_type = pci_dummy_type;
    z->plug_type.user_creatable = true;
    fuzz_add(z, z->f->host);
    z->lpc = fuzz_add(z, fake_device(z->m, "ich9-lpc", NULL));
    fuzz_add(z, fake_device(z->m, "mc146818rtc", NULL));
    fuzz_add(z, fake_device(z->m, "isa-serial", "chardev=serial"));
    fuzz_add(z, fake_device(z->m, "isa-serial", "index=1"));
    fuzz_add(z, fake_device(z->m, "i8042", NULL));
    fuzz_add(z, fake_device(z->m, "post-port", NULL));
    fuzz_add(z, fake_device(z->m, "pvpanic", NULL));
    fuzz_add(z, fake_device(z->m, "isa-debug-exit", NULL));
    fuzz_add(z, fake_device(z->m, "pc-testdev", NULL));
    fuzz_add(z, fake_device(z->m, "fw_cfg_io", NULL));
    fuzz_add(z, fake_device(z->m, "isa-debugcon", "chardev=debug,iobase=0x402"));
    for (unsigned i = 0; i < DUMMY_COUNT; i++) {
        z->dummies[i] = (PciDummy *)(void *)fake_device_of(z->m, &z->plug_type,
                                                           i == 0 ? "vectors=64" : "vectors=2");
        fuzz_add(z, &z->dummies[i]->pci.base);
    }
    fuzz_reset(z);
}

static void fuzz_tear_down(Fuzz *z)
{
    fuzz_finish_pended(z);
    vm_clock_resume();
    for (unsigned i = z->device_count; i-- > 1;) { /* the host bridge is the fixture's */
        fake_device_gone(z->devices[i]);
    }
    fake_chardev_free(z->serial_out);
    fake_chardev_free(z->debug_out);
    pci_fixture_free(z->f);
}

int main(int argc, char **argv)
{
    static Fuzz z;
    bool more = true;
    fuzz_begin("fuzz_platform", argc, argv);
    log_open("/dev/null", false); /* a hostile guest has much to be told */
    while (more) {
        /* A new machine now and then: one that is stuck in a corner does not stay there. */
        fuzz_set_up(&z);
        for (unsigned i = 0; i < 20000 && (more = fuzz_goes_on()); i++) {
            fuzz_step(&z);
        }
        fuzz_tear_down(&z);
    }
    fuzz_end("steps");
    return 0;
}
