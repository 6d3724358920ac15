/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of terminal output: a terminal that stores its last row. An unknown sequence, a control
 * byte, and invalid UTF-8 fail the test. */
#ifndef SKIFF_TESTS_SUPPORT_SHOWN_TERMINAL_H
#define SKIFF_TESTS_SUPPORT_SHOWN_TERMINAL_H

#include <glib.h>

#define SHOWN_TERMINAL_COLUMNS 256

/* One row of characters; a new one on every newline. */
typedef struct ShownTerminal {
    gunichar row[SHOWN_TERMINAL_COLUMNS];
    unsigned columns, cursor;
    char sequence[16];
    unsigned sequence_length; /* 0: none */
    unsigned bells;
    GString *raw; /* everything written */
} ShownTerminal;

void shown_terminal_init(ShownTerminal *t);
void shown_terminal_clear(ShownTerminal *t);

void shown_terminal_write(ShownTerminal *t, const char *text, size_t size);
/* The row, without invisible blanks at the end. The caller frees it. */
char *shown_terminal_text(const ShownTerminal *t);

#endif
