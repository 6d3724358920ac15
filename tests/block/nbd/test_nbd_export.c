/* SPDX-License-Identifier: Apache-2.0 */
/* Adding exports: what is refused, and with which words. */
#include "block/graph.h"
#include "tests/block/nbd/nbd_life.h"

static void export_is(RigExport *x, const char *error)
{
    rig_main(rig_export_add, x);
    if (error == NULL) {
        assert_null(x->error);
    } else {
        assert_non_null(x->error);
        assert_string_equal(x->error, error);
    }
    g_free(x->error);
}

NBD_TEST(an_export_needs_a_server_and_names_of_its_own)
{
    g_autofree char *lengthy = g_strnfill(4097, 'a');
    RigServer server = {0};
    RigExport x = {.node = RIG_MEM};
    export_is(&x, "NBD server not running");
    rig_main(rig_server_start, &server);
    x.node = NULL;
    export_is(&x, NULL);
    export_is(&x, "Block export id 'e0' is already in use");
    x.config.id = "e1";
    export_is(&x, "NBD server already has export named 'disk'");
    x.config.name = lengthy;
    rig_main(rig_export_add, &x);
    assert_non_null(strstr(x.error, "' too long"));
    g_free(x.error);
    x.config.name = "n1";
    x.config.description = lengthy;
    rig_main(rig_export_add, &x);
    assert_non_null(strstr(x.error, "description 'aaa"));
    g_free(x.error);
    rig_end();
}

NBD_TEST(a_node_has_one_writer)
{
    rig_begin();
    RigExport x = {.config = {.id = "e1", .name = "n1", .writable = true}};
    export_is(&x, "node 'm' is written to by export 'e0' already; a node can have only one writer "
                  "(writable=false makes export 'e1' a reader)");
    x.config.writable = false;
    export_is(&x, NULL);
    rig_end();
}

/* ---- two at once ---- */

static void export_change_graph(void *opaque)
{
    g_autoptr(GError) error = NULL;
    enter_coroutine();
    enter_main();
    BlockNode *n = block_node_find("m");
    BlockGraphChange *c = block_graph_co_begin(&n, 1, &error);
    assert_non_null(c);
    block_graph_co_end(c);
    *(bool *)opaque = true;
}

/* The change waits for a request; both adds wait for the change. */
NBD_TEST(of_two_exports_with_one_id_the_second_is_refused)
{
    static const uint8_t data[512];
    bool changed = false;
    RigExport x[2] = {{.config = {.id = "e1", .name = "n1"}},
                      {.config = {.id = "e1", .name = "n1"}}};
    life_begin();
    int fd = rig_serve(0);
    life_hold(BLOCK_FAULT_WRITE);
    rig_request(fd, 0, NBD_CMD_WRITE, 1, 0, 512);
    rig_send(fd, data, 512);
    rig_await_held(1);
    co_start(rig_ctx, export_change_graph, &changed);
    rig_settle_main();
    co_start(rig_ctx, rig_export_add, &x[0]);
    co_start(rig_ctx, rig_export_add, &x[1]);
    rig_settle_main();
    assert_false(changed);
    life_hold_nothing();
    rig_release(1);
    assert_int_equal(rig_simple(fd, 1), 0);
    while (!changed || x[1].error == NULL) {
        rig_settle_main();
    }
    assert_null(x[0].error);
    assert_string_equal(x[1].error, "Block export id 'e1' is already in use");
    g_free(x[1].error);
    close(fd);
    rig_end();
}

NBD_TEST(a_read_only_node_is_not_exported_for_writing)
{
    RigServer server = {0};
    RigExport x = {.node = RIG_MEM ",read-only=on", .config.writable = true};
    rig_main(rig_server_start, &server);
    export_is(&x, "Cannot export read-only node as writable");
    rig_end();
}

static void export_add_bitmaps(void *opaque)
{
    enter_coroutine();
    enter_main();
    test_node_add(RIG_MEM);
    BlockNode *n = block_node_find("m");
    assert_true(block_dirty_bitmap_co_add(n, "on", 4096, 0, NULL));
    assert_true(block_dirty_bitmap_co_add(n, "off", 4096, BLOCK_BITMAP_DISABLED, NULL));
}

static void export_bitmap_is_busy(void *opaque)
{
    enter_coroutine();
    enter_main();
    BlockDirtyBitmapInfo info;
    block_dirty_bitmap_info(block_node_find("m"), 1, &info);
    assert_true(info.busy == *(bool *)opaque);
}

NBD_TEST(bitmaps_of_an_export_are_checked_and_busy)
{
    NbdExportBitmap bitmaps[40] = {{.name = "off"}};
    RigServer server = {0};
    RigExport x = {.config = {.bitmaps = bitmaps, .bitmap_count = 1}};
    bool busy = true;
    rig_main(export_add_bitmaps, NULL);
    rig_main(rig_server_start, &server);
    bitmaps[0].name = "on";
    export_is(&x, "Enabled bitmap 'on' incompatible with readonly export");
    bitmaps[0].name = "none";
    export_is(&x, "Bitmap 'none' is not found");
    bitmaps[0] = (NbdExportBitmap){.name = "off", .node = "x"};
    export_is(&x, "Cannot find device='' nor node-name='x'");
    bitmaps[0] = bitmaps[1] = (NbdExportBitmap){.name = "off"};
    x.config.bitmap_count = 2;
    export_is(&x, "Bitmap 'off' is currently in use by another operation and cannot be used");
    busy = false; /* a failed export leaves nothing behind */
    rig_main(export_bitmap_is_busy, &busy);
    x.config.bitmap_count = 40;
    export_is(&x, "an export has at most 32 bitmaps");
    x.config.bitmap_count = 1;
    export_is(&x, NULL);
    busy = true;
    rig_main(export_bitmap_is_busy, &busy);
    rig_end();
}

static void export_second_server(void *opaque)
{
    g_autoptr(GError) error = NULL;
    SocketAddressOptions address = {.path = (char[]){"/nowhere"}};
    NbdServerConfig config = {.address = &address};
    enter_coroutine();
    enter_main();
    assert_false(nbd_server_co_start(&config, &error));
    assert_string_equal(error->message, "NBD server already running");
}

static void export_no_server(void *opaque)
{
    g_autoptr(GError) error = NULL;
    enter_coroutine();
    enter_main();
    assert_false(nbd_server_co_stop(&error));
    assert_string_equal(error->message, "NBD server not running");
    assert_null(nbd_server_address());
}

NBD_TEST(there_is_one_server)
{
    rig_main(export_no_server, NULL);
    rig_begin();
    rig_main(export_second_server, NULL);
    rig_end();
    rig_main(export_no_server, NULL);
}

static void export_resize(void *opaque)
{
    enter_coroutine();
    enter_main();
    assert_int_equal(block_node_co_resize(block_node_find("m"), *(uint64_t *)opaque, NULL), 0);
}

NBD_TEST(a_client_keeps_the_size_that_it_was_given)
{
    uint64_t larger = 8 << 20, smaller = 1 << 20;
    rig_begin();
    int before = rig_serve(0);
    rig_main(export_resize, &larger);
    assert_int_equal(rig_do(before, 0, NBD_CMD_TRIM, RIG_SIZE, 512), NBD_EINVAL);
    int after = rig_greet(3);
    assert_int_equal(rig_info(after, NBD_OPT_GO, "disk").size, larger);
    assert_int_equal(rig_do(after, 0, NBD_CMD_TRIM, RIG_SIZE, 512), 0);
    rig_main(export_resize, &smaller);
    assert_int_equal(rig_do(after, 0, NBD_CMD_TRIM, RIG_SIZE, 512), NBD_EINVAL);
    assert_int_equal(rig_do(before, 0, NBD_CMD_READ, 2 << 20, 512), NBD_EINVAL);
    rig_bye(before);
    rig_bye(after);
    rig_end();
}

int main(void)
{
    block_setup(block_drivers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_export_needs_a_server_and_names_of_its_own),
        cmocka_unit_test(a_node_has_one_writer),
        cmocka_unit_test(of_two_exports_with_one_id_the_second_is_refused),
        cmocka_unit_test(a_read_only_node_is_not_exported_for_writing),
        cmocka_unit_test(bitmaps_of_an_export_are_checked_and_busy),
        cmocka_unit_test(there_is_one_server),
        cmocka_unit_test(a_client_keeps_the_size_that_it_was_given),
    };
    return block_test_main(tests);
}
