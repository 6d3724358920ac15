/* SPDX-License-Identifier: Apache-2.0 */
/* The room that a file has behind the last cluster while its image is written to. */
#include <sys/stat.h>
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_test.h"

#define ROOM_CLUSTER 65536u

static coroutine_fn RUNS_IN_MAIN BlockBackend *room_open(const char *dir, const char *name)
{
    g_autofree char *text = g_strdup_printf(
        "qcow2,node-name=q,file.driver=file,file.node-name=p,file.filename=%s/%s", dir, name);
    return test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN void room_write(BlockBackend *blk, unsigned cluster)
{
    g_autofree uint8_t *buf = g_malloc(ROOM_CLUSTER);
    memset(buf, (int)cluster + 1, ROOM_CLUSTER);
    assert_int_equal(
        test_io(blk, TEST_WRITE, (uint64_t)cluster * ROOM_CLUSTER, ROOM_CLUSTER, buf, 0), 0);
}

static RUNS_IN_MAIN uint64_t room_size(void)
{
    return block_node_size(block_node_find("p"));
}

static struct stat room_stat(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st;
}

BLOCK_TEST(the_file_grows_ahead_of_writes_and_is_cut_at_the_end)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 64M");
    uint64_t empty = (uint64_t)room_stat(dir, "t.qcow2").st_size;
    BlockBackend *blk = room_open(dir, "t.qcow2");
    room_write(blk, 0);
    uint64_t size = room_size();
    assert_in_range(size, empty + QCOW2_ROOM, empty + QCOW2_ROOM + 8 * ROOM_CLUSTER);
    for (unsigned i = 1; i < 16; i++) {
        room_write(blk, i);
        assert_int_equal(room_size(), size); /* no write extends the file */
    }
    blk_co_free(blk);
    assert_in_range(room_stat(dir, "t.qcow2").st_size, empty + 16 * ROOM_CLUSTER,
                    empty + 24 * ROOM_CLUSTER);
    qcow2_shell(dir, "qemu-img check -q t.qcow2");
    qcow2_dir_free(dir);
}

/* The copy is what a process leaves that is killed after a flush. */
BLOCK_TEST(the_room_of_a_process_that_was_killed_is_used_by_the_next)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir, "qemu-img create -q -f qcow2 t.qcow2 64M");
    BlockBackend *blk = room_open(dir, "t.qcow2");
    room_write(blk, 0);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    qcow2_shell(dir, "cp --sparse=always t.qcow2 killed.qcow2 && qemu-img check -q killed.qcow2");
    blk_co_free(blk);
    struct stat before = room_stat(dir, "killed.qcow2");
    blk = room_open(dir, "killed.qcow2");
    for (unsigned i = 1; i < 16; i++) {
        room_write(blk, i);
    }
    assert_int_equal(room_size(), before.st_size);
    blk_co_free(blk);
    assert_in_range(room_stat(dir, "killed.qcow2").st_size, 0, before.st_size);
    assert_in_range(room_stat(dir, "killed.qcow2").st_blocks * 512, 16 * ROOM_CLUSTER,
                    32 * ROOM_CLUSTER); /* it is a hole */
    qcow2_shell(dir, "qemu-img check -q killed.qcow2");
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_grows_ahead_of_writes_and_is_cut_at_the_end),
        cmocka_unit_test(the_room_of_a_process_that_was_killed_is_used_by_the_next),
    };
    return block_test_main(tests);
}
