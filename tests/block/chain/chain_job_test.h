/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of jobs on chains: a chain of images with data in each, below a guest's disk. */
#ifndef SKIFF_TESTS_BLOCK_CHAIN_CHAIN_JOB_TEST_H
#define SKIFF_TESTS_BLOCK_CHAIN_CHAIN_JOB_TEST_H

#include "tests/block/chain/chain_test.h"
#include "tests/block/job/job_test.h"

#define CHAIN_MAX 5u

/* images[0] is the base, nodes[count - 1] the guest's disk. */
typedef struct Chain {
    char *paths[CHAIN_MAX];
    BlockNode *nodes[CHAIN_MAX]; /* borrowed */
    unsigned count;
    BlockBackend *blk;
    uint8_t *content; /* of the disk when it was opened */
} Chain;

/* Image i has the byte i + 1 where the number of the 64 KiB has bit i set, zeroes where it has bit i + 6
 * set instead. */
static inline void chain_fill(const Chain *c, unsigned i)
{
    g_autoptr(GString) commands = g_string_new(NULL);
    for (unsigned at = 0; at < CHAIN_SIZE / 65536; at++) {
        if ((at >> i & 1) != 0 && at % 8 != 7) {
            g_string_append_printf(commands, " -c 'write -q -P %u %u 60k'", i + 1, at * 65536);
        } else if ((at >> (i + 2) & 1) != 0 && at % 8 != 7) {
            g_string_append_printf(commands, " -c 'write -q -z %u 64k'", at * 65536);
        }
    }
    assert_int_equal(shell("qemu-io -t unsafe -f qcow2 %s %s", commands->str, c->paths[i]), 0);
}

static inline coroutine_fn RUNS_IN_MAIN uint8_t *chain_content(BlockBackend *blk)
{
    uint8_t *content = g_malloc(CHAIN_SIZE);
    job_read(blk, 0, CHAIN_SIZE, content);
    return content;
}

static inline coroutine_fn RUNS_IN_MAIN void chain_find_nodes(Chain *c)
{
    BlockNode *n = blk_root(c->blk);
    for (unsigned i = c->count; i-- > 0; n = n->backing) {
        c->nodes[i] = n;
    }
    assert_null(n);
}

/* @file: the options of the base's file, with its name for "@"; NULL: a plain file. */
static inline coroutine_fn RUNS_IN_MAIN void chain_open_with(Chain *c, unsigned count,
                                                             const char *file)
{
    *c = (Chain){.count = count};
    for (unsigned i = 0; i < count; i++) {
        c->paths[i] = chain_image(i > 0 ? c->paths[i - 1] : NULL);
        chain_fill(c, i);
    }
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GString) prefix = g_string_new("");
    for (unsigned i = count; i-- > 0;) {
        g_string_append_printf(text, "%s%sdriver=qcow2,%snode-name=n%u,", text->len > 0 ? "" : "",
                               prefix->str, prefix->str, i);
        if (i == 0 && file != NULL) {
            g_auto(GStrv) parts = g_strsplit(file, "@", -1);
            g_autofree char *options = g_strjoinv(c->paths[i], parts);
            g_auto(GStrv) each = g_strsplit(options, ",", -1);
            for (char **option = each; *option != NULL; option++) {
                g_string_append_printf(text, "%sfile.%s,", prefix->str, *option);
            }
        } else {
            g_string_append_printf(text, "%sfile.driver=file,%sfile.filename=%s,", prefix->str,
                                   prefix->str, c->paths[i]);
        }
        g_string_append(prefix, "backing.");
    }
    c->blk = test_blk("guest", text->str, true);
    chain_find_nodes(c);
    c->content = chain_content(c->blk);
}

static inline coroutine_fn RUNS_IN_MAIN void chain_open(Chain *c, unsigned count)
{
    chain_open_with(c, count, NULL);
}

/* The disk has the same content as at first, in skiff and in QEMU; the images are consistent. */
static inline coroutine_fn RUNS_IN_MAIN void chain_close(Chain *c)
{
    g_autofree uint8_t *content = chain_content(c->blk);
    assert_memory_equal(content, c->content, CHAIN_SIZE);
    blk_co_free(c->blk);
    test_settle();
    char *raw = test_file_new(0);
    FILE *f = fopen(raw, "w");
    assert_int_equal(fwrite(content, 1, CHAIN_SIZE, f), CHAIN_SIZE);
    fclose(f);
    assert_int_equal(
        shell("qemu-img compare -q -f raw -F qcow2 %s %s", raw, c->paths[c->count - 1]), 0);
    test_file_free(raw);
    for (unsigned i = 0; i < c->count; i++) {
        assert_int_equal(shell("qemu-img check -q %s", c->paths[i]), 0);
    }
    for (unsigned i = 0; i < c->count; i++) {
        test_file_free(c->paths[i]);
    }
    g_free(c->content);
}

/* What is in the header of image @path. NULL: nothing. */
static inline void chain_assert_backing(const char *path, const char *backing)
{
    int ret = backing != NULL ? shell("qemu-img info -U %s | grep -qE '^backing file: %s( \\(|$)'",
                                      path, backing)
                              : shell("! qemu-img info -U %s | grep -q '^backing file'", path);
    if (ret != 0) {
        shell("qemu-img info -U %s", path);
        fail_msg("the backing file is not '%s'", backing != NULL ? backing : "none");
    }
}

static inline void chain_expect(GError *error, const char *says)
{
    assert_non_null(error);
    if (strstr(error->message, says) == NULL) {
        fail_msg("the error '%s' does not say '%s'", error->message, says);
    }
    g_error_free(error);
}

/* The chain is as it was opened. */
static inline coroutine_fn RUNS_IN_MAIN void chain_assert_unchanged(const Chain *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        assert_ptr_equal(c->nodes[i]->backing, i > 0 ? c->nodes[i - 1] : NULL);
        assert_int_equal(block_node_read_only(c->nodes[i]), i + 1 < c->count);
        assert_false(c->nodes[i]->hidden);
        assert_int_equal(c->nodes[i]->track.users, 0);
        chain_assert_backing(c->paths[i], i > 0 ? c->paths[i - 1] : NULL);
    }
    assert_ptr_equal(blk_root(c->blk), c->nodes[c->count - 1]);
}

#endif
