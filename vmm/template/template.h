/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -snapshot-at WHEN,file=FILE: makes a template. The machine runs until WHEN, its state is saved to FILE
 * (vmm/snapshot/savevm.h), and skiff exits with status 0.
 *
 *   READY       the agent of -exec waits for a command (vmm/exec/exec.h)
 *   line=TEXT   the console, which is the first serial port, has printed TEXT
 *   port=PORT   the guest has written to that I/O port (template_port.h)
 *
 *   WAITING --WHEN--> SAVING --the file is complete--> SAVED --skiff quits
 *      |                |
 *      +----------------+--the guest ends, the save fails, skiff is asked to quit--> FAILED
 *
 * Invariants
 *   1. State moves forward only; the first reason to fail is the one that is reported.
 *   2. The status is 0 in SAVED, and only there.
 *   3. FILE is complete in SAVED, and otherwise not there, or no state file.
 *
 * A reset of the guest is its end, as with -exec. Without -snapshot-at the functions do nothing, and return true
 * or NULL. All in main.
 */
#ifndef SKIFF_VMM_TEMPLATE_TEMPLATE_H
#define SKIFF_VMM_TEMPLATE_TEMPLATE_H

#include "vmm/vm/vm.h"

/* Checks -snapshot-at and begins to wait. Before the devices exist, and after exec_vm_co_open(). False + error. */
bool template_open(Vm *vm, GError **error) RUNS_IN_MAIN;
/* Begins to look at the console, or adds the port; all devices exist. False + error: there is no console, or the port is
 * taken. */
bool template_watch(Vm *vm, GError **error) RUNS_IN_MAIN;
/* Why no state was saved, without a newline; owned by the caller. NULL: it was, or start-up has failed. */
char *template_explain(void) RUNS_IN_MAIN;

#endif
