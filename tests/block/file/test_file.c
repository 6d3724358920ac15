/* SPDX-License-Identifier: Apache-2.0 */
/* The file driver on every engine, with the page cache and without it. */
/* timeout: 600 */
#include <fcntl.h>
#include <sys/stat.h>
#include "tests/block/block_test.h"

#define DISK_SIZE ((uint64_t)4 << 20)
#define LANES 16u
#define LANE_OPS 60u

static const char *const modes[] = {
    "file.aio=threads,cache.direct=off",  "file.aio=threads,cache.direct=on",
    "file.aio=io_uring,cache.direct=off", "file.aio=io_uring,cache.direct=on",
    "file.aio=native,cache.direct=on",
};
#define MODES G_N_ELEMENTS(modes)

static coroutine_fn RUNS_IN_MAIN BlockBackend *file_blk(const char *path, const char *options)
{
    g_autofree char *text =
        g_strdup_printf("raw,file.driver=file,file.filename=%s,%s", path, options);
    return test_blk("disk", text, strstr(options, "read-only=on") == NULL);
}

/* ---- random requests against a model in memory ---- */

/* Each lane has a separate part of the disk, so that lanes run at the same time and each has its
 * expected data. */
typedef struct Lane {
    BlockBackend *blk;
    GRand *rand;
    uint64_t start, size;
    uint8_t *model;
    uint8_t *buf;
    TestEvent end;
} Lane;

/* With @unaligned: pieces of odd lengths at odd addresses. */
static unsigned lane_iov(Lane *l, uint64_t bytes, bool unaligned, struct iovec *iov, unsigned max)
{
    unsigned n = 0;
    uint64_t done = 0;
    uint8_t *p = l->buf + (unaligned ? g_rand_int_range(l->rand, 0, 64) : 0);
    while (done < bytes) {
        uint64_t step = unaligned ? 7u : 4096u;
        uint64_t len = step * (uint64_t)g_rand_int_range(l->rand, 1, 8);
        len = n + 1 == max ? bytes - done : MIN(len, bytes - done);
        iov[n++] = (struct iovec){p, len};
        p += len;
        done += len;
    }
    return n;
}

static coroutine_fn RUNS_IN_IOTHREAD void lane_write(Lane *l, uint64_t offset, uint64_t bytes,
                                                     bool unaligned)
{
    struct iovec iov[40];
    unsigned n = lane_iov(l, bytes, unaligned, iov, G_N_ELEMENTS(iov));
    test_fill(l->model + offset, bytes, g_rand_int(l->rand));
    iov_copy_from_buf(iov, n, 0, l->model + offset, bytes);
    unsigned flags = g_rand_int_range(l->rand, 0, 8) == 0 ? BLOCK_REQ_FUA : 0;
    assert_int_equal(blk_co_pwritev(l->blk, l->start + offset, bytes, iov, n, flags), 0);
}

static coroutine_fn RUNS_IN_IOTHREAD void lane_check(Lane *l, uint64_t offset, uint64_t bytes,
                                                     bool unaligned)
{
    struct iovec iov[40];
    unsigned n = lane_iov(l, bytes, unaligned, iov, G_N_ELEMENTS(iov));
    g_autofree uint8_t *flat = g_malloc(bytes);
    assert_int_equal(blk_co_preadv(l->blk, l->start + offset, bytes, iov, n, 0), 0);
    iov_copy_to_buf(iov, n, 0, flat, bytes);
    assert_memory_equal(flat, l->model + offset, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD void lane_step(Lane *l)
{
    bool unaligned = g_rand_boolean(l->rand);
    uint64_t unit = unaligned ? 1 : 4096;
    uint64_t offset = unit * (uint64_t)g_rand_int_range(l->rand, 0, (gint32)(l->size / unit));
    uint64_t bytes =
        unit * (uint64_t)g_rand_int_range(l->rand, 0, (gint32)((l->size - offset) / unit) + 1);
    bytes = MIN(bytes, 40 * 4096);
    switch (g_rand_int_range(l->rand, 0, 6)) {
    case 0:
    case 1:
        lane_write(l, offset, bytes, unaligned);
        break;
    case 2:
        assert_int_equal(blk_co_write_zeroes(l->blk, l->start + offset, bytes,
                                             g_rand_boolean(l->rand) ? BLOCK_REQ_MAY_UNMAP : 0),
                         0);
        memset(l->model + offset, 0, bytes);
        break;
    case 3:
        assert_int_equal(blk_co_flush(l->blk), 0);
        break;
    default:
        lane_check(l, offset, bytes, unaligned);
        break;
    }
}

static void lane_run(void *opaque)
{
    Lane *l = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    for (unsigned i = 0; i < LANE_OPS; i++) {
        lane_step(l);
    }
    for (uint64_t at = 0; at < l->size; at += 4096) {
        lane_check(l, at, MIN(4096, l->size - at), false);
    }
    test_event_set(&l->end);
}

static void lane_init(Lane *l, BlockBackend *blk, unsigned index)
{
    /* Odd borders: neighbours share blocks, so that their writes overlap in one. */
    uint64_t size = DISK_SIZE / LANES;
    uint64_t start = index * size + (index > 0 ? 100 : 0);
    uint64_t end = (index + 1) * size + (index + 1 < LANES ? 100 : 0);
    *l = (Lane){.blk = blk, .start = start, .size = end - start};
    l->rand = g_rand_new_with_seed(index + 1);
    l->model = g_malloc0(l->size);
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 4096, 64 * 4096), 0);
    l->buf = p;
}

static coroutine_fn RUNS_IN_MAIN void random_io(const char *mode)
{
    char *path = test_file_new(DISK_SIZE);
    BlockBackend *blk = file_blk(path, mode);
    Lane lanes[LANES];
    for (unsigned i = 0; i < LANES; i++) {
        lane_init(&lanes[i], blk, i);
        co_start(test_home, lane_run, &lanes[i]);
    }
    for (unsigned i = 0; i < LANES; i++) {
        test_event_wait(&lanes[i].end);
        g_rand_free(lanes[i].rand);
        g_free(lanes[i].model);
        free(lanes[i].buf);
    }
    assert_int_equal(blk_in_flight(blk), 0);
    blk_co_free(blk);
    test_file_free(path);
}

BLOCK_TEST(random_requests_read_what_was_written)
{
    for (unsigned i = 0; i < MODES; i++) {
        random_io(modes[i]);
    }
}

BLOCK_TEST(random_requests_read_what_was_written_while_the_loop_polls)
{
    for (unsigned i = 0; i < MODES; i++) {
        random_io(modes[i]);
    }
}

typedef struct Pieces {
    BlockBackend *blk;
    const struct iovec *iov;
    unsigned niov;
    uint64_t bytes;
    int ret;
} Pieces;

static void pieces_write(void *opaque)
{
    Pieces *p = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    p->ret = blk_co_pwritev(p->blk, 4096, p->bytes, p->iov, p->niov, 0);
}

/* Far more pieces than one system call accepts, then lengths that O_DIRECT does not accept. */
BLOCK_TEST(request_of_many_pieces_goes_through)
{
    enum { PIECES = 3000 };
    static struct iovec iov[PIECES];
    uint64_t bytes = PIECES * UINT64_C(512);
    void *data = NULL, *back = NULL;
    assert_int_equal(posix_memalign(&data, 4096, bytes), 0);
    assert_int_equal(posix_memalign(&back, 4096, bytes), 0);
    test_fill(data, bytes, 9);
    for (unsigned i = 0; i < 2 * MODES; i++) {
        bool odd = i % 2 != 0;
        char *path = test_file_new(DISK_SIZE);
        BlockBackend *blk = file_blk(path, modes[i / 2]);
        for (unsigned k = 0; k < PIECES; k++) { /* odd: 513, 511, 513, ... */
            bool second = odd && k % 2 != 0;
            iov[k] = (struct iovec){(uint8_t *)data + k * 512 + (second ? 1 : 0),
                                    512 + (odd ? (second ? -1 : 1) : 0)};
        }
        Pieces p = {.blk = blk, .iov = iov, .niov = PIECES, .bytes = bytes};
        test_in_home(pieces_write, &p);
        assert_int_equal(p.ret, 0);
        assert_int_equal(test_io(blk, TEST_READ, 4096, bytes, back, 0), 0);
        assert_memory_equal(data, back, bytes);
        blk_co_free(blk);
        test_file_free(path);
    }
    free(data);
    free(back);
}

/* ---- ends of files ---- */

BLOCK_TEST(file_that_shrank_reads_zeroes_past_its_end)
{
    for (unsigned i = 0; i < MODES; i++) {
        char *path = test_file_new(65536);
        BlockBackend *blk = file_blk(path, modes[i]);
        uint8_t data[8192];
        memset(data, 0x55, sizeof(data));
        assert_int_equal(test_io(blk, TEST_WRITE, 0, 8192, data, 0), 0);
        assert_int_equal(truncate(path, 5000), 0);
        assert_int_equal(test_io(blk, TEST_READ, 0, 8192, data, 0), 0);
        assert_int_equal(data[4999], 0x55);
        for (unsigned b = 5000; b < 8192; b++) {
            assert_int_equal(data[b], 0);
        }
        assert_int_equal(blk_size(blk), 65536);
        blk_co_free(blk);
        test_file_free(path);
    }
}

BLOCK_TEST(size_is_rounded_up_to_a_sector_whose_rest_is_zero)
{
    for (unsigned i = 0; i < MODES; i++) {
        char *path = test_file_new(1000);
        BlockBackend *blk = file_blk(path, modes[i]);
        uint8_t data[1024];
        memset(data, 0xaa, sizeof(data));
        assert_int_equal(blk_size(blk), 1024);
        assert_int_equal(test_io(blk, TEST_READ, 0, 1024, data, 0), 0);
        assert_int_equal(data[1023], 0);
        memset(data, 0xaa, sizeof(data));
        assert_int_equal(test_io(blk, TEST_WRITE, 512, 512, data, 0), 0);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 1024);
        blk_co_free(blk);
        test_file_free(path);
    }
}

/* O_DIRECT reads the existing part of a block. */
BLOCK_TEST(a_file_that_ends_inside_a_block_is_read_past_the_page_cache)
{
    char *path = test_file_new(5000);
    static const char *const engines[] = {"threads", "native", "io_uring"};
    for (unsigned i = 0; i < G_N_ELEMENTS(engines); i++) {
        g_autofree char *text = g_strdup_printf(
            "file,filename=%s,read-only=on,cache.direct=on,aio=%s", path, engines[i]);
        BlockBackend *blk = test_blk("d", text, false);
        uint8_t data[5120];
        memset(data, 0xaa, sizeof(data));
        assert_int_equal(blk_size(blk), sizeof(data));
        assert_int_equal(test_io(blk, TEST_READ, 0, sizeof(data), data, 0), 0);
        for (unsigned b = 0; b < sizeof(data); b++) {
            assert_int_equal(data[b], 0);
        }
        blk_co_free(blk);
    }
    test_file_free(path);
}

/* More requests than an engine submits or reaps at a time. */
BLOCK_TEST(hundreds_of_requests_at_once_all_complete)
{
    enum { COUNT = 600 };
    TestRequest *r = g_new(TestRequest, COUNT);
    uint8_t *data = aligned_alloc(4096, 4096);
    char *path = test_file_new(DISK_SIZE);
    for (unsigned mode = 0; mode < MODES; mode++) {
        BlockBackend *blk = file_blk(path, modes[mode]);
        for (unsigned i = 0; i < COUNT; i++) {
            r[i] = (TestRequest){
                .blk = blk, .op = TEST_READ, .offset = i * 4096, .bytes = 4096, .buf = data};
            test_start(&r[i]);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            assert_int_equal(test_finish(&r[i]), 0);
        }
        assert_int_equal(blk_in_flight(blk), 0);
        blk_co_free(blk);
    }
    test_file_free(path);
    free(data);
    g_free(r);
}

BLOCK_TEST(requests_beyond_the_end_are_refused)
{
    char *path = test_file_new(65536);
    BlockBackend *blk = file_blk(path, modes[0]);
    uint8_t data[1024] = {0};
    assert_int_equal(test_io(blk, TEST_READ, 65536 - 512, 1024, data, 0), -EINVAL);
    assert_int_equal(test_io(blk, TEST_WRITE, 65536, 512, data, 0), -EINVAL);
    assert_int_equal(test_io(blk, TEST_READ, UINT64_MAX, 512, data, 0), -EINVAL);
    assert_int_equal(test_io(blk, TEST_DISCARD, 512, UINT64_MAX, NULL, 0), -EINVAL);
    assert_int_equal(test_io(blk, TEST_ZERO, UINT64_MAX - 511, 512, NULL, 0), -EINVAL);
    assert_int_equal(test_io(blk, TEST_READ, 65536, 0, data, 0), 0);
    assert_int_equal(test_io(blk, TEST_WRITE, 65537, 0, data, 0), -EINVAL);
    blk_co_free(blk);
    test_file_free(path);
}

BLOCK_TEST(read_only_backend_refuses_every_change)
{
    char *path = test_file_new(65536);
    BlockBackend *blk = file_blk(path, "read-only=on");
    uint8_t data[512] = {0};
    assert_true(blk_read_only(blk));
    assert_int_equal(test_io(blk, TEST_READ, 0, 512, data, 0), 0);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 512, data, 0), -EPERM);
    assert_int_equal(test_io(blk, TEST_DISCARD, 0, 512, NULL, 0), -EPERM);
    assert_int_equal(test_io(blk, TEST_ZERO, 0, 512, NULL, 0), -EPERM);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    blk_co_free(blk);
    test_file_free(path);
}

/* ---- holes and sizes ---- */

static uint64_t file_allocated(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

BLOCK_TEST(discard_frees_blocks_when_unmap_is_requested)
{
    g_autofree uint8_t *data = g_malloc(1 << 20);
    memset(data, 1, 1 << 20);
    static const char *const options[] = {"discard=unmap", "discard=ignore"};
    for (unsigned i = 0; i < 2; i++) {
        char *path = test_file_new(1 << 20);
        BlockBackend *blk = file_blk(path, options[i]);
        assert_int_equal(blk_limits(blk).max_discard != 0, i == 0);
        assert_int_equal(test_io(blk, TEST_WRITE, 0, 1 << 20, data, 0), 0);
        assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
        uint64_t before = file_allocated(path);
        assert_int_equal(test_io(blk, TEST_DISCARD, 0, 1 << 20, NULL, 0), 0);
        assert_int_equal(file_allocated(path) < before, i == 0);
        blk_co_free(blk);
        test_file_free(path);
    }
}

BLOCK_TEST(truncate_changes_size_and_file)
{
    char *path = test_file_new(65536);
    BlockBackend *blk = file_blk(path, modes[0]);
    GError *error = NULL;
    assert_int_equal(blk_co_truncate(blk, 131072, &error), 0);
    assert_int_equal(blk_size(blk), 131072);
    uint8_t data[512];
    memset(data, 3, sizeof(data));
    assert_int_equal(test_io(blk, TEST_WRITE, 131072 - 512, 512, data, 0), 0);
    assert_int_equal(blk_co_truncate(blk, 512, &error), 0);
    assert_int_equal(test_io(blk, TEST_READ, 512, 512, data, 0), -EINVAL);
    assert_int_equal(blk_co_truncate(blk, 1000, &error), -EINVAL);
    assert_non_null(error);
    g_clear_error(&error);
    blk_co_free(blk);
    test_file_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_requests_read_what_was_written),
        cmocka_unit_test(request_of_many_pieces_goes_through),
        cmocka_unit_test(hundreds_of_requests_at_once_all_complete),
        cmocka_unit_test(file_that_shrank_reads_zeroes_past_its_end),
        cmocka_unit_test(size_is_rounded_up_to_a_sector_whose_rest_is_zero),
        cmocka_unit_test(a_file_that_ends_inside_a_block_is_read_past_the_page_cache),
        cmocka_unit_test(requests_beyond_the_end_are_refused),
        cmocka_unit_test(read_only_backend_refuses_every_change),
        cmocka_unit_test(discard_frees_blocks_when_unmap_is_requested),
        cmocka_unit_test(truncate_changes_size_and_file),
    };
    const struct CMUnitTest polled[] = {
        cmocka_unit_test(random_requests_read_what_was_written_while_the_loop_polls),
    };
    int failed = block_test_main(tests);
    test_poll_ns = 100000;
    return failed != 0 ? failed : block_test_main(polled);
}
