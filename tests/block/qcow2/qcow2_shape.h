/* SPDX-License-Identifier: Apache-2.0 */
/* Images of every shape, chosen at random and made by qemu-img and qemu-io. */
#ifndef SKIFF_TESTS_BLOCK_QCOW2_QCOW2_SHAPE_H
#define SKIFF_TESTS_BLOCK_QCOW2_QCOW2_SHAPE_H

#include "tests/block/qcow2/qcow2_test.h"

typedef struct Shape {
    unsigned cluster_bits;
    const char *compat, *compression;
    bool extended, data_file, data_raw, backing, lazy;
    unsigned refcount_bits;
    unsigned kib;
} Shape;

/* Fills a buffer with data that zlib and zstd make smaller, by half to almost nothing. */
static inline void shape_fill_soft(void *buf, size_t size, unsigned seed)
{
    uint8_t *p = buf;
    test_fill(buf, size, seed);
    for (size_t i = 0; i < size; i++) {
        p[i] = i / 64 % (1 + seed % 7) == 0 ? p[i] & 15 : (uint8_t)seed;
    }
}

/* Makes [*offset, *offset + *bytes) of a disk whole clusters, as a compressed write has them. */
static inline void shape_align_clusters(unsigned bits, uint64_t size, uint64_t *offset,
                                        uint64_t *bytes)
{
    uint64_t cluster = (uint64_t)1 << bits;
    uint64_t end = MIN(block_align_up(*offset + *bytes, cluster), size);
    *offset = block_align_down(*offset, cluster);
    *bytes = end - *offset;
}

static inline Shape shape_pick(GRand *r)
{
    Shape s = {.cluster_bits = (unsigned)g_rand_int_range(r, 9, 22),
               .compat = g_rand_int_range(r, 0, 4) == 0 ? "0.10" : "1.1",
               .compression = "zlib",
               .refcount_bits = 16,
               .kib = (unsigned)g_rand_int_range(r, 64, 6000)};
    if (strcmp(s.compat, "1.1") == 0) {
        s.compression = g_rand_boolean(r) ? "zstd" : "zlib";
        s.extended = s.cluster_bits >= 14 && g_rand_boolean(r);
        s.data_file = g_rand_int_range(r, 0, 4) == 0;
        s.lazy = g_rand_int_range(r, 0, 4) == 0;
        s.refcount_bits = s.data_file ? 16u : 1u << g_rand_int_range(r, 0, 7);
    }
    s.backing = g_rand_boolean(r);
    s.data_raw = s.data_file && !s.backing && g_rand_boolean(r);
    return s;
}

static inline void shape_create(const Shape *s, const char *dir, GRand *r)
{
    g_autoptr(GString) o = g_string_new(NULL);
    g_string_printf(o, "compat=%s,cluster_size=%u", s->compat, 1u << s->cluster_bits);
    if (strcmp(s->compat, "1.1") == 0) {
        g_string_append_printf(o, ",compression_type=%s,refcount_bits=%u,lazy_refcounts=%s",
                               s->compression, s->refcount_bits, s->lazy ? "on" : "off");
        g_string_append(o, s->extended ? ",extended_l2=on" : "");
        g_string_append(o, s->data_file ? ",data_file=t.data" : "");
        g_string_append(o, s->data_raw ? ",data_file_raw=on" : "");
    }
    qcow2_shell(dir, "rm -f t.qcow2 t.data base.qcow2");
    if (s->backing) { /* shorter or longer than the overlay */
        unsigned kib = (unsigned)g_rand_int_range(r, 64, 6000);
        qcow2_shell(dir,
                    "qemu-img create -q -f qcow2 base.qcow2 %uk && "
                    "qemu-io -f qcow2 -c 'write -q -P 201 0 64k' -c 'write -q -P 202 %uk 30k' "
                    "base.qcow2",
                    kib, kib - 31);
        g_string_append(o, ",backing_file=base.qcow2,backing_fmt=qcow2");
    }
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o %s t.qcow2 %uk", o->str, s->kib);
}

/* Compressed writes, each to a cluster that has nothing yet, as qemu-io demands. */
static inline void shape_fill_compressed(const Shape *s, GString *c, GRand *r)
{
    uint64_t cluster = (uint64_t)1 << s->cluster_bits;
    uint64_t count = ((uint64_t)s->kib << 10) / cluster;
    uint64_t wanted = (uint64_t)g_rand_int_range(r, 0, 12);
    uint64_t writes = s->data_file ? 0 : MIN(wanted, count);
    uint64_t first = writes > 0 ? (uint64_t)g_rand_int_range(r, 0, (int)count) : 0;
    for (uint64_t i = 0; i < writes; i++) {
        g_string_append_printf(c, " -c 'write -q -c -P %d %" PRIu64 " %" PRIu64 "'",
                               g_rand_int_range(r, 1, 255), (first + i) % count * cluster, cluster);
    }
}

/* Then writes, zeroes and discards. */
static inline void shape_print(const Shape *s, unsigned seed)
{
    printf("# seed %u: cluster_size=%u compat=%s %s extended=%d data_file=%d backing=%d "
           "refcount_bits=%u lazy=%d kib=%u\n",
           seed, 1u << s->cluster_bits, s->compat, s->compression, s->extended, s->data_file,
           s->backing, s->refcount_bits, s->lazy, s->kib);
    fflush(stdout);
}

static inline void shape_fill(const Shape *s, const char *dir, GRand *r)
{
    static const char *const operations[] = {"write -q -P", "write -q -P",    "write -q -P",
                                             "discard -q",  "write -q -z -u", "write -q -z"};
    g_autoptr(GString) c = g_string_new(NULL);
    uint64_t size = (uint64_t)s->kib << 10;
    shape_fill_compressed(s, c, r);
    for (int i = g_rand_int_range(r, 4, 24); i > 0; i--) {
        uint64_t at = (uint64_t)g_rand_int_range(r, 0, (int)(size / 512)) * 512;
        uint64_t bytes = (uint64_t)g_rand_int_range(r, 1, 400) * 512;
        int op = g_rand_int_range(r, 0, G_N_ELEMENTS(operations));
        g_string_append_printf(c, " -c '%s ", operations[op]);
        if (op < 3) {
            g_string_append_printf(c, "%d ", g_rand_int_range(r, 1, 255));
        }
        g_string_append_printf(c, "%" PRIu64 " %" PRIu64 "'", at, MIN(bytes, size - at));
    }
    qcow2_shell(dir, "qemu-io -f qcow2 -d unmap %s t.qcow2", c->str);
}

#endif
