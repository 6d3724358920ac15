/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O port of -snapshot-at port=: the guest's first write says that now is the time.
 *
 * A read gives 0. A machine that goes on from the saved state has no such port, so that a read gives 0xff there: a guest that
 * is to stand still while it is saved reads until it gets that.
 */
#ifndef SKIFF_VMM_TEMPLATE_TEMPLATE_PORT_H
#define SKIFF_VMM_TEMPLATE_TEMPLATE_PORT_H

#include "vmm/vm/vm.h"

#define TEMPLATE_PORT_NONE UINT32_MAX

/* Once the machine's devices are there. @written (any number of calls) runs in main's loop after a write. The port stays
 * to the end of the process. False + error: there is no such port, or it is taken. */
bool template_port_open(Vm *vm, uint32_t port, void (*written)(void *opaque), GError **error)
    RUNS_IN_MAIN;

#endif
