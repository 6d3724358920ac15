/* SPDX-License-Identifier: Apache-2.0 */
#include "guest-images/agent/agent.h"

/* The compiler may call these even in freestanding code. */
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);

void *memcpy(void *to, const void *from, size_t size)
{
    return memmove(to, from, size);
}

void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t <= f) {
        for (size_t i = 0; i < size; i++) {
            t[i] = f[i];
        }
    } else {
        while (size-- > 0) {
            t[size] = f[size];
        }
    }
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    uint8_t *t = to;
    while (size-- > 0) {
        *t++ = (uint8_t)byte;
    }
    return to;
}

size_t text_length(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

bool text_equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static void text_print(const char *text)
{
    sys_write(2, text, text_length(text));
}

_Noreturn void agent_fail(int status, const char *a, const char *b)
{
    text_print("skiff-agent: ");
    text_print(a);
    text_print(b);
    text_print("\n");
    sys_exit(status);
}
