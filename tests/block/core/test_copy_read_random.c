/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-read under random requests, compared with a plain model. Lanes run at once; the sectors of
 * a cluster belong to different lanes, so copies and changes of others meet in each cluster, while
 * each lane has an exact model of its own sectors.
 */
#include "tests/block/qcow2/qcow2_test.h"

#define RANDOM_SECTOR 512u
#define RANDOM_SECTORS 1024u
#define RANDOM_SIZE (RANDOM_SECTORS * RANDOM_SECTOR)
#define RANDOM_LANES 8u
#define RANDOM_OPERATIONS 250u /* of each lane */

typedef struct Lane {
    BlockBackend *blk;
    GRand *rand;
    uint8_t *model; /* of the whole disk; the lane uses its own sectors */
    unsigned number, *left;
    TestEvent *done;
    uint8_t buf[RANDOM_SIZE];
} Lane;

static bool lane_owns(const Lane *l, unsigned sector)
{
    return sector % RANDOM_LANES == l->number;
}

static void lane_check(const Lane *l, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *got = l->buf + i * RANDOM_SECTOR;
        if (lane_owns(l, first + i) &&
            memcmp(got, l->model + (first + i) * RANDOM_SECTOR, RANDOM_SECTOR) != 0) {
            fail_msg("sector %u has other data than the model: %#x", first + i, got[0]);
        }
    }
}

static coroutine_fn RUNS_IN_IOTHREAD void lane_read(Lane *l, unsigned first, unsigned count)
{
    struct iovec iov = {l->buf, count * RANDOM_SECTOR};
    uint64_t offset = (uint64_t)first * RANDOM_SECTOR;
    assert_int_equal(blk_co_preadv(l->blk, offset, iov.iov_len, &iov, 1, 0), 0);
    lane_check(l, first, count);
}

static coroutine_fn RUNS_IN_IOTHREAD void lane_change(Lane *l, unsigned sector, bool zero)
{
    uint8_t data[RANDOM_SECTOR];
    struct iovec iov = {data, sizeof(data)};
    uint64_t offset = (uint64_t)sector * RANDOM_SECTOR;
    memset(data, zero ? 0 : g_rand_int_range(l->rand, 1, 256), sizeof(data));
    int ret = zero ? blk_co_write_zeroes(l->blk, offset, sizeof(data), BLOCK_REQ_MAY_UNMAP)
                   : blk_co_pwritev(l->blk, offset, sizeof(data), &iov, 1, 0);
    assert_int_equal(ret, 0);
    memcpy(l->model + offset, data, sizeof(data));
}

static void lane_run(void *opaque)
{
    Lane *l = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    for (unsigned i = 0; i < RANDOM_OPERATIONS; i++) {
        unsigned sector = (unsigned)g_rand_int_range(l->rand, 0, RANDOM_SECTORS);
        unsigned own = sector / RANDOM_LANES * RANDOM_LANES + l->number;
        switch (g_rand_int_range(l->rand, 0, 8)) {
        case 0:
            lane_read(l, sector, MIN(64, RANDOM_SECTORS - sector));
            break;
        case 1:
        case 2:
        case 3:
            lane_read(l, own, 1);
            break;
        case 4:
            lane_change(l, own, true);
            break;
        case 5:
            assert_int_equal(blk_co_flush(l->blk), 0);
            break;
        default:
            lane_change(l, own, false);
        }
    }
    lane_read(l, 0, RANDOM_SECTORS);
    if (--*l->left == 0) {
        test_event_set(l->done);
    }
}

static coroutine_fn RUNS_IN_MAIN void random_run(GRand *rand, BlockBackend *blk, uint8_t *model)
{
    Lane *lanes = g_new0(Lane, RANDOM_LANES);
    unsigned left = RANDOM_LANES;
    TestEvent done = {0};
    for (unsigned i = 0; i < RANDOM_LANES; i++) {
        lanes[i] = (Lane){.blk = blk, .model = model, .number = i, .left = &left, .done = &done};
        lanes[i].rand = g_rand_new_with_seed(g_rand_int(rand));
    }
    for (unsigned i = 0; i < RANDOM_LANES; i++) {
        co_start(test_home, lane_run, &lanes[i]);
    }
    test_event_wait(&done);
    for (unsigned i = 0; i < RANDOM_LANES; i++) {
        g_rand_free(lanes[i].rand);
    }
    g_free(lanes);
}

/* One image: @options of qemu-img, with copy-on-read by the node itself or by the filter. */
static coroutine_fn RUNS_IN_MAIN void random_image(GRand *rand, const char *options, bool filter)
{
    GError *error = NULL;
    char *dir = qcow2_dir_new();
    g_autofree char *base = g_build_filename(dir, "base", NULL);
    g_autofree char *result = g_build_filename(dir, "model", NULL);
    g_autofree uint8_t *model = g_malloc(RANDOM_SIZE);
    test_fill(model, RANDOM_SIZE, g_rand_int(rand));
    memset(model + RANDOM_SIZE / 4, 0, RANDOM_SIZE / 4);
    assert_true(g_file_set_contents(base, (char *)model, RANDOM_SIZE, NULL));
    qcow2_shell(dir, "qemu-img create -q -f qcow2 -o %s -b base -F raw top", options);
    g_autofree char *text = g_strdup_printf(
        "qcow2,node-name=t,discard=unmap,file.driver=file,file.filename=%s/top", dir);
    BlockNode *top = test_node_add(text);
    BlockBackend *blk;
    if (filter) {
        blk = test_blk("d", "copy-on-read,discard=unmap,file=t", true);
    } else {
        assert_true(block_node_co_set_copy_on_read(top, &error));
        blk = blk_co_new("d", top, true, &error);
    }
    random_run(rand, blk, model);
    blk_co_free(blk);
    test_node_del("t");
    assert_true(g_file_set_contents(result, (char *)model, RANDOM_SIZE, NULL));
    /* all was read, so the image needs its backing file no longer */
    qcow2_shell(dir,
                "qemu-img check -q top && qemu-img compare -q top model && "
                "truncate -s 0 base && truncate -s 512k base && qemu-img compare -q top model");
    qcow2_dir_free(dir);
}

BLOCK_TEST(random_requests_agree_with_a_model)
{
    static const char *const options[] = {"cluster_size=4096", "cluster_size=65536",
                                          "cluster_size=16384,extended_l2=on",
                                          "compat=0.10,cluster_size=8192"};
    uint32_t seed = g_random_int();
    print_message("seed %u\n", seed);
    GRand *rand = g_rand_new_with_seed(seed);
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        random_image(rand, options[i], false);
        random_image(rand, options[i], true);
    }
    g_rand_free(rand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_requests_agree_with_a_model),
    };
    return block_test_main(tests);
}
