/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/pattern.h"
#include "lib/console.h"
#include "lib/random.h"

#define WORDS 64
#define STEP 0xd6e8feb86659fd93ull

/* Data may be unaligned. */
typedef uint64_t UnalignedWord __attribute__((aligned(1), may_alias));

typedef struct Stream {
    uint64_t lba, tag, base;
} Stream;

static Stream make_stream(uint64_t lba, uint32_t generation, uint32_t seed)
{
    uint64_t tag = (uint64_t)generation << 32 | seed;
    return (Stream){lba, tag, random_mix(lba ^ random_mix(tag))};
}

static uint64_t stream_word(const Stream *stream, unsigned index)
{
    if (index == 0) {
        return stream->lba;
    }
    return index == 1 ? stream->tag : stream->base + index * STEP;
}

void pattern_fill(void *data, uint64_t lba, uint32_t generation, uint32_t seed)
{
    UnalignedWord *words = data;
    Stream stream = make_stream(lba, generation, seed);
    for (unsigned i = 0; i < WORDS; i++) {
        words[i] = stream_word(&stream, i);
    }
}

/* The first word that differs, or WORDS. */
static unsigned find_difference(const UnalignedWord *words, uint64_t lba, uint32_t generation,
                                uint32_t seed)
{
    Stream stream = make_stream(lba, generation, seed);
    unsigned i = 0;
    if (generation == PATTERN_ZEROES) {
        while (i < WORDS && words[i] == 0) {
            i++;
        }
        return i;
    }
    while (i < WORDS && words[i] == stream_word(&stream, i)) {
        i++;
    }
    return i;
}

bool pattern_is_right(const void *data, uint64_t lba, uint32_t generation, uint32_t seed)
{
    return generation == PATTERN_UNKNOWN || find_difference(data, lba, generation, seed) == WORDS;
}

void pattern_report(const void *data, uint64_t lba, uint32_t generation, uint32_t seed)
{
    const UnalignedWord *words = data;
    unsigned at = find_difference(words, lba, generation, seed);
    Stream stream = make_stream(lba, generation, seed);
    if (at == WORDS) {
        return;
    }
    uint64_t expected = generation == PATTERN_ZEROES ? 0 : stream_word(&stream, at);
    printf("mismatch: lba=%lu byte=%u expected=0x%016lx got=0x%016lx generation=%u\n", lba, at * 8,
           expected, words[at], generation);
    uint32_t tag_generation = (uint32_t)(words[1] >> 32);
    if (find_difference(words, words[0], tag_generation, (uint32_t)words[1]) == WORDS) {
        printf("mismatch: lba=%lu holds what was written to lba=%lu as generation=%u seed=%u\n",
               lba, words[0], tag_generation, (uint32_t)words[1]);
    } else if (find_difference(words, lba, PATTERN_ZEROES, seed) == WORDS) {
        printf("mismatch: lba=%lu holds zeroes\n", lba);
    }
}
