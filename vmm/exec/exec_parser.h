/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the agent's frames from a stream that a hostile guest writes. Holds one frame at most;
 * every frame it returns has a known type and that type's size and content.
 */
#ifndef SKIFF_VMM_EXEC_EXEC_PARSER_H
#define SKIFF_VMM_EXEC_EXEC_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include "util/loop/thread.h"
#include "util/exec_protocol.h"

typedef struct ExecParser {
    uint8_t bytes[EXEC_HEADER_BYTES + EXEC_DATA_MAX];
    size_t have;
} ExecParser;

typedef struct ExecFrame {
    enum ExecFrameType type;
    const uint8_t *data; /* EXEC_STDOUT, _STDERR: borrowed until the next call */
    size_t size;
    uint16_t version, flags; /* EXEC_HELLO */
    uint32_t window;         /* EXEC_STDIN_WINDOW */
    uint8_t how, number;     /* EXEC_EXIT */
} ExecFrame;

typedef enum ExecParse {
    EXEC_PARSE_MORE,  /* all was taken, no frame is complete */
    EXEC_PARSE_FRAME, /* *@frame is complete; pass the remaining bytes to the next call */
    EXEC_PARSE_BAD,   /* invalid: *@why describes it; only exec_parser_reset() recovers */
} ExecParse;

void exec_parser_reset(ExecParser *p) ANY_THREAD;
/* Takes bytes of @data up to the end of a frame; *@used is their number. */
ExecParse exec_parser_feed(ExecParser *p, const uint8_t *data, size_t size, size_t *used,
                           ExecFrame *frame, const char **why) ANY_THREAD;

#endif
