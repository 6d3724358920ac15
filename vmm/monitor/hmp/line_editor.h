/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Editing of one line on a terminal: cursor keys, history, completion. In main.
 *
 * It takes bytes and writes bytes. The terminal needs to support only ^H and the ECMA-48 sequences
 * for "erase to the end of the line" and "cursor back". They are written only when the line is
 * edited, so a pipe gets a plain echo of its input. Text is UTF-8. Invalid UTF-8 and control bytes
 * without a meaning are dropped.
 *
 *   Enter, ^J, ^M       end the line (^J directly after ^M is part of the same end)
 *   Left ^B, Right ^F   move one character; Alt-b, Alt-f one word
 *   Home ^A, End ^E     move to the start, the end of the line
 *   ^H Backspace, ^D Delete     erase the character before, at the cursor
 *   ^W, ^U, ^K          erase the word before, all before, all after the cursor
 *   Up ^P, Down ^N      history
 *   ^L                  clears the screen; ^C drops the line
 *   Tab                 completes; pressed twice, it lists the candidates
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
    /* Delivers a complete line: UTF-8 without its line end, or NULL if it was longer than the
     * maximum. The callee shows the next prompt, then or later. */
    void (*line)(void *opaque, const char *line);
    /* Adds to @words (g_strdup) the completions of the last word of @text; returns the offset of
     * that word in @text. */
    size_t (*complete)(void *opaque, const char *text, GPtrArray *words);
} LineEditorOps;

/* @prompt and @ops are borrowed. Lines have at most @max bytes. */
LineEditor *line_editor_new(const char *prompt, size_t max, const LineEditorOps *ops, void *opaque)
    RUNS_IN_MAIN;
void line_editor_free(LineEditor *e) RUNS_IN_MAIN;
void line_editor_type(LineEditor *e, uint8_t byte) RUNS_IN_MAIN;
/* Writes the prompt and the unfinished line after it. */
void line_editor_show(LineEditor *e) RUNS_IN_MAIN;
/* Drops the unfinished line. Called when the peer changes. */
void line_editor_reset(LineEditor *e) RUNS_IN_MAIN;

#endif
