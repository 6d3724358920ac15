/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The human monitor: commands for people, on a prompt (-monitor, Ctrl-A c on -nographic), through
 * QMP's human-monitor-command and through gdb's `monitor`.
 *
 * Commands are rows of tables (hmp_int.h). A command that QMP has too is executed as that QMP
 * command, with the same checks and errors; only its result is printed as text. Everything runs in
 * main. A command may wait, so it is executed in a coroutine; a prompt takes no next line
 * meanwhile.
 */
#ifndef SKIFF_VMM_MONITOR_HMP_HMP_H
#define SKIFF_VMM_MONITOR_HMP_HMP_H

#include <glib.h>
#include "hw/core/chardev.h"
#include "util/loop/coroutine.h"
#include "vmm/vm/vm.h"

/* Bytes of the longest line, without its end. A longer one is refused. */
#define HMP_LINE_MAX 4095

/* Executes one line (UTF-8, without its end). Appends the output, including errors, to @out: whole
 * lines that end in \n. */
void hmp_co_execute(Vm *vm, const char *line, GString *out) coroutine_fn RUNS_IN_MAIN;
/* The same for commands on vCPU *@cpu instead of the first one; `cpu N` sets *@cpu. */
void hmp_co_execute_on(Vm *vm, unsigned *cpu, const char *line, GString *out)
    coroutine_fn RUNS_IN_MAIN;

/* ---- a prompt on a chardev ---- */
typedef struct HmpMonitor HmpMonitor;

/* Attaches to @chardev (borrowed). Reads no input while output waits for the peer to read. */
HmpMonitor *hmp_monitor_new(Vm *vm, Chardev *chardev) RUNS_IN_MAIN;
/* Detaches. A running command is finished; its output is dropped. */
void hmp_monitor_free(HmpMonitor *m) RUNS_IN_MAIN;

#endif
