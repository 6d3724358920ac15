/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of QMP commands: a VM without KVM and with a real operation lock, commands
 * executed in-process like those of a client, and the events they cause.
 */
#ifndef SKIFF_TESTS_VMM_MONITOR_QMP_QMP_RIG_H
#define SKIFF_TESTS_VMM_MONITOR_QMP_QMP_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/fake_vm.h"
#include "util/opts/json.h"
#include "util/loop/iothread.h"
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/monitor/commands/qmp_events.h"

#define RIG_JSON (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

typedef struct QmpRig {
    Vm vm;
    VmConfig config;
    FakeRun run;
    GString *events; /* "NAME{data} NAME{data}" */
    QmpEventListener listener;
} QmpRig;

static inline void rig_event(QmpEventListener *l, const QmpEvent *event, struct json_object *data,
                             int64_t realtime_us)
{
    QmpRig *rig = (QmpRig *)(void *)((char *)l - offsetof(QmpRig, listener));
    g_string_append_printf(rig->events, "%s%s%s", rig->events->len != 0 ? " " : "", event->name,
                           json_object_to_json_string_ext(data, RIG_JSON));
}

/* A built VM in the state after vm_init(), with the default iothread. */
static inline int qmp_rig_setup(void **state)
{
    QmpRig *rig = g_new0(QmpRig, 1);
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    vm_config_init(&rig->config);
    vm_init(&rig->vm, &rig->config, aio_context_new("main", NULL));
    qmp_events_init(&rig->vm);
    fake_run_init(&rig->run);
    run_state_init(&rig->vm.run, rig->vm.ctx, &fake_run_ops, &rig->run);
    g_ptr_array_add(rig->vm.backends.iothreads, iothread_new("default", 0, NULL));
    rig->vm.machine.env.default_iothread = iothread_context(rig->vm.backends.iothreads->pdata[0]);
    rig->vm.machine.env.main_ctx = rig->vm.ctx;
    rig->vm.backends.drives = g_ptr_array_new();
    rig->vm.built = true;
    rig->events = g_string_new(NULL);
    rig->listener.event = rig_event;
    qmp_event_listen(&rig->listener);
    *state = rig;
    return 0;
}

static inline int qmp_rig_teardown(void **state)
{
    QmpRig *rig = *state;
    enter_main();
    qmp_event_unlisten(&rig->listener);
    for (unsigned i = 0; i < rig->vm.backends.iothreads->len; i++) {
        iothread_free(rig->vm.backends.iothreads->pdata[i]);
    }
    fake_vm_clear(&rig->vm);
    aio_context_free(rig->vm.ctx);
    vm_config_clear(&rig->config);
    fake_run_clear(&rig->run);
    g_string_free(rig->events, TRUE);
    g_free(rig);
    return 0;
}

#define QMP_TEST(f) cmocka_unit_test_setup_teardown(f, qmp_rig_setup, qmp_rig_teardown)

static inline void rig_settle(QmpRig *rig)
{
    while (aio_context_step(rig->vm.ctx, false)) {
    }
}

/* ---- commands ---- */

typedef struct RigCall {
    QmpRig *rig;
    const char *name;
    struct json_object *args;
    struct json_object *result;
    GError *error;
    bool done;
} RigCall;

static inline void rig_call_run(void *opaque)
{
    RigCall *call = opaque;
    enter_main();
    enter_coroutine();
    call->result = qmp_co_execute(&call->rig->vm, NULL, call->name, call->args, &call->error);
    call->done = true;
}

static inline void rig_call_start(QmpRig *rig, RigCall *call, const char *name, const char *args)
{
    *call = (RigCall){.rig = rig, .name = name};
    if (args != NULL) {
        GError *error = NULL;
        g_autofree char *text = g_strdelimit(g_strdup(args), "'", '"'); /* easier to write */
        call->args = json_parse_text(text, strlen(text), 16, &error);
        if (call->args == NULL) {
            fail_msg("%s: %s", args, error->message);
        }
    }
    co_start(rig->vm.ctx, rig_call_run, call);
}

static inline void rig_call_finish(RigCall *call)
{
    while (!call->done) {
        aio_context_step(call->rig->vm.ctx, true);
    }
    json_object_put(call->args);
}

/* Returns the result as text, owned by the caller; fails the test on an error. */
static inline char *qmp_ok(QmpRig *rig, const char *name, const char *args)
{
    RigCall call;
    rig_call_start(rig, &call, name, args);
    rig_call_finish(&call);
    if (call.error != NULL) {
        fail_msg("%s %s: %s", name, args != NULL ? args : "", call.error->message);
    }
    char *text = g_strdup(json_object_to_json_string_ext(call.result, RIG_JSON));
    json_object_put(call.result);
    return text;
}

/* The command succeeds and its result contains @part. */
static inline void qmp_returns(QmpRig *rig, const char *name, const char *args, const char *part)
{
    g_autofree char *text = qmp_ok(rig, name, args);
    if (strstr(text, part) == NULL) {
        fail_msg("%s %s returned %s, without %s", name, args != NULL ? args : "", text, part);
    }
}

/* The command fails with an error of @error_class whose message contains @part. */
static inline void qmp_fails(QmpRig *rig, const char *name, const char *args,
                             const char *error_class, const char *part)
{
    RigCall call;
    rig_call_start(rig, &call, name, args);
    rig_call_finish(&call);
    if (call.error == NULL) {
        fail_msg("%s %s: succeeded", name, args != NULL ? args : "");
    }
    assert_null(call.result);
    if (strcmp(qmp_error_class(call.error), error_class) != 0 ||
        strstr(call.error->message, part) == NULL) {
        fail_msg("%s %s: %s: %s", name, args != NULL ? args : "", qmp_error_class(call.error),
                 call.error->message);
    }
    g_error_free(call.error);
}

/* Returns @args with @path in place of each "@". */
static inline char *with_path(const char *args, const char *path)
{
    g_auto(GStrv) parts = g_strsplit(args, "@", -1);
    return g_strjoinv(path, parts);
}

#endif
