/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP inside skiff: executes commands, builds results, emits events. The wire protocol (sessions on
 * chardevs) is in qmp_session.h, the schema in qmp_schema.h.
 *
 * A command runs as a coroutine in main. A control operation takes the VM operation lock itself
 * (vm_operation_begin), looks up the objects it names after that, and holds the BQL only around
 * device state. While a command waits, later commands of its client wait too, except those executed
 * out of band; other clients do not wait.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_H
#define SKIFF_VMM_MONITOR_QMP_QMP_H

#include "util/loop/coroutine.h"
#include "util/job/job.h"
#include "vmm/monitor/qmp/qmp_schema.h"
#include "vmm/vm/vm.h"

/* Errors: the code is the error class on the wire. An error of another domain is a GenericError. */
#define QMP_ERROR qmp_error_quark()
GQuark qmp_error_quark(void);
typedef enum QmpErrorClass {
    QMP_ERROR_GENERIC,
    QMP_ERROR_COMMAND_NOT_FOUND,
    QMP_ERROR_DEVICE_NOT_ACTIVE,
    QMP_ERROR_DEVICE_NOT_FOUND,
    QMP_ERROR_KVM_MISSING_CAP,
} QmpErrorClass;
/* Returns the name of the error class: "GenericError", ... */
const char *qmp_error_class(const GError *error) ANY_THREAD;
/* Sets a GenericError; returns false. */
bool qmp_refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3) ANY_THREAD;

typedef struct QmpSession QmpSession;

/* The call that a handler serves. Lives while the handler runs. */
struct QmpCall {
    Vm *vm;
    QmpSession *session; /* NULL outside QMP (HMP, a test); its client may have left meanwhile */
    const QmpCommand *command;
};

/* Checks @args (borrowed, may be NULL) against the command's schema and runs it. Returns its
 * result, owned by the caller; NULL only with @error set. */
struct json_object *qmp_co_execute(Vm *vm, QmpSession *session, const char *name,
                                   struct json_object *args, GError **error)
    coroutine_fn RUNS_IN_MAIN;

/* ---- arguments: @args was checked before, so a member of another type is a bug ---- */
bool qmp_arg_has(struct json_object *args, const char *name) ANY_THREAD;
const char *qmp_arg_str(struct json_object *args, const char *name) ANY_THREAD; /* NULL if absent */
int64_t qmp_arg_int(struct json_object *args, const char *name, int64_t def) ANY_THREAD;
/* For a type with `u64`: a negative number is returned as its two's complement. */
uint64_t qmp_arg_u64(struct json_object *args, const char *name, uint64_t def) ANY_THREAD;
bool qmp_arg_bool(struct json_object *args, const char *name, bool def) ANY_THREAD;
/* Returns the index in the member type's `values`, or -1 if the member is absent. */
int qmp_arg_enum(struct json_object *args, const char *name, const QmpType *type) ANY_THREAD;
/* Returns a value of any type, borrowed; NULL if absent. */
struct json_object *qmp_arg_get(struct json_object *args, const char *name) ANY_THREAD;

/* ---- results ---- */
void qmp_put_str(struct json_object *object, const char *name, const char *value) ANY_THREAD;
void qmp_put_int(struct json_object *object, const char *name, int64_t value) ANY_THREAD;
void qmp_put_u64(struct json_object *object, const char *name, uint64_t value) ANY_THREAD;
void qmp_put_bool(struct json_object *object, const char *name, bool value) ANY_THREAD;
/* Takes @value. */
void qmp_put(struct json_object *object, const char *name, struct json_object *value) ANY_THREAD;

/* ---- events ---- */
/* Sends the event to every session that has negotiated, with the current time. Takes @data (may be
 * NULL). The name must be in the schema; test builds check @data against it. */
void qmp_event_emit(const char *name, struct json_object *data) RUNS_IN_MAIN;
/* A receiver of events: a session or a test. */
typedef struct QmpEventListener {
    void (*event)(struct QmpEventListener *l, const QmpEvent *event, struct json_object *data,
                  int64_t realtime_us); /* main; @data borrowed */
    struct QmpEventListener *next;
} QmpEventListener;
void qmp_event_listen(QmpEventListener *l) RUNS_IN_MAIN;
void qmp_event_unlisten(QmpEventListener *l) RUNS_IN_MAIN;

#endif
