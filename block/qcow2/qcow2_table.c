/* SPDX-License-Identifier: Apache-2.0 */
/* The tables that are wholly in memory: L1 table and refcount table. */
#include "block/qcow2/qcow2_int.h"

#define TABLE_WRITE_MAX ((uint64_t)1 << 20)

static uint32_t table_sectors(uint32_t count)
{
    return (count + QCOW2_SECTOR_ENTRIES - 1) / QCOW2_SECTOR_ENTRIES;
}

void qcow2_table_init(Qcow2Table *t, uint64_t *entries, uint32_t count)
{
    *t = (Qcow2Table){.entries = entries, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = be64toh(entries[i]);
    }
    t->dirty = g_new0(uint64_t, table_sectors(count) / 64 + 1);
}

void qcow2_table_free(Qcow2Table *t)
{
    g_free(t->entries);
    g_free(t->dirty);
    g_free(t->places);
    *t = (Qcow2Table){0};
}

/* ---- the clusters that entries lead to ---- */

#define TABLE_PLACES_MIN 10u /* bits: 128 bytes */
#define TABLE_PLACES_MAX 23u /* 1 MiB */
#define TABLE_PLACES_EACH                                                                          \
    6u /* 1 << this bits for an entry: few other clusters have the same hash */

static uint64_t table_hash(const Qcow2Table *t, uint64_t cluster)
{
    return cluster * UINT64_C(0x9e3779b97f4a7c15) >> (64 - t->places_bits);
}

static void table_add_place(Qcow2Table *t, uint64_t entry)
{
    uint64_t hash = table_hash(t, (entry & QCOW2_OFFSET_MASK) >> t->cluster_bits);
    t->places[hash / 64] |= (uint64_t)1 << (hash % 64);
}

/* An entry has changed. Old places stay in the set, which costs time only, and are gone when it is made
 * anew. */
static void table_change_place(Qcow2Table *t, uint64_t entry)
{
    if (t->places == NULL || (entry & QCOW2_OFFSET_MASK) == 0) {
        return;
    }
    if (t->spare == 0) {
        g_clear_pointer(&t->places, g_free);
    } else {
        t->spare--;
        table_add_place(t, entry);
    }
}

static void table_make_places(Qcow2Table *t, unsigned cluster_bits)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        used += (t->entries[i] & QCOW2_OFFSET_MASK) != 0;
    }
    t->spare = used / 2 + 64;
    t->cluster_bits = cluster_bits;
    t->places_bits = g_bit_storage(used + t->spare) + TABLE_PLACES_EACH;
    t->places_bits = CLAMP(t->places_bits, TABLE_PLACES_MIN, TABLE_PLACES_MAX);
    t->places = g_new0(uint64_t, ((uint64_t)1 << t->places_bits) / 64);
    for (uint32_t i = 0; i < t->count; i++) {
        if ((t->entries[i] & QCOW2_OFFSET_MASK) != 0) {
            table_add_place(t, t->entries[i]);
        }
    }
}

static bool table_search(const Qcow2Table *t, uint64_t host, uint64_t bytes)
{
    uint64_t cluster = (uint64_t)1 << t->cluster_bits;
    for (uint32_t i = 0; i < t->count; i++) {
        uint64_t offset = t->entries[i] & QCOW2_OFFSET_MASK;
        if (offset != 0 && host < offset + cluster && offset < host + bytes) {
            return true;
        }
    }
    return false;
}

bool qcow2_table_leads_to(const Qcow2Table *t, unsigned cluster_bits, uint64_t host, uint64_t bytes)
{
    if (t->places == NULL) {
        table_make_places((Qcow2Table *)(uintptr_t)t, cluster_bits);
    }
    uint64_t end = (host + bytes - 1) >> cluster_bits;
    for (uint64_t i = host >> cluster_bits; i <= end; i++) {
        uint64_t hash = table_hash(t, i);
        if ((t->places[hash / 64] >> (hash % 64) & 1) != 0) {
            return table_search(t, host, bytes); /* once: it is for all clusters */
        }
    }
    return false;
}

/* ---- changes ---- */

static void table_mark_dirty(Qcow2Table *t, uint32_t sector)
{
    uint64_t bit = (uint64_t)1 << (sector % 64);
    if ((t->dirty[sector / 64] & bit) == 0) {
        t->dirty[sector / 64] |= bit;
        t->dirty_sectors++;
    }
}

void qcow2_table_set(Qcow2Table *t, uint64_t index, uint64_t value)
{
    t->entries[index] = value;
    table_change_place(t, value);
    table_mark_dirty(t, (uint32_t)(index / QCOW2_SECTOR_ENTRIES));
}

void qcow2_table_extend(Qcow2Table *t, uint32_t count)
{
    t->entries = g_renew(uint64_t, t->entries, count);
    memset(t->entries + t->count, 0, (count - t->count) * sizeof(uint64_t));
    t->count = count;
    g_clear_pointer(&t->places, g_free);
    g_free(t->dirty);
    t->dirty = g_new0(uint64_t, table_sectors(count) / 64 + 1);
    t->dirty_sectors = 0;
}

/* Entries from @first on, as on disk; zeroes behind the last one. */
static void table_encode(const Qcow2Table *t, uint64_t first, uint64_t count, uint64_t *out)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] = first + i < t->count ? htobe64(t->entries[first + i]) : 0;
    }
}

int qcow2_co_write_table(BlockNode *n, const Qcow2Table *t, uint64_t offset)
{
    const Qcow2State *s = n->state;
    uint64_t bytes =
        block_align_up((uint64_t)t->count * sizeof(uint64_t), qcow2_cluster_size(&s->header));
    uint64_t size = MIN(bytes, TABLE_WRITE_MAX);
    g_autofree uint64_t *buffer = g_malloc(size);
    int ret = 0;
    for (uint64_t done = 0; done < bytes && ret == 0; done += size) {
        uint64_t length = MIN(size, bytes - done);
        struct iovec iov = {buffer, length};
        table_encode(t, done / sizeof(uint64_t), length / sizeof(uint64_t), buffer);
        ret = block_node_co_pwritev(n->file, offset + done, length, &iov, 1, 0);
    }
    return ret;
}

GArray *qcow2_table_capture(Qcow2Table *t)
{
    GArray *sectors = g_array_new(false, false, sizeof(Qcow2Sector));
    for (uint32_t i = 0; t->dirty_sectors > 0 && i <= table_sectors(t->count) / 64; i++) {
        for (uint64_t left = t->dirty[i]; left != 0; left &= left - 1) {
            Qcow2Sector sector = {.number = i * 64 + (uint32_t)__builtin_ctzll(left)};
            table_encode(t, (uint64_t)sector.number * QCOW2_SECTOR_ENTRIES, QCOW2_SECTOR_ENTRIES,
                         sector.entries);
            g_array_append_val(sectors, sector);
        }
        t->dirty[i] = 0;
    }
    t->dirty_sectors = 0;
    return sectors;
}

int qcow2_co_write_sectors(BlockNode *n, const GArray *sectors, uint64_t offset)
{
    int ret = 0;
    for (unsigned i = 0; i < sectors->len && ret == 0; i++) {
        Qcow2Sector *sector = &g_array_index(sectors, Qcow2Sector, i);
        struct iovec iov = {sector->entries, QCOW2_SECTOR};
        ret = block_node_co_pwritev(n->file, offset + (uint64_t)sector->number * QCOW2_SECTOR,
                                    QCOW2_SECTOR, &iov, 1, 0);
    }
    return ret;
}

void qcow2_table_release(Qcow2Table *t, GArray *sectors, bool written)
{
    for (unsigned i = 0; i < sectors->len && !written; i++) {
        table_mark_dirty(t, g_array_index(sectors, Qcow2Sector, i).number);
    }
    g_array_unref(sectors);
}
