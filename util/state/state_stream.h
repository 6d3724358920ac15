/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state stream: the state of a machine as a list of named sections, one for each state table and object.
 * It describes itself: a reader without the tables prints it (state_print.h). docs/state-format.md has each
 * byte of it.
 *
 *   +--------+------+---------+---------+-----+-----+
 *   | prefix | HEAD | SECTION | SECTION | ... | END |     a record: kind, length, body, CRC-32C
 *   +--------+------+---------+---------+-----+-----+
 *
 * HEAD has texts, each with a name: what machine this is, and how it is configured. A section belongs to an
 * instance (the path of a device) and has the name of its table; both together occur once. A section named
 * "TABLE/PART" is a subsection: it follows the section TABLE of the same instance, or another subsection of
 * it, and is saved only if it is needed; a load that finds none leaves its fields as they are.
 *
 * Invariants of a decoded stream
 *   1. Each length, count and CRC has been checked, and nothing was allocated before its bytes were there.
 *   2. The values of each section fit the table that the stream describes: they add up to the section's
 *      length, and none exceeds its maximum.
 *   3. Sections are numbered in order, and END has their number: none is missing, repeated or moved.
 *   4. Memory is in proportion to the stream, which has STATE_STREAM_MAX bytes at most.
 *
 * A load takes sections by instance and name. It is complete when each section has been taken
 * (state_stream_all_taken()): what this program does not know is refused, unless the writer has marked that
 * it may be ignored.
 *
 * A stream is used by one thread at a time.
 */
#ifndef SKIFF_UTIL_STATE_STATE_STREAM_H
#define SKIFF_UTIL_STATE_STATE_STREAM_H

#include "util/state/state.h"

#define STATE_STREAM_VERSION 1u
#define STATE_STREAM_PREFIX 32u      /* bytes */
#define STATE_STREAM_MAX (64u << 20) /* bytes */
#define STATE_RECORD_MAX (4u << 20)  /* bytes of a record's body */
#define STATE_SECTION_LIMIT 65536u   /* sections */
#define STATE_TEXT_LIMIT 1024u       /* texts */
#define STATE_TEXT_MAX (1u << 20)    /* bytes of a text */
#define STATE_INSTANCE_MAX 1023u     /* bytes of an instance */
#define STATE_NAME_MAX 63u           /* bytes of the name of a table, a field or a text */

/* ---- writing ---- */
typedef struct StateWriter StateWriter;
StateWriter *state_writer_new(void) ANY_THREAD;
void state_writer_free(StateWriter *w) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StateWriter, state_writer_free)
/* Adds a text to HEAD, before the first section. @value is UTF-8 without control characters. False + error:
 * it is not, or it is too long. */
bool state_writer_text(StateWriter *w, const char *name, const char *value, GError **error)
    ANY_THREAD;
typedef enum StateSectionFlags {
    STATE_SECTION_IGNORABLE = 1, /* a reader that does not know the section may ignore it */
} StateSectionFlags;
/* Appends the state of @object. False + error: the section or the stream would be too large. */
bool state_writer_section(StateWriter *w, const char *instance, const StateDesc *desc,
                          const void *object, unsigned flags, GError **error) ANY_THREAD;
/* Ends the stream. The caller owns it; the writer only can be freed. NULL + error: it is too large. */
GByteArray *state_writer_end(StateWriter *w, GError **error) ANY_THREAD;

/* ---- reading ---- */
typedef struct StateTable StateTable; /* state_table.h */
typedef struct StateText {
    char *name, *value;
} StateText;
typedef struct StateSection {
    char *instance;
    StateTable *table; /* as the stream describes it; has the name */
    uint16_t version;
    unsigned flags;              /* StateSectionFlags */
    const uint8_t *data;         /* as state_save() writes it, in the caller's buffer */
    const uint8_t *payload;      /* in @data */
    uint32_t size, payload_size; /* bytes */
    uint32_t crc;                /* of the record */
    bool taken;
} StateSection;
typedef struct StateStream {
    GPtrArray *texts;    /* StateText, in order */
    GPtrArray *sections; /* StateSection, in order */
    GHashTable *index;   /* of the sections, by instance and name */
    uint64_t bytes;      /* of the whole stream */
} StateStream;

/* Reads how many bytes the stream has that begins with @prefix, of @available bytes. 0 + error: it is no
 * stream, is of another version, or has more bytes than STATE_STREAM_MAX. */
uint64_t state_stream_length(const uint8_t *prefix, size_t available, GError **error) ANY_THREAD;
/* Decodes and checks the stream at @data, which has to stay while the result is used. Bytes behind its end
 * are not looked at. NULL + error (STATE_ERROR): it is wrong. */
StateStream *state_stream_decode(const uint8_t *data, size_t size, GError **error) ANY_THREAD;
void state_stream_free(StateStream *s) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StateStream, state_stream_free)
/* NULL: there is no such text. */
const char *state_stream_text(const StateStream *s, const char *name) ANY_THREAD;
/* False + error (STATE_ERROR_MACHINE): the text is missing or differs. */
bool state_stream_expect(const StateStream *s, const char *name, const char *value, GError **error)
    ANY_THREAD;
/* NULL: there is no such section. */
StateSection *state_stream_find(const StateStream *s, const char *instance, const char *name)
    ANY_THREAD;
/* The name of its table. */
const char *state_section_name(const StateSection *section) ANY_THREAD;
/* Loads a section and marks it as taken. False + error: @object is as before. The table that the stream
 * describes has to be that of @desc at the section's version: a table that was changed without a new version
 * is refused, with the field. */
bool state_section_load(StateSection *section, const StateDesc *desc, void *object, GError **error)
    ANY_THREAD;
/* Finds the section of @desc and loads it. A missing one is an error, unless @optional. */
bool state_stream_load(StateStream *s, const char *instance, const StateDesc *desc, void *object,
                       bool optional, GError **error) ANY_THREAD;
/* False + error names the first section that was not taken and may not be ignored. */
bool state_stream_all_taken(const StateStream *s, GError **error) ANY_THREAD;

#endif
