/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of QMP sessions: one session with a client on a fake chardev, and a VM that counts calls
 * and whose disk may hang. Time is virtual and the loop is stepped.
 */
#ifndef SKIFF_TESTS_VMM_MONITOR_QMP_SESSION_RIG_H
#define SKIFF_TESTS_VMM_MONITOR_QMP_SESSION_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/fake_chardev.h"
#include "tests/support/fake_vm.h"
#include "util/loop/sched_point.h"
#include "vmm/monitor/qmp/qmp_session.h"
#include "vmm/monitor/commands/qmp_events.h"

#define SECOND_NS INT64_C(1000000000)
#define CAPABILITIES "{\"execute\": \"qmp_capabilities\"}\n"
#define STATUS(id) "{\"execute\": \"query-status\", \"id\": " #id "}\n"
#define STATUS_REPLY(id)                                                                           \
    "{\"return\": {\"status\": \"running\", \"running\": true}, \"id\": " #id "}\r\n"

typedef struct SessionRig {
    Vm vm;
    VmConfig config;
    FakeChardev *chardev;
    QmpSession *session;
    FakeRun run;
} SessionRig;

static inline void session_settle(SessionRig *rig)
{
    while (aio_context_step(rig->vm.ctx, false)) {
    }
}

/* Connects a client. */
static inline void session_connect(SessionRig *rig)
{
    fake_chardev_event(rig->chardev, CHARDEV_OPENED);
    session_settle(rig);
}

static inline void session_disconnect(SessionRig *rig)
{
    fake_chardev_event(rig->chardev, CHARDEV_CLOSED);
    session_settle(rig);
}

static inline int session_rig_setup(void **state)
{
    SessionRig *rig = g_new0(SessionRig, 1);
    if (thread_role() != THREAD_MAIN) {
        thread_adopt_role(THREAD_MAIN, "main");
    }
    enter_main();
    vm_config_init(&rig->config);
    fake_run_init(&rig->run);
    rig->vm.config = &rig->config;
    rig->vm.ctx = aio_context_new("main", NULL);
    rig->vm.built = true;
    aio_context_set_virtual_time(rig->vm.ctx, SECOND_NS);
    run_state_init(&rig->vm.run, rig->vm.ctx, &fake_run_ops, &rig->run);
    vm_life_init(&rig->vm);
    qmp_events_init(&rig->vm);
    run_state_request_start(&rig->vm.run);
    session_settle(rig);
    rig->chardev = fake_chardev_new("qmp");
    rig->session = qmp_session_new(&rig->vm, rig->vm.ctx, &rig->chardev->base, false);
    *state = rig;
    return 0;
}

static inline void session_release_disk(SessionRig *rig)
{
    rig->run.disk_hangs = false;
    fake_run_release_disk(&rig->run);
    session_settle(rig);
}

static inline int session_rig_teardown(void **state)
{
    SessionRig *rig = *state;
    enter_main();
    sched_point_reset();
    qmp_session_free(rig->session);
    session_release_disk(rig);
    fake_chardev_free(rig->chardev);
    aio_context_free(rig->vm.ctx);
    vm_config_clear(&rig->config);
    fake_run_clear(&rig->run);
    g_free(rig);
    return 0;
}

static inline void session_forget_output(SessionRig *rig)
{
    g_string_truncate(rig->chardev->output, 0);
}

/* Connects a client and negotiates, then drops the output so far. */
static inline void session_begin_client(SessionRig *rig)
{
    session_connect(rig);
    fake_chardev_input(rig->chardev, CAPABILITIES, strlen(CAPABILITIES));
    session_settle(rig);
    session_forget_output(rig);
}

static inline size_t session_say(SessionRig *rig, const char *text)
{
    size_t given = fake_chardev_input(rig->chardev, text, strlen(text));
    session_settle(rig);
    return given;
}

/* The session takes all of @text and replies @reply. */
static inline void session_expect_reply(SessionRig *rig, const char *text, const char *reply)
{
    session_forget_output(rig);
    assert_int_equal(session_say(rig, text), strlen(text));
    assert_string_equal(rig->chardev->output->str, reply);
}

static inline void session_expect_error(SessionRig *rig, const char *text, const char *error_class,
                                        const char *desc)
{
    g_autofree char *reply = g_strdup_printf(
        "{\"error\": {\"class\": \"%s\", \"desc\": \"%s\"}}\r\n", error_class, desc);
    session_expect_reply(rig, text, reply);
}

static inline unsigned session_count_of(const SessionRig *rig, const char *word)
{
    unsigned count = 0;
    for (const char *at = rig->chardev->output->str; (at = strstr(at, word)) != NULL; at++) {
        count++;
    }
    return count;
}

#define SESSION_TEST(f) cmocka_unit_test_setup_teardown(f, session_rig_setup, session_rig_teardown)

#endif
