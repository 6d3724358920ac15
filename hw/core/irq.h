/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines, MSI messages and doorbells: the machine's interface to hw/. vmm/kvm/ implements
 * MachineOps with KVM_IRQ_LINE, irqfd and ioeventfd; tests implement it with counters.
 */
#ifndef SKIFF_HW_CORE_IRQ_H
#define SKIFF_HW_CORE_IRQ_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/held.h"

typedef struct MachineOps MachineOps;

/* One message: the memory write that raises the interrupt. PCI 3.0 §6.8.1. */
typedef struct MsiMessage {
    uint64_t address;
    uint32_t data;
} MsiMessage;

/* An MSI route of the machine. While it is attached, a write to its eventfd raises its message,
 * from any thread. Opaque.
 *
 *   (none) --new--> detached --attach--> attached --detach--> detached --free--> (none)
 *
 * A detached route keeps its entry in the machine's table, so masking and unmasking a vector does
 * not change the table. */
typedef struct MsiRoute MsiRoute;

typedef struct Machine {
    const MachineOps *ops;
    void *opaque; /* first argument of the operations */
    /* Sends a request to the VM, see machine_request(). */
    void (*request)(void *opaque, int request, int64_t detail);
    void *request_opaque;
} Machine;

struct MachineOps {
    /* Level of global system interrupt @gsi (ISA IRQs 0-15 and PCI 16-23). Any thread; called with
     * the gate's lock held. */
    void (*set_gsi)(void *opaque, unsigned gsi, bool level);
    /* Reserves a detached route for @event_fd. BQL. NULL + error when the table is full. */
    MsiRoute *(*msi_route_new)(void *opaque, uint32_t device_id, int event_fd, GError **error);
    /* The route is detached. BQL. */
    void (*msi_route_free)(void *opaque, MsiRoute *route);
    /* Sets the message. It takes effect at the next msi_routes_commit(). BQL. */
    void (*msi_route_set)(void *opaque, MsiRoute *route, MsiMessage message);
    /* Updates the machine's table once for all messages set since the last commit. A message that
     * the machine refuses is a guest error: an attached route keeps its old message. BQL. */
    void (*msi_routes_commit)(void *opaque);
    /* The route's message is committed. An event that is already in the eventfd is delivered once;
     * the eventfd then reads empty until the detach. BQL. False + error when the machine refuses
     * the message or the eventfd. */
    bool (*msi_route_attach)(void *opaque, MsiRoute *route, GError **error);
    /* Every earlier event is delivered; every later event stays in the eventfd. BQL. */
    void (*msi_route_detach)(void *opaque, MsiRoute *route);
    /* Delivers @message once, without a route. Any thread. */
    void (*msi_send)(void *opaque, MsiMessage message);
    /* A write of @size bytes (0: any size) to @address of MMIO (or port I/O) signals @event_fd
     * instead of leaving the guest. @match: only when the value is @data. BQL. Returns 0 or -errno;
     * after an error the caller uses register writes as kicks, which are slower. */
    int (*doorbell_add)(void *opaque, bool pio, uint64_t address, unsigned size, bool match,
                        uint64_t data, int event_fd);
    void (*doorbell_remove)(void *opaque, bool pio, uint64_t address, unsigned size, bool match,
                            uint64_t data, int event_fd);
    /* Shows or hides the read-only block of RAM that begins at @gpa. While it is hidden, the guest's
     * reads are register accesses, as its writes always are. Initially shown. BQL. False: nothing
     * has changed, or reads are register accesses. */
    bool (*set_rom_mapped)(void *opaque, uint64_t gpa, bool mapped);
};

/* A device's requests to the VM. Saved states have the numbers: new ones go to the end. */
typedef enum VmRequest {
    VM_REQUEST_RESET,         /* 0xcf9, i8042, PM reset register (KVM reports triple faults) */
    VM_REQUEST_POWEROFF,      /* ACPI S5 */
    VM_REQUEST_DEBUG_EXIT,    /* isa-debug-exit: detail is the value written */
    VM_REQUEST_PANIC,         /* pvpanic: detail is the event bits */
    VM_REQUEST_STOP_IO_ERROR, /* werror/rerror=stop */
    VM_REQUEST_NO_SMM,        /* the firmware needs SMM, which this machine does not have */
    VM_REQUEST_WATCHDOG,      /* a watchdog device expired */
    VM_REQUEST_UNPLUG,        /* the guest ejected devices, see pci_device_unplug_state() */
} VmRequest;

/* Sends @request to the VM, on behalf of the guest or the device. Any thread; does not wait. */
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
    unsigned asserted; /* number of lines that are high */
} IrqGate;

void irq_gate_init(IrqGate *gate, const Machine *machine, unsigned gsi) ANY_THREAD;

typedef struct IrqLine {
    IrqGate *gate; /* NULL: not connected */
    bool level;    /* gate->lock */
} IrqLine;

void irq_line_init(IrqLine *line, IrqGate *gate) ANY_THREAD;
void irq_line_set(IrqLine *line, bool level) ANY_THREAD;
/* For sources whose cause is a word shared between threads (virtio ISR): computes the level from
 * @cause under the gate's lock, so that a raise and an acknowledge are ordered. */
void irq_line_update(IrqLine *line, bool (*cause)(void *opaque), void *opaque) ANY_THREAD;

#endif
