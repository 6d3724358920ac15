/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 300 */
/* The block status of images is what `qemu-img map` prints of them. */
#include "tests/block/qcow2/qcow2_shape.h"
#include "tests/support/rounds.h"
#include "util/opts/json.h"

typedef struct Query {
    BlockBackend *blk;
    uint64_t offset, bytes;
    bool precise;
    BlockStatus status;
    int ret;
} Query;

static void query_at_home(void *opaque)
{
    Query *q = opaque;
    enter_coroutine();
    enter_iothread(blk_home(q->blk));
    q->ret = blk_co_block_status(q->blk, q->offset, q->bytes, q->precise, &q->status);
}

static coroutine_fn BlockStatus status_at(BlockBackend *blk, uint64_t offset, uint64_t bytes,
                                          bool precise)
{
    Query q = {.blk = blk, .offset = offset, .bytes = bytes, .precise = precise};
    co_call_in(blk_home(blk), query_at_home, &q);
    assert_int_equal(q.ret, 0);
    assert_in_range(q.status.bytes, 1, bytes);
    return q.status;
}

/* ---- what qemu-img prints ---- */

typedef struct Expected {
    uint64_t start, length, depth, offset;
    bool present, zero, data, has_offset;
} Expected;

static struct json_object *expected_member(struct json_object *o, const char *key)
{
    struct json_object *value = NULL;
    assert_true(json_object_object_get_ex(o, key, &value));
    return value;
}

static Expected expected_parse(struct json_object *o)
{
    struct json_object *offset = NULL;
    Expected e = {
        .start = json_object_get_uint64(expected_member(o, "start")),
        .length = json_object_get_uint64(expected_member(o, "length")),
        .depth = json_object_get_uint64(expected_member(o, "depth")),
        .present = json_object_get_boolean(expected_member(o, "present")),
        .zero = json_object_get_boolean(expected_member(o, "zero")),
        .data = json_object_get_boolean(expected_member(o, "data")),
        .has_offset = json_object_object_get_ex(o, "offset", &offset),
    };
    e.offset = json_object_get_uint64(offset);
    return e;
}

static struct json_object *expected_load(const char *dir, const char *name)
{
    size_t size;
    g_autoptr(GError) error = NULL;
    qcow2_shell(dir, "qemu-img map -f qcow2 --output=json %s >map.json", name);
    g_autofree uint8_t *text = qcow2_file_bytes(dir, "map.json", &size);
    struct json_object *map = json_parse_text((const char *)text, size, 4, &error);
    if (map == NULL) {
        fail_msg("%s", error->message);
    }
    return map;
}

static void status_check(const char *name, const Expected *e, uint64_t at, const BlockStatus *s)
{
    bool maps = (s->flags & BLOCK_STATUS_OFFSET_VALID) != 0;
    unsigned present = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_DATA;
    if (((s->flags & present) != 0) != e->present ||
        ((s->flags & BLOCK_STATUS_ZERO) != 0) != e->zero ||
        ((s->flags & BLOCK_STATUS_DATA) != 0) != e->data || maps != e->has_offset ||
        s->depth != e->depth || (maps && s->map_offset != e->offset + (at - e->start)) ||
        at + s->bytes > e->start + e->length) {
        fail_msg("%s: at %" PRIu64 ": %" PRIu64 " bytes with flags %#x, depth %u, offset %" PRIu64
                 ", but qemu-img has an extent at %" PRIu64 " of %" PRIu64
                 " bytes, present %d zero %d data %d depth %" PRIu64 " offset %" PRIu64,
                 name, at, s->bytes, s->flags, s->depth, s->map_offset, e->start, e->length,
                 e->present, e->zero, e->data, e->depth, e->offset);
    }
}

/* Walks over the image in steps of at most @step bytes. */
static coroutine_fn RUNS_IN_MAIN void status_compare(const char *dir, const char *name,
                                                     uint64_t step)
{
    struct json_object *map = expected_load(dir, name);
    BlockBackend *blk = qcow2_open_image(dir, name, "");
    uint64_t at = 0;
    for (size_t i = 0; i < json_object_array_length(map); i++) {
        Expected e = expected_parse(json_object_array_get_idx(map, i));
        while (at < e.start + e.length) {
            uint64_t bytes = MIN(step, blk_size(blk) - at);
            BlockStatus s = status_at(blk, at, bytes, true);
            BlockStatus fast = status_at(blk, at, bytes, false);
            bool own = s.depth == 0 && (s.flags & BLOCK_STATUS_ALLOCATED) != 0;
            status_check(name, &e, at, &s);
            assert_int_equal(own, (fast.flags & BLOCK_STATUS_ALLOCATED) != 0);
            at += s.bytes;
        }
    }
    assert_int_equal(at, blk_size(blk));
    blk_co_free(blk);
    json_object_put(map);
}

BLOCK_TEST(generated_images_have_the_status_that_qemu_img_prints)
{
    char *dir = qcow2_dir_new();
    unsigned rounds = test_rounds(5, 50, 1000);
    for (unsigned seed = 1001; seed <= 1000 + rounds; seed++) {
        GRand *r = g_rand_new_with_seed(seed);
        Shape s = shape_pick(r);
        printf("# seed %u: cluster_size=%u compat=%s %s extended=%d data_file=%d backing=%d\n",
               seed, 1u << s.cluster_bits, s.compat, s.compression, s.extended, s.data_file,
               s.backing);
        fflush(stdout);
        shape_create(&s, dir, r);
        shape_fill(&s, dir, r);
        status_compare(dir, "t.qcow2", (uint64_t)1 << 40);
        status_compare(dir, "t.qcow2", 12800); /* unaligned, within clusters */
        g_rand_free(r);
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_chain_has_the_depth_of_each_range_and_zeroes_beyond_shorter_images)
{
    char *dir = qcow2_dir_new();
    qcow2_shell(dir,
                "qemu-img create -q -f raw base.raw 1M && "
                "qemu-io -f raw -c 'write -q -P 7 0 300k' base.raw && "
                "qemu-img create -q -f qcow2 -b base.raw -F raw mid.qcow2 2M && "
                "qemu-io -f qcow2 -c 'write -q -P 8 64k 64k' -c 'write -q -z 700k 100k' "
                "-c 'write -q -P 8 1500k 64k' mid.qcow2 && "
                "qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 3M && "
                "qemu-io -f qcow2 -c 'write -q -P 9 128k 4k' -c 'discard -q 1500k 100k' top.qcow2");
    status_compare(dir, "top.qcow2", (uint64_t)1 << 40);
    qcow2_dir_free(dir);
}

BLOCK_TEST(preallocated_clusters_that_were_not_written_are_zeroes)
{
    static const char *const options[] = {
        "preallocation=metadata",
        "preallocation=metadata,cluster_size=512,refcount_bits=1",
        "preallocation=metadata,refcount_bits=64",
        "preallocation=falloc,extended_l2=on",
        "preallocation=metadata,data_file=t.data",
    };
    char *dir = qcow2_dir_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        qcow2_shell(dir,
                    "rm -f t.* && qemu-img create -q -f qcow2 -o %s t.qcow2 5M && "
                    "qemu-io -f qcow2 -c 'write -q -P 1 128k 4k' -c 'write -q -z 300k 64k' "
                    "-c 'discard -q 2M 100k' t.qcow2",
                    options[i]);
        status_compare(dir, "t.qcow2", (uint64_t)1 << 40);
    }
    qcow2_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generated_images_have_the_status_that_qemu_img_prints),
        cmocka_unit_test(a_chain_has_the_depth_of_each_range_and_zeroes_beyond_shorter_images),
        cmocka_unit_test(preallocated_clusters_that_were_not_written_are_zeroes),
    };
    return block_test_main(tests);
}
