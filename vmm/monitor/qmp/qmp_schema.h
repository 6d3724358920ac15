/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QMP schema as const tables: types, commands, events. These rows are the source of the checks
 * of arguments and (in test builds) results, query-commands, query-qmp-schema, HMP, the generated
 * tests and docs/qmp-reference.md. Names, shapes and meanings are QEMU 10's (docs/interop/qmp-spec,
 * the QAPI schema); the row's doc describes differences.
 *
 * Each group of commands is one file, vmm/monitor/commands/qmp_<group>_commands.c, that ends with
 *     const QmpCommand qmp_<group>_commands[] = {{...}, {0}};
 * and has a row in qmp_tables.c. Events are listed the same way: qmp_<group>_events[].
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_SCHEMA_H
#define SKIFF_VMM_MONITOR_QMP_QMP_SCHEMA_H

#include <glib.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef enum QmpKind {
    QMP_KIND_STRING,
    QMP_KIND_INT,    /* min..max; all of int64_t if both are 0 */
    QMP_KIND_SIZE,   /* an int of 0..INT64_MAX, bytes */
    QMP_KIND_NUMBER, /* integer or fraction */
    QMP_KIND_BOOL,
    QMP_KIND_NULL,
    QMP_KIND_ANY,
    QMP_KIND_ENUM,      /* values */
    QMP_KIND_STRUCT,    /* members */
    QMP_KIND_ARRAY,     /* element */
    QMP_KIND_ALTERNATE, /* members: one of their types, selected by the JSON type */
} QmpKind;

typedef struct QmpType QmpType;

typedef struct QmpMember {
    const char *name; /* NULL ends a list */
    const QmpType *type;
    bool optional;
    const char *doc; /* one line; for the reference */
} QmpMember;

struct QmpType {
    const char *name; /* QEMU's name, "StatusInfo"; built-in: "str", "int", ...; arrays: NULL */
    QmpKind kind;
    const QmpMember *members;  /* STRUCT, ALTERNATE */
    const char *const *values; /* ENUM: NULL-terminated */
    const QmpType *element;    /* ARRAY */
    int64_t min, max;          /* INT */
    bool u64;                  /* INT: also values that fit only uint64_t (qmp_arg_u64) */
    /* STRUCT: unknown members are passed unchecked; the command checks them (device_add,
     * blockdev-add, object-add) */
    bool open;
    const char *doc;
};

/* The built-in types. */
extern const QmpType qmp_str, qmp_int, qmp_size, qmp_number, qmp_bool, qmp_null, qmp_any;
extern const QmpType qmp_u8, qmp_u16, qmp_u32; /* "int" with a range */
extern const QmpType qmp_u64;                  /* an address; may be given as a negative number */
extern const QmpType qmp_str_list;

typedef struct QmpCall QmpCall;

/*
 * Runs a command: a coroutine in main. @args (borrowed) is an object that was checked against the
 * command's `args`: each member is known and has its type; no mandatory member is missing. Returns
 * the result (owned by the caller); NULL without @error stands for the empty object.
 */
typedef struct json_object *QmpHandler(QmpCall *call, struct json_object *args, GError **error);

typedef enum QmpCommandFlags {
    /* Only reads, or sets state and posts a message. It never yields, so it answers even while
     * other operations hang, and may be executed out of band. */
    QMP_INSTANT = 1 << 0,
    /* Works before the machine is built (-S is later than that). Other commands fail until then. */
    QMP_EARLY = 1 << 1,
    /* Works before capabilities negotiation: qmp_capabilities. */
    QMP_NEGOTIATION = 1 << 2,
} QmpCommandFlags;

typedef struct QmpCommand {
    const char *name;    /* NULL ends a table */
    const QmpType *args; /* a STRUCT; NULL if it takes none */
    const QmpType *ret;  /* NULL if it returns the empty object */
    unsigned flags;      /* QmpCommandFlags */
    QmpHandler *run;     /* coroutine_fn RUNS_IN_MAIN */
    const char *doc;     /* a sentence or two */
} QmpCommand;

typedef struct QmpEvent {
    const char *name;
    const QmpType *data; /* a STRUCT; may be NULL */
    const char *doc;
} QmpEvent;

/* A row of members, as a compound literal: QMP_MEMBERS({"id", &qmp_str, .doc = "..."}, ...). */
#define QMP_MEMBERS(...)                                                                           \
    (const QmpMember[])                                                                            \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }
#define QMP_VALUES(...)                                                                            \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

/* The commands and events of one source file. Both tables end with a row without a name. */
typedef struct QmpGroup {
    const QmpCommand *commands;
    const QmpEvent *events;
} QmpGroup;

/* Ends a file that has the tables qmp_<group>_commands and qmp_<group>_events. The group also needs
 * a row in vmm/monitor/qmp_tables.c. */
#define QMP_GROUP(group)                                                                           \
    extern const QmpGroup qmp_group_##group;                                                       \
    const QmpGroup qmp_group_##group = {qmp_##group##_commands, qmp_##group##_events}

/* Registers all groups. Called once, before any other thread runs. @groups is NULL-terminated and
 * must never be freed. */
void qmp_setup(const QmpGroup *const groups[]) ANY_THREAD;

const QmpCommand *qmp_command_find(const char *name) ANY_THREAD; /* NULL if unknown */
const QmpEvent *qmp_event_find(const char *name) ANY_THREAD;
void qmp_command_foreach(void (*fn)(const QmpCommand *c, void *opaque), void *opaque) ANY_THREAD;
void qmp_event_foreach(void (*fn)(const QmpEvent *e, void *opaque), void *opaque) ANY_THREAD;

/* Whether @value is of @type. @what ("arguments", "'id'") names its place for the message. A NULL
 * @value is JSON null. */
bool qmp_check(const QmpType *type, struct json_object *value, const char *what, GError **error)
    ANY_THREAD;

#endif
