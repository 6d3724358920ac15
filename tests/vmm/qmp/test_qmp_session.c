/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of a session, honest and otherwise, on a chardev of the test's own and a loop that is
 * stepped. The VM is one of counters, whose disk may hang. */
#include "tests/vmm/qmp/qmp_rig.h"
#include "tests/support/chardev_harness.h"
#include "tests/support/fake_chardev.h"
#include "util/sched_point.h"
#include "vmm/qmp/qmp_session.h"

#define SECOND_NS INT64_C(1000000000)
#define CAPABILITIES "{\"execute\": \"qmp_capabilities\"}\n"
#define STATUS(id) "{\"execute\": \"query-status\", \"id\": " #id "}\n"
#define STATUS_REPLY(id)                                                                           \
    "{\"return\": {\"status\": \"running\", \"running\": true}, \"id\": " #id "}\r\n"

typedef struct Rig {
    Vm vm;
    VmConfig config;
    FakeChardev *chardev;
    QmpSession *session;
    bool disk_hangs;
    GArray *held; /* CoToken */
} Rig;

static void rig_co_drain(void *opaque)
{
    enter_coroutine();
    Rig *rig = opaque;
    if (rig->disk_hangs) {
        CoToken token = co_arm();
        g_array_append_val(rig->held, token);
        co_wait(token);
    }
}

static const RunStateOps hanging_ops = {
    .co_park = rig_co_nothing,
    .unpark = rig_co_nothing,
    .co_stop_backends = rig_co_nothing,
    .co_start_backends = rig_co_nothing,
    .co_drain = rig_co_drain,
    .co_reset = rig_co_reset,
};

static void settle(Rig *rig)
{
    while (aio_context_step(rig->vm.ctx, false)) {
    }
}

/* A client comes. */
static void connect_client(Rig *rig)
{
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    settle(rig);
}

static void disconnect_client(Rig *rig)
{
    fake_chardev_event(rig->chardev, CHARDEV_CLOSED);
    settle(rig);
}

static int setup(void **state)
{
    Rig *rig = g_new0(Rig, 1);
    if (thread_role() != THREAD_MAIN) {
        thread_adopt_role(THREAD_MAIN, "main");
    }
    enter_main();
    vm_config_init(&rig->config);
    rig->held = g_array_new(false, false, sizeof(CoToken));
    rig->vm.config = &rig->config;
    rig->vm.ctx = aio_context_new("main", NULL);
    rig->vm.built = true;
    aio_context_set_virtual_time(rig->vm.ctx, SECOND_NS);
    run_state_init(&rig->vm.run, rig->vm.ctx, &hanging_ops, rig);
    vm_events_init(&rig->vm);
    run_state_request_start(&rig->vm.run);
    settle(rig);
    rig->chardev = fake_chardev_new("qmp");
    rig->session = qmp_session_new(&rig->vm, rig->vm.ctx, &rig->chardev->base, false);
    *state = rig;
    return 0;
}

static void release_disk(Rig *rig)
{
    rig->disk_hangs = false;
    while (rig->held->len > 0) {
        co_wake(g_array_index(rig->held, CoToken, 0));
        g_array_remove_index(rig->held, 0);
    }
    settle(rig);
}

static int teardown(void **state)
{
    Rig *rig = *state;
    enter_main();
    sched_point_reset();
    qmp_session_free(rig->session);
    release_disk(rig);
    fake_chardev_free(rig->chardev);
    aio_context_free(rig->vm.ctx);
    vm_config_clear(&rig->config);
    g_array_free(rig->held, true);
    g_free(rig);
    return 0;
}

static void forget_output(Rig *rig)
{
    g_string_truncate(rig->chardev->output, 0);
}

/* A client comes and negotiates; its output begins behind that. */
static void begin_client(Rig *rig)
{
    connect_client(rig);
    fake_chardev_input(rig->chardev, CAPABILITIES, strlen(CAPABILITIES));
    settle(rig);
    forget_output(rig);
}

static size_t say(Rig *rig, const char *text)
{
    size_t given = fake_chardev_input(rig->chardev, text, strlen(text));
    settle(rig);
    return given;
}

/* All of @text is taken; the answer is @reply. */
static void expect_reply(Rig *rig, const char *text, const char *reply)
{
    forget_output(rig);
    assert_int_equal(say(rig, text), strlen(text));
    assert_string_equal(rig->chardev->output->str, reply);
}

static void expect_error(Rig *rig, const char *text, const char *error_class, const char *desc)
{
    g_autofree char *reply = g_strdup_printf(
        "{\"error\": {\"class\": \"%s\", \"desc\": \"%s\"}}\r\n", error_class, desc);
    expect_reply(rig, text, reply);
}

static unsigned count_of(const Rig *rig, const char *word)
{
    unsigned count = 0;
    for (const char *at = rig->chardev->output->str; (at = strstr(at, word)) != NULL; at++) {
        count++;
    }
    return count;
}

/* ---- the protocol ---- */

static void a_client_is_greeted_and_must_negotiate_first(void **state)
{
    Rig *rig = *state;
    connect_client(rig);
    assert_string_equal(
        rig->chardev->output->str,
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 0, \"major\": 10}, "
        "\"package\": \"skiff " SKIFF_VERSION "\"}, \"capabilities\": [\"oob\"]}}\r\n");
    expect_error(rig, "{\"execute\": \"query-status\"}\n", "CommandNotFound",
                 "Expecting capabilities negotiation with 'qmp_capabilities'");
    expect_reply(rig, CAPABILITIES, "{\"return\": {}}\r\n");
    expect_error(rig, CAPABILITIES, "CommandNotFound",
                 "Capabilities negotiation is already complete, command ignored");
    expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

static void an_id_may_be_anything_and_comes_back_as_it_was(void **state)
{
    static const char *const ids[] = {"1",    "-1.5", "\"x\"",  "\"\\u00E9\\uD83D\\uDE00\\n\\\"\"",
                                      "null", "true", "[1, 2]", "{\"execute\": \"quit\"}"};
    Rig *rig = *state;
    begin_client(rig);
    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_autofree char *text =
            g_strdup_printf("{\"id\": %s, \"execute\": \"query-kvm\"}\n", ids[i]);
        g_autofree char *reply = g_strdup_printf(
            "{\"return\": {\"enabled\": true, \"present\": true}, \"id\": %s}\r\n", ids[i]);
        expect_reply(rig, text, reply);
    }
    expect_reply(rig, "{\"execute\": \"x\", \"id\": 5}",
                 "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command x has not "
                 "been found\"}, \"id\": 5}\r\n");
}

static void what_is_no_request_is_refused_by_name(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    expect_error(rig, "hello\n", "GenericError", "JSON parse error, expecting an object");
    expect_error(rig, "[]\n", "GenericError", "QMP input must be a JSON object");
    expect_error(rig, "\"x\"\n", "GenericError", "QMP input must be a JSON object");
    expect_error(rig, "{}\n", "GenericError", "QMP input lacks member 'execute'");
    expect_error(rig, "{\"execute\": 7}\n", "GenericError",
                 "QMP input member 'execute' must be a string");
    expect_error(rig, "{\"execute\": \"stop\", \"arguments\": []}\n", "GenericError",
                 "QMP input member 'arguments' must be an object");
    expect_error(rig, "{\"execute\": \"stop\", \"argument\": {}}\n", "GenericError",
                 "QMP input member 'argument' is unexpected");
    expect_error(rig, "{\"exec-oob\": \"query-status\"}\n", "GenericError",
                 "QMP input member 'exec-oob' is unexpected");
    expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

static void garbage_is_answered_and_what_follows_works(void **state)
{
    static const char *const garbage[] = {"\xff",
                                          "{\"execute\": }\n",
                                          "{\"execute\" \"stop\"}\n",
                                          "{'execute': 'stop'}\n",
                                          "{\"a\": 01}\n",
                                          "{\"a\":1,\"a\":1}",
                                          "{\"x\": \"\n",
                                          "}\n",
                                          "{\"a\": \x07",
                                          "{\"execute\": \"a\\u0000b\"}",
                                          "\xc3\x28\n"};
    Rig *rig = *state;
    begin_client(rig);
    for (unsigned i = 0; i < G_N_ELEMENTS(garbage); i++) {
        forget_output(rig);
        say(rig, garbage[i]);
        if (!g_str_has_prefix(rig->chardev->output->str,
                              "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON ")) {
            fail_msg("%s: %s", garbage[i], rig->chardev->output->str);
        }
        assert_int_equal(count_of(rig, "\r\n"), 1);
        expect_reply(rig, "\n" STATUS(1), STATUS_REPLY(1));
    }
}

static void requests_come_in_pieces_or_many_at_once(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    for (const char *at = "{\"execute\":\r\n  \"query-status\"\n,\"id\":1}"; *at != '\0'; at++) {
        char piece[] = {*at, '\0'};
        assert_int_equal(rig->chardev->output->len, 0);
        say(rig, piece);
    }
    assert_string_equal(rig->chardev->output->str, STATUS_REPLY(1));
    expect_reply(rig, STATUS(1) STATUS(2) STATUS(3),
                 STATUS_REPLY(1) STATUS_REPLY(2) STATUS_REPLY(3));
}

static void pretty_replies_span_lines(void **state)
{
    Rig *rig = *state;
    enter_main();
    FakeChardev *chardev = fake_chardev_new("pretty");
    QmpSession *pretty = qmp_session_new(&rig->vm, rig->vm.ctx, &chardev->base, true);
    fake_chardev_event(chardev, CHARDEV_OPENED);
    settle(rig);
    g_string_truncate(chardev->output, 0);
    fake_chardev_input(chardev, CAPABILITIES STATUS(1), strlen(CAPABILITIES STATUS(1)));
    settle(rig);
    assert_string_equal(chardev->output->str,
                        "{\n    \"return\": {}\n}\r\n"
                        "{\n    \"return\": {\n        \"status\": \"running\",\n"
                        "        \"running\": true\n    },\n    \"id\": 1\n}\r\n");
    qmp_session_free(pretty);
    settle(rig);
    fake_chardev_free(chardev);
}

static void events_have_a_timestamp_and_their_data(void **state)
{
    Rig *rig = *state;
    enter_main();
    connect_client(rig);
    forget_output(rig);
    qmp_event_emit("RESUME", NULL);
    assert_int_equal(rig->chardev->output->len, 0); /* not before the negotiation */
    begin_client(rig);
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "action", "run");
    qmp_event_emit("GUEST_PANICKED", data);
    long long seconds;
    int micros, at = 0;
    sscanf(rig->chardev->output->str,
           "{\"timestamp\": {\"seconds\": %lld, \"microseconds\": %d}, %n", &seconds, &micros, &at);
    assert_true(at > 0 && seconds > 0 && micros >= 0 && micros < 1000000);
    assert_string_equal(rig->chardev->output->str + at,
                        "\"event\": \"GUEST_PANICKED\", \"data\": {\"action\": \"run\"}}\r\n");
}

/* ---- the VM's life ---- */

static void a_stop_that_hangs_is_answered_and_told(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    rig->disk_hangs = true;
    expect_reply(rig, "{\"execute\": \"stop\"}\n", "");
    aio_context_set_virtual_time(rig->vm.ctx, SECOND_NS + SECOND_NS / 10);
    settle(rig);
    assert_string_equal(rig->chardev->output->str, "{\"return\": {}}\r\n");
    expect_reply(rig, "{\"execute\": \"query-status\"}\n",
                 "{\"return\": {\"status\": \"paused\", \"running\": false, \"stopping\": "
                 "true}}\r\n");
    forget_output(rig);
    release_disk(rig);
    say(rig, "{\"execute\": \"query-status\"}\n");
    assert_int_equal(count_of(rig, "\"stopping\""), 0);
}

static void a_reply_reaches_only_the_client_that_asked(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    rig->disk_hangs = true;
    say(rig, "{\"execute\": \"stop\", \"id\": \"first\"}\n" STATUS(2) STATUS(3));
    disconnect_client(rig);
    begin_client(rig);
    forget_output(rig);
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    settle(rig);
    release_disk(rig);
    assert_int_equal(rig->chardev->output->len, 0);
    expect_reply(rig, "{\"execute\": \"query-kvm\", \"id\": \"second\"}\n",
                 "{\"return\": {\"enabled\": true, \"present\": true}, \"id\": \"second\"}\r\n");
}

/* The client changes at the very moment between a command and its reply. */
static void change_client(void *arg, const void *object)
{
    Rig *rig = arg;
    sched_point_hook("qmp.executed", NULL, NULL);
    fake_chardev_event(rig->chardev, CHARDEV_CLOSED);
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
}

static void a_client_that_leaves_before_its_reply_takes_it_along(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    sched_point_hook("qmp.executed", change_client, rig);
    say(rig, STATUS(1) STATUS(2));
    assert_int_equal(count_of(rig, "{\"QMP\""), 1);
    assert_int_equal(count_of(rig, "return"), 0);
    /* And the next one is not the negotiated client that the last one was. */
    expect_error(rig, "{\"execute\": \"query-status\"}\n", "CommandNotFound",
                 "Expecting capabilities negotiation with 'qmp_capabilities'");
}

static void half_a_line_goes_with_its_client(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    say(rig, "{\"execute\": \"query-sta");
    disconnect_client(rig);
    begin_client(rig);
    expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

static void a_session_may_end_while_a_command_runs(void **state)
{
    Rig *rig = *state;
    enter_main();
    begin_client(rig);
    rig->disk_hangs = true;
    say(rig, "{\"execute\": \"stop\"}\n");
    qmp_session_free(g_steal_pointer(&rig->session));
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    release_disk(rig);
}

static void clients_that_leave_commands_behind_are_bounded(void **state)
{
    Rig *rig = *state;
    rig->disk_hangs = true;
    for (unsigned i = 0; i < QMP_ORPHANS; i++) {
        begin_client(rig);
        say(rig, "{\"execute\": \"stop\"}\n");
        disconnect_client(rig);
    }
    begin_client(rig);
    forget_output(rig);
    say(rig, "{\"execute\": \"stop\"}\n");
    assert_int_equal(count_of(rig, "of clients that have left still run"), 1);
    forget_output(rig);
    say(rig, "{\"execute\": \"query-status\"}\n");
    assert_int_equal(count_of(rig, "\"stopping\": true"), 1);
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    release_disk(rig);
    expect_reply(rig, "{\"execute\": \"stop\"}\n", "{\"return\": {}}\r\n");
}

/* ---- out of band ---- */

static void out_of_band_goes_past_a_command_that_waits(void **state)
{
    Rig *rig = *state;
    connect_client(rig);
    say(rig, "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}\n");
    rig->disk_hangs = true;
    forget_output(rig);
    say(rig, "{\"execute\": \"stop\", \"id\": 1}\n{\"execute\": \"query-kvm\", \"id\": 2}\n");
    say(rig, "{\"exec-oob\": \"query-status\", \"id\": 3}\n{\"exec-oob\": \"stop\", \"id\": 4}\n");
    assert_string_equal(rig->chardev->output->str,
                        "{\"return\": {\"status\": \"paused\", \"running\": false, "
                        "\"stopping\": true}, \"id\": "
                        "3}\r\n"
                        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"The command "
                        "stop does not support "
                        "OOB\"}, \"id\": 4}\r\n");
    forget_output(rig);
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    settle(rig);
    assert_string_equal(rig->chardev->output->str,
                        "{\"return\": {}, \"id\": 1}\r\n"
                        "{\"return\": {\"enabled\": true, \"present\": true}, \"id\": 2}\r\n");
}

/* ---- floods ---- */

static void a_full_queue_stops_the_reading(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    rig->disk_hangs = true;
    say(rig, "{\"execute\": \"stop\"}\n");
    forget_output(rig);
    size_t taken = 0;
    for (unsigned i = 0; i < 1000; i++) {
        taken += say(rig, STATUS(7));
    }
    assert_true(taken <= (QMP_QUEUE + 1) * strlen(STATUS(7)));
    assert_int_equal(rig->chardev->base.frontend->can_receive(rig->session), 0);
    unsigned accepts = rig->chardev->accepts;
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    settle(rig);
    assert_true(rig->chardev->accepts > accepts); /* it is told that there is room again */
    assert_int_equal(count_of(rig, "\"id\": 7"), QMP_QUEUE);
}

static void long_requests_fill_the_queue_sooner(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    rig->disk_hangs = true;
    say(rig, "{\"execute\": \"stop\"}\n");
    forget_output(rig);
    g_autofree char *blanks = g_strnfill(QMP_QUEUE_BYTES / 2, ' ');
    g_autofree char *text = g_strdup_printf("{%s\"execute\": \"query-kvm\", \"id\": 7}\n", blanks);
    size_t taken = 0;
    for (unsigned i = 0; i < 8; i++) {
        taken += say(rig, text);
    }
    assert_true(taken < 3 * strlen(text));
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    settle(rig);
    assert_int_equal(count_of(rig, "\"id\": 7"), 2);
}

static void who_does_not_read_gets_no_more_commands_run(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    sched_point_count("qmp.executed");
    fake_chardev_make_room(rig->chardev, 0);
    const unsigned flood = 100000;
    size_t taken = 0;
    unsigned asked = 0;
    for (; asked < flood; asked++) {
        size_t given = say(rig, STATUS(7));
        taken += given;
        if (given == 0) {
            break;
        }
    }
    assert_true(asked < flood);
    assert_true(taken < 4 * QMP_OUTPUT_MAX);
    fake_chardev_make_room(rig->chardev, SIZE_MAX);
    settle(rig);
    assert_int_equal(count_of(rig, "\"id\": 7"), asked); /* none is lost, none comes twice */
    assert_true(rig->chardev->output->len < 2 * QMP_OUTPUT_MAX);
    forget_output(rig);
    expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

static void events_that_nobody_reads_are_dropped(void **state)
{
    Rig *rig = *state;
    enter_main();
    begin_client(rig);
    fake_chardev_make_room(rig->chardev, 0);
    for (unsigned i = 0; i < 10000; i++) {
        qmp_event_emit("POWERDOWN", NULL);
    }
    fake_chardev_make_room(rig->chardev, SIZE_MAX);
    settle(rig);
    assert_true(rig->chardev->output->len > QMP_OUTPUT_MAX &&
                rig->chardev->output->len < QMP_OUTPUT_MAX + 1024);
    forget_output(rig);
    qmp_event_emit("POWERDOWN", NULL);
    assert_int_equal(count_of(rig, "POWERDOWN"), 1);
}

static void a_flooding_client_lets_others_have_their_turn(void **state)
{
    Rig *rig = *state;
    enter_main();
    FakeChardev *other = fake_chardev_new("other");
    QmpSession *session = qmp_session_new(&rig->vm, rig->vm.ctx, &other->base, false);
    fake_chardev_event(other, CHARDEV_OPENED);
    begin_client(rig);
    fake_chardev_input(other, CAPABILITIES, strlen(CAPABILITIES));
    settle(rig);
    g_string_truncate(other->output, 0);
    GString *flood = g_string_new(NULL);
    for (unsigned i = 0; i < 60; i++) {
        g_string_append(flood, STATUS(7));
    }
    fake_chardev_input(rig->chardev, flood->str, flood->len);
    aio_context_step(rig->vm.ctx, false);
    fake_chardev_input(other, STATUS(1), strlen(STATUS(1)));
    unsigned before = count_of(rig, "\"id\": 7");
    while (other->output->len == 0) {
        aio_context_step(rig->vm.ctx, false);
    }
    assert_true(count_of(rig, "\"id\": 7") <= before + 2);
    settle(rig);
    assert_int_equal(count_of(rig, "\"id\": 7"), 60);
    qmp_session_free(session);
    settle(rig);
    fake_chardev_free(other);
    g_string_free(flood, true);
}

static void a_line_of_many_megabytes_is_one_error(void **state)
{
    Rig *rig = *state;
    begin_client(rig);
    g_autofree char *chunk = g_strnfill(65536, 'x');
    say(rig, "{\"execute\": \"");
    for (unsigned i = 0; i < 256; i++) {
        assert_int_equal(say(rig, chunk), 65536);
    }
    assert_int_equal(count_of(rig, "JSON parse error, longer than 1 MiB"), 1);
    expect_reply(rig, "\"}\n" STATUS(1), STATUS_REPLY(1));
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(a_client_is_greeted_and_must_negotiate_first),
        ON_RIG(an_id_may_be_anything_and_comes_back_as_it_was),
        ON_RIG(what_is_no_request_is_refused_by_name),
        ON_RIG(garbage_is_answered_and_what_follows_works),
        ON_RIG(requests_come_in_pieces_or_many_at_once),
        ON_RIG(pretty_replies_span_lines),
        ON_RIG(events_have_a_timestamp_and_their_data),
        ON_RIG(a_stop_that_hangs_is_answered_and_told),
        ON_RIG(a_reply_reaches_only_the_client_that_asked),
        ON_RIG(a_client_that_leaves_before_its_reply_takes_it_along),
        ON_RIG(half_a_line_goes_with_its_client),
        ON_RIG(a_session_may_end_while_a_command_runs),
        ON_RIG(clients_that_leave_commands_behind_are_bounded),
        ON_RIG(out_of_band_goes_past_a_command_that_waits),
        ON_RIG(a_full_queue_stops_the_reading),
        ON_RIG(long_requests_fill_the_queue_sooner),
        ON_RIG(who_does_not_read_gets_no_more_commands_run),
        ON_RIG(events_that_nobody_reads_are_dropped),
        ON_RIG(a_flooding_client_lets_others_have_their_turn),
        ON_RIG(a_line_of_many_megabytes_is_one_error),
    };
    return cmocka_run_group_tests_name("vmm/qmp/qmp_session", tests, NULL, NULL);
}
