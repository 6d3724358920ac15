/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of watchdogs. */
#ifndef SKIFF_TESTS_HW_PLATFORM_WATCHDOG_TEST_H
#define SKIFF_TESTS_HW_PLATFORM_WATCHDOG_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "tests/support/fake_machine.h"

/* Timers are armed again in the course of @duration_ns. */
static inline void watchdog_pass(FakeMachine *m, int64_t duration_ns)
{
    for (unsigned i = 0; i < 256; i++) {
        fake_machine_advance(m, duration_ns / 256);
    }
    fake_machine_advance(m, duration_ns % 256);
}

/* Whether the watchdog has requested its action, once, since the last call. */
static inline bool watchdog_has_expired(FakeMachine *m)
{
    bool expired = m->request_count != 0;
    if (expired) {
        assert_int_equal(m->request_count, 1);
        assert_int_equal(m->requests[0].request, VM_REQUEST_WATCHDOG);
    }
    m->request_count = 0;
    return expired;
}

#endif
