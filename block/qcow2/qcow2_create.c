/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/qcow2_create.h"

#include <errno.h>
#include <stdlib.h>
#include "block/qcow2/qcow2_refcount_width.h"

/* ---- options ---- */

static bool create_refuse(GError **error, const char *text)
{
    g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, text);
    return false;
}

static bool create_is_power_of_2(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* What only version 3 has. */
static bool create_check_version(const Qcow2CreateOptions *o, GError **error)
{
    if (o->version >= 3) {
        return true;
    }
    if (o->lazy_refcounts) {
        return create_refuse(error, "Lazy refcounts only supported with compatibility level 1.1 "
                                    "and above (use version=v3 or greater)");
    }
    if (o->extended_l2) {
        return create_refuse(error, "Extended L2 entries are only supported with compatibility "
                                    "level 1.1 and above (use version=v3 or greater)");
    }
    if (o->refcount_bits != 16) {
        return create_refuse(error, "Different refcount widths than 16 bits require compatibility "
                                    "level 1.1 or above (use version=v3 or greater)");
    }
    if (o->data_file != NULL) {
        return create_refuse(error, "External data files are only supported with compatibility "
                                    "level 1.1 and above (use version=v3 or greater)");
    }
    if (o->compression != QCOW2_COMPRESSION_ZLIB) {
        return create_refuse(error, "Non-zlib compression type is only supported with "
                                    "compatibility level 1.1 and above (use version=v3 or "
                                    "greater)");
    }
    return true;
}

static bool create_check_names(const Qcow2CreateOptions *o, GError **error)
{
    if (o->data_file_raw && o->data_file == NULL) {
        return create_refuse(error, "data-file-raw requires data-file");
    }
    if (o->data_file_raw && o->backing_file != NULL) {
        return create_refuse(error,
                             "Backing file and data-file-raw cannot be used at the same time");
    }
    if (o->backing_format != NULL && o->backing_file == NULL) {
        return create_refuse(error, "Backing format cannot be used without backing file");
    }
    if (o->backing_file != NULL && o->preallocation != BLOCK_PREALLOCATION_OFF && !o->extended_l2) {
        return create_refuse(error, "Backing file and preallocation can only be used at the same "
                                    "time if extended_l2 is on");
    }
    if ((o->backing_file != NULL && strlen(o->backing_file) > QCOW2_BACKING_NAME_MAX) ||
        (o->data_file != NULL && strlen(o->data_file) > QCOW2_BACKING_NAME_MAX)) {
        return create_refuse(error, "The name of a backing or data file has more than 1023 bytes");
    }
    return true;
}

/* ---- the layout ---- */

/* In clusters, but for entries. */
typedef struct CreateLayout {
    Qcow2Header header; /* names are borrowed */
    uint64_t disk;      /* preallocated clusters of the disk */
    uint64_t l2_entries, l2_tables;
    uint64_t refcounts_per_block, refcount_blocks, l1;
    uint64_t first_l2; /* where the first L2 table is */
    uint64_t total;
} CreateLayout;

static uint64_t create_divide_up(uint64_t value, uint64_t by)
{
    return value / by + (value % by != 0);
}

/* The table and the blocks count themselves: they grow until they cover everything. */
static void create_place_refcounts(CreateLayout *l, uint64_t others)
{
    uint64_t cluster = qcow2_cluster_size(&l->header);
    uint64_t blocks = 0, table = 0, total;
    do {
        total = others + blocks + table;
        l->refcount_blocks = blocks;
        l->header.refcount_clusters = (uint32_t)table;
        blocks = create_divide_up(total, l->refcounts_per_block);
        table = create_divide_up(blocks * sizeof(uint64_t), cluster);
    } while (blocks != l->refcount_blocks || table != l->header.refcount_clusters);
    l->total = total;
}

static void create_fill_header(Qcow2Header *h, const Qcow2CreateOptions *o)
{
    *h = (Qcow2Header){
        .version = o->version,
        .cluster_bits = (unsigned)__builtin_ctzll(o->cluster_size),
        .size = o->size,
        .refcount_order = (unsigned)__builtin_ctzll(o->refcount_bits),
        .compression = o->compression,
        .backing_name = (char *)(uintptr_t)o->backing_file,
        .backing_format = (char *)(uintptr_t)o->backing_format,
        .data_file = (char *)(uintptr_t)o->data_file,
    };
    h->incompatible =
        (o->data_file != NULL ? QCOW2_INCOMPATIBLE_DATA_FILE : 0) |
        (o->compression != QCOW2_COMPRESSION_ZLIB ? QCOW2_INCOMPATIBLE_COMPRESSION : 0) |
        (o->extended_l2 ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0);
    h->compatible = o->lazy_refcounts ? QCOW2_COMPATIBLE_LAZY_REFCOUNTS : 0;
    h->autoclear = o->data_file_raw ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0;
}

/* A raw data file stays valid only if every cluster of the disk is at its place in it. */
static bool create_maps_all(const Qcow2CreateOptions *o)
{
    return o->preallocation != BLOCK_PREALLOCATION_OFF || o->data_file_raw;
}

static bool create_lay_out(CreateLayout *l, const Qcow2CreateOptions *o, GError **error)
{
    Qcow2Header *h = &l->header;
    *l = (CreateLayout){0};
    create_fill_header(h, o);
    uint64_t cluster = o->cluster_size, disk = create_divide_up(o->size, cluster);
    l->l2_entries = cluster / qcow2_l2_entry_length(h);
    uint64_t l1_size = create_divide_up(disk, l->l2_entries);
    if (o->size > BLOCK_SIZE_MAX || l1_size > QCOW2_L1_BYTES_MAX / sizeof(uint64_t)) {
        return create_refuse(error, "The image size is too large for file format 'qcow2' (try "
                                    "using a larger cluster size)");
    }
    h->l1_size = (uint32_t)l1_size;
    l->l1 = create_divide_up(l1_size * sizeof(uint64_t), cluster);
    l->disk = create_maps_all(o) ? disk : 0;
    l->l2_tables = l->disk > 0 ? l1_size : 0;
    l->refcounts_per_block = cluster * 8 >> h->refcount_order;
    create_place_refcounts(l, 1 + l->l1 + l->l2_tables + (o->data_file != NULL ? 0 : l->disk));
    if ((uint64_t)h->refcount_clusters << h->cluster_bits > QCOW2_REFCOUNT_TABLE_BYTES_MAX) {
        return create_refuse(error, "The image size is too large to be preallocated (try using a "
                                    "larger cluster size)");
    }
    h->refcount_offset = cluster;
    uint64_t l1_at = 1 + h->refcount_clusters + l->refcount_blocks;
    h->l1_offset = l->l1 > 0 ? l1_at * cluster : 0;
    l->first_l2 = l1_at + l->l1;
    return true;
}

bool qcow2_create_check(const Qcow2CreateOptions *o, GError **error)
{
    CreateLayout l;
    if (!create_is_power_of_2(o->cluster_size) ||
        o->cluster_size < (uint64_t)1 << QCOW2_CLUSTER_BITS_MIN ||
        o->cluster_size > (uint64_t)1 << QCOW2_CLUSTER_BITS_MAX) {
        return create_refuse(error, "Cluster size must be a power of two between 512 and 2048k");
    }
    if (!create_is_power_of_2(o->refcount_bits) || o->refcount_bits > 64) {
        return create_refuse(error,
                             "Refcount width must be a power of two and may not exceed 64 bits");
    }
    if (!create_check_version(o, error) || !create_check_names(o, error)) {
        return false;
    }
    if (o->extended_l2 && o->cluster_size < (uint64_t)1 << QCOW2_EXTENDED_L2_CLUSTER_BITS) {
        return create_refuse(error, "Extended L2 entries are only supported with cluster sizes of "
                                    "at least 16384 bytes");
    }
    return create_lay_out(&l, o, error);
}

/* ---- writing ---- */

typedef struct Create {
    const Qcow2CreateRequest *request;
    CreateLayout layout;
    uint64_t cluster_size;
    uint8_t *buffer; /* a cluster */
} Create;

static coroutine_fn RUNS_IN_IOTHREAD int create_write(Create *c, uint64_t offset, uint64_t bytes)
{
    struct iovec iov = {c->buffer, bytes};
    return block_node_co_pwritev(c->request->file, offset, bytes, &iov, 1, 0);
}

static void create_put64(Create *c, uint64_t index, uint64_t value)
{
    value = htobe64(value);
    memcpy(c->buffer + index * sizeof(value), &value, sizeof(value));
}

static coroutine_fn RUNS_IN_IOTHREAD int create_write_refcounts(Create *c)
{
    const CreateLayout *l = &c->layout;
    uint64_t per_cluster = c->cluster_size / sizeof(uint64_t);
    uint64_t first_block = 1 + l->header.refcount_clusters;
    int ret = 0;
    for (uint64_t i = 0; ret == 0 && i < l->header.refcount_clusters; i++) {
        memset(c->buffer, 0, c->cluster_size);
        for (uint64_t j = 0; j < per_cluster && i * per_cluster + j < l->refcount_blocks; j++) {
            create_put64(c, j, (first_block + i * per_cluster + j) * c->cluster_size);
        }
        ret = create_write(c, (1 + i) * c->cluster_size, c->cluster_size);
    }
    for (uint64_t i = 0; ret == 0 && i < l->refcount_blocks; i++) {
        uint64_t first = i * l->refcounts_per_block;
        memset(c->buffer, 0, c->cluster_size);
        for (uint64_t j = 0; j < l->refcounts_per_block && first + j < l->total; j++) {
            qcow2_refcount_set(c->buffer, j, l->header.refcount_order, 1);
        }
        ret = create_write(c, (first_block + i) * c->cluster_size, c->cluster_size);
    }
    return ret;
}

/* Clusters from one L2 table to the next. */
static uint64_t create_stride(const Create *c)
{
    return 1 + (c->request->options->data_file != NULL ? 0 : c->layout.l2_entries);
}

static coroutine_fn RUNS_IN_IOTHREAD int create_write_l1(Create *c)
{
    const CreateLayout *l = &c->layout;
    uint64_t per_cluster = c->cluster_size / sizeof(uint64_t), size = l->header.l1_size;
    int ret = 0;
    for (uint64_t first = 0; ret == 0 && first < size; first += per_cluster) {
        uint64_t count = MIN(per_cluster, size - first);
        memset(c->buffer, 0, c->cluster_size);
        for (uint64_t j = 0; l->l2_tables > 0 && j < count; j++) {
            uint64_t table = l->first_l2 + (first + j) * create_stride(c);
            create_put64(c, j, table * c->cluster_size | QCOW2_ENTRY_COPIED);
        }
        ret = create_write(c, l->header.l1_offset + first * sizeof(uint64_t),
                           count * sizeof(uint64_t));
    }
    return ret;
}

/* The bitmaps of extended entries stay zero: the subclusters are those of the backing file. */
static coroutine_fn RUNS_IN_IOTHREAD int create_write_l2(Create *c, uint64_t index)
{
    const CreateLayout *l = &c->layout;
    uint64_t words = qcow2_l2_entry_length(&l->header) / sizeof(uint64_t);
    uint64_t table = l->first_l2 + index * create_stride(c), first = index * l->l2_entries;
    uint64_t count = MIN(l->l2_entries, l->disk - first);
    bool external = c->request->options->data_file != NULL;
    memset(c->buffer, 0, c->cluster_size);
    for (uint64_t j = 0; j < count; j++) {
        uint64_t cluster = external ? first + j : table + 1 + j;
        create_put64(c, j * words, cluster * c->cluster_size | QCOW2_ENTRY_COPIED);
    }
    return create_write(c, table * c->cluster_size, c->cluster_size);
}

static coroutine_fn RUNS_IN_IOTHREAD int create_preallocate(Create *c)
{
    const CreateLayout *l = &c->layout;
    const Qcow2CreateRequest *r = c->request;
    uint64_t start = l->first_l2 * c->cluster_size, end = l->total * c->cluster_size;
    if (l->l2_tables == 0) {
        return 0;
    }
    int ret = 0;
    if (r->options->data_file == NULL) {
        ret = block_node_co_preallocate(r->file, start, end - start, r->options->preallocation);
        if (ret == 0 && r->dirty_file &&
            r->options->preallocation == BLOCK_PREALLOCATION_METADATA) {
            ret = block_node_co_write_zeroes(r->file, start, end - start, BLOCK_REQ_MAY_UNMAP);
        }
    }
    for (uint64_t i = 0; ret == 0 && i < l->l2_tables; i++) {
        ret = create_write_l2(c, i);
    }
    return ret == 0 && !r->dirty_file ? block_node_co_truncate(r->file, end) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int create_data_file(Create *c)
{
    const Qcow2CreateRequest *r = c->request;
    if (r->data == NULL) {
        return 0;
    }
    int ret = block_node_co_truncate(r->data, 0);
    if (ret == 0) {
        ret = block_node_co_truncate(r->data, r->options->size);
    }
    if (ret == 0) {
        ret = block_node_co_preallocate(r->data, 0, r->options->size, r->options->preallocation);
    }
    return ret == 0 ? block_node_co_flush(r->data) : ret;
}

/* Everything but the header is on stable storage before the header. */
static coroutine_fn RUNS_IN_IOTHREAD int create_write_all(Create *c)
{
    BlockNode *file = c->request->file;
    memset(c->buffer, 0, c->cluster_size);
    int ret = c->request->dirty_file ? create_write(c, 0, c->cluster_size)
                                     : block_node_co_truncate(file, 0);
    if (ret == 0) {
        ret = create_data_file(c);
    }
    if (ret == 0) {
        ret = create_write_refcounts(c);
    }
    if (ret == 0) {
        ret = create_write_l1(c);
    }
    if (ret == 0) {
        ret = create_preallocate(c);
    }
    if (ret == 0) {
        ret = block_node_co_flush(file);
    }
    if (ret == 0) {
        qcow2_header_write(&c->layout.header, c->buffer, NULL); /* tried before */
        ret = create_write(c, 0, c->cluster_size);
    }
    return ret == 0 ? block_node_co_flush(file) : ret;
}

bool qcow2_co_create(Qcow2CreateRequest *r)
{
    Create c = {.request = r, .cluster_size = r->options->cluster_size};
    c.buffer = aligned_alloc(BLOCK_MEMORY_ALIGNMENT_MAX,
                             block_align_up(c.cluster_size, BLOCK_MEMORY_ALIGNMENT_MAX));
    bool ok = c.buffer != NULL;
    if (!ok) {
        create_refuse(&r->error, "there is not enough memory");
    }
    ok = ok && create_lay_out(&c.layout, r->options, &r->error) &&
         qcow2_header_write(&c.layout.header, c.buffer, &r->error);
    int ret = ok ? create_write_all(&c) : 0;
    if (ret < 0) {
        g_set_error(&r->error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s", g_strerror(-ret));
        if (!r->dirty_file) {
            block_node_co_truncate(r->file, 0);
        }
    }
    free(c.buffer);
    return ok && ret == 0;
}
