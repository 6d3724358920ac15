/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a JSON value ends: cuts a client's bytes into top-level values for the parser. Values may
 * span lines and follow each other on one line. Whatever is sent, no more than QMP_VALUE_MAX bytes
 * are kept of it.
 *
 *              { [                     closing bracket, depth 0
 *   BETWEEN ---------> INSIDE -------------------------------------> (value) BETWEEN
 *      |  \              | ^
 *      |   \ "         " | | " at depth > 0
 *      |    `--------> STRING <---any byte--- ESCAPE
 *      |                 | `------- \ ---------^
 *      |                 | " at depth 0: (value) BETWEEN
 *      |                 (' in place of " at both ends of a string)
 *      |
 *      | anything else: (error)          control byte, 0xfe, 0xff, { or [
 *      `---------------------> RECOVERING --------------------------------> BETWEEN
 *
 * Invariants
 *   1. `depth` is 0 in BETWEEN and RECOVERING, and at most QMP_VALUE_DEPTH.
 *   2. Text is kept only while a value is read that is not too long: a longer one is told at once
 * as an error and then skipped up to its end (`skipping`).
 *   3. A byte that can stand nowhere in JSON (control bytes but \t \r \n, and in a string those
 * too; 0xfe and 0xff) is an error wherever it comes and leads to BETWEEN: by it a client that is
 *      out of step comes back into step (qmp-spec, "Forcing the JSON parser into known-good
 *      state").
 *   4. A bracket that closes what was not opened is an error and leads to RECOVERING.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_FRAMER_H
#define SKIFF_VMM_MONITOR_QMP_QMP_FRAMER_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/loop/thread.h"

#define QMP_VALUE_MAX (1024 * 1024)
#define QMP_VALUE_DEPTH 64

typedef enum QmpFramerState {
    QMP_FRAMER_BETWEEN,
    QMP_FRAMER_INSIDE,
    QMP_FRAMER_STRING,
    QMP_FRAMER_ESCAPE,
    QMP_FRAMER_RECOVERING,
} QmpFramerState;

typedef struct QmpFramer {
    QmpFramerState state;
    uint8_t quote; /* STRING, ESCAPE: what ends the string, " or ' */
    unsigned depth;
    uint64_t arrays; /* bit i: level i is an array, else an object */
    bool skipping;
    GString *text; /* of the value that is read, or has just ended */
} QmpFramer;

typedef enum QmpFrame {
    QMP_FRAME_NONE,  /* all bytes are used; no value has ended */
    QMP_FRAME_VALUE, /* `text` is a value, until the next call */
    QMP_FRAME_ERROR, /* the input is wrong here: *@error says how */
} QmpFrame;

void qmp_framer_init(QmpFramer *f) ANY_THREAD;
void qmp_framer_clear(QmpFramer *f) ANY_THREAD;
/* Goes on with @data until something is to be told. *@used: how many bytes that took. */
QmpFrame qmp_framer_feed(QmpFramer *f, const uint8_t *data, size_t size, size_t *used,
                         const char **error) ANY_THREAD;
/* Whether a value has begun that has not ended. */
bool qmp_framer_inside(const QmpFramer *f) ANY_THREAD;

#endif
