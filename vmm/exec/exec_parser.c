/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/exec/exec_parser.h"
#include <glib.h>
#include <string.h>

typedef struct ExecFrameShape {
    uint16_t min, max; /* size of the payload */
} ExecFrameShape;

/* The frames of an agent; all others are invalid. */
static const ExecFrameShape exec_shapes[] = {
    [EXEC_HELLO] = {12, 12},
    [EXEC_STDOUT] = {1, EXEC_DATA_MAX},
    [EXEC_STDERR] = {1, EXEC_DATA_MAX},
    [EXEC_STDIN_WINDOW] = {4, 4},
    [EXEC_EXIT] = {4, 4},
};

void exec_parser_reset(ExecParser *p)
{
    p->have = 0;
}

static unsigned exec_get_u16(const uint8_t *at)
{
    return at[0] | (unsigned)at[1] << 8;
}

static uint32_t exec_get_u32(const uint8_t *at)
{
    return exec_get_u16(at) | (uint32_t)exec_get_u16(at + 2) << 16;
}

/* Checks the first EXEC_HEADER_BYTES: NULL, or the fault. */
static const char *exec_check_header(const uint8_t *header)
{
    unsigned type = header[0], size = exec_get_u16(header + 2);

    if (type >= G_N_ELEMENTS(exec_shapes) || exec_shapes[type].max == 0 || header[1] != 0) {
        return "a frame of unknown type";
    }
    if (size < exec_shapes[type].min || size > exec_shapes[type].max) {
        return "a frame of a wrong size";
    }
    return NULL;
}

/* Checks and decodes the payload: NULL, or the fault. */
static const char *exec_decode(const ExecParser *p, ExecFrame *frame)
{
    const uint8_t *payload = p->bytes + EXEC_HEADER_BYTES;

    *frame = (ExecFrame){.type = p->bytes[0]};
    switch (frame->type) {
    case EXEC_HELLO:
        frame->version = (uint16_t)exec_get_u16(payload + EXEC_MAGIC_BYTES);
        frame->flags = (uint16_t)exec_get_u16(payload + EXEC_MAGIC_BYTES + 2);
        return memcmp(payload, EXEC_MAGIC, EXEC_MAGIC_BYTES) == 0 ? NULL : "a wrong greeting";
    case EXEC_STDIN_WINDOW:
        frame->window = exec_get_u32(payload);
        return NULL;
    case EXEC_EXIT:
        frame->how = payload[0];
        frame->number = payload[1];
        if (frame->how > EXEC_EXIT_SIGNAL || exec_get_u16(payload + 2) != 0 ||
            (frame->how == EXEC_EXIT_SIGNAL && (frame->number == 0 || frame->number > 127))) {
            return "an impossible exit status";
        }
        return NULL;
    default:
        frame->data = payload;
        frame->size = exec_get_u16(p->bytes + 2);
        return NULL;
    }
}

ExecParse exec_parser_feed(ExecParser *p, const uint8_t *data, size_t size, size_t *used,
                           ExecFrame *frame, const char **why)
{
    *used = 0;
    *why = NULL;
    for (;;) {
        size_t want = EXEC_HEADER_BYTES;

        if (p->have >= EXEC_HEADER_BYTES) {
            *why = exec_check_header(p->bytes);
            if (*why) {
                return EXEC_PARSE_BAD;
            }
            want += exec_get_u16(p->bytes + 2);
            if (p->have == want) {
                *why = exec_decode(p, frame);
                p->have = 0;
                return *why ? EXEC_PARSE_BAD : EXEC_PARSE_FRAME;
            }
        }
        size_t chunk = MIN(want - p->have, size - *used);
        if (chunk == 0) {
            return EXEC_PARSE_MORE;
        }
        memcpy(p->bytes + p->have, data + *used, chunk);
        p->have += chunk;
        *used += chunk;
    }
}
