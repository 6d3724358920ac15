/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exit statuses of skiff: the outcome of the guest, for scripts. docs/skiff.1 has the same table.
 *
 * isa-debug-exit gives `(value << 1) | 1` as in QEMU, so its status is always odd. All others are
 * even, so the two cannot be confused. Statuses from 126 up are left to the shell (126, 127: not
 * runnable; 128 + N: killed by signal N).
 *
 * Under -exec the status is the command's, whatever it is. When skiff's own status replaces it, a
 * line on standard error that begins with "skiff: -exec:" says so.
 */
#ifndef SKIFF_VMM_EXIT_STATUS_H
#define SKIFF_VMM_EXIT_STATUS_H

#include <stdint.h>

typedef enum ExitStatus {
    EXIT_STATUS_OK = 0,           /* guest powered off, `quit`, or SIGTERM/SIGINT/SIGHUP */
    EXIT_STATUS_USAGE = 2,        /* wrong option or file, or the host refused something */
    EXIT_STATUS_PANIC = 4,        /* guest panicked (pvpanic) */
    EXIT_STATUS_RESET = 6,        /* guest reset under -no-reboot */
    EXIT_STATUS_TRIPLE_FAULT = 8, /* a vCPU shut down on a triple fault under -no-reboot */
    EXIT_STATUS_WATCHDOG = 10,    /* the guest's watchdog expired */
    EXIT_STATUS_TIMEOUT = 12,     /* -timeout expired */
    EXIT_STATUS_INTERNAL = 14,    /* KVM failed, or skiff failed while the guest ran */
    EXIT_STATUS_EXEC =
        16, /* -exec, -snapshot-at: guest or agent ended too early, or output was lost */
} ExitStatus;

/* Status of a write of @value to isa-debug-exit, as exit(2) reports it: the low 8 bits. */
static inline int exit_status_debug_exit(uint64_t value)
{
    return (int)(((value << 1) | 1) & 0xff);
}

#endif
