/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -notify: tells a service manager or script what the VM does, in the words of sd_notify(3).
 *
 *   READY=1, MAINPID=, STATUS=running   the VM runs for the first time
 *   STATUS=paused (REASON), running     it stops, goes on
 *   STOPPING=1                          skiff is about to end
 *   EXIT_STATUS=N                       the last: what skiff exits with
 *
 * Each is one datagram, or some lines on a descriptor. What a receiver does not take is dropped; it
 * never holds skiff up, but for the time that console output is waited for at the end.
 */
#ifndef SKIFF_VMM_PROCESS_NOTIFY_H
#define SKIFF_VMM_PROCESS_NOTIFY_H

#include "vmm/vm/vm.h"

/* Opens what -notify says ("fd:N", "unix:PATH", "unix:@NAME") and listens to the VM; true without
 * it. False + error. */
bool notify_co_open(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* On the way out, before what chardevs hold is written: @status is what skiff exits with. */
void notify_exit(int status) RUNS_IN_MAIN;

#endif
