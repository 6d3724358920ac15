/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of the VM: iothreads and memory backends, by -object, object-add and object-del. */
#include <string.h>
#include "block/block.h"
#include "vmm/vm/vm.h"

/* ---- finding ---- */

IoThread *vm_find_iothread(Vm *vm, const char *id)
{
    for (unsigned i = 0; i < vm->iothreads->len; i++) {
        IoThread *t = vm->iothreads->pdata[i];
        if (strcmp(iothread_id(t), id) == 0) {
            return t;
        }
    }
    return NULL;
}

MemoryBackend *vm_find_memory(Vm *vm, const char *id)
{
    for (unsigned i = 0; i < vm->memory_backends->len; i++) {
        MemoryBackend *m = vm->memory_backends->pdata[i];
        if (strcmp(m->id, id) == 0) {
            return m;
        }
    }
    return NULL;
}

/* ---- adding ---- */

/* Objects of all kinds share their names. */
static RUNS_IN_MAIN bool vm_check_object_id(Vm *vm, const char *id, const char *type,
                                            GError **error)
{
    if (!opt_id_check(id, error)) {
        g_prefix_error(error, "-object %s: ", type);
        return false;
    }
    if (vm_find_iothread(vm, id) == NULL && vm_find_memory(vm, id) == NULL) {
        return true;
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                "-object %s: the id '%s' is taken; choose another", type, id);
    return false;
}

static void vm_nothing(void *opaque)
{
}

static int vm_join_in_worker(void *opaque)
{
    enter_worker();
    iothread_free(opaque);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN bool vm_co_add_iothread(Vm *vm, const OptDict *opts,
                                                         GError **error)
{
    typedef struct {
        char *type, *id;
        uint64_t poll_max_ns;
    } IothreadOptions;
    static const OptSpec specs[] = {
        {.name = "qom-type", .type = OPT_STRING, .offset = offsetof(IothreadOptions, type)},
        {.name = "id",
         .type = OPT_STRING,
         .offset = offsetof(IothreadOptions, id),
         .required = true},
        {.name = "poll-max-ns",
         .type = OPT_U64,
         .offset = offsetof(IothreadOptions, poll_max_ns),
         .max = 1000000000,
         .def = "32768"},
        {0},
    };
    IothreadOptions o;
    opts_init(specs, &o);
    if (!opts_bind(specs, &o, opts, "-object iothread", error)) {
        return false;
    }
    bool ok = false;
    if (vm_check_object_id(vm, o.id, "iothread", error)) {
        IoThread *t = iothread_new(o.id, (int64_t)o.poll_max_ns, error);
        if (t != NULL) {
            co_call_in(iothread_context(t), vm_nothing, NULL);    /* it runs, and has a thread id */
            ok = vm_check_object_id(vm, o.id, "iothread", error); /* it took a while */
            if (ok) {
                g_ptr_array_add(vm->iothreads, t);
            } else {
                co_run_in_worker(vm_join_in_worker, t);
            }
        }
    }
    opts_clear(specs, &o);
    return ok;
}

typedef struct VmMemory {
    const OptDict *opts;
    MemoryBackend *made;
    GError *error;
} VmMemory;

static int vm_make_memory_in_worker(void *opaque)
{
    enter_worker();
    VmMemory *memory = opaque;
    memory->made = memory_backend_from_opts(memory->opts, &memory->error);
    return 0;
}

static int vm_free_memory_in_worker(void *opaque)
{
    enter_worker();
    memory_backend_free(opaque);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN bool vm_co_add_memory(Vm *vm, const OptDict *opts, GError **error)
{
    const char *id = opt_dict_get(opts, "id");
    if (id != NULL && !vm_check_object_id(vm, id, opt_dict_get(opts, "qom-type"), error)) {
        return false;
    }
    VmMemory memory = {.opts = opts};
    co_run_in_worker(vm_make_memory_in_worker, &memory);
    if (memory.made == NULL) {
        g_propagate_error(error, memory.error);
        return false;
    }
    if (!vm_check_object_id(vm, id, opt_dict_get(opts, "qom-type"), error)) { /* it took a while */
        co_run_in_worker(vm_free_memory_in_worker, memory.made);
        return false;
    }
    g_ptr_array_add(vm->memory_backends, memory.made);
    return true;
}

bool vm_co_add_object(Vm *vm, const OptDict *opts, GError **error)
{
    const char *type = opt_dict_get(opts, "qom-type");
    if (strcmp(type, "iothread") == 0) {
        return vm_co_add_iothread(vm, opts, error);
    }
    if (strcmp(type, "memory-backend-memfd") == 0 || strcmp(type, "memory-backend-ram") == 0) {
        return vm_co_add_memory(vm, opts, error);
    }
    static const char *const types[] = {"iothread", "memory-backend-memfd", "memory-backend-ram",
                                        NULL};
    const char *near = opt_nearest(type, types);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                "-object: skiff has no '%s'%s%s; '-object help' lists what it has", type,
                near != NULL ? "; nearest is " : "", near != NULL ? near : "");
    return false;
}

bool vm_co_make_objects(Vm *vm, GError **error)
{
    IoThread *first = iothread_new("default", 32768, error);
    if (first == NULL) {
        return false;
    }
    g_ptr_array_add(vm->iothreads, first);
    co_call_in(iothread_context(first), vm_nothing, NULL);
    for (unsigned i = 0; i < vm->config->objects->len; i++) {
        if (!vm_co_add_object(vm, vm->config->objects->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

/* ---- deleting ---- */

/* Whether @dev was told to use iothread @id: every device names it by that property. */
static bool vm_device_names_iothread(const Device *dev, const char *id)
{
    for (const OptSpec *p = dev->type->properties; p != NULL && p->name != NULL; p++) {
        if (p->type == OPT_STRING && strcmp(p->name, "iothread") == 0) {
            const char *const *value = (const void *)((const char *)dev + p->offset);
            return g_strcmp0(*value, id) == 0;
        }
    }
    return false;
}

static RUNS_IN_MAIN bool vm_iothread_in_use(Vm *vm, const IoThread *t)
{
    /* the first: what is told no other lives there */
    bool used = t == vm->iothreads->pdata[0] || block_home_in_use(iothread_context(t));
    for (unsigned i = 0; i < vm->devices->len; i++) {
        used = used || vm_device_names_iothread(vm->devices->pdata[i], iothread_id(t));
    }
    return used;
}

static bool vm_object_in_use(const char *id, GError **error)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "object '%s' is in use, can not be deleted", id);
    return false;
}

bool vm_co_del_object(Vm *vm, const char *id, GError **error)
{
    IoThread *t = vm_find_iothread(vm, id);
    MemoryBackend *m = vm_find_memory(vm, id);
    if (t != NULL) {
        if (vm_iothread_in_use(vm, t)) {
            return vm_object_in_use(id, error);
        }
        g_ptr_array_remove(vm->iothreads, t);
        co_run_in_worker(vm_join_in_worker, t);
        return true;
    }
    if (m != NULL) {
        if (m == vm->memory) {
            return vm_object_in_use(id, error);
        }
        g_ptr_array_remove(vm->memory_backends, m);
        co_run_in_worker(vm_free_memory_in_worker, m);
        return true;
    }
    g_autofree char *excerpt = opt_excerpt(id);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "object '%s' not found", excerpt);
    return false;
}
