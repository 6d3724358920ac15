/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/shown_terminal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* The right half of a wide character is 0. A character without width is not stored. */
static void shown_terminal_put(ShownTerminal *t, gunichar c)
{
    if (g_unichar_iszerowidth(c)) {
        return;
    }
    assert_true(t->cursor + 1 < SHOWN_TERMINAL_COLUMNS);
    t->row[t->cursor++] = c;
    if (g_unichar_iswide(c)) {
        t->row[t->cursor++] = 0;
    }
    t->columns = MAX(t->columns, t->cursor);
}

static void shown_terminal_sequence(ShownTerminal *t)
{
    unsigned n = (unsigned)g_ascii_strtoull(t->sequence + 2, NULL, 10);
    switch (t->sequence[t->sequence_length - 1]) {
    case 'K':
        t->columns = t->cursor;
        break;
    case 'D':
        assert_true(n <= t->cursor);
        t->cursor -= n;
        break;
    case 'H':
    case 'J':
        t->columns = t->cursor = 0;
        break;
    default:
        fail_msg("unknown sequence %s", t->sequence + 1);
    }
    t->sequence_length = 0;
}

static void shown_terminal_take(ShownTerminal *t, gunichar c)
{
    if (t->sequence_length > 0) {
        assert_true(t->sequence_length < sizeof(t->sequence) - 1);
        t->sequence[t->sequence_length++] = (char)c;
        t->sequence[t->sequence_length] = '\0';
        if (t->sequence_length > 2 && c >= 0x40) {
            shown_terminal_sequence(t);
        }
    } else if (c == 0x1b) {
        t->sequence[t->sequence_length++] = (char)c;
    } else if (c == '\b') {
        assert_true(t->cursor > 0);
        t->cursor--;
    } else if (c == '\n') {
        t->columns = t->cursor = 0;
    } else if (c == '\a') {
        t->bells++;
    } else {
        assert_true(c >= 0x20 && c != 0x7f);
        shown_terminal_put(t, c);
    }
}

void shown_terminal_init(ShownTerminal *t)
{
    *t = (ShownTerminal){.raw = g_string_new(NULL)};
}

void shown_terminal_clear(ShownTerminal *t)
{
    g_string_free(t->raw, TRUE);
}

void shown_terminal_write(ShownTerminal *t, const char *text, size_t size)
{
    assert_true(g_utf8_validate(text, (gssize)size, NULL));
    g_string_append_len(t->raw, text, (gssize)size);
    for (const char *p = text; p < text + size; p += g_utf8_skip[(uint8_t)*p]) {
        shown_terminal_take(t, g_utf8_get_char(p));
    }
}

char *shown_terminal_text(const ShownTerminal *t)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < t->columns; i++) {
        if (t->row[i] != 0) {
            g_string_append_unichar(text, t->row[i]);
        }
    }
    return g_strchomp(g_string_free(text, FALSE));
}
