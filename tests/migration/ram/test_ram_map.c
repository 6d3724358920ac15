/* SPDX-License-Identifier: Apache-2.0 */
/* RAM that is a private mapping of its image: it has the image's contents, the file never has what is written to it,
 * and pages that are given back read as zeroes. */
#include <fcntl.h>
#include "tests/migration/ram/ram_test.h"

#define BYTES (UINT64_C(16) << 20)
#define ALL (RAM_TEST_LOW + RAM_TEST_HIGH)

typedef struct MapCall {
    BlockBackend *blk;
    GuestRam *ram;
    int fd;
    bool ok;
    GError *error;
} MapCall;

static void map_at_home(void *opaque)
{
    MapCall *c = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    c->ok = ram_image_co_map(c->blk, c->fd, RAM_TEST_OFFSET, c->ram, &c->error);
}

static int discard_in_worker(void *opaque)
{
    enter_worker();
    RamTest *t = opaque;
    return guest_ram_discard(&t->ram, 0, RAM_TEST_LOW / 2);
}

/* Saves @t to a new file, which is opened for reading. */
static coroutine_fn RUNS_IN_MAIN MapCall map_new(RamTest *t, char **path)
{
    *path = test_file_new(BYTES);
    g_autofree char *text = g_strdup_printf("raw,file.driver=file,file.filename=%s", *path);
    BlockBackend *blk = test_blk("w", text, true);
    assert_int_equal(ram_test_save(blk, t), 0);
    blk_co_free(blk);
    g_autofree char *reads = g_strconcat(text, ",read-only=on", NULL);
    MapCall c = {.blk = test_blk("r", reads, false), .fd = open(*path, O_RDONLY | O_CLOEXEC)};
    assert_true(c.fd >= 0);
    return c;
}

BLOCK_TEST(mapped_memory_is_the_image_until_it_is_written)
{
    RamTest saved, a, b;
    char *path;
    ram_test_init(&saved);
    ram_test_init(&a);
    ram_test_init(&b);
    ram_test_fill(&saved, 1);
    ram_test_fill(&a, 2);
    MapCall c = map_new(&saved, &path);
    c.ram = &a.ram;
    co_call_in(test_home, map_at_home, &c);
    assert_true(c.ok);
    assert_true(ram_test_equal(&a, &saved));
    memset(a.host + 4096, 0x5a, 8192); /* only in @a */
    c.ram = &b.ram;
    co_call_in(test_home, map_at_home, &c);
    assert_true(c.ok);
    assert_true(ram_test_equal(&b, &saved));
    assert_false(ram_test_equal(&a, &saved));
    g_autofree uint8_t *zeroes = g_malloc0(RAM_TEST_LOW / 2);
    assert_int_equal(co_run_in_worker(discard_in_worker, &a), 0);
    assert_memory_equal(a.host, zeroes, RAM_TEST_LOW / 2);
    assert_memory_equal(a.host + RAM_TEST_LOW / 2, saved.host + RAM_TEST_LOW / 2,
                        ALL - RAM_TEST_LOW / 2);
    close(c.fd);
    blk_co_free(c.blk);
    assert_true(ram_test_equal(&b, &saved)); /* the mapping keeps the file */
    test_file_free(path);
    ram_test_clear(&saved);
    ram_test_clear(&a);
    ram_test_clear(&b);
}

/* Memory that has a descriptor is shared with others, and ROM has its own place: their contents are read. */
BLOCK_TEST(memory_of_others_is_read)
{
    RamTest saved, a;
    char *path;
    ram_test_init(&saved);
    ram_test_init(&a);
    ram_test_fill(&saved, 1);
    MapCall c = map_new(&saved, &path);
    a.ram.blocks[0].fd = 0; /* only its sign counts */
    c.ram = &a.ram;
    co_call_in(test_home, map_at_home, &c);
    assert_true(c.ok);
    assert_true(ram_test_equal(&a, &saved));
    assert_false(a.ram.blocks[0].of_file);
    assert_true(a.ram.blocks[1].of_file);
    close(c.fd);
    blk_co_free(c.blk);
    test_file_free(path);
    ram_test_clear(&saved);
    ram_test_clear(&a);
}

BLOCK_TEST(a_damaged_image_is_not_mapped)
{
    RamTest saved, a, before;
    char *path;
    ram_test_init(&saved);
    ram_test_init(&a);
    ram_test_init(&before);
    ram_test_fill(&saved, 1);
    ram_test_fill(&a, 2);
    ram_test_fill(&before, 2);
    MapCall c = map_new(&saved, &path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, RAM_TEST_OFFSET + 100), 1);
    close(fd);
    c.ram = &a.ram;
    co_call_in(test_home, map_at_home, &c);
    assert_false(c.ok);
    assert_non_null(c.error);
    g_clear_error(&c.error);
    assert_true(ram_test_equal(&a, &before));
    assert_false(a.ram.blocks[0].of_file);
    close(c.fd);
    blk_co_free(c.blk);
    test_file_free(path);
    ram_test_clear(&saved);
    ram_test_clear(&a);
    ram_test_clear(&before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mapped_memory_is_the_image_until_it_is_written),
        cmocka_unit_test(memory_of_others_is_read),
        cmocka_unit_test(a_damaged_image_is_not_mapped),
    };
    return block_test_main(tests);
}
