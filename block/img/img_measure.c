/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img measure: how large the file of a new image would be. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "block/img/img_create.h"
#include "block/node.h"
#include "util/opts/json.h"

typedef struct Measure {
    /* options */
    ImgOpen open;
    const char *format, *snapshot, *size_text;
    GPtrArray *texts; /* of -o */
    bool json;
    /* the source */
    BlockBackend *blk; /* NULL: --size */
    uint64_t size;
    BlockImageInfo info;
    GError *error;
    uint64_t cluster;
    uint64_t data; /* bytes of clusters that have data */
    int ret;
    /* the answer */
    uint64_t required, full, bitmaps;
    bool has_bitmaps;
} Measure;

/* ---- the source ---- */

/* Counts the clusters that a conversion would write to. */
static coroutine_fn RUNS_IN_IOTHREAD int measure_co_data(Measure *m)
{
    unsigned held = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED;
    int ret = 0;
    for (uint64_t at = 0, bytes; at < m->size && ret == 0; at += bytes) {
        BlockStatus s;
        ret = blk_co_block_status(m->blk, at, m->size - at, true, &s);
        bytes = s.bytes;
        if (ret == 0 && (s.flags & BLOCK_STATUS_ZERO) == 0 && (s.flags & held) == held) {
            bytes = block_align_up(at + bytes, m->cluster) - at;
            m->data += at % m->cluster + bytes;
        }
    }
    return ret;
}

static void measure_at_home(void *opaque)
{
    Measure *m = opaque;
    enter_coroutine();
    enter_iothread(blk_home(m->blk));
    block_node_co_image_info(blk_root(m->blk), &m->info, &m->error);
    m->ret = m->error == NULL ? measure_co_data(m) : 0;
}

/* ---- qcow2 ---- */

static uint64_t measure_divide(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* Bytes of refcount table and blocks that count @clusters clusters and themselves. */
static uint64_t measure_refcounts(uint64_t clusters, const Qcow2CreateOptions *o)
{
    uint64_t in_block = o->cluster_size * 8 / o->refcount_bits;
    uint64_t in_table = o->cluster_size / sizeof(uint64_t);
    uint64_t table = 0, blocks = 0, last;
    do {
        last = table + blocks;
        blocks = measure_divide(clusters + table + blocks, in_block);
        table = measure_divide(blocks, in_table);
    } while (table + blocks != last);
    return (table + blocks) * o->cluster_size;
}

/* The size of an image whose clusters are all allocated. */
static uint64_t measure_full(uint64_t size, const Qcow2CreateOptions *o)
{
    uint64_t cluster = o->cluster_size, entry = o->extended_l2 ? 16 : 8;
    uint64_t l2 = block_align_up(size / cluster, cluster / entry);
    uint64_t l1 = block_align_up(l2 * entry / cluster, cluster / sizeof(uint64_t));
    uint64_t metadata = cluster + l2 * entry + l1 * sizeof(uint64_t);
    return metadata + measure_refcounts((metadata + size) / cluster, o) + size;
}

/* Whether the L1 table of such an image is not too large. */
static bool measure_fits(uint64_t size, const Qcow2CreateOptions *o)
{
    uint64_t in_l2 = o->cluster_size / (o->extended_l2 ? 16 : 8);
    uint64_t tables = measure_divide(size / o->cluster_size, in_l2);
    return tables <= QCOW2_L1_BYTES_MAX / sizeof(uint64_t);
}

/* Bytes for a bitmap, all of it allocated; adds its directory entry to *@directory. */
static uint64_t measure_bitmap(const Measure *m, struct json_object *bitmap, uint64_t *directory)
{
    struct json_object *name = NULL, *granularity = NULL;
    json_object_object_get_ex(bitmap, "name", &name);
    json_object_object_get_ex(bitmap, "granularity", &granularity);
    uint64_t bits = measure_divide(m->size, json_object_get_uint64(granularity));
    uint64_t clusters = measure_divide((bits + 7) / 8, m->cluster);
    *directory +=
        block_align_up(sizeof(Qcow2DiskBitmap) + (uint64_t)json_object_get_string_len(name), 8);
    return clusters * m->cluster + block_align_up(clusters * sizeof(uint64_t), m->cluster);
}

/* The bitmaps of a qcow2 source, which the new image could have too; as in QEMU, also those that are
 * inconsistent. */
static void measure_bitmaps(Measure *m)
{
    struct json_object *data = NULL, *list = NULL, *compat = NULL;
    uint64_t directory = 0;
    if (m->info.specific == NULL || !json_object_object_get_ex(m->info.specific, "data", &data) ||
        !json_object_object_get_ex(data, "compat", &compat) ||
        strcmp(json_object_get_string(compat), "1.1") != 0) {
        return;
    }
    m->has_bitmaps = true;
    if (!json_object_object_get_ex(data, "bitmaps", &list)) {
        return;
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        m->bitmaps += measure_bitmap(m, json_object_array_get_idx(list, i), &directory);
    }
    m->bitmaps += block_align_up(directory, m->cluster);
}

static bool measure_qcow2(Measure *m, const Qcow2CreateOptions *o)
{
    uint64_t size = block_align_up(m->size, o->cluster_size);
    if (!measure_fits(size, o)) {
        img_error("The image size is too large (try using a larger cluster size)");
        return false;
    }
    bool whole = o->preallocation == BLOCK_PREALLOCATION_FULL ||
                 o->preallocation == BLOCK_PREALLOCATION_FALLOC ||
                 (m->blk != NULL && o->backing_file != NULL);
    m->full = measure_full(size, o);
    m->required = m->full - size + (whole ? size : m->data);
    if (o->version >= 3) {
        measure_bitmaps(m);
    }
    return true;
}

/* ---- the subcommand ---- */

static void measure_print(const Measure *m)
{
    if (!m->json) {
        printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", m->required,
               m->full);
        if (m->has_bitmaps) {
            printf("bitmaps size: %" PRIu64 "\n", m->bitmaps);
        }
        return;
    }
    struct json_object *o = json_object_new_object();
    if (m->has_bitmaps) {
        json_object_object_add(o, "bitmaps", json_object_new_uint64(m->bitmaps));
    }
    json_object_object_add(o, "required", json_object_new_uint64(m->required));
    json_object_object_add(o, "fully-allocated", json_object_new_uint64(m->full));
    g_autoptr(GString) text = g_string_new(NULL);
    json_write_text(text, o, true);
    puts(text->str);
    json_object_put(o);
}

static bool measure_options(const Measure *m, CreateValues *v, Qcow2CreateOptions *o)
{
    g_autoptr(GError) error = NULL;
    for (unsigned i = 0; i < m->texts->len; i++) {
        if (!create_parse(v, m->format, m->texts->pdata[i], &error)) {
            img_error("%s", error->message);
            img_error("Invalid options for file format '%s'", m->format);
            return false;
        }
    }
    create_set(v, CREATE_SIZE, "0");
    create_set_defaults(v, m->format);
    if (!create_convert(v, m->format, o, &error)) {
        img_error("%s", error->message);
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool measure_co_source(Img *img, Measure *m)
{
    m->blk = img_co_open(img, "image", &m->open);
    if (m->blk == NULL || (m->snapshot != NULL && !img_co_view(m->blk, m->snapshot))) {
        return false;
    }
    m->size = blk_size(m->blk);
    co_call_in(img->home, measure_at_home, m);
    if (m->error != NULL || m->ret < 0) {
        img_error("%s", m->error != NULL ? m->error->message : g_strerror(-m->ret));
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool measure_co_run(Img *img, Measure *m, CreateValues *v)
{
    Qcow2CreateOptions o = {0};
    if (!measure_options(m, v, &o)) {
        return false;
    }
    bool raw = strcmp(m->format, "raw") == 0;
    m->cluster = raw ? BLOCK_SECTOR_SIZE : o.cluster_size;
    if (m->size_text == NULL && !measure_co_source(img, m)) {
        return false;
    }
    m->size = block_align_up(m->size, BLOCK_SECTOR_SIZE);
    if (raw) {
        m->required = m->full = m->size;
    } else if (!measure_qcow2(m, &o)) {
        return false;
    }
    measure_print(m);
    return true;
}

/* False: reported. */
static bool measure_check(const Img *img, Measure *m)
{
    const ImgOpen *o = &m->open;
    const char *wrong = NULL;
    if (img->file_count > 1) {
        wrong = "At most one filename argument is allowed.";
    } else if (img->file_count == 1 && m->size_text != NULL) {
        wrong = "--size N cannot be used together with a filename.";
    } else if (img->file_count == 0 &&
               (o->image_opts || o->format != NULL || m->snapshot != NULL)) {
        wrong = "--image-opts, -f, and -l require a filename argument.";
    } else if (img->file_count == 0 && m->size_text == NULL) {
        wrong = "Either --size N or one filename must be specified.";
    }
    if (wrong != NULL) {
        img_error("%s", wrong);
    } else if (strcmp(m->format, "raw") != 0 && strcmp(m->format, "qcow2") != 0) {
        img_error(block_driver_find(m->format) != NULL
                      ? "Format driver '%s' does not support size measurement"
                      : "Unknown file format '%s'",
                  m->format);
        return false;
    }
    return wrong == NULL;
}

int img_co_measure(Img *img)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new();
    Measure m = {.format = "raw", .texts = texts};
    CreateValues v = {0};
    const ImgOption options[] = {
        {NULL, 'f', IMG_TEXT, &m.open.format},
        {NULL, 'l', IMG_TEXT, &m.snapshot},
        {NULL, 'o', IMG_TEXTS, texts},
        {NULL, 'O', IMG_TEXT, &m.format},
        {"output", 0, IMG_OUTPUT, &m.json},
        {"size", 0, IMG_TEXT, &m.size_text},
        {"force-share", 'U', IMG_FLAG, &m.open.force_share},
        {"image-opts", 0, IMG_FLAG, &m.open.image_opts},
        {0},
    };
    int status;
    if (!img_parse_options(img, options, &status)) {
        return status;
    }
    if ((m.size_text != NULL && !img_parse_size("image size", m.size_text, &m.size)) ||
        !measure_check(img, &m)) {
        return 1;
    }
    m.open.filename = img->file_count > 0 ? img->files[0] : NULL;
    status = measure_co_run(img, &m, &v) ? 0 : 1;
    blk_co_free(m.blk);
    block_image_info_clear(&m.info);
    g_clear_error(&m.error);
    create_clear(&v);
    return status;
}
