/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the sandbox: sandbox_table.c has the rows, sandbox_filter.c compiles them
 * to filters, sandbox.c installs the filters. */
#ifndef SKIFF_VMM_SANDBOX_SANDBOX_INT_H
#define SKIFF_VMM_SANDBOX_SANDBOX_INT_H

#include <glib.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

/* Tests an argument of a call: (argument & mask) is one of the values. */
typedef struct SandboxTest {
    uint8_t argument; /* from 0 */
    uint8_t count;    /* number of values; 0: no test */
    uint64_t mask;
    const uint64_t *values;
} SandboxTest;

typedef struct SandboxRow {
    int call;       /* number; negative, as in libseccomp, where the architecture lacks it */
    unsigned roles; /* bits: 1u << ThreadRole; the spawner is THREAD_NONE */
    int error;      /* 0: allowed; else refused with this errno, which the caller can handle */
    const char *why;
    SandboxTest tests[2]; /* all must hold; a call may have several rows */
} SandboxRow;

extern const SandboxRow sandbox_rows[];
extern const unsigned sandbox_row_count;
extern uint64_t sandbox_own_process; /* getpid(), set before filters are built */

/* The filter of the threads of @roles: allows each call that a row allows to any of them. Filled in
 * by sandbox_filter_build(), freed by sandbox_filter_clear(). */
typedef struct SandboxFilter {
    struct sock_fprog program; /* as seccomp(2) takes it */
} SandboxFilter;

bool sandbox_filter_build(SandboxFilter *filter, unsigned roles, GError **error) ANY_THREAD;
void sandbox_filter_clear(SandboxFilter *filter) ANY_THREAD;

/* ---- sandbox.c, in parts for tests ---- */
/* Builds the filters; installs the handler that reports violations, then the base filter in every
 * thread of the process. From then on thread_start() installs each new thread's role filter. */
bool sandbox_begin(GError **error) RUNS_IN_MAIN;

#endif
