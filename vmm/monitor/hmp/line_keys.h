/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a terminal as keys and text. Garbage becomes nothing: a sequence that is unknown is
 * swallowed up to its end, text that is no UTF-8 or not printable is dropped.
 *
 *   PLAIN --ESC--> ESCAPE --[--> CSI --parameters, final byte--> PLAIN
 *                         --O--> SS3 --one byte--> PLAIN
 *                         --else--> PLAIN
 *   A control byte ends any of them.
 */
#ifndef SKIFF_VMM_MONITOR_HMP_LINE_KEYS_H
#define SKIFF_VMM_MONITOR_HMP_LINE_KEYS_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

#define LINE_ESCAPE_MAX 8 /* bytes of a sequence that are looked at */

typedef enum LineKey {
    LINE_KEY_NONE,
    LINE_KEY_TEXT,
    LINE_KEY_LEFT,
    LINE_KEY_RIGHT,
    LINE_KEY_WORD_LEFT,
    LINE_KEY_WORD_RIGHT,
    LINE_KEY_HOME,
    LINE_KEY_END,
    LINE_KEY_UP,
    LINE_KEY_DOWN,
    LINE_KEY_BACKSPACE,
    LINE_KEY_DELETE,
    LINE_KEY_ERASE_WORD,
    LINE_KEY_ERASE_BEFORE,
    LINE_KEY_ERASE_AFTER,
    LINE_KEY_COMPLETE,
    LINE_KEY_CLEAR,
    LINE_KEY_DROP,
    LINE_KEY_ENTER,
} LineKey;

typedef enum LineKeysState {
    LINE_KEYS_PLAIN,
    LINE_KEYS_ESCAPE,
    LINE_KEYS_CSI,
    LINE_KEYS_SS3,
} LineKeysState;

/* Zero-initialized. */
typedef struct LineKeys {
    LineKeysState state;
    bool after_cr;
    char escape[LINE_ESCAPE_MAX + 1];
    unsigned escape_length;
    char utf8[4]; /* a character of which more bytes are to come */
    unsigned utf8_length, utf8_wanted;
} LineKeys;

/* One character. */
typedef struct LineText {
    char bytes[4];
    unsigned size;
} LineText;

/* What @byte completes: a key, LINE_KEY_TEXT and *@text, or nothing yet. */
LineKey line_keys_feed(LineKeys *k, uint8_t byte, LineText *text) ANY_THREAD;

#endif
