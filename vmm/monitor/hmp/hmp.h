/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The human monitor: commands for people, on a prompt (-monitor, Ctrl-A c on -nographic), through
 * QMP's human-monitor-command and through gdb's `monitor`.
 *
 * Commands are the rows of tables (hmp_int.h). One that QMP has too is executed as that QMP
 * command: the same checks, the same errors; only its result is printed for people. Everything runs
 * in main. A command may wait, so executing one is for coroutines; a prompt takes no next line
 * meanwhile.
 */
#ifndef SKIFF_VMM_MONITOR_HMP_HMP_H
#define SKIFF_VMM_MONITOR_HMP_HMP_H

#include <glib.h>
#include "hw/core/chardev.h"
#include "util/loop/coroutine.h"
#include "vmm/vm/vm.h"

/* The longest line, without its end; what is longer is refused. */
#define HMP_LINE_MAX 4095

/* Executes one line (UTF-8, without its end). What it prints, errors among it, is appended to @out:
 * whole lines that end in \n. */
void hmp_co_execute(Vm *vm, const char *line, GString *out) coroutine_fn RUNS_IN_MAIN;
/* The same with another vCPU than the first for commands that look at one; `cpu N` sets *@cpu. */
void hmp_co_execute_on(Vm *vm, unsigned *cpu, const char *line, GString *out)
    coroutine_fn RUNS_IN_MAIN;

/* ---- a prompt on a chardev ---- */
typedef struct HmpMonitor HmpMonitor;

/* Attaches to @chardev (borrowed). What is typed is not read while the answer to what was typed
 * before is not. */
HmpMonitor *hmp_monitor_new(Vm *vm, Chardev *chardev) RUNS_IN_MAIN;
/* Detaches. A command under way comes to its end; nobody sees its output. */
void hmp_monitor_free(HmpMonitor *m) RUNS_IN_MAIN;

#endif
