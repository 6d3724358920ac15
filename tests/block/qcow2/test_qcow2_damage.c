/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 600 */
/* Images with random damage in their metadata are opened for writing: requests end, with an error or
 * without, and nothing crashes, hangs or needs much memory. */
#include "block/driver/mem.h"
#include "block/qcow2/qcow2_format.h"
#include "tests/block/qcow2/qcow2_test.h"
#include "tests/support/rounds.h"

#define DAMAGE_FILE ((size_t)2 << 20)
#define DAMAGE_DISK ((size_t)512 << 10)
#define DAMAGE_REQUESTS 24u
#define DAMAGE_BATCH 6u

typedef struct DamageRig {
    GRand *rand;
    uint8_t *image;
    size_t used; /* bytes of the image */
    BlockNode *mem;
} DamageRig;

static const char *const damage_shapes[] = {
    "cluster_size=512",
    "cluster_size=512,refcount_bits=1,lazy_refcounts=on",
    "cluster_size=4096,refcount_bits=64",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=512,compat=0.10",
};

static void damage_fill(void *opaque)
{
    DamageRig *rig = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(rig->mem), rig->image, DAMAGE_FILE);
}

static void damage_create(DamageRig *rig, const char *dir, const char *options)
{
    qcow2_shell(dir,
                "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o %s t.qcow2 %zu && "
                "qemu-io -f qcow2 -c 'write -q -P 3 10k 150k' -c 'write -q -c -P 4 256k 16k' "
                "-c 'write -q -P 5 300k 40k' t.qcow2",
                options, DAMAGE_DISK);
    if (strstr(options, "refcount_bits=1,") == NULL) {
        qcow2_shell(dir, "qemu-img snapshot -c one t.qcow2 && "
                         "qemu-io -f qcow2 -c 'write -q -P 7 20k 5k' t.qcow2");
    }
    g_autofree uint8_t *image = qcow2_file_bytes(dir, "t.qcow2", &rig->used);
    assert_true(rig->used <= DAMAGE_FILE);
    rig->image = g_malloc0(DAMAGE_FILE);
    memcpy(rig->image, image, rig->used);
}

/* A number that a table could have, or not. */
static uint64_t damage_word(DamageRig *rig)
{
    uint64_t cluster = (uint64_t)g_rand_int_range(rig->rand, 0, (int)(rig->used / 512)) * 512;
    uint64_t random = (uint64_t)g_rand_int(rig->rand) << 32 | g_rand_int(rig->rand);
    const uint64_t words[] = {0,
                              UINT64_MAX,
                              QCOW2_ENTRY_COPIED,
                              cluster,
                              cluster | QCOW2_ENTRY_COPIED,
                              cluster | QCOW2_ENTRY_COPIED | QCOW2_ENTRY_ZERO,
                              cluster | QCOW2_ENTRY_COMPRESSED,
                              random,
                              random & QCOW2_OFFSET_MASK};
    return htobe64(words[g_rand_int_range(rig->rand, 0, G_N_ELEMENTS(words))]);
}

/* Changes words of clusters that look like tables, and sometimes of the header. */
static void damage_image(DamageRig *rig)
{
    for (int i = g_rand_int_range(rig->rand, 1, 30); i > 0; i--) {
        size_t at = (size_t)g_rand_int_range(rig->rand, 0, (int)(rig->used / 8)) * 8;
        uint64_t old, word = damage_word(rig);
        if (at < 104 && g_rand_int_range(rig->rand, 0, 4) != 0) {
            continue; /* most damage of the header is refused at once */
        }
        memcpy(&old, rig->image + at, sizeof(old));
        if (old != 0 && (be64toh(old) & 0x1ff) != 0 && at >= 512) {
            continue; /* data */
        }
        memcpy(rig->image + at, &word, sizeof(word));
    }
}

static coroutine_fn RUNS_IN_MAIN void damage_requests(DamageRig *rig, BlockBackend *blk)
{
    static const TestOp ops[] = {TEST_WRITE, TEST_WRITE, TEST_WRITE,  TEST_READ,
                                 TEST_ZERO,  TEST_FLUSH, TEST_DISCARD};
    TestRequest r[DAMAGE_BATCH];
    uint64_t size = blk_size(blk), span = MIN(size, DAMAGE_DISK);
    for (unsigned i = 0; i < DAMAGE_REQUESTS / DAMAGE_BATCH && span > 0; i++) {
        for (unsigned j = 0; j < DAMAGE_BATCH; j++) {
            r[j] = (TestRequest){.blk = blk, .op = ops[g_rand_int_range(rig->rand, 0, 7)]};
            uint64_t length = (uint64_t)g_rand_int_range(rig->rand, 1, 60000);
            r[j].offset = (uint64_t)g_rand_int_range(rig->rand, 0, (int)span);
            r[j].bytes = MIN(length, size - r[j].offset);
            r[j].buf = g_malloc0(r[j].bytes);
            test_start(&r[j]);
        }
        for (unsigned j = 0; j < DAMAGE_BATCH; j++) {
            assert_true(test_finish(&r[j]) <= 0);
            g_free(r[j].buf);
        }
    }
    if (g_rand_boolean(rig->rand)) {
        g_autoptr(GError) error = NULL;
        size_t new_size = (size_t)g_rand_int_range(rig->rand, 1, 2048) * 512;
        assert_true(blk_co_truncate(blk, new_size, &error) <= 0);
    }
}

static coroutine_fn RUNS_IN_MAIN bool damage_round(DamageRig *rig)
{
    g_autoptr(GError) error = NULL;
    damage_image(rig);
    rig->mem = test_node_add("mem,node-name=m,size=2M,discard=unmap");
    test_in_home(damage_fill, rig);
    BlockNode *n =
        test_open("qcow2,discard=unmap,l2-cache-size=1k,l2-cache-entry-size=512,file=m", &error);
    if (n != NULL) {
        BlockBackend *blk = blk_co_new("d", n, true, &error);
        block_co_unref(n);
        damage_requests(rig, blk);
        blk_co_free(blk);
    }
    test_node_del("m");
    return n != NULL;
}

BLOCK_TEST(requests_to_damaged_images_end)
{
    TestSeeds seeds = test_seeds(test_rounds(50, 500, 20000));
    unsigned opened = 0;
    char *dir = qcow2_dir_new();
    uint8_t *images[G_N_ELEMENTS(damage_shapes)];
    DamageRig rig = {0};
    size_t used[G_N_ELEMENTS(damage_shapes)];
    for (unsigned i = 0; i < G_N_ELEMENTS(damage_shapes); i++) {
        damage_create(&rig, dir, damage_shapes[i]);
        images[i] = rig.image;
        used[i] = rig.used;
    }
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        unsigned shape = seed % G_N_ELEMENTS(damage_shapes);
        rig = (DamageRig){.rand = g_rand_new_with_seed(seed), .used = used[shape]};
        rig.image = g_memdup2(images[shape], DAMAGE_FILE);
        opened += damage_round(&rig);
        g_free(rig.image);
        g_rand_free(rig.rand);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(damage_shapes); i++) {
        g_free(images[i]);
    }
    unsigned rounds = seeds.end - seeds.first;
    printf("# %u of %u images were opened\n", opened, rounds);
    assert_true(rounds == 1 || opened > rounds / 4);
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_to_damaged_images_end),
    };
    return block_test_main(tests);
}
