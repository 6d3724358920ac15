/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img bench: how long a number of requests takes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/img/img.h"
#include "block/node.h"

#define BENCH_DEPTH_MAX 4096u

typedef struct Bench {
    BlockBackend *blk;
    uint64_t count, depth, bytes, step, flush_interval;
    uint64_t offset; /* of the next request */
    uint64_t begun, ended;
    int pattern;
    bool write, no_drain, flushing;
    CoQueue waiters; /* for a flush */
    int ret;
} Bench;

static coroutine_fn RUNS_IN_IOTHREAD int bench_co_request(Bench *b, uint8_t *buffer)
{
    struct iovec iov = {buffer, b->bytes};
    uint64_t at = b->offset, size = blk_size(b->blk);
    b->begun++;
    b->offset = (b->offset + b->step) % size;
    return b->write ? blk_co_pwritev(b->blk, at, b->bytes, &iov, 1, 0)
                    : blk_co_preadv(b->blk, at, b->bytes, &iov, 1, 0);
}

/* After each interval one coroutine flushes; the others begin no request meanwhile, unless
 * --no-drain is given. */
static coroutine_fn RUNS_IN_IOTHREAD int bench_co_flush(Bench *b)
{
    if (b->flush_interval == 0 || b->ended % b->flush_interval != 0) {
        return 0;
    }
    b->flushing = !b->no_drain;
    int ret = blk_co_flush(b->blk);
    b->flushing = false;
    co_queue_wake_all(&b->waiters);
    return ret;
}

static void bench_work(void *opaque)
{
    Bench *b = opaque;
    enter_coroutine();
    enter_iothread(blk_home(b->blk));
    uint8_t *buffer = img_buffer_new(MAX(b->bytes, 1));
    memset(buffer, b->pattern, b->bytes);
    while (b->begun < b->count && b->ret == 0) {
        if (b->flushing) {
            co_queue_wait(&b->waiters, "a flush");
            continue;
        }
        int ret = bench_co_request(b, buffer);
        if (ret == 0) {
            b->ended++;
            ret = bench_co_flush(b);
        }
        b->ret = ret < 0 ? ret : b->ret;
    }
    free(buffer);
}

static coroutine_fn RUNS_IN_MAIN int bench_co_run(Img *img, Bench *b)
{
    if (blk_size(b->blk) == 0 || b->offset > blk_size(b->blk) ||
        b->bytes > blk_size(b->blk) - b->offset) {
        img_error("The first request is beyond the end of the image");
        return 1;
    }
    printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %" PRIu64
           " in parallel (starting at offset %" PRIu64 ", step size %" PRIu64 ")\n",
           b->count, b->write ? "write" : "read", b->bytes, b->depth, b->offset, b->step);
    if (b->flush_interval != 0) {
        printf("Sending flush every %" PRIu64 " requests\n", b->flush_interval);
    }
    fflush(stdout);
    co_queue_init(&b->waiters);
    int64_t start = aio_now_ns(img->home);
    img_co_crew(img, (unsigned)b->depth, bench_work, b);
    double seconds = (double)(aio_now_ns(img->home) - start) / 1e9;
    if (b->ret < 0) {
        img_error("Failed request: %s", g_strerror(-b->ret));
        return 1;
    }
    printf("Run completed in %3.3f seconds.\n", seconds);
    return 0;
}

/* ---- options ---- */

typedef struct BenchTexts {
    const char *count, *depth, *bytes, *step, *offset, *pattern, *flush_interval, *cache;
    bool no_cache;
} BenchTexts;

static bool bench_parse_number(const char *text, const char *what, uint64_t min, uint64_t max,
                               uint64_t *value)
{
    if (text != NULL && !opt_parse_u64(text, min, max, value, NULL)) {
        img_error("Invalid %s specified", what);
        return false;
    }
    return true;
}

static bool bench_parse_size(const char *text, const char *what, uint64_t *value)
{
    if (text != NULL && !img_parse_size(what, text, value)) {
        return false;
    }
    if (text != NULL && *value > INT32_MAX && strcmp(what, "offset") != 0) {
        img_error("Invalid %s specified. Must be between 0 and %d.", what, INT32_MAX);
        return false;
    }
    return true;
}

static bool bench_parse(Bench *b, const BenchTexts *t, ImgOpen *o)
{
    uint64_t pattern = 0;
    o->cache.direct = t->no_cache;
    if (!bench_parse_number(t->count, "request count", 0, INT32_MAX, &b->count) ||
        !bench_parse_number(t->depth, "queue depth", 1, BENCH_DEPTH_MAX, &b->depth) ||
        !bench_parse_number(t->pattern, "pattern byte", 0, 255, &pattern) ||
        !bench_parse_number(t->flush_interval, "flush interval", 0, INT32_MAX,
                            &b->flush_interval) ||
        !bench_parse_size(t->bytes, "buffer size", &b->bytes) ||
        !bench_parse_size(t->step, "step_size", &b->step) ||
        !bench_parse_size(t->offset, "offset", &b->offset)) {
        return false;
    }
    b->pattern = (int)pattern;
    b->step = b->step == 0 ? b->bytes : b->step;
    if (t->cache != NULL && !img_parse_cache(t->cache, &o->cache)) {
        img_error("Invalid cache mode");
        return false;
    }
    if (!b->write && b->flush_interval != 0) {
        img_error("--flush-interval is only available in write tests");
        return false;
    }
    if (b->flush_interval != 0 && b->flush_interval < b->depth) {
        img_error("Flush interval can't be smaller than depth");
        return false;
    }
    return true;
}

int img_co_bench(Img *img)
{
    Bench b = {.count = 75000, .depth = 64, .bytes = 4096};
    BenchTexts t = {0};
    ImgOpen o = {0};
    bool quiet = false;
    const ImgOption options[] = {
        {NULL, 'c', IMG_TEXT, &t.count},
        {NULL, 'd', IMG_TEXT, &t.depth},
        {NULL, 'f', IMG_TEXT, &o.format},
        {"flush-interval", 0, IMG_TEXT, &t.flush_interval},
        {NULL, 'i', IMG_TEXT, &o.aio},
        {NULL, 'n', IMG_FLAG, &t.no_cache},
        {"no-drain", 0, IMG_FLAG, &b.no_drain},
        {NULL, 'o', IMG_TEXT, &t.offset},
        {"pattern", 0, IMG_TEXT, &t.pattern},
        {NULL, 'q', IMG_FLAG, &quiet},
        {NULL, 's', IMG_TEXT, &t.bytes},
        {NULL, 'S', IMG_TEXT, &t.step},
        {NULL, 't', IMG_TEXT, &t.cache},
        {NULL, 'w', IMG_FLAG, &b.write},
        {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts},
        {0},
    };
    int status;
    if (!img_parse_for_image(img, options, &status)) {
        return status;
    }
    if (!bench_parse(&b, &t, &o)) {
        return 1;
    }
    o.filename = img->files[0];
    o.writable = b.write;
    b.blk = img_co_open(img, "image", &o);
    if (b.blk == NULL) {
        return 1;
    }
    status = bench_co_run(img, &b);
    blk_co_free(b.blk);
    return status;
}
