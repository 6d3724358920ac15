/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of an image in host form, and its checks.
 *
 * The functions do no I/O and keep no state: they may run in any thread. The bytes come from an
 * image and are hostile: each field is checked before use, and the error names image and field.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_HEADER_H
#define SKIFF_BLOCK_QCOW2_QCOW2_HEADER_H

#include <endian.h>
#include <inttypes.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>
#include "block/qcow2/qcow2_format.h"
#include "util/loop/thread.h"

typedef struct Qcow2Header {
    unsigned version;
    unsigned cluster_bits;
    uint64_t size; /* of the guest's disk, as the header has it */
    uint32_t l1_size;
    uint64_t l1_offset;
    uint64_t refcount_offset;
    uint32_t refcount_clusters;
    unsigned refcount_order;
    uint32_t snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t length;
    unsigned compression;  /* QCOW2_COMPRESSION_... */
    char *backing_name;    /* owned; NULL: no backing file */
    char *backing_format;  /* owned; NULL: the header names none */
    char *data_file;       /* owned; NULL: the header names none */
    char *unknown_feature; /* owned; the first unknown incompatible bit, as text; NULL: none */
    uint32_t bitmaps;      /* 0: the image has none */
    uint64_t bitmaps_offset, bitmaps_size;
    /* bytes of the header's cluster, kept right when they change */
    uint64_t bitmaps_at;     /* the extension "bitmaps"; 0: there is none */
    bool bitmaps_retired;    /* its type says nothing */
    bool bitmaps_blocked;    /* there is one of an invalid length */
    uint64_t extensions_end; /* behind the last extension */
} Qcow2Header;

/* Takes what is needed to know how much to read: checks magic, version and cluster_bits in the
 * first QCOW2_HEADER_V2_LENGTH bytes. Returns the size of the first cluster; 0 + @error. @who is
 * the image's name in errors. */
uint64_t qcow2_header_begin(const uint8_t *bytes, const char *who, GError **error) ANY_THREAD;
/* Converts and checks the whole header. @bytes is the first cluster, or what the file has of it;
 * @file_size is a multiple of 512. On failure @h holds nothing; else qcow2_header_clear() frees
 * it. */
bool qcow2_header_parse(Qcow2Header *h, const uint8_t *bytes, uint64_t length, uint64_t file_size,
                        const char *who, GError **error) ANY_THREAD;
void qcow2_header_clear(Qcow2Header *h) ANY_THREAD;

/* Converts extensions and the backing file's name; part of qcow2_header_parse()
 * (qcow2_extension.c). */
bool qcow2_header_parse_extensions(Qcow2Header *h, const uint8_t *bytes, uint64_t length,
                                   const char *who, GError **error) ANY_THREAD;

/* Finds the places of extensions in @bytes, the header's cluster, or @length bytes of it, whose
 * extensions were checked. */
void qcow2_header_locate(Qcow2Header *h, const uint8_t *bytes, uint64_t length) ANY_THREAD;

static inline uint64_t qcow2_cluster_size(const Qcow2Header *h)
{
    return (uint64_t)1 << h->cluster_bits;
}

static inline bool qcow2_has_extended_l2(const Qcow2Header *h)
{
    return (h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0;
}

static inline bool qcow2_has_data_file(const Qcow2Header *h)
{
    return (h->incompatible & QCOW2_INCOMPATIBLE_DATA_FILE) != 0;
}

static inline unsigned qcow2_l2_entry_length(const Qcow2Header *h)
{
    return qcow2_has_extended_l2(h) ? QCOW2_L2_EXTENDED_LENGTH : QCOW2_L2_ENTRY_LENGTH;
}

/* Bytes of the disk that an L2 table maps. */
static inline uint64_t qcow2_table_covers(const Qcow2Header *h)
{
    return qcow2_cluster_size(h) / qcow2_l2_entry_length(h) << h->cluster_bits;
}

/* L1 entries that so many bytes need. */
static inline uint64_t qcow2_l1_needed(const Qcow2Header *h, uint64_t bytes)
{
    uint64_t covers = qcow2_table_covers(h);
    return bytes / covers + (bytes % covers != 0);
}

/* Numbers in tables, which need not be aligned. */
static inline uint32_t qcow2_get32(const void *bytes)
{
    uint32_t v;
    memcpy(&v, bytes, sizeof(v));
    return be32toh(v);
}

static inline void qcow2_put32(void *bytes, uint32_t v)
{
    v = htobe32(v);
    memcpy(bytes, &v, sizeof(v));
}

static inline void qcow2_put64(void *bytes, uint64_t v)
{
    v = htobe64(v);
    memcpy(bytes, &v, sizeof(v));
}

static inline uint64_t qcow2_get64(const void *bytes)
{
    uint64_t v;
    memcpy(&v, bytes, sizeof(v));
    return be64toh(v);
}

#endif
