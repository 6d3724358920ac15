/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -run-with: what the process gives up once it has opened what it needs.
 *
 * Names are looked up when the options are parsed, since a chroot has no /etc/passwd; the rest
 * happens in one go before the guest runs. What is opened later (by a QMP command, say) is looked
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
    gid_t *groups; /* all of the user's */
    int group_count;
} RunWith;

/* Parses -run-with as written (NULL: none was given) and looks the user up. False + error;
 * run_with_clear() in either case. */
bool run_with_parse(RunWith *run_with, const OptDict *options, GError **error) ANY_THREAD;
/* Directory first, then groups, then user: each needs a right that the next gives up. All threads
 * of the process change together. On failure the process is to end. */
bool run_with_apply(const RunWith *run_with, GError **error) RUNS_IN_MAIN;
void run_with_clear(RunWith *run_with) ANY_THREAD;

#endif
