/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NICs of the VM: changes of their receive filters, and rounds of announcements (announce-self), each of
 * which is a coroutine in main.
 */
#include <string.h>
#include "hw/net/net.h"
#include "vmm/vm/vm.h"

/* Rounds of announcements that are under way; a client may begin as many with different ids. */
#define VM_ANNOUNCERS_MAX 16u

typedef struct VmAnnouncer {
    Vm *vm;
    char *id; /* or NULL */
    VmAnnounceParameters p;
    bool replaced; /* another one with the same id has begun */
    bool asleep;   /* waits in `wake` for its next round */
    CoQueue wake;
    struct VmAnnouncer *next;
} VmAnnouncer;

static VmAnnouncer *vm_announcers;

static void vm_filter_changed(NetClient *c, void *opaque)
{
    enter_main();
    Vm *vm = opaque;
    const Device *dev = c->owner;
    if (dev->path != NULL) { /* not before it is plugged */
        g_autofree char *path = machine_device_backend_path(dev);
        VM_ANNOUNCE(vm, rx_filter_changed, dev->id, path);
    }
}

void vm_network_init(Vm *vm)
{
    net_set_filter_hook(vm_filter_changed, vm);
}

/* ---- announcements ---- */

static bool vm_announcer_names(const VmAnnouncer *a, const char *name)
{
    return a->p.interfaces == NULL ||
           g_ptr_array_find_with_equal_func(a->p.interfaces, name, g_str_equal, NULL);
}

static void vm_collect_client(NetClient *c, void *opaque)
{
    g_ptr_array_add(opaque, c);
}

/* One round, under the operation lock: no NIC comes or goes. */
static coroutine_fn RUNS_IN_MAIN void vm_announce_round(const VmAnnouncer *a)
{
    g_autoptr(GPtrArray) clients = g_ptr_array_new();
    vm_operation_begin(&a->vm->run);
    net_foreach_client(vm_collect_client, clients);
    for (unsigned i = 0; i < clients->len; i++) {
        NetClient *c = clients->pdata[i];
        if (vm_announcer_names(a, c->name)) {
            net_client_co_announce(c);
        }
    }
    vm_operation_end(&a->vm->run);
}

static void vm_announcer_free(VmAnnouncer *a)
{
    g_clear_pointer(&a->p.interfaces, g_ptr_array_unref);
    g_free(a->id);
    g_free(a);
}

static void vm_announcer_run(void *opaque)
{
    VmAnnouncer *a = opaque;
    enter_main();
    enter_coroutine();
    int64_t delay_ms = a->p.initial_ms;
    for (unsigned round = 0; round < a->p.rounds && !a->replaced; round++) {
        if (round > 0) {
            a->asleep = true;
            co_queue_wait_until(&a->wake, "the next announcement",
                                aio_now_ns(a->vm->ctx) + delay_ms * 1000000);
            a->asleep = false;
            delay_ms = MIN(delay_ms + a->p.step_ms, a->p.max_ms);
        }
        if (!a->replaced) {
            vm_announce_round(a);
        }
    }
    VmAnnouncer **at = &vm_announcers;
    while (*at != a) {
        at = &(*at)->next;
    }
    *at = a->next;
    vm_announcer_free(a);
}

bool vm_announce_self(Vm *vm, const char *id, VmAnnounceParameters *p, GError **error)
{
    unsigned count = 0;
    for (VmAnnouncer *a = vm_announcers; a != NULL; a = a->next) {
        a->replaced = a->replaced || g_strcmp0(a->id, id) == 0;
        bool ends = a->replaced && a->asleep;
        if (ends) {
            co_queue_wake_all(&a->wake);
        }
        count += !ends;
    }
    if (count >= VM_ANNOUNCERS_MAX) {
        g_clear_pointer(&p->interfaces, g_ptr_array_unref);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%u announcements are under way already",
                    count);
        return false;
    }
    VmAnnouncer *a = g_new0(VmAnnouncer, 1);
    *a = (VmAnnouncer){.vm = vm, .id = g_strdup(id), .p = *p, .next = vm_announcers};
    co_queue_init(&a->wake);
    vm_announcers = a;
    co_start(vm->ctx, vm_announcer_run, a);
    return true;
}
