/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hw/ relies on of MachineOps' MSI routes (hw/core/irq.h), as checks. They run against the
 * double (fake_machine.h) and against KVM's irqfd, so that the double behaves as the kernel does.
 */
#ifndef SKIFF_TESTS_SUPPORT_MSI_CONTRACT_H
#define SKIFF_TESTS_SUPPORT_MSI_CONTRACT_H

#include "hw/core/irq.h"

typedef struct MsiContract {
    const MachineOps *ops;
    void *opaque;
    /* Was the message with @data (a vector, 0x30-0xff) delivered since the last call for it? Called
     * after a detach too, when everything written before has been delivered. */
    bool (*delivered)(void *context, uint32_t data);
    void *context;
    unsigned min_routes; /* it has at least so many */
} MsiContract;

/* Each fails the running cmocka test. Main, no route reserved. */
void msi_contract_pending_event_comes_once(const MsiContract *c);
void msi_contract_event_is_taken_at_once(const MsiContract *c);
void msi_contract_detached_event_stays(const MsiContract *c);
void msi_contract_new_message_takes_effect(const MsiContract *c);
void msi_contract_reattach_raises_nothing(const MsiContract *c);
void msi_contract_routes_run_out_with_an_error(const MsiContract *c);

#endif
