/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of the properties of MachineOps' MSI routes that hw/ relies on (hw/core/irq.h). They run
 * on the double (fake_machine.h) and on KVM's irqfd, so that the double behaves like the kernel.
 */
#ifndef SKIFF_TESTS_SUPPORT_MSI_CONTRACT_H
#define SKIFF_TESTS_SUPPORT_MSI_CONTRACT_H

#include "hw/core/irq.h"

typedef struct MsiContract {
    const MachineOps *ops;
    void *opaque;
    /* Whether the message with @data (a vector, 0x30-0xff) was delivered since the last call for
     * it. After a detach it is called when all earlier events have been delivered. */
    bool (*delivered)(void *context, uint32_t data);
    void *context;
    unsigned min_routes; /* the least number of routes it has */
} MsiContract;

/* Each fails the running cmocka test. Main; no route is reserved. */
void msi_contract_pending_event_comes_once(const MsiContract *c);
void msi_contract_event_is_taken_at_once(const MsiContract *c);
void msi_contract_detached_event_stays(const MsiContract *c);
void msi_contract_new_message_takes_effect(const MsiContract *c);
void msi_contract_reattach_raises_nothing(const MsiContract *c);
void msi_contract_routes_run_out_with_an_error(const MsiContract *c);

#endif
