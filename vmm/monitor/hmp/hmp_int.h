/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The human monitor's tables. Only for vmm/hmp/.
 *
 * A row names a command and what it takes. The words of the line become a JSON object, a member for
 * each parameter: for a row with `qmp` that is the QMP command's arguments as they stand.
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
    HMP_ARG_SIZE,   /* bytes, with a suffix; in MiB without */
    HMP_ARG_SWITCH, /* on or off */
    HMP_ARG_FLAG,   /* -x, where x is the param's `flag` */
    HMP_ARG_OPTS, /* value,key=value,... or JSON: members of their own; `name` is the implied key */
    HMP_ARG_FORMAT, /* /4xw: count, letter, size in bytes as "count", "format", "size" */
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
    unsigned *cpu; /* the vCPU that commands look at */
    GString *out;
    const HmpCommand *command;
} HmpCall;

struct HmpCommand {
    const char *name, *alias; /* name NULL ends a table */
    const HmpParam *params;   /* NULL: takes none */
    const char *help;
    /* Either the QMP command, and how to print its result (NULL: not at all)... */
    const char *qmp;
    bool on_cpu; /* it has an argument cpu-index: the vCPU that commands look at */
    void (*print)(HmpCall *call, struct json_object *result); /* main */
    /* ...or a coroutine in main. @args has passed the parameters' check. */
    void (*run)(HmpCall *call, struct json_object *args);
};

/* The groups, a row each: const HmpCommand hmp_<group>_commands[]. `info` by itself is the last row
 * of the last: what begins with that word is looked for before. */
#define HMP_GROUPS(X)                                                                              \
    X(control)                                                                                     \
    X(memory)                                                                                      \
    X(device)                                                                                      \
    X(block)                                                                                       \
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
/* Executes the QMP command @name. Takes @args. NULL when it failed, which was printed. The caller
 * puts the result. */
struct json_object *hmp_co_qmp(HmpCall *call, const char *name, struct json_object *args)
    coroutine_fn RUNS_IN_MAIN;
/* An element of a list that a QMP command returned. Borrowed. */
struct json_object *hmp_item(struct json_object *list, size_t i) ANY_THREAD;
/* The command that @line begins with; *@rest is what follows it. NULL: none. */
const HmpCommand *hmp_command_find(const char *line, const char **rest) ANY_THREAD;
/* Says that @line begins with no command, and what comes nearest. */
void hmp_unknown(HmpCall *call, const char *line) ANY_THREAD;
/* "block_resize device size" */
void hmp_append_usage(GString *out, const HmpCommand *c) ANY_THREAD;

/* ---- hmp_lacking.c ---- */
/* What comes nearest to @name, a command of QEMU that skiff lacks; NULL: it is none. */
const char *hmp_lacking_nearest(const char *name) ANY_THREAD;

/* ---- hmp_args.c ---- */
/* NULL + error. The caller puts the result. */
struct json_object *hmp_co_parse_args(HmpCall *call, const char *text, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
