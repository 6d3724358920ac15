/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP inside skiff: executing a command, answering, telling events. The wire (sessions on
 * chardevs) is qmp_session.h; the schema qmp_schema.h.
 *
 * A command runs as a coroutine in main. One that is a control operation takes the VM operation
 * lock itself (vm_operation_begin), looks up what it names only then, and holds the BQL only around
 * device state. While it waits its client's later commands wait too, except those executed out of
 * band; other clients do not.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_H
#define SKIFF_VMM_MONITOR_QMP_QMP_H

#include "util/loop/coroutine.h"
#include "util/job/job.h"
#include "vmm/monitor/qmp/qmp_schema.h"
#include "vmm/vm/vm.h"

/* Errors: the code is the class on the wire. An error of another domain is a GenericError. */
#define QMP_ERROR qmp_error_quark()
GQuark qmp_error_quark(void);
typedef enum QmpErrorClass {
    QMP_ERROR_GENERIC,
    QMP_ERROR_COMMAND_NOT_FOUND,
    QMP_ERROR_DEVICE_NOT_ACTIVE,
    QMP_ERROR_DEVICE_NOT_FOUND,
    QMP_ERROR_KVM_MISSING_CAP,
} QmpErrorClass;
/* "GenericError", ... */
const char *qmp_error_class(const GError *error) ANY_THREAD;

typedef struct QmpSession QmpSession;

/* Who called, for a handler. Lives while the handler runs. */
struct QmpCall {
    Vm *vm;
    QmpSession *session; /* NULL: not by QMP (HMP, a test). May have lost its client meanwhile. */
    const QmpCommand *command;
};

/* Checks @args (borrowed; NULL: none) against the command's schema and runs it. Returns its result,
 * never NULL unless @error is set. */
struct json_object *qmp_co_execute(Vm *vm, QmpSession *session, const char *name,
                                   struct json_object *args, GError **error)
    coroutine_fn RUNS_IN_MAIN;

/* ---- arguments; @args was checked, so a member of another type is a bug ---- */
bool qmp_arg_has(struct json_object *args, const char *name) ANY_THREAD;
const char *qmp_arg_str(struct json_object *args, const char *name) ANY_THREAD; /* NULL: absent */
int64_t qmp_arg_int(struct json_object *args, const char *name, int64_t def) ANY_THREAD;
/* Of a type with `u64`: a negative number is its two's complement. */
uint64_t qmp_arg_u64(struct json_object *args, const char *name, uint64_t def) ANY_THREAD;
bool qmp_arg_bool(struct json_object *args, const char *name, bool def) ANY_THREAD;
/* The index in the member type's `values`; -1: absent. */
int qmp_arg_enum(struct json_object *args, const char *name, const QmpType *type) ANY_THREAD;
/* An object, list or anything; borrowed; NULL: absent. */
struct json_object *qmp_arg_get(struct json_object *args, const char *name) ANY_THREAD;

/* ---- results ---- */
void qmp_put_str(struct json_object *object, const char *name, const char *value) ANY_THREAD;
void qmp_put_int(struct json_object *object, const char *name, int64_t value) ANY_THREAD;
void qmp_put_u64(struct json_object *object, const char *name, uint64_t value) ANY_THREAD;
void qmp_put_bool(struct json_object *object, const char *name, bool value) ANY_THREAD;
/* Takes @value. */
void qmp_put(struct json_object *object, const char *name, struct json_object *value) ANY_THREAD;

/* ---- events ---- */
/* To every session that has negotiated, with the time of now. Takes @data (NULL: none). The name
 * must be in the schema; @data is checked against it in test builds. */
void qmp_event_emit(const char *name, struct json_object *data) RUNS_IN_MAIN;
/* Where events go. The sessions' file listens; so may a test. */
typedef struct QmpEventListener {
    void (*event)(struct QmpEventListener *l, const QmpEvent *event, struct json_object *data,
                  int64_t realtime_us); /* main; @data borrowed */
    struct QmpEventListener *next;
} QmpEventListener;
void qmp_event_listen(QmpEventListener *l) RUNS_IN_MAIN;
void qmp_event_unlisten(QmpEventListener *l) RUNS_IN_MAIN;

#endif
