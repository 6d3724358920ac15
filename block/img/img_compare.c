/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skiff-img compare: whether two images have the same content.
 *
 * Several coroutines take pieces of the images in order, read and compare them. What is reported is
 * the difference with the lowest offset: pieces before it were taken earlier, and all of them end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/img/img.h"
#include "util/zero.h"

#define COMPARE_PIECE ((uint64_t)512 << 10)
#define COMPARE_CREW 4u
#define COMPARE_SECTOR 512u

enum {
    COMPARE_DIFFERENT = 1,
    COMPARE_OPEN_FAILED = 2,
    COMPARE_STATUS_FAILED = 3,
    COMPARE_READ_FAILED = 4,
};

typedef struct CompareSide {
    const char *filename;
    BlockBackend *blk;
    uint64_t size;
    unsigned chain;     /* backing nodes below the root */
    BlockStatus status; /* of [start, start + status.bytes) */
    uint64_t start;
} CompareSide;

/* What is to do with a piece. */
typedef enum CompareKind { COMPARE_BOTH, COMPARE_FIRST_EMPTY, COMPARE_SECOND_EMPTY } CompareKind;

typedef struct Compare {
    CompareSide sides[2];
    bool strict, quiet;
    ImgProgress progress;
    uint64_t progress_total;
    uint64_t end;  /* of this pass */
    uint64_t next; /* the first byte that no coroutine has taken */
    bool alone[2]; /* pass beyond the end of the other image */
    ImgTurn turn;
    /* the finding with the lowest offset */
    int status;
    uint64_t where;
    char *message; /* owned; NULL: a difference */
    bool is_error;
} Compare;

/* ---- findings ---- */

/* @message is consumed. */
static void compare_find(Compare *c, uint64_t where, int status, bool is_error, char *message)
{
    if (c->status != 0 && c->where <= where) {
        g_free(message);
        return;
    }
    g_free(c->message);
    c->status = status;
    c->where = where;
    c->message = message;
    c->is_error = is_error;
}

static void compare_find_difference(Compare *c, uint64_t where)
{
    compare_find(c, where, COMPARE_DIFFERENT, false,
                 g_strdup_printf("Content mismatch at offset %" PRIu64 "!", where));
}

/* ---- pieces ---- */

static coroutine_fn RUNS_IN_IOTHREAD bool compare_co_status(Compare *c, CompareSide *s)
{
    if (s->start + s->status.bytes > c->next && s->status.bytes > 0) {
        return true; /* the last answer reaches beyond the piece */
    }
    int ret = blk_co_block_status(s->blk, c->next, s->size - c->next, true, &s->status);
    s->start = c->next;
    if (ret < 0) {
        compare_find(c, c->next, COMPARE_STATUS_FAILED, true,
                     g_strdup_printf("Sector allocation test failed for %s", s->filename));
        return false;
    }
    return true;
}

static uint64_t compare_rest(const Compare *c, const CompareSide *s)
{
    return s->start + s->status.bytes - c->next;
}

/* The flags that -s compares. Zeroes beyond the end of a backing file count as its own. */
static unsigned compare_flags(const CompareSide *s)
{
    unsigned flags = s->status.flags;
    return s->status.depth < s->chain ? flags | BLOCK_STATUS_ALLOCATED : flags;
}

typedef struct ComparePiece {
    uint64_t offset, bytes;
    CompareKind kind;
} ComparePiece;

/* Decides about the range at c->next. False: there is nothing to read. */
static bool compare_decide(Compare *c, ComparePiece *p)
{
    const CompareSide *a = &c->sides[0], *b = &c->sides[1];
    unsigned first = compare_flags(a), second = compare_flags(b);
    p->offset = c->next;
    p->bytes = MIN(MIN(compare_rest(c, a), compare_rest(c, b)), c->end - c->next);
    if (c->strict && first != second) {
        compare_find(
            c, c->next, COMPARE_DIFFERENT, false,
            g_strdup_printf("Strict mode: Offset %" PRIu64 " block status mismatch!", c->next));
        p->bytes = 0;
        return false;
    }
    bool has_first = (first & BLOCK_STATUS_ALLOCATED) != 0;
    bool has_second = (second & BLOCK_STATUS_ALLOCATED) != 0;
    if ((first & second & BLOCK_STATUS_ZERO) != 0 || (!has_first && !has_second)) {
        return false;
    }
    p->kind = has_first && has_second ? COMPARE_BOTH
              : has_first             ? COMPARE_FIRST_EMPTY
                                      : COMPARE_SECOND_EMPTY;
    return true;
}

/* The same beyond the end of the other image. */
static bool compare_decide_alone(Compare *c, const CompareSide *s, ComparePiece *p)
{
    p->offset = c->next;
    p->bytes = MIN(compare_rest(c, s), c->end - c->next);
    p->kind = s == &c->sides[0] ? COMPARE_FIRST_EMPTY : COMPARE_SECOND_EMPTY;
    return (s->status.flags & BLOCK_STATUS_ALLOCATED) != 0 &&
           (s->status.flags & BLOCK_STATUS_ZERO) == 0;
}

/* Takes the next piece that must be read. False: there is none. */
static coroutine_fn RUNS_IN_IOTHREAD bool compare_co_take(Compare *c, ComparePiece *p)
{
    bool found = false;
    img_turn_co_take(&c->turn);
    while (!found && c->status == 0 && c->next < c->end) {
        if ((!c->alone[1] && !compare_co_status(c, &c->sides[0])) ||
            (!c->alone[0] && !compare_co_status(c, &c->sides[1]))) {
            break;
        }
        found = c->alone[0]   ? compare_decide_alone(c, &c->sides[0], p)
                : c->alone[1] ? compare_decide_alone(c, &c->sides[1], p)
                              : compare_decide(c, p);
        p->bytes = found ? MIN(p->bytes, COMPARE_PIECE) : p->bytes;
        c->next += p->bytes;
    }
    img_progress_set(&c->progress, c->next, c->progress_total);
    img_turn_give(&c->turn);
    return found;
}

/* ---- reading ---- */

static coroutine_fn RUNS_IN_IOTHREAD bool compare_co_read(Compare *c, const CompareSide *s,
                                                          const ComparePiece *p, uint8_t *buffer)
{
    struct iovec iov = {buffer, p->bytes};
    int ret = blk_co_preadv(s->blk, p->offset, p->bytes, &iov, 1, 0);
    if (ret < 0) {
        compare_find(c, p->offset, COMPARE_READ_FAILED, true,
                     g_strdup_printf("Error while reading offset %" PRIu64 " of %s: %s", p->offset,
                                     s->filename, g_strerror(-ret)));
    }
    return ret == 0;
}

static void compare_buffers(Compare *c, const ComparePiece *p, const uint8_t *a, const uint8_t *b)
{
    if (memcmp(a, b, p->bytes) == 0) {
        return;
    }
    uint64_t at = 0;
    while (memcmp(a + at, b + at, MIN(COMPARE_SECTOR, p->bytes - at)) == 0) {
        at += COMPARE_SECTOR;
    }
    compare_find_difference(c, p->offset + at);
}

static void compare_with_zeroes(Compare *c, const ComparePiece *p, const uint8_t *a)
{
    if (bytes_are_zero(a, p->bytes)) {
        return;
    }
    uint64_t at = 0;
    while (bytes_are_zero(a + at, MIN(COMPARE_SECTOR, p->bytes - at))) {
        at += COMPARE_SECTOR;
    }
    compare_find_difference(c, p->offset + at);
}

static void compare_work(void *opaque)
{
    Compare *c = opaque;
    ComparePiece p;
    enter_coroutine();
    enter_iothread(aio_context_current());
    uint8_t *buffers = img_buffer_new(2 * COMPARE_PIECE);
    uint8_t *second = buffers + COMPARE_PIECE;
    while (compare_co_take(c, &p)) {
        if (p.kind == COMPARE_BOTH) {
            if (compare_co_read(c, &c->sides[0], &p, buffers) &&
                compare_co_read(c, &c->sides[1], &p, second)) {
                compare_buffers(c, &p, buffers, second);
            }
        } else if (compare_co_read(c, &c->sides[p.kind == COMPARE_SECOND_EMPTY], &p, buffers)) {
            compare_with_zeroes(c, &p, buffers);
        }
    }
    free(buffers);
}

/* ---- the subcommand ---- */

__attribute__((format(printf, 2, 3))) static void compare_say(const Compare *c, const char *format,
                                                              ...)
{
    va_list args;
    va_start(args, format);
    if (!c->quiet) {
        vprintf(format, args);
    }
    va_end(args);
}

/* Compares [c->next, end). False: reported. */
static coroutine_fn RUNS_IN_MAIN bool compare_co_pass(Img *img, Compare *c, uint64_t end)
{
    c->end = end;
    img_co_crew(img, COMPARE_CREW, compare_work, c);
    if (c->status == 0) {
        return true;
    }
    if (c->is_error) {
        img_error("%s", c->message);
    } else {
        compare_say(c, "%s\n", c->message);
    }
    return false;
}

static coroutine_fn RUNS_IN_MAIN int compare_co_run(Img *img, Compare *c)
{
    uint64_t first = c->sides[0].size, second = c->sides[1].size;
    img_progress_set(&c->progress, 0, c->progress_total);
    if (c->strict && first != second) {
        compare_say(c, "Strict mode: Image size mismatch!\n");
        return COMPARE_DIFFERENT;
    }
    if (!compare_co_pass(img, c, MIN(first, second))) {
        return c->status;
    }
    if (first != second) {
        compare_say(c, "Warning: Image size mismatch!\n");
        c->alone[first > second ? 0 : 1] = true;
        if (!compare_co_pass(img, c, MAX(first, second))) {
            return c->status;
        }
    }
    compare_say(c, "Images are identical.\n");
    return 0;
}

static RUNS_IN_MAIN void compare_examine(CompareSide *s)
{
    BlockNodeInfo info;
    s->size = blk_size(s->blk);
    block_node_info(blk_root(s->blk), &info);
    for (; info.backing != NULL; s->chain++) {
        block_node_info(info.backing, &info);
    }
}

static coroutine_fn RUNS_IN_MAIN int compare_co_images(Img *img, Compare *c, ImgOpen open[2])
{
    static const char *const names[] = {"image1", "image2"};
    int status = COMPARE_OPEN_FAILED;
    for (unsigned i = 0; i < 2; i++) {
        open[i].filename = c->sides[i].filename = img->files[i];
        c->sides[i].blk = img_co_open(img, names[i], &open[i]);
        if (c->sides[i].blk == NULL) {
            break;
        }
        compare_examine(&c->sides[i]);
    }
    if (c->sides[1].blk != NULL) {
        c->progress_total = MAX(c->sides[0].size, c->sides[1].size);
        img_turn_init(&c->turn);
        status = compare_co_run(img, c);
        img_progress_end(&c->progress);
    }
    blk_co_free(c->sides[0].blk);
    blk_co_free(c->sides[1].blk);
    g_free(c->message);
    return status;
}

int img_co_compare(Img *img)
{
    ImgOpen open[2] = {0};
    Compare c = {0};
    bool progress = false, force_share = false, image_opts = false;
    const char *cache = NULL;
    const ImgOption options[] = {
        {NULL, 'f', IMG_TEXT, &open[0].format},
        {NULL, 'F', IMG_TEXT, &open[1].format},
        {NULL, 'T', IMG_TEXT, &cache},
        {NULL, 'p', IMG_FLAG, &progress},
        {NULL, 'q', IMG_FLAG, &c.quiet},
        {NULL, 's', IMG_FLAG, &c.strict},
        {"force-share", 'U', IMG_FLAG, &force_share},
        {"image-opts", 0, IMG_FLAG, &image_opts},
        {0},
    };
    int status;
    if (!img_parse_options(img, options, &status)) {
        return status;
    }
    if (img->file_count != 2) {
        return img_usage_error("Expecting two image file names");
    }
    for (unsigned i = 0; i < 2; i++) {
        open[i].force_share = force_share;
        open[i].image_opts = image_opts;
        if (cache != NULL && !img_parse_cache(cache, &open[i].cache)) {
            img_error("Invalid source cache option: %s", cache);
            return COMPARE_OPEN_FAILED;
        }
    }
    img_progress_init(&c.progress, progress && !c.quiet, 2.0);
    return compare_co_images(img, &c, open);
}
