/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/text.h"

void *memcpy(void *dest, const void *src, size_t size)
{
    void *ret = dest;
    __asm__ volatile("rep movsb" : "+D"(dest), "+S"(src), "+c"(size)::"memory");
    return ret;
}

void *memmove(void *dest, const void *src, size_t size)
{
    uint8_t *to = dest;
    const uint8_t *from = src;
    if (to <= from || to >= from + size) {
        return memcpy(dest, src, size);
    }
    while (size > 0) {
        size--;
        to[size] = from[size];
    }
    return dest;
}

void *memset(void *dest, int byte, size_t size)
{
    void *ret = dest;
    __asm__ volatile("rep stosb" : "+D"(dest), "+c"(size) : "a"(byte) : "memory");
    return ret;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *left = a;
    const uint8_t *right = b;
    for (size_t i = 0; i < size; i++) {
        if (left[i] != right[i]) {
            return left[i] < right[i] ? -1 : 1;
        }
    }
    return 0;
}

size_t strlen(const char *text)
{
    size_t size = 0;
    while (text[size]) {
        size++;
    }
    return size;
}

typedef struct FormatSpec {
    unsigned width;
    bool zero, left, is_long;
} FormatSpec;

static void pad(TextPut *put, void *opaque, char c, unsigned width, size_t used)
{
    for (; used < width; used++) {
        put(opaque, c);
    }
}

static void format_text(TextPut *put, void *opaque, const FormatSpec *spec, const char *text)
{
    size_t size = strlen(text);
    if (!spec->left) {
        pad(put, opaque, ' ', spec->width, size);
    }
    for (size_t i = 0; i < size; i++) {
        put(opaque, text[i]);
    }
    if (spec->left) {
        pad(put, opaque, ' ', spec->width, size);
    }
}

static void format_number(TextPut *put, void *opaque, const FormatSpec *spec, uint64_t value,
                          bool negative, unsigned base)
{
    char digits[24];
    unsigned at = sizeof(digits);
    digits[--at] = 0;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative) {
        digits[--at] = '-';
    }
    if (spec->zero && !spec->left) {
        pad(put, opaque, '0', spec->width, strlen(digits + at));
    }
    format_text(put, opaque, spec, digits + at);
}

static const char *parse_spec(const char *format, FormatSpec *spec)
{
    *spec = (FormatSpec){0};
    for (;; format++) {
        if (*format == '0') {
            spec->zero = true;
        } else if (*format == '-') {
            spec->left = true;
        } else {
            break;
        }
    }
    for (; *format >= '0' && *format <= '9'; format++) {
        spec->width = spec->width * 10 + (unsigned)(*format - '0');
    }
    for (; *format == 'l' || *format == 'z'; format++) {
        spec->is_long = true;
    }
    return format;
}

void text_format(TextPut *put, void *opaque, const char *format, va_list args)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(opaque, *format);
            continue;
        }
        FormatSpec spec;
        format = parse_spec(format + 1, &spec);
        char one[2] = {0, 0};
        switch (*format) {
        case 'd':
        case 'i': {
            int64_t value = spec.is_long ? va_arg(args, int64_t) : va_arg(args, int);
            uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
            format_number(put, opaque, &spec, magnitude, value < 0, 10);
            break;
        }
        case 'u':
        case 'x': {
            uint64_t value = spec.is_long ? va_arg(args, uint64_t) : va_arg(args, unsigned);
            format_number(put, opaque, &spec, value, false, *format == 'x' ? 16 : 10);
            break;
        }
        case 'p':
            format_number(put, opaque, &spec, (uint64_t)va_arg(args, void *), false, 16);
            break;
        case 's':
            format_text(put, opaque, &spec, va_arg(args, const char *));
            break;
        case 'c':
            one[0] = (char)va_arg(args, int);
            format_text(put, opaque, &spec, one);
            break;
        case 0:
            return;
        default:
            put(opaque, *format);
            break;
        }
    }
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return 16;
}

bool text_parse_number(const char *text, size_t size, uint64_t *value)
{
    unsigned base = 10, shift = 0;
    if (size > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
        size -= 2;
    } else if (size > 1) {
        char suffix = text[size - 1];
        shift = suffix == 'k' ? 10 : suffix == 'M' ? 20 : suffix == 'G' ? 30 : 0;
        size -= shift ? 1 : 0;
    }
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        uint64_t digit = (uint64_t)digit_value(text[i]);
        if (digit >= base || number > (UINT64_MAX - digit) / base) {
            return false;
        }
        number = number * base + digit;
    }
    if (size == 0 || (shift && number >> (64 - shift))) {
        return false;
    }
    *value = number << shift;
    return true;
}
