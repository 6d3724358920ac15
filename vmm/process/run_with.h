/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -run-with: privileges that the process drops once it has opened its files.
 *
 * Names are looked up when the options are parsed, since a chroot has no /etc/passwd; the rest
 * happens in one step before the guest runs. Files opened later (by a QMP command, say) are looked
 * up in the chroot, with the user's rights.
 */
#ifndef SKIFF_VMM_PROCESS_RUN_WITH_H
#define SKIFF_VMM_PROCESS_RUN_WITH_H

#include <sys/types.h>
#include "util/opts/opts.h"

typedef struct RunWith {
    char *chroot; /* NULL: none */
    bool has_user;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* all groups of the user */
    int group_count;
} RunWith;

/* Parses -run-with (NULL: none was given) and looks the user up. False + error; call
 * run_with_clear() in either case. */
bool run_with_parse(RunWith *run_with, const OptDict *options, GError **error) ANY_THREAD;
/* Changes the directory first, then groups, then the user: each needs a right that the next drops.
 * Applies to all threads of the process at once. On failure the process must exit. */
bool run_with_apply(const RunWith *run_with, GError **error) RUNS_IN_MAIN;
void run_with_clear(RunWith *run_with) ANY_THREAD;

#endif
