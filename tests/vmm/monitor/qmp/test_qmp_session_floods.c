/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of a session that send more than is executed, or do not read replies. */
#include "tests/vmm/monitor/qmp/session_rig.h"

static void a_full_queue_stops_the_reading(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    rig->run.disk_hangs = true;
    session_say(rig, "{\"execute\": \"stop\"}\n");
    session_forget_output(rig);
    size_t taken = 0;
    for (unsigned i = 0; i < 1000; i++) {
        taken += session_say(rig, STATUS(7));
    }
    assert_true(taken <= (QMP_QUEUE + 1) * strlen(STATUS(7)));
    assert_int_equal(rig->chardev->base.frontend->can_receive(rig->session), 0);
    unsigned accepts = rig->chardev->accepts;
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    session_settle(rig);
    assert_true(rig->chardev->accepts > accepts); /* the chardev is asked for more input */
    assert_int_equal(session_count_of(rig, "\"id\": 7"), QMP_QUEUE);
}

static void long_requests_fill_the_queue_earlier(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    rig->run.disk_hangs = true;
    session_say(rig, "{\"execute\": \"stop\"}\n");
    session_forget_output(rig);
    g_autofree char *blanks = g_strnfill(QMP_QUEUE_BYTES / 2, ' ');
    g_autofree char *text = g_strdup_printf("{%s\"execute\": \"query-kvm\", \"id\": 7}\n", blanks);
    size_t taken = 0;
    for (unsigned i = 0; i < 8; i++) {
        taken += session_say(rig, text);
    }
    assert_true(taken < 3 * strlen(text));
    aio_context_set_virtual_time(rig->vm.ctx, 2 * SECOND_NS);
    session_settle(rig);
    assert_int_equal(session_count_of(rig, "\"id\": 7"), 2);
}

static void no_command_runs_while_its_client_does_not_read(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    sched_point_count("qmp.executed");
    fake_chardev_make_room(rig->chardev, 0);
    const unsigned flood = 100000;
    size_t taken = 0;
    unsigned asked = 0;
    for (; asked < flood; asked++) {
        size_t given = session_say(rig, STATUS(7));
        taken += given;
        if (given == 0) {
            break;
        }
    }
    assert_true(asked < flood);
    assert_true(taken < 4 * QMP_OUTPUT_MAX);
    fake_chardev_make_room(rig->chardev, SIZE_MAX);
    session_settle(rig);
    assert_int_equal(session_count_of(rig, "\"id\": 7"),
                     asked); /* none is lost, none comes twice */
    assert_true(rig->chardev->output->len < 2 * QMP_OUTPUT_MAX);
    session_forget_output(rig);
    session_expect_reply(rig, STATUS(1), STATUS_REPLY(1));
}

static void events_for_a_client_that_does_not_read_are_dropped(void **state)
{
    SessionRig *rig = *state;
    enter_main();
    session_begin_client(rig);
    fake_chardev_make_room(rig->chardev, 0);
    for (unsigned i = 0; i < 10000; i++) {
        qmp_event_emit("POWERDOWN", NULL);
    }
    fake_chardev_make_room(rig->chardev, SIZE_MAX);
    session_settle(rig);
    assert_true(rig->chardev->output->len > QMP_OUTPUT_MAX &&
                rig->chardev->output->len < QMP_OUTPUT_MAX + 1024);
    session_forget_output(rig);
    qmp_event_emit("POWERDOWN", NULL);
    assert_int_equal(session_count_of(rig, "POWERDOWN"), 1);
}

static void a_flooding_client_does_not_delay_others(void **state)
{
    SessionRig *rig = *state;
    enter_main();
    FakeChardev *other = fake_chardev_new("other");
    QmpSession *session = qmp_session_new(&rig->vm, rig->vm.ctx, &other->base, false);
    fake_chardev_event(other, CHARDEV_OPENED);
    session_begin_client(rig);
    fake_chardev_input(other, CAPABILITIES, strlen(CAPABILITIES));
    session_settle(rig);
    g_string_truncate(other->output, 0);
    GString *flood = g_string_new(NULL);
    for (unsigned i = 0; i < 60; i++) {
        g_string_append(flood, STATUS(7));
    }
    fake_chardev_input(rig->chardev, flood->str, flood->len);
    aio_context_step(rig->vm.ctx, false);
    fake_chardev_input(other, STATUS(1), strlen(STATUS(1)));
    unsigned before = session_count_of(rig, "\"id\": 7");
    while (other->output->len == 0) {
        aio_context_step(rig->vm.ctx, false);
    }
    assert_true(session_count_of(rig, "\"id\": 7") <= before + 2);
    session_settle(rig);
    assert_int_equal(session_count_of(rig, "\"id\": 7"), 60);
    qmp_session_free(session);
    session_settle(rig);
    fake_chardev_free(other);
    g_string_free(flood, true);
}

static void a_line_of_many_megabytes_is_one_error(void **state)
{
    SessionRig *rig = *state;
    session_begin_client(rig);
    g_autofree char *chunk = g_strnfill(65536, 'x');
    session_say(rig, "{\"execute\": \"");
    for (unsigned i = 0; i < 256; i++) {
        assert_int_equal(session_say(rig, chunk), 65536);
    }
    assert_int_equal(session_count_of(rig, "JSON parse error, longer than 1 MiB"), 1);
    session_expect_reply(rig, "\"}\n" STATUS(1), STATUS_REPLY(1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(a_full_queue_stops_the_reading),
        SESSION_TEST(long_requests_fill_the_queue_earlier),
        SESSION_TEST(no_command_runs_while_its_client_does_not_read),
        SESSION_TEST(events_for_a_client_that_does_not_read_are_dropped),
        SESSION_TEST(a_flooding_client_does_not_delay_others),
        SESSION_TEST(a_line_of_many_megabytes_is_one_error),
    };
    return cmocka_run_group_tests_name("vmm/monitor/qmp/qmp_session floods", tests, NULL, NULL);
}
