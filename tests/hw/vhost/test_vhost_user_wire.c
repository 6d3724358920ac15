/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of vhost-user in pieces, with descriptors, and those of a peer that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hw/vhost/vhost_user_wire.h"

typedef struct Fixture {
    int pair[2];
    unsigned fds; /* open at the begin */
    VhostUserReader reader;
} Fixture;

static unsigned open_fds(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->pair), 0);
    f->fds = open_fds();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    vhost_user_reader_clear(&f->reader);
    assert_int_equal(open_fds(), f->fds); /* none was leaked */
    close(f->pair[0]);
    close(f->pair[1]);
    g_free(f);
    return 0;
}

static void send_raw(Fixture *f, const void *bytes, size_t size, unsigned fds)
{
    int list[64];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(list))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    for (unsigned i = 0; i < fds; i++) {
        list[i] = f->pair[0];
    }
    if (fds > 0) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds * sizeof(int));
        memcpy(CMSG_DATA(c), list, fds * sizeof(int));
    }
    assert_int_equal(sendmsg(f->pair[1], &m, 0), size);
}

static char *read_error(Fixture *f)
{
    GError *error = NULL;
    assert_int_equal(vhost_user_read(&f->reader, f->pair[0], &error), VHOST_USER_LOST);
    char *text = g_strdup(error->message);
    g_error_free(error);
    return text;
}

static void a_message_arrives_in_pieces(void **state)
{
    Fixture *f = *state;
    uint8_t bytes[20];
    VhostUserHeader header = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_REPLY, 8};
    memcpy(bytes, &header, 12);
    memcpy(bytes + 12, "abcdefgh", 8);
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        assert_int_equal(vhost_user_read(&f->reader, f->pair[0], NULL), VHOST_USER_WAIT);
        send_raw(f, bytes + i, 1, i == 0 ? 2 : 0);
    }
    send_raw(f, "next", 4, 0);
    assert_int_equal(vhost_user_read(&f->reader, f->pair[0], NULL), VHOST_USER_WHOLE);
    assert_memory_equal(&f->reader.message.payload, "abcdefgh", 8);
    assert_int_equal(f->reader.message.fd_count, 2);
    int fd = vhost_user_take_fd(&f->reader.message, 1);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    vhost_user_reader_clear(&f->reader);
    assert_int_equal(vhost_user_read(&f->reader, f->pair[0], NULL), VHOST_USER_WAIT);
    assert_int_equal(f->reader.got, 4); /* of the next message, not of this one */
}

static void headers_that_lie_are_refused(void **state)
{
    Fixture *f = *state;
    VhostUserHeader big = {VHOST_USER_GET_CONFIG, VHOST_USER_VERSION, 1u << 31};
    VhostUserHeader old = {VHOST_USER_GET_CONFIG, 2, 8};
    send_raw(f, &big, sizeof(big), 0);
    g_autofree char *text = read_error(f);
    assert_string_equal(text, "GET_CONFIG: the peer announces 2147483648 bytes");
    vhost_user_reader_clear(&f->reader);
    send_raw(f, &old, sizeof(old), 3);
    g_autofree char *version = read_error(f);
    assert_string_equal(version, "the peer speaks version 2 of vhost-user, or something else");
}

static void too_many_descriptors_are_closed(void **state)
{
    Fixture *f = *state;
    VhostUserHeader header = {VHOST_USER_GET_CONFIG, VHOST_USER_VERSION, 0};
    send_raw(f, &header, sizeof(header), 64);
    g_autofree char *text = read_error(f);
    assert_string_equal(text, "the peer passes too many descriptors");
    vhost_user_reader_clear(&f->reader);
    for (unsigned i = 0; i < 9; i++) { /* nine messages of one byte, each with one */
        send_raw(f, (uint8_t *)&header + i, 1, 1);
    }
    g_autofree char *again = read_error(f);
    assert_string_equal(again, "the peer passes too many descriptors");
}

static void the_end_of_the_connection_is_an_error(void **state)
{
    Fixture *f = *state;
    VhostUserHeader header = {VHOST_USER_GET_CONFIG, VHOST_USER_VERSION, 12};
    send_raw(f, &header, sizeof(header), 1);
    shutdown(f->pair[1], SHUT_WR);
    g_autofree char *text = read_error(f);
    assert_string_equal(text, "the peer has closed the connection");
}

/* ---- replies ---- */

static VhostUserMessage request_of(uint32_t type, uint32_t size)
{
    VhostUserMessage m = vhost_user_message(type, size);
    m.payload.state.index = 3;
    return m;
}

static VhostUserMessage reply_of(const VhostUserMessage *request, uint32_t size)
{
    VhostUserMessage m = *request;
    m.header.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
    m.header.size = size;
    return m;
}

static void a_reply_must_answer_the_request(void **state)
{
    VhostUserMessage base = request_of(VHOST_USER_GET_VRING_BASE, 8);
    VhostUserMessage good = reply_of(&base, 8);
    assert_true(vhost_user_check_reply(&base, &good, NULL));
    VhostUserMessage bad[7];
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        bad[i] = good;
    }
    bad[0].header.request = VHOST_USER_GET_FEATURES;
    bad[1].header.flags = VHOST_USER_VERSION;
    bad[2].header.size = 4;
    bad[3].header.size = 12;
    bad[4].fd_count = 1;
    bad[5].payload.state.index = 2;
    bad[6].payload.state.num = 0x10000;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(vhost_user_check_reply(&base, &bad[i], &error));
        assert_non_null(error);
    }
}

static void replies_of_other_sizes(void **state)
{
    VhostUserMessage config = request_of(VHOST_USER_GET_CONFIG, 12 + 60);
    VhostUserMessage ack = request_of(VHOST_USER_SET_MEM_TABLE, 8);
    VhostUserMessage fd = request_of(VHOST_USER_GET_INFLIGHT_FD, 20);
    VhostUserMessage reply = reply_of(&config, 12 + 60);
    assert_true(vhost_user_check_reply(&config, &reply, NULL));
    reply.header.size = 0; /* it has failed */
    assert_true(vhost_user_check_reply(&config, &reply, NULL));
    reply.header.size = 12 + 59;
    assert_false(vhost_user_check_reply(&config, &reply, NULL));
    reply = reply_of(&config, 12 + 60);
    reply.payload.config.offset++;
    assert_false(vhost_user_check_reply(&config, &reply, NULL));
    reply = reply_of(&ack, 8);
    assert_true(vhost_user_check_reply(&ack, &reply, NULL));
    reply.header.size = 0;
    assert_false(vhost_user_check_reply(&ack, &reply, NULL));
    reply = reply_of(&fd, 24); /* with the struct's padding, as some send */
    reply.fd_count = 1;
    assert_true(vhost_user_check_reply(&fd, &reply, NULL));
    reply.fd_count = 2;
    assert_false(vhost_user_check_reply(&fd, &reply, NULL));
}

static void a_full_socket_takes_the_rest_later(void **state)
{
    Fixture *f = *state;
    VhostUserMessage m = vhost_user_message(VHOST_USER_SET_MEM_TABLE, sizeof(m.payload.memory));
    VhostUserTransfer result;
    size_t sent = 0;
    unsigned messages = 0;
    m.fds[0] = f->pair[0];
    m.fd_count = 1;
    while ((result = vhost_user_write(&m, f->pair[0], &sent, NULL)) == VHOST_USER_WHOLE) {
        messages++;
        sent = 0;
    }
    assert_int_equal(result, VHOST_USER_WAIT);
    for (unsigned i = 0; i < messages; i++) {
        assert_int_equal(vhost_user_read(&f->reader, f->pair[1], NULL), VHOST_USER_WHOLE);
        assert_int_equal(f->reader.message.fd_count, 1);
        vhost_user_reader_clear(&f->reader);
    }
    assert_int_equal(vhost_user_write(&m, f->pair[0], &sent, NULL), VHOST_USER_WHOLE);
    assert_int_equal(vhost_user_read(&f->reader, f->pair[1], NULL), VHOST_USER_WHOLE);
    assert_int_equal(f->reader.message.fd_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_arrives_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(headers_that_lie_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_descriptors_are_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_the_connection_is_an_error, set_up, tear_down),
        cmocka_unit_test(a_reply_must_answer_the_request),
        cmocka_unit_test(replies_of_other_sizes),
        cmocka_unit_test_setup_teardown(a_full_socket_takes_the_rest_later, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
