/* SPDX-License-Identifier: Apache-2.0 */
/* A socket's client that leaves while the frontend takes no input makes room for the next one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_harness.h"

typedef struct Fixture {
    AioContext *ctx;
    char *dir, *path;
    RecordingFrontend *f;
    Chardev *c;
} Fixture;

/* A server whose frontend has no room. */
static int set_up(void **state)
{
    Fixture *x = g_new0(Fixture, 1);
    g_autofree char *options = NULL, *message = NULL;

    alarm(60);
    x->ctx = chardev_harness_begin();
    enter_main();
    x->dir = g_dir_make_tmp("skiff-hangup-XXXXXX", NULL);
    x->path = g_build_filename(x->dir, "s", NULL);
    x->f = recording_frontend_new(0);
    options = g_strdup_printf("socket,id=a,path=%s,server=on,wait=off", x->path);
    message = chardev_harness_add(x->ctx, options);
    assert_null(message);
    x->c = chardev_claim("a", "test", NULL);
    chardev_attach(x->c, &recording_frontend_ops, x->f);
    *state = x;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *x = *state;

    chardev_harness_end(x->ctx);
    recording_frontend_free(x->f);
    rmdir(x->dir);
    g_free(x->dir);
    g_free(x->path);
    g_free(x);
    alarm(0);
    return 0;
}

static int client(Fixture *x)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, x->path, sizeof(address.sun_path));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void test_a_client_that_leaves_is_noticed_without_reading(void **state)
{
    Fixture *x = *state;
    int fd = client(x);

    STEP_UNTIL(x->ctx, chardev_connected(x->c));
    close(fd);
    STEP_UNTIL(x->ctx, !chardev_connected(x->c));
    assert_string_equal(x->f->events->str, "OC");
    fd = client(x);
    STEP_UNTIL(x->ctx, chardev_connected(x->c));
    close(fd);
    STEP_UNTIL(x->ctx, !chardev_connected(x->c));
}

static void test_what_it_said_before_waits_for_the_frontend(void **state)
{
    Fixture *x = *state;
    int fd = client(x);

    enter_main();
    assert_int_equal(write(fd, "bye", 3), 3);
    close(fd);
    STEP_UNTIL(x->ctx, chardev_connected(x->c));
    chardev_harness_settle(x->ctx);
    assert_true(chardev_connected(x->c));
    x->f->room = 2;
    chardev_accept_input(x->c);
    STEP_UNTIL(x->ctx, x->f->received->len == 2);
    x->f->room = 1;
    chardev_accept_input(x->c);
    STEP_UNTIL(x->ctx, !chardev_connected(x->c)); /* no room again, and nothing left */
    assert_string_equal(x->f->received->str, "bye");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_client_that_leaves_is_noticed_without_reading,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_it_said_before_waits_for_the_frontend, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
