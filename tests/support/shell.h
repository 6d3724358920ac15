/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SKIFF_TESTS_SUPPORT_SHELL_H
#define SKIFF_TESTS_SUPPORT_SHELL_H

#include <glib.h>
#include <stdarg.h>
#include <stdlib.h>

/* Runs a command and returns its status, as system() does. */
static inline int __attribute__((format(printf, 1, 2))) shell(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    return system(command);
}

#endif
