/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Editing of one line on a terminal: cursor keys, history, completion. In main.
 *
 * It takes bytes and writes bytes, and knows of the terminal only that it understands ^H and the
 * ECMA-48 sequences for "erase to the end of the line" and "cursor back". Those are written only
 * where something is edited, so that on a pipe what was typed is echoed as it is. Text is UTF-8;
 * what is not, and control bytes without a meaning, are dropped.
 *
 *   Enter, ^J, ^M       the line is done (^J behind ^M is part of it)
 *   Left ^B, Right ^F   a character back, forth; Alt-b, Alt-f a word
 *   Home ^A, End ^E     to the line's begin, end
 *   ^H Backspace, ^D Delete     erase the character before, at the cursor
 *   ^W, ^U, ^K          erase the word before, all before, all from the cursor on
 *   Up ^P, Down ^N      history
 *   ^L                  clear the screen; ^C drops the line
 *   Tab                 completion; twice lists what there is
 */
#ifndef SKIFF_VMM_MONITOR_HMP_LINE_EDITOR_H
#define SKIFF_VMM_MONITOR_HMP_LINE_EDITOR_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef struct LineEditor LineEditor;

typedef struct LineEditorOps {
    /* Output; a newline is "\n". */
    void (*write)(void *opaque, const char *text, size_t size);
    /* A line is done: UTF-8 without its end. NULL: it was longer than may be. The next prompt is
     * the callee's to ask for, then or later. */
    void (*line)(void *opaque, const char *line);
    /* Adds (g_strdup) to @words what the last word of @text could become; returns where in @text
     * that word begins. */
    size_t (*complete)(void *opaque, const char *text, GPtrArray *words);
} LineEditorOps;

/* @prompt and @ops are borrowed. Lines have at most @max bytes. */
LineEditor *line_editor_new(const char *prompt, size_t max, const LineEditorOps *ops, void *opaque)
    RUNS_IN_MAIN;
void line_editor_free(LineEditor *e) RUNS_IN_MAIN;
void line_editor_type(LineEditor *e, uint8_t byte) RUNS_IN_MAIN;
/* Writes the prompt, and what is typed so far behind it. */
void line_editor_show(LineEditor *e) RUNS_IN_MAIN;
/* Somebody else is at the terminal: what was typed so far is forgotten. */
void line_editor_reset(LineEditor *e) RUNS_IN_MAIN;

#endif
