/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gdb stub: debugs the guest by gdb's Remote Serial Protocol, over a character device.
 *
 * One client at a time; its threads are the vCPUs, which all stop and run together (all-stop). The
 * stub is one coroutine in main that answers packets. It does not wait for storage: a stop is
 * reported as soon as the vCPUs are parked.
 *
 *   a client connects      the VM stops
 *   it detaches (D)        breakpoints are removed, the VM runs
 *   it disconnects         breakpoints are removed; the VM runs if it ran when the client came, or
 *                          if the client has resumed it and nothing else has stopped it since
 *   it kills (k)           skiff ends with status 0, as by `quit`
 *
 * QMP, the monitor or a panic may also stop the VM: the client gets a signal that gives the cause.
 * They may also start it; the client, for which the guest is stopped, gets the next stop only after
 * it has resumed the guest itself.
 *
 * Source: GDB manual, appendix "GDB Remote Serial Protocol".
 */
#ifndef SKIFF_VMM_GDB_GDBSTUB_H
#define SKIFF_VMM_GDB_GDBSTUB_H

#include "vmm/vm/vm.h"

/* The address of -s. */
#define GDBSTUB_DEFAULT_DEVICE "tcp::1234"

/* Executes a line of gdb's `monitor` and appends its output to @out; *cpu is the client's current
 * vCPU. A coroutine in main. */
typedef void GdbMonitor(Vm *vm, unsigned *cpu, const char *line, GString *out);

/* Sets the function that executes `monitor` commands. Called once, before gdbstub_co_open();
 * without it gdb's `monitor` is answered as an unsupported command. */
void gdbstub_set_monitor(GdbMonitor *monitor) RUNS_IN_MAIN;

/* Serves gdb on @device: tcp:[HOST]:PORT and unix:PATH listen; otherwise as for -serial. The
 * previous device is closed; "none" only closes it. The machine is built. False + error. */
bool gdbstub_co_open(Vm *vm, const char *device, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
