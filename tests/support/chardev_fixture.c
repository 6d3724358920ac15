/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/chardev_fixture.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

int chardev_fixture_setup(void **state)
{
    ChardevFixture *x = g_new0(ChardevFixture, 1);

    x->ctx = chardev_harness_begin();
    x->dir = g_dir_make_tmp("skiff-chardev-XXXXXX", NULL);
    x->f = recording_frontend_new(1 << 20);
    *state = x;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, x->pair);
}

int chardev_fixture_teardown(void **state)
{
    ChardevFixture *x = *state;
    g_autofree char *remove = g_strdup_printf("rm -rf '%s'", x->dir);

    chardev_harness_end(x->ctx);
    close(x->pair[0]);
    if (x->pair[1] >= 0) {
        close(x->pair[1]);
    }
    recording_frontend_free(x->f);
    if (system(remove) != 0) {
        return -1;
    }
    g_free(x->dir);
    g_free(x);
    return 0;
}

void chardev_fixture_add(ChardevFixture *x, const char *format, ...)
{
    g_autofree char *options = NULL, *message = NULL;
    va_list ap;

    va_start(ap, format);
    options = g_strdup_vprintf(format, ap);
    va_end(ap);
    message = chardev_harness_add(x->ctx, options);
    if (message) {
        fail_msg("%s: %s", options, message);
    }
}

void assert_chardev_add_fails(ChardevFixture *x, const char *part, const char *format, ...)
{
    g_autofree char *options = NULL, *message = NULL;
    va_list ap;

    va_start(ap, format);
    options = g_strdup_vprintf(format, ap);
    va_end(ap);
    message = chardev_harness_add(x->ctx, options);
    if (!message) {
        fail_msg("accepted: %s", options);
    }
    if (!strstr(message, part)) {
        fail_msg("'%s' is not in: %s", part, message);
    }
}

Chardev *chardev_fixture_claim(const char *id)
{
    g_autoptr(GError) error = NULL;
    Chardev *c;

    enter_main();
    c = chardev_claim(id, "test", &error);
    if (!c) {
        fail_msg("%s", error->message);
    }
    return c;
}

Chardev *chardev_fixture_use(ChardevFixture *x, const char *id)
{
    Chardev *c = chardev_fixture_claim(id);

    enter_main();
    chardev_attach(c, &recording_frontend_ops, x->f);
    return c;
}

size_t chardev_put_text(Chardev *c, const char *text)
{
    return chardev_write(c, (const uint8_t *)text, strlen(text));
}

char *chardev_fixture_path(ChardevFixture *x, const char *name)
{
    return g_build_filename(x->dir, name, NULL);
}

void assert_chardev_file_has(ChardevFixture *x, const char *name, const char *expected)
{
    g_autofree char *path = chardev_fixture_path(x, name);
    g_autofree char *text = NULL;

    enter_main();
    assert_true(chardev_flush_all_blocking(10000));
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_string_equal(text, expected);
}

void assert_chardev_peer_gets(ChardevFixture *x, int fd, const char *expected)
{
    size_t length = strlen(expected), have = 0;
    g_autofree char *got = g_malloc0(length + 1);

    while (have < length) {
        ssize_t n = recv(fd, got + have, length - have, MSG_DONTWAIT);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            aio_context_step(x->ctx, true);
        } else {
            assert_true(n > 0);
            have += (size_t)n;
        }
    }
    assert_string_equal(got, expected);
}

void chardev_peer_says(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}
