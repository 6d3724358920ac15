/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of skiff-img io, and the report on each. */
#include "block/img/img_io.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IO_WRITTEN 0xcd /* without -P */
#define IO_UNREAD 0xab  /* in the buffer of a read */
#define IO_DUMP_WIDTH 16u
#define IO_NS_PER_S 1000000000.0

char *img_io_size_text(double size)
{
    static const char *const units[] = {" bytes", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    unsigned unit = 0;
    for (; size >= 1024 && unit + 1 < G_N_ELEMENTS(units); unit++) {
        size /= 1024;
    }
    char *text = g_strdup_printf("%.3f", size);
    if (g_str_has_suffix(text, ".000")) {
        text[strlen(text) - strlen(".000")] = '\0';
    }
    char *with_unit = g_strconcat(text, units[unit], NULL);
    g_free(text);
    return with_unit;
}

static uint64_t io_total(const ImgIoRequest *r)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < r->pieces; i++) {
        total += r->lengths[i];
    }
    return total;
}

/* ---- reports ---- */

static void io_report(const ImgIoRequest *r, int64_t time_ns)
{
    static const char *const verbs[] = {"read", "wrote", "wrote", "discard", "flush"};
    double bytes = (double)io_total(r), seconds = MAX((double)time_ns, 1) / IO_NS_PER_S;
    if (r->quiet) {
        return;
    }
    if (r->terse) {
        printf("%.0f,1,%05.2f sec,%.3f,%.3f\n", bytes, seconds, bytes / seconds, 1 / seconds);
        return;
    }
    g_autofree char *size = img_io_size_text(bytes), *rate = img_io_size_text(bytes / seconds);
    printf("%s %.0f/%.0f bytes at offset %" PRIu64 "\n%s, 1 ops; %05.2f sec (%s/sec and %.4f "
           "ops/sec)\n",
           verbs[r->op], bytes, bytes, r->offset, size, seconds, rate, 1 / seconds);
}

static void io_dump(const ImgIoRequest *r, const uint8_t *data, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += IO_DUMP_WIDTH) {
        uint64_t count = MIN(IO_DUMP_WIDTH, bytes - at);
        printf("%08" PRIx64 ":  ", r->offset + at);
        for (uint64_t i = 0; i < count; i++) {
            printf("%02x ", data[at + i]);
        }
        putchar(' ');
        for (uint64_t i = 0; i < count; i++) {
            putchar(isalnum(data[at + i]) ? data[at + i] : '.');
        }
        putchar('\n');
    }
}

static bool io_check_pattern(const ImgIoRequest *r, const uint8_t *data, uint64_t bytes)
{
    uint64_t skip = MIN(r->check_skip, bytes);
    uint64_t count = r->check_bytes != 0 ? MIN(r->check_bytes, bytes - skip) : bytes - skip;
    for (uint64_t i = 0; i < count; i++) {
        if (data[skip + i] != r->pattern) {
            printf("Pattern verification failed at offset %" PRIu64 ", %" PRIu64 " bytes\n",
                   r->offset + skip, count);
            return false;
        }
    }
    return true;
}

/* ---- requests ---- */

static coroutine_fn RUNS_IN_IOTHREAD int io_call(const ImgIoRequest *r, uint8_t *data,
                                                 uint64_t bytes)
{
    struct iovec iov[IMG_IO_PIECES_MAX];
    uint64_t at = 0, size = blk_size(r->io->blk);
    if (r->offset > size || bytes > size - r->offset) {
        return -EIO; /* as qemu-io */
    }
    for (unsigned i = 0; i < r->pieces; i++) {
        iov[i] = (struct iovec){data + at, r->lengths[i]};
        at += r->lengths[i];
    }
    switch (r->op) {
    case IMG_IO_READ:
        return blk_co_preadv(r->io->blk, r->offset, bytes, iov, r->pieces, 0);
    case IMG_IO_WRITE:
        return blk_co_pwritev(r->io->blk, r->offset, bytes, iov, r->pieces, r->flags);
    case IMG_IO_WRITE_ZEROES:
        return blk_co_write_zeroes(r->io->blk, r->offset, bytes, r->flags);
    case IMG_IO_DISCARD:
        return blk_co_discard(r->io->blk, r->offset, bytes);
    case IMG_IO_FLUSH:
        return blk_co_flush(r->io->blk);
    }
    return 0;
}

/* True if it succeeded. */
static coroutine_fn RUNS_IN_IOTHREAD bool io_run(const ImgIoRequest *r)
{
    uint64_t bytes = io_total(r);
    bool has_data = r->op == IMG_IO_READ || r->op == IMG_IO_WRITE;
    uint8_t *data = has_data ? img_buffer_new(MAX(bytes, 1)) : NULL;
    if (has_data) {
        int fill = r->op == IMG_IO_READ ? IO_UNREAD : r->pattern >= 0 ? r->pattern : IO_WRITTEN;
        memset(data, fill, bytes);
    }
    int64_t start = aio_now_ns(aio_context_current());
    int ret = io_call(r, data, bytes);
    int64_t time_ns = aio_now_ns(aio_context_current()) - start;
    bool ok = ret == 0;
    if (!ok) {
        printf("%s failed: %s\n", r->name, g_strerror(-ret));
    } else if (r->op == IMG_IO_READ) {
        ok = r->pattern < 0 || io_check_pattern(r, data, bytes);
        if (r->dump && !r->quiet) {
            io_dump(r, data, bytes);
        }
    }
    if (ret == 0 && r->op != IMG_IO_FLUSH) {
        io_report(r, time_ns);
    }
    free(data);
    return ok;
}

static void io_background(void *opaque)
{
    ImgIoRequest *r = opaque;
    ImgIo *io = r->io;
    enter_coroutine();
    enter_iothread(blk_home(io->blk));
    if (!io_run(r)) {
        io->failed = true;
    }
    g_free(r);
    if (--io->in_flight == 0) {
        co_queue_wake_all(&io->idle);
    }
}

static void io_at_home(void *opaque)
{
    ImgIoRequest *r = opaque;
    enter_coroutine();
    enter_iothread(blk_home(r->io->blk));
    if (!r->background) {
        r->ret = io_run(r) ? 0 : -1;
        return;
    }
    r->io->in_flight++;
    co_start(blk_home(r->io->blk), io_background, g_memdup2(r, sizeof(*r)));
}

bool img_io_co_run(const ImgIoRequest *r)
{
    ImgIoRequest copy = *r;
    co_call_in(blk_home(r->io->blk), io_at_home, &copy);
    return copy.ret == 0;
}

static void io_wait_at_home(void *opaque)
{
    ImgIo *io = opaque;
    enter_coroutine();
    enter_iothread(blk_home(io->blk));
    while (io->in_flight > 0) {
        co_queue_wait(&io->idle, "requests in the background");
    }
}

bool img_io_co_wait(ImgIo *io)
{
    co_call_in(blk_home(io->blk), io_wait_at_home, io);
    bool ok = !io->failed;
    io->failed = false;
    return ok;
}
