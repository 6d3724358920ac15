/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vhost/vhost_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "hw/vhost/trace_events.h"
#include "util/loop/worker.h"

/* ---- the descriptor, and calls in workers ---- */

/* Freed when the VhostKernel has given it up and no call uses it any more. */
struct VhostChannel {
    AioContext *ctx;
    int fd;
    WorkerLane lane;
    unsigned users;
    bool closed, awaited; /* who waits for `closed` frees it */
    CoQueue closing;
    VhostLingering *lingering; /* it was given up while it served rings; else NULL */
};

typedef struct VhostCall {
    VhostChannel *channel;
    VhostBatch batch;
    int result; /* 0, or -errno of call number `failed` */
    unsigned failed;
    bool done;
    _Atomic bool abandoned;
    CoQueue ended;
} VhostCall;

static int channel_close_in_worker(void *opaque)
{
    VhostChannel *c = opaque;
    enter_worker();
    return c->fd < 0 || close(c->fd) == 0 ? 0 : -errno;
}

static void channel_close_run(void *opaque)
{
    VhostChannel *c = opaque;
    enter_main();
    enter_coroutine();
    co_run_in_lane(&c->lane, channel_close_in_worker, c);
    vhost_lingering_end(c->lingering);
    c->closed = true;
    if (c->awaited) {
        co_queue_wake_all(&c->closing);
    } else {
        g_free(c);
    }
}

static RUNS_IN_MAIN VhostChannel *channel_new(AioContext *ctx, int fd)
{
    VhostChannel *c = g_new0(VhostChannel, 1);
    c->ctx = ctx;
    c->fd = fd;
    c->users = 1;
    co_queue_init(&c->closing);
    return c;
}

static RUNS_IN_MAIN void channel_unref(VhostChannel *c)
{
    if (--c->users == 0) {
        co_start(c->ctx, channel_close_run, c);
    }
}

/* What has not begun when the call is given up is not done any more: it could connect the rings. */
static int call_in_worker(void *opaque)
{
    VhostCall *call = opaque;
    VhostBatch *b = &call->batch;
    enter_worker();
    for (unsigned i = 0; i < b->count && !atomic_load(&call->abandoned); i++) {
        void *arg = b->calls[i].size != 0 ? b->args + b->calls[i].at : NULL;
        if (ioctl(call->channel->fd, b->calls[i].request, arg) < 0) {
            call->failed = i;
            return -errno;
        }
    }
    return 0;
}

static void call_run(void *opaque)
{
    VhostCall *call = opaque;
    enter_main();
    enter_coroutine();
    call->result = co_run_in_lane(&call->channel->lane, call_in_worker, call);
    channel_unref(call->channel);
    call->done = true;
    co_queue_wake_all(&call->ended);
    if (atomic_load(&call->abandoned)) {
        g_free(call);
    }
}

void vhost_batch_add(VhostBatch *b, unsigned long request, const char *name, const void *arg,
                     unsigned size)
{
    g_assert(b->count < VHOST_KERNEL_BATCH && b->used + size <= VHOST_KERNEL_ARGS);
    b->calls[b->count].request = request;
    b->calls[b->count].name = name;
    b->calls[b->count].at = b->used;
    b->calls[b->count].size = size;
    b->count++;
    if (size != 0) {
        memcpy(b->args + b->used, arg, size);
    }
    b->used += (size + 7) & ~7u;
}

const void *vhost_batch_result(const VhostBatch *b, unsigned call)
{
    return b->args + b->calls[call].at;
}

/* The call is given up; call_run() frees it, and the descriptor, when the kernel returns. */
static RUNS_IN_MAIN void call_abandon(VhostKernel *k, VhostCall *call, GError **error)
{
    atomic_store(&call->abandoned, true);
    vhost_lost(&k->dev, "the kernel did not answer in time");
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s did not return in time",
                k->dev.name, call->batch.calls[0].name);
}

bool vhost_kernel_co_calls(VhostKernel *k, VhostBatch *b, GError **error)
{
    if (k->channel == NULL) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PIPE, "%s: %s", k->dev.name, k->dev.why);
        return false;
    }
    VhostCall *call = g_new0(VhostCall, 1);
    call->channel = k->channel;
    call->channel->users++;
    call->batch = *b;
    co_queue_init(&call->ended);
    co_start(k->dev.ctx, call_run, call);
    while (!call->done) {
        if (!co_queue_wait_until(&call->ended, "a call of vhost", k->dev.deadline_ns) &&
            !call->done) {
            call_abandon(k, call, error);
            return false;
        }
    }
    *b = call->batch;
    int result = call->result;
    const char *name = b->calls[call->failed].name;
    g_free(call);
    trace_vhost_kernel_call(k->dev.name, b->calls[0].name, b->count, result);
    if (result < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-result), "%s: %s: %s",
                    k->dev.name, name, g_strerror(-result));
        return false;
    }
    return true;
}

/* ---- operations ---- */

static VhostKernel *kernel_of(VhostDev *dev)
{
    return (VhostKernel *)(void *)dev;
}

static bool kernel_co_set_features(VhostDev *dev, uint64_t features, GError **error)
{
    VhostBatch b = {0};
    enter_main();
    enter_coroutine();
    VHOST_BATCH_ADD(&b, VHOST_SET_FEATURES, &features, sizeof(features));
    return vhost_kernel_co_calls(kernel_of(dev), &b, error);
}

static bool kernel_co_set_memory(VhostDev *dev, const VhostMemory *memory, GError **error)
{
    _Alignas(struct vhost_memory) unsigned char
        bytes[sizeof(struct vhost_memory) +
              GUEST_RAM_MAX_BLOCKS * sizeof(struct vhost_memory_region)] = {0};
    struct vhost_memory *table = (void *)bytes;
    VhostBatch b = {0};
    enter_main();
    enter_coroutine();
    table->nregions = memory->count;
    for (unsigned i = 0; i < memory->count; i++) {
        table->regions[i] =
            (struct vhost_memory_region){.guest_phys_addr = memory->regions[i].gpa,
                                         .memory_size = memory->regions[i].size,
                                         .userspace_addr = (uintptr_t)memory->regions[i].host};
    }
    VHOST_BATCH_ADD(&b, VHOST_SET_MEM_TABLE, bytes, sizeof(bytes));
    return vhost_kernel_co_calls(kernel_of(dev), &b, error);
}

static struct vhost_vring_addr kernel_vring_addr(const VhostDev *dev, const VhostVring *v)
{
    return (struct vhost_vring_addr){.index = v->index,
                                     .flags = dev->log != NULL ? 1u << VHOST_VRING_F_LOG : 0,
                                     .desc_user_addr = (uintptr_t)v->desc,
                                     .used_user_addr = (uintptr_t)v->used,
                                     .avail_user_addr = (uintptr_t)v->avail,
                                     .log_guest_addr = v->used_gpa};
}

static bool kernel_co_set_vring(VhostDev *dev, const VhostVring *v, GError **error)
{
    struct vhost_vring_state size = {v->index, v->size}, base = {v->index, v->base};
    struct vhost_vring_addr addr = kernel_vring_addr(dev, v);
    struct vhost_vring_file err = {v->index, v->err_fd}, call = {v->index, v->call_fd},
                            kick = {v->index, v->kick_fd};
    VhostBatch b = {0};
    enter_main();
    enter_coroutine();
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_NUM, &size, sizeof(size));
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_BASE, &base, sizeof(base));
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_ADDR, &addr, sizeof(addr));
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_ERR, &err, sizeof(err));
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_CALL, &call, sizeof(call));
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_KICK, &kick, sizeof(kick));
    return vhost_kernel_co_calls(kernel_of(dev), &b, error);
}

static bool kernel_co_set_call(VhostDev *dev, unsigned index, int fd, GError **error)
{
    struct vhost_vring_file call = {index, fd};
    VhostBatch b = {0};
    enter_main();
    enter_coroutine();
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_CALL, &call, sizeof(call));
    return vhost_kernel_co_calls(kernel_of(dev), &b, error);
}

/* The kernel looks at a ring when it is kicked. It ignores kicks before the vrings are connected, so
 * each is kicked once afterwards; a kick too many is harmless. */
static bool kernel_co_run(VhostDev *dev, const VhostStart *start, bool on, GError **error)
{
    VhostKernel *k = kernel_of(dev);
    enter_main();
    enter_coroutine();
    if (!k->kind->co_run(k, start, on, error)) {
        return false;
    }
    for (unsigned i = 0; on && i < start->count; i++) {
        eventfd_write(start->vrings[i].kick_fd, 1);
    }
    return true;
}

/* The kernel does not watch the kick descriptor any more when VHOST_SET_VRING_KICK returns. */
static bool kernel_co_stop_vring(VhostDev *dev, unsigned index, uint16_t *last_avail,
                                 GError **error)
{
    struct vhost_vring_state base = {index, 0};
    struct vhost_vring_file none = {index, VHOST_FILE_UNBIND};
    VhostBatch b = {0};
    enter_main();
    enter_coroutine();
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_KICK, &none, sizeof(none));
    VHOST_BATCH_ADD(&b, VHOST_GET_VRING_BASE, &base, sizeof(base));
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_CALL, &none, sizeof(none));
    VHOST_BATCH_ADD(&b, VHOST_SET_VRING_ERR, &none, sizeof(none));
    if (!vhost_kernel_co_calls(kernel_of(dev), &b, error)) {
        return false;
    }
    memcpy(&base, vhost_batch_result(&b, 1), sizeof(base));
    *last_avail = (uint16_t)base.num;
    return true;
}

/* The bitmap first, then the feature, then the rings that shall be logged; the other way round to end. */
static bool kernel_co_set_log(VhostDev *dev, const VhostLog *log, const VhostStart *start,
                              GError **error)
{
    uint64_t bitmap = log != NULL ? (uintptr_t)log->bitmap : 0;
    VhostBatch b = {0};
    enter_main();
    enter_coroutine();
    if (log != NULL) {
        VHOST_BATCH_ADD(&b, VHOST_SET_LOG_BASE, &bitmap, sizeof(bitmap));
    }
    uint64_t features = (start->features & dev->features & ~VHOST_F_LOG_WRITES) |
                        (log != NULL ? VHOST_F_LOG_WRITES : 0);
    VHOST_BATCH_ADD(&b, VHOST_SET_FEATURES, &features, sizeof(features));
    if (!vhost_kernel_co_calls(kernel_of(dev), &b, error)) {
        return false;
    }
    for (unsigned i = 0; i < start->count && dev->phase == VHOST_RUNNING; i++) {
        struct vhost_vring_addr addr = kernel_vring_addr(dev, &start->vrings[i]);
        VhostBatch one = {0};
        VHOST_BATCH_ADD(&one, VHOST_SET_VRING_ADDR, &addr, sizeof(addr));
        if (!vhost_kernel_co_calls(kernel_of(dev), &one, error)) {
            return false;
        }
    }
    return true;
}

static void kernel_give_up(VhostDev *dev)
{
    VhostKernel *k = kernel_of(dev);
    enter_main();
    if (k->channel != NULL) {
        k->given_up = g_steal_pointer(&k->channel);
        k->given_up->awaited = true;
        if (dev->phase != VHOST_STOPPED) {
            k->given_up->lingering = vhost_lingering_begin(dev->lingering);
        }
        channel_unref(k->given_up);
    }
}

/* Waits until @c is closed, but not for a call that hangs; who used it does not need it any more. */
static coroutine_fn RUNS_IN_MAIN void channel_co_await_end(VhostChannel *c, int64_t deadline_ns)
{
    while (!c->closed && c->users == 0 &&
           co_queue_wait_until(&c->closing, "the end of vhost", deadline_ns)) {
    }
    c->awaited = false;
    if (c->closed) {
        g_free(c);
    }
}

/* Closing the descriptor is what stops the kernel. */
static void kernel_co_gone(VhostDev *dev)
{
    VhostKernel *k = kernel_of(dev);
    enter_main();
    enter_coroutine();
    if (k->given_up != NULL) {
        channel_co_await_end(g_steal_pointer(&k->given_up), dev->deadline_ns);
    }
}

static const VhostOps kernel_ops = {.co_set_features = kernel_co_set_features,
                                    .co_set_memory = kernel_co_set_memory,
                                    .co_set_vring = kernel_co_set_vring,
                                    .co_set_call = kernel_co_set_call,
                                    .co_run = kernel_co_run,
                                    .co_stop_vring = kernel_co_stop_vring,
                                    .co_set_log = kernel_co_set_log,
                                    .give_up = kernel_give_up,
                                    .co_gone = kernel_co_gone};

/* ---- open and close ---- */

static int kernel_open_in_worker(void *opaque)
{
    const VhostKernelKind *kind = opaque;
    enter_worker();
    int fd = open(kind->path, O_RDWR | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

bool vhost_kernel_co_open(VhostKernel *k, const VhostKernelKind *kind, int fd, AioContext *ctx,
                          const GuestRam *ram, const char *name, GError **error)
{
    VhostBatch b = {0};
    uint64_t features = 0;
    bool passed = fd >= 0;
    *k = (VhostKernel){.kind = kind};
    vhost_init(&k->dev, &kernel_ops, ctx, ram, name);
    if (fd < 0) {
        fd = co_run_in_worker(kernel_open_in_worker, (void *)(uintptr_t)kind);
        if (fd < 0) {
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-fd), "%s: %s; %s", kind->path,
                        g_strerror(-fd), kind->hint);
            return false;
        }
    }
    k->channel = channel_new(ctx, fd);
    k->dev.num_vrings = kind->num_vrings;
    k->dev.max_regions = GUEST_RAM_MAX_BLOCKS; /* the kernel's least limit is 64 */
    k->dev.usable = true;
    k->dev.deadline_ns = aio_now_ns(ctx) + k->dev.timeout_ns;
    VHOST_BATCH_ADD(&b, VHOST_SET_OWNER, NULL, 0);
    VHOST_BATCH_ADD(&b, VHOST_GET_FEATURES, &features, sizeof(features));
    if (!vhost_kernel_co_calls(k, &b, error)) {
        if (passed && k->channel != NULL) {
            k->channel->fd = -1; /* it may be anything, also in use elsewhere */
        }
        vhost_kernel_co_close(k);
        return false;
    }
    memcpy(&k->dev.features, vhost_batch_result(&b, 1), sizeof(k->dev.features));
    return true;
}

void vhost_kernel_co_close(VhostKernel *k)
{
    int64_t deadline_ns = aio_now_ns(k->dev.ctx) + k->dev.timeout_ns;
    vhost_cleanup(&k->dev);
    kernel_give_up(&k->dev);
    if (k->given_up != NULL) {
        channel_co_await_end(g_steal_pointer(&k->given_up), deadline_ns);
    }
}
