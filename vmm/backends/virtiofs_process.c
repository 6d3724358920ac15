/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/backends/virtiofs_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "util/loop/coroutine.h"

#define PROCESS_LISTEN_FD 3 /* its number in the new process */

/* Where distributions put it: Debian 13, Debian 12. */
static const char *const process_paths[] = {"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd",
                                            "/usr/lib/virtiofsd"};

char *virtiofs_find_program(GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(process_paths); i++) {
        if (access(process_paths[i], X_OK) == 0) {
            return g_strdup(process_paths[i]);
        }
    }
    char *found = g_find_program_in_path("virtiofsd");
    if (found == NULL) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                    "virtiofsd is not installed: install Debian's package virtiofsd (in Debian 12, "
                    "qemu-system-common)");
    }
    return found;
}

/* ---- the new process, between fork() and exec(): async-signal-safe calls only ---- */

/* Made before the fork. */
typedef struct Process {
    const char *path;
    const char *tmp, *mount_point; /* used if `mounts` */
    bool mounts;
    bool read_only;
    bool user_namespace; /* skiff is not root */
    bool has_groups;     /* supplementary ones */
    char uid_map[32], gid_map[32];
    int listen_fd, report_fd;
    char *const *argv;
} Process;

/* A step that failed, sent through report_fd. */
typedef struct ProcessFailure {
    int error;
    char step[40];
} ProcessFailure;

static G_GNUC_NORETURN void process_fail(const Process *p, const char *step)
{
    ProcessFailure f = {.error = errno};
    memcpy(f.step, step, MIN(strlen(step), sizeof(f.step) - 1));
    (void)!write(p->report_fd, &f, sizeof(f));
    _exit(1);
}

static void process_write_file(const Process *p, const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        process_fail(p, path);
    }
    close(fd);
}

/*
 * In a user namespace whose maker may not set groups, setgroups() fails, and some versions of virtiofsd
 * then end. The call has no use there: the process keeps the groups of its user. This filter makes it
 * succeed without an effect.
 */
static void process_skip_setgroups(const Process *p)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setgroups, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = G_N_ELEMENTS(code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        process_fail(p, "a filter for setgroups()");
    }
}

static void process_enter_namespaces(const Process *p)
{
    if (p->user_namespace) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
            process_fail(p, "a user namespace");
        }
        process_write_file(p, "/proc/self/setgroups", "deny");
        process_write_file(p, "/proc/self/uid_map", p->uid_map);
        process_write_file(p, "/proc/self/gid_map", p->gid_map);
        if (p->has_groups) {
            process_skip_setgroups(p);
        }
    } else if (p->mounts && unshare(CLONE_NEWNS) != 0) {
        process_fail(p, "a mount namespace");
    }
}

/*
 * Mounts the folder once more, at p->mount_point, read-only if it is to be: in a tmpfs that hides the
 * host's temporary files from this process only. QEMU's virtiofsd cannot serve "/" itself.
 */
static void process_mount(const Process *p)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) {
        process_fail(p, "mounts of its own");
    }
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, p->path,
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0) {
        process_fail(p, "a mount of the folder");
    }
    if (p->read_only && syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE,
                                &attributes, sizeof(attributes)) != 0) {
        process_fail(p, "a read-only mount of the folder");
    }
    if (mount("tmpfs", p->tmp, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0 ||
        mkdir(p->mount_point, 0755) != 0 ||
        syscall(SYS_move_mount, tree, "", AT_FDCWD, p->mount_point, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
        process_fail(p, "a place for the folder");
    }
}

static void process_arrange_fds(const Process *p)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        process_fail(p, "standard descriptors");
    }
    if (syscall(SYS_close_range, PROCESS_LISTEN_FD, ~0u, CLOSE_RANGE_CLOEXEC) != 0) {
        process_fail(p, "closing descriptors");
    }
    if (p->listen_fd == PROCESS_LISTEN_FD ? fcntl(p->listen_fd, F_SETFD, 0) != 0
                                          : dup2(p->listen_fd, PROCESS_LISTEN_FD) < 0) {
        process_fail(p, "its socket");
    }
}

/* virtiofsd keeps a descriptor of each file that the guest knows, and fails if it may not have as many as
 * it asks for. */
static void process_raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit); /* it has fewer then */
    }
}

static G_GNUC_NORETURN void process_run(const Process *p)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* Ctrl-C on the terminal is for skiff, which then ends this process */
    process_raise_limit();
    process_enter_namespaces(p);
    if (p->mounts) {
        process_mount(p);
    }
    process_arrange_fds(p);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) {
        process_fail(p, "the end with skiff");
    }
    execv(p->argv[0], p->argv);
    process_fail(p, p->argv[0]);
}

/* ---- before and after ---- */

/* A socket that listens, and a connection that waits on it. No other process can connect: the socket is
 * in a folder of its own, and has no name any more when this returns. */
static bool process_make_sockets(int *listen_fd, int *connected, GError **error)
{
    g_autofree char *folder = g_dir_make_tmp("skiff-virtiofs-XXXXXX", error);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (folder == NULL) {
        return false;
    }
    int length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
    *listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = length < (int)sizeof(address.sun_path) && *listen_fd >= 0 && *connected >= 0 &&
              bind(*listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
              listen(*listen_fd, 1) == 0 &&
              connect(*connected, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (!ok) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "a socket in %s: %s",
                    folder, g_strerror(errno));
    }
    unlink(address.sun_path);
    rmdir(folder);
    return ok;
}

typedef struct ProcessStart {
    int listen_fd, connected;
    int report_fd; /* read: the report of the new process, or its end */
    ProcessFailure failure;
    GError *error;
} ProcessStart;

static int process_make_sockets_in_worker(void *opaque)
{
    ProcessStart *s = opaque;
    enter_worker();
    return process_make_sockets(&s->listen_fd, &s->connected, &s->error) ? 0 : -1;
}

/* Returns when the program runs (0), or has reported why it does not. */
static int process_await_in_worker(void *opaque)
{
    ProcessStart *s = opaque;
    ssize_t n;
    enter_worker();
    do {
        n = read(s->report_fd, &s->failure, sizeof(s->failure));
    } while (n < 0 && errno == EINTR);
    return n == 0 ? 0 : -1;
}

static void process_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Debian 12 has QEMU's virtiofsd, whose options differ. */
static GPtrArray *process_arguments(const char *program, const char *path, bool own_limit)
{
    GPtrArray *a = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(a, g_strdup(program));
    g_ptr_array_add(a, g_strdup_printf("--fd=%d", PROCESS_LISTEN_FD));
    if (own_limit) {
        g_ptr_array_add(a, g_strdup("--rlimit-nofile=0")); /* process_raise_limit() has done it */
    }
    if (strstr(program, "/qemu/") != NULL) {
        g_autoptr(GString) source = g_string_new(path); /* a comma separates options */
        g_string_replace(source, "\\", "\\\\", 0);
        g_string_replace(source, ",", "\\,", 0);
        g_ptr_array_add(a, g_strdup("-f"));
        g_ptr_array_add(a, g_strdup("-o"));
        g_ptr_array_add(a, g_strdup_printf("source=%s,log_level=err,xattr", source->str));
    } else {
        g_ptr_array_add(a, g_strdup_printf("--shared-dir=%s", path));
        g_ptr_array_add(a, g_strdup("--log-level=error"));
        g_ptr_array_add(a, g_strdup("--xattr"));
    }
    g_ptr_array_add(a, NULL);
    return a;
}

static bool process_fork(const Process *plan, ProcessStart *s, pid_t *pid, GError **error)
{
    int pipe_fds[2];
    Process p = *plan;
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "a pipe: %s",
                    g_strerror(errno));
        return false;
    }
    p.report_fd = pipe_fds[1];
    p.listen_fd = s->listen_fd;
    *pid = fork(); /* by main: the new process ends with the thread that made it */
    if (*pid == 0) {
        process_run(&p);
    }
    close(pipe_fds[1]);
    s->report_fd = pipe_fds[0];
    if (*pid < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "a new process: %s",
                    g_strerror(errno));
    }
    return *pid > 0;
}

static coroutine_fn RUNS_IN_MAIN bool process_co_start(const Process *p, ProcessStart *s,
                                                       pid_t *pid, GError **error)
{
    if (co_run_in_worker(process_make_sockets_in_worker, s) != 0) {
        g_propagate_error(error, s->error);
        return false;
    }
    if (!process_fork(p, s, pid, error)) {
        return false;
    }
    if (co_run_in_worker(process_await_in_worker, s) != 0) {
        s->failure.step[sizeof(s->failure.step) - 1] = '\0';
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s cannot be started: %s: %s",
                    p->argv[0], s->failure.step, g_strerror(s->failure.error));
        return false;
    }
    return true;
}

int virtiofs_co_spawn(const char *program, const char *path, bool read_only, pid_t *pid,
                      GError **error)
{
    bool mounts = read_only || strcmp(path, "/") == 0;
    g_autofree char *mount_point = g_build_filename(g_get_tmp_dir(), "folder", NULL);
    g_autoptr(GPtrArray) arguments =
        process_arguments(program, mounts ? mount_point : path, geteuid() != 0);
    ProcessStart s = {.listen_fd = -1, .connected = -1, .report_fd = -1};
    Process p = {.path = path,
                 .tmp = g_get_tmp_dir(),
                 .mount_point = mount_point,
                 .mounts = mounts,
                 .read_only = read_only,
                 .user_namespace = geteuid() != 0,
                 .has_groups = getgroups(0, NULL) > 0,
                 .argv = (char *const *)arguments->pdata};
    snprintf(p.uid_map, sizeof(p.uid_map), "0 %u 1", (unsigned)geteuid());
    snprintf(p.gid_map, sizeof(p.gid_map), "0 %u 1", (unsigned)getegid());
    bool ok = process_co_start(&p, &s, pid, error);
    process_close(&s.report_fd);
    process_close(&s.listen_fd);
    if (!ok) {
        process_close(&s.connected);
    }
    return s.connected;
}
