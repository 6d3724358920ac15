/* SPDX-License-Identifier: Apache-2.0 */
/* The whole schema: executes every command with every kind of wrong argument, and checks that the
 * tables are consistent. New rows are tested without a change here. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "vmm/monitor/qmp/qmp.h"

/* ---- running in a coroutine of main ---- */

static void in_main(CoroutineEntry *fn)
{
    AioContext *ctx = aio_context_new("main", NULL);
    co_start(ctx, fn, NULL);
    while (aio_context_step(ctx, false)) {
    }
    aio_context_free(ctx);
}

/* ---- values ---- */

/* Returns a minimal value of @type. */
static struct json_object *sample(const QmpType *type)
{
    struct json_object *value;
    switch (type->kind) {
    case QMP_KIND_STRING:
        return json_object_new_string("text");
    case QMP_KIND_INT:
    case QMP_KIND_SIZE:
    case QMP_KIND_NUMBER:
        return json_object_new_int64(type->min);
    case QMP_KIND_BOOL:
        return json_object_new_boolean(true);
    case QMP_KIND_NULL:
        return NULL;
    case QMP_KIND_ENUM:
        return json_object_new_string(type->values[0]);
    case QMP_KIND_ARRAY:
        return json_object_new_array();
    case QMP_KIND_ALTERNATE:
        return sample(type->members[0].type);
    case QMP_KIND_ANY:
        return json_object_new_object();
    case QMP_KIND_STRUCT:
        value = json_object_new_object();
        for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
            if (!m->optional) {
                json_object_object_add(value, m->name, sample(m->type));
            }
        }
        return value;
    }
    return NULL;
}

/* Sets *@value to the @i-th of the values that @type must refuse; false if there are no more. */
static bool wrong_value(const QmpType *type, unsigned i, struct json_object **value)
{
    static const char *const texts[] = {"null",
                                        "true",
                                        "12345678901",
                                        "1.5",
                                        "\"\"",
                                        "[]",
                                        "\"no-such-value, ever\"",
                                        "{}",
                                        "-1",
                                        "[7]",
                                        "{\"no-such-member\": 1}",
                                        "9223372036854775807",
                                        "18446744073709551615"};
    unsigned wrong = 0;
    for (unsigned k = 0; k < G_N_ELEMENTS(texts); k++) {
        struct json_object *v = json_tokener_parse(texts[k]);
        if (!qmp_check(type, v, "x", NULL) && wrong++ == i) {
            *value = v;
            return true;
        }
        json_object_put(v);
    }
    return false;
}

/* ---- refusals ---- */

typedef struct Refusal {
    const QmpCommand *command;
    struct json_object *args; /* all arguments of the command */
    unsigned count;
} Refusal;

/* The command must refuse its arguments with a message that has @name in quotes. */
static void expect_refusal(Refusal *r, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *quoted = g_strdup_printf("'%s", name);
    enter_main();
    enter_coroutine();
    if (r->command->args != NULL && qmp_check(r->command->args, r->args, "arguments", NULL)) {
        fail_msg("%s takes %s", r->command->name, json_object_to_json_string(r->args));
    }
    struct json_object *result = qmp_co_execute(NULL, NULL, r->command->name, r->args, &error);
    assert_null(result);
    assert_non_null(error);
    assert_string_equal(qmp_error_class(error), "GenericError");
    if (strstr(error->message, quoted) == NULL) {
        fail_msg("%s %s: '%s' does not name %s", r->command->name,
                 json_object_to_json_string(r->args), error->message, name);
    }
    assert_true(g_utf8_validate(error->message, -1, NULL));
    r->count++;
}

static void refuse_struct(Refusal *r, const QmpType *type, struct json_object *at);

static void refuse_value(Refusal *r, const QmpMember *m, struct json_object *at)
{
    struct json_object *value;
    for (unsigned i = 0; wrong_value(m->type, i, &value); i++) {
        json_object_object_add(at, m->name, value);
        /* For a structure the message has the name of the inner member. */
        bool inner =
            m->type->kind == QMP_KIND_STRUCT && json_object_is_type(value, json_type_object);
        expect_refusal(r, inner ? "" : m->name);
    }
    if (m->type->kind == QMP_KIND_STRUCT) {
        struct json_object *deeper = sample(m->type);
        json_object_object_add(at, m->name, deeper);
        refuse_struct(r, m->type, deeper);
    } else if (m->type->kind == QMP_KIND_ARRAY && m->type->element->kind == QMP_KIND_STRUCT) {
        struct json_object *list = json_object_new_array(), *element = sample(m->type->element);
        json_object_array_add(list, element);
        json_object_object_add(at, m->name, list);
        refuse_struct(r, m->type->element, element);
    }
    json_object_object_del(at, m->name);
}

/* Tries wrong values for each member of @at, a value of @type within the arguments. */
static void refuse_struct(Refusal *r, const QmpType *type, struct json_object *at)
{
    for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
        json_object_object_del(at, m->name);
        if (!m->optional) {
            expect_refusal(r, m->name);
        }
        refuse_value(r, m, at);
        if (!m->optional) {
            json_object_object_add(at, m->name, sample(m->type));
        }
    }
    if (!type->open) {
        json_object_object_add(at, "no-such-member", json_object_new_int(1));
        expect_refusal(r, "no-such-member");
        json_object_object_del(at, "no-such-member");
    }
}

static void refuse_command(const QmpCommand *c, void *opaque)
{
    static const QmpType none = {.name = "q_empty", .kind = QMP_KIND_STRUCT};
    const QmpType *type = c->args != NULL ? c->args : &none;
    Refusal r = {.command = c, .args = sample(type)};
    if (!qmp_check(type, r.args, "arguments", NULL)) {
        fail_msg("%s does not take %s", c->name, json_object_to_json_string(r.args));
    }
    refuse_struct(&r, type, r.args);
    json_object_put(r.args);
    *(unsigned *)opaque += r.count;
}

static void refuse_all(void *opaque)
{
    unsigned count = 0;
    qmp_command_foreach(refuse_command, &count);
    assert_true(count > 100);
}

static void every_wrong_argument_of_every_command_is_refused_by_name(void **state)
{
    in_main(refuse_all);
}

static void execute_unknown(void *opaque)
{
    static const char *const names[] = {
        "", "no-such-command", "query-status ", "Query-Status", "query_status", "stop\n"};
    enter_main();
    enter_coroutine();
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(qmp_co_execute(NULL, NULL, names[i], NULL, &error));
        assert_string_equal(qmp_error_class(error), "CommandNotFound");
        assert_true(g_str_has_prefix(error->message, "The command "));
    }
}

static void an_unknown_command_is_not_found(void **state)
{
    in_main(execute_unknown);
}

/* ---- the tables ---- */

static void check_type(const QmpType *type, const char *where, GHashTable *seen)
{
    if (type == NULL || !g_hash_table_add(seen, (gpointer)(uintptr_t)type)) {
        return;
    }
    if (type->kind == QMP_KIND_ARRAY) {
        assert_non_null(type->element);
        check_type(type->element, where, seen);
        return;
    }
    assert_non_null(type->name);
    if (type->kind == QMP_KIND_ENUM) {
        assert_non_null(type->values);
        assert_non_null(type->values[0]);
    }
    if (type->kind == QMP_KIND_ALTERNATE) {
        assert_non_null(type->members);
    }
    for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
        if (m->type == NULL || m->doc == NULL) {
            fail_msg("%s: member %s of %s lacks a type or a doc", where, m->name, type->name);
        }
        check_type(m->type, where, seen);
    }
}

static void check_command(const QmpCommand *c, void *opaque)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    if (!g_hash_table_add(opaque, (gpointer)(uintptr_t)c->name)) {
        fail_msg("there are two commands %s", c->name);
    }
    if (c->run == NULL || c->doc == NULL) {
        fail_msg("%s lacks a handler or a doc", c->name);
    }
    assert_true(c->args == NULL || c->args->kind == QMP_KIND_STRUCT);
    check_type(c->args, c->name, seen);
    check_type(c->ret, c->name, seen);
}

static void check_event(const QmpEvent *e, void *opaque)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    if (!g_hash_table_add(opaque, (gpointer)(uintptr_t)e->name)) {
        fail_msg("there are two events %s", e->name);
    }
    assert_non_null(e->doc);
    assert_true(e->data == NULL || e->data->kind == QMP_KIND_STRUCT);
    check_type(e->data, e->name, seen);
}

static void commands_and_events_are_complete_and_unique(void **state)
{
    g_autoptr(GHashTable) commands = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) events = g_hash_table_new(g_str_hash, g_str_equal);
    qmp_command_foreach(check_command, commands);
    qmp_event_foreach(check_event, events);
    assert_true(g_hash_table_size(commands) > 10 && g_hash_table_size(events) > 5);
}

/* ---- introspection ---- */

static void expect_row(GHashTable *rows, struct json_object *row, const char *key)
{
    if (qmp_arg_has(row, key) && !g_hash_table_contains(rows, qmp_arg_str(row, key))) {
        fail_msg("the schema refers to %s, which is missing", qmp_arg_str(row, key));
    }
}

static void read_schema(void *opaque)
{
    enter_main();
    enter_coroutine();
    struct json_object *list = qmp_co_execute(NULL, NULL, "query-qmp-schema", NULL, NULL);
    g_autoptr(GHashTable) rows = g_hash_table_new(g_str_hash, g_str_equal);
    size_t length = json_object_array_length(list);
    for (size_t i = 0; i < length; i++) {
        struct json_object *row = json_object_array_get_idx(list, i);
        assert_true(g_hash_table_add(rows, (gpointer)(uintptr_t)qmp_arg_str(row, "name")));
    }
    for (size_t i = 0; i < length; i++) {
        struct json_object *row = json_object_array_get_idx(list, i);
        expect_row(rows, row, "arg-type");
        expect_row(rows, row, "ret-type");
        expect_row(rows, row, "element-type");
        struct json_object *members = qmp_arg_get(row, "members");
        for (size_t k = 0; members != NULL && k < json_object_array_length(members); k++) {
            expect_row(rows, json_object_array_get_idx(members, k), "type");
        }
    }
    assert_true(g_hash_table_contains(rows, "query-qmp-schema"));
    assert_true(g_hash_table_contains(rows, "SHUTDOWN"));
    json_object_put(list);
}

static void the_introspected_schema_is_complete(void **state)
{
    in_main(read_schema);
}

static int setup(void **state)
{
    thread_adopt_role(THREAD_MAIN, "main");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_wrong_argument_of_every_command_is_refused_by_name),
        cmocka_unit_test(an_unknown_command_is_not_found),
        cmocka_unit_test(commands_and_events_are_complete_and_unique),
        cmocka_unit_test(the_introspected_schema_is_complete),
    };
    return cmocka_run_group_tests_name("vmm/monitor/qmp/qmp_schema", tests, setup, NULL);
}
