/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/hmp/line_editor.h"

#include <stdio.h>
#include <string.h>
#include "vmm/monitor/hmp/line_keys.h"

#define LINE_HISTORY_MAX 64
#define LINE_LIST_COLUMNS 78

struct LineEditor {
    const char *prompt;
    size_t max;
    const LineEditorOps *ops;
    void *opaque;
    GString *text;
    size_t cursor; /* in bytes, never inside a character */
    bool too_long; /* input was dropped because the line was full */
    bool listed;   /* Tab found several words; another Tab lists them */
    LineKeys keys;
    GPtrArray *history; /* char *, oldest first */
    unsigned at;        /* index in history; its length stands for the unfinished line */
    char *typed;        /* the unfinished line while a line of history is shown */
};

/* ---- output ---- */

static void line_write(LineEditor *e, const char *text, size_t size)
{
    if (size > 0) {
        e->ops->write(e->opaque, text, size);
    }
}

static void line_puts(LineEditor *e, const char *text)
{
    line_write(e, text, strlen(text));
}

/* Bytes of the character at @text. */
static size_t line_char_size(const char *text)
{
    return (size_t)g_utf8_skip[(uint8_t)*text];
}

static unsigned line_columns(const char *from, const char *to)
{
    unsigned columns = 0;
    for (; from < to; from += line_char_size(from)) {
        gunichar c = g_utf8_get_char(from);
        columns += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return columns;
}

static void line_move_back(LineEditor *e, unsigned columns)
{
    char sequence[16];
    if (columns == 1) {
        line_puts(e, "\b");
    } else if (columns > 1) {
        snprintf(sequence, sizeof(sequence), "\033[%uD", columns);
        line_puts(e, sequence);
    }
}

static const char *line_cursor(const LineEditor *e)
{
    return e->text->str + e->cursor;
}

static const char *line_end(const LineEditor *e)
{
    return e->text->str + e->text->len;
}

/* Rewrites the text after the cursor, which has changed and may be @shorter than before, and moves
 * back to the cursor. */
static void line_redraw_tail(LineEditor *e, bool shorter)
{
    line_write(e, line_cursor(e), e->text->len - e->cursor);
    if (shorter) {
        line_puts(e, "\033[K");
    }
    line_move_back(e, line_columns(line_cursor(e), line_end(e)));
}

void line_editor_show(LineEditor *e)
{
    line_puts(e, e->prompt);
    line_write(e, e->text->str, e->text->len);
    line_move_back(e, line_columns(line_cursor(e), line_end(e)));
}

/* ---- moving and changing ---- */

static void line_go_to(LineEditor *e, size_t cursor)
{
    if (cursor < e->cursor) {
        line_move_back(e, line_columns(e->text->str + cursor, line_cursor(e)));
    } else {
        line_write(e, line_cursor(e), cursor - e->cursor); /* rewriting text moves the cursor */
    }
    e->cursor = cursor;
}

static size_t line_before(const LineEditor *e)
{
    return e->cursor == 0 ? 0 : (size_t)(g_utf8_prev_char(line_cursor(e)) - e->text->str);
}

static size_t line_after(const LineEditor *e)
{
    return e->cursor == e->text->len ? e->cursor : e->cursor + line_char_size(line_cursor(e));
}

static size_t line_word_before(const LineEditor *e)
{
    size_t at = e->cursor;
    while (at > 0 && e->text->str[at - 1] == ' ') {
        at--;
    }
    while (at > 0 && e->text->str[at - 1] != ' ') {
        at--;
    }
    return at;
}

static size_t line_word_after(const LineEditor *e)
{
    size_t at = e->cursor + strspn(line_cursor(e), " ");
    return at + strcspn(e->text->str + at, " ");
}

static void line_erase(LineEditor *e, size_t from, size_t to)
{
    if (from == to) {
        return;
    }
    line_go_to(e, from);
    g_string_erase(e->text, (gssize)from, (gssize)(to - from));
    if (from == e->text->len && to - from == 1) {
        line_puts(e, " \b"); /* works on every terminal */
    } else {
        line_redraw_tail(e, true);
    }
}

static void line_insert(LineEditor *e, const char *text, size_t size)
{
    if (e->text->len + size > e->max) {
        e->too_long = true;
        line_puts(e, "\a");
        return;
    }
    g_string_insert_len(e->text, (gssize)e->cursor, text, (gssize)size);
    e->cursor += size;
    line_write(e, text, size);
    if (e->cursor < e->text->len) {
        line_redraw_tail(e, false);
    }
}

static void line_replace(LineEditor *e, const char *text)
{
    unsigned columns = line_columns(e->text->str, line_end(e));
    line_go_to(e, 0);
    g_string_assign(e->text, text);
    line_write(e, text, e->text->len);
    if (line_columns(e->text->str, line_end(e)) < columns) {
        line_puts(e, "\033[K");
    }
    e->cursor = e->text->len;
}

/* ---- history ---- */

static void line_remember(LineEditor *e)
{
    const char *last = e->history->len > 0 ? e->history->pdata[e->history->len - 1] : NULL;
    if (e->text->len > 0 && g_strcmp0(last, e->text->str) != 0) {
        if (e->history->len == LINE_HISTORY_MAX) {
            g_ptr_array_remove_index(e->history, 0);
        }
        g_ptr_array_add(e->history, g_strdup(e->text->str));
    }
    e->at = e->history->len;
    g_clear_pointer(&e->typed, g_free);
}

static void line_recall(LineEditor *e, unsigned at)
{
    if (at > e->history->len || at == e->at) {
        return;
    }
    if (e->at == e->history->len) {
        g_free(e->typed);
        e->typed = g_strdup(e->text->str);
    }
    e->at = at;
    line_replace(e, at == e->history->len ? e->typed : e->history->pdata[at]);
}

/* ---- completion ---- */

static int line_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t line_common_prefix(const GPtrArray *words)
{
    const char *first = words->pdata[0];
    size_t length = strlen(first);
    for (unsigned i = 1; i < words->len; i++) {
        const char *word = words->pdata[i];
        size_t same = 0;
        while (same < length && first[same] == word[same]) {
            same++;
        }
        length = same;
    }
    return length;
}

static RUNS_IN_MAIN void line_list(LineEditor *e, const GPtrArray *words)
{
    size_t width = 0;
    for (unsigned i = 0; i < words->len; i++) {
        width = MAX(width, strlen(words->pdata[i]) + 2);
    }
    unsigned columns = (unsigned)MAX(LINE_LIST_COLUMNS / width, 1);
    for (unsigned i = 0; i < words->len; i++) {
        bool last = i % columns == columns - 1 || i == words->len - 1;
        g_autofree char *cell =
            i % columns == 0
                ? g_strdup_printf("\n%-*s", last ? 0 : (int)width, (const char *)words->pdata[i])
                : g_strdup_printf("%-*s", last ? 0 : (int)width, (const char *)words->pdata[i]);
        line_puts(e, cell);
    }
    line_puts(e, "\n");
    line_editor_show(e);
}

static RUNS_IN_MAIN void line_complete(LineEditor *e)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *text = g_strndup(e->text->str, e->cursor);
    size_t begin = e->ops->complete(e->opaque, text, words);
    bool again = e->listed;
    e->listed = false;
    if (words->len == 0) {
        return;
    }
    g_ptr_array_sort(words, line_compare);
    const char *word = words->pdata[0];
    size_t typed = e->cursor - begin, common = line_common_prefix(words);
    if (common > typed) {
        line_insert(e, word + typed, common - typed);
    } else if (words->len > 1 && again) {
        line_list(e, words);
    } else {
        e->listed = words->len > 1; /* the next Tab lists them */
    }
    /* A blank ends the word, except after '=' and ','. */
    if (words->len == 1 && (common == 0 || strchr("=,", word[common - 1]) == NULL)) {
        line_insert(e, " ", 1);
    }
}

/* ---- keys ---- */

static RUNS_IN_MAIN void line_enter(LineEditor *e)
{
    bool too_long = e->too_long;
    line_go_to(e, e->text->len);
    line_puts(e, "\n");
    if (!too_long) {
        line_remember(e);
    }
    g_autofree char *line = g_strdup(e->text->str);
    line_editor_reset(e);
    e->ops->line(e->opaque, too_long ? NULL : line); /* may call the editor */
}

static RUNS_IN_MAIN void line_drop(LineEditor *e)
{
    line_puts(e, "^C\n");
    line_editor_reset(e);
    line_editor_show(e);
}

static RUNS_IN_MAIN void line_press_editing(LineEditor *e, LineKey key)
{
    switch (key) {
    case LINE_KEY_BACKSPACE:
        line_erase(e, line_before(e), e->cursor);
        break;
    case LINE_KEY_DELETE:
        line_erase(e, e->cursor, line_after(e));
        break;
    case LINE_KEY_ERASE_WORD:
        line_erase(e, line_word_before(e), e->cursor);
        break;
    case LINE_KEY_ERASE_BEFORE:
        line_erase(e, 0, e->cursor);
        break;
    case LINE_KEY_ERASE_AFTER:
        line_erase(e, e->cursor, e->text->len);
        break;
    case LINE_KEY_COMPLETE:
        line_complete(e);
        break;
    case LINE_KEY_CLEAR:
        line_puts(e, "\033[H\033[2J");
        line_editor_show(e);
        break;
    case LINE_KEY_DROP:
        line_drop(e);
        break;
    case LINE_KEY_ENTER:
        line_enter(e);
        break;
    default:
        break;
    }
}

static RUNS_IN_MAIN void line_press(LineEditor *e, LineKey key)
{
    e->listed &= key == LINE_KEY_COMPLETE;
    switch (key) {
    case LINE_KEY_LEFT:
        line_go_to(e, line_before(e));
        break;
    case LINE_KEY_RIGHT:
        line_go_to(e, line_after(e));
        break;
    case LINE_KEY_WORD_LEFT:
        line_go_to(e, line_word_before(e));
        break;
    case LINE_KEY_WORD_RIGHT:
        line_go_to(e, line_word_after(e));
        break;
    case LINE_KEY_HOME:
        line_go_to(e, 0);
        break;
    case LINE_KEY_END:
        line_go_to(e, e->text->len);
        break;
    case LINE_KEY_UP:
        if (e->at > 0) {
            line_recall(e, e->at - 1);
        }
        break;
    case LINE_KEY_DOWN:
        line_recall(e, e->at + 1);
        break;
    default:
        line_press_editing(e, key);
        break;
    }
}

void line_editor_type(LineEditor *e, uint8_t byte)
{
    LineText text;
    LineKey key = line_keys_feed(&e->keys, byte, &text);
    if (key == LINE_KEY_TEXT) {
        e->listed = false;
        line_insert(e, text.bytes, text.size);
    } else if (key != LINE_KEY_NONE) {
        line_press(e, key);
    }
}

/* ---- life ---- */

void line_editor_reset(LineEditor *e)
{
    g_string_truncate(e->text, 0);
    e->cursor = 0;
    e->too_long = e->listed = false;
    e->at = e->history->len;
    g_clear_pointer(&e->typed, g_free);
}

LineEditor *line_editor_new(const char *prompt, size_t max, const LineEditorOps *ops, void *opaque)
{
    LineEditor *e = g_new0(LineEditor, 1);
    e->prompt = prompt;
    e->max = max;
    e->ops = ops;
    e->opaque = opaque;
    e->text = g_string_new(NULL);
    e->history = g_ptr_array_new_with_free_func(g_free);
    return e;
}

void line_editor_free(LineEditor *e)
{
    g_string_free(e->text, true);
    g_ptr_array_free(e->history, true);
    g_free(e->typed);
    g_free(e);
}
