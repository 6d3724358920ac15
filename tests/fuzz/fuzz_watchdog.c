/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at the watchdogs' registers (i6300esb, TCO): config space, BAR, ports and chipset
 * registers in every width, with time, stops, resets, saves and damaged loads in between.
 *
 * What must hold: a watchdog that may not act requests nothing; no watchdog requests anything while
 * the VM is stopped; expiries are not closer than the shortest stages; main's loop comes to rest.
 *
 *   fuzz_watchdog [--seconds N] [--seed N] [--steps N]
 */
#include "hw/core/vm_clock.h"
#include "tests/support/fuzzer.h"
#include "tests/support/pci_dummy.h"

#define ESB_DEVFN (3u << 3)
#define ESB_BAR 0xd0000000u
#define ESB_CONFIG 0x60
#define ESB_NO_OUTPUT 0x20
#define ESB_LOCK 0x68
#define ESB_ENABLE 0x02
#define ESB_STAGE_MIN_NS 1000000
#define LPC_DEVFN (0x1fu << 3)
#define LPC_PMBASE 0x40
#define LPC_ACPI_CONTROL 0x44
#define LPC_RCBA 0xf0
#define RCBA 0xfed1c000u
#define GCS (RCBA + 0x3410)
#define GCS_NO_REBOOT 0x20
#define TCO 0x660
#define TCO_CONTROL1 0x08
#define TCO_HALT 0x0800

typedef struct Fuzz {
    PciFixture *f;
    FakeMachine *m;
    Device *esb, *lpc;
    int64_t since_ns; /* VM time of the last expiry that only i6300esb can have requested */
    bool damaged;     /* the state was loaded damaged: a stage may end at once */
} Fuzz;

static uint64_t fuzz_value(void)
{
    static const uint32_t words[] = {0x80, 0x86, 0x100, 0x1200, 0x1300, 0x20, 0x800, 0x1000, 7, 2};
    switch (fuzz_below(5)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return UINT64_C(1) << fuzz_below(64);
    case 3:
        return FUZZ_PICK(words);
    default:
        return fuzz_random();
    }
}

static unsigned fuzz_size(void)
{
    static const uint8_t sizes[] = {1, 1, 1, 2, 2, 2, 4, 4, 8, 3, 5, 6, 7};
    return FUZZ_PICK(sizes);
}

static void fuzz_access(AddressSpace *as, uint64_t address)
{
    if (fuzz_below(3) == 0) {
        fake_read(as, address, fuzz_size());
    } else {
        fake_write(as, address, fuzz_value(), fuzz_size());
    }
}

/* ---- the guest ---- */

static void fuzz_esb_config(Fuzz *z)
{
    static const uint8_t offsets[] = {ESB_CONFIG, ESB_CONFIG + 1, ESB_LOCK, ESB_LOCK,
                                      0x64,       0x04,           0x10};
    unsigned offset = FUZZ_PICK(offsets);
    unsigned size = fuzz_below(2) != 0 ? 1 : offset % 4 == 0 ? 4 : 1;
    pci_cf8_write(z->f, ESB_DEVFN, offset, (uint32_t)fuzz_value(), size);
    if (fuzz_below(4) != 0) { /* it answers mostly */
        pci_cf8_write(z->f, ESB_DEVFN, 0x10, ESB_BAR, 4);
        pci_cf8_write(z->f, ESB_DEVFN, 4, 2, 2);
    }
}

static void fuzz_esb_bar(Fuzz *z)
{
    AddressSpace *mmio = z->m->env.mmio;
    if (fuzz_below(4) != 0) {
        fake_write(mmio, ESB_BAR + 0xc, 0x80, fuzz_below(2) != 0 ? 1 : 2);
        fake_write(mmio, ESB_BAR + 0xc, 0x86, 1);
    }
    if (fuzz_below(2) != 0) {
        fake_write(mmio, ESB_BAR + fuzz_below(2) * 4, fuzz_below(1u << fuzz_below(21)), 4);
    } else {
        fuzz_access(mmio, ESB_BAR + fuzz_below(0x12) - 1);
    }
}

static void fuzz_lpc_config(Fuzz *z)
{
    static const uint8_t offsets[] = {LPC_PMBASE, LPC_PMBASE + 1, LPC_ACPI_CONTROL,
                                      LPC_RCBA,   LPC_RCBA + 1,   LPC_RCBA + 3};
    unsigned offset = FUZZ_PICK(offsets);
    pci_cf8_write(z->f, LPC_DEVFN, offset, (uint32_t)fuzz_value(), offset % 4 == 0 ? 4 : 1);
    if (fuzz_below(8) != 0) {
        pci_cf8_write(z->f, LPC_DEVFN, LPC_PMBASE, 0x601, 4);
        pci_cf8_write(z->f, LPC_DEVFN, LPC_ACPI_CONTROL, 0x80, 1);
        pci_cf8_write(z->f, LPC_DEVFN, LPC_RCBA, RCBA | 1, 4);
    }
}

static void fuzz_guest(Fuzz *z)
{
    switch (fuzz_below(8)) {
    case 0:
        fuzz_esb_config(z);
        break;
    case 1:
    case 2:
        fuzz_esb_bar(z);
        break;
    case 3:
        fuzz_lpc_config(z);
        break;
    case 4:
        fuzz_access(z->m->env.mmio, RCBA + fuzz_below(0x4100));
        break;
    case 5:
        fuzz_access(z->m->env.mmio, GCS - 2 + fuzz_below(6));
        break;
    default:
        fuzz_access(z->m->env.pio, TCO - 2 + fuzz_below(0x24));
        break;
    }
}

/* ---- time ---- */

static bool esb_may_act(const Fuzz *z)
{
    const PciDevice *pci = (const PciDevice *)z->esb;
    return (pci_get(pci, ESB_LOCK, 1) & ESB_ENABLE) != 0 &&
           (pci_get(pci, ESB_CONFIG, 2) & ESB_NO_OUTPUT) == 0;
}

/* Also when its registers are not in their usual place: others may be above them there. */
static bool tco_may_act(const Fuzz *z)
{
    const PciDevice *pci = (const PciDevice *)z->lpc;
    if (pci_get(pci, LPC_RCBA, 4) != (RCBA | 1) || pci_get(pci, LPC_PMBASE, 4) != 0x601 ||
        (pci_get(pci, LPC_ACPI_CONTROL, 1) & 0x80) == 0) {
        return true;
    }
    return (fake_read(z->m->env.mmio, GCS, 4) & GCS_NO_REBOOT) == 0 &&
           (fake_in16(z->m, TCO + TCO_CONTROL1) & TCO_HALT) == 0;
}

static void fuzz_advance(Fuzz *z)
{
    static const int64_t scales[] = {1000000, 10000000, 1000000000, 100000000000, 3000000000000};
    bool esb = esb_may_act(z), tco = tco_may_act(z), running = vm_clock_is_running();
    int64_t before_ns = vm_clock_now_ns();
    z->m->request_count = 0;
    fake_machine_advance(z->m, (int64_t)fuzz_below((uint64_t)FUZZ_PICK(scales)));
    for (unsigned i = 0; i < z->m->request_count; i++) {
        g_assert(z->m->requests[i].request == VM_REQUEST_WATCHDOG);
    }
    unsigned count = z->m->request_count;
    g_assert(count <= (esb ? 1u : 0u) + (tco ? 1u : 0u));
    g_assert(running || (count == 0 && vm_clock_now_ns() == before_ns));
    if (esb && !tco && count != 0) {
        g_assert(z->damaged || vm_clock_now_ns() - z->since_ns >= 2 * ESB_STAGE_MIN_NS);
        z->since_ns = vm_clock_now_ns();
        z->damaged = false;
    }
}

/* ---- main ---- */

static void fuzz_reset(Fuzz *z)
{
    bql_lock();
    z->esb->type->reset(z->esb);
    z->lpc->type->reset(z->lpc);
    bql_unlock();
    z->m->request_count = 0;
    fake_machine_advance(z->m, INT64_C(5000000000000));
    g_assert(z->m->request_count == 0); /* a reset turns both off */
}

static bool fuzz_load_one(const StateDesc *desc, Device *dev, const GByteArray *saved)
{
    size_t used = 0;
    g_autoptr(GError) error = NULL;
    bool ok = state_load(desc, dev, saved->data, saved->len, &used, &error);
    g_assert(ok || error != NULL);
    return ok;
}

static bool fuzz_load(Device *dev, const GByteArray *base, const GByteArray *own)
{
    bool ok = fuzz_load_one(dev->type->base_state, dev, base) &&
              fuzz_load_one(dev->type->state, dev, own);
    bql_lock();
    ok = dev->type->post_load(dev, NULL) && ok;
    bql_unlock();
    return ok;
}

/* Loads the saved state damaged, which may be refused but must do no harm. Then, mostly, whole. */
static void fuzz_save_and_load(Fuzz *z)
{
    Device *dev = fuzz_below(2) != 0 ? z->esb : z->lpc;
    g_autoptr(GByteArray) base = g_byte_array_new(), own = g_byte_array_new();
    g_autoptr(GByteArray) bad = g_byte_array_new();
    bql_lock();
    dev->type->pre_save(dev);
    bql_unlock();
    state_save(dev->type->base_state, dev, base);
    state_save(dev->type->state, dev, own);
    g_byte_array_append(bad, own->data, own->len);
    for (unsigned n = (unsigned)fuzz_below(8); n > 0; n--) {
        bad->data[fuzz_below(bad->len)] = (uint8_t)fuzz_value();
    }
    bool loaded = fuzz_load(dev, base, bad);
    z->damaged = true;
    if (!loaded || fuzz_below(4) != 0) {
        g_assert(fuzz_load(dev, base, own));
    }
}

static void fuzz_step(Fuzz *z)
{
    switch (fuzz_below(64)) {
    case 0:
        fuzz_save_and_load(z);
        break;
    case 1:
        if (vm_clock_is_running()) {
            vm_clock_pause();
        } else {
            vm_clock_resume();
        }
        break;
    case 2:
        vm_clock_resume();
        fuzz_reset(z);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        fuzz_advance(z);
        break;
    default:
        fuzz_guest(z);
        break;
    }
}

static void fuzz_set_up(Fuzz *z)
{
    *z = (Fuzz){.f = pci_fixture_new()};
    z->m = z->f->m;
    z->lpc = fake_device(z->m, "ich9-lpc", fuzz_below(8) == 0 ? "noreboot=on" : NULL);
    z->esb = fake_device(z->m, "i6300esb", "addr=3");
    pci_cf8_write(z->f, ESB_DEVFN, 0x10, ESB_BAR, 4);
    pci_cf8_write(z->f, ESB_DEVFN, 4, 2, 2);
}

static void fuzz_tear_down(Fuzz *z)
{
    vm_clock_resume();
    fake_device_gone(z->esb);
    fake_device_gone(z->lpc);
    pci_fixture_free(z->f);
}

int main(int argc, char **argv)
{
    static Fuzz z;
    bool more = true;
    fuzz_begin("fuzz_watchdog", argc, argv);
    log_open("/dev/null", false);
    while (more) {
        fuzz_set_up(&z);
        for (unsigned i = 0; i < 5000 && (more = fuzz_goes_on()); i++) {
            fuzz_step(&z);
        }
        fuzz_tear_down(&z);
    }
    fuzz_end("steps");
    return 0;
}
