/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/rounds.h"
#include <glib.h>
#include <stdlib.h>

unsigned test_rounds(unsigned lab, unsigned check, unsigned long_)
{
    const char *where = g_getenv("TEST_ROUNDS");
    if (!where || g_str_equal(where, "check")) {
        return check;
    }
    if (g_str_equal(where, "long")) {
        return long_;
    }
    g_assert_cmpstr(where, ==, "lab");
    return lab;
}

TestSeeds test_seeds(unsigned rounds)
{
    const char *only = g_getenv("SKIFF_TEST_SEED");
    unsigned first = only != NULL ? (unsigned)strtoul(only, NULL, 10) : 1;
    return (TestSeeds){.first = first, .end = first + (only != NULL ? 1 : rounds)};
}
