/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost in the host's kernel: a VhostDev over a descriptor of /dev/vhost-net or /dev/vhost-vsock (Linux,
 * include/uapi/linux/vhost.h).
 *
 * The control calls may sleep in the kernel: they wait for its worker to finish what is in flight, and a
 * fault there may last. So each runs in a worker thread, in a lane of its own, and main waits for it until
 * the deadline at most. A call that has not returned by then is left behind: it keeps the descriptor and
 * its arguments until it returns, whenever that is, and the back end is lost.
 *
 * Closing the descriptor stops the kernel's use of the rings, whatever was set up before. It happens in the
 * worker too, after the last call has returned.
 */
#ifndef SKIFF_HW_VHOST_VHOST_KERNEL_H
#define SKIFF_HW_VHOST_VHOST_KERNEL_H

#include "hw/vhost/vhost.h"

typedef struct VhostKernel VhostKernel;
typedef struct VhostChannel VhostChannel;

/* What differs between kinds. */
typedef struct VhostKernelKind {
    const char *path; /* "/dev/vhost-vsock" */
    const char *hint; /* for the error when it cannot be opened */
    unsigned num_vrings;
    /* VhostOps.co_run: connects the vrings to what is behind them. */
    bool (*co_run)(VhostKernel *k, const VhostStart *start, bool on, GError **error);
} VhostKernelKind;

struct VhostKernel {
    VhostDev dev;
    const VhostKernelKind *kind;
    VhostChannel *channel;   /* NULL: given up */
    VhostChannel *given_up;  /* until somebody has waited for its end */
    const VhostStart *start; /* the present one, for its kick descriptors */
};

/* Calls of one batch at most, and bytes of all their arguments. */
#define VHOST_KERNEL_BATCH 8
#define VHOST_KERNEL_ARGS 1024

/* ioctls that are made one after the other, until one fails. */
typedef struct VhostBatch {
    unsigned count;
    struct {
        unsigned long request;
        const char *name;
        unsigned at, size; /* of the argument, in `args` */
    } calls[VHOST_KERNEL_BATCH];
    unsigned used;
    _Alignas(8) unsigned char args[VHOST_KERNEL_ARGS];
} VhostBatch;

/* Opens kind->path, or takes @fd if it is >= 0, and becomes its owner (VHOST_SET_OWNER). The features are
 * in k->dev.features then. After a failure @fd is as before: a number from a user may name any descriptor of the
 * process; but if the kernel does not answer (dev.losses is 1), @fd is taken, and closed when it does. @name is
 * borrowed. */
bool vhost_kernel_co_open(VhostKernel *k, const VhostKernelKind *kind, int fd, AioContext *ctx,
                          const GuestRam *ram, const char *name, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Stopped. Waits for the descriptor to be closed, unless the kernel hangs. */
void vhost_kernel_co_close(VhostKernel *k) coroutine_fn RUNS_IN_MAIN;

/* Adds a call to @b. @arg (NULL: none) is copied; after the batch vhost_batch_result() has it as the
 * kernel left it. */
void vhost_batch_add(VhostBatch *b, unsigned long request, const char *name, const void *arg,
                     unsigned size) ANY_THREAD;
const void *vhost_batch_result(const VhostBatch *b, unsigned call) ANY_THREAD;
/* Makes the calls in a worker; @b has their results afterwards. False + error: one has failed, or did not
 * return in time. */
bool vhost_kernel_co_calls(VhostKernel *k, VhostBatch *b, GError **error) coroutine_fn RUNS_IN_MAIN;
#define VHOST_BATCH_ADD(b, request, arg, size)                                                     \
    vhost_batch_add((b), (request), #request, (arg), (size))

#endif
