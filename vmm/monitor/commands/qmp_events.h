/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP's events about the VM. One listener converts the VM's notifications to events. Only
 * qmp_events.c, qmp_ports.c, qmp_balloon_commands.c and qmp_netdev_events.c emit them.
 */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_EVENTS_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_EVENTS_H

#include "vmm/vm/vm.h"

/* Starts the events of @vm. Called once, before any session exists; a test may call it again for
 * another VM. */
void qmp_events_init(Vm *vm) RUNS_IN_MAIN;

/* ---- qmp_ports.c: VSERPORT_CHANGE ---- */
/* VmListener.port_changed. Limits the rate, since a guest may open and close a port at full speed:
 * the first change emits an event at once, later ones at most one per QMP_PORT_QUIET_NS, with the
 * state of that time. */
void qmp_port_changed(VmListener *l, const char *id, bool open) RUNS_IN_MAIN;
/* Returns the number of ports that have a record: open now, or changed within QMP_PORT_QUIET_NS. */
unsigned qmp_ports_known(void) RUNS_IN_MAIN;

/* ---- qmp_netdev_events.c: NETDEV_STREAM_CONNECTED and _DISCONNECTED ---- */
void qmp_netdev_events_init(void) RUNS_IN_MAIN;

/* ---- qmp_balloon_commands.c: BALLOON_CHANGE ---- */
/* VmListener.balloon_changed. A guest changes the size with each 256 pages: at most one event a second,
 * with the size of that time. */
void qmp_balloon_changed(VmListener *l, uint64_t actual) RUNS_IN_MAIN;

#endif
