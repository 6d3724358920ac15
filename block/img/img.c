/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share. */
#include "block/img/img.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "block/node.h"

/* ---- messages and arguments ---- */

static void img_print_error(const char *format, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(format, ap);
    g_autofree char *line = opt_printable(text);
    fprintf(stderr, "skiff-img: %s\n", line);
}

void img_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    img_print_error(format, ap);
    va_end(ap);
}

int img_usage_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    img_print_error(format, ap);
    va_end(ap);
    fputs("Try 'skiff-img --help' for more information\n", stderr);
    return 1;
}

void *img_buffer_new(size_t size)
{
    void *buffer;
    if (posix_memalign(&buffer, BLOCK_MEMORY_ALIGNMENT_MAX, size) != 0) {
        g_error("out of memory: %zu bytes", size); /* as GLib does */
    }
    return buffer;
}
