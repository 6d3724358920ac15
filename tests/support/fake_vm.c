/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fake_vm.h"

void fake_run_co_nothing(void *opaque)
{
}

bool fake_run_co_start(void *opaque, GError **error)
{
    return true;
}

static bool fake_run_co_start_backends(void *opaque, GError **error)
{
    const FakeRun *run = opaque;
    if (run->start_fails) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "net0: no back end");
    }
    return !run->start_fails;
}

static bool fake_run_co_reset(void *opaque, GError **error)
{
    return true;
}

static void fake_run_co_drain(void *opaque)
{
    enter_coroutine();
    FakeRun *run = opaque;
    if (run->disk_hangs) {
        CoToken token = co_arm();
        g_array_append_val(run->held, token);
        co_wait(token);
    }
}

const RunStateOps fake_run_ops = {
    .co_park = fake_run_co_nothing,
    .unpark = fake_run_co_nothing,
    .co_stop_backends = fake_run_co_nothing,
    .co_start_backends = fake_run_co_start_backends,
    .co_drain = fake_run_co_drain,
    .co_reset = fake_run_co_reset,
};

void fake_run_init(FakeRun *run)
{
    *run = (FakeRun){.held = g_array_new(false, false, sizeof(CoToken))};
}

void fake_run_clear(FakeRun *run)
{
    g_assert(run->held->len == 0);
    g_array_free(run->held, true);
}

void fake_run_release_disk(FakeRun *run)
{
    while (run->held->len > 0) {
        co_wake(g_array_index(run->held, CoToken, 0));
        g_array_remove_index(run->held, 0);
    }
}

void fake_vm_clear(Vm *vm)
{
    GPtrArray *arrays[] = {vm->backends.iothreads, vm->backends.memory_backends,
                           vm->backends.rngs,      vm->machine.devices,
                           vm->backends.serials,   vm->backends.monitors,
                           vm->backends.drives};
    for (unsigned i = 0; i < G_N_ELEMENTS(arrays); i++) {
        g_ptr_array_unref(arrays[i]);
    }
    address_space_free(vm->machine.mmio);
    address_space_free(vm->machine.pio);
}
