/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/state_load.h"

#include "migration/state_file.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/state_open.h"

typedef struct StateLoad {
    const GuestRam *ram;
    BlockBackend *blk;
    GByteArray *stream;
    bool ok;
    GError *error;
} StateLoad;

static void state_load_stream_at_home(void *opaque)
{
    StateLoad *l = opaque;
    enter_coroutine();
    enter_iothread(blk_home(l->blk));
    l->stream = state_file_co_read_stream(l->blk, &l->error);
}

static void state_load_ram_at_home(void *opaque)
{
    StateLoad *l = opaque;
    enter_coroutine();
    enter_iothread(blk_home(l->blk));
    l->ok = ram_image_co_load(l->blk, STATE_FILE_RAM_OFFSET, l->ram, &l->error);
}

static coroutine_fn RUNS_IN_MAIN bool state_load_from(Vm *vm, StateLoad *l, const VmStopped *token,
                                                      GError **error)
{
    co_call_in(blk_home(l->blk), state_load_stream_at_home, l);
    if (l->stream == NULL) {
        g_propagate_error(error, l->error);
        return false;
    }
    g_autoptr(MachineStateLoad) load = machine_state_stage(vm, l->stream, error);
    if (load == NULL) {
        return false;
    }
    co_call_in(blk_home(l->blk), state_load_ram_at_home, l);
    if (!l->ok) {
        g_propagate_error(error, l->error);
        return false;
    }
    if (!machine_state_co_apply(vm, load, token, error)) {
        return false;
    }
    vm->run.run_requested = vm->run.run_requested && machine_state_ran(load);
    return true;
}

bool state_load_co(Vm *vm, const char *path, GError **error)
{
    GError *failure = NULL;
    StateLoad l = {.ram = &vm->machine.ram};
    BlockNode *node = state_co_open(path, backends_default_home(&vm->backends), false, &failure);
    if (node != NULL) {
        l.blk = blk_co_new_for("the load of a machine's state", NULL, node, false, &failure);
    }
    bool ok = false;
    if (l.blk != NULL) {
        VmStopped *token = co_vm_stop(&vm->run, STOP_PAUSED);
        ok = state_load_from(vm, &l, token, &failure);
        vm_stopped_put(&vm->run, token);
        blk_co_free(l.blk);
    }
    if (node != NULL) {
        block_co_unref(node);
    }
    g_clear_pointer(&l.stream, g_byte_array_unref);
    if (!ok) {
        g_propagate_prefixed_error(error, failure, "the state in '%s': ", path);
    }
    return ok;
}
