/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile clients of a QMP session: requests whole, cut, changed and in pieces, garbage, clients
 * that come and go while commands wait, that do not read, and a disk that hangs. The VM is one of
 * counters; the commands are those that do with it. What must hold:
 *   - what is sent to a client is whole JSON lines: a greeting, replies, events;
 *   - no client gets the reply to what another has asked;
 *   - an error is one of QEMU's classes and a sentence in one line of bounded length;
 *   - every type of the schema is checked without a crash against whatever JSON comes;
 *   - input and output that wait stay bounded, and at the end nothing is left.
 *
 *   fuzz_qmp [--seconds N] [--seed N] [--steps N]
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "tests/support/fake_chardev.h"
#include "tests/support/fake_vm.h"
#include "tests/support/fuzzer.h"
#include "util/opts/json.h"
#include "util/log.h"
#include "vmm/monitor/qmp/qmp_session.h"
#include "vmm/monitor/commands/qmp_events.h"

typedef struct Fuzz {
    AioContext *ctx;
    Vm vm;
    VmConfig config;
    FakeChardev *chardev;
    QmpSession *session;
    bool connected;
    char token[17];         /* the ids of this client's requests */
    GHashTable *old_tokens; /* of those before */
    size_t seen;            /* of the chardev's output */
    FakeRun run;
    int64_t now_ns;
} Fuzz;

static void fuzz_settle(Fuzz *z)
{
    while (aio_context_step(z->ctx, false)) {
    }
}

static Fuzz *fuzz_new(void)
{
    Fuzz *z = g_new0(Fuzz, 1);
    enter_main();
    vm_config_init(&z->config);
    z->ctx = aio_context_new("main", NULL);
    z->now_ns = 1;
    aio_context_set_virtual_time(z->ctx, z->now_ns);
    fake_run_init(&z->run);
    z->old_tokens = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    z->vm.config = &z->config;
    z->vm.ctx = z->ctx;
    z->vm.built = true;
    run_state_init(&z->vm.run, z->ctx, &fake_run_ops, &z->run);
    vm_life_init(&z->vm);
    qmp_events_init(&z->vm);
    z->chardev = fake_chardev_new("qmp");
    z->session = qmp_session_new(&z->vm, z->ctx, &z->chardev->base, fuzz_below(4) == 0);
    return z;
}

static void fuzz_free(Fuzz *z)
{
    enter_main();
    qmp_session_free(z->session);
    z->run.disk_hangs = false;
    fake_run_release_disk(&z->run);
    z->now_ns += INT64_C(1000000000);
    aio_context_set_virtual_time(z->ctx, z->now_ns);
    fuzz_settle(z);
    fake_chardev_free(z->chardev);
    aio_context_free(z->ctx);
    vm_config_clear(&z->config);
    g_hash_table_destroy(z->old_tokens);
    fake_run_clear(&z->run);
    g_free(z);
}

/* ---- what the client says ---- */

static const char *const fuzz_commands[] = {
    "qmp_capabilities",
    "query-version",
    "query-commands",
    "query-qmp-schema",
    "query-name",
    "query-uuid",
    "query-kvm",
    "query-status",
    "stop",
    "cont",
    "system_reset",
    "set-action",
    "getfd",
    "closefd",
    "add-fd",
    "remove-fd",
    "query-fdsets",
    "trace-event-get-state",
    "trace-event-set-state",
    "query-jobs",
    "no-such-command",
    "",
};
static const char *const fuzz_arguments[] = {
    "{}",
    "{\"enable\": [\"oob\"]}",
    "{\"panic\": \"pause\", \"reboot\": \"shutdown\"}",
    "{\"fdname\": \"x\"}",
    "{\"fdset-id\": 1, \"fd\": 2}",
    "{\"name\": \"no_such_*\"}",
    "{\"name\": \"no_such\", \"enable\": true}",
    "{\"panic\": 7, \"watchdog\": [[{}]]}",
    "[]",
    "null",
    "-9223372036854775808",
    "{\"a\": {\"b\": {\"c\": [1.5e300, \"\\ud83d\\ude00\"]}}}",
};
static const char *const fuzz_pieces[] = {
    "{",         "}",        "[",       "]",       "\"",    "\"",       "\\",      ":",
    ",",         "\n",       "\r\n",    " ",       "\t",    "\xff",     "\x01",    "null",
    "true",      "1e9",      "-0",      "\\u0000", "\\ud8", "\xc3\xa4", "execute", "id",
    "arguments", "exec-oob", "garbage", "'",       "\xfe",  "[[[[[[[[",
};

static void fuzz_append_request(Fuzz *z, GString *text)
{
    const char *command = FUZZ_PICK(fuzz_commands);
    if (strcmp(command, "query-qmp-schema") == 0 && fuzz_below(64) != 0) {
        command = "query-kvm"; /* the long one is worth a look, but takes long to look at */
    }
    g_string_append_printf(text, "{\"%s\": \"%s\"", fuzz_below(8) ? "execute" : "exec-oob",
                           command);
    if (fuzz_below(2) == 0) {
        g_string_append_printf(text, ", \"arguments\": %s", FUZZ_PICK(fuzz_arguments));
    }
    if (fuzz_below(4) != 0) {
        g_string_append_printf(text, ", \"id\": \"%s\"", z->token);
    }
    g_string_append(text, fuzz_below(2) ? "}\n" : "}");
}

static void fuzz_append_garbage(GString *text)
{
    for (uint64_t n = fuzz_below(12); n > 0; n--) {
        if (fuzz_below(4) == 0) {
            g_string_append_c(text, (char)fuzz_below(256));
        } else {
            g_string_append(text, FUZZ_PICK(fuzz_pieces));
        }
    }
}

static GString *fuzz_text(Fuzz *z)
{
    GString *text = g_string_new(NULL);
    for (uint64_t n = fuzz_below(20) ? 1 + fuzz_below(4) : 200; n > 0; n--) {
        if (fuzz_below(4) == 0) {
            fuzz_append_garbage(text);
        } else {
            fuzz_append_request(z, text);
        }
    }
    for (uint64_t n = fuzz_below(2) ? fuzz_below(4) : 0; n > 0 && text->len > 0; n--) {
        text->str[fuzz_below(text->len)] = (char)fuzz_below(256);
    }
    if (fuzz_below(8) == 0) {
        g_string_truncate(text, (gsize)fuzz_below(text->len + 1));
    }
    if (fuzz_below(4) == 0) { /* back into step, at the latest now */
        g_string_append(text, "\xff\n");
    }
    return text;
}

/* ---- what it gets ---- */

static void fuzz_check_error(struct json_object *error, const char *line)
{
    static const char *const classes[] = {"GenericError", "CommandNotFound", "DeviceNotActive",
                                          "DeviceNotFound", NULL};
    const char *desc = qmp_arg_str(error, "desc");
    fuzz_require(g_strv_contains(classes, qmp_arg_str(error, "class")), "an unknown class", line);
    fuzz_require(strlen(desc) > 0 && strlen(desc) < 1000, "an endless message", line);
}

static void fuzz_check_message(Fuzz *z, const char *line, size_t length)
{
    g_autoptr(GError) failure = NULL;
    struct json_object *message = json_parse_text(line, length, 100, &failure), *id, *error;
    fuzz_require(message != NULL, "a line that is no JSON", line);
    unsigned kinds = qmp_arg_has(message, "QMP") + qmp_arg_has(message, "return") +
                     qmp_arg_has(message, "error") + qmp_arg_has(message, "event");
    fuzz_require(kinds == 1, "no kind of message", line);
    if ((error = qmp_arg_get(message, "error")) != NULL) {
        fuzz_check_error(error, line);
    }
    id = qmp_arg_get(message, "id");
    fuzz_require(!json_object_is_type(id, json_type_string) ||
                     !g_hash_table_contains(z->old_tokens, json_object_get_string(id)),
                 "a reply to another client", line);
    json_object_put(message);
}

/* All messages that have come whole. Pretty ones end with a brace in the first column. */
static void fuzz_check_output(Fuzz *z)
{
    const GString *out = z->chardev->output;
    const char *end;
    while ((end = strstr(out->str + z->seen, "}\r\n")) != NULL) {
        const char *begin = out->str + z->seen;
        fuzz_check_message(z, begin, (size_t)(end - begin) + 1);
        z->seen += (size_t)(end - begin) + 3;
    }
}

/* ---- steps ---- */

static RUNS_IN_MAIN void fuzz_connect(Fuzz *z)
{
    static const char negotiate[] = "{\"execute\": \"qmp_capabilities\", \"arguments\": "
                                    "{\"enable\": [\"oob\"]}}";
    snprintf(z->token, sizeof(z->token), "%016" PRIx64, fuzz_below(UINT64_MAX));
    fake_chardev_event(z->chardev, CHARDEV_OPENED);
    z->connected = true;
    if (fuzz_below(8) != 0) {
        fake_chardev_input(z->chardev, negotiate, sizeof(negotiate) - 1);
    }
}

static RUNS_IN_MAIN void fuzz_disconnect(Fuzz *z)
{
    fuzz_check_output(z);
    fake_chardev_event(z->chardev, CHARDEV_CLOSED);
    g_string_truncate(z->chardev->output, 0); /* the end of a message may have been lost with it */
    fake_chardev_make_room(z->chardev, SIZE_MAX);
    z->seen = 0;
    z->connected = false;
    g_hash_table_add(z->old_tokens, g_strdup(z->token));
}

static RUNS_IN_MAIN void fuzz_say(Fuzz *z)
{
    GString *text = fuzz_text(z);
    size_t piece = fuzz_below(4) ? 4096 : 1 + fuzz_below(16);
    for (size_t at = 0; at < text->len;) {
        /* A copy of its size, so that a read past its end is seen. */
        size_t size = MIN(piece, text->len - at);
        g_autofree char *exact = g_memdup2(text->str + at, size);
        size_t taken = fake_chardev_input(z->chardev, exact, size);
        if (taken < size || fuzz_below(4) == 0) {
            aio_context_step(z->ctx, false);
        }
        if (taken < size && fuzz_below(8) == 0) {
            break; /* the rest is never sent */
        }
        at += taken;
    }
    g_string_free(text, true);
}

static RUNS_IN_MAIN void fuzz_long_value(Fuzz *z)
{
    g_autofree char *chunk = g_strnfill(65536, fuzz_below(2) ? 'x' : ' ');
    fake_chardev_input(z->chardev, "\xff{\"execute\": \"", 14);
    for (uint64_t n = fuzz_below(40); n > 0; n--) {
        fake_chardev_input(z->chardev, chunk, 65536);
        fuzz_settle(z);
    }
}

static RUNS_IN_MAIN void fuzz_step(Fuzz *z)
{
    switch (fuzz_below(40)) {
    case 0:
        fuzz_disconnect(z);
        fuzz_connect(z);
        break;
    case 1:
        z->run.disk_hangs = !z->run.disk_hangs;
        break;
    case 2:
        fake_run_release_disk(&z->run);
        break;
    case 3:
        z->now_ns += INT64_C(60000000);
        aio_context_set_virtual_time(z->ctx, z->now_ns);
        break;
    case 4:
        fake_chardev_make_room(z->chardev, fuzz_below(4) ? (size_t)fuzz_below(3000) : 0);
        break;
    case 5:
        fake_chardev_make_room(z->chardev, SIZE_MAX);
        break;
    case 6:
        for (uint64_t n = fuzz_below(16) ? fuzz_below(4) : 5000; n > 0; n--) {
            qmp_event_emit("POWERDOWN", NULL);
        }
        break;
    case 7:
        if (fuzz_below(16) == 0) {
            fuzz_long_value(z);
        }
        break;
    case 8:
        fuzz_settle(z);
        fuzz_check_output(z);
        break;
    default:
        fuzz_say(z);
        aio_context_step(z->ctx, false);
        break;
    }
}

/* ---- arguments of every command, which are checked but not executed ---- */

static struct json_object *fuzz_value(const QmpType *type, unsigned depth)
{
    static const char *const texts[] = {"null",  "0",  "-1", "1.5", "true",
                                        "\"x\"", "[]", "{}", "[{}]"};
    static const QmpType any = {.name = "any", .kind = QMP_KIND_ANY};
    struct json_object *value;
    if (depth > 6 || fuzz_below(8) == 0 || type->kind == QMP_KIND_ANY) {
        return json_tokener_parse(FUZZ_PICK(texts));
    }
    switch (type->kind) {
    case QMP_KIND_ENUM:
        return json_object_new_string(type->values[0]);
    case QMP_KIND_BOOL:
        return json_object_new_boolean(true);
    case QMP_KIND_STRING:
        return json_object_new_string(FUZZ_PICK(fuzz_pieces));
    case QMP_KIND_ARRAY:
        value = json_object_new_array();
        for (uint64_t n = fuzz_below(3); n > 0; n--) {
            json_object_array_add(value, fuzz_value(type->element, depth + 1));
        }
        return value;
    case QMP_KIND_ALTERNATE:
        return fuzz_value(type->members[fuzz_below(2) && type->members[1].name != NULL].type,
                          depth + 1);
    case QMP_KIND_STRUCT:
        value = json_object_new_object();
        for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
            if (fuzz_below(8) != 0) {
                json_object_object_add(value, m->name, fuzz_value(m->type, depth + 1));
            }
        }
        if (fuzz_below(8) == 0) {
            json_object_object_add(value, "more", fuzz_value(&any, depth + 1));
        }
        return value;
    default:
        return json_object_new_int64((int64_t)(fuzz_below(1 << 20) << fuzz_below(44)));
    }
}

static void fuzz_check_command(const QmpCommand *c, void *opaque)
{
    if (c->args == NULL) {
        return;
    }
    g_autoptr(GError) error = NULL;
    struct json_object *args = fuzz_value(c->args, 0);
    bool ok = qmp_check(c->args, args, "arguments", &error);
    fuzz_require(ok == (error == NULL), "a result and an error, or neither", c->name);
    fuzz_require(ok || strlen(error->message) < 2000, "an endless message", c->name);
    json_object_put(args);
}

/* ---- */

/* One VM, and the clients of its life. */
static RUNS_IN_MAIN void fuzz_round(void)
{
    Fuzz *z = fuzz_new();
    fuzz_connect(z);
    for (uint64_t n = 1 + fuzz_below(300); n > 0; n--) {
        fuzz_step(z);
    }
    if (fuzz_below(2) == 0) {
        fuzz_disconnect(z);
    }
    fuzz_free(z);
    qmp_command_foreach(fuzz_check_command, NULL);
}

int main(int argc, char **argv)
{
    fuzz_begin("fuzz_qmp", argc, argv);
    log_open("/dev/null", false); /* what skiff says of such clients */
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    while (fuzz_goes_on()) {
        fuzz_round();
    }
    fuzz_end("steps");
    return 0;
}
