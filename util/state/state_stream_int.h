/* SPDX-License-Identifier: Apache-2.0 */
/* What writer and reader of a state stream share. */
#ifndef SKIFF_UTIL_STATE_STATE_STREAM_INT_H
#define SKIFF_UTIL_STATE_STATE_STREAM_INT_H

#include "util/state/state_table.h"

#define STATE_STREAM_MAGIC "SKIFFVMS"
#define STATE_RECORD_HEAD UINT32_C(0x44414548)    /* "HEAD" */
#define STATE_RECORD_SECTION UINT32_C(0x54434553) /* "SECT" */
#define STATE_RECORD_END UINT32_C(0x20444e45)     /* "END " */
#define STATE_RECORD_FRAME 12u                    /* bytes of kind, length and CRC */

/* Whether a text of HEAD has this value: UTF-8 without control characters, of at most STATE_TEXT_MAX bytes. */
bool state_text_is_valid(const char *value, size_t size) ANY_THREAD;

#endif
