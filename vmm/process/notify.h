/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -notify: reports the VM's state to a service manager or script, in the format of sd_notify(3).
 *
 *   READY=1, MAINPID=, STATUS=running   the VM runs for the first time
 *   STATUS=paused (REASON), running     it stops, resumes
 *   STOPPING=1                          skiff is about to end
 *   EXIT_STATUS=N                       the last: skiff's exit status
 *
 * Each is one datagram, or several lines on a descriptor. Messages that the receiver does not read
 * are dropped; they never delay skiff, except for the bounded wait for console output at the end.
 */
#ifndef SKIFF_VMM_PROCESS_NOTIFY_H
#define SKIFF_VMM_PROCESS_NOTIFY_H

#include "vmm/vm/vm.h"

/* Opens -notify's target ("fd:N", "unix:PATH", "unix:@NAME") and listens to the VM; true without
 * -notify. False + error. */
bool notify_co_open(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Sends the last message, before the chardevs' output is written: @status is skiff's exit
 * status. */
void notify_exit(int status) RUNS_IN_MAIN;

#endif
