/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines, MSI messages and doorbells: what hw/ asks of the machine. vmm/kvm/ implements
 * MachineOps with KVM_IRQ_LINE, irqfd and ioeventfd; tests implement it with counters.
 */
#ifndef SKIFF_HW_CORE_IRQ_H
#define SKIFF_HW_CORE_IRQ_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/held.h"

typedef struct MachineOps MachineOps;

/* One message: what the device writes to raise the interrupt. PCI 3.0 §6.8.1. */
typedef struct MsiMessage {
    uint64_t address;
    uint32_t data;
} MsiMessage;

/* An MSI route of the machine: while it is attached, a write to its eventfd raises its message, from
 * any thread. Opaque.
 *
 *   (none) --new--> detached --attach--> attached --detach--> detached --free--> (none)
 *
 * A route keeps its place in the machine's table while it is detached, so masking and unmasking a
 * vector does not change the table. */
typedef struct MsiRoute MsiRoute;

typedef struct Machine {
    const MachineOps *ops;
    void *opaque; /* of the operations */
    /* A message to the VM: see machine_request(). */
    void (*request)(void *opaque, int request, int64_t detail);
    void *request_opaque;
} Machine;

struct MachineOps {
    /* Level of global system interrupt @gsi (ISA IRQs 0-15 and PCI 16-23). Any thread; called with
     * the gate's lock held. */
    void (*set_gsi)(void *opaque, unsigned gsi, bool level);
    /* Reserves a route for @event_fd, detached. BQL. NULL + error when the machine has no more. */
    MsiRoute *(*msi_route_new)(void *opaque, uint32_t device_id, int event_fd, GError **error);
    /* Detached before. BQL. */
    void (*msi_route_free)(void *opaque, MsiRoute *route);
    /* Sets the message. It takes effect at the next msi_routes_commit(). BQL. */
    void (*msi_route_set)(void *opaque, MsiRoute *route, MsiMessage message);
    /* One update of the machine's table for all messages set since the last. A message that the
     * machine refuses is the guest's error: an attached route keeps its old message. BQL. */
    void (*msi_routes_commit)(void *opaque);
    /* The route's message has been committed. An event that is in the eventfd already is delivered
     * once; the eventfd then reads empty until the detach. BQL. False + error when the machine
     * refused the message or refuses the eventfd. */
    bool (*msi_route_attach)(void *opaque, MsiRoute *route, GError **error);
    /* Every event written before is delivered; every later one stays in the eventfd. BQL. */
    void (*msi_route_detach)(void *opaque, MsiRoute *route);
    /* Delivers once, without a route. Any thread. */
    void (*msi_send)(void *opaque, MsiMessage message);
    /* A write of @size bytes (0: any size) to @address of MMIO (or port I/O) signals @event_fd
     * instead of leaving the guest.
     * @match: only when the value is @data. BQL. Returns 0 or -errno (the caller then lives with
     * slow kicks through the register). */
    int (*doorbell_add)(void *opaque, bool pio, uint64_t address, unsigned size, bool match,
                        uint64_t data, int event_fd);
    void (*doorbell_remove)(void *opaque, bool pio, uint64_t address, unsigned size, bool match,
                            uint64_t data, int event_fd);
};

/* What a device asks of the VM. */
typedef enum VmRequest {
    VM_REQUEST_RESET, /* guest asked for a reset (0xcf9, i8042, PM reset register, triple fault is
                         the CPU's) */
    VM_REQUEST_POWEROFF,      /* ACPI S5 */
    VM_REQUEST_DEBUG_EXIT,    /* isa-debug-exit: detail is the value written */
    VM_REQUEST_PANIC,         /* pvpanic: detail is the event bits */
    VM_REQUEST_STOP_IO_ERROR, /* werror/rerror=stop */
    VM_REQUEST_UNPLUG, /* the guest has let go of devices: pci_device_unplug_state() says which */
} VmRequest;

/* Asks the VM for @request, because the guest did or the device decided so. A message: returns at
 * once, from any thread. */
static inline void machine_request(const Machine *machine, VmRequest request, int64_t detail)
{
    machine->request(machine->request_opaque, (int)request, detail);
}

/*
 * IrqGate: an OR of several sources onto one GSI. Any thread. Sources are level: the gate's output
 * is the OR; each change of output calls ops->set_gsi under the gate's own lock, so outputs are
 * never reordered.
 */
typedef struct IrqGate {
    RankMutex lock; /* RANK_QUEUE */
    const Machine *machine;
    unsigned gsi;
    unsigned asserted; /* how many lines are high */
} IrqGate;

void irq_gate_init(IrqGate *gate, const Machine *machine, unsigned gsi) ANY_THREAD;

typedef struct IrqLine {
    IrqGate *gate; /* NULL: goes nowhere */
    bool level;    /* gate->lock */
} IrqLine;

void irq_line_init(IrqLine *line, IrqGate *gate) ANY_THREAD;
void irq_line_set(IrqLine *line, bool level) ANY_THREAD;
/* For sources whose cause is a word shared between threads (virtio ISR): computes the level from
 * @cause under the gate's lock, so that a raise and an acknowledge can't cross. */
void irq_line_update(IrqLine *line, bool (*cause)(void *opaque), void *opaque) ANY_THREAD;

#endif
