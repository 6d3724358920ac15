/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers file and host_device: a regular file or a block device of the host. */
#include <errno.h>
#include <json-c/json.h>
#include <unistd.h>
#include "block/file/driver_file.h"
#include "block/drivers.h"
#include "block/file/file_opener.h"
#include "block/lane.h"
#include "block/trace_events.h"

#define FILE_SLICE_IOV 64u

static const char *const file_locking_names[] = {"auto", "on", "off", NULL};

static const OptSpec file_options[] = {
    OPT_SPEC(FileState, "filename", OPT_STRING, filename, .help = "path of the file or device",
             .required = true),
    OPT_SPEC(FileState, "aio", OPT_ENUM, aio, .help = "how requests reach the kernel",
             .def = "threads", .names = block_engine_names),
    OPT_SPEC(FileState, "locking", OPT_ENUM, locking, .help = "keep other processes out",
             .def = "auto", .names = file_locking_names),
    {0},
};

/* ---- opening ---- */

typedef struct FileOpen {
    BlockNode *node;
    GError *error;
} FileOpen;

static int file_open_work(void *opaque)
{
    FileOpen *o = opaque;
    enter_worker();
    return file_open(o->node, &o->error) ? 0 : -1;
}

static int file_close_work(void *opaque)
{
    const FileState *s = opaque;
    enter_worker();
    close(s->fd);
    return 0;
}

bool file_check_engine(const FileState *s, bool cache_direct, GError **error)
{
    if (s->aio != BLOCK_ENGINE_NATIVE || cache_direct) {
        return true;
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                "'%s': aio=native needs cache.direct=on (cache=none or directsync); for files in "
                "the page cache use aio=io_uring or aio=threads",
                s->filename);
    return false;
}

/* As QEMU shows a file: it has no hints on extents. */
static void file_publish(BlockNode *n)
{
    BlockImageInfo *info = g_new0(BlockImageInfo, 1);
    info->specific = json_object_new_object();
    json_object_object_add(info->specific, "type", json_object_new_string("file"));
    json_object_object_add(info->specific, "data", json_object_new_object());
    block_node_publish_image_info(n, info);
}

static coroutine_fn RUNS_IN_MAIN bool file_co_open(BlockNode *n, GError **error)
{
    FileState *s = n->state;
    co_queue_init(&s->sync_waiters);
    if (!file_check_engine(s, n->flags.cache_direct, error)) {
        return false;
    }
    FileOpen o = {.node = n};
    int ret;
    if (!file_co_run_opener(s->filename, file_open_work, &o, &ret, error)) {
        return false;
    }
    if (ret != 0) {
        g_propagate_error(error, o.error);
        return false;
    }
    s->engine = block_co_engine_get(n->home, (BlockEngineKind)s->aio, error);
    if (s->engine == NULL) {
        g_prefix_error(error, "'%s': ", s->filename);
        co_run_in_lane(&s->lane, file_close_work, s);
        return false;
    }
    n->caps.grows = !s->is_device;
    file_publish(n);
    return true;
}

static const char *file_filename(const BlockNode *n)
{
    return ((const FileState *)n->state)->filename;
}

static const char *file_aio(const BlockNode *n)
{
    return block_engine_names[((const FileState *)n->state)->aio];
}

static coroutine_fn RUNS_IN_MAIN void file_co_close(BlockNode *n)
{
    FileState *s = n->state;
    block_co_engine_put(s->engine);
    co_run_in_lane(&s->lane, file_close_work, s); /* a close may write back data and block */
}

/* ---- requests ---- */

int64_t file_co_io(const BlockNode *n, BlockEngine *e, BlockIo *io)
{
    FileState *s = n->state;
    int64_t done;
    io->fd = s->fd;
    io->lane = &s->lane;
    do {
        done = block_engine_co_io(e, io);
    } while (done == -EINTR || done == -EAGAIN);
    if (done < 0) {
        static const char *const names[] = {"read", "write", "flush"};
        trace_block_file_io_error(n->name, names[io->op], io->offset, (int)done);
    }
    return done;
}

/* The bytes done by the next call; 0: end of file. */
static coroutine_fn RUNS_IN_IOTHREAD int64_t file_co_io_rest(const BlockNode *n, BlockEngine *e,
                                                             BlockIo io, uint64_t done,
                                                             uint64_t bytes)
{
    struct iovec slice[FILE_SLICE_IOV];
    size_t len;
    io.niov = iov_slice(slice, FILE_SLICE_IOV, io.iov, io.niov, done, bytes - done, &len);
    io.iov = slice;
    io.offset += done;
    io.bytes = len;
    return file_co_io(n, e, &io);
}

static coroutine_fn RUNS_IN_IOTHREAD int file_co_read(const BlockNode *n, BlockEngine *e,
                                                      uint64_t offset, uint64_t bytes,
                                                      const struct iovec *iov, unsigned niov)
{
    BlockIo io = {.op = BLOCK_IO_READ, .offset = offset, .bytes = bytes, .iov = iov, .niov = niov};
    int64_t got = file_co_io(n, e, &io);
    uint64_t done = 0;
    while (got > 0) {
        done += (uint64_t)got;
        if (done == bytes) {
            return 0;
        }
        if (!block_is_aligned(done, n->limits.request_alignment)) {
            break; /* O_DIRECT returns part of a block only at the end of file */
        }
        got = file_co_io_rest(n, e, io, done, bytes);
    }
    if (got < 0) {
        return (int)got;
    }
    iov_memset(iov, niov, done, 0, bytes - done);
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int file_co_write(const BlockNode *n, BlockEngine *e,
                                                       BlockIo io, uint64_t bytes)
{
    int64_t put = file_co_io(n, e, &io);
    uint64_t done = 0;
    while (put > 0) {
        done += (uint64_t)put;
        if (done == bytes) {
            return 0;
        }
        put = file_co_io_rest(n, e, io, done, bytes);
    }
    return put < 0 ? (int)put : -ENOSPC; /* a write of 0 bytes means no space */
}

static coroutine_fn RUNS_IN_IOTHREAD int file_co_preadv(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes, const struct iovec *iov,
                                                        unsigned niov)
{
    const FileState *s = n->state;
    return file_co_read(n, s->engine, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int file_co_pwritev(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes, const struct iovec *iov,
                                                         unsigned niov, unsigned flags)
{
    FileState *s = n->state;
    bool fua = (flags & BLOCK_REQ_FUA) != 0 && !n->flags.cache_no_flush;
    BlockIo io = {.op = BLOCK_IO_WRITE,
                  .offset = offset,
                  .bytes = bytes,
                  .iov = iov,
                  .niov = niov,
                  .dsync = fua && n->flags.cache_direct};
    int ret = file_co_write(n, s->engine, io, bytes);
    file_changed(s);
    if (ret == 0 && fua && !n->flags.cache_direct) {
        ret = file_co_sync(n); /* see file_sync.c */
    }
    return ret;
}

/* ---- lanes ---- */

static RUNS_IN_IOTHREAD BlockNode *file_lane_pass(const BlockNode *n, BlockLanePlan *plan)
{
    return NULL;
}

/* @state is the engine of the lane's loop. */
static RUNS_IN_IOTHREAD bool file_lane_enter(const BlockNode *leaf, AioContext *ctx, void **state)
{
    const FileState *s = leaf->state;
    BlockEngine *e = *state;
    g_autoptr(GError) error = NULL;
    if (e != NULL && e->ops->kind == (BlockEngineKind)s->aio) {
        return true;
    }
    if (e != NULL) {
        block_engine_put_here(e);
    }
    *state = block_engine_get_here(ctx, (BlockEngineKind)s->aio, &error);
    if (*state == NULL) {
        trace_block_file_lane_refused(leaf->name, error->message);
    }
    return *state != NULL;
}

static RUNS_IN_IOTHREAD void file_lane_leave(void *state)
{
    block_engine_put_here(state);
}

static coroutine_fn RUNS_IN_IOTHREAD int file_lane_co_preadv(BlockNode *leaf, void *state,
                                                             uint64_t offset, uint64_t bytes,
                                                             const struct iovec *iov, unsigned niov)
{
    return file_co_read(leaf, state, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int file_lane_co_pwritev(BlockNode *leaf, void *state,
                                                              uint64_t offset, uint64_t bytes,
                                                              const struct iovec *iov,
                                                              unsigned niov)
{
    BlockIo io = {.op = BLOCK_IO_WRITE, .offset = offset, .bytes = bytes, .iov = iov, .niov = niov};
    int ret = file_co_write(leaf, state, io, bytes);
    file_changed(leaf->state);
    return ret;
}

static const BlockLaneDriver file_lane = {
    .pass = file_lane_pass,
    .enter = file_lane_enter,
    .leave = file_lane_leave,
    .co_preadv = file_lane_co_preadv,
    .co_pwritev = file_lane_co_pwritev,
};

static coroutine_fn RUNS_IN_IOTHREAD int file_co_flush(BlockNode *n)
{
    return n->flags.cache_no_flush ? 0 : file_co_sync(n);
}

#define FILE_DRIVER(driver_name, driver_help)                                                      \
    {                                                                                              \
        .name = (driver_name), .help = (driver_help), .state_size = sizeof(FileState),             \
        .options = file_options, .caps = {.grows = true, .fua = true}, .co_open = file_co_open,    \
        .co_close = file_co_close, .co_preadv = file_co_preadv, .co_pwritev = file_co_pwritev,     \
        .co_flush = file_co_flush, .co_discard = file_co_discard,                                  \
        .co_write_zeroes = file_co_write_zeroes, .co_truncate = file_co_truncate,                  \
        .co_block_status = file_co_block_status, .co_allocated_size = file_co_allocated_size,      \
        .allocated_size = file_allocated_size, .filename = file_filename, .aio = file_aio,         \
        .co_reopen_prepare = file_co_reopen_prepare, .reopen_commit = file_reopen_commit,          \
        .co_reopen_clean = file_co_reopen_clean, .co_move_prepare = file_co_move_prepare,          \
        .co_move_finish = file_co_move_finish, .lane = &file_lane,                                 \
    }

const BlockDriver block_driver_file = FILE_DRIVER("file", "a file or block device of the host");
const BlockDriver block_driver_host_device =
    FILE_DRIVER("host_device", "a block device of the host");
