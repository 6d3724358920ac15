/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/exit.h"
#include "lib/console.h"
#include "lib/cpu.h"

#define DEBUG_EXIT_PORT 0xf4

void guest_exit(uint32_t value)
{
    cpu_out32(DEBUG_EXIT_PORT, value);
    cpu_halt();
}

static _Noreturn void end_with(uint32_t value, const char *word, const char *format, va_list args)
{
    console_lock();
    console_puts_locked("guest: ");
    console_puts_locked(word);
    console_puts_locked(": ");
    console_vprintf_locked(format, args);
    console_puts_locked("\n");
    console_unlock();
    guest_exit(value);
}

void guest_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    end_with(EXIT_FAIL, "FAIL", format, args);
}

void guest_refuse(uint32_t value, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    end_with(value, value == EXIT_MISSING ? "MISSING" : "REFUSED", format, args);
}
