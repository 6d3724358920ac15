/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O errors of devices: sent as messages to main, announced there.
 *
 * A disk that fails every request could send more messages than main can handle: at most
 * VM_IO_ERRORS_MAX are under way, and the log has the number of the dropped ones.
 */
#include <stdatomic.h>
#include "util/log.h"
#include "vmm/vm/vm.h"

#define VM_IO_ERRORS_MAX 64u

static _Atomic unsigned vm_io_errors_posted, vm_io_errors_dropped;

typedef struct VmIoErrorMessage {
    Vm *vm;
    VmIoError e;
    char *path, *node; /* copies: device and node may have been deleted */
} VmIoErrorMessage;

static void vm_io_error_announce(void *opaque)
{
    enter_main();
    VmIoErrorMessage *m = opaque;
    atomic_fetch_sub(&vm_io_errors_posted, 1);
    unsigned dropped = atomic_exchange(&vm_io_errors_dropped, 0);
    if (dropped > 0) {
        log_warn("%u I/O errors were not announced: there were too many", dropped);
    }
    VM_ANNOUNCE(m->vm, io_error, &m->e);
    g_free(m->path);
    g_free(m->node);
    g_free(m);
}

void vm_io_error(void *opaque, const Device *dev, const DeviceIoError *e)
{
    Vm *vm = opaque;
    if (atomic_fetch_add(&vm_io_errors_posted, 1) >= VM_IO_ERRORS_MAX) {
        atomic_fetch_sub(&vm_io_errors_posted, 1);
        atomic_fetch_add(&vm_io_errors_dropped, 1);
        return;
    }
    VmIoErrorMessage *m = g_new0(VmIoErrorMessage, 1);
    m->vm = vm;
    m->path = machine_device_backend_path(dev);
    m->node = g_strdup(e->node);
    m->e = (VmIoError){.path = m->path,
                       .node = m->node,
                       .is_read = e->is_read,
                       .action = e->action,
                       .error = e->error};
    aio_post(vm->ctx, vm_io_error_announce, m);
}

void vm_io_errors_clear(void)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        blk_set_io_status(list[i], BLK_IO_OK);
    }
}
