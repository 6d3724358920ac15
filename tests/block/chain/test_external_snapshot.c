/* SPDX-License-Identifier: Apache-2.0 */
/* External snapshots: the overlay, what is refused, undoing, under load. */
#include "block/chain/external_snapshot.h"
#include "block/graph.h"
#include "tests/block/chain/chain_test.h"

static coroutine_fn RUNS_IN_MAIN ExternalSnapshot *begin(BlockBackend *blk, const char *path,
                                                         GError **error)
{
    NewImageConfig image = {
        .mode = NEW_IMAGE_ABSOLUTE_PATHS, .filename = path, .node_name = "overlay"};
    return external_snapshot_co_begin_image(blk_root(blk), &image, error);
}

static coroutine_fn RUNS_IN_MAIN ExternalSnapshot *begin_ok(BlockBackend *blk, const char *path)
{
    GError *error = NULL;
    ExternalSnapshot *s = begin(blk, path, &error);
    if (s == NULL) {
        fail_msg("%s", error->message);
    }
    return s;
}

static coroutine_fn RUNS_IN_MAIN void insert_ok(ExternalSnapshot *s)
{
    GError *error = NULL;
    if (!external_snapshot_co_insert(s, &error)) {
        fail_msg("%s", error->message);
    }
}

static void expect(GError *error, const char *says)
{
    assert_non_null(error);
    if (strstr(error->message, says) == NULL) {
        fail_msg("the error '%s' does not say '%s'", error->message, says);
    }
    g_error_free(error);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- a snapshot ---- */

BLOCK_TEST(writes_go_to_the_overlay_and_the_base_keeps_its_data)
{
    char *base = test_file_new(CHAIN_SIZE);
    g_autofree char *over = chain_path(), *absolute = g_canonicalize_filename(base, NULL);
    BlockBackend *blk = chain_disk("raw", base);
    BlockNode *source = blk_root(blk);
    chain_write(blk, 0, 1);
    ExternalSnapshot *s = begin_ok(blk, over);
    assert_ptr_equal(blk_root(blk), source);
    insert_ok(s);
    external_snapshot_co_end(s, true);
    assert_string_equal(block_node_name(blk_root(blk)), "overlay");
    assert_ptr_equal(blk_root(blk)->backing, source);
    assert_true(block_node_read_only(source));
    assert_true(block_node_read_only(source->file));
    chain_write(blk, 65536, 2);
    chain_write(blk, 0, 3);
    assert_int_equal(chain_read(blk, 0), 3);
    assert_int_equal(chain_read(blk, 65536), 2);
    assert_int_equal(chain_byte(base, 0), 1);
    assert_int_equal(chain_byte(base, 65536), 0);
    blk_co_free(blk);
    assert_null(block_node_find("disk"));
    assert_int_equal(shell("qemu-img info %s | grep -q 'backing file: %s$' && "
                           "qemu-img info %s | grep -q 'backing file format: raw' && "
                           "qemu-img check -q %s",
                           over, absolute, over, over),
                     0);
    unlink(over);
    test_file_free(base);
}

/* The options of the format do not say that the file bypasses the page cache. */
BLOCK_TEST(the_overlays_file_has_the_aio_and_the_cache_of_the_disks_file)
{
    char *base = chain_image(NULL);
    g_autofree char *over = chain_path();
    g_autofree char *text = g_strdup_printf("qcow2,node-name=disk,file.driver=file,file.aio=native,"
                                            "file.cache.direct=on,file.filename=%s",
                                            base);
    BlockBackend *blk = test_blk("d", text, true);
    ExternalSnapshot *s = begin_ok(blk, over);
    insert_ok(s);
    external_snapshot_co_end(s, true);
    assert_string_equal(block_node_aio(blk_root(blk)), "native");
    assert_true(block_node_file_direct(blk_root(blk)));
    blk_co_free(blk);
    unlink(over);
    test_file_free(base);
}

BLOCK_TEST(a_users_node_becomes_the_overlay)
{
    GError *error = NULL;
    char *base = chain_image(NULL), *over = chain_image(NULL);
    BlockBackend *blk = chain_disk("qcow2", base);
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=over,backing=,file.driver=file,file.filename=%s", over);
    BlockNode *node = test_node_add(text), *source = blk_root(blk);
    chain_write(blk, 0, 1);
    ExternalSnapshot *s = external_snapshot_co_begin_node(source, node, &error);
    assert_non_null(s);
    insert_ok(s);
    external_snapshot_co_end(s, true);
    chain_write(blk, 65536, 2);
    assert_int_equal(chain_read(blk, 0), 1);
    assert_false(block_co_delete("over", NULL));
    blk_co_free(blk);
    test_node_del("over");
    test_file_free(base);
    test_file_free(over);
}

/* The source moves between begin and insert: the overlay follows. */
BLOCK_TEST(the_home_of_the_overlay_becomes_that_of_the_source)
{
    GError *error = NULL;
    IoThread *other = iothread_new("io1", 0, NULL);
    char *base = test_file_new(CHAIN_SIZE);
    g_autofree char *over = chain_path();
    g_autofree char *text =
        g_strdup_printf("raw,node-name=disk,file.driver=file,file.filename=%s", base);
    BlockNode *source = test_node_add(text);
    NewImageConfig image = {.mode = NEW_IMAGE_ABSOLUTE_PATHS, .filename = over};
    ExternalSnapshot *s = external_snapshot_co_begin_image(source, &image, &error);
    assert_true(block_co_move_held(source, iothread_context(other), 1, &error));
    BlockBackend *blk = blk_co_new("d", source, true, NULL);
    insert_ok(s);
    external_snapshot_co_end(s, true);
    assert_ptr_equal(block_node_home(blk_root(blk)), iothread_context(other));
    assert_ptr_equal(block_node_home(blk_root(blk)->file), iothread_context(other));
    blk_co_free(blk);
    test_node_del("disk");
    iothread_free(other);
    unlink(over);
    test_file_free(base);
}

/* ---- all or nothing ---- */

BLOCK_TEST(an_undone_snapshot_leaves_nothing)
{
    char *base = test_file_new(CHAIN_SIZE);
    g_autofree char *over = chain_path();
    BlockBackend *blk = chain_disk("raw", base);
    BlockNode *source = blk_root(blk);
    unsigned refs = source->refs;
    for (unsigned inserted = 0; inserted < 2; inserted++) {
        ExternalSnapshot *s = begin_ok(blk, over);
        assert_true(exists(over));
        co_drained_begin(&blk, 1); /* of a transaction */
        if (inserted) {
            insert_ok(s);
            assert_ptr_not_equal(blk_root(blk), source);
        }
        external_snapshot_co_undo(s);
        co_drained_end(&blk, 1);
        external_snapshot_co_end(s, false);
        assert_ptr_equal(blk_root(blk), source);
        assert_int_equal(source->refs, refs);
        assert_false(exists(over));
        assert_null(block_node_find("overlay"));
        chain_write(blk, 0, 5);
        test_settle();
        assert_int_equal(source->quiesced, 0);
    }
    assert_int_equal(chain_byte(base, 0), 5);
    blk_co_free(blk);
    test_file_free(base);
}

/* A user that came meanwhile needs the data of the node unchanged. */
BLOCK_TEST(an_undo_that_the_graph_refuses_keeps_the_overlay)
{
    char *base = test_file_new(CHAIN_SIZE), *other = chain_image(NULL);
    g_autofree char *over = chain_path();
    g_autofree char *user = g_strdup_printf(
        "qcow2,node-name=user,file.driver=file,file.filename=%s,backing=disk", other);
    BlockBackend *blk = chain_disk("raw", base);
    BlockNode *source = blk_root(blk);
    ExternalSnapshot *s = begin_ok(blk, over);
    insert_ok(s);
    test_node_add(user);
    BlockBackend *reader = blk_co_new("reader", block_node_find("user"), false, NULL);
    assert_non_null(reader);
    external_snapshot_co_undo(s);
    external_snapshot_co_end(s, false);
    assert_true(exists(over));
    BlockNode *overlay = blk_root(blk);
    assert_ptr_not_equal(overlay, source);
    assert_ptr_equal(overlay->backing, source);
    chain_write(blk, 0, 5);
    assert_int_equal(chain_byte(base, 0), 0);
    test_settle();
    assert_int_equal(source->quiesced + overlay->quiesced, 0);
    blk_co_free(reader);
    test_node_del("user");
    blk_co_free(blk);
    unlink(over);
    test_file_free(base);
    test_file_free(other);
}

BLOCK_TEST(a_flush_that_fails_refuses_the_snapshot)
{
    GError *error = NULL;
    char *base = test_file_new(CHAIN_SIZE), *over = chain_image(NULL);
    g_autofree char *text = g_strdup_printf(
        "raw,node-name=disk,file.driver=fault,file.fail-op=flush,file.file.driver=file,"
        "file.file.filename=%s",
        base);
    BlockBackend *blk = test_blk("d", text, true);
    BlockNode *source = blk_root(blk);
    NewImageConfig image = {.mode = NEW_IMAGE_EXISTING, .filename = over, .node_name = "overlay"};
    ExternalSnapshot *s = external_snapshot_co_begin_image(source, &image, &error);
    assert_non_null(s);
    assert_false(external_snapshot_co_insert(s, &error));
    expect(error, "An IO error has occurred");
    external_snapshot_co_end(s, false);
    assert_ptr_equal(blk_root(blk), source);
    assert_true(exists(over));
    assert_false(block_node_read_only(source));
    blk_co_free(blk);
    test_file_free(base);
    test_file_free(over);
}

static coroutine_fn RUNS_IN_MAIN void refused(BlockBackend *blk, const NewImageConfig *image,
                                              const char *says)
{
    GError *error = NULL;
    bool there = exists(image->filename);
    assert_null(external_snapshot_co_begin_image(blk_root(blk), image, &error));
    expect(error, says);
    assert_int_equal(exists(image->filename), there);
}

BLOCK_TEST(what_is_refused_changes_nothing)
{
    GError *error = NULL;
    char *base = test_file_new(CHAIN_SIZE), *child = chain_image(NULL);
    g_autofree char *over = chain_path(), *nowhere = g_strdup_printf("%s/x", over);
    BlockBackend *blk = chain_disk("raw", base);
    NewImageMode make = NEW_IMAGE_ABSOLUTE_PATHS, existing = NEW_IMAGE_EXISTING;
    const struct {
        NewImageMode mode;
        const char *filename, *format, *node_name;
        const char *says;
    } cases[] = {
        {make, over, "raw", NULL, "Backing file not supported for file format 'raw'"},
        {make, over, "vmdk", NULL, "Unknown file format 'vmdk'"},
        {make, over, "file", NULL, "Unknown file format 'file'"},
        {make, over, NULL, "disk", "node-name='disk'"},
        {make, over, NULL, "1x", "Invalid node-name"},
        {make, nowhere, NULL, NULL, "Could not create"},
        {make, "http://localhost/x", NULL, NULL, "not the name of a file"},
        {make, base, NULL, NULL, "lock"},
        {existing, over, NULL, NULL, "No such file"},
        {existing, base, NULL, NULL, "lock"},
        {existing, child, "raw", NULL, "does not support backing images"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        NewImageConfig image = {.mode = cases[i].mode,
                                .filename = cases[i].filename,
                                .format = cases[i].format,
                                .node_name = cases[i].node_name};
        refused(blk, &image, cases[i].says);
    }
    BlockEdge *job =
        block_user_co_new(blk_root(blk), "job 'j'", BLOCK_USE_GRAPH, BLOCK_USE_ALL, NULL);
    refused(blk, &(NewImageConfig){.mode = make, .filename = over},
            "Node 'disk' is busy: job 'j' uses it");
    block_user_co_free(job);
    ExternalSnapshot *s = begin_ok(blk, over);
    job = block_user_co_new(blk_root(blk), "job 'j'", BLOCK_USE_GRAPH, BLOCK_USE_ALL, NULL);
    assert_false(external_snapshot_co_insert(s, &error));
    expect(error, "job 'j'");
    external_snapshot_co_end(s, false);
    assert_false(exists(over));
    block_user_co_free(job);
    blk_co_free(blk);
    test_file_free(base);
    test_file_free(child);
}

BLOCK_TEST(a_node_that_cannot_be_an_overlay_is_refused)
{
    char *base = chain_image(NULL), *over = chain_image(base);
    BlockBackend *blk = test_blk("d", "mem,node-name=m,size=4M", true);
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=over,file.driver=file,file.filename=%s", over);
    test_node_add(text);
    test_node_add("raw,node-name=raw,file.driver=mem,file.size=4M");
    test_node_add("fault,node-name=used,file.driver=mem,file.size=4M");
    test_node_add("copy-on-read,node-name=cor,file.driver=mem,file.size=4M");
    static const char *const cases[][2] = {
        {"over", "The overlay already has a backing image"},
        {"raw", "The overlay does not support backing images"},
        {"cor", "Filters cannot be used as overlays"},
        {"m", "A node cannot be the overlay of itself"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        GError *error = NULL;
        assert_null(
            external_snapshot_co_begin_node(blk_root(blk), block_node_find(cases[i][0]), &error));
        expect(error, cases[i][1]);
        test_node_del(i != 3 ? cases[i][0] : "used");
    }
    blk_co_free(blk);
    test_file_free(base);
    test_file_free(over);
}

BLOCK_TEST(an_overlay_in_use_and_one_that_got_a_user_are_refused)
{
    GError *error = NULL;
    char *over = chain_image(NULL);
    BlockBackend *blk = test_blk("d", "mem,node-name=m,size=4M", true);
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=over,file.driver=file,file.filename=%s", over);
    BlockNode *node = test_node_add(text);
    BlockBackend *user = blk_co_new("e", node, false, NULL);
    assert_null(external_snapshot_co_begin_node(blk_root(blk), node, &error));
    expect(g_steal_pointer(&error), "The overlay is already in use: by drive 'e'");
    blk_co_free(user);
    ExternalSnapshot *s = external_snapshot_co_begin_node(blk_root(blk), node, &error);
    user = blk_co_new("e", node, false, NULL);
    assert_false(external_snapshot_co_insert(s, &error));
    expect(g_steal_pointer(&error), "The overlay is already in use: by drive 'e'");
    external_snapshot_co_end(s, false);
    blk_co_free(user);
    blk_co_free(blk);
    test_node_del("over");
    test_file_free(over);
}

/* The overlay was made with the size that the disk had. */
BLOCK_TEST(a_disk_that_grows_meanwhile_is_not_cut_by_its_overlay)
{
    GError *error = NULL;
    char *base = test_file_new(CHAIN_SIZE);
    g_autofree char *over = chain_path();
    BlockBackend *blk = chain_disk("raw", base);
    ExternalSnapshot *s = begin_ok(blk, over);
    assert_int_equal(block_node_co_resize(blk_root(blk), 2 * CHAIN_SIZE, NULL), 0);
    assert_false(external_snapshot_co_insert(s, &error));
    expect(error, "The size of the disk has changed; try again");
    external_snapshot_co_end(s, false);
    assert_false(exists(over));
    assert_string_equal(block_node_name(blk_root(blk)), "disk");
    assert_true(blk_size(blk) == 2 * CHAIN_SIZE);
    blk_co_free(blk);
    test_file_free(base);
}

BLOCK_TEST(a_backing_file_is_neither_snapshotted_nor_an_overlay)
{
    GError *error = NULL;
    char *base = chain_image(NULL), *over = chain_image(NULL);
    BlockBackend *blk = chain_disk("qcow2", base);
    g_autofree char *text =
        g_strdup_printf("qcow2,node-name=over,backing=,file.driver=file,file.filename=%s", over);
    BlockNode *source = blk_root(blk), *node = test_node_add(text);
    BlockNode *other = test_node_add("mem,node-name=m,size=4M");
    ExternalSnapshot *s = external_snapshot_co_begin_node(source, node, &error);
    assert_non_null(s);
    insert_ok(s);
    external_snapshot_co_end(s, true);
    g_autofree char *busy = g_strdup_printf(
        "Node '%s' is busy: node is used as backing hd of 'over'", block_node_name(source));
    assert_null(external_snapshot_co_begin_image(
        source, &(NewImageConfig){.mode = NEW_IMAGE_EXISTING, .filename = "/nonexistent"}, &error));
    expect(g_steal_pointer(&error), busy);
    assert_null(external_snapshot_co_begin_node(other, source, &error));
    expect(g_steal_pointer(&error), busy);
    blk_co_free(blk);
    test_node_del("over");
    test_node_del("m");
    test_file_free(base);
    test_file_free(over);
}

/* ---- load ---- */

#define LAYERS 12

BLOCK_TEST(a_chain_grows_under_load)
{
    char *base = chain_image(NULL);
    char *over[LAYERS];
    BlockBackend *blk = chain_disk("qcow2", base);
    static ChainGuest guests[8];
    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++) {
        chain_guest_start(&guests[i], blk, i);
    }
    for (unsigned i = 0; i < LAYERS; i++) {
        over[i] = chain_path();
        NewImageConfig image = {.mode = NEW_IMAGE_ABSOLUTE_PATHS, .filename = over[i]};
        ExternalSnapshot *s = external_snapshot_co_begin_image(blk_root(blk), &image, NULL);
        assert_non_null(s);
        insert_ok(s);
        external_snapshot_co_end(s, true);
        co_sleep_ns(1000000);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++) {
        chain_guest_stop(&guests[i]);
    }
    assert_int_equal(blk_root(blk)->height, LAYERS + 2);
    blk_co_free(blk);
    for (unsigned i = 0; i < LAYERS; i++) {
        assert_int_equal(shell("qemu-img check -q %s", over[i]), 0);
    }
    for (unsigned i = 0; i < LAYERS; i++) {
        test_file_free(over[i]);
    }
    test_file_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_go_to_the_overlay_and_the_base_keeps_its_data),
        cmocka_unit_test(the_overlays_file_has_the_aio_and_the_cache_of_the_disks_file),
        cmocka_unit_test(a_users_node_becomes_the_overlay),
        cmocka_unit_test(the_home_of_the_overlay_becomes_that_of_the_source),
        cmocka_unit_test(an_undone_snapshot_leaves_nothing),
        cmocka_unit_test(an_undo_that_the_graph_refuses_keeps_the_overlay),
        cmocka_unit_test(a_flush_that_fails_refuses_the_snapshot),
        cmocka_unit_test(what_is_refused_changes_nothing),
        cmocka_unit_test(a_node_that_cannot_be_an_overlay_is_refused),
        cmocka_unit_test(an_overlay_in_use_and_one_that_got_a_user_are_refused),
        cmocka_unit_test(a_disk_that_grows_meanwhile_is_not_cut_by_its_overlay),
        cmocka_unit_test(a_backing_file_is_neither_snapshotted_nor_an_overlay),
        cmocka_unit_test(a_chain_grows_under_load),
    };
    return block_test_main(tests);
}
