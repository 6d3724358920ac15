/* SPDX-License-Identifier: Apache-2.0 */
/* The line editor on a simulated terminal. The terminal's last row must show the prompt and the
 * line, with the cursor at its place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/rounds.h"
#include "tests/support/shown_terminal.h"
#include "vmm/monitor/hmp/line_editor.h"

#define PROMPT "> "
#define LINE_MAX_BYTES 64

#define UP "\033[A"
#define DOWN "\033[B"
#define RIGHT "\033[C"
#define LEFT "\033[D"
#define HOME "\033[H"
#define END "\033OF"
#define DELETE "\033[3~"

typedef struct Rig {
    LineEditor *editor;
    ShownTerminal terminal;
    GPtrArray *lines;  /* char *: the lines delivered */
    unsigned too_long; /* the number of lines that were too long */
    const char *const *words;
} Rig;

/* ---- the rig ---- */

static void rig_write(void *opaque, const char *text, size_t size)
{
    Rig *rig = opaque;
    shown_terminal_write(&rig->terminal, text, size);
}

static void rig_line(void *opaque, const char *line)
{
    enter_main();
    Rig *rig = opaque;
    if (line != NULL) {
        g_ptr_array_add(rig->lines, g_strdup(line));
    } else {
        rig->too_long++;
    }
    line_editor_show(rig->editor);
}

static size_t rig_complete(void *opaque, const char *text, GPtrArray *words)
{
    Rig *rig = opaque;
    const char *last = strrchr(text, ' ');
    last = last != NULL ? last + 1 : text;
    for (const char *const *word = rig->words; word != NULL && *word != NULL; word++) {
        if (g_str_has_prefix(*word, last)) {
            g_ptr_array_add(words, g_strdup(*word));
        }
    }
    return (size_t)(last - text);
}

static int rig_setup(void **state)
{
    static const LineEditorOps ops = {
        .write = rig_write, .line = rig_line, .complete = rig_complete};
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    Rig *rig = g_new0(Rig, 1);
    rig->lines = g_ptr_array_new_with_free_func(g_free);
    shown_terminal_init(&rig->terminal);
    rig->editor = line_editor_new(PROMPT, LINE_MAX_BYTES, &ops, rig);
    line_editor_show(rig->editor);
    *state = rig;
    return 0;
}

static int rig_teardown(void **state)
{
    enter_main();
    Rig *rig = *state;
    line_editor_free(rig->editor);
    g_ptr_array_free(rig->lines, true);
    shown_terminal_clear(&rig->terminal);
    g_free(rig);
    return 0;
}

static RUNS_IN_MAIN void rig_type_bytes(Rig *rig, const char *keys, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        line_editor_type(rig->editor, (uint8_t)keys[i]);
    }
}

static RUNS_IN_MAIN void rig_type(Rig *rig, const char *keys)
{
    rig_type_bytes(rig, keys, strlen(keys));
}

/* The text after the prompt is @text, and the cursor is in column @cursor of it. */
static void assert_shows(const Rig *rig, const char *text, unsigned cursor)
{
    g_autofree char *shown = shown_terminal_text(&rig->terminal);
    g_autofree char *expected = g_strchomp(g_strconcat(PROMPT, text, NULL));
    assert_string_equal(shown, expected);
    assert_int_equal(rig->terminal.cursor, strlen(PROMPT) + cursor);
}

static const char *last_line(const Rig *rig)
{
    assert_true(rig->lines->len > 0);
    return rig->lines->pdata[rig->lines->len - 1];
}

static RUNS_IN_MAIN void assert_yields(Rig *rig, const char *keys, const char *line)
{
    rig_type(rig, keys);
    rig_type(rig, "\r");
    assert_string_equal(last_line(rig), line);
}

/* ---- editing ---- */

static void the_line_is_the_text_typed(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "info status");
    assert_shows(rig, "info status", 11);
    rig_type(rig, "\r");
    assert_string_equal(last_line(rig), "info status");
    assert_shows(rig, "", 0);
    assert_yields(rig, "", "");
}

static void on_a_pipe_the_echo_equals_the_input(void **state)
{
    enter_main();
    Rig *rig = *state;
    g_string_truncate(rig->terminal.raw, 0);
    rig_type(rig, "info status\n");
    assert_string_equal(rig->terminal.raw->str, "info status\n" PROMPT);
}

static void cr_lf_is_one_line_end(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "one\r\ntwo\n\nthree\r");
    assert_int_equal(rig->lines->len, 4);
    assert_string_equal(rig->lines->pdata[1], "two");
    assert_string_equal(rig->lines->pdata[2], "");
    assert_string_equal(rig->lines->pdata[3], "three");
}

static void text_is_inserted_at_the_cursor(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "ace" LEFT "d" LEFT LEFT "b");
    assert_shows(rig, "abcde", 2);
    rig_type(rig, HOME LEFT "0");
    assert_shows(rig, "0abcde", 1);
    rig_type(rig, END RIGHT "f");
    assert_shows(rig, "0abcdef", 7);
    rig_type(rig, "\001" RIGHT "\005\002"); /* Ctrl-A, Ctrl-E, Ctrl-B */
    assert_shows(rig, "0abcdef", 6);
    assert_yields(rig, "", "0abcdef");
}

static void keys_erase_characters_and_words(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "abc\177\b");
    assert_shows(rig, "a", 1);
    rig_type(rig, "bcd" LEFT LEFT "\b");
    assert_shows(rig, "acd", 1);
    rig_type(rig, DELETE);
    assert_shows(rig, "ad", 1);
    rig_type(rig, HOME "\b\004"); /* \b at the start has no effect; Ctrl-D */
    assert_shows(rig, "d", 0);
    rig_type(rig, END DELETE);
    assert_shows(rig, "d", 1);
    rig_type(rig, " one  two \027"); /* Ctrl-W */
    assert_shows(rig, "d one  ", 7);
    rig_type(rig, "three" LEFT LEFT "\013"); /* Ctrl-K */
    assert_shows(rig, "d one  thr", 10);
    rig_type(rig, LEFT "\025"); /* Ctrl-U */
    assert_shows(rig, "r", 0);
    assert_yields(rig, "\013", "");
}

static void the_cursor_moves_by_words(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "one two three\033b\033b");
    assert_shows(rig, "one two three", 4);
    rig_type(rig, "\033f");
    assert_shows(rig, "one two three", 7);
    rig_type(rig, "\033[1;5D\033[1;5D\033[1;5D");
    assert_shows(rig, "one two three", 0);
    rig_type(rig, "\033[1;5C");
    assert_shows(rig, "one two three", 3);
}

static void a_line_can_be_dropped_and_the_screen_cleared(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "quit\003");
    assert_shows(rig, "", 0);
    rig_type(rig, "help" LEFT "\014");
    assert_shows(rig, "help", 3);
    assert_yields(rig, "", "help");
    assert_int_equal(rig->lines->len, 1);
}

static void multibyte_and_wide_characters_are_edited_as_one(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "d\303\245ta" LEFT LEFT LEFT "\177x");
    assert_shows(rig, "x\303\245ta", 1);
    rig_type(rig, DELETE);
    assert_shows(rig, "xta", 1);
    assert_yields(rig, "\342\202\254", "x\342\202\254ta");
}

/* ---- history ---- */

static void history_goes_back_and_forth(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "one\rtwo\rtwo\r\rthree\rhalf" UP);
    assert_shows(rig, "three", 5);
    rig_type(rig, UP);
    assert_shows(rig, "two", 3);
    rig_type(rig, UP UP UP);
    assert_shows(rig, "one", 3);
    rig_type(rig, DOWN DOWN);
    assert_shows(rig, "three", 5);
    rig_type(rig, DOWN DOWN DOWN);
    assert_shows(rig, "half", 4);
    assert_yields(rig, "\020\020\020!", "one!"); /* Ctrl-P */
    assert_yields(rig, UP UP, "three");          /* a line of history is unchanged */
}

static void history_is_bounded(void **state)
{
    enter_main();
    Rig *rig = *state;
    for (unsigned i = 0; i < 200; i++) {
        g_autofree char *line = g_strdup_printf("line %u\r", i);
        rig_type(rig, line);
    }
    for (unsigned i = 0; i < 200; i++) {
        rig_type(rig, UP);
    }
    assert_shows(rig, "line 136", 8);
}

/* ---- completion ---- */

static void tab_completes_an_unambiguous_prefix(void **state)
{
    enter_main();
    Rig *rig = *state;
    static const char *const words[] = {"stop", "system_reset", "system_powerdown", "drive=", NULL};
    rig->words = words;
    rig_type(rig, "st\t");
    assert_shows(rig, "stop ", 5);
    rig_type(rig, "\025sy\t");
    assert_shows(rig, "system_", 7);
    rig_type(rig, "r\tx");
    assert_shows(rig, "system_reset x", 14);
    rig_type(rig, "\025dr\t");
    assert_shows(rig, "drive=", 6);
    rig_type(rig, "\025nothing\t");
    assert_shows(rig, "nothing", 7);
}

static void a_second_tab_lists_the_candidates(void **state)
{
    enter_main();
    Rig *rig = *state;
    static const char *const words[] = {"info", "inject", NULL};
    rig->words = words;
    rig_type(rig, "in\t");
    assert_null(strstr(rig->terminal.raw->str, "inject"));
    rig_type(rig, "\t");
    assert_non_null(strstr(rig->terminal.raw->str, "\ninfo    inject\n" PROMPT "in"));
    assert_shows(rig, "in", 2);
    g_string_truncate(rig->terminal.raw, 0);
    rig_type(rig, "\177n\t");
    assert_null(strstr(rig->terminal.raw->str, "inject"));
}

static void a_word_before_the_cursor_is_completed_in_place(void **state)
{
    enter_main();
    Rig *rig = *state;
    static const char *const words[] = {"disk0", NULL};
    rig->words = words;
    rig_type(rig, "resize di 5" LEFT LEFT "\t");
    assert_shows(rig, "resize disk0  5", 13);
}

/* ---- hostile input ---- */

static void a_line_that_is_too_long_is_not_executed(void **state)
{
    enter_main();
    Rig *rig = *state;
    for (unsigned i = 0; i < 100000; i++) {
        line_editor_type(rig->editor, 'x');
    }
    assert_int_equal(rig->terminal.bells, 100000 - LINE_MAX_BYTES);
    rig_type(rig, "\r");
    assert_int_equal(rig->too_long, 1);
    assert_int_equal(rig->lines->len, 0);
    assert_yields(rig, "help", "help");
}

static void unknown_and_endless_sequences_are_dropped(void **state)
{
    enter_main();
    Rig *rig = *state;
    rig_type(rig, "a\033[999;999;999;999;999;999;999;999mb");
    rig_type(rig, "\033[5~\033OP\033x\033\033[Cc\033[;;;;;;;;;;;;;;;;;;;;;;;;A");
    assert_yields(rig, "\033[1", "abc"); /* Enter ends it */
}

static void bytes_that_are_not_text_are_dropped(void **state)
{
    enter_main();
    Rig *rig = *state;
    static const char hostile[] = "a\0b\377\376\300\200\355\240\200\302\233"
                                  "2J\364\220\200\200\303(\342\202c\030\031\032\034\037";
    rig_type_bytes(rig, hostile, sizeof(hostile) - 1);
    assert_yields(rig, "", "ab2J(c");
}

static void the_terminal_shows_the_line_after_any_keys(void **state)
{
    enter_main();
    Rig *rig = *state;
    static const char *const words[] = {"info", "inject", "quit", NULL};
    static const char *const keys[] = {
        UP,     DOWN,   LEFT,   RIGHT,  HOME,        END,   DELETE, "\b",       "\027",
        "\025", "\013", "\t",   "\033", "\033[",     "i",   " ",    "\303\245", "\360\237\230\200",
        "in",   "\377", "\302", "\014", "\033[1;5D", "word"};
    rig->words = words;
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    for (unsigned round = 0; round < 3000; round++) {
        int count = g_rand_int_range(rand, 0, 40);
        for (int i = 0; i < count; i++) {
            rig_type(rig, keys[g_rand_int_range(rand, 0, G_N_ELEMENTS(keys))]);
        }
        rig_type(rig, "\001\005"); /* also ends an escape sequence */
        g_autofree char *shown = shown_terminal_text(&rig->terminal);
        unsigned before = rig->lines->len, too_long = rig->too_long;
        rig_type(rig, "\r");
        if (rig->too_long == too_long) {
            g_autofree char *expected = g_strchomp(g_strconcat(PROMPT, last_line(rig), NULL));
            assert_int_equal(rig->lines->len, before + 1);
            assert_string_equal(shown, expected);
        }
    }
}

static void random_bytes_do_no_harm(void **state)
{
    enter_main();
    Rig *rig = *state;
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    unsigned bytes = test_rounds(20000, 200000, 5000000);
    for (unsigned i = 0; i < bytes; i++) {
        line_editor_type(rig->editor, (uint8_t)g_rand_int_range(rand, 0, 256));
    }
    assert_yields(rig, "\003help", "help");
}

#define ON_RIG(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(the_line_is_the_text_typed),
        ON_RIG(on_a_pipe_the_echo_equals_the_input),
        ON_RIG(cr_lf_is_one_line_end),
        ON_RIG(text_is_inserted_at_the_cursor),
        ON_RIG(keys_erase_characters_and_words),
        ON_RIG(the_cursor_moves_by_words),
        ON_RIG(a_line_can_be_dropped_and_the_screen_cleared),
        ON_RIG(multibyte_and_wide_characters_are_edited_as_one),
        ON_RIG(history_goes_back_and_forth),
        ON_RIG(history_is_bounded),
        ON_RIG(tab_completes_an_unambiguous_prefix),
        ON_RIG(a_second_tab_lists_the_candidates),
        ON_RIG(a_word_before_the_cursor_is_completed_in_place),
        ON_RIG(a_line_that_is_too_long_is_not_executed),
        ON_RIG(unknown_and_endless_sequences_are_dropped),
        ON_RIG(bytes_that_are_not_text_are_dropped),
        ON_RIG(the_terminal_shows_the_line_after_any_keys),
        ON_RIG(random_bytes_do_no_harm),
    };
    return cmocka_run_group_tests_name("vmm/monitor/hmp/line_editor", tests, NULL, NULL);
}
