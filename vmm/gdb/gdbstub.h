/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gdb stub: debugs the guest by gdb's Remote Serial Protocol, over a character device.
 *
 * One client at a time; its threads are the vCPUs, all of which stop and run together (all-stop).
 * The stub is one coroutine in main that answers packets; it waits for nothing that storage could
 * hold up: that the VM has stopped is told as soon as its vCPUs are parked.
 *
 *   a client connects      the VM stops
 *   it detaches (D)        breakpoints are removed, the VM runs
 *   it is gone             breakpoints are removed; the VM runs if it ran when the client came, or
 *                          the client has let it run and nobody else has stopped it since
 *   it kills (k)           skiff ends with status 0, as by `quit`
 *
 * Somebody else (QMP, the monitor, a panic) may stop the VM: the client is told, by a signal that
 * says why. Somebody else may let it run: the client, which believes it stopped, is told of the
 * next stop only once it has asked for running itself.
 *
 * Source: GDB manual, appendix "GDB Remote Serial Protocol".
 */
#ifndef SKIFF_VMM_GDB_GDBSTUB_H
#define SKIFF_VMM_GDB_GDBSTUB_H

#include "vmm/vm/vm.h"

/* Where -s listens. */
#define GDBSTUB_DEFAULT_DEVICE "tcp::1234"

/* Executes a line of gdb's `monitor` and appends its output to @out; *cpu is the vCPU that the
 * client looks at. A coroutine in main. */
typedef void GdbMonitor(Vm *vm, unsigned *cpu, const char *line, GString *out);

/* Sets what executes `monitor` commands. Called once, before gdbstub_co_open(); without it gdb's
 * `monitor` is answered as a command that the stub lacks. */
void gdbstub_set_monitor(GdbMonitor *monitor) RUNS_IN_MAIN;

/* Serves gdb on @device: tcp:[HOST]:PORT and unix:PATH listen; else as -serial takes it. What it
 * served before is closed. "none": only that. The machine is built. False + error. */
bool gdbstub_co_open(Vm *vm, const char *device, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
