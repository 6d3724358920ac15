/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decodes the bytes of a terminal into keys and text. Garbage is dropped: an unknown sequence up to
 * its end, and text that is not UTF-8 or not printable.
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

#define LINE_ESCAPE_MAX 8 /* bytes of a sequence that are decoded */

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
    char utf8[4]; /* an incomplete character */
    unsigned utf8_length, utf8_wanted;
} LineKeys;

/* One character. */
typedef struct LineText {
    char bytes[4];
    unsigned size;
} LineText;

/* Returns the key that @byte completes: LINE_KEY_TEXT with *@text set for a character,
 * LINE_KEY_NONE if nothing is complete yet. */
LineKey line_keys_feed(LineKeys *k, uint8_t byte, LineText *text) ANY_THREAD;

#endif
