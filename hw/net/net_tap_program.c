/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that set up a tap device: network scripts, and QEMU's bridge helper. Workers wait for them. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "hw/net/net_tap.h"

#define TAP_HELPER_FD 3
#define TAP_HELPER_TIMEOUT_MS 30000
#define TAP_PASSED_MAX 4 /* the kernel drops what is more */

#define TAP_END_TIMEOUT_NS (5 * 1000000000ll)

extern char **environ;

static _Atomic bool tap_programs_forbidden;

void net_tap_forbid_programs(void)
{
    atomic_store(&tap_programs_forbidden, true);
}

/* Starts @argv with default signals and without skiff's descriptors (all are close-on-exec) but @fd
 * (-1: none), which becomes TAP_HELPER_FD. Returns the process, or -1 + error. */
static pid_t tap_spawn(char *const *argv, int fd, GError **error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    pid_t pid;
    if (atomic_load(&tap_programs_forbidden)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "cannot run %s: with -sandbox on programs are run at the start only", argv[0]);
        return -1;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, fd, TAP_HELPER_FD);
    }
    int failed = posix_spawn(&pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failed) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(failed), "cannot run %s: %s",
                    argv[0], g_strerror(failed));
        return -1;
    }
    return pid;
}

/* Whether a process with this @status of waitpid() has succeeded. */
static bool tap_succeeded(int status, const char *name, GError **error)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return true;
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s failed with %s %d", name,
                WIFEXITED(status) ? "status" : "signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return false;
}

/* Waits for the process. False + error: it did not succeed. */
static bool tap_reap(pid_t pid, const char *name, GError **error)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", name,
                        g_strerror(errno));
            return false;
        }
    }
    return tap_succeeded(status, name, error);
}

static pid_t tap_spawn_script(const char *script, const char *ifname, GError **error)
{
    char *argv[] = {(char *)(uintptr_t)script, (char *)(uintptr_t)ifname, NULL};
    return tap_spawn(argv, -1, error);
}

bool net_tap_run_script(const char *script, const char *ifname, GError **error)
{
    pid_t pid = tap_spawn_script(script, ifname, error);
    return pid >= 0 && tap_reap(pid, script, error);
}

/* ---- the end of the process ---- */

static int64_t tap_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* Waits for the end of process @pid. False: it has not come in time, or cannot be waited for. */
static bool tap_await_end(pid_t pid)
{
    int64_t end_ns = tap_now_ns() + TAP_END_TIMEOUT_NS, left_ns = TAP_END_TIMEOUT_NS;
    struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int ready = 0;
    while (p.fd >= 0 && ready <= 0 && left_ns > 0) {
        struct timespec left = {left_ns / 1000000000, left_ns % 1000000000};
        ready = ppoll(&p, 1, &left, NULL); /* a signal may end it */
        left_ns = end_ns - tap_now_ns();
    }
    if (p.fd >= 0) {
        close(p.fd);
    }
    return ready > 0;
}

bool net_tap_run_script_at_end(const char *script, const char *ifname, GError **error)
{
    pid_t pid = tap_spawn_script(script, ifname, error);
    if (pid < 0) {
        return false;
    }
    if (!tap_await_end(pid)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s still runs", script);
        return false;
    }
    return tap_reap(pid, script, error);
}

/* ---- the bridge helper ---- */

/* The descriptor that came with @m; more than one are none, and closed. */
static int tap_passed_fd(struct msghdr *m)
{
    int passed = -1;
    unsigned count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
            if (count++ > 0) {
                close(passed);
            }
            memcpy(&passed, (const char *)c + at, sizeof(passed));
        }
    }
    if (count > 1) {
        close(passed);
        return -1;
    }
    return passed;
}

/* Takes the descriptor that the helper passes over @fd. -1: it has passed none or several, has closed its
 * end, or takes too long. */
static int tap_take_fd(int fd)
{
    char byte;
    struct iovec iov = {&byte, 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(TAP_PASSED_MAX * sizeof(int))];
    } control;
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready;
    do {
        ready = poll(&p, 1, TAP_HELPER_TIMEOUT_MS);
    } while (ready < 0 && errno == EINTR);
    if (ready != 1 || recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) <= 0) {
        return -1;
    }
    return tap_passed_fd(&m);
}

/* The helper's command: a program, or with arguments of its own a line for the shell, as in QEMU. */
static char **tap_helper_argv(const char *helper, const char *br, bool vnet_hdr)
{
    GPtrArray *argv = g_ptr_array_new();
    g_autofree char *bridge = g_strdup_printf("--br=%s", br);
    g_autofree char *fd = g_strdup_printf("--fd=%d", TAP_HELPER_FD);
    if (strpbrk(helper, " \t") != NULL) {
        g_autofree char *quoted = g_shell_quote(bridge);
        g_ptr_array_add(argv, g_strdup("/bin/sh"));
        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(argv, g_strdup_printf("%s%s %s %s", helper, vnet_hdr ? " --use-vnet" : "",
                                              fd, strstr(helper, "--br=") != NULL ? "" : quoted));
    } else {
        g_ptr_array_add(argv, g_strdup(helper));
        if (vnet_hdr) {
            g_ptr_array_add(argv, g_strdup("--use-vnet"));
        }
        g_ptr_array_add(argv, g_steal_pointer(&fd));
        g_ptr_array_add(argv, g_steal_pointer(&bridge));
    }
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(argv, FALSE);
}

int net_tap_run_helper(const char *helper, const char *br, bool vnet_hdr, GError **error)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "socketpair: %s",
                    g_strerror(errno));
        return -1;
    }
    g_auto(GStrv) argv = tap_helper_argv(helper, br, vnet_hdr);
    pid_t pid = tap_spawn(argv, ends[1], error);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -1;
    }
    int fd = tap_take_fd(ends[0]);
    close(ends[0]);
    if (fd < 0) {
        kill(pid, SIGTERM); /* it may hang */
    }
    g_autoptr(GError) failure = NULL;
    if (!tap_reap(pid, helper, &failure) || fd < 0) {
        if (fd >= 0) {
            close(fd);
        }
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s passed no tap device of bridge %s%s%s",
                    helper, br, failure != NULL ? ": " : "",
                    failure != NULL ? failure->message : "");
        return -1;
    }
    return fd;
}
