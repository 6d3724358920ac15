/* SPDX-License-Identifier: Apache-2.0 */
/* A recursive-descent parser with one function for all levels of binary operators. */
#include "vmm/monitor/hmp/hmp_expr.h"

#include <errno.h>
#include <string.h>

#define HMP_EXPR_DEPTH 64

typedef struct HmpExpr {
    HmpCall *call;
    const char *at;
    bool more; /* another word may follow */
    unsigned depth;
    GError **error;
} HmpExpr;

static bool hmp_expr_fail(HmpExpr *e, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool hmp_expr_fail(HmpExpr *e, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error_literal(e->error, QMP_ERROR, QMP_ERROR_GENERIC, text);
    return false;
}

static char hmp_expr_peek(HmpExpr *e)
{
    e->at += strspn(e->at, " \t");
    return *e->at;
}

/* ---- operands ---- */

static bool hmp_expr_number(HmpExpr *e, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = g_ascii_strtoull(e->at, &end, 0);
    if (errno != 0) {
        return hmp_expr_fail(e, "a number does not fit 64 bits");
    }
    if (g_ascii_isalnum(*end)) {
        return hmp_expr_fail(e, "'%c' does not belong to a number", *end);
    }
    e->at = end;
    return true;
}

/* 'c' */
static bool hmp_expr_character(HmpExpr *e, uint64_t *value)
{
    const char *p = e->at + 1;
    if (p[0] == '\0' || p[1] != '\'') {
        return hmp_expr_fail(e, "expected a character between quotes, as in 'c'");
    }
    *value = (uint8_t)*p;
    e->at = p + 2;
    return true;
}

typedef struct HmpRegister {
    const char *name;
    uint64_t value;
    bool found;
} HmpRegister;

static void hmp_register_in_thread(Vcpu *v, void *opaque)
{
    enter_vcpu();
    HmpRegister *r = opaque;
    r->found = arch_vcpu_get_register(vcpu_fd(v), r->name, &r->value);
}

static coroutine_fn RUNS_IN_MAIN bool hmp_co_expr_register(HmpExpr *e, uint64_t *value)
{
    char name[16];
    size_t length = 0;
    e->at++;
    while (g_ascii_isalnum(*e->at) && length < sizeof(name) - 1) {
        name[length++] = g_ascii_tolower(*e->at++);
    }
    name[length] = '\0';
    HmpRegister r = {.name = name};
    if (length != 0 && e->call->vm->machine.vcpus != NULL) {
        vcpus_co_call(e->call->vm->machine.vcpus, *e->call->cpu, hmp_register_in_thread, &r);
    }
    if (!r.found) {
        return hmp_expr_fail(e, "there is no register '$%s'", name);
    }
    *value = r.value;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool hmp_co_expr_level(HmpExpr *e, unsigned level,
                                                        uint64_t *value);

static coroutine_fn RUNS_IN_MAIN bool hmp_co_expr_unary(HmpExpr *e, uint64_t *value)
{
    if (e->depth == HMP_EXPR_DEPTH) {
        return hmp_expr_fail(e, "an expression is nested at most %d deep", HMP_EXPR_DEPTH);
    }
    e->depth++;
    bool ok;
    char c = hmp_expr_peek(e);
    if (c == '(') {
        e->at++;
        ok = hmp_co_expr_level(e, 0, value);
        if (ok && hmp_expr_peek(e) != ')') {
            ok = hmp_expr_fail(e, "')' expected");
        }
        e->at += ok;
    } else if (c != '\0' && strchr("+-~!", c) != NULL) {
        e->at++;
        ok = hmp_co_expr_unary(e, value);
        *value = c == '-' ? -*value : c == '~' ? ~*value : c == '!' ? *value == 0 : *value;
    } else if (c == '$') {
        ok = hmp_co_expr_register(e, value);
    } else if (c == '\'') {
        ok = hmp_expr_character(e, value);
    } else if (g_ascii_isdigit(c)) {
        ok = hmp_expr_number(e, value);
    } else {
        ok = hmp_expr_fail(e, "expected a number, $register or '('%s",
                           c == '\0' ? ", not the end of the line" : "");
    }
    e->depth--;
    return ok;
}

/* ---- operators ---- */

/* In order of precedence, lowest first. */
static const char *const hmp_expr_levels[] = {"&|^", "+-", "*/%"};

static bool hmp_expr_apply(HmpExpr *e, char operator, uint64_t * value, uint64_t right)
{
    if ((operator== '/' || operator== '%') && right == 0) {
        return hmp_expr_fail(e, "division by zero");
    }
    switch (operator) {
    case '&':
        *value &= right;
        break;
    case '|':
        *value |= right;
        break;
    case '^':
        *value ^= right;
        break;
    case '+':
        *value += right;
        break;
    case '-':
        *value -= right;
        break;
    case '*':
        *value *= right;
        break;
    case '/':
        *value /= right;
        break;
    default:
        *value %= right;
        break;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool hmp_co_expr_level(HmpExpr *e, unsigned level, uint64_t *value)
{
    if (level == G_N_ELEMENTS(hmp_expr_levels)) {
        return hmp_co_expr_unary(e, value);
    }
    *value = 0;
    if (!hmp_co_expr_level(e, level + 1, value)) {
        return false;
    }
    for (;;) {
        const char *end = e->at;
        char c = hmp_expr_peek(e);
        uint64_t right = 0;
        bool next = c != '\0' && e->more && e->at > end && !g_ascii_isspace(e->at[1]);
        if (c == '\0' || strchr(hmp_expr_levels[level], c) == NULL || next) {
            e->at = end; /* before the blanks, which the caller may need */
            return true;
        }
        e->at++;
        if (!hmp_co_expr_level(e, level + 1, &right) || !hmp_expr_apply(e, c, value, right)) {
            return false;
        }
    }
}

bool hmp_co_expr(HmpCall *call, const char **at, bool more, uint64_t *value, GError **error)
{
    HmpExpr e = {.call = call, .at = *at, .more = more, .error = error};
    if (!hmp_co_expr_level(&e, 0, value)) {
        return false;
    }
    *at = e.at;
    return true;
}
