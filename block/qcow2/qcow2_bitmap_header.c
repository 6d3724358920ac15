/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The place of the bitmap directory in the header: the extension "bitmaps", which is valid while the
 * autoclear bit is set.
 *
 *   no extension --install--> extension, bit clear --set--> extension leads to a directory, bit set
 *        ^                      |                             |  ^
 *        '------- retire -------'<---------- clear the bit ---'  '-- set: another directory
 *
 * Each arrow is a write of one sector, or several with flushes between them, after each of which the
 * header is valid. An extension is retired by the mark of the end of all extensions in its place, or if
 * others follow by a type that nothing knows.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define HEADER_EXTENSION (sizeof(Qcow2DiskExtension) + sizeof(Qcow2DiskBitmapsExtension))
#define HEADER_AT(field) offsetof(Qcow2DiskHeader, field)

/* ---- writes ---- */

/* Changes bytes of the header's cluster that are in one sector, on stable storage. */
static coroutine_fn RUNS_IN_IOTHREAD int header_patch(BlockNode *n, uint64_t at, const void *bytes,
                                                      uint64_t length)
{
    const Qcow2State *s = n->state;
    int ret;
    if (at < QCOW2_SECTOR) {
        uint8_t sector[QCOW2_SECTOR];
        memcpy(sector, s->w.sector, sizeof(sector));
        memcpy(sector + at, bytes, length);
        ret = qcow2_co_write_header(n, sector);
    } else {
        struct iovec iov = {(void *)(uintptr_t)bytes, length};
        ret = block_node_co_pwritev(n->file, at, length, &iov, 1, 0);
    }
    return ret == 0 ? block_node_co_flush(n->file) : ret;
}

static bool header_in_sector(uint64_t at, uint64_t length)
{
    return at / QCOW2_SECTOR == (at + length - 1) / QCOW2_SECTOR;
}

/* The same for bytes that may cross a sector: the end first. They are not valid before all are there. */
static coroutine_fn RUNS_IN_IOTHREAD int
header_patch_end_first(BlockNode *n, uint64_t at, const uint8_t *bytes, uint64_t length)
{
    int ret = 0;
    uint64_t first = MIN(length, QCOW2_SECTOR - at % QCOW2_SECTOR);
    for (uint64_t end = length; end > first && ret == 0;) {
        uint64_t part = (at + end - 1) % QCOW2_SECTOR + 1;
        part = MIN(part, end - first);
        end -= part;
        ret = header_patch(n, at + end, bytes + end, part);
    }
    return ret == 0 ? header_patch(n, at, bytes, first) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int header_set_bit(BlockNode *n, bool set)
{
    Qcow2State *s = n->state;
    uint64_t autoclear = s->header.autoclear & ~QCOW2_AUTOCLEAR_BITMAPS;
    uint8_t bytes[8];
    autoclear |= set ? QCOW2_AUTOCLEAR_BITMAPS : 0;
    qcow2_put64(bytes, autoclear);
    int ret = header_patch(n, HEADER_AT(autoclear_features), bytes, sizeof(bytes));
    if (ret == 0) {
        s->header.autoclear = autoclear;
    }
    return ret;
}

/* ---- installing and retiring ---- */

/* The extension without a directory, and the end of extensions behind it. */
static void header_make_extension(uint8_t bytes[HEADER_EXTENSION + sizeof(Qcow2DiskExtension)])
{
    memset(bytes, 0, HEADER_EXTENSION + sizeof(Qcow2DiskExtension));
    qcow2_put32(bytes, QCOW2_EXTENSION_BITMAPS);
    qcow2_put32(bytes + 4, sizeof(Qcow2DiskBitmapsExtension));
}

/* Where the name of the backing file goes so that @end bytes before it are free; 0: there is no room.
 * Its old and its new place do not overlap. */
static uint64_t header_name_place(const Qcow2State *s, uint64_t end, uint64_t old, uint64_t length)
{
    uint64_t place = MAX(end, old + length);
    return place + length <= qcow2_cluster_size(&s->header) ? place : 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int header_move_name(BlockNode *n, uint64_t end, uint64_t old,
                                                          uint64_t length)
{
    const Qcow2State *s = n->state;
    uint64_t place = header_name_place(s, end, old, length);
    uint8_t bytes[8];
    if (place == 0) {
        return -ENOSPC;
    }
    int ret = 0;
    if (length > 0) {
        ret = header_patch_end_first(n, place, (const uint8_t *)s->header.backing_name, length);
    }
    qcow2_put64(bytes, place);
    return ret == 0 ? header_patch(n, HEADER_AT(backing_file_offset), bytes, sizeof(bytes)) : ret;
}

/* Puts extension, end and name into the first sector, if there is room. */
static coroutine_fn RUNS_IN_IOTHREAD bool header_install_small(BlockNode *n, const uint8_t *bytes,
                                                               uint64_t size, uint64_t old,
                                                               uint64_t length, int *ret)
{
    const Qcow2State *s = n->state;
    uint8_t sector[QCOW2_SECTOR];
    uint64_t at = s->header.extensions_end, end = at + size;
    if (end + length > QCOW2_SECTOR || old + length > QCOW2_SECTOR) {
        return false;
    }
    memcpy(sector, s->w.sector, sizeof(sector));
    memmove(sector + end, s->w.sector + old, length);
    memcpy(sector + at, bytes, size);
    qcow2_put64(sector + HEADER_AT(backing_file_offset), end);
    *ret = header_patch(n, 0, sector, sizeof(sector));
    return true;
}

/* Makes an extension without a directory at the end of all extensions. */
static coroutine_fn RUNS_IN_IOTHREAD int header_install(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Header *h = &s->header;
    uint8_t bytes[HEADER_EXTENSION + sizeof(Qcow2DiskExtension)];
    uint64_t old = qcow2_get64(s->w.sector + HEADER_AT(backing_file_offset));
    uint64_t length = qcow2_get32(s->w.sector + HEADER_AT(backing_file_size));
    uint64_t end = h->extensions_end + sizeof(bytes);
    int ret = 0;
    bool done = false;
    if (h->bitmaps_blocked || end > qcow2_cluster_size(h)) {
        return -ENOSPC;
    }
    header_make_extension(bytes);
    if (old != 0 && old < end) {
        done = header_install_small(n, bytes, sizeof(bytes), old, length, &ret);
        ret = done ? ret : header_move_name(n, end, old, length);
    }
    if (ret == 0 && !done) {
        ret = header_patch_end_first(n, h->extensions_end, bytes, sizeof(bytes));
    }
    if (ret == 0) {
        h->bitmaps_at = h->extensions_end;
        h->extensions_end += HEADER_EXTENSION;
    }
    return ret;
}

/* Gives the extension a type, whose bit is clear. */
static coroutine_fn RUNS_IN_IOTHREAD int header_set_type(BlockNode *n, uint32_t type,
                                                         uint32_t length)
{
    const Qcow2State *s = n->state;
    uint8_t bytes[sizeof(Qcow2DiskExtension)];
    qcow2_put32(bytes, type);
    qcow2_put32(bytes + 4, length);
    return header_patch(n, s->header.bitmaps_at, bytes, sizeof(bytes));
}

static coroutine_fn RUNS_IN_IOTHREAD void header_retire(BlockNode *n)
{
    Qcow2Header *h = &((Qcow2State *)n->state)->header;
    bool last = h->bitmaps_at + HEADER_EXTENSION == h->extensions_end;
    int ret = last ? header_set_type(n, QCOW2_EXTENSION_END, 0)
                   : header_set_type(n, QCOW2_EXTENSION_RETIRED, sizeof(Qcow2DiskBitmapsExtension));
    if (ret < 0) { /* it stays, and says nothing without the bit; the disk may have either type */
        h->bitmaps_retired = true;
        return;
    }
    if (last) {
        h->extensions_end = h->bitmaps_at;
        h->bitmaps_at = 0;
    } else {
        h->bitmaps_retired = true;
    }
}

static coroutine_fn RUNS_IN_IOTHREAD int header_prepare(BlockNode *n)
{
    Qcow2Header *h = &((Qcow2State *)n->state)->header;
    if (h->bitmaps_at == 0) {
        return header_install(n);
    }
    int ret = 0;
    if (h->bitmaps_retired) {
        ret = header_set_type(n, QCOW2_EXTENSION_BITMAPS, sizeof(Qcow2DiskBitmapsExtension));
        h->bitmaps_retired = ret < 0;
    }
    return ret;
}

/* ---- the directory's place ---- */

/* @unsure: what is on disk is not known. */
static coroutine_fn RUNS_IN_IOTHREAD int header_set(BlockNode *n, Qcow2Directory d, bool unsure)
{
    const Qcow2Header *h = &((const Qcow2State *)n->state)->header;
    Qcow2DiskBitmapsExtension e = {.nb_bitmaps = htobe32(d.count),
                                   .bitmap_directory_size = htobe64(d.bytes),
                                   .bitmap_directory_offset = htobe64(d.offset)};
    int ret = header_prepare(n);
    uint64_t at = h->bitmaps_at + sizeof(Qcow2DiskExtension);
    bool bit = (h->autoclear & QCOW2_AUTOCLEAR_BITMAPS) != 0;
    bool clear = unsure || (bit && !header_in_sector(at, sizeof(e)));
    if (ret == 0 && clear) {
        ret = header_set_bit(n, false);
    }
    if (ret == 0) {
        ret = header_patch_end_first(n, at, (const uint8_t *)&e, sizeof(e));
    }
    if (ret == 0 && (clear || !bit)) {
        ret = header_set_bit(n, true);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int header_lead(BlockNode *n, Qcow2Directory d, bool unsure)
{
    if (d.count > 0) {
        return header_set(n, d, unsure);
    }
    int ret = header_set_bit(n, false);
    if (ret == 0 && ((const Qcow2State *)n->state)->header.bitmaps_at != 0) {
        header_retire(n);
    }
    return ret;
}

static Qcow2Directory header_present(const Qcow2Header *h)
{
    return (Qcow2Directory){h->bitmaps, h->bitmaps_offset, h->bitmaps_size};
}

int qcow2_co_switch_directory(BlockNode *n, Qcow2Directory d)
{
    Qcow2State *s = n->state;
    Qcow2Header *h = &s->header;
    qcow2_co_commit_begin(&s->w);
    int ret = header_lead(n, d, s->bitmaps.unsure);
    if (ret == 0) {
        h->bitmaps = d.count;
        h->bitmaps_offset = d.offset;
        h->bitmaps_size = d.bytes;
        s->bitmaps.unsure = false;
    } else {
        s->bitmaps.unsure = header_lead(n, header_present(h), true) < 0;
    }
    qcow2_commit_end(&s->w);
    return ret;
}

int qcow2_co_settle_directory(BlockNode *n)
{
    Qcow2State *s = n->state;
    if (!s->bitmaps.unsure) {
        return 0;
    }
    qcow2_co_commit_begin(&s->w);
    int ret = header_lead(n, header_present(&s->header), true);
    s->bitmaps.unsure = ret < 0;
    qcow2_commit_end(&s->w);
    return ret;
}
