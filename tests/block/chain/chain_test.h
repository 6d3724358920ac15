/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of chains: files, disks on them, writers that verify what they have written. */
#ifndef SKIFF_TESTS_BLOCK_CHAIN_CHAIN_TEST_H
#define SKIFF_TESTS_BLOCK_CHAIN_CHAIN_TEST_H

#include "block/graph.h"
#include "tests/block/block_test.h"
#include "tests/support/shell.h"

#define CHAIN_SIZE ((uint64_t)4 << 20)

/* A name in the build tree that no file has. */
static inline char *chain_path(void)
{
    char *path = test_file_new(0);
    unlink(path);
    char *absolute = g_canonicalize_filename(path, NULL);
    g_free(path);
    return absolute;
}

/* An empty qcow2 image, above @backing unless that is NULL. */
static inline char *chain_image(const char *backing)
{
    char *path = chain_path();
    g_autofree char *over =
        backing != NULL ? g_strdup_printf("-b %s -F qcow2", backing) : g_strdup("");
    assert_int_equal(
        shell("qemu-img create -q -f qcow2 %s %s %u", over, path, (unsigned)CHAIN_SIZE), 0);
    return path;
}

static inline coroutine_fn RUNS_IN_MAIN BlockBackend *chain_disk(const char *format,
                                                                 const char *path)
{
    g_autofree char *text = g_strdup_printf(
        "%s,node-name=disk,file.driver=file,file.node-name=disk-file,file.filename=%s", format,
        path);
    return test_blk("d", text, true);
}

static inline coroutine_fn RUNS_IN_MAIN void chain_write(BlockBackend *blk, uint64_t offset,
                                                         uint8_t value)
{
    static uint8_t buf[65536];
    memset(buf, value, sizeof(buf));
    assert_int_equal(test_io(blk, TEST_WRITE, offset, sizeof(buf), buf, 0), 0);
}

static inline coroutine_fn RUNS_IN_MAIN uint8_t chain_read(BlockBackend *blk, uint64_t offset)
{
    static uint8_t buf[512];
    assert_int_equal(test_io(blk, TEST_READ, offset, sizeof(buf), buf, 0), 0);
    return buf[0];
}

/* The byte at @offset of the raw file @path. */
static inline uint8_t chain_byte(const char *path, uint64_t offset)
{
    uint8_t byte = 0;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)offset, SEEK_SET), 0);
    assert_int_equal(fread(&byte, 1, 1, f), 1);
    fclose(f);
    return byte;
}

/* ---- a guest: writes and reads back, until it is stopped ---- */

typedef struct ChainGuest {
    BlockBackend *blk;
    uint64_t offset; /* of its 64 KiB */
    _Atomic bool stop;
    unsigned rounds;
    uint8_t data[65536]; /* what the disk has there */
    TestEvent end;
} ChainGuest;

static inline void chain_guest_run(void *opaque)
{
    ChainGuest *g = opaque;
    uint8_t in[4096];
    struct iovec iov_in = {in, sizeof(in)};
    enter_coroutine();
    enter_iothread(test_home);
    while (!atomic_load(&g->stop)) {
        uint64_t at = (uint64_t)(g->rounds * 7 % 16) * 4096;
        struct iovec iov = {g->data + at, 4096};
        test_fill(g->data + at, 4096, ++g->rounds * 31 + (unsigned)g->offset);
        assert_int_equal(blk_co_pwritev(g->blk, g->offset + at, 4096, &iov, 1, 0), 0);
        uint64_t back = (uint64_t)(g->rounds * 5 % 16) * 4096;
        assert_int_equal(blk_co_preadv(g->blk, g->offset + back, 4096, &iov_in, 1, 0), 0);
        assert_memory_equal(in, g->data + back, 4096);
    }
    test_event_set(&g->end);
}

static inline RUNS_IN_MAIN void chain_guest_start(ChainGuest *g, BlockBackend *blk, unsigned index)
{
    *g = (ChainGuest){.blk = blk, .offset = index * 65536u};
    co_start(test_home, chain_guest_run, g);
}

static inline coroutine_fn RUNS_IN_MAIN void chain_guest_stop(ChainGuest *g)
{
    static uint8_t buf[65536];
    atomic_store(&g->stop, true);
    test_event_wait(&g->end);
    assert_true(g->rounds > 0);
    assert_int_equal(test_io(g->blk, TEST_READ, g->offset, sizeof(buf), buf, 0), 0);
    assert_memory_equal(buf, g->data, sizeof(buf));
}

#endif
