/* SPDX-License-Identifier: Apache-2.0 */
/* Character devices by QMP: listing, adding, removing, breaks. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "tests/support/chardev_harness.h"
#include "vmm/monitor/commands/qmp_events.h"

static int set_up(void **state)
{
    int ret = qmp_rig_setup(state);

    enter_main();
    chardev_setup(((QmpRig *)*state)->vm.ctx);
    return ret;
}

static int tear_down(void **state)
{
    QmpRig *rig = *state;

    chardev_harness_shutdown(rig->vm.ctx);
    return qmp_rig_teardown(state);
}

static void a_chardev_is_added_listed_and_removed(void **state)
{
    QmpRig *rig = *state;

    qmp_returns(rig, "query-chardev", NULL, "[]");
    qmp_returns(rig, "chardev-add", "{'id':'a','backend':{'type':'null','data':{}}}", "{}");
    qmp_returns(rig, "query-chardev", NULL,
                "[{\"label\":\"a\",\"filename\":\"null\",\"frontend-open\":false}]");
    qmp_returns(rig, "chardev-remove", "{'id':'a'}", "{}");
    qmp_returns(rig, "query-chardev", NULL, "[]");
    qmp_fails(rig, "chardev-remove", "{'id':'a'}", "GenericError", "Chardev 'a' not found");
}

static void any_of_several_chardevs_is_removed(void **state)
{
    QmpRig *rig = *state;

    for (char id = 'a'; id <= 'c'; id++) {
        g_autofree char *args =
            g_strdup_printf("{'id':'%c','backend':{'type':'null','data':{}}}", id);
        qmp_returns(rig, "chardev-add", args, "{}");
    }
    qmp_returns(rig, "chardev-remove", "{'id':'b'}", "{}");
    qmp_returns(rig, "chardev-remove", "{'id':'a'}", "{}");
    qmp_returns(rig, "query-chardev", NULL, "\"c\"");
    qmp_returns(rig, "chardev-remove", "{'id':'c'}", "{}");
}

static void a_chardev_in_use_is_not_removed(void **state)
{
    QmpRig *rig = *state;

    enter_main();
    qmp_returns(rig, "chardev-add", "{'id':'a','backend':{'type':'null','data':{}}}", "{}");
    Chardev *c = chardev_claim("a", "test", NULL);
    qmp_fails(rig, "chardev-remove", "{'id':'a'}", "GenericError", "Chardev 'a' is busy");
    qmp_returns(rig, "query-chardev", NULL, "\"frontend-open\":true");
    chardev_release(c);
    qmp_returns(rig, "chardev-remove", "{'id':'a'}", "{}");
}

static void an_id_is_accepted_once(void **state)
{
    QmpRig *rig = *state;
    const char *args = "{'id':'a','backend':{'type':'null','data':{}}}";

    qmp_returns(rig, "chardev-add", args, "{}");
    qmp_fails(rig, "chardev-add", args, "GenericError", "there is a chardev 'a' already");
}

static void a_pty_returns_its_path(void **state)
{
    qmp_returns(*state, "chardev-add", "{'id':'a','backend':{'type':'pty','data':{}}}",
                "{\"pty\":\"/dev/pts/");
}

static void a_pty_does_not_wait_for_a_reader_of_its_path(void **state)
{
    static const char filling[4096];
    int fds[2], standard_output;

    fflush(stdout);
    standard_output = dup(STDOUT_FILENO);
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(fds[1], filling, sizeof(filling)) > 0) {
    }
    assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0); /* like a shell's pipe: a write would block */
    dup2(fds[1], STDOUT_FILENO);
    g_autofree char *reply =
        qmp_ok(*state, "chardev-add", "{'id':'a','backend':{'type':'pty','data':{}}}");
    dup2(standard_output, STDOUT_FILENO);
    close(standard_output);
    close(fds[0]);
    close(fds[1]);
    assert_non_null(strstr(reply, "{\"pty\":\"/dev/pts/"));
}

static void a_file_is_written(void **state)
{
    QmpRig *rig = *state;
    g_autofree char *path = g_strdup_printf("/tmp/skiff-qmp-chardev-%d", (int)getpid());
    g_autofree char *args = g_strdup_printf(
        "{'id':'a','backend':{'type':'file','data':{'out':'%s','append':true}}}", path);

    qmp_returns(rig, "chardev-add", args, "{}");
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
}

static void a_socket_listens_and_does_not_wait(void **state)
{
    QmpRig *rig = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *args = NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/skiff-qmp-chardev-%d.sock",
               (int)getpid());
    args = g_strdup_printf("{'id':'a','backend':{'type':'socket','data':{'addr':{'type':'unix',"
                           "'data':{'path':'%s'}}}}}",
                           address.sun_path);
    qmp_returns(rig, "chardev-add", args, "{}");
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    qmp_returns(rig, "chardev-remove", "{'id':'a'}", "{}");
    assert_int_equal(access(address.sun_path, F_OK), -1);
    close(fd);
}

static void a_tcp_socket_has_a_host_and_a_port(void **state)
{
    qmp_returns(*state, "chardev-add",
                "{'id':'a','backend':{'type':'socket','data':{'addr':{'type':'inet','data':{"
                "'host':'127.0.0.1','port':'0'}},'nodelay':true}}}",
                "{}");
    qmp_returns(*state, "query-chardev", NULL, "disconnected:tcp:127.0.0.1:");
}

static void a_socket_may_be_a_passed_descriptor(void **state)
{
    QmpRig *rig = *state;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    g_autofree char *args =
        g_strdup_printf("{'id':'a','backend':{'type':'socket','data':{'server':false,'addr':{"
                        "'type':'fd','data':{'str':'%d'}}}}}",
                        pair[0]);
    qmp_returns(rig, "chardev-add", args, "{}");
    qmp_fails(rig, "chardev-add",
              "{'id':'b','backend':{'type':'socket','data':{'server':false,'addr':{'type':'fd',"
              "'data':{'str':'nobody'}}}}}",
              "GenericError", "'nobody' not found");
    close(pair[0]);
    close(pair[1]);
}

static void invalid_backends_are_reported(void **state)
{
    static const struct {
        const char *backend, *part;
    } bad[] = {
        {"{'type':'udp','data':{}}", "'type' does not accept value 'udp'"},
        {"{'type':'null'}", "'data' is missing"},
        {"{'type':'null','data':{'x':1}}", "'x' is unexpected"},
        {"{'type':'file','data':{}}", "'out' is missing"},
        {"{'type':'file','data':{'out':3}}", "'out', expected: string"},
        {"{'type':'socket','data':{}}", "'addr' is missing"},
        {"{'type':'socket','data':{'addr':{'type':'unix','data':{}}}}", "'path' is missing"},
        {"{'type':'socket','data':{'addr':{'type':'unix','data':{'path':'/nonexistent/s'}}}}",
         "/nonexistent/s"},
        {"{'type':'socket','data':{'telnet':true,'addr':{'type':'unix','data':{'path':'/x'}}}}",
         "skiff has no telnet"},
        {"{'type':'socket','data':{'server':false,'addr':{'type':'unix','data':{'path':"
         "'/nonexistent/s'}}}}",
         "/nonexistent/s"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *args = g_strdup_printf("{'id':'a','backend':%s}", bad[i].backend);
        qmp_fails(*state, "chardev-add", args, "GenericError", bad[i].part);
    }
    qmp_returns(*state, "query-chardev", NULL, "[]");
}

static void a_break_reaches_the_frontend(void **state)
{
    QmpRig *rig = *state;
    RecordingFrontend *f = recording_frontend_new(0);

    enter_main();
    qmp_returns(rig, "chardev-add", "{'id':'a','backend':{'type':'null','data':{}}}", "{}");
    Chardev *c = chardev_claim("a", "test", NULL);
    chardev_attach(c, &recording_frontend_ops, f);
    qmp_returns(rig, "chardev-send-break", "{'id':'a'}", "{}");
    assert_non_null(strchr(f->events->str, 'B'));
    qmp_fails(rig, "chardev-send-break", "{'id':'b'}", "GenericError", "Chardev 'b' not found");
    chardev_release(c);
    recording_frontend_free(f);
}

static void events_of_ports_are_rate_limited(void **state)
{
    QmpRig *rig = *state;
    Device port = {.id = (char *)(uintptr_t) "p0", .env = &rig->vm.machine.env};

    enter_main();
    aio_context_set_virtual_time(rig->vm.ctx, 0);
    vm_serial_port_changed(&rig->vm, &port, false); /* back to the reported state */
    assert_string_equal(rig->events->str, "");
    for (unsigned i = 0; i < 1000; i++) {
        vm_serial_port_changed(&rig->vm, &port, i % 2 == 0);
    }
    vm_serial_port_changed(&rig->vm, &(Device){.env = &rig->vm.machine.env},
                           true); /* without an id: no event */
    assert_string_equal(rig->events->str, "VSERPORT_CHANGE{\"id\":\"p0\",\"open\":true}");
    aio_context_set_virtual_time(rig->vm.ctx, 1000000000);
    rig_settle(rig);
    assert_non_null(strstr(rig->events->str, " VSERPORT_CHANGE{\"id\":\"p0\",\"open\":false}"));
    g_string_truncate(rig->events, 0);
    aio_context_set_virtual_time(rig->vm.ctx, 2000000000);
    rig_settle(rig);
    vm_serial_port_changed(&rig->vm, &port, true);
    assert_string_equal(rig->events->str, "VSERPORT_CHANGE{\"id\":\"p0\",\"open\":true}");
    aio_context_set_virtual_time(rig->vm.ctx, 3000000000);
    rig_settle(rig);
    assert_int_equal(qmp_ports_known(), 1);
    vm_serial_port_changed(&rig->vm, &port, false);
    aio_context_set_virtual_time(rig->vm.ctx, 4000000000);
    rig_settle(rig);
    assert_int_equal(qmp_ports_known(), 0);
}

/* Opens and closes many ports. */
static void records_of_closed_ports_are_freed(void **state)
{
    QmpRig *rig = *state;

    enter_main();
    aio_context_set_virtual_time(rig->vm.ctx, 0);
    for (unsigned i = 0; i < 100; i++) {
        g_autofree char *id = g_strdup_printf("p%u", i);
        Device port = {.id = id, .env = &rig->vm.machine.env};
        vm_serial_port_changed(&rig->vm, &port, false);
        assert_int_equal(qmp_ports_known(), i);
        vm_serial_port_changed(&rig->vm, &port, true);
        vm_serial_port_changed(&rig->vm, &port, false);
    }
    aio_context_set_virtual_time(rig->vm.ctx, 1000000000); /* emits the last state of each */
    rig_settle(rig);
    aio_context_set_virtual_time(rig->vm.ctx, 2000000000);
    rig_settle(rig);
    assert_int_equal(qmp_ports_known(), 0);
}

static void backends_are_listed(void **state)
{
    qmp_returns(*state, "query-chardev-backends", NULL, "{\"name\":\"socket\"}");
}

#define CHARDEV_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHARDEV_TEST(a_chardev_is_added_listed_and_removed),
        CHARDEV_TEST(any_of_several_chardevs_is_removed),
        CHARDEV_TEST(a_chardev_in_use_is_not_removed),
        CHARDEV_TEST(an_id_is_accepted_once),
        CHARDEV_TEST(a_pty_returns_its_path),
        CHARDEV_TEST(a_pty_does_not_wait_for_a_reader_of_its_path),
        CHARDEV_TEST(a_file_is_written),
        CHARDEV_TEST(a_socket_listens_and_does_not_wait),
        CHARDEV_TEST(a_tcp_socket_has_a_host_and_a_port),
        CHARDEV_TEST(a_socket_may_be_a_passed_descriptor),
        CHARDEV_TEST(invalid_backends_are_reported),
        CHARDEV_TEST(a_break_reaches_the_frontend),
        CHARDEV_TEST(events_of_ports_are_rate_limited),
        CHARDEV_TEST(records_of_closed_ports_are_freed),
        CHARDEV_TEST(backends_are_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
