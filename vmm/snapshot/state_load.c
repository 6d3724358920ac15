/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/state_load.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hw/virtio/virtio_net.h"
#include "migration/state_file.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/prefault.h"
#include "vmm/snapshot/state_open.h"

static void state_load_stream_at_home(void *opaque)
{
    StateLoad *l = opaque;
    enter_coroutine();
    enter_iothread(blk_home(l->blk));
    l->stream = state_file_co_read_stream(l->blk, &l->error);
}

static void state_load_check_at_home(void *opaque)
{
    StateLoad *l = opaque;
    enter_coroutine();
    enter_iothread(blk_home(l->blk));
    l->ok = ram_image_co_check(l->blk, STATE_FILE_RAM_OFFSET, l->ram, &l->error);
}

static void state_load_ram_at_home(void *opaque)
{
    StateLoad *l = opaque;
    enter_coroutine();
    enter_iothread(blk_home(l->blk));
    l->ok = l->fd >= 0 ? ram_image_co_map(l->blk, l->fd, STATE_FILE_RAM_OFFSET, l->ram, &l->error)
                       : ram_image_co_load(l->blk, STATE_FILE_RAM_OFFSET, l->ram, &l->error);
}

/* Each NIC gets a random address, administered locally and QEMU's to look at. */
static RUNS_IN_MAIN void state_load_renew_macs(const Vm *vm)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        Device *dev = vm->machine.devices->pdata[i];
        if (dev->type == &virtio_net_pci_type) {
            uint32_t bits = g_random_int();
            const uint8_t mac[NET_MAC_BYTES] = {
                0x52, 0x54, 0x00, (uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
            virtio_net_set_mac(dev, mac);
        }
    }
}

bool state_load_co_stream(StateLoad *l, GError **error)
{
    co_call_in(blk_home(l->blk), state_load_stream_at_home, l);
    if (l->stream == NULL) {
        g_propagate_error(error, g_steal_pointer(&l->error));
    }
    return l->stream != NULL;
}

bool state_load_co_check_memory(StateLoad *l, GError **error)
{
    co_call_in(blk_home(l->blk), state_load_check_at_home, l);
    if (!l->ok) {
        g_propagate_error(error, g_steal_pointer(&l->error));
    }
    return l->ok;
}

bool state_load_co_memory(StateLoad *l, GError **error)
{
    co_call_in(blk_home(l->blk), state_load_ram_at_home, l);
    if (!l->ok) {
        g_propagate_error(error, g_steal_pointer(&l->error));
    }
    return l->ok;
}

static coroutine_fn RUNS_IN_MAIN bool state_load_from(Vm *vm, StateLoad *l, const VmStopped *token,
                                                      GError **error)
{
    if (!state_load_co_stream(l, error)) {
        return false;
    }
    g_autoptr(MachineStateLoad) load = machine_state_stage(vm, l->stream, error);
    if (load == NULL || !state_load_co_memory(l, error) ||
        !machine_state_co_apply(vm, load, token, error)) {
        return false;
    }
    if (vm->config->life.new_macs) {
        state_load_renew_macs(vm);
    }
    vm->run.run_requested = vm->run.run_requested && machine_state_ran(load);
    return true;
}

/* Opens a regular file; another kind is not mapped. */
static int state_load_open_fd(void *opaque)
{
    enter_worker();
    StateLoad *l = opaque;
    struct stat st;
    int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        fd = -1;
    }
    l->fd = fd;
    return 0;
}

static int state_load_close_fd(void *opaque)
{
    enter_worker();
    const StateLoad *l = opaque;
    close(l->fd);
    return 0;
}

/* The node of a file that is mapped is the same file, whatever happens to its name. */
static coroutine_fn RUNS_IN_MAIN BlockNode *state_load_open(Vm *vm, const StateLoad *l,
                                                            GError **error)
{
    g_autofree char *same = g_strdup_printf("/proc/self/fd/%d", l->fd);
    const StateOpen how = {
        .home = backends_default_home(&vm->backends),
        .direct = l->fd < 0 && !state_co_is_cached(l->path, STATE_FILE_RAM_OFFSET),
    };
    return state_co_open(l->fd >= 0 ? same : l->path, &how, error);
}

static coroutine_fn RUNS_IN_MAIN bool state_load_run(Vm *vm, StateLoad *l, GError **error)
{
    BlockNode *node = state_load_open(vm, l, error);
    if (node == NULL) {
        return false;
    }
    l->blk = blk_co_new_for("the load of a machine's state", NULL, node, false, error);
    bool ok = false;
    if (l->blk != NULL) {
        VmStopped *token = co_vm_stop(&vm->run, STOP_PAUSED);
        ok = state_load_from(vm, l, token, error);
        vm_stopped_put(&vm->run, token);
    }
    if (ok && l->fd >= 0) {
        return true; /* the node stays, whose lock says that the file is in use */
    }
    if (l->blk != NULL) {
        blk_co_free(l->blk);
    }
    block_co_unref(node);
    return ok;
}

static bool state_load_prefaults(const VmConfig *config)
{
    return config->life.prefault == PREFAULT_AUTO ? !config->backends.clone
                                                  : config->life.prefault == PREFAULT_ON;
}

bool state_load_co(Vm *vm, const char *path, bool map, GError **error)
{
    GError *failure = NULL;
    StateLoad l = {.path = path, .ram = &vm->machine.ram, .fd = -1};
    if (map && state_name_is_path(path)) {
        co_run_in_worker(state_load_open_fd, &l);
    }
    bool ok = state_load_run(vm, &l, &failure);
    if (ok && l.fd >= 0 && state_load_prefaults(vm->config)) {
        prefault_prepare(vm, l.fd);
    }
    if (l.fd >= 0) {
        co_run_in_worker(state_load_close_fd, &l);
    }
    g_clear_pointer(&l.stream, g_byte_array_unref);
    if (!ok) {
        g_autofree char *name = g_strdup_printf("'%s'", path);
        bool named = g_str_has_prefix(failure->message, name); /* it cannot be opened */
        g_propagate_prefixed_error(error, failure, "the state in %s%s", named ? "" : name,
                                   named ? "" : ": ");
    }
    return ok;
}
