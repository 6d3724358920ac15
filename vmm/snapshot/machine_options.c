/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/machine_options.h"

#include <string.h>

#define OPTION_PREFIX "option."

/* ---- one option ---- */

static void option_append_byte(GString *out, unsigned char byte)
{
    g_string_append_printf(out, "\\x%02x", byte);
}

char *machine_text_escape(const char *value)
{
    GString *out = g_string_new(NULL);
    const char *end = value + strlen(value);
    while (value < end) {
        gunichar c = g_utf8_get_char_validated(value, end - value);
        if (c == (gunichar)-1 || c == (gunichar)-2 || c < ' ' || c == 0x7f) {
            option_append_byte(out, (unsigned char)*value++);
            continue;
        }
        if (c == '\\') {
            g_string_append_c(out, '\\');
        }
        g_string_append_unichar(out, c);
        value += g_unichar_to_utf8(c, NULL);
    }
    return g_string_free(out, FALSE);
}

char *machine_option_text(const ConfigOption *option)
{
    if (option->value == NULL) {
        return g_strconcat("-", option->name, NULL);
    }
    g_autofree char *value = machine_text_escape(option->value);
    return g_strconcat("-", option->name, " ", value, NULL);
}

/* Decodes the escape behind a backslash at @at and returns what follows it; NULL: it is wrong. */
static const char *option_take_escape(const char *at, GString *out)
{
    if (*at == '\\') {
        g_string_append_c(out, '\\');
        return at + 1;
    }
    if (at[0] != 'x' || !g_ascii_isxdigit(at[1]) || !g_ascii_isxdigit(at[2])) {
        return NULL;
    }
    int byte = g_ascii_xdigit_value(at[1]) << 4 | g_ascii_xdigit_value(at[2]);
    g_string_append_c(out, (char)byte);
    return byte != 0 ? at + 3 : NULL;
}

char *machine_text_unescape(const char *text)
{
    g_autoptr(GString) out = g_string_new(NULL);
    while (*text != '\0') {
        if (*text != '\\') {
            g_string_append_c(out, *text++);
            continue;
        }
        text = option_take_escape(text + 1, out);
        if (text == NULL) {
            return NULL;
        }
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static bool option_is_name(const char *name, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (!g_ascii_isalnum(name[i]) && name[i] != '-' && name[i] != '_') {
            return false;
        }
    }
    return size > 0;
}

ConfigOption *machine_option_parse(const char *text, GError **error)
{
    size_t size = text[0] == '-' ? strcspn(text + 1, " ") : 0;
    g_autofree char *name = g_strndup(text + (size > 0), size);
    const char *rest = text + 1 + size;
    bool has_value = size > 0 && *rest == ' ';
    g_autofree char *value = has_value ? machine_text_unescape(rest + 1) : NULL;
    if (!option_is_name(name, size) || (has_value && value == NULL)) {
        g_autofree char *shown = opt_excerpt(text);
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                    "the saved machine has an option that is none: '%s'", shown);
        return NULL;
    }
    return config_option_new(name, value);
}

/* ---- all ---- */

bool machine_options_write(const GPtrArray *options, StateWriter *w, GError **error)
{
    if (options->len > MACHINE_OPTIONS_MAX) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                    "the machine has %u options; a state has room for %d", options->len,
                    MACHINE_OPTIONS_MAX);
        return false;
    }
    for (unsigned i = 0; i < options->len; i++) {
        g_autofree char *name = g_strdup_printf(OPTION_PREFIX "%03u", i);
        g_autofree char *text = machine_option_text(options->pdata[i]);
        if (!state_writer_text(w, name, text, error)) {
            return false;
        }
    }
    return true;
}

static unsigned options_count(const StateStream *s)
{
    unsigned count = 0;
    for (unsigned i = 0; i < s->texts->len; i++) {
        count += g_str_has_prefix(((const StateText *)s->texts->pdata[i])->name, OPTION_PREFIX);
    }
    return count;
}

GPtrArray *machine_options_read(const StateStream *s, GError **error)
{
    g_autoptr(GPtrArray) options =
        g_ptr_array_new_with_free_func((GDestroyNotify)config_option_free);
    unsigned count = options_count(s);
    for (unsigned i = 0; i < count; i++) {
        g_autofree char *name = g_strdup_printf(OPTION_PREFIX "%03u", i);
        const char *text = state_stream_text(s, name);
        if (text == NULL) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                        "the saved machine has %u options, but no text %s", count, name);
            return NULL;
        }
        ConfigOption *option = machine_option_parse(text, error);
        if (option == NULL) {
            return NULL;
        }
        g_ptr_array_add(options, option);
    }
    return g_steal_pointer(&options);
}
