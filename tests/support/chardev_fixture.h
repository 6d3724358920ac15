/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of one chardev: a stepped main loop, a directory of its own, a connected socket pair
 * and a frontend that logs its input. Main only; a failure fails the test. */
#ifndef SKIFF_TESTS_SUPPORT_CHARDEV_FIXTURE_H
#define SKIFF_TESTS_SUPPORT_CHARDEV_FIXTURE_H

#include "tests/support/chardev_harness.h"

typedef struct ChardevFixture {
    AioContext *ctx;
    char *dir;   /* removed with its contents */
    int pair[2]; /* [0] is given to a chardev, [1] is the peer's; -1 once the test closed it */
    RecordingFrontend *f;
} ChardevFixture;

/* Set-up for cmocka; *@state is a ChardevFixture. */
int chardev_fixture_setup(void **state);
int chardev_fixture_teardown(void **state);
#define CHARDEV_TEST(f)                                                                            \
    cmocka_unit_test_setup_teardown(f, chardev_fixture_setup, chardev_fixture_teardown)

/* The path of @name in the fixture's folder; the caller frees it. */
char *chardev_fixture_path(ChardevFixture *x, const char *name);

/* Adds a chardev by its options, and waits until it is open. */
void chardev_fixture_add(ChardevFixture *x, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* The same must fail with @part in its message. */
void assert_chardev_add_fails(ChardevFixture *x, const char *part, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

Chardev *chardev_fixture_claim(const char *id);
/* Claims the chardev and attaches the fixture's frontend. */
Chardev *chardev_fixture_use(ChardevFixture *x, const char *id);

/* chardev_write() of a text; returns the number of bytes accepted. */
size_t chardev_put_text(Chardev *c, const char *text);
/* Flushes, then checks that file @name in the fixture's directory holds @expected. */
void assert_chardev_file_has(ChardevFixture *x, const char *name, const char *expected);
/* Runs the loop until the peer at @fd has read all of @expected. */
void assert_chardev_peer_gets(ChardevFixture *x, int fd, const char *expected);
void chardev_peer_says(int fd, const char *text);

#endif
