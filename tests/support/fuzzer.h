/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by fuzzers: random numbers from a seed, and an end by time or by steps.
 *
 *     fuzz_begin("fuzz_foo", argc, argv);     // --seed N, --seconds N (default 10), --steps N, --only NAME
 *     while (fuzz_goes_on()) {
 *         foo_step();
 *     }
 *     fuzz_end("steps");
 *
 * The seed is printed first, so that a crash can be reproduced.
 */
#ifndef SKIFF_TESTS_SUPPORT_FUZZER_H
#define SKIFF_TESTS_SUPPORT_FUZZER_H

#include <stdbool.h>
#include <stdint.h>

void fuzz_begin(const char *name, int argc, char **argv);
/* Counts a step. False: the time is up, or all steps are done. */
bool fuzz_goes_on(void);
/* Of a fuzzer with several targets: whether --only leaves out @target. */
bool fuzz_leaves_out(const char *target);
/* Prints the number of @units done, and the processor time of the process. */
void fuzz_end(const char *units);

/* 64 random bits. */
uint64_t fuzz_random(void);
/* 0 .. @limit-1; @limit is at least 1. */
uint64_t fuzz_below(uint64_t limit);
/* An element of the array @list. */
#define FUZZ_PICK(list) (list)[fuzz_below(sizeof(list) / sizeof((list)[0]))]
/* Aborts with @what and the @input that shows it (NULL: none) unless @condition holds. */
void fuzz_require(bool condition, const char *what, const char *input);

#endif
