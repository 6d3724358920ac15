/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a guest: it writes a value v to the isa-debug-exit port (0xf4), and the VMM exits with
 * status (v << 1) | 1. Without that device the CPU halts for good.
 */
#ifndef LIB_EXIT_H
#define LIB_EXIT_H

#include <stdint.h>

enum {
    EXIT_PASS = 0,      /* status 1 */
    EXIT_FAIL = 1,      /* status 3: a check did not hold */
    EXIT_EXCEPTION = 2, /* status 5: an unexpected CPU exception */
    EXIT_USAGE = 3,     /* status 7: the command line is invalid */
    EXIT_MISSING = 4,   /* status 9: a required device is missing */
    EXIT_YES = 0x10,    /* status 33: probe says yes, first.bin ran; not the status of any VMM
                         * error */
    EXIT_NO = 0x11,     /* status 35: probe says no */
};

/* From any CPU and CPL. */
_Noreturn void guest_exit(uint32_t value);

/* Prints "guest: FAIL: ..." and exits with EXIT_FAIL. */
_Noreturn void guest_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same with another value. */
_Noreturn void guest_refuse(uint32_t value, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
