/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The human monitor's tables. Only for this folder.
 *
 * A row has the name of a command and its parameters. The words of the line become a JSON object
 * with one member for each parameter. For a row with `qmp`, that object is passed to the QMP
 * command as its arguments.
 */
#ifndef SKIFF_VMM_MONITOR_HMP_HMP_INT_H
#define SKIFF_VMM_MONITOR_HMP_HMP_INT_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/monitor/hmp/hmp.h"
#include "vmm/monitor/qmp/qmp.h"

typedef enum HmpArgKind {
    HMP_ARG_WORD,   /* up to a blank, or "in quotes" with \" \\ \n \r */
    HMP_ARG_REST,   /* the rest of the line */
    HMP_ARG_INT,    /* an expression (hmp_expr.h) of 64 bits */
    HMP_ARG_SIZE,   /* a size with a suffix, or in MiB without one */
    HMP_ARG_SWITCH, /* on or off */
    HMP_ARG_FLAG,   /* -x, where x is the param's `flag` */
    HMP_ARG_OPTS,   /* value,key=value,... or JSON: becomes several members; `name`: implied key */
    HMP_ARG_FORMAT, /* /4xw: the members "count", "format" (letter), "size" (bytes) */
} HmpArgKind;

typedef struct HmpParam {
    const char *name; /* NULL ends a list */
    HmpArgKind kind;
    bool optional;
    char flag;
    void (*complete)(Vm *vm, GPtrArray *names); /* main; hmp_complete.h */
} HmpParam;

#define HMP_PARAM(param_name, param_kind, ...)                                                     \
    {                                                                                              \
        .name = (param_name), .kind = HMP_ARG_##param_kind, ##__VA_ARGS__                          \
    }
#define HMP_PARAMS(...)                                                                            \
    (const HmpParam[])                                                                             \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

typedef struct HmpCommand HmpCommand;

typedef struct HmpCall {
    Vm *vm;
    unsigned *cpu; /* the selected vCPU */
    GString *out;
    const HmpCommand *command;
} HmpCall;

struct HmpCommand {
    const char *name, *alias; /* name NULL ends a table */
    const HmpParam *params;   /* NULL if it takes none */
    const char *help;
    /* Either a QMP command, and a function that prints its result (may be NULL)... */
    const char *qmp;
    bool on_cpu; /* the command takes an argument cpu-index: the selected vCPU */
    void (*print)(HmpCall *call, struct json_object *result); /* main */
    /* ...or a coroutine in main. @args was checked against `params`. */
    void (*run)(HmpCall *call, struct json_object *args);
};

/* The groups: const HmpCommand hmp_<group>_commands[]. The bare `info` must be the last row of the
 * last group, because the look-up takes the first match. */
#define HMP_GROUPS(X)                                                                              \
    X(control)                                                                                     \
    X(memory)                                                                                      \
    X(device)                                                                                      \
    X(block)                                                                                       \
    X(net)                                                                                         \
    X(nbd)                                                                                         \
    X(snapshot)                                                                                    \
    X(usernet)                                                                                     \
    X(info_machine)                                                                                \
    X(info_block)                                                                                  \
    X(info)

#define HMP_GROUP_DECLARE(group) extern const HmpCommand hmp_##group##_commands[];
HMP_GROUPS(HMP_GROUP_DECLARE)
extern const HmpCommand *const hmp_command_tables[];

/* ---- hmp_dispatch.c ---- */
void hmp_printf(HmpCall *call, const char *format, ...) ANY_THREAD G_GNUC_PRINTF(2, 3);
/* "Error: ..." */
void hmp_error(HmpCall *call, const GError *error) ANY_THREAD;
/* Executes the QMP command @name. Takes @args. Returns the result, owned by the caller; on failure
 * prints the error and returns NULL. */
struct json_object *hmp_co_qmp(HmpCall *call, const char *name, struct json_object *args)
    coroutine_fn RUNS_IN_MAIN;
/* "commit0" for "commit", or the next one that no job has. Owned by the caller. */
char *hmp_job_id(const char *prefix) RUNS_IN_MAIN;
/* Waits for the end of @job, without the operation lock, and drops the caller's reference. Returns its error, owned by the
 * caller; NULL: none. */
char *hmp_co_job_end(Job *job) coroutine_fn RUNS_IN_MAIN;
/* Returns element @i of a list from a QMP result, borrowed. */
struct json_object *hmp_item(struct json_object *list, size_t i) ANY_THREAD;
/* Returns the command at the start of @line and sets *@rest to the text after it; NULL if there is
 * none. */
const HmpCommand *hmp_command_find(const char *line, const char **rest) ANY_THREAD;
/* Prints that @line is an unknown command, and the nearest one. */
void hmp_unknown(HmpCall *call, const char *line) ANY_THREAD;
/* Appends the usage of @c: "block_resize device size". */
void hmp_append_usage(GString *out, const HmpCommand *c) ANY_THREAD;

/* ---- hmp_lacking.c ---- */
/* Returns the nearest replacement for @name, a QEMU command that skiff lacks; NULL if it is not
 * such a command. */
const char *hmp_lacking_nearest(const char *name) ANY_THREAD;

/* ---- hmp_args.c ---- */
/* Parses the words after a command. Returns an object owned by the caller, or NULL and @error. */
struct json_object *hmp_co_parse_args(HmpCall *call, const char *text, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
