/* SPDX-License-Identifier: Apache-2.0 */
/* The short form of -serial and similar options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "hw/chardev/chardev_set.h"

static void append_pair(const char *key, const char *value, void *opaque)
{
    g_string_append_printf(opaque, "%s=%s;", key, value);
}

/* @expected has each option in the order set. */
static void assert_parses(const char *text, bool monitor, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) all = g_string_new(NULL);
    ChardevString s;

    if (!chardev_string_parse(&s, text, "serial0", &error)) {
        fail_msg("%s: %s", text, error->message);
    }
    assert_false(s.none);
    assert_int_equal(s.monitor, monitor);
    assert_string_equal(s.id, "serial0");
    opt_dict_foreach(s.opts, append_pair, all);
    assert_string_equal(all->str, expected);
    chardev_string_clear(&s);
}

static void assert_refused(const char *text, const char *part)
{
    g_autoptr(GError) error = NULL;
    ChardevString s;

    if (chardev_string_parse(&s, text, "serial0", &error)) {
        fail_msg("accepted: %s", text);
    }
    if (!strstr(error->message, part)) {
        fail_msg("'%s' is not in: %s", part, error->message);
    }
    assert_null(s.opts);
    assert_null(s.id);
}

static void qemu_spellings_are_understood(void **state)
{
    assert_parses("stdio", false, "backend=stdio;id=serial0;");
    assert_parses("mon:stdio", true, "backend=stdio;mux=on;signal=off;id=serial0;");
    assert_parses("null", false, "backend=null;id=serial0;");
    assert_parses("pty", false, "backend=pty;id=serial0;");
    assert_parses("file:/tmp/a.log", false, "path=/tmp/a.log;backend=file;id=serial0;");
    assert_parses("file:a,,b.log,append=on", false,
                  "append=on;path=a,b.log;backend=file;id=serial0;");
    assert_parses("unix:/tmp/s,server=on,wait=off", false,
                  "server=on;wait=off;path=/tmp/s;backend=socket;id=serial0;");
    assert_parses("unix:/tmp/s,server,nowait", false,
                  "server=on;path=/tmp/s;wait=off;backend=socket;id=serial0;");
    assert_parses("tcp:localhost:4444,server=on,wait=off", false,
                  "server=on;wait=off;host=localhost;port=4444;backend=socket;id=serial0;");
    assert_parses("tcp::4444,nodelay", false,
                  "nodelay=on;host=;port=4444;backend=socket;id=serial0;");
    assert_parses("tcp:[::1]:4444", false, "host=::1;port=4444;backend=socket;id=serial0;");
    assert_parses("mon:tcp::1,server=on", true,
                  "server=on;host=;port=1;backend=socket;mux=on;id=serial0;");
    assert_parses("stdio,signal=off,logfile=x", false,
                  "backend=stdio;signal=off;logfile=x;id=serial0;");
}

static void none_and_references_create_no_chardev(void **state)
{
    ChardevString s;

    assert_true(chardev_string_parse(&s, "none", "serial0", NULL));
    assert_true(s.none);
    assert_null(s.opts);
    assert_null(s.id);
    chardev_string_clear(&s);
    assert_true(chardev_string_parse(&s, "chardev:con0", "serial0", NULL));
    assert_false(s.none);
    assert_null(s.opts);
    assert_string_equal(s.id, "con0");
    chardev_string_clear(&s);
}

static void unsupported_features_are_refused_by_name(void **state)
{
    assert_refused("telnet::4444,server", "skiff has no 'telnet'; nearest is tcp:HOST:PORT");
    assert_refused("vc", "skiff has no 'vc'; nearest is pty");
    assert_refused("vc:80Cx24C", "skiff has no 'vc'");
    assert_refused("udp:1.2.3.4:5", "skiff has no 'udp'");
    assert_refused("pipe:/tmp/p", "skiff has no 'pipe'");
    assert_refused("/dev/ttyS0", "skiff has no '/dev/ttyS0'");
    assert_refused("mon:telnet::4444", "skiff has no 'telnet'");
}

static void malformed_strings_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "stdi",
        "stdiox",
        "mon:",
        "mon:none",
        "mon:mon:stdio",
        "file:",
        "file:,a=b",
        "unix:",
        "tcp:",
        "tcp:host",
        "tcp:host:",
        "tcp:::1:5",
        "chardev:",
        "file",
        "unix,path=x",
        "null:",
        "mon:chardev:x",
        "stdio,id=x",
        "pty,=",
        "unix:/x,=",
        "file:{",
        "tcp:4444",
        "unix:x,nowait=off",
        "unix:x,nowait,wait=on",
    };
    g_autofree char *huge = g_strnfill(100000, 'x');

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_refused(bad[i], "");
    }
    assert_refused(huge, "is no character device");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qemu_spellings_are_understood),
        cmocka_unit_test(none_and_references_create_no_chardev),
        cmocka_unit_test(unsupported_features_are_refused_by_name),
        cmocka_unit_test(malformed_strings_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
