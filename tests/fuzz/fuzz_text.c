/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile user and a hostile stream: option strings, JSON, chardev strings made of fitting and
 * unfitting pieces; saved device state with bytes changed, cut and repeated. What must hold:
 *   - a result or an error, never both and never neither; a message is one line of bounded length;
 *   - what was bound stays inside its range;
 *   - state that does not load leaves the object as it was; state that loads saves to the same.
 *
 *   fuzz_text [--seconds N] [--seed N] [--steps N]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/fuzzer.h"
#include "util/opts/json.h"
#include "util/opts/opts.h"
#include "util/state/state.h"
#include "hw/chardev/chardev_set.h"

static void fuzz_check_error(bool ok, const GError *error, const char *input)
{
    fuzz_require(ok == (error == NULL), "a result and an error, or neither", input);
    if (error) {
        fuzz_require(strlen(error->message) < 1000, "an endless message", input);
        fuzz_require(strcspn(error->message, "\n\r\x1b") == strlen(error->message),
                     "a message that is no line", input);
    }
}

/* ---- text ---- */

static const char *const fuzz_pieces[] = {
    "name",
    "u8",
    "size",
    "mode",
    "cache.direct",
    "file",
    "list",
    "a",
    "x-y",
    "+f",
    "-f",
    "on",
    "off",
    "none",
    "writeback",
    "0",
    "1",
    "255",
    "256",
    "-1",
    "0x10",
    "1.5G",
    "16E",
    "18446744073709551616",
    "=",
    "=",
    "=",
    ",",
    ",",
    ",,",
    ".",
    ".",
    ":",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\"",
    "\\",
    "\\u0000",
    "\\u0041",
    "null",
    "true",
    "NaN",
    "'",
    " ",
    "\n",
    "\x1b[2J",
    "\xff",
    "\xc3\xa4",
    "1e9",
    "1.",
    "stdio",
    "mon:",
    "file:",
    "unix:",
    "tcp:",
    "chardev:",
    "pty",
    "/tmp/s",
    "[::1]:5",
    "host:5",
    "server",
    "nowait",
    "wait",
    "telnet:",
    "a.a.a.a.a.a.a.a.a.a.a.a.a",
};

static char *fuzz_text(void)
{
    GString *text = g_string_new(fuzz_below(4) ? NULL : "{\"name\":");
    unsigned pieces = (unsigned)fuzz_below(fuzz_below(50) ? 24 : 3000);

    for (unsigned i = 0; i < pieces; i++) {
        g_string_append(text, FUZZ_PICK(fuzz_pieces));
    }
    if (text->len > 0 && !fuzz_below(3)) {
        text->str[fuzz_below(text->len)] = (char)(1 + fuzz_below(255));
    }
    return g_string_free(text, FALSE);
}

/* Text that parses, for depth behind the parser. */
static char *fuzz_pairs(void)
{
    static const char *const keys[] = {"name", "u8",     "size",   "mode", "cache.direct",
                                       "list", "list.0", "file.x", "other"};
    static const char *const values[] = {"",      "on",   "off", "none", "unsafe", "0",
                                         "1",     "255",  "256", "0xff", "1.5G",   "-1",
                                         "4096M", "a,,b", "1T",  "x"};
    GString *text = g_string_new("first");
    unsigned pairs = (unsigned)fuzz_below(8);

    for (unsigned i = 0; i < pairs; i++) {
        g_string_append_printf(text, ",%s=%s", FUZZ_PICK(keys), FUZZ_PICK(values));
    }
    return g_string_free(text, FALSE);
}

typedef struct FuzzTarget {
    uint64_t low;
    char *name;
    uint8_t u8;
    uint64_t size;
    int mode;
    bool direct;
    OptDict *file;
    GPtrArray *list;
    uint64_t high;
} FuzzTarget;

static const char *const fuzz_modes[] = {"none", "writeback", "unsafe", NULL};
static const OptSpec fuzz_specs[] = {
    OPT_SPEC(FuzzTarget, "name", OPT_STRING, name, .def = "n"),
    OPT_SPEC(FuzzTarget, "u8", OPT_U8, u8, .min = 1, .max = 200, .def = "1"),
    OPT_SPEC(FuzzTarget, "size", OPT_SIZE, size, .max = 1ull << 40, .default_unit = 1024),
    OPT_SPEC(FuzzTarget, "mode", OPT_ENUM, mode, .names = fuzz_modes),
    OPT_SPEC(FuzzTarget, "cache.direct", OPT_BOOL, direct),
    OPT_SPEC(FuzzTarget, "file", OPT_DICT, file),
    OPT_SPEC(FuzzTarget, "list", OPT_STRLIST, list),
    {0},
};

static void fuzz_bind(const OptDict *d, const char *text)
{
    g_autoptr(GError) error = NULL;
    FuzzTarget t = {.low = 0x1234, .high = 0x5678};
    bool ok;

    opts_init(fuzz_specs, &t);
    ok = opts_bind(fuzz_specs, &t, d, "-fuzz", &error);
    fuzz_check_error(ok, error, text);
    fuzz_require(t.u8 >= 1 && t.u8 <= 200 && t.size <= 1ull << 40 && t.mode >= 0 && t.mode <= 2,
                 "bound out of range", text);
    fuzz_require(t.low == 0x1234 && t.high == 0x5678, "wrote beside the target", text);
    fuzz_require(!ok || t.name, "a name is lost", text);
    opts_clear(fuzz_specs, &t);
}

static void fuzz_options(void)
{
    g_autofree char *text = fuzz_below(2) ? fuzz_text() : fuzz_pairs();
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = opt_dict_parse(text, fuzz_below(2) ? "name" : NULL, &error);

    fuzz_check_error(d != NULL, error, text);
    if (d) {
        g_autoptr(OptDict) copy = opt_dict_copy(d);

        fuzz_require(opt_dict_count(copy) == opt_dict_count(d), "a copy differs", text);
        fuzz_bind(copy, text);
    }
}

static void fuzz_json(void)
{
    g_autofree char *text = fuzz_text();
    size_t length = strlen(text);
    g_autofree char *exact = g_memdup2(text, length + 1);
    g_autoptr(GError) error = NULL;
    struct json_object *value = json_parse_text(exact, length, 8, &error);

    fuzz_check_error(value != NULL, error, text);
    json_object_put(value);
}

static void fuzz_chardev_string(void)
{
    g_autofree char *text = fuzz_text();
    g_autoptr(GError) error = NULL;
    ChardevString s;
    bool ok = chardev_string_parse(&s, text, "label", &error);

    fuzz_check_error(ok, error, text);
    fuzz_require(!ok || s.none || s.id, "a chardev without an id", text);
    chardev_string_clear(&s);
}

/* ---- state ---- */

typedef struct FuzzQueue {
    uint16_t index;
    bool ready;
    uint8_t pad;
} FuzzQueue;

typedef struct FuzzState {
    uint32_t control;
    uint8_t level, later;
    uint8_t fifo[6];
    FuzzQueue queues[3];
} FuzzState;

static const StateField fuzz_queue_fields[] = {
    STATE_FIELD(FuzzQueue, STATE_U16, index),
    STATE_FIELD(FuzzQueue, STATE_BOOL, ready),
    STATE_PADDING(FuzzQueue, pad),
    {0},
};
static const StateDesc fuzz_queue_desc = {.name = "queue",
                                          .version = 1,
                                          .min_version = 1,
                                          .struct_size = sizeof(FuzzQueue),
                                          .fields = fuzz_queue_fields};
static const StateField fuzz_state_fields[] = {
    STATE_FIELD(FuzzState, STATE_U32, control),
    STATE_FIELD_MAX(FuzzState, STATE_U8, level, 6),
    STATE_FIELD_SINCE(FuzzState, STATE_U8, later, 2),
    STATE_ARRAY(FuzzState, STATE_BYTES, fifo),
    STATE_STRUCTS(FuzzState, queues, &fuzz_queue_desc),
    {0},
};
static const StateDesc fuzz_state_desc = {.name = "fuzz",
                                          .version = 2,
                                          .min_version = 1,
                                          .struct_size = sizeof(FuzzState),
                                          .fields = fuzz_state_fields};

static void fuzz_state(void)
{
    static FuzzState object;
    FuzzState before = object;
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autofree uint8_t *exact = NULL;
    g_autoptr(GError) error = NULL;
    size_t used = 0;
    bool ok;

    state_save(&fuzz_state_desc, &object, stream);
    for (uint64_t changes = fuzz_below(3); changes > 0; changes--) {
        stream->data[fuzz_below(stream->len)] = (uint8_t)fuzz_below(256);
    }
    if (!fuzz_below(8)) {
        g_byte_array_set_size(stream, (guint)fuzz_below(stream->len));
    }
    exact = g_memdup2(stream->data, stream->len);
    ok = state_load(&fuzz_state_desc, &object, exact, stream->len, &used, &error);
    fuzz_check_error(ok, error, "state");
    if (!ok) {
        fuzz_require(!memcmp(&before, &object, sizeof(object)), "a failed load left traces", "");
        return;
    }
    fuzz_require(object.level <= 6 && used <= stream->len, "loaded out of range", "");
    state_save(&fuzz_state_desc, &object, again);
    /* A stream of version 1 is a byte shorter than what is written now. */
    fuzz_require(again->len != used || !memcmp(again->data, exact, used), "saves differently", "");
}

int main(int argc, char **argv)
{
    static void (*const steps_of[])(void) = {fuzz_options, fuzz_json, fuzz_chardev_string,
                                             fuzz_state};
    fuzz_begin("fuzz_text", argc, argv);
    while (fuzz_goes_on()) {
        FUZZ_PICK(steps_of)();
    }
    fuzz_end("steps");
    return 0;
}
