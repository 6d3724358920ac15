/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/state_seal.h"

#include <string.h>
#include "util/state/crc32c.h"
#include "util/state/state_stream.h"

#define SEAL_FRAME 12u

static guint32 seal_get(const GByteArray *stream, guint at)
{
    guint32 value;
    memcpy(&value, stream->data + at, 4);
    return GUINT32_FROM_LE(value);
}

static void seal_put(GByteArray *stream, guint at, guint32 value)
{
    value = GUINT32_TO_LE(value);
    memcpy(stream->data + at, &value, 4);
}

gboolean state_seal_find(const GByteArray *stream, unsigned index, StateSpan *span)
{
    guint at = STATE_STREAM_PREFIX;
    for (unsigned i = 0; at + SEAL_FRAME <= stream->len; i++) {
        guint32 length = seal_get(stream, at + 4);
        if (length > stream->len - at - SEAL_FRAME) {
            return FALSE;
        }
        if (i == index) {
            *span = (StateSpan){at, length + SEAL_FRAME};
            return TRUE;
        }
        at += length + SEAL_FRAME;
    }
    return FALSE;
}

void state_seal_resize(GByteArray *stream, unsigned index, guint32 size)
{
    guint at = STATE_STREAM_PREFIX;
    for (unsigned i = 0; i < index; i++) {
        at += seal_get(stream, at + 4) + SEAL_FRAME;
    }
    seal_put(stream, at + 4, size);
}

void state_seal(GByteArray *stream)
{
    StateSpan span;
    if (stream->len < STATE_STREAM_PREFIX) {
        return;
    }
    seal_put(stream, 16, stream->len);
    seal_put(stream, 20, 0);
    seal_put(stream, 28, crc32c(0, stream->data, 28));
    for (unsigned i = 0; state_seal_find(stream, i, &span); i++) {
        guint at = span.at + span.size - 4;
        seal_put(stream, at, crc32c(0, stream->data + span.at, span.size - 4));
    }
}
