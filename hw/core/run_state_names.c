/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/run_state.h"

static const char *run_state_reason_name(const RunState *rs)
{
    static const char *const reasons[] = {
        "prelaunch", "paused",   "io-error", "internal-error", "guest-panicked",
        "shutdown",  "watchdog", "debug",    "save-vm",        "restore-vm"};
    return reasons[rs->reason];
}

const char *run_state_qemu_name(const RunState *rs)
{
    return rs->phase == RUN_RUNNING ? "running" : run_state_reason_name(rs);
}

const char *run_state_name(const RunState *rs)
{
    switch (rs->phase) {
    case RUN_RUNNING:
        return "running";
    case RUN_STOPPED:
        return run_state_reason_name(rs);
    default:
        return "stopping";
    }
}
