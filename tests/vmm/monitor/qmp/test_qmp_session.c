/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of a session: the protocol, the run state, clients that leave. Floods are in
 * test_qmp_session_floods. */
#include "tests/vmm/monitor/qmp/session_rig.h"

/* ---- the protocol ---- */

static void a_client_is_greeted_and_must_negotiate_first(void **state)
{
    SessionRig *rig = *state;
    session_connect(rig);
    assert_string_equal(
        rig->chardev->output->str,
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 0, \"major\": 10}, "
        "\"package\": \"skiff " SKIFF_VERSION "\"}, \"capabilities\": [\"oob\"]}}\r\n");
    session_expect_error(rig, "{\"execute\": \"query-status\"}\n", "CommandNotFound",
                         "Expecting capabilities negotiation with 'qmp_capabilities'");
    session_expect_reply(rig, CAPABILITIES, "{\"return\": {}}\r\n");
    session_expect_error(rig, CAPABILITIES, "CommandNotFound",
                         "Capabilities negotiation is already complete, command ignored");
    session_expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

static void an_id_may_be_any_value_and_is_returned_unchanged(void **state)
{
    static const char *const ids[] = {"1",    "-1.5", "\"x\"",  "\"\\u00E9\\uD83D\\uDE00\\n\\\"\"",
                                      "null", "true", "[1, 2]", "{\"execute\": \"quit\"}"};
    SessionRig *rig = *state;
    session_begin_client(rig);
    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_autofree char *text =
            g_strdup_printf("{\"id\": %s, \"execute\": \"query-kvm\"}\n", ids[i]);
        g_autofree char *reply = g_strdup_printf(
            "{\"return\": {\"enabled\": true, \"present\": true}, \"id\": %s}\r\n", ids[i]);
        session_expect_reply(rig, text, reply);
    }
    session_expect_reply(
        rig, "{\"execute\": \"x\", \"id\": 5}",
        "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command x has not "
        "been found\"}, \"id\": 5}\r\n");
}

static void strings_may_have_single_quotes(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    session_expect_reply(rig, "{'execute': 'query-kvm', 'id': 'it\\'s \"1\"'}",
                         "{\"return\": {\"enabled\": true, \"present\": true}, "
                         "\"id\": \"it's \\\"1\\\"\"}\r\n");
    session_expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

/* As in QEMU. The reply would need a string that is not Unicode. */
static void an_id_that_is_half_a_surrogate_pair_is_refused(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    session_expect_error(rig, "{\"execute\": \"query-kvm\", \"id\": \"\\uD800\"}\n", "GenericError",
                         "JSON parse error, \\\\uD800 is not a valid Unicode character");
    session_expect_error(rig, "{\"execute\": \"query-kvm\", \"id\": \"\xed\xa0\x80\"}\n",
                         "GenericError", "JSON parse error, invalid UTF-8 sequence in string");
}

static void an_invalid_request_is_refused_by_name(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    session_expect_error(rig, "hello\n", "GenericError", "JSON parse error, expecting an object");
    session_expect_error(rig, "[]\n", "GenericError", "QMP input must be a JSON object");
    session_expect_error(rig, "\"x\"\n", "GenericError", "QMP input must be a JSON object");
    session_expect_error(rig, "{}\n", "GenericError", "QMP input lacks member 'execute'");
    session_expect_error(rig, "{\"execute\": 7}\n", "GenericError",
                         "QMP input member 'execute' must be a string");
    session_expect_error(rig, "{\"execute\": \"stop\", \"arguments\": []}\n", "GenericError",
                         "QMP input member 'arguments' must be an object");
    session_expect_error(rig, "{\"execute\": \"stop\", \"argument\": {}}\n", "GenericError",
                         "QMP input member 'argument' is unexpected");
    session_expect_error(rig, "{\"exec-oob\": \"query-status\"}\n", "GenericError",
                         "QMP input member 'exec-oob' is unexpected");
    session_expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

static void garbage_is_answered_and_the_next_request_works(void **state)
{
    static const char *const garbage[] = {"\xff",
                                          "{\"execute\": }\n",
                                          "{\"execute\" \"stop\"}\n",
                                          "{'execute': 'query-kvm'\"}'\"}\n",
                                          "{\"a\": 01}\n",
                                          "{\"a\":1,\"a\":1}",
                                          "{\"x\": \"\n",
                                          "}\n",
                                          "{\"a\": \x07",
                                          "{\"execute\": \"a\\u0000b\"}",
                                          "\xc3\x28\n"};
    SessionRig *rig = *state;
    session_begin_client(rig);
    for (unsigned i = 0; i < G_N_ELEMENTS(garbage); i++) {
        session_forget_output(rig);
        session_say(rig, garbage[i]);
        if (!g_str_has_prefix(rig->chardev->output->str,
                              "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON ")) {
            fail_msg("%s: %s", garbage[i], rig->chardev->output->str);
        }
        assert_int_equal(session_count_of(rig, "\r\n"), 1);
        session_expect_reply(rig, "\n" STATUS(1), STATUS_REPLY(1));
    }
}

static void requests_may_be_split_or_joined(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    for (const char *at = "{\"execute\":\r\n  \"query-status\"\n,\"id\":1}"; *at != '\0'; at++) {
        char piece[] = {*at, '\0'};
        assert_int_equal(rig->chardev->output->len, 0);
        session_say(rig, piece);
    }
    assert_string_equal(rig->chardev->output->str, STATUS_REPLY(1));
    session_expect_reply(rig, STATUS(1) STATUS(2) STATUS(3),
                         STATUS_REPLY(1) STATUS_REPLY(2) STATUS_REPLY(3));
}

static void pretty_replies_span_lines(void **state)
{
    SessionRig *rig = *state;
    enter_main();
    FakeChardev *chardev = fake_chardev_new("pretty");
    QmpSession *pretty = qmp_session_new(&rig->vm, rig->vm.ctx, &chardev->base, true);
    fake_chardev_event(chardev, CHARDEV_OPENED);
    session_settle(rig);
    g_string_truncate(chardev->output, 0);
    fake_chardev_input(chardev, CAPABILITIES STATUS(1), strlen(CAPABILITIES STATUS(1)));
    session_settle(rig);
    assert_string_equal(chardev->output->str,
                        "{\n    \"return\": {\n    }\n}\r\n"
                        "{\n    \"return\": {\n        \"status\": \"running\",\n"
                        "        \"running\": true\n    },\n    \"id\": 1\n}\r\n");
    qmp_session_free(pretty);
    session_settle(rig);
    fake_chardev_free(chardev);
}

static void events_have_a_timestamp_and_their_data(void **state)
{
    SessionRig *rig = *state;
    enter_main();
    session_connect(rig);
    session_forget_output(rig);
    qmp_event_emit("RESUME", NULL);
    assert_int_equal(rig->chardev->output->len, 0); /* no event before the negotiation */
    session_begin_client(rig);
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

/* ---- the run state, clients that leave ---- */

static void a_stop_that_hangs_is_answered_and_has_an_event_later(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    rig->run.disk_hangs = true;
    session_expect_reply(rig, "{\"execute\": \"stop\"}\n", "");
    aio_context_set_virtual_time(rig->vm.ctx, SECOND_NS + SECOND_NS / 10);
    session_settle(rig);
    assert_string_equal(rig->chardev->output->str, "{\"return\": {}}\r\n");
    session_expect_reply(rig, "{\"execute\": \"query-status\"}\n",
                         "{\"return\": {\"status\": \"paused\", \"running\": false, \"stopping\": "
                         "true}}\r\n");
    session_forget_output(rig);
    session_release_disk(rig);
    session_say(rig, "{\"execute\": \"query-status\"}\n");
    assert_int_equal(session_count_of(rig, "\"stopping\""), 0);
}

static void a_reply_reaches_only_the_client_that_asked(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    rig->run.disk_hangs = true;
    session_say(rig, "{\"execute\": \"stop\", \"id\": \"first\"}\n" STATUS(2) STATUS(3));
    session_disconnect(rig);
    session_begin_client(rig);
    session_forget_output(rig);
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    session_settle(rig);
    session_release_disk(rig);
    assert_int_equal(rig->chardev->output->len, 0);
    session_expect_reply(
        rig, "{\"execute\": \"query-kvm\", \"id\": \"second\"}\n",
        "{\"return\": {\"enabled\": true, \"present\": true}, \"id\": \"second\"}\r\n");
}

/* Replaces the client between a command and its reply. */
static void change_client(void *arg, const void *object)
{
    SessionRig *rig = arg;
    sched_point_hook("qmp.executed", NULL, NULL);
    fake_chardev_event(rig->chardev, CHARDEV_CLOSED);
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
}

static void a_reply_is_dropped_when_its_client_leaves(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    sched_point_hook("qmp.executed", change_client, rig);
    session_say(rig, STATUS(1) STATUS(2));
    assert_int_equal(session_count_of(rig, "{\"QMP\""), 1);
    assert_int_equal(session_count_of(rig, "return"), 0);
    /* The next client has not negotiated yet. */
    session_expect_error(rig, "{\"execute\": \"query-status\"}\n", "CommandNotFound",
                         "Expecting capabilities negotiation with 'qmp_capabilities'");
}

/* The client sends all its requests and leaves. */
static void requests_of_a_client_that_left_are_executed(void **state)
{
    SessionRig *rig = *state;
    session_connect(rig);
    fake_chardev_input(rig->chardev, CAPABILITIES STATUS(1) "{\"execute\": \"quit\"}",
                       strlen(CAPABILITIES STATUS(1) "{\"execute\": \"quit\"}"));
    session_disconnect(rig);
    assert_true(rig->vm.life.quitting);
    assert_int_equal(session_count_of(rig, "return"), 0);
}

/* The requests follow a slow command and are more than the queue holds. */
static void a_full_queue_of_a_client_that_left_is_executed_in_order(void **state)
{
    SessionRig *rig = *state;
    g_autoptr(GString) many = g_string_new("{\"execute\": \"stop\"}\n");
    for (unsigned i = 0; i < 2 * QMP_QUEUE; i++) {
        g_string_append(many, STATUS(1));
    }
    g_string_append(many, "{\"execute\": \"quit\"}");
    session_begin_client(rig);
    rig->run.disk_hangs = true;
    assert_int_equal(session_say(rig, many->str), many->len);
    session_disconnect(rig);
    assert_false(rig->vm.life.quitting);
    session_begin_client(rig); /* the new client is served meanwhile */
    session_expect_reply(rig, "{\"execute\": \"query-kvm\"}",
                         "{\"return\": {\"enabled\": true, \"present\": true}}\r\n");
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    session_settle(rig);
    assert_true(rig->vm.life.quitting);
    session_release_disk(rig);
}

static bool session_is_answering(SessionRig *rig)
{
    return rig->chardev->base.frontend->is_answering(rig->chardev->base.frontend_opaque);
}

static void the_session_is_answering_until_all_replies_are_written(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    assert_false(session_is_answering(rig));
    rig->run.disk_hangs = true;
    session_say(rig, "{\"execute\": \"stop\"}\n" STATUS(2));
    assert_true(session_is_answering(rig));
    fake_chardev_make_room(rig->chardev, 1);
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    session_release_disk(rig);
    assert_true(session_is_answering(rig));
    unsigned accepts = rig->chardev->accepts;
    fake_chardev_make_room(rig->chardev, SIZE_MAX);
    session_settle(rig);
    assert_false(session_is_answering(rig));
    assert_true(rig->chardev->accepts > accepts); /* the chardev is asked for more input */
}

static void half_a_line_is_dropped_with_its_client(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    session_say(rig, "{\"execute\": \"query-sta");
    session_disconnect(rig);
    session_begin_client(rig);
    session_expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

static void a_session_may_be_freed_while_a_command_runs(void **state)
{
    SessionRig *rig = *state;
    enter_main();
    session_begin_client(rig);
    rig->run.disk_hangs = true;
    session_say(rig, "{\"execute\": \"stop\"}\n");
    qmp_session_free(g_steal_pointer(&rig->session));
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    session_release_disk(rig);
}

static void commands_of_clients_that_left_are_bounded(void **state)
{
    SessionRig *rig = *state;
    rig->run.disk_hangs = true;
    for (unsigned i = 0; i < QMP_ORPHANS; i++) {
        session_begin_client(rig);
        session_say(rig, "{\"execute\": \"stop\"}\n");
        session_disconnect(rig);
    }
    session_begin_client(rig);
    session_forget_output(rig);
    session_say(rig, "{\"execute\": \"stop\"}\n");
    assert_int_equal(session_count_of(rig, "of clients that have left still run"), 1);
    session_forget_output(rig);
    session_say(rig, "{\"execute\": \"query-status\"}\n");
    assert_int_equal(session_count_of(rig, "\"stopping\": true"), 1);
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    session_release_disk(rig);
    session_expect_reply(rig, "{\"execute\": \"stop\"}\n", "{\"return\": {}}\r\n");
}

/* ---- out of band ---- */

static void out_of_band_overtakes_a_command_that_waits(void **state)
{
    SessionRig *rig = *state;
    session_connect(rig);
    session_say(rig,
                "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}\n");
    rig->run.disk_hangs = true;
    session_forget_output(rig);
    session_say(rig,
                "{\"execute\": \"stop\", \"id\": 1}\n{\"execute\": \"query-kvm\", \"id\": 2}\n");
    session_say(
        rig, "{\"exec-oob\": \"query-status\", \"id\": 3}\n{\"exec-oob\": \"stop\", \"id\": 4}\n");
    assert_string_equal(rig->chardev->output->str,
                        "{\"return\": {\"status\": \"paused\", \"running\": false, "
                        "\"stopping\": true}, \"id\": "
                        "3}\r\n"
                        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"The command "
                        "stop does not support "
                        "OOB\"}, \"id\": 4}\r\n");
    session_forget_output(rig);
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    session_settle(rig);
    assert_string_equal(rig->chardev->output->str,
                        "{\"return\": {}, \"id\": 1}\r\n"
                        "{\"return\": {\"enabled\": true, \"present\": true}, \"id\": 2}\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(a_client_is_greeted_and_must_negotiate_first),
        SESSION_TEST(an_id_may_be_any_value_and_is_returned_unchanged),
        SESSION_TEST(strings_may_have_single_quotes),
        SESSION_TEST(an_id_that_is_half_a_surrogate_pair_is_refused),
        SESSION_TEST(an_invalid_request_is_refused_by_name),
        SESSION_TEST(garbage_is_answered_and_the_next_request_works),
        SESSION_TEST(requests_may_be_split_or_joined),
        SESSION_TEST(pretty_replies_span_lines),
        SESSION_TEST(events_have_a_timestamp_and_their_data),
        SESSION_TEST(a_stop_that_hangs_is_answered_and_has_an_event_later),
        SESSION_TEST(a_reply_reaches_only_the_client_that_asked),
        SESSION_TEST(a_reply_is_dropped_when_its_client_leaves),
        SESSION_TEST(requests_of_a_client_that_left_are_executed),
        SESSION_TEST(a_full_queue_of_a_client_that_left_is_executed_in_order),
        SESSION_TEST(the_session_is_answering_until_all_replies_are_written),
        SESSION_TEST(half_a_line_is_dropped_with_its_client),
        SESSION_TEST(a_session_may_be_freed_while_a_command_runs),
        SESSION_TEST(commands_of_clients_that_left_are_bounded),
        SESSION_TEST(out_of_band_overtakes_a_command_that_waits),
    };
    return cmocka_run_group_tests_name("vmm/monitor/qmp/qmp_session", tests, NULL, NULL);
}
