/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory slots: the guest-physical ranges that KVM maps to host memory, and KVM's log of vCPU
 * writes. KVM api.rst §4.8, §4.35.
 *
 * A slot is added, changes its flags and is removed while vCPUs run. KVM cannot change whether a
 * slot is read-only, so such a change removes the slot and adds it again: an access that comes in
 * between exits as MMIO, waits for the BQL and is dispatched to the device that owns the range.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include "util/log.h"
#include "vmm/kvm/kvm.h"

static bool kvm_slot_ioctl(Kvm *kvm, const KvmSlot *slot, bool present, GError **error)
{
    struct kvm_userspace_memory_region region = {
        .slot = (uint32_t)(slot - kvm->slots),
        .flags =
            (slot->read_only ? KVM_MEM_READONLY : 0) | (slot->logged ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = slot->gpa,
        .memory_size = present ? slot->size : 0,
        .userspace_addr = (uintptr_t)slot->host,
    };
    if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) != 0) {
        int err = errno;
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err),
                    "KVM refuses guest memory '%s' (%" PRIu64 " KiB at %#" PRIx64 "): %s",
                    slot->name, slot->size >> 10, slot->gpa, g_strerror(err));
        return false;
    }
    return true;
}

KvmSlot *kvm_slot_add(Kvm *kvm, const RamBlock *block, GError **error)
{
    for (unsigned i = 0; i < KVM_MAX_SLOTS; i++) {
        KvmSlot *slot = &kvm->slots[i];
        if (slot->size != 0) {
            continue;
        }
        *slot = (KvmSlot){.gpa = block->gpa,
                          .size = block->size,
                          .host = block->host,
                          .name = block->name,
                          .read_only = block->read_only,
                          .logged = kvm->logging && !block->read_only};
        if (!kvm_slot_ioctl(kvm, slot, true, error)) {
            slot->size = 0;
            return NULL;
        }
        return slot;
    }
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                "guest memory '%s': all %d memory slots are in use", block->name, KVM_MAX_SLOTS);
    return NULL;
}

/* Marks the pages that vCPUs have written in @slot since the last call. */
static bool kvm_slot_sync(Kvm *kvm, const KvmSlot *slot, const GuestRam *ram, GError **error)
{
    uint64_t pages = slot->size / GUEST_RAM_PAGE;
    g_autofree uint64_t *bitmap = g_new0(uint64_t, (pages + 63) / 64);
    struct kvm_dirty_log log = {.slot = (uint32_t)(slot - kvm->slots), .dirty_bitmap = bitmap};
    if (ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log) != 0) {
        int err = errno;
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err),
                    "KVM_GET_DIRTY_LOG of '%s': %s", slot->name, g_strerror(err));
        return false;
    }
    guest_ram_mark_bitmap(ram, slot->gpa, bitmap, pages);
    return true;
}

/* Removing a slot drops its part of KVM's log, so that is merged first. No vCPU may write between
 * the two: the caller parks them, or the slot is read-only. */
static bool kvm_slot_withdraw(Kvm *kvm, KvmSlot *slot, GError **error)
{
    if (slot->logged && kvm->ram != NULL && !kvm_slot_sync(kvm, slot, kvm->ram, error)) {
        return false;
    }
    return kvm_slot_ioctl(kvm, slot, false, error);
}

bool kvm_slot_remove(Kvm *kvm, KvmSlot *slot, GError **error)
{
    g_assert(slot->size != 0);
    if (!kvm_slot_withdraw(kvm, slot, error)) {
        return false;
    }
    slot->size = 0;
    return true;
}

bool kvm_slot_set_read_only(Kvm *kvm, KvmSlot *slot, bool read_only, GError **error)
{
    KvmSlot old = *slot;
    g_assert(slot->size != 0);
    if (slot->read_only == read_only) {
        return true;
    }
    if (!kvm_slot_withdraw(kvm, slot, error)) {
        return false;
    }
    slot->read_only = read_only;
    slot->logged = kvm->logging && !read_only;
    if (!kvm_slot_ioctl(kvm, slot, true, error)) {
        *slot = old;
        if (!kvm_slot_ioctl(kvm, slot, true, NULL)) {
            slot->size = 0; /* KVM refuses its previous slot: the range is MMIO from now on */
        }
        return false;
    }
    return true;
}

/* ---- read-only blocks that come and go ---- */

static KvmSlot *kvm_slot_find(Kvm *kvm, uint64_t gpa)
{
    for (unsigned i = 0; i < KVM_MAX_SLOTS; i++) {
        if (kvm->slots[i].size != 0 && kvm->slots[i].gpa == gpa) {
            return &kvm->slots[i];
        }
    }
    return NULL;
}

static bool kvm_set_rom_mapped(void *opaque, uint64_t gpa, bool mapped)
{
    Kvm *kvm = opaque;
    assert_bql();
    KvmSlot *slot = kvm_slot_find(kvm, gpa);
    g_assert(slot != NULL && slot->read_only);
    if (slot->hidden == !mapped) {
        return true;
    }
    g_autoptr(GError) error = NULL;
    if (!kvm_slot_ioctl(kvm, slot, mapped, &error)) {
        log_error("%s", error->message);
        return false;
    }
    slot->hidden = !mapped;
    return true;
}

void kvm_slots_fill_ops(MachineOps *ops)
{
    ops->set_rom_mapped = kvm_set_rom_mapped;
}

bool kvm_slots_init(Kvm *kvm, const GuestRam *ram, GError **error)
{
    for (unsigned i = 0; i < ram->count; i++) {
        if (kvm_slot_add(kvm, &ram->blocks[i], error) == NULL) {
            return false;
        }
    }
    return true;
}

/* ---- the log ---- */

/* A refusal ends the start of logging, but not its stop. */
static bool kvm_slots_set_logging(Kvm *kvm, bool on, GError **error)
{
    bool all = true;
    kvm->logging = on;
    for (unsigned i = 0; i < KVM_MAX_SLOTS && (all || !on); i++) {
        KvmSlot *slot = &kvm->slots[i];
        if (slot->size == 0 || slot->read_only) {
            continue;
        }
        slot->logged = on;
        if (!kvm_slot_ioctl(kvm, slot, true, error)) {
            slot->logged = !on;
            all = false;
        }
    }
    return all;
}

static void kvm_log_stop(void *opaque)
{
    Kvm *kvm = opaque;
    bql_lock();
    kvm_slots_set_logging(kvm, false, NULL);
    bql_unlock();
}

static bool kvm_log_start(void *opaque, GError **error)
{
    Kvm *kvm = opaque;
    bql_lock();
    bool ok = kvm_slots_set_logging(kvm, true, error);
    bql_unlock();
    if (!ok) {
        kvm_log_stop(kvm);
    }
    return ok;
}

static bool kvm_log_sync(void *opaque, const GuestRam *ram, GError **error)
{
    Kvm *kvm = opaque;
    bool ok = true;
    bql_lock();
    for (unsigned i = 0; i < KVM_MAX_SLOTS && ok; i++) {
        const KvmSlot *slot = &kvm->slots[i];
        ok = slot->size == 0 || !slot->logged || kvm_slot_sync(kvm, slot, ram, error);
    }
    bql_unlock();
    return ok;
}

void kvm_attach_ram_log(Kvm *kvm, GuestRam *ram)
{
    static const GuestRamLogOps ops = {
        .start = kvm_log_start, .stop = kvm_log_stop, .sync = kvm_log_sync};
    kvm->ram = ram;
    ram->log_ops = &ops;
    ram->log_opaque = kvm;
}
