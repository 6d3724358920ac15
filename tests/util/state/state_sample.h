/* SPDX-License-Identifier: Apache-2.0 */
/* A small machine with a field of each type, for tests of state streams. */
#ifndef SKIFF_TESTS_UTIL_STATE_STATE_SAMPLE_H
#define SKIFF_TESTS_UTIL_STATE_STATE_SAMPLE_H

#include "util/state/state_stream.h"

typedef struct SampleTimer {
    uint64_t deadline;
    bool armed;
    uint8_t pad[7];
} SampleTimer;

typedef struct SampleChip {
    uint8_t mode;
    bool on;
    uint16_t divisor;
    uint32_t used;
    uint64_t regs[2];
    uint16_t queue[4];
    uint8_t name[4];
    uint32_t timers_used;
    SampleTimer timers[3];
    uint8_t pad[4];
} SampleChip;

typedef struct SampleExtra {
    uint32_t level;
} SampleExtra;

static const StateField sample_timer_fields[] = {
    STATE_FIELD(SampleTimer, STATE_U64, deadline),
    STATE_FIELD(SampleTimer, STATE_BOOL, armed),
    STATE_PADDING(SampleTimer, pad),
    {0},
};
static const StateDesc sample_timer_desc = {.name = "timer",
                                            .version = 1,
                                            .min_version = 1,
                                            .struct_size = sizeof(SampleTimer),
                                            .fields = sample_timer_fields};
static const StateField sample_chip_fields[] = {
    STATE_FIELD_MAX(SampleChip, STATE_U8, mode, 5),
    STATE_FIELD(SampleChip, STATE_BOOL, on),
    STATE_FIELD_SINCE(SampleChip, STATE_U16, divisor, 2),
    STATE_FIELD_MAX(SampleChip, STATE_U32, used, 4),
    STATE_ARRAY(SampleChip, STATE_U64, regs),
    STATE_VAR_ARRAY(SampleChip, STATE_U16, queue, used),
    STATE_ARRAY(SampleChip, STATE_BYTES, name),
    STATE_FIELD_MAX(SampleChip, STATE_U32, timers_used, 3),
    STATE_VAR_STRUCTS(SampleChip, timers, timers_used, &sample_timer_desc),
    STATE_PADDING(SampleChip, pad),
    {0},
};
static const StateDesc sample_chip_desc = {.name = "chip",
                                           .version = 2,
                                           .min_version = 1,
                                           .struct_size = sizeof(SampleChip),
                                           .fields = sample_chip_fields};
static const StateField sample_extra_fields[] = {STATE_FIELD(SampleExtra, STATE_U32, level), {0}};
static const StateDesc sample_extra_desc = {.name = "chip/extra",
                                            .version = 1,
                                            .min_version = 1,
                                            .struct_size = sizeof(SampleExtra),
                                            .fields = sample_extra_fields};
static const StateDesc sample_hint_desc = {.name = "hint",
                                           .version = 1,
                                           .min_version = 1,
                                           .struct_size = sizeof(SampleExtra),
                                           .fields = sample_extra_fields};

static const SampleChip sample_chips[2] = {
    {.mode = 5,
     .on = true,
     .divisor = 0x1234,
     .used = 3,
     .regs = {7, UINT64_MAX},
     .queue = {1, 0xffff, 3},
     .name = {'a', 0, 0xff, 'b'},
     .timers_used = 2,
     .timers = {{.deadline = 99, .armed = true}, {.deadline = 1000}}},
    {.mode = 0, .used = 0, .regs = {1, 2}},
};
static const SampleExtra sample_extra = {.level = 0xdeadbeef};

/* The records: HEAD, chip of /a, chip/extra of /a, chip of /b, hint of /b, END. */
#define SAMPLE_RECORDS 6u

/* A whole stream; the caller owns it. */
static inline GByteArray *sample_stream(void)
{
    g_autoptr(StateWriter) w = state_writer_new();
    g_assert(state_writer_text(w, "machine", "sample", NULL));
    g_assert(state_writer_text(w, "configuration", "{\"memory\": 1}", NULL));
    g_assert(state_writer_section(w, "/a", &sample_chip_desc, &sample_chips[0], 0, NULL));
    g_assert(state_writer_section(w, "/a", &sample_extra_desc, &sample_extra, 0, NULL));
    g_assert(state_writer_section(w, "/b", &sample_chip_desc, &sample_chips[1], 0, NULL));
    g_assert(state_writer_section(w, "/b", &sample_hint_desc, &sample_extra,
                                  STATE_SECTION_IGNORABLE, NULL));
    GByteArray *out = state_writer_end(w, NULL);
    g_assert(out != NULL);
    return out;
}

#endif
