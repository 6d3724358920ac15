/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors over a real socket: each belongs to the command that it came with. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "tests/support/chardev_harness.h"
#include "vmm/monitor/qmp/qmp_session.h"

typedef struct Rig {
    AioContext *ctx;
    QmpSession *session;
    int peer;
    GString *received;
} Rig;

static int setup(void **state)
{
    int fds[2];
    Rig *rig = g_new0(Rig, 1);
    rig->ctx = chardev_harness_begin();
    enter_main();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    g_autofree char *options = g_strdup_printf("socket,id=qmp,fd=%d", fds[0]);
    char *error = chardev_harness_add(rig->ctx, options);
    assert_null(error);
    rig->peer = fds[1];
    rig->received = g_string_new(NULL);
    rig->session = qmp_session_new(NULL, rig->ctx, chardev_claim("qmp", "QMP", NULL), false);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    Rig *rig = *state;
    enter_main();
    qmp_session_free(rig->session);
    close(rig->peer);
    chardev_harness_end(rig->ctx);
    g_string_free(rig->received, true);
    g_free(rig);
    return 0;
}

/* Sends @text with @count duplicates of @fd. */
static void send_with_fds(Rig *rig, const char *text, int fd, unsigned count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        for (unsigned i = 0; i < count; i++) {
            memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
        }
    }
    assert_int_equal(sendmsg(rig->peer, &message, 0), (ssize_t)strlen(text));
}

/* Steps the loop until @lines more lines have arrived; returns them. */
static const char *receive_lines(Rig *rig, unsigned lines)
{
    g_string_truncate(rig->received, 0);
    for (unsigned seen = 0; seen < lines;) {
        char data[4096];
        ssize_t n = recv(rig->peer, data, sizeof(data), MSG_DONTWAIT);
        if (n < 0) {
            aio_context_step(rig->ctx, true);
            continue;
        }
        assert_true(n > 0);
        g_string_append_len(rig->received, data, n);
        for (ssize_t i = 0; i < n; i++) {
            seen += data[i] == '\n';
        }
    }
    return rig->received->str;
}

static unsigned count_open_fds(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void begin(Rig *rig)
{
    receive_lines(rig, 1);
    send_with_fds(rig, "{\"execute\": \"qmp_capabilities\"}\n", -1, 0);
    receive_lines(rig, 1);
}

#define GETFD(name) "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"" name "\"}}\n"
#define MISSING "No file descriptor supplied via SCM_RIGHTS"

static void a_descriptor_goes_to_the_command_that_it_came_with(void **state)
{
    Rig *rig = *state;
    enter_main();
    begin(rig);
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Between two commands without descriptors, all sent before the first is read. */
    send_with_fds(rig, GETFD("a"), -1, 0);
    send_with_fds(rig, GETFD("b"), fd, 1);
    send_with_fds(rig, GETFD("c"), -1, 0);
    g_auto(GStrv) lines = g_strsplit(receive_lines(rig, 3), "\r\n", -1);
    assert_non_null(strstr(lines[0], MISSING));
    assert_string_equal(lines[1], "{\"return\": {}}");
    assert_non_null(strstr(lines[2], MISSING));
    int got = qmp_session_take_fd(rig->session, "b", NULL);
    struct stat a, b;
    assert_true(fstat(got, &a) == 0 && fstat(fd, &b) == 0 && a.st_rdev == b.st_rdev);
    assert_true((fcntl(got, F_GETFD) & FD_CLOEXEC) != 0);
    close(got);
    close(fd);
}

static void a_descriptor_may_come_with_the_first_half_of_a_request(void **state)
{
    Rig *rig = *state;
    enter_main();
    begin(rig);
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    send_with_fds(rig, "{\"execute\": \"getfd\",", fd, 1);
    chardev_harness_settle(rig->ctx);
    send_with_fds(rig, "\"arguments\": {\"fdname\": \"a\"}}\n", -1, 0);
    assert_string_equal(receive_lines(rig, 1), "{\"return\": {}}\r\n");
    close(qmp_session_take_fd(rig->session, "a", NULL));
    close(fd);
}

static void a_descriptor_that_no_command_takes_is_closed(void **state)
{
    Rig *rig = *state;
    enter_main();
    begin(rig);
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    unsigned before = count_open_fds();
    for (unsigned i = 0; i < 20; i++) {
        send_with_fds(rig, "{\"execute\": \"query-version\"}\n", fd, 4);
        receive_lines(rig, 1);
        send_with_fds(rig, "garbage\n", fd, 8);
        receive_lines(rig, 1);
        send_with_fds(rig, GETFD("1x"), fd, 1);
        receive_lines(rig, 1);
        send_with_fds(rig, GETFD("x"), fd, 2); /* replaces the earlier one */
        receive_lines(rig, 1);
    }
    assert_int_equal(count_open_fds(), before + 1);
    send_with_fds(rig, "   \n", fd, 3);
    chardev_harness_settle(rig->ctx);
    assert_true(qmp_session_take_fd(rig->session, "nobody", NULL) < 0);
    close(fd);
}

static void named_descriptors_are_bounded(void **state)
{
    Rig *rig = *state;
    enter_main();
    begin(rig);
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (unsigned i = 0; i < QMP_NAMED_FDS + 2; i++) {
        g_autofree char *text =
            g_strdup_printf("{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"f%u\"}}\n", i);
        send_with_fds(rig, text, fd, 1);
        bool refused = strstr(receive_lines(rig, 1), "close one with closefd") != NULL;
        assert_int_equal(refused, i >= QMP_NAMED_FDS);
    }
    send_with_fds(rig, GETFD("f0"), fd, 1); /* an existing name needs no room */
    assert_string_equal(receive_lines(rig, 1), "{\"return\": {}}\r\n");
    close(fd);
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(a_descriptor_goes_to_the_command_that_it_came_with),
        ON_RIG(a_descriptor_may_come_with_the_first_half_of_a_request),
        ON_RIG(a_descriptor_that_no_command_takes_is_closed),
        ON_RIG(named_descriptors_are_bounded),
    };
    return cmocka_run_group_tests_name("vmm/monitor/qmp/qmp_fds", tests, NULL, NULL);
}
