/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a changed state stream consistent again, so that a test gets behind its CRCs and lengths. */
#ifndef SKIFF_TESTS_SUPPORT_STATE_SEAL_H
#define SKIFF_TESTS_SUPPORT_STATE_SEAL_H

#include <glib.h>

/* A record: offset and size with its frame. */
typedef struct StateSpan {
    guint at, size;
} StateSpan;

/* Writes the prefix' length and CRC, and the CRC of each record up to the first whose length is wrong. */
void state_seal(GByteArray *stream);
/* Finds record @index (0: HEAD). False: there is none. */
gboolean state_seal_find(const GByteArray *stream, unsigned index, StateSpan *span);
/* Changes the length of record @index to fit @size bytes of body, after the caller has moved bytes. */
void state_seal_resize(GByteArray *stream, unsigned index, guint32 size);

#endif
