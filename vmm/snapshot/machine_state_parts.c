/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/machine_state_parts.h"

bool machine_state_parts_save(const Vm *vm, StateWriter *w, GError **error)
{
    for (const VmStatePart *p = vm->state_parts; p != NULL; p = p->next) {
        g_autofree void *object = g_malloc0(p->desc->struct_size);
        p->save(p, object);
        if (!state_writer_section(w, p->instance, p->desc, object, 0, error)) {
            return false;
        }
    }
    return true;
}

GPtrArray *machine_state_parts_stage(const Vm *vm, StateStream *s, GError **error)
{
    g_autoptr(GPtrArray) objects = g_ptr_array_new_with_free_func(g_free);
    for (const VmStatePart *p = vm->state_parts; p != NULL; p = p->next) {
        void *object = NULL;
        if (state_stream_find(s, p->instance, p->desc->name) != NULL) {
            object = g_malloc0(p->desc->struct_size);
        }
        g_ptr_array_add(objects, object);
        if ((object != NULL && !state_stream_load(s, p->instance, p->desc, object, false, error)) ||
            !p->check(p, object, error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&objects);
}

void machine_state_parts_apply(const Vm *vm, const GPtrArray *objects)
{
    unsigned i = 0;
    for (const VmStatePart *p = vm->state_parts; p != NULL; p = p->next) {
        p->load(p, objects->pdata[i++]);
    }
    g_assert(i == objects->len);
}
