/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/backends/backends.h"

static void backends_free_monitor(void *opaque)
{
    MonitorRequest *m = opaque;
    g_free(m->chardev);
    g_free(m);
}

void backends_init(Backends *b, const VmConfig *config)
{
    *b = (Backends){.config = config};
    b->iothreads = g_ptr_array_new();
    b->memory_backends = g_ptr_array_new();
    b->rngs = g_ptr_array_new_with_free_func(g_free);
    b->throttle_groups = g_ptr_array_new();
    b->serials = g_ptr_array_new_with_free_func(g_free);
    b->monitors = g_ptr_array_new_with_free_func(backends_free_monitor);
}

void backends_add_human_monitor(Backends *b, char *id_taken, const char *option)
{
    MonitorRequest *m = g_new0(MonitorRequest, 1);
    *m = (MonitorRequest){.chardev = id_taken, .option = option};
    g_ptr_array_add(b->monitors, m);
}
