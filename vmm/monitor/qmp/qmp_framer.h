/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts a client's bytes into top-level JSON values for the parser. Values may span lines and follow
 * each other on one line. At most QMP_VALUE_MAX bytes of the input are kept.
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
 *   2. Text is kept only for a value of at most QMP_VALUE_MAX bytes. A longer value is reported as
 *      an error at once and then skipped to its end (`skipping`).
 *   3. A byte that is invalid everywhere in JSON is an error in each state and leads to BETWEEN:
 *      control bytes other than \t \r \n, in a string those too, 0xfe and 0xff. A client that is
 *      out of step resynchronizes by it (qmp-spec, "Forcing the JSON parser into known-good
 *      state").
 *   4. A closing bracket that does not match is an error and leads to RECOVERING.
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
    uint8_t quote; /* STRING, ESCAPE: the closing quote, " or ' */
    unsigned depth;
    uint64_t arrays; /* bit i: level i is an array, else an object */
    bool skipping;
    GString *text; /* of the unfinished value, or of the value just returned */
} QmpFramer;

typedef enum QmpFrame {
    QMP_FRAME_NONE,  /* all bytes are used; no value has ended */
    QMP_FRAME_VALUE, /* `text` is a value; valid until the next call */
    QMP_FRAME_ERROR, /* the input is invalid; *@error is the reason */
} QmpFrame;

void qmp_framer_init(QmpFramer *f) ANY_THREAD;
void qmp_framer_clear(QmpFramer *f) ANY_THREAD;
/* Consumes @data up to the end of a value or an error. Sets *@used to the bytes consumed. */
QmpFrame qmp_framer_feed(QmpFramer *f, const uint8_t *data, size_t size, size_t *used,
                         const char **error) ANY_THREAD;
/* Whether the input so far ends inside a value. */
bool qmp_framer_inside(const QmpFramer *f) ANY_THREAD;

#endif
