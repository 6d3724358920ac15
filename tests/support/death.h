/* SPDX-License-Identifier: Apache-2.0 */
/* Death tests: a rule broken on purpose must abort, and say why. */
#ifndef SKIFF_TESTS_SUPPORT_DEATH_H
#define SKIFF_TESTS_SUPPORT_DEATH_H

#include <stdbool.h>

/* Runs @fn(@arg) in a forked child that is to die by SIGABRT with @message on its standard error.
 * Fails the cmocka test otherwise, printing what the child said. The caller has no other threads.
 */
void assert_dies(void (*fn)(void *arg), void *arg, const char *message);

#endif
