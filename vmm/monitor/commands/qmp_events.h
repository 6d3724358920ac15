/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP's events about the VM. One listener turns all that the VM announces into events; no other
 * file makes them.
 */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_EVENTS_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_EVENTS_H

#include "vmm/vm/vm.h"

/* Events of @vm are emitted from now on. Called once, before any session exists; a test may call it
 * again for another VM. */
void qmp_events_init(Vm *vm) RUNS_IN_MAIN;

/* ---- qmp_ports.c: VSERPORT_CHANGE ---- */
/* VmListener.port_changed. A guest may open and close a port as fast as it can: the first change
 * makes an event at once, later ones at most one every QMP_PORT_QUIET_NS, with the state of then. */
void qmp_port_changed(VmListener *l, const char *id, bool open) RUNS_IN_MAIN;
/* The number of ports that something is kept of: those that are open, or were within a second. */
unsigned qmp_ports_known(void) RUNS_IN_MAIN;

#endif
