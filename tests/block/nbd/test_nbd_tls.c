/* SPDX-License-Identifier: Apache-2.0 */
/* An NBD server that clients have to use by TLS: nothing is answered before it. */
#include <gnutls/gnutls.h>
#include "tests/block/nbd/nbd_rig.h"

static uint8_t data[1 << 20], got[1 << 20];

/* ---- a client of GnuTLS ---- */

static gnutls_session_t tls_client;
static int tls_fd = -1;

static bool tls_transfer(int fd, void *bytes, size_t size, bool sends)
{
    if (fd != tls_fd) {
        return false;
    }
    for (size_t done = 0; done < size;) {
        uint8_t *p = (uint8_t *)bytes + done;
        ssize_t n = sends ? gnutls_record_send(tls_client, p, size - done)
                          : gnutls_record_recv(tls_client, p, size - done);
        assert_true(n > 0);
        done += (size_t)n;
    }
    return true;
}

/* STARTTLS and the handshake. */
static void tls_begin(int fd)
{
    static gnutls_anon_client_credentials_t credentials;
    int ret;
    rig_option_is(fd, NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ACK);
    if (credentials == NULL) {
        assert_int_equal(gnutls_anon_allocate_client_credentials(&credentials), 0);
    }
    assert_int_equal(gnutls_init(&tls_client, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL), 0);
    assert_int_equal(gnutls_priority_set_direct(tls_client, "NORMAL:+ANON-ECDH", NULL), 0);
    assert_int_equal(gnutls_credentials_set(tls_client, GNUTLS_CRD_ANON, credentials), 0);
    gnutls_transport_set_int(tls_client, fd);
    do {
        ret = gnutls_handshake(tls_client);
    } while (ret < 0 && !gnutls_error_is_fatal(ret));
    assert_int_equal(ret, 0);
    tls_fd = fd;
    rig_tls = tls_transfer;
}

static void tls_end(void)
{
    gnutls_deinit(tls_client);
    close(tls_fd);
    tls_fd = -1;
}

/* A server with credentials and an export "disk". */
static void tls_serve(uint64_t handshake_ns)
{
    TlsConfig config = {.kind = TLS_ANON, .server = true};
    RigServer server = {.tls = tls_creds_new(&config, NULL), .handshake_ns = handshake_ns};
    RigExport x = {.node = RIG_MEM, .config.writable = true};
    assert_non_null(server.tls);
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    assert_null(x.error);
    tls_creds_unref(server.tls); /* the server has a reference */
}

/* ---- tests ---- */

NBD_TEST(nothing_but_starttls_is_answered_before_tls)
{
    static const uint32_t options[] = {NBD_OPT_LIST,
                                       NBD_OPT_STRUCTURED_REPLY,
                                       NBD_OPT_EXTENDED_HEADERS,
                                       NBD_OPT_LIST_META_CONTEXT,
                                       NBD_OPT_SET_META_CONTEXT,
                                       4,
                                       99};
    uint8_t bytes[64];
    tls_serve(0);
    int fd = rig_greet(3);
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        rig_option_is(fd, options[i], NULL, 0, NBD_REP_ERR_TLS_REQD);
        rig_option_is(fd, options[i], data, 100, NBD_REP_ERR_TLS_REQD);
    }
    for (unsigned i = 0; i < 2;
         i++) { /* the same for an export that is there and one that is not */
        size_t length = rig_info_data(bytes, i == 0 ? "disk" : "none");
        rig_option_is(fd, NBD_OPT_INFO, bytes, length, NBD_REP_ERR_TLS_REQD);
        rig_option_is(fd, NBD_OPT_GO, bytes, length, NBD_REP_ERR_TLS_REQD);
    }
    rig_option_is(fd, NBD_OPT_STARTTLS, "x", 1, NBD_REP_ERR_INVALID);
    rig_option_is(fd, NBD_OPT_ABORT, NULL, 0, NBD_REP_ACK);
    rig_closed(fd);
    fd = rig_greet(3);
    rig_option(fd, NBD_OPT_EXPORT_NAME, "disk", 4);
    rig_closed(fd);
    rig_end();
}

NBD_TEST(everything_works_by_tls)
{
    tls_serve(0);
    int fd = rig_greet(3);
    tls_begin(fd);
    rig_option_is(fd, NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ERR_INVALID);
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
    rig_info(fd, NBD_OPT_GO, "disk");
    test_fill(data, sizeof(data), 3);
    assert_int_equal(rig_write(fd, 0, 4096, data, sizeof(data)), 0);
    for (unsigned i = 0; i < 20; i++) { /* replies wait while more requests are sent */
        rig_request(fd, NBD_CMD_FLAG_DF, NBD_CMD_READ, 7, 4096, sizeof(data));
    }
    for (unsigned i = 0; i < 20; i++) {
        RigChunk c = {0};
        rig_chunk(fd, false, &c);
        assert_int_equal(c.length, 8 + sizeof(data));
        assert_memory_equal(c.data + 8, data, sizeof(data));
        g_free(c.data);
    }
    rig_request(fd, 0, NBD_CMD_DISC, 0, 0, 0);
    assert_true(gnutls_record_recv(tls_client, got, 1) <= 0);
    tls_end();
    rig_end();
}

/* Bytes that follow STARTTLS in the clear could be taken for protected ones. */
NBD_TEST(bytes_behind_starttls_end_the_connection)
{
    uint8_t bytes[2 * NBD_OPTION_SIZE];
    uint8_t *p = nbd_put32(nbd_put32(nbd_put64(bytes, NBD_OPTION_MAGIC), NBD_OPT_STARTTLS), 0);
    nbd_put32(nbd_put32(nbd_put64(p, NBD_OPTION_MAGIC), NBD_OPT_LIST), 0);
    tls_serve(0);
    int fd = rig_greet(3);
    rig_send(fd, bytes, sizeof(bytes));
    assert_int_equal(recv(fd, got, 1, 0) <= 0, 1); /* there is no reply either */
    close(fd);
    rig_end();
}

NBD_TEST(garbage_instead_of_a_handshake_ends_the_connection)
{
    tls_serve(0);
    int fd = rig_greet(3);
    rig_option_is(fd, NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ACK);
    test_fill(data, 4096, 9);
    rig_send(fd, data, 4096);
    rig_closed(fd);
    fd = rig_greet(3);
    rig_option_is(fd, NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ACK);
    rig_option(fd, NBD_OPT_LIST, NULL, 0); /* a client that goes on without TLS */
    rig_closed(fd);
    rig_end();
}

static void tls_set_time(void *opaque)
{
    enter_coroutine();
    enter_main();
    aio_context_set_virtual_time(test_main, *(int64_t *)opaque);
}

NBD_TEST(a_handshake_of_tls_has_the_time_of_the_whole_handshake)
{
    int64_t start = 1000, end = 1000 + INT64_C(10000000000);
    rig_main(tls_set_time, &start);
    tls_serve(10000000000u);
    int fd = rig_greet(3);
    rig_option_is(fd, NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ACK);
    rig_send(fd, "\x16\x03\x01", 3);
    rig_main(tls_set_time, &end);
    rig_closed(fd);
    rig_end();
}

int main(void)
{
    block_setup(block_drivers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_but_starttls_is_answered_before_tls),
        cmocka_unit_test(everything_works_by_tls),
        cmocka_unit_test(bytes_behind_starttls_end_the_connection),
        cmocka_unit_test(garbage_instead_of_a_handshake_ends_the_connection),
        cmocka_unit_test(a_handshake_of_tls_has_the_time_of_the_whole_handshake),
    };
    return block_test_main(tests);
}
