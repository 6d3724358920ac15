/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/hmp/line_keys.h"

#include <glib.h>
#include <string.h>

#define CTRL(letter) ((letter)&0x1f)

static LineKey line_control_key(uint8_t byte)
{
    static const struct {
        uint8_t byte;
        LineKey key;
    } keys[] = {
        {CTRL('A'), LINE_KEY_HOME},        {CTRL('B'), LINE_KEY_LEFT},
        {CTRL('C'), LINE_KEY_DROP},        {CTRL('D'), LINE_KEY_DELETE},
        {CTRL('E'), LINE_KEY_END},         {CTRL('F'), LINE_KEY_RIGHT},
        {CTRL('H'), LINE_KEY_BACKSPACE},   {0x7f, LINE_KEY_BACKSPACE},
        {CTRL('I'), LINE_KEY_COMPLETE},    {CTRL('J'), LINE_KEY_ENTER},
        {CTRL('K'), LINE_KEY_ERASE_AFTER}, {CTRL('L'), LINE_KEY_CLEAR},
        {CTRL('M'), LINE_KEY_ENTER},       {CTRL('N'), LINE_KEY_DOWN},
        {CTRL('P'), LINE_KEY_UP},          {CTRL('U'), LINE_KEY_ERASE_BEFORE},
        {CTRL('W'), LINE_KEY_ERASE_WORD},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (keys[i].byte == byte) {
            return keys[i].key;
        }
    }
    return LINE_KEY_NONE;
}

/* Returns the key of the sequence after ESC [ or ESC O, including its final byte. */
static LineKey line_sequence_key(const char *sequence)
{
    static const struct {
        const char *sequence;
        LineKey key;
    } keys[] = {
        {"A", LINE_KEY_UP},           {"B", LINE_KEY_DOWN},          {"C", LINE_KEY_RIGHT},
        {"D", LINE_KEY_LEFT},         {"H", LINE_KEY_HOME},          {"F", LINE_KEY_END},
        {"1~", LINE_KEY_HOME},        {"7~", LINE_KEY_HOME},         {"4~", LINE_KEY_END},
        {"8~", LINE_KEY_END},         {"3~", LINE_KEY_DELETE},       {"1;5C", LINE_KEY_WORD_RIGHT},
        {"1;5D", LINE_KEY_WORD_LEFT}, {"1;3C", LINE_KEY_WORD_RIGHT}, {"1;3D", LINE_KEY_WORD_LEFT},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (strcmp(keys[i].sequence, sequence) == 0) {
            return keys[i].key;
        }
    }
    return LINE_KEY_NONE;
}

/* Decodes a byte of an escape sequence. */
static LineKey line_keys_escape(LineKeys *k, uint8_t byte)
{
    if (k->state == LINE_KEYS_ESCAPE) {
        k->escape_length = 0;
        k->state = byte == '[' ? LINE_KEYS_CSI : byte == 'O' ? LINE_KEYS_SS3 : LINE_KEYS_PLAIN;
        return byte == 'b' ? LINE_KEY_WORD_LEFT : byte == 'f' ? LINE_KEY_WORD_RIGHT : LINE_KEY_NONE;
    }
    if (k->escape_length < LINE_ESCAPE_MAX) {
        k->escape[k->escape_length++] = (char)byte;
    }
    if (k->state == LINE_KEYS_CSI && byte < 0x40) {
        return LINE_KEY_NONE;
    }
    k->state = LINE_KEYS_PLAIN;
    k->escape[k->escape_length] = '\0';
    return line_sequence_key(k->escape);
}

/* Decodes a byte above 0x7f. Keeps the bytes of an incomplete character. */
static LineKey line_keys_utf8(LineKeys *k, uint8_t byte, LineText *text)
{
    if ((byte & 0xc0) != 0x80) {
        k->utf8_length = 0;
        k->utf8_wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    } else if (k->utf8_length == 0) {
        return LINE_KEY_NONE;
    }
    k->utf8[k->utf8_length++] = (char)byte;
    if (k->utf8_length < k->utf8_wanted) {
        return LINE_KEY_NONE;
    }
    k->utf8_length = 0;
    /* Unprintable characters control the terminal (C1 controls) or mislead the reader. */
    if (!g_utf8_validate(k->utf8, (gssize)k->utf8_wanted, NULL) ||
        !g_unichar_isprint(g_utf8_get_char(k->utf8))) {
        return LINE_KEY_NONE;
    }
    memcpy(text->bytes, k->utf8, k->utf8_wanted);
    text->size = k->utf8_wanted;
    return LINE_KEY_TEXT;
}

LineKey line_keys_feed(LineKeys *k, uint8_t byte, LineText *text)
{
    bool after_cr = k->after_cr;
    k->after_cr = byte == '\r';
    if (byte == '\n' && after_cr) {
        return LINE_KEY_NONE;
    }
    if (byte == 0x1b) {
        k->state = LINE_KEYS_ESCAPE;
        k->utf8_length = 0;
        return LINE_KEY_NONE;
    }
    if (k->state != LINE_KEYS_PLAIN && byte >= 0x20) {
        return line_keys_escape(k, byte);
    }
    if (byte >= 0x80) {
        return line_keys_utf8(k, byte, text);
    }
    k->state = LINE_KEYS_PLAIN;
    k->utf8_length = 0;
    LineKey key = line_control_key(byte);
    if (key == LINE_KEY_NONE && byte >= 0x20) {
        *text = (LineText){.bytes = {(char)byte}, .size = 1};
        return LINE_KEY_TEXT;
    }
    return key;
}
