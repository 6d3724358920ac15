/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SKIFF_TESTS_SUPPORT_ROUNDS_H
#define SKIFF_TESTS_SUPPORT_ROUNDS_H
/* The number of rounds of a test, by where it runs; like `rounds` of tests/guest/common.bash. */

/* test_rounds: returns the argument that TEST_ROUNDS names (set by tests/run); `check` if it is not
 * set. Aborts if TEST_ROUNDS is any other word. */
unsigned test_rounds(unsigned lab, unsigned check, unsigned long_);

typedef struct TestSeeds {
    unsigned first, end; /* end: behind the last one */
} TestSeeds;

/* The seeds of a test with that many generated rounds: from 1 on; or the one in SKIFF_TEST_SEED. */
TestSeeds test_seeds(unsigned rounds);

#endif
