/* SPDX-License-Identifier: Apache-2.0 */
/* -exec and the saved state: an agent that waits for a command, and what another process makes of it. */
#include "tests/vmm/exec/exec_rig.h"
#include "util/state/state.h"

static const uint8_t hello[] = {
    EXEC_HELLO, 0, 12, 0, 'S', 'K', 'I', 'F', 'F', 'E', 'X', 'E', 1, 0, EXEC_HELLO_POWERS_OFF, 0};

static unsigned ready_calls;

static void on_ready(void *opaque)
{
    ready_calls++;
}

static void make_listener(void *opaque)
{
    Fixture *x = opaque;
    const ExecConfig config = {.ctx = x->ctx, .ready = on_ready};
    enter_main();
    enter_coroutine();
    x->exec = exec_co_new(&config, NULL);
    x->made = true;
}

/* Without a command. */
static void listen_only(Fixture *x)
{
    enter_main();
    ready_calls = 0;
    co_start(x->ctx, make_listener, x);
    STEP_UNTIL(x->ctx, x->made);
    chardev_attach(exec_chardev(x->exec), &recording_frontend_ops, x->guest);
    chardev_harness_settle(x->ctx);
}

static void begin_at_port(Fixture *x, const char *command)
{
    enter_main();
    begin(x, command);
    chardev_attach(exec_chardev(x->exec), &recording_frontend_ops, x->guest);
    chardev_harness_settle(x->ctx);
}

static void write_port(Fixture *x, const uint8_t *bytes, size_t size)
{
    assert_int_equal(chardev_write(exec_chardev(x->exec), bytes, size), size);
    chardev_harness_settle(x->ctx);
}

static void greet(Fixture *x)
{
    enter_main();
    exec_port_changed(x->exec, true);
    write_port(x, hello, sizeof(hello));
}

static void load(Fixture *x, const ExecSaved *s)
{
    g_autoptr(GError) error = NULL;
    enter_main();
    if (!exec_check_load(x->exec, s, &error)) {
        fail_msg("%s", error->message);
    }
    exec_load(x->exec, s);
    exec_port_changed(x->exec, true); /* as the loaded device reports it */
    chardev_harness_settle(x->ctx);
}

static void assert_not_loadable(Fixture *x, const ExecSaved *s, const char *says)
{
    g_autoptr(GError) error = NULL;
    enter_main();
    assert_false(exec_check_load(x->exec, s, &error));
    assert_non_null(strstr(error->message, says));
}

static bool was_sent_run(const Fixture *x)
{
    return x->guest->received->len > EXEC_HEADER_BYTES + EXEC_RUN_BYTES &&
           (uint8_t)x->guest->received->str[0] == EXEC_RUN;
}

static const ExecSaved ready = {.phase = EXEC_PHASE_READY, .open = true, .powers_off = true};
static const ExecSaved busy = {.phase = EXEC_PHASE_BUSY, .open = true};

static void without_a_command_an_agent_waits_and_is_saved_so(void **state)
{
    Fixture *x = *state;
    ExecSaved s;
    enter_main();
    listen_only(x);
    exec_save(x->exec, &s);
    assert_int_equal(s.phase, EXEC_PHASE_WAITING);
    greet(x);
    assert_int_equal(exec_state(x->exec), EXEC_STATE_READY);
    assert_int_equal(ready_calls, 1);
    assert_int_equal(x->guest->received->len, 0);
    exec_save(x->exec, &s);
    assert_memory_equal(&s, &ready, sizeof(s));
}

static void an_agent_that_closes_its_port_is_followed_by_another(void **state)
{
    Fixture *x = *state;
    ExecSaved s;
    enter_main();
    listen_only(x);
    greet(x);
    exec_port_changed(x->exec, false);
    exec_save(x->exec, &s);
    assert_int_equal(s.phase, EXEC_PHASE_WAITING);
    assert_false(s.open);
    greet(x);
    assert_int_equal(exec_state(x->exec), EXEC_STATE_READY);
    assert_int_equal(ready_calls, 2);
}

static void a_hostile_agent_without_a_command_ends_nothing(void **state)
{
    Fixture *x = *state;
    ExecSaved s;
    enter_main();
    listen_only(x);
    greet(x);
    write_port(x, hello, sizeof(hello)); /* a second greeting */
    assert_int_equal(exec_state(x->exec), EXEC_STATE_LOST);
    write_port(x, (const uint8_t *)"\xff\xff\xff\xff", 4);
    exec_save(x->exec, &s);
    assert_int_equal(s.phase, EXEC_PHASE_BUSY);
    exec_port_changed(x->exec, false);
    write_port(x, (const uint8_t *)"\xff\xff\xff\xff", 4);
    assert_int_equal(exec_state(x->exec), EXEC_STATE_LOST);
    exec_port_changed(x->exec, true);
    exec_port_changed(x->exec, false);
    greet(x);
    assert_int_equal(exec_state(x->exec), EXEC_STATE_READY);
    assert_int_equal(x->finished, 0);
}

static void a_loaded_agent_gets_the_command_without_a_greeting(void **state)
{
    Fixture *x = *state;
    static const uint8_t ended[] = {EXEC_EXIT, 0, 4, 0, 0, 5, 0, 0};
    begin_at_port(x, "true");
    load(x, &ready);
    assert_true(was_sent_run(x));
    write_port(x, ended, sizeof(ended));
    assert_int_equal(exec_state(x->exec),
                     EXEC_STATE_EXITED); /* waits for the power-off it has announced */
    exec_guest_ended(x->exec);
    assert_status(x, 5);
}

static void a_greeting_that_was_saved_in_parts_is_whole(void **state)
{
    Fixture *x = *state;
    ExecSaved s;
    enter_main();
    listen_only(x);
    exec_port_changed(x->exec, true);
    write_port(x, hello, 9);
    exec_save(x->exec, &s);
    assert_int_equal(s.phase, EXEC_PHASE_WAITING);
    assert_int_equal(s.partial_count, 9);
    load(x, &s);
    write_port(x, hello + 9, sizeof(hello) - 9);
    assert_int_equal(exec_state(x->exec), EXEC_STATE_READY);
}

static void a_command_is_refused_by_an_agent_that_is_busy(void **state)
{
    Fixture *x = *state;
    ExecSaved s;
    begin_at_port(x, "true");
    assert_not_loadable(x, &busy, "running a command when the machine was saved");
    assert_not_loadable(x, NULL, "does not say");
    greet(x);
    assert_not_loadable(x, &ready, "cannot go back");
    exec_save(x->exec, &s);
    assert_memory_equal(&s, &busy, sizeof(s));
}

static void a_busy_agent_finds_its_port_closed(void **state)
{
    Fixture *x = *state;
    enter_main();
    listen_only(x);
    assert_true(chardev_connected(exec_chardev(x->exec)));
    g_string_truncate(x->guest->events, 0);
    load(x, &busy);
    assert_false(chardev_connected(exec_chardev(x->exec)));
    assert_string_equal(x->guest->events->str, "C");
    exec_port_changed(x->exec, false);
    assert_true(chardev_connected(exec_chardev(x->exec)));
    assert_string_equal(x->guest->events->str, "CO");
    greet(x);
    assert_int_equal(exec_state(x->exec), EXEC_STATE_READY);
}

static void the_table_is_complete_and_checks_its_values(void **state)
{
    static const ExecSaved wrong[] = {{.phase = EXEC_PHASE_BUSY + 1},
                                      {.partial_count = EXEC_PARTIAL_BYTES + 1},
                                      {.phase = EXEC_PHASE_READY, .partial_count = 1}};
    g_autoptr(GError) error = NULL;
    if (!state_check_coverage(&exec_state_desc, &error)) {
        fail_msg("%s", error->message);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        ExecSaved out = {0};
        size_t used;
        g_autoptr(GError) why = NULL;
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        state_save(&exec_state_desc, &wrong[i], bytes);
        assert_false(state_load(&exec_state_desc, &out, bytes->data, bytes->len, &used, &why));
        assert_non_null(why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EXEC_TEST(without_a_command_an_agent_waits_and_is_saved_so),
        EXEC_TEST(an_agent_that_closes_its_port_is_followed_by_another),
        EXEC_TEST(a_hostile_agent_without_a_command_ends_nothing),
        EXEC_TEST(a_loaded_agent_gets_the_command_without_a_greeting),
        EXEC_TEST(a_greeting_that_was_saved_in_parts_is_whole),
        EXEC_TEST(a_command_is_refused_by_an_agent_that_is_busy),
        EXEC_TEST(a_busy_agent_finds_its_port_closed),
        cmocka_unit_test(the_table_is_complete_and_checks_its_values),
    };
    return cmocka_run_group_tests_name("vmm/exec/exec_state", tests, NULL, NULL);
}
