/* SPDX-License-Identifier: Apache-2.0 */
/* The prompt on a chardev: peers that read slowly, leave or type ahead. */
#include "tests/vmm/monitor/hmp/hmp_rig.h"

#include <stdatomic.h>
#include "tests/support/fake_chardev.h"

#define GREETING "\r\nskiff " SKIFF_VERSION " monitor; help lists its commands\r\n"
#define PROMPT "(skiff) "

typedef struct Rig {
    QmpRig *base;
    FakeChardev *chardev;
    HmpMonitor *monitor;
} Rig;

static int rig_setup(void **state)
{
    Rig *rig = g_new0(Rig, 1);
    void *base = NULL;
    hmp_rig_setup(&base);
    enter_main();
    rig->base = base;
    rig->chardev = fake_chardev_new("mon");
    rig->monitor = hmp_monitor_new(&rig->base->vm, &rig->chardev->base);
    *state = rig;
    return 0;
}

static int rig_teardown(void **state)
{
    Rig *rig = *state;
    enter_main();
    if (rig->monitor != NULL) {
        hmp_monitor_free(rig->monitor);
    }
    fake_chardev_free(rig->chardev);
    void *base = rig->base;
    qmp_rig_teardown(&base);
    g_free(rig);
    return 0;
}

/* Types @keys and returns the number of bytes that the monitor took; the rest is dropped. */
static RUNS_IN_MAIN size_t rig_type(Rig *rig, const char *keys)
{
    return fake_chardev_input(rig->chardev, keys, strlen(keys));
}

static void assert_written(Rig *rig, const char *expected)
{
    assert_string_equal(rig->chardev->output->str, expected);
    g_string_truncate(rig->chardev->output, 0);
}

/* ---- answering ---- */

static void it_greets_and_answers(void **state)
{
    enter_main();
    Rig *rig = *state;
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    assert_written(rig, GREETING PROMPT);
    rig_type(rig, "info status\r");
    assert_written(rig, "info status\r\nVM status: paused (prelaunch)\r\n" PROMPT);
    rig_type(rig, "no such\r");
    assert_written(rig, "no such\r\nunknown command: 'no'; help lists the commands\r\n" PROMPT);
}

static void a_peer_that_types_before_its_open_event_is_greeted_once(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "p 1\r");
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    assert_written(rig, GREETING PROMPT "p 1\r\n0x1\r\n" PROMPT);
}

static void the_prompt_is_shown_with_the_focus(void **state)
{
    enter_main();
    Rig *rig = *state;
    fake_chardev_event(rig->chardev, CHARDEV_FOCUSED);
    assert_written(rig, GREETING PROMPT);
    rig_type(rig, "hel");
    fake_chardev_event(rig->chardev, CHARDEV_UNFOCUSED);
    g_string_truncate(rig->chardev->output, 0);
    fake_chardev_event(rig->chardev, CHARDEV_FOCUSED);
    assert_written(rig, PROMPT "hel");
}

static void lines_typed_ahead_are_answered_in_order(void **state)
{
    enter_main();
    Rig *rig = *state;
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    g_string_truncate(rig->chardev->output, 0);
    rig_type(rig, "cont\rinfo status\rstop\rinfo status\r");
    rig_settle(rig->base);
    assert_written(rig, "cont\r\n" PROMPT "info status\r\nVM status: running\r\n" PROMPT
                        "stop\r\n" PROMPT "info status\r\nVM status: paused\r\n" PROMPT);
}

static void no_line_after_quit_is_executed(void **state)
{
    enter_main();
    Rig *rig = *state;
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    g_string_truncate(rig->chardev->output, 0);
    rig_type(rig, "q\r");
    assert_written(rig, "q\r\n");
}

/* ---- waiting ---- */

static void nothing_is_read_while_a_command_waits(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "cont\r");
    assert_int_equal(rig_type(rig, "info status\r"), 0);
    unsigned accepts = atomic_load(&rig->chardev->accepts);
    rig_settle(rig->base);
    assert_true(atomic_load(&rig->chardev->accepts) > accepts);
    assert_int_equal(rig_type(rig, "info status\r"), 12);
    assert_non_null(strstr(rig->chardev->output->str, "VM status: running"));
}

static void no_input_is_read_while_the_peer_does_not_read(void **state)
{
    enter_main();
    Rig *rig = *state;
    fake_chardev_make_room(rig->chardev, 100);
    rig_type(rig, "help\r"); /* prints more than there is room for */
    assert_int_equal(rig_type(rig, "help\r"), 0);
    unsigned accepts = atomic_load(&rig->chardev->accepts);
    fake_chardev_make_room(rig->chardev, 1 << 20);
    assert_true(atomic_load(&rig->chardev->accepts) > accepts);
    assert_non_null(strstr(rig->chardev->output->str, "quit|q -- end the VM"));
    assert_int_equal(rig_type(rig, "help\r"), 5);
}

static void a_slow_reader_gets_every_byte(void **state)
{
    enter_main();
    Rig *rig = *state;
    static const char keys[] = "help\rinfo mtree\rp 5\033[D6\r";
    rig_type(rig, keys);
    g_autofree char *expected = g_strdup(rig->chardev->output->str);
    hmp_monitor_free(rig->monitor);
    g_string_truncate(rig->chardev->output, 0);
    rig->monitor = hmp_monitor_new(&rig->base->vm, &rig->chardev->base);
    fake_chardev_make_room(rig->chardev, 0);
    for (size_t given = 0, round = 0; strcmp(rig->chardev->output->str, expected) != 0; round++) {
        assert_true(round < 100000);
        given += rig_type(rig, keys + given);
        fake_chardev_make_room(rig->chardev, 1 + round % 7);
    }
}

/* ---- leaving ---- */

static void an_unfinished_line_is_dropped_when_its_peer_leaves(void **state)
{
    enter_main();
    Rig *rig = *state;
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    rig_type(rig, "qui");
    fake_chardev_event(rig->chardev, CHARDEV_CLOSED);
    g_string_truncate(rig->chardev->output, 0);
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    assert_written(rig, GREETING PROMPT);
    rig_type(rig, "t\r");
    assert_false(rig->base->vm.life.quitting);
}

static void a_peer_gets_no_output_of_an_earlier_peer(void **state)
{
    enter_main();
    Rig *rig = *state;
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    rig_type(rig, "cont\rinfo status\r");
    fake_chardev_event(rig->chardev, CHARDEV_CLOSED);
    g_string_truncate(rig->chardev->output, 0);
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    rig_settle(rig->base);
    assert_written(rig, GREETING PROMPT);
    assert_int_equal(rig->base->vm.run.phase, RUN_RUNNING);
    rig_type(rig, "p 1\r");
    assert_written(rig, "p 1\r\n0x1\r\n" PROMPT);
}

/* A peer sends all its lines and leaves while the first one runs. The next peer connects before the
 * last one has run. */
static void the_lines_of_a_peer_that_left_are_executed(void **state)
{
    enter_main();
    Rig *rig = *state;
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    rig_type(rig, "cont\rstop\rhalf");
    assert_true(rig->chardev->base.frontend->is_answering(rig->chardev->base.frontend_opaque));
    fake_chardev_event(rig->chardev, CHARDEV_CLOSED);
    g_string_truncate(rig->chardev->output, 0);
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    assert_int_equal(rig_type(rig, "p 1\r"), 0); /* waits for its turn */
    rig_settle(rig->base);
    assert_written(rig, GREETING PROMPT);
    assert_int_equal(rig->base->vm.run.phase, RUN_STOPPED);
    assert_string_equal(run_state_name(&rig->base->vm.run), "paused");
    assert_false(rig->chardev->base.frontend->is_answering(rig->chardev->base.frontend_opaque));
    rig_type(rig, "p 1\r");
    assert_written(rig, "p 1\r\n0x1\r\n" PROMPT);
}

static void a_monitor_may_be_freed_while_a_command_waits(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "cont\r");
    hmp_monitor_free(g_steal_pointer(&rig->monitor));
    g_string_truncate(rig->chardev->output, 0);
    rig_settle(rig->base);
    assert_written(rig, "");
    assert_int_equal(rig->base->vm.run.phase, RUN_RUNNING);
}

/* ---- hostile ---- */

static void a_line_without_end_is_refused(void **state)
{
    enter_main();
    Rig *rig = *state;
    g_autofree char *kilobyte = g_strnfill(1024, 'x');
    for (unsigned i = 0; i < 1024; i++) {
        assert_int_equal(rig_type(rig, kilobyte), 1024);
    }
    g_string_truncate(rig->chardev->output, 0);
    rig_type(rig, "\r");
    assert_written(rig, "\r\na line has at most 4095 bytes\r\n" PROMPT);
}

static void garbage_does_no_harm(void **state)
{
    enter_main();
    Rig *rig = *state;
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    for (unsigned i = 0; i < 100000; i++) {
        char byte = (char)g_rand_int_range(rand, 0, 256);
        fake_chardev_input(rig->chardev, &byte, 1);
    }
    rig_settle(rig->base);
    g_string_truncate(rig->chardev->output, 0);
    rig_type(rig, "\003p 1\r");
    assert_non_null(strstr(rig->chardev->output->str, "p 1\r\n0x1\r\n" PROMPT));
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(it_greets_and_answers),
        ON_RIG(a_peer_that_types_before_its_open_event_is_greeted_once),
        ON_RIG(the_prompt_is_shown_with_the_focus),
        ON_RIG(lines_typed_ahead_are_answered_in_order),
        ON_RIG(no_line_after_quit_is_executed),
        ON_RIG(nothing_is_read_while_a_command_waits),
        ON_RIG(no_input_is_read_while_the_peer_does_not_read),
        ON_RIG(a_slow_reader_gets_every_byte),
        ON_RIG(an_unfinished_line_is_dropped_when_its_peer_leaves),
        ON_RIG(the_lines_of_a_peer_that_left_are_executed),
        ON_RIG(a_peer_gets_no_output_of_an_earlier_peer),
        ON_RIG(a_monitor_may_be_freed_while_a_command_waits),
        ON_RIG(a_line_without_end_is_refused),
        ON_RIG(garbage_does_no_harm),
    };
    return cmocka_run_group_tests_name("vmm/monitor/hmp/monitor", tests, NULL, NULL);
}
