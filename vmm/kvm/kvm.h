/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's file descriptors: /dev/kvm, the VM, memory slots, interrupt routes, doorbells.
 *
 * main opens them at start-up. The host's capabilities are queried, never assumed. Interrupts may
 * be delivered from any thread; other functions name their thread. Source: KVM api.rst.
 */
#ifndef SKIFF_VMM_KVM_KVM_H
#define SKIFF_VMM_KVM_KVM_H

#include <glib.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include "hw/core/irq.h"
#include "hw/core/ram.h"

/* Pins an architecture may hand to kvm_init_routes(). */
#define KVM_MAX_FIXED_ROUTES 64

struct MsiRoute {
    uint32_t gsi;
    int event_fd;
    uint32_t device_id;
    unsigned entry; /* index in the table; 0: not in it (entry 0 is a pin's) */
    bool used, attached;
    bool changed; /* `wanted` has not been committed; in Kvm.changed_routes */
    bool refused; /* KVM refused the last message that was set */
    MsiMessage wanted, committed;
    MsiRoute *next_changed;
};

#define KVM_MAX_SLOTS 32

/* A range of guest-physical memory that KVM maps. */
typedef struct KvmSlot {
    uint64_t gpa, size; /* size 0: not in use */
    uint8_t *host;
    const char *name;
    bool read_only; /* writes exit as MMIO */
    bool logged;
    bool hidden; /* KVM does not have it: reads exit as MMIO too */
} KvmSlot;

typedef struct Kvm {
    int fd;
    int vm_fd;
    size_t run_size; /* of the mapping shared with each vCPU */
    unsigned max_vcpus;
    unsigned first_msi_gsi; /* GSIs below belong to the irqchip */
    bool has_msi_devid;
    /* BQL */
    KvmSlot slots[KVM_MAX_SLOTS];
    bool logging;
    const GuestRam *ram; /* receives KVM's log; NULL: kvm_attach_ram_log() was not called */
    MsiRoute *routes;    /* max_routes of them; route n has GSI first_msi_gsi + n */
    unsigned max_routes;
    MsiRoute *changed_routes;
    struct kvm_irq_routing *table; /* the pins' entries, then those of MSI routes */
    bool table_changed;
    unsigned table_commits; /* number of commits so far */
} Kvm;

/* Opens /dev/kvm and checks its API. The error names the remedy (group, module, nesting). */
bool kvm_open(Kvm *kvm, GError **error) ANY_THREAD;
/* Creates the VM with a memory slot for every block of @ram. arch_vm_init() comes next. */
bool kvm_create_vm(Kvm *kvm, const GuestRam *ram, GError **error) ANY_THREAD;
void kvm_close(Kvm *kvm) ANY_THREAD;
/* KVM_CHECK_EXTENSION on the VM, or on /dev/kvm before the VM exists. 0: not supported. */
int kvm_check(const Kvm *kvm, int capability) ANY_THREAD;
/* Fills in the operations that devices use (kvm_irq.c, kvm_doorbell.c), except `request`, which the
 * run state sets. @ops is the caller's. */
void kvm_fill_machine_ops(MachineOps *ops) ANY_THREAD;

/* ---- memory slots (kvm_slots.c); BQL held, or before any vCPU runs ---- */
/* Adds a slot for each block. */
bool kvm_slots_init(Kvm *kvm, const GuestRam *ram, GError **error) ANY_THREAD;
/* Adds a slot for @block, whose `name` is borrowed; NULL + error: no slot is free, or KVM
 * refuses. */
KvmSlot *kvm_slot_add(Kvm *kvm, const RamBlock *block, GError **error) ANY_THREAD;
/* A writable slot is removed or made read-only with the vCPUs parked: no log records their writes
 * meanwhile. On failure the slot is unchanged. */
bool kvm_slot_remove(Kvm *kvm, KvmSlot *slot, GError **error) ANY_THREAD;
bool kvm_slot_set_read_only(Kvm *kvm, KvmSlot *slot, bool read_only, GError **error) ANY_THREAD;
/* vCPUs' writes are logged in @ram's dirty memory (guest_ram_log_start()). */
void kvm_attach_ram_log(Kvm *kvm, GuestRam *ram) ANY_THREAD;

/* Replaces KVM's default routes with the @count routes of the interrupt controllers' own pins
 * (copied), and sets the first GSI for MSIs. Called by arch_vm_init(). */
bool kvm_init_routes(Kvm *kvm, const struct kvm_irq_routing_entry *pins, unsigned count,
                     unsigned first_msi_gsi, GError **error) ANY_THREAD;
/* Frees the memory of kvm_init_routes(). All routes are detached or the VM is gone. */
void kvm_free_routes(Kvm *kvm) ANY_THREAD;

/* For MachineOps, by kvm_fill_machine_ops(): opaque is a Kvm. */
void kvm_irq_fill_ops(MachineOps *ops) ANY_THREAD;
void kvm_doorbell_fill_ops(MachineOps *ops) ANY_THREAD;
void kvm_slots_fill_ops(MachineOps *ops) ANY_THREAD;

#endif
