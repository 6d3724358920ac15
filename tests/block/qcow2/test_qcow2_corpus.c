/* SPDX-License-Identifier: Apache-2.0 */
/* Generated images with one damage each, in every field of every structure: an error in one line, or
 * a disk that can be used; never a crash, a hang, or memory without a bound. */
#include <sys/resource.h>
#include "tests/block/qcow2/qcow2_corpus.h"
#include "util/log.h"

/* More than a check may use, and what the process has already. Sanitizers reserve much more. */
#define CORPUS_MEMORY_MAX ((uint64_t)3 << 30)

static void corpus_limit_memory(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    g_autofree char *text = NULL;
    unsigned long pages = 0;
    assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    assert_int_equal(sscanf(text, "%lu", &pages), 1);
    rlim_t limit = pages * (rlim_t)sysconf(_SC_PAGESIZE) + CORPUS_MEMORY_MAX;
    struct rlimit rl = {limit, limit};
    assert_int_equal(setrlimit(RLIMIT_AS, &rl), 0);
#endif
}

BLOCK_TEST(the_generated_images_are_good)
{
    char *dir = qcow2_dir_new();
    for (int extended = 0; extended < 2; extended++) {
        Corpus c;
        corpus_make(&c, extended);
        g_autofree char *path = g_build_filename(dir, "t.qcow2", NULL);
        assert_true(g_file_set_contents(path, (const char *)c.bytes, (gssize)c.size, NULL));
        qcow2_shell(dir, "qemu-img check t.qcow2");
        qcow2_check_image(dir, "t.qcow2", "");
        CorpusRun r = {.what = "good", .file = corpus_load(c.bytes, c.size)};
        assert_true(corpus_check(&r, 0));
        blk_co_free(r.file);
        corpus_clear(&c);
    }
    qcow2_dir_free(dir);
}

/* ---- fields ---- */

static coroutine_fn RUNS_IN_MAIN void corpus_try_value(Corpus *c, const CorpusField *f,
                                                       uint64_t value)
{
    uint64_t old = corpus_get(c, f->at, f->width);
    uint64_t mask = UINT64_MAX >> (64 - 8 * f->width);
    g_autofree char *what = g_strdup_printf("cluster size %zu: 0x%" PRIx64 " at 0x%zx", c->cluster,
                                            value & mask, f->at);
    if ((value & mask) != old) {
        corpus_set(c, f->at, f->width, value);
        corpus_try(c->bytes, c->size, what);
        corpus_try_writing(c->bytes, c->size, what);
        corpus_set(c, f->at, f->width, old);
    }
}

static coroutine_fn RUNS_IN_MAIN void corpus_try_field(Corpus *c, const CorpusField *f)
{
    uint64_t old = corpus_get(c, f->at, f->width), high = (uint64_t)1 << (8 * f->width - 1);
    const uint64_t values[] = {0,        1,          old - 1,    old + 1,        2 * old,
                               old << 4, high,       high - 1,   high + 1,       ~old,
                               old | 1,  old ^ high, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 511};
    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        corpus_try_value(c, f, values[i]);
    }
}

static coroutine_fn RUNS_IN_MAIN void corpus_each_field(bool extended)
{
    Corpus c;
    corpus_make(&c, extended);
    for (unsigned i = 0; i < c.fields->len; i++) {
        corpus_try_field(&c, &g_array_index(c.fields, CorpusField, i));
    }
    corpus_clear(&c);
}

BLOCK_TEST(each_field_at_its_limits)
{
    corpus_each_field(false);
}

BLOCK_TEST(each_field_at_its_limits_with_extended_entries)
{
    corpus_each_field(true);
}

/* Each offset names each cluster, with the flags that entries can have: structures overlap, contain
 * each other, and lie at the file's end. */
BLOCK_TEST(each_offset_names_each_cluster)
{
    static const uint64_t flags[] = {0, QCOW2_ENTRY_COPIED, QCOW2_ENTRY_COMPRESSED,
                                     QCOW2_ENTRY_ZERO, 512};
    Corpus c;
    corpus_make(&c, false);
    for (unsigned i = 0; i < c.fields->len; i++) {
        const CorpusField *f = &g_array_index(c.fields, CorpusField, i);
        for (uint64_t cluster = 0; f->width == 8 && cluster < CORPUS_CLUSTERS + 2; cluster++) {
            for (size_t j = 0; j < G_N_ELEMENTS(flags); j++) {
                corpus_try_value(&c, f, cluster * c.cluster | flags[j]);
            }
        }
    }
    corpus_clear(&c);
}

/* The guest's disk has a cluster of metadata, and the refcounts count both references. */
BLOCK_TEST(an_overlap_with_right_refcounts_is_found)
{
    for (unsigned cluster = 0; cluster < CORPUS_DATA2; cluster++) {
        Corpus c;
        corpus_make(&c, false);
        size_t counts = CORPUS_BLOCK * c.cluster;
        corpus_set(&c, CORPUS_L2 * c.cluster + 3 * 8, 8, cluster * c.cluster);
        corpus_set(&c, counts + CORPUS_DATA2 * 2, 2, 0);
        corpus_set(&c, counts + cluster * 2, 2, cluster == CORPUS_DATA ? 3 : 2);
        CorpusRun r = {.what = "overlap", .file = corpus_load(c.bytes, c.size)};
        bool is_data =
            cluster == CORPUS_DATA || cluster == CORPUS_COMPRESSED || cluster == CORPUS_STATE;
        bool none = cluster == CORPUS_HEADER; /* the offset 0 is no cluster */
        corpus_check(&r, 0);
        assert_int_equal(r.ret, 0);
        assert_int_equal(r.check.result.corruptions > 0, !is_data && !none);
        assert_int_equal(r.check.result.leaks, none ? 1 : 0);
        corpus_check(&r, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS); /* replaces refcount blocks only */
        bool repaired = is_data || none || cluster == CORPUS_BLOCK;
        assert_int_equal(r.check.result.corruptions > 0, !repaired);
        blk_co_free(r.file);
        corpus_clear(&c);
    }
}

BLOCK_TEST(the_file_ends_in_each_structure)
{
    Corpus c;
    corpus_make(&c, true);
    for (size_t size = 512; size < c.size; size += size < c.cluster ? 512 : c.cluster / 2) {
        g_autofree char *what = g_strdup_printf("%zu bytes", size);
        corpus_try(c.bytes, size, what);
        corpus_try_writing(c.bytes, size, what);
    }
    corpus_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_generated_images_are_good),
        cmocka_unit_test(each_field_at_its_limits),
        cmocka_unit_test(each_field_at_its_limits_with_extended_entries),
        cmocka_unit_test(each_offset_names_each_cluster),
        cmocka_unit_test(an_overlap_with_right_refcounts_is_found),
        cmocka_unit_test(the_file_ends_in_each_structure),
    };
    corpus_limit_memory();
    assert_true(log_open("/dev/null", false)); /* thousands of warnings */
    return block_test_main(tests);
}
