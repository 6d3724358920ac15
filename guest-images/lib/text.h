/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, memory blocks, formatting and numbers; no state. */
#ifndef LIB_TEXT_H
#define LIB_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *dest, const void *src, size_t size);
void *memmove(void *dest, const void *src, size_t size);
void *memset(void *dest, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);

typedef void TextPut(void *opaque, char c);

/* printf's formatting; lib/console.h lists the conversions. */
void text_format(TextPut *put, void *opaque, const char *format, va_list args);

/* Decimal or 0x hexadecimal, with an optional k, M or G; all of @size characters must belong. */
bool text_parse_number(const char *text, size_t size, uint64_t *value);

#endif
