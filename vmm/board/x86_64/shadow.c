/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/board/x86_64/shadow.h"

#include <string.h>
#include <sys/mman.h>
#include "util/log.h"
#include "vmm/arch/x86_64/layout.h"

#define SHADOW_ROM_GPA (X86_MIB - X86_ROM_SHADOW_SIZE)

typedef enum ShadowKind {
    SHADOW_NONE, /* no slot */
    SHADOW_ROM,
    SHADOW_RAM_READ_ONLY,
    SHADOW_RAM,
} ShadowKind;

static const char *const shadow_names[] = {
    [SHADOW_ROM] = "bios shadow",
    [SHADOW_RAM_READ_ONLY] = "ram-shadow",
    [SHADOW_RAM] = "ram-shadow",
};

/* ---- slots ---- */

static ShadowKind shadow_kind(unsigned pam, uint64_t gpa)
{
    if ((pam & PCI_HOST_PAM_READ) == 0) {
        return gpa >= SHADOW_ROM_GPA ? SHADOW_ROM : SHADOW_NONE;
    }
    return (pam & PCI_HOST_PAM_WRITE) != 0 ? SHADOW_RAM : SHADOW_RAM_READ_ONLY;
}

/* The runs that the registers describe now. Returns their number. */
static unsigned shadow_plan(const Shadow *s, ShadowRun *runs) BQL_HELD
{
    unsigned count = 0;
    for (unsigned i = 0; i < PCI_HOST_PAM_SEGMENTS; i++) {
        ShadowRun run = {0};
        pci_host_pam_range(i, &run.gpa, &run.size);
        run.kind = shadow_kind(pci_host_pam(s->host, i), run.gpa);
        if (run.kind == SHADOW_NONE) {
            continue;
        }
        ShadowRun *last = count > 0 ? &runs[count - 1] : NULL;
        if (last != NULL && last->kind == run.kind && last->gpa + last->size == run.gpa) {
            last->size += run.size;
        } else {
            runs[count++] = run;
        }
    }
    return count;
}

static ShadowRun *shadow_find(Shadow *s, const ShadowRun *run)
{
    for (unsigned i = 0; i < s->run_count; i++) {
        ShadowRun *old = &s->runs[i];
        if (old->slot != NULL && old->kind == run->kind && old->gpa == run->gpa &&
            old->size == run->size) {
            return old;
        }
    }
    return NULL;
}

static void shadow_remove(Shadow *s, ShadowRun *run) BQL_HELD
{
    g_autoptr(GError) error = NULL;
    if (!kvm_slot_remove(s->kvm, run->slot, &error)) {
        log_error("PAM registers: %s", error->message);
    }
    if (run->kind == SHADOW_RAM) {
        /* vCPUs may have written after KVM's log was read. */
        guest_ram_mark(s->ram, run->gpa, run->size);
    }
    run->slot = NULL;
}

static void shadow_add(Shadow *s, ShadowRun *run) BQL_HELD
{
    g_autoptr(GError) error = NULL;
    RamBlock block = {.gpa = run->gpa,
                      .size = run->size,
                      .read_only = run->kind != SHADOW_RAM,
                      .fd = -1,
                      .name = shadow_names[run->kind]};
    block.host = run->kind == SHADOW_ROM ? s->rom + (run->gpa - SHADOW_ROM_GPA)
                                         : guest_ram_map(s->ram, run->gpa, run->size, true);
    run->slot = kvm_slot_add(s->kvm, &block, &error);
    if (run->slot == NULL) { /* `region` has it */
        log_error("PAM registers: %s", error->message);
    }
}

void shadow_update(Shadow *s)
{
    ShadowRun runs[PCI_HOST_PAM_SEGMENTS];
    assert_bql();
    unsigned count = shadow_plan(s, runs);
    for (unsigned i = 0; i < count; i++) {
        ShadowRun *old = shadow_find(s, &runs[i]);
        if (old != NULL) {
            runs[i].slot = old->slot;
            old->slot = NULL;
        }
    }
    for (unsigned i = 0; i < s->run_count; i++) {
        if (s->runs[i].slot != NULL) {
            shadow_remove(s, &s->runs[i]);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        if (runs[i].slot == NULL) {
            shadow_add(s, &runs[i]);
        }
    }
    memcpy(s->runs, runs, sizeof(runs));
    s->run_count = count;
}

/* ---- accesses that leave the guest ---- */

static unsigned shadow_pam_at(const Shadow *s, uint64_t gpa) BQL_HELD
{
    for (unsigned i = 0; i < PCI_HOST_PAM_SEGMENTS; i++) {
        uint64_t start, size;
        pci_host_pam_range(i, &start, &size);
        if (gpa - start < size) {
            return pci_host_pam(s->host, i);
        }
    }
    return 0;
}

static MmioResult shadow_access(void *opaque, IoAccess *access)
{
    Shadow *s = opaque;
    assert_bql();
    uint64_t gpa = PCI_HOST_PAM_BASE + access->offset;
    unsigned pam = shadow_pam_at(s, gpa);
    uint8_t byte = 0xff;
    if (access->is_write) {
        byte = (uint8_t)access->value;
        if ((pam & PCI_HOST_PAM_WRITE) != 0) {
            guest_ram_write(s->ram, gpa, &byte, 1);
        }
        return MMIO_DONE;
    }
    if ((pam & PCI_HOST_PAM_READ) != 0) {
        guest_ram_read(s->ram, gpa, &byte, 1);
    } else if (gpa >= SHADOW_ROM_GPA) {
        byte = s->rom[gpa - SHADOW_ROM_GPA];
    }
    access->value = byte;
    return MMIO_DONE;
}

static const IoRegionOps shadow_ops = {.access = shadow_access, .min_size = 1, .max_size = 1};

/* ---- life cycle ---- */

static KvmSlot *shadow_low_slot(Kvm *kvm)
{
    for (unsigned i = 0; i < KVM_MAX_SLOTS; i++) {
        if (kvm->slots[i].size > X86_MIB && kvm->slots[i].gpa == 0) {
            return &kvm->slots[i];
        }
    }
    return NULL;
}

/* Replaces the slot of low RAM by one below the hole and one above 1 MiB. */
static bool shadow_split_low_ram(Kvm *kvm, GError **error)
{
    KvmSlot *slot = shadow_low_slot(kvm);
    g_assert(slot != NULL && !slot->read_only);
    RamBlock low = {.size = X86_BASE_MEMORY_END, .host = slot->host, .fd = -1, .name = slot->name};
    RamBlock high = {.gpa = X86_MIB,
                     .size = slot->size - X86_MIB,
                     .host = slot->host + X86_MIB,
                     .fd = -1,
                     .name = slot->name};
    return kvm_slot_remove(kvm, slot, error) && kvm_slot_add(kvm, &low, error) != NULL &&
           kvm_slot_add(kvm, &high, error) != NULL;
}

bool shadow_init(Shadow *s, Kvm *kvm, GuestRam *ram, AddressSpace *mmio, Device *host,
                 GError **error)
{
    void *rom =
        mmap(NULL, X86_ROM_SHADOW_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (rom == MAP_FAILED) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOMEM, "no memory for the firmware's copy");
        return false;
    }
    *s = (Shadow){.kvm = kvm, .ram = ram, .host = host, .rom = rom};
    memset(s->rom, 0xff, X86_ROM_SHADOW_SIZE);
    s->region = (IoRegion){
        .name = "bios-shadow", .ops = &shadow_ops, .opaque = s, .size = PCI_HOST_PAM_SIZE};
    bql_lock();
    bool ok = shadow_split_low_ram(kvm, error);
    if (ok) {
        address_space_map(mmio, &s->region, PCI_HOST_PAM_BASE, 1);
        shadow_update(s);
    }
    bql_unlock();
    return ok;
}

void shadow_set_rom(Shadow *s, const uint8_t *image, uint64_t size)
{
    uint64_t n = MIN(size, X86_ROM_SHADOW_SIZE);
    memcpy(s->rom + (X86_ROM_SHADOW_SIZE - n), image + (size - n), n);
    bool written = guest_ram_write(s->ram, X86_MIB - n, image + (size - n), n);
    g_assert(written); /* every machine has a MiB of RAM */
}
