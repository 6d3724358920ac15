/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fuzzer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static struct {
    const char *name, *only;
    uint64_t random; /* never 0 */
    uint64_t steps, limit;
    double end;
} fuzzer;

static double fuzz_seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void fuzz_begin(const char *name, int argc, char **argv)
{
    uint64_t seed = 1;
    double seconds = 10;
    fuzzer.name = name;
    fuzzer.limit = UINT64_MAX;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0) {
            seconds = atof(argv[i + 1]);
        } else if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "--steps") == 0) {
            fuzzer.limit = strtoull(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "--only") == 0) {
            fuzzer.only = argv[i + 1];
        }
    }
    fuzzer.random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    printf("%s: --seed %" PRIu64 "\n", name, seed);
    fflush(stdout);
    fuzzer.end = fuzz_seconds_now() + seconds;
}

bool fuzz_goes_on(void)
{
    if (fuzzer.steps == fuzzer.limit || fuzz_seconds_now() >= fuzzer.end) {
        return false;
    }
    fuzzer.steps++;
    return true;
}

bool fuzz_leaves_out(const char *target)
{
    return fuzzer.only != NULL && strcmp(fuzzer.only, target) != 0;
}

void fuzz_end(const char *units)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%s: %" PRIu64 " %s, %ld s of processor time\n", fuzzer.name, fuzzer.steps, units,
           (long)(used.ru_utime.tv_sec + used.ru_stime.tv_sec));
}

uint64_t fuzz_random(void)
{
    uint64_t x = fuzzer.random; /* xorshift64 */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return fuzzer.random = x;
}

uint64_t fuzz_below(uint64_t limit)
{
    return (fuzz_random() >> 11) % limit;
}

void fuzz_require(bool condition, const char *what, const char *input)
{
    if (!condition) {
        fprintf(stderr, "%s: %s%s%s\n", fuzzer.name, what, input != NULL ? ": " : "",
                input != NULL ? input : "");
        abort();
    }
}
