/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of what writes to a terminal: one that knows its last row. A sequence it does not know,
 * a control byte, and what is no UTF-8 fail the test. */
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
    GString *raw; /* all that was written */
} ShownTerminal;

void shown_terminal_init(ShownTerminal *t);
void shown_terminal_clear(ShownTerminal *t);

void shown_terminal_write(ShownTerminal *t, const char *text, size_t size);
/* The row, without blanks at the end, which nobody sees. The caller frees it. */
char *shown_terminal_text(const ShownTerminal *t);

#endif
