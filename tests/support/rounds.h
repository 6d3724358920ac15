/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SKIFF_TESTS_SUPPORT_ROUNDS_H
#define SKIFF_TESTS_SUPPORT_ROUNDS_H
/* How many rounds a test takes where it runs; `rounds` of tests/guest/common.bash, for C. */

/* test_rounds: returns the argument that TEST_ROUNDS names, which tests/run sets; `check` without it.
 * Aborts when TEST_ROUNDS is another word. */
unsigned test_rounds(unsigned lab, unsigned check, unsigned long_);

#endif
