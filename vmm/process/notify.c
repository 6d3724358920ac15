/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/notify.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "hw/chardev/chardev_set.h"

typedef struct Notify {
    Vm *vm;
    VmListener listener;
    Chardev *chardev; /* fd:N */
    int socket;       /* unix:PATH; -1 else */
    bool ready;       /* sent */
    bool stopping;    /* sent */
} Notify;

static Notify notify = {.socket = -1}; /* one per process, like its exit status */

static void notify_send(const char *text)
{
    size_t size = strlen(text);

    if (notify.chardev != NULL) {
        chardev_write(notify.chardev, (const uint8_t *)text, size);
    } else if (notify.socket >= 0) {
        ssize_t n = send(notify.socket, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)n; /* a receiver that does not read loses messages */
    }
}

static RUNS_IN_MAIN void notify_running(void)
{
    if (notify.ready) {
        notify_send("STATUS=running\n");
        return;
    }
    g_autofree char *text = g_strdup_printf("READY=1\nMAINPID=%d\nSTATUS=running\n", (int)getpid());
    notify.ready = true;
    notify_send(text);
}

static void notify_run_changed(VmListener *l, RunPhase phase, StopReason reason)
{
    enter_main();
    if (notify.stopping) {
        return;
    }
    if (phase == RUN_RUNNING) {
        notify_running();
    } else if (phase == RUN_STOPPED) {
        g_autofree char *text =
            g_strdup_printf("STATUS=paused (%s)\n", run_state_name(&notify.vm->run));
        notify_send(text);
    }
}

static void notify_ending(VmListener *l, VmCause cause, bool leaving)
{
    enter_main();
    if (leaving) {
        notify.stopping = true;
        notify_send("STOPPING=1\n");
    }
}

/* ---- opening ---- */

static bool notify_fail(GError **error, const char *what, const char *why)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-notify %s: %s", what, why);
    return false;
}

static bool notify_connect(const char *text, const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);

    if (length == 0 || length >= sizeof(address.sun_path)) {
        return notify_fail(error, text, "wants a path of 1 to 107 bytes, or @NAME");
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') {
        address.sun_path[0] = '\0'; /* the abstract namespace, as in NOTIFY_SOCKET */
    }
    notify.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify.socket < 0 ||
        connect(notify.socket, (const struct sockaddr *)&address,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) != 0) {
        return notify_fail(error, text,
                           errno == EPROTOTYPE ? "is no datagram socket" : g_strerror(errno));
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool notify_co_use_fd(const char *text, const char *number,
                                                       GError **error)
{
    uint64_t fd;

    if (!opt_parse_u64(number, 0, INT32_MAX, &fd, error)) {
        g_prefix_error(error, "-notify %s: ", text);
        return false;
    }
    int flags = fcntl((int)fd, F_GETFL);
    if (flags < 0) {
        return notify_fail(error, text, "no such descriptor was inherited");
    }
    if ((flags & O_ACCMODE) == O_RDONLY) {
        return notify_fail(error, text, "is open for reading only");
    }
    if (!chardev_co_add_fd("notify", -1, (int)fd, error)) {
        return false;
    }
    notify.chardev = chardev_claim("notify", "-notify", error);
    return notify.chardev != NULL;
}

bool notify_co_open(Vm *vm, GError **error)
{
    const char *text = vm->config->process.notify;
    bool ok;

    if (text == NULL) {
        return true;
    }
    if (g_str_has_prefix(text, "unix:")) {
        ok = notify_connect(text, text + strlen("unix:"), error);
    } else if (g_str_has_prefix(text, "fd:")) {
        ok = notify_co_use_fd(text, text + strlen("fd:"), error);
    } else {
        ok = notify_fail(error, text, "wants fd:NUMBER or unix:PATH");
    }
    if (ok) {
        notify.vm = vm;
        notify.listener = (VmListener){.run_changed = notify_run_changed, .ending = notify_ending};
        vm_listen(vm, &notify.listener);
    }
    return ok;
}

void notify_exit(int status)
{
    g_autofree char *text = g_strdup_printf("EXIT_STATUS=%d\n", status);

    notify_send(text);
}
