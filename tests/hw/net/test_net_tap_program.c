/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev tap: network scripts and the bridge helper. */
#include "tests/hw/net/net_tap_bench.h"

static char *make_script(const char *name, const char *body)
{
    char *path = g_strdup_printf("%s/%s-%d", g_get_tmp_dir(), name, (int)getpid());
    g_autofree char *text = g_strdup_printf("#!/bin/sh\n%s\n", body);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    chmod(path, 0700);
    return path;
}

static void scripts_are_run_with_the_name(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    g_autofree char *note = g_strdup_printf("%s/tap-note-%d", g_get_tmp_dir(), (int)getpid());
    g_autofree char *up_body = g_strdup_printf("echo up $1 >>%s", note);
    g_autofree char *down_body = g_strdup_printf("echo down $1 >>%s", note);
    g_autofree char *up = make_script("tap-up", up_body),
                    *down = make_script("tap-down", down_body);
    g_autofree char *text =
        g_strdup_printf("tap,id=a,ifname=tap-s,script=%s,downscript=%s", up, down);
    g_autofree char *noted = NULL;
    NetStep s = {.text = "a"};
    add(f, text);
    virtio_bench_run(f->bench, net_step_remove, &s);
    assert_true(s.ok);
    assert_true(g_file_get_contents(note, &noted, NULL, NULL));
    assert_string_equal(noted, "up tap-s\ndown tap-s\n");
    add(f, text); /* the process ends */
    enter_main();
    net_leave();
    g_autofree char *again = NULL;
    assert_true(g_file_get_contents(note, &again, NULL, NULL));
    assert_string_equal(again, "up tap-s\ndown tap-s\nup tap-s\ndown tap-s\n");
    unlink(note);
    unlink(up);
    unlink(down);
}

static void a_script_that_hangs_does_not_hold_the_end(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0); /* the script waits for the end of what it reads */
    g_autofree char *body = g_strdup_printf("read line <&%d", ends[0]);
    g_autofree char *down = make_script("tap-hang", body);
    g_autofree char *text =
        g_strdup_printf("tap,id=a,ifname=tap-s,script=/bin/true,downscript=%s", down);
    add(f, text);
    enter_main();
    net_leave();
    assert_true(write(ends[1], "\n\n", 2) == 2); /* one more for the tear-down's */
    close(ends[1]);
    close(ends[0]);
    virtio_bench_run(f->bench, net_step_remove, &(NetStep){.text = "a"});
    unlink(down);
}

/* Last: it stays so. */
static void programs_can_be_forbidden(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    net_tap_forbid_programs();
    refused(f, "tap,id=a,ifname=tap-s,script=/bin/true", "are run at the start only");
    refused(f, "tap,id=a,helper=/bin/true", "are run at the start only");
}

static void a_script_that_fails_is_an_error(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    g_autofree char *up = make_script("tap-bad", "exit 7");
    g_autofree char *text = g_strdup_printf("tap,id=a,ifname=tap-s,script=%s", up);
    refused(f, text, "failed with status 7");
    assert_int_equal(if_nametoindex("tap-s"), 0);
    refused(f, "tap,id=a,ifname=tap-s,script=/nothing", "cannot run /nothing");
    unlink(up);
}

static void a_helper_that_passes_nothing_is_an_error(void **state)
{
    Fixture *f = *state;
    refused(f, "tap,id=a,helper=/bin/true", "passed no tap device of bridge br0");
    refused(f, "tap,id=a,helper=/bin/false,br=br7", "failed with status 1");
    refused(f, "tap,id=a,helper=/nothing", "cannot run /nothing");
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static void a_helper_that_passes_several_descriptors_is_an_error(void **state)
{
    Fixture *f = *state;
    for (unsigned passed = 2; passed < 8; passed++) {
        g_autofree char *body =
            g_strdup_printf("exec python3 -c 'import socket\n"
                            "socket.send_fds(socket.socket(fileno=3), [b\"x\"], [0] * %u)\n'",
                            passed);
        g_autofree char *helper = make_script("tap-helper", body);
        g_autofree char *text = g_strdup_printf("tap,id=a,helper=%s", helper);
        unsigned before = open_descriptors();
        refused(f, text, "passed no tap device of bridge br0");
        assert_int_equal(open_descriptors(), before);
        unlink(helper);
    }
}

static void a_helper_passes_a_device(void **state)
{
    NEEDS_TAP
    Fixture *f = *state;
    g_autofree char *helper = make_script(
        "tap-helper",
        "exec python3 -c '\n"
        "import array, fcntl, os, socket, struct, sys\n"
        "assert sys.argv[1:] == [\"--use-vnet\", \"--fd=3\", \"--br=br5\"], sys.argv\n"
        "tun = os.open(\"/dev/net/tun\", os.O_RDWR)\n"
        "fcntl.ioctl(tun, 0x400454ca, struct.pack(\"16sH14x\", b\"tap-h\", 0x5002))\n"
        "socket.socket(fileno=3).sendmsg([b\"x\"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,"
        " array.array(\"i\", [tun]))])\n"
        "' \"$@\"");
    g_autofree char *text = g_strdup_printf("tap,id=a,br=br5,helper=%s", helper);
    add(f, text);
    assert_true(if_nametoindex("tap-h") > 0);
    assert_true(net_find("a")->can_send & NET_OFFLOAD_CSUM);
    unlink(helper);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(scripts_are_run_with_the_name),
        T(a_script_that_fails_is_an_error),
        T(a_helper_that_passes_nothing_is_an_error),
        T(a_helper_that_passes_several_descriptors_is_an_error),
        T(a_helper_passes_a_device),
        T(a_script_that_hangs_does_not_hold_the_end),
        T(programs_can_be_forbidden),
    };
    has_tap = enter_namespace();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
