/* SPDX-License-Identifier: Apache-2.0 */
/* Exports that are removed, and a server that stops, while there are clients. */
#include "tests/block/nbd/nbd_life.h"

static uint8_t data[512];

typedef struct LifeRemove {
    bool hard, ok;
    char *error;
} LifeRemove;

static void life_remove(void *opaque)
{
    LifeRemove *r = opaque;
    g_autoptr(GError) error = NULL;
    enter_coroutine();
    enter_main();
    r->ok = nbd_export_remove("e0", r->hard, &error);
    r->error = error != NULL ? g_strdup(error->message) : NULL;
}

static void life_remove_is(bool hard, const char *error)
{
    LifeRemove r = {.hard = hard};
    rig_main(life_remove, &r);
    assert_true(r.ok == (error == NULL));
    if (error != NULL) {
        assert_string_equal(r.error, error);
    }
    g_free(r.error);
}

static void life_get_deleted(void *opaque)
{
    enter_coroutine();
    *(unsigned *)opaque = rig_deleted;
}

static void life_await_deleted(unsigned count)
{
    unsigned deleted;
    do {
        rig_main(life_get_deleted, &deleted);
    } while (deleted < count);
}

static void life_node_in_use(void *opaque)
{
    g_autoptr(GError) error = NULL;
    enter_coroutine();
    enter_main();
    assert_false(block_co_delete("m", &error));
    assert_string_equal(error->message, "Node m is in use: export 'e0' uses it");
}

static void life_get_removing(void *opaque)
{
    NbdExportInfo info;
    enter_coroutine();
    enter_main();
    assert_true(nbd_export_info(0, &info));
    assert_string_equal(info.id, "e0");
    assert_string_equal(info.node, "m");
    *(bool *)opaque = info.removing;
}

NBD_TEST(a_safe_removal_is_refused_while_there_are_clients)
{
    bool removing;
    life_begin();
    int fd = rig_serve(0);
    rig_main(life_node_in_use, NULL);
    life_remove_is(false, "export 'e0' still in use");
    assert_int_equal(rig_do(fd, 0, NBD_CMD_FLUSH, 0, 0), 0);
    rig_main(life_get_removing, &removing);
    assert_false(removing);
    life_remove_is(true, NULL);
    rig_closed(fd);
    life_await_deleted(1);
    assert_string_equal(rig_deleted_id, "e0");
    life_remove_is(true, "Export 'e0' is not found");
    RigExport x = {.config.writable = true}; /* the node is free */
    rig_main(rig_export_add, &x);
    assert_null(x.error);
    life_remove_is(false, NULL);
    life_await_deleted(2);
    rig_end();
}

NBD_TEST(a_removal_does_not_wait_for_a_request_that_hangs)
{
    bool removing;
    uint8_t option[64];
    life_begin();
    int fd = rig_serve(0);
    life_hold(BLOCK_FAULT_WRITE);
    rig_request(fd, 0, NBD_CMD_WRITE, 1, 0, 512);
    rig_send(fd, data, 512);
    rig_await_held(1);
    life_remove_is(true, NULL);
    rig_main(life_get_removing, &removing);
    assert_true(removing);
    life_remove_is(true, "Export 'e0' is already shutting down");
    rig_main(life_node_in_use, NULL);
    int other = rig_greet(3);
    rig_option_is(other, NBD_OPT_GO, option, rig_info_data(option, "disk"), NBD_REP_ERR_UNKNOWN);
    close(other);
    life_hold_nothing();
    rig_release(1);
    rig_closed(fd);
    life_await_deleted(1);
    rig_end();
}

/* Its socket is full of options in one direction, and of replies in the other. */
static int life_connect_stuffed(void)
{
    uint8_t option[64], header[NBD_OPTION_SIZE];
    uint32_t length = (uint32_t)rig_meta_data(option, "disk", NULL, 0);
    nbd_put32(nbd_put32(nbd_put64(header, NBD_OPTION_MAGIC), NBD_OPT_LIST_META_CONTEXT), length);
    int fd = rig_greet(3);
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
    for (unsigned waits = 0; waits < 20;) {
        struct iovec iov[] = {{header, sizeof(header)}, {option, length}};
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
        if (sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            rig_settle_main();
            waits++;
        } else {
            waits = 0;
        }
    }
    return fd;
}

NBD_TEST(a_removal_does_not_wait_for_a_client_that_negotiates)
{
    life_begin();
    int fd = life_connect_stuffed();
    life_remove_is(true, NULL);
    life_await_deleted(1);
    rig_closed(fd);
    rig_end();
}

static struct {
    bool stopped;
} life_stop;

static void life_stop_run(void *opaque)
{
    enter_coroutine();
    enter_main();
    assert_true(nbd_server_co_stop(NULL));
    life_stop.stopped = true;
}

static void life_stop_start(void *opaque)
{
    enter_coroutine();
    enter_main();
    life_stop.stopped = false;
    co_start(test_main, life_stop_run, NULL);
}

static void life_get_stopped(void *opaque)
{
    enter_coroutine();
    enter_main();
    assert_false(nbd_server_running());
    *(bool *)opaque = life_stop.stopped;
}

NBD_TEST(a_stop_ends_all_clients_and_requests_that_were_not_begun)
{
    bool stopped;
    life_begin();
    int fd = rig_serve(0), idle = rig_greet(3);
    life_hold(BLOCK_FAULT_WRITE);
    for (unsigned i = 0; i < 100; i++) {
        rig_request(fd, 0, NBD_CMD_WRITE, i, 0, 512);
        rig_send(fd, data, 512);
    }
    rig_await_held(64);
    rig_main(life_stop_start, NULL);
    rig_closed(idle);
    rig_main(life_home_turns, NULL);
    rig_main(life_get_stopped, &stopped);
    assert_false(stopped);
    life_hold_nothing();
    rig_release(64);
    do {
        rig_main(life_get_stopped, &stopped);
    } while (!stopped);
    rig_closed(fd);
    assert_int_equal(rig_deleted, 1);
    rig_main(rig_node_del, (char[]){"m"});
}

static void life_peek_stopped(void *opaque)
{
    enter_coroutine();
    *(bool *)opaque = life_stop.stopped;
}

NBD_TEST(a_stop_does_not_wait_for_the_next_server)
{
    bool stopped;
    RigServer server = {0};
    RigExport x = {.config = {.id = "e1", .name = "next"}};
    life_begin();
    int fd = rig_serve(0);
    life_hold(BLOCK_FAULT_WRITE);
    rig_request(fd, 0, NBD_CMD_WRITE, 1, 0, 512);
    rig_send(fd, data, 512);
    rig_await_held(1);
    rig_main(life_stop_start, NULL);
    rig_main(life_get_stopped, &stopped);
    assert_false(stopped);
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    assert_null(x.error);
    int next = rig_greet(3);
    rig_info(next, NBD_OPT_GO, "next");
    rig_main(life_peek_stopped, &stopped);
    assert_false(stopped);
    life_hold_nothing();
    rig_release(1);
    do {
        rig_main(life_peek_stopped, &stopped);
    } while (!stopped);
    rig_closed(fd);
    assert_int_equal(rig_do(next, 0, NBD_CMD_FLUSH, 0, 0), 0);
    close(next);
    rig_end();
}

int main(void)
{
    block_setup(block_drivers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_safe_removal_is_refused_while_there_are_clients),
        cmocka_unit_test(a_removal_does_not_wait_for_a_request_that_hangs),
        cmocka_unit_test(a_removal_does_not_wait_for_a_client_that_negotiates),
        cmocka_unit_test(a_stop_ends_all_clients_and_requests_that_were_not_begun),
        cmocka_unit_test(a_stop_does_not_wait_for_the_next_server),
    };
    return block_test_main(tests);
}
