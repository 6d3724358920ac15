/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img map: which parts of an image are data, and where they are stored. */
#include <inttypes.h>
#include <stdio.h>
#include "block/img/img.h"

typedef struct ImgMap {
    BlockBackend *blk;
    bool json;
    BlockStatus status; /* the answer of one query */
    uint64_t query_offset, query_bytes;
    int ret;
    uint64_t start; /* the extent that grows */
    BlockStatus extent;
    bool printed;
} ImgMap;

static void map_query_at_home(void *opaque)
{
    ImgMap *m = opaque;
    enter_coroutine();
    enter_iothread(blk_home(m->blk));
    m->ret = blk_co_block_status(m->blk, m->query_offset, m->query_bytes, true, &m->status);
}

static bool map_mergeable(const BlockStatus *a, const BlockStatus *b)
{
    unsigned end = BLOCK_STATUS_EOF;
    return (a->flags | end) == (b->flags | end) && a->depth == b->depth &&
           a->map_node == b->map_node &&
           (a->map_node == NULL || a->map_offset + a->bytes == b->map_offset);
}

static const char *map_bool(const BlockStatus *s, unsigned flag)
{
    return (s->flags & flag) != 0 ? "true" : "false";
}

static RUNS_IN_MAIN bool map_print_human(const ImgMap *m)
{
    const BlockStatus *s = &m->extent;
    if ((s->flags & BLOCK_STATUS_DATA) == 0 || (s->flags & BLOCK_STATUS_ZERO) != 0) {
        return true;
    }
    if (s->map_node == NULL) {
        img_error("File contains external, encrypted or compressed clusters.");
        return false;
    }
    BlockNodeInfo info;
    block_node_info(s->map_node, &info);
    printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", m->start, s->bytes, s->map_offset,
           info.filename != NULL ? info.filename : "");
    return true;
}

/* Prints the extent that has ended. */
static RUNS_IN_MAIN bool map_print(ImgMap *m)
{
    const BlockStatus *s = &m->extent;
    if (!m->json) {
        return map_print_human(m);
    }
    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
           ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
           m->printed ? ",\n" : "", m->start, s->bytes, s->depth,
           map_bool(s, BLOCK_STATUS_ALLOCATED), map_bool(s, BLOCK_STATUS_ZERO),
           map_bool(s, BLOCK_STATUS_DATA));
    if (s->map_node != NULL) {
        printf(", \"offset\": %" PRIu64, s->map_offset);
    }
    putchar('}');
    m->printed = true;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool map_co_walk(ImgMap *m, uint64_t end)
{
    while (m->start + m->extent.bytes < end) {
        m->query_offset = m->start + m->extent.bytes;
        m->query_bytes = end - m->query_offset;
        co_call_in(blk_home(m->blk), map_query_at_home, m);
        if (m->ret < 0) {
            img_error("Failed to read image metadata: %s", g_strerror(-m->ret));
            return false;
        }
        if (m->extent.bytes > 0 && map_mergeable(&m->extent, &m->status)) {
            m->extent.bytes += m->status.bytes;
            continue;
        }
        if (m->extent.bytes > 0 && !map_print(m)) {
            return false;
        }
        m->start = m->query_offset;
        m->extent = m->status;
    }
    return map_print(m);
}

static coroutine_fn RUNS_IN_MAIN int map_co_run(ImgMap *m, uint64_t start, uint64_t length)
{
    uint64_t size = blk_size(m->blk);
    m->start = MIN(start, size);
    uint64_t end = m->start + MIN(length, size - m->start);
    fputs(m->json ? "[" : "Offset          Length          Mapped to       File\n", stdout);
    bool ok = map_co_walk(m, end);
    if (ok && m->json) {
        puts("]");
    }
    return ok ? 0 : 1;
}

int img_co_map(Img *img)
{
    ImgMap m = {0};
    ImgOpen o = {0};
    uint64_t start = 0, length = UINT64_MAX;
    const ImgOption options[] = {
        {"format", 'f', IMG_TEXT, &o.format},
        {"output", 0, IMG_OUTPUT, &m.json},
        {"start-offset", 's', IMG_SIZE, &start},
        {"max-length", 'l', IMG_SIZE, &length},
        {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts},
        {0},
    };
    int status;
    if (!img_parse_for_image(img, options, &status)) {
        return status;
    }
    o.filename = img->files[0];
    m.blk = img_co_open(img, "image", &o);
    if (m.blk == NULL) {
        return 1;
    }
    status = map_co_run(&m, start, length);
    blk_co_free(m.blk);
    return status;
}
