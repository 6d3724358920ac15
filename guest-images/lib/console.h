/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Console on the 16550 at 0x3f8, and on debugcon at 0xe9 if there is one. Output is synchronous:
 * when printf returns, the VMM has the text. Any CPU and CPL; the text of one call stays together.
 *
 * printf supports %c %s %d %i %u %x %p %%, the lengths l, ll and z, width, 0 and -.
 */
#ifndef LIB_CONSOLE_H
#define LIB_CONSOLE_H

#include <stdarg.h>

void console_init(void);
int printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For output in several calls that stay together. The *_locked functions need the lock. */
void console_lock(void);
void console_unlock(void);
void console_puts_locked(const char *text);
void console_vprintf_locked(const char *format, va_list args);

/* For the exception report only: the failed CPU may hold the lock. */
void console_break_lock(void);

#endif
