/* SPDX-License-Identifier: Apache-2.0 */
/* Pseudo-random numbers; the same seed gives the same numbers. */
#ifndef LIB_RANDOM_H
#define LIB_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/* One step of the splitmix64 mixer: a good hash of @value. */
static inline uint64_t random_mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15ull;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
    return value ^ (value >> 31);
}

typedef struct Random {
    uint64_t state;
} Random;

static inline uint64_t random_next(Random *random)
{
    random->state += 0x9e3779b97f4a7c15ull;
    return random_mix(random->state);
}

/* Below @limit, which is not 0. */
static inline uint64_t random_below(Random *random, uint64_t limit)
{
    return (uint64_t)((unsigned __int128)random_next(random) * limit >> 64);
}

/* True once in @one_in times. */
static inline bool random_chance(Random *random, uint64_t one_in)
{
    return random_below(random, one_in) == 0;
}

#endif
