/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking for a text in a chardev's output, whoever writes it and however it is cut: Knuth, Morris and Pratt's
 * search, which looks at each byte once.
 */
#include <string.h>
#include "hw/chardev/chardev_int.h"

struct ChardevWatch {
    size_t size, matched; /* matched: bytes at the end of the output; lock */
    bool found;           /* lock */
    void (*fn)(void *opaque);
    void *opaque;
    AioBh bh;
    size_t *
        shorter; /* [n]: the longest part of the text that the first n + 1 bytes begin and end with */
    uint8_t text[];
};

static void watch_report(void *opaque)
{
    enter_main();
    ChardevWatch *w = opaque;
    w->fn(w->opaque);
}

/* How many bytes of the text match at the end of the output, after @byte. */
static size_t watch_step(const ChardevWatch *w, size_t matched, uint8_t byte)
{
    while (matched > 0 && (matched == w->size || w->text[matched] != byte)) {
        matched = w->shorter[matched - 1];
    }
    return w->text[matched] == byte ? matched + 1 : matched;
}

ChardevWatch *watch_new(AioContext *ctx, const char *text, void (*fn)(void *opaque), void *opaque)
{
    size_t size = strlen(text);
    g_assert(size > 0);
    ChardevWatch *w = g_malloc0(sizeof(*w) + size);
    w->size = size;
    w->fn = fn;
    w->opaque = opaque;
    w->shorter = g_new0(size_t, size);
    memcpy(w->text, text, size);
    aio_bh_init(&w->bh, ctx, watch_report, w);
    for (size_t i = 1; i < size; i++) {
        w->shorter[i] = watch_step(w, w->shorter[i - 1], w->text[i]);
    }
    return w;
}

void watch_free(ChardevWatch *w)
{
    if (w != NULL) {
        aio_bh_cancel(&w->bh);
        g_free(w->shorter);
        g_free(w);
    }
}

void watch_feed(ChardevWatch *w, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size && !w->found; i++) {
        w->matched = watch_step(w, w->matched, data[i]);
        if (w->matched == w->size) {
            w->found = true;
            aio_bh_schedule(&w->bh);
        }
    }
}
