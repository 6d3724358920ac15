/* SPDX-License-Identifier: Apache-2.0 */
/* Tests in a process of their own: breaking a rule must abort with a message; the end of the process is part of what
 * is tested. */
#ifndef SKIFF_TESTS_SUPPORT_DEATH_H
#define SKIFF_TESTS_SUPPORT_DEATH_H

#include <stdbool.h>

/* Runs @fn(@arg) in a forked child, which must die by SIGABRT with @message on standard error. Else
 * fails the cmocka test and prints the child's output. The caller has no other threads.
 */
void assert_dies(void (*fn)(void *arg), void *arg, const char *message);
/* Runs @fn(@arg) in a forked child, which must return from it and pass its assertions; nothing is freed
 * after it. Else fails the cmocka test and prints the child's output. The caller has no other threads. */
void assert_exits(void (*fn)(void *arg), void *arg);

#endif
