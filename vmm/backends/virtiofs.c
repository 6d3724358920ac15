/* SPDX-License-Identifier: Apache-2.0 */
/* -virtiofs: a virtiofsd, a chardev on its socket, and an implied device for each. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "hw/chardev/chardev_set.h"
#include "util/log.h"
#include "vmm/backends/backends.h"
#include "vmm/backends/virtiofs_process.h"

typedef struct VirtiofsOptions {
    char *tag, *path;
    bool read_only;
} VirtiofsOptions;

static const OptSpec virtiofs_specs[] = {
    OPT_SPEC(VirtiofsOptions, "tag", OPT_STRING, tag, .required = true,
             .help = "name by which the guest mounts it"),
    OPT_SPEC(VirtiofsOptions, "path", OPT_STRING, path, .required = true, .help = "the folder"),
    OPT_SPEC(VirtiofsOptions, "readonly", OPT_BOOL, read_only, .def = "off",
             .help = "the guest cannot change anything in it"),
    {0},
};

/* ---- the process while the VM runs ---- */

typedef struct Virtiofsd {
    char *path;
    pid_t pid;
    int pid_fd;
    AioHandler *handler;
} Virtiofsd;

static void virtiofsd_free(Virtiofsd *v)
{
    aio_handler_remove(v->handler);
    close(v->pid_fd);
    g_free(v->path);
    g_free(v);
}

static void virtiofsd_ended(void *opaque)
{
    Virtiofsd *v = opaque;
    siginfo_t info = {0};
    enter_main();
    if (waitid(P_PIDFD, (id_t)v->pid_fd, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0) {
        return;
    }
    bool killed = info.si_code != CLD_EXITED;
    if (killed || info.si_status != 0) {
        log_warn("-virtiofs path=%s: virtiofsd ended with %s %d", v->path,
                 killed ? "signal" : "status", info.si_status);
    }
    virtiofsd_free(v);
}

/* Reaps the process when it ends. */
static RUNS_IN_MAIN void virtiofsd_watch(AioContext *ctx, const char *path, pid_t pid)
{
    static const AioHandlerOps ops = {.readable = virtiofsd_ended};
    int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pid_fd < 0) {
        return; /* it stays a zombie until skiff ends */
    }
    Virtiofsd *v = g_new0(Virtiofsd, 1);
    *v = (Virtiofsd){.path = g_strdup(path), .pid = pid, .pid_fd = pid_fd};
    v->handler = aio_handler_add(ctx, pid_fd, &ops, v);
}

/* ---- start ---- */

typedef struct VirtiofsLookUp {
    const char *path;
    char *real_path, *program; /* owned */
    GError *error;
} VirtiofsLookUp;

static int virtiofs_look_up(void *opaque)
{
    VirtiofsLookUp *l = opaque;
    struct stat st;
    enter_worker();
    l->real_path = realpath(l->path, NULL);
    if (l->real_path == NULL || stat(l->real_path, &st) != 0) {
        g_set_error(&l->error, G_FILE_ERROR, g_file_error_from_errno(errno), "path=%s: %s", l->path,
                    g_strerror(errno));
        return -1;
    }
    if (!S_ISDIR(st.st_mode)) {
        g_set_error(&l->error, G_FILE_ERROR, G_FILE_ERROR_NOTDIR, "path=%s: is no folder", l->path);
        return -1;
    }
    l->program = virtiofs_find_program(&l->error);
    return l->program != NULL ? 0 : -1;
}

static char *virtiofs_chardev_id(unsigned index)
{
    return g_strdup_printf("virtiofs%u", index);
}

static coroutine_fn RUNS_IN_MAIN bool virtiofs_co_add_chardev(int fd, unsigned index,
                                                              GError **error)
{
    g_autofree char *id = virtiofs_chardev_id(index);
    g_autofree char *number = g_strdup_printf("%d", fd);
    OptDict *opts = opt_dict_new();
    opt_dict_set(opts, "backend", "socket");
    opt_dict_set(opts, "id", id);
    opt_dict_set(opts, "fd", number);
    bool ok = chardev_co_add(opts, error);
    close(fd); /* the chardev has its own */
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool virtiofs_co_start(const VirtiofsOptions *o, unsigned index,
                                                        GError **error)
{
    VirtiofsLookUp look_up = {.path = o->path};
    pid_t pid = -1;
    int fd = -1;
    if (co_run_in_worker(virtiofs_look_up, &look_up) != 0) {
        g_propagate_error(error, look_up.error);
    } else {
        fd = virtiofs_co_spawn(look_up.program, look_up.real_path, o->read_only, &pid, error);
    }
    free(look_up.real_path);
    g_free(look_up.program);
    if (fd < 0) {
        return false;
    }
    virtiofsd_watch(aio_context_current(), o->path, pid);
    return virtiofs_co_add_chardev(fd, index, error);
}

bool backends_co_start_virtiofs(Backends *b, GError **error)
{
    const GPtrArray *list = b->config->backends.virtiofs;
    for (unsigned i = 0; i < list->len; i++) {
        VirtiofsOptions o;
        opts_init(virtiofs_specs, &o);
        if (!opts_bind(virtiofs_specs, &o, list->pdata[i], "-virtiofs", error)) {
            return false;
        }
        bool ok = virtiofs_co_start(&o, i, error);
        if (!ok) {
            g_prefix_error(error, "-virtiofs tag=%s: ", o.tag);
        }
        opts_clear(virtiofs_specs, &o);
        if (!ok) {
            return false;
        }
    }
    return true;
}

void backends_add_implied_virtiofs(const Backends *b, GPtrArray *rows)
{
    const GPtrArray *list = b->config->backends.virtiofs;
    for (unsigned i = 0; i < list->len; i++) {
        g_autofree char *id = virtiofs_chardev_id(i);
        OptDict *row = opt_dict_new();
        opt_dict_set(row, "driver", "vhost-user-fs-pci");
        opt_dict_set(row, "chardev", id);
        opt_dict_set(row, "tag", opt_dict_get(list->pdata[i], "tag"));
        g_ptr_array_add(rows, row);
    }
}
