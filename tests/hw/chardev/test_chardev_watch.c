/* SPDX-License-Identifier: Apache-2.0 */
/* chardev_watch(): a text in the output of a chardev, however it is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/chardev_harness.h"

static unsigned found;

static void on_found(void *opaque)
{
    enter_main();
    found++;
}

static void print(Chardev *c, const char *text)
{
    assert_int_equal(chardev_write(c, (const uint8_t *)text, strlen(text)), strlen(text));
}

/* Whether @text is found in @pieces, which are separated by '|', and at the end of the last one only. */
static void assert_found_at_end(const char *text, const char *pieces)
{
    AioContext *ctx = chardev_harness_begin();
    g_auto(GStrv) list = g_strsplit(pieces, "|", 0);
    enter_main();
    assert_null(chardev_harness_add(ctx, "null,id=c"));
    Chardev *c = chardev_claim("c", "test", NULL);
    found = 0;
    chardev_watch(c, text, on_found, NULL);
    for (unsigned i = 0; list[i] != NULL; i++) {
        chardev_harness_settle(ctx);
        assert_int_equal(found, 0);
        print(c, list[i]);
    }
    chardev_harness_settle(ctx);
    assert_int_equal(found, 1);
    print(c, text); /* only once */
    chardev_harness_settle(ctx);
    assert_int_equal(found, 1);
    chardev_release(c);
    chardev_harness_end(ctx);
}

static void a_text_is_found_however_it_is_cut(void **state)
{
    assert_found_at_end("login:", "debian login: ");
    assert_found_at_end("login:", "Debian\r\n|debian lo|g|in:");
    assert_found_at_end("x", "a|b|x");
}

/* What a comparison that begins anew after a difference does not find. */
static void a_text_that_begins_within_itself_is_found(void **state)
{
    assert_found_at_end("aab", "aa|a|b");
    assert_found_at_end("abcabd", "abcabcabd");
    assert_found_at_end("ababc", "aba|babc");
}

static void only_what_is_written_later_counts(void **state)
{
    AioContext *ctx = chardev_harness_begin();
    enter_main();
    assert_null(chardev_harness_add(ctx, "null,id=c"));
    Chardev *c = chardev_claim("c", "test", NULL);
    found = 0;
    print(c, "ready");
    chardev_watch(c, "ready", on_found, NULL);
    chardev_watch(c, "dy", on_found, NULL); /* in place of the one before */
    print(c, "y rea");
    chardev_harness_settle(ctx);
    assert_int_equal(found, 0);
    print(c, "dy");
    chardev_harness_end(ctx); /* a report that is due is not made */
    assert_true(found <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_found_however_it_is_cut),
        cmocka_unit_test(a_text_that_begins_within_itself_is_found),
        cmocka_unit_test(only_what_is_written_later_counts),
    };
    return cmocka_run_group_tests_name("hw/chardev/chardev_watch", tests, NULL, NULL);
}
