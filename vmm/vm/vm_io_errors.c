/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O errors that devices report: told to main by a message, and from there as BLOCK_IO_ERROR.
 *
 * A disk that fails every request could send more of them than main can tell: at most
 * IO_ERRORS_MAX are under way, and the log says how many were left out.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include "block/block.h"
#include "util/log.h"
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/vm/vm.h"

#define IO_ERRORS_MAX 64u

static _Atomic unsigned io_errors_posted, io_errors_dropped;

typedef struct IoErrorMessage {
    Vm *vm;
    char *path; /* of the device, which may be gone */
    char *node;
    bool is_read;
    DeviceIoAction action;
    int error;
} IoErrorMessage;

/* ---- paths ---- */

char *vm_device_backend_path(const Device *dev)
{
    return g_strconcat(dev->path, "/virtio-backend", NULL);
}

/* ---- telling ---- */

static void io_errors_tell(void *opaque)
{
    static const char *const actions[] = {
        [DEVICE_IO_IGNORE] = "ignore", [DEVICE_IO_REPORT] = "report", [DEVICE_IO_STOP] = "stop"};
    enter_main();
    IoErrorMessage *m = opaque;
    struct json_object *data = json_object_new_object();
    atomic_fetch_sub(&io_errors_posted, 1);
    unsigned dropped = atomic_exchange(&io_errors_dropped, 0);
    if (dropped > 0) {
        log_warn("%u I/O errors were not told one by one: there were too many", dropped);
    }
    qmp_put_str(data, "qom-path", m->path);
    qmp_put_str(data, "device", vm_drive_of_node(m->vm, m->node));
    qmp_put_str(data, "node-name", m->node);
    qmp_put_str(data, "operation", m->is_read ? "read" : "write");
    qmp_put_str(data, "action", actions[m->action]);
    qmp_put_bool(data, "nospace", m->error == ENOSPC);
    qmp_put_str(data, "reason", g_strerror(m->error));
    qmp_event_emit("BLOCK_IO_ERROR", data);
    g_free(m->path);
    g_free(m->node);
    g_free(m);
}

static void io_errors_post(const Device *dev, const DeviceIoError *e)
{
    Vm *vm = (Vm *)(uintptr_t)((const char *)dev->env - offsetof(Vm, env));
    if (atomic_fetch_add(&io_errors_posted, 1) >= IO_ERRORS_MAX) {
        atomic_fetch_sub(&io_errors_posted, 1);
        atomic_fetch_add(&io_errors_dropped, 1);
        return;
    }
    IoErrorMessage *m = g_new0(IoErrorMessage, 1);
    *m = (IoErrorMessage){.vm = vm,
                          .path = vm_device_backend_path(dev),
                          .node = g_strdup(e->node),
                          .is_read = e->is_read,
                          .action = e->action,
                          .error = e->error};
    aio_post(vm->ctx, io_errors_tell, m);
}

void vm_io_errors_forget(void)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        blk_set_io_status(list[i], BLK_IO_OK);
    }
}

void vm_io_errors_init(Vm *vm)
{
    vm->env.io_error = io_errors_post;
}
