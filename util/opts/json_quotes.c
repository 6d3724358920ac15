/* SPDX-License-Identifier: Apache-2.0 */
#include "util/opts/json_int.h"

#include <string.h>

/* Copies the character at text[i], inside a string; returns its number of bytes in @text. */
static size_t json_copy_character(GString *out, const char *text, size_t length, size_t i,
                                  char quote)
{
    if (text[i] == '\\' && i + 1 < length) {
        /* RFC 8259 has no escaped apostrophe. */
        g_string_append_len(out, text + i + (text[i + 1] == '\''), text[i + 1] == '\'' ? 1 : 2);
        return 2;
    }
    if (text[i] == '"' && quote == '\'') {
        g_string_append_c(out, '\\');
    }
    g_string_append_c(out, text[i]);
    return 1;
}

char *json_double_quotes(const char *text, size_t *length)
{
    if (memchr(text, '\'', *length) == NULL) {
        return NULL;
    }
    GString *out = g_string_sized_new(*length + 16);
    char quote = '\0'; /* quote character of the current string */
    for (size_t i = 0; i < *length;) {
        if (quote != '\0' && text[i] != quote) {
            i += json_copy_character(out, text, *length, i, quote);
            continue;
        }
        bool delimits = text[i] == '"' || text[i] == '\'';
        if (delimits) {
            quote = quote == '\0' ? text[i] : '\0';
        }
        g_string_append_c(out, delimits ? '"' : text[i]);
        i++;
    }
    *length = out->len;
    return g_string_free(out, false);
}
