/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -daemonize: the process forks before it has threads. The parent stays until the child has started
 * or failed, and exits with the status that the child reports.
 */
#ifndef SKIFF_VMM_PROCESS_DAEMON_H
#define SKIFF_VMM_PROCESS_DAEMON_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"
#include "vmm/exit_status.h"

/* Forks; returns in the child, which leads its own session. Called before there is any thread.
 * False + error. */
bool daemon_fork(GError **error) ANY_THREAD;
/* Reports @status to the parent, once. With EXIT_STATUS_OK the standard descriptors are redirected
 * to /dev/null first. Does nothing without daemon_fork(), and in later calls. */
void daemon_report(ExitStatus status) ANY_THREAD;

#endif
