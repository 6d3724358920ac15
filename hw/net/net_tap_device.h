/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap device of the host's kernel: its descriptors, and the calls that set it up and change it.
 *
 * The kernel takes a lock of its whole network for these calls, which may last. So each runs in a worker, and its
 * caller waits for a limited time. A call that has not returned by then is left behind: it keeps the device, with a
 * copy of the options, until it returns. Until then other calls fail at once.
 *
 * Invariants
 *   1. One call at a time is carried out (`lock`), in the order in which they were made.
 *   2. Descriptors are closed by the end of the device only, which is carried out after all calls, and once; also if
 *      nobody waits for it any more. So no descriptor number is used by a call after it was closed.
 *   3. The device is freed with its last reference: its user's, or that of a call.
 */
#ifndef SKIFF_HW_NET_NET_TAP_DEVICE_H
#define SKIFF_HW_NET_NET_TAP_DEVICE_H

#include <net/if.h>
#include <pthread.h>
#include "hw/net/net.h"
#include "util/loop/worker.h"

#define NET_TAP_NO_LIMIT INT64_MAX

/* Of -netdev tap. */
typedef struct NetTapOptions {
    char *ifname, *script, *downscript, *fd_text, *fds_text, *br, *helper, *vnet_hdr_text;
    uint32_t queue_count;
    uint64_t sndbuf;
} NetTapOptions;

typedef struct NetTapDevice {
    NetTapOptions options; /* its own copy */
    WorkerLane lane;
    _Atomic unsigned references;
    _Atomic unsigned calls; /* under way, or left behind */
    /* Set by net_tap_device_open(), then fixed. The user reads them after its success. */
    int fds[NET_MAX_QUEUES];
    unsigned queues;
    char name[IFNAMSIZ];
    bool vnet_hdr;
    uint32_t offloads; /* NET_OFFLOAD_* that it has */
    bool ran_script;   /* the other one runs at the end */
    /* Set by the user when a netdev uses the device. Otherwise the queues of descriptors that were given are at the
     * end as they were. */
    bool used;
    /* workers, under `lock` */
    pthread_mutex_t lock;
    bool attached[NET_MAX_QUEUES];
    bool ended;
} NetTapDevice;

/* What a call does, in a worker: false + error. */
typedef bool NetTapDeviceFn(NetTapDevice *d, const NetConfig *config, GError **error);

NetTapDevice *net_tap_device_new(const NetTapOptions *options) RUNS_IN_MAIN;
/* Carries out @fn, with @config (may be NULL), and waits @limit_ns at most. False + error: it has failed, was left
 * behind, or an earlier call is. The caller's calls do not overlap. */
bool net_tap_device_co_call(NetTapDevice *d, NetTapDeviceFn *fn, const NetConfig *config,
                            int64_t limit_ns, GError **error) coroutine_fn RUNS_IN_LOOP;
/* Runs the script of the end, closes the descriptors, and drops the user's reference. Waits @limit_ns at most, and not
 * for a call that was left behind; what is not done by then is done later. False + error: so it is, or the script has
 * failed. */
bool net_tap_device_co_end(NetTapDevice *d, int64_t limit_ns, GError **error)
    coroutine_fn RUNS_IN_LOOP;

/* ---- calls ---- */
/* Opens the device as the options say. Then its first queue is in use. Runs no script, but the helper. */
NetTapDeviceFn net_tap_device_open RUNS_IN_WORKER;
/* The script of the start, if there is one. */
NetTapDeviceFn net_tap_device_run_up_script RUNS_IN_WORKER;
NetTapDeviceFn net_tap_device_configure RUNS_IN_WORKER;

/* The script that undoes what the one of the start did; NULL: none. No call is under way. */
const char *net_tap_device_down_script(const NetTapDevice *d) ANY_THREAD;

#endif
