/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -clone: a saved machine for one of many processes at the same time. What of its options is the original's alone
 * becomes private to the clone, or is refused by name:
 *
 *   -serial, -chardev, -debugcon   a file, a pty and a socket that listens become null; log files are dropped
 *   -netdev, -nic                  what binds a port or path of the host is refused
 *   -device vmgenid                gets a new GUID; vhost-vsock-pci the CID of cid=
 *   -device vhost-user-..., -virtiofs  whose data is in another process (DeviceType.data_outside) are refused
 *
 * Disks and flash are private by their backends (BackendsConfig.clone), and memory is mapped as with -restore. With
 * -exec, standard input and output are the command's, also for -restore: a saved stdio becomes null.
 *
 * Options that the user gives anew are not touched.
 */
#ifndef SKIFF_VMM_CMDLINE_RESTORE_CLONE_H
#define SKIFF_VMM_CMDLINE_RESTORE_CLONE_H

#include "vmm/config.h"

/* -clone [file=]FILE[,mac=random][,cid=N] */
typedef struct CloneOptions {
    char *file;
    int mac;      /* CloneMac */
    uint64_t cid; /* 0: as it was */
} CloneOptions;
typedef enum CloneMac { CLONE_MAC_SAME, CLONE_MAC_RANDOM } CloneMac;

/* False + error, which names the option; nothing is to be cleared then. */
bool clone_options_parse(CloneOptions *c, const char *value, GError **error) ANY_THREAD;
void clone_options_clear(CloneOptions *c) ANY_THREAD;

/* How the saved options change. */
typedef struct RestoreChanges {
    bool clone;   /* -clone */
    bool exec;    /* -exec */
    uint64_t cid; /* of -clone; 0: as it was */
    bool has_cid; /* set: a device has taken it */
} RestoreChanges;

/* The value that saved option @o gets; owned. NULL without error: the option has none. NULL + error: it cannot be in
 * a clone, and what to do. */
char *restore_change_option(RestoreChanges *c, const ConfigOption *o, GError **error) ANY_THREAD;

#endif
