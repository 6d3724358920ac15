/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/ram_outside.h"

#include <glib.h>

static unsigned outside_count;
static RamOutsideWatch *outside_watches;

void ram_outside_begin(void)
{
    enter_main();
    outside_count++;
    for (RamOutsideWatch *w = outside_watches; w != NULL; w = w->next) {
        w->come(w->opaque);
    }
}

void ram_outside_end(void)
{
    enter_main();
    g_assert(outside_count > 0);
    outside_count--;
}

unsigned ram_outside_count(void)
{
    return outside_count;
}

void ram_outside_watch(RamOutsideWatch *w, void (*come)(void *opaque), void *opaque)
{
    *w = (RamOutsideWatch){.come = come, .opaque = opaque, .next = outside_watches};
    outside_watches = w;
}

void ram_outside_unwatch(RamOutsideWatch *w)
{
    RamOutsideWatch **at = &outside_watches;
    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
}
