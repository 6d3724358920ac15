/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox: each role makes one forbidden call, and the process ends with one line that reports
 * it. Every test sandboxes a child process, since a sandbox cannot be left.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/loop/thread_spawner.h"
#include "vmm/exit_status.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/sandbox/sandbox_int.h"

#define CHILD_DONE 5 /* an exit status that has no other source */

typedef void Deed(void);

static const char *const role_names[] = {"spawner",  "main",        "iothread/x", "vcpu/0",
                                         "worker/0", "migration/x", "net/x"};
static const ThreadRole all_roles[] = {THREAD_MAIN, THREAD_IOTHREAD, THREAD_VCPU, THREAD_WORKER,
                                       THREAD_NETWORK};

/* ---- children ---- */

typedef struct Child {
    ThreadRole role;
    Deed *deed;
} Child;

static void *child_in_role(void *opaque)
{
    Child *child = opaque;
    child->deed();
    return NULL;
}

static void child_run(Child *child)
{
    g_autoptr(GError) error = NULL;
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    if (!sandbox_begin(&error)) {
        dprintf(STDERR_FILENO, "sandbox_begin: %s\n", error->message);
        _exit(1);
    }
    if (child->role == THREAD_MAIN) {
        thread_run_start_hook();
        child->deed();
    } else {
        pthread_t thread;
        if (!thread_start(&thread, child->role, role_names[child->role], child_in_role, child)) {
            _exit(1);
        }
        pthread_join(thread, NULL);
    }
    _exit(CHILD_DONE);
}

/* The result of @deed in a sandboxed thread of @role: the wait status, and the output. */
static int child_outcome(ThreadRole role, Deed *deed, char said[1024])
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        Child child = {.role = role, .deed = deed};
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(fds[1], STDERR_FILENO);
        alarm(60);
        child_run(&child);
    }
    close(fds[1]);
    size_t used = 0;
    ssize_t n;
    while (used < 1023 && (n = read(fds[0], said + used, 1023 - used)) > 0) {
        used += (size_t)n;
    }
    said[used] = '\0';
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_violates(ThreadRole role, Deed *deed, const char *call, long number)
{
    char said[1024];
    int status = child_outcome(role, deed, said);
    g_autofree char *expected =
        g_strdup_printf("skiff: sandbox: %s called %s (%ld), which its role does not allow\n",
                        role_names[role], call, number);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_STATUS_INTERNAL ||
        strcmp(said, expected) != 0) {
        fail_msg("%s, %s: status %#x, said:\n%s", role_names[role], call, status, said);
    }
}

static void assert_may(ThreadRole role, Deed *deed)
{
    char said[1024];
    int status = child_outcome(role, deed, said);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != CHILD_DONE) {
        fail_msg("%s: status %#x, said:\n%s", role_names[role], status, said);
    }
}

static void assert_nobody_may(Deed *deed, const char *call, long number)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(all_roles); i++) {
        assert_violates(all_roles[i], deed, call, number);
    }
}

/* ---- deeds: direct system calls, as an intruder would make them ---- */

static void do_execve(void)
{
    syscall(SYS_execve, "/bin/true", NULL, NULL);
}

static void do_fork(void)
{
    syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static void do_ptrace(void)
{
    syscall(SYS_ptrace, 0, 0, 0, 0);
}

static void do_netlink(void)
{
    syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0);
}

static void do_packet_socket(void)
{
    syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0);
}

static void do_raw_socket(void)
{
    syscall(SYS_socket, AF_INET, SOCK_RAW, 1);
}

static void do_mount(void)
{
    syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
}

static void do_setuid(void)
{
    syscall(SYS_setuid, 0);
}

static void do_bpf(void)
{
    syscall(SYS_bpf, 0, NULL, 0);
}

static void do_userfaultfd(void)
{
    syscall(SYS_userfaultfd, 0);
}

static void do_chroot(void)
{
    syscall(SYS_chroot, "/");
}

static void do_kill(void)
{
    syscall(SYS_kill, 1, 0);
}

static void do_signal_another_process(void)
{
    syscall(SYS_tgkill, 1, 1, 0);
}

static void do_map_code(void)
{
    syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void do_fail_to_map_code(void)
{
    if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
        _exit(1);
    }
}

static void do_protect_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
}

static void do_type_into_terminal(void)
{
    syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, "x");
}

static void do_new_vm(void)
{
    syscall(SYS_ioctl, 3, 0xae01 /* KVM_CREATE_VM */, 0);
}

static void do_open_for_writing(void)
{
    syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
}

static void do_pwritev(void)
{
    syscall(SYS_pwritev, -1, NULL, 0, 0, 0);
}

static void do_accept(void)
{
    syscall(SYS_accept4, -1, NULL, NULL, 0);
}

static void do_network_sockets(void)
{
    static const int families[] = {AF_INET, AF_INET6};
    for (unsigned i = 0; i < 2; i++) {
        close(socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0));
        close(socket(families[i], SOCK_DGRAM | SOCK_CLOEXEC, 0));
    }
}

/* As fopen() does. */
static void do_read_resolv_conf(void)
{
    struct stat st;
    stat("/etc/resolv.conf", &st);
    close(open("/etc/resolv.conf", O_RDONLY));
}

static void do_io_submit(void)
{
    syscall(SYS_io_submit, 0, 0, NULL);
}

static void do_unknown(void)
{
    syscall(4000);
}

static void do_call_of_x32(void)
{
    syscall(0x40000000L | SYS_read, -1, NULL, 0);
}

static void none_may_run_programs_or_make_processes(void **state)
{
    assert_nobody_may(do_execve, "execve", SYS_execve);
    assert_nobody_may(do_fork, "clone", SYS_clone);
}

static void none_may_access_the_rest_of_the_system(void **state)
{
    assert_nobody_may(do_ptrace, "ptrace", SYS_ptrace);
    assert_nobody_may(do_mount, "mount", SYS_mount);
    assert_nobody_may(do_setuid, "setuid", SYS_setuid);
    assert_nobody_may(do_bpf, "bpf", SYS_bpf);
    assert_nobody_may(do_userfaultfd, "userfaultfd", SYS_userfaultfd);
    assert_nobody_may(do_chroot, "chroot", SYS_chroot);
    assert_nobody_may(do_kill, "kill", SYS_kill);
    assert_nobody_may(do_signal_another_process, "tgkill", SYS_tgkill);
}

static void none_may_have_sockets_of_other_families(void **state)
{
    assert_nobody_may(do_packet_socket, "socket", SYS_socket);
    assert_nobody_may(do_raw_socket, "socket", SYS_socket);
    assert_violates(THREAD_MAIN, do_netlink, "socket", SYS_socket);
    assert_violates(THREAD_IOTHREAD, do_netlink, "socket", SYS_socket);
    assert_violates(THREAD_VCPU, do_netlink, "socket", SYS_socket);
}

static void none_may_make_code(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* a sanitizer's own mappings are allowed */
#endif
    assert_violates(THREAD_MAIN, do_map_code, "mmap", SYS_mmap);
    assert_violates(THREAD_IOTHREAD, do_map_code, "mmap", SYS_mmap);
    assert_violates(THREAD_VCPU, do_map_code, "mmap", SYS_mmap);
    assert_may(THREAD_WORKER, do_fail_to_map_code);
    assert_nobody_may(do_protect_code, "mprotect", SYS_mprotect);
}

static void none_may_make_other_requests_of_devices(void **state)
{
    assert_nobody_may(do_type_into_terminal, "ioctl", SYS_ioctl);
    assert_nobody_may(do_new_vm, "ioctl", SYS_ioctl);
}

static void a_call_without_a_name_is_reported_by_its_number(void **state)
{
    assert_nobody_may(do_unknown, "a system call without a name", 4000);
}

static void a_call_of_another_table_kills(void **state)
{
    char said[1024];
    int status = child_outcome(THREAD_VCPU, do_call_of_x32, said);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void roles_have_calls_that_others_lack(void **state)
{
    assert_may(THREAD_MAIN, do_accept);
    assert_violates(THREAD_IOTHREAD, do_accept, "accept4", SYS_accept4);
    assert_violates(THREAD_VCPU, do_accept, "accept4", SYS_accept4);
    assert_violates(THREAD_WORKER, do_accept, "accept4", SYS_accept4);

    assert_may(THREAD_IOTHREAD, do_io_submit);
    assert_violates(THREAD_MAIN, do_io_submit, "io_submit", SYS_io_submit);
    assert_violates(THREAD_VCPU, do_io_submit, "io_submit", SYS_io_submit);
    assert_violates(THREAD_WORKER, do_io_submit, "io_submit", SYS_io_submit);

    assert_may(THREAD_WORKER, do_pwritev);
    assert_may(THREAD_IOTHREAD, do_pwritev);
    assert_violates(THREAD_MAIN, do_pwritev, "pwritev", SYS_pwritev);
    assert_violates(THREAD_VCPU, do_pwritev, "pwritev", SYS_pwritev);

    assert_may(THREAD_WORKER, do_open_for_writing);
    assert_may(THREAD_MAIN, do_open_for_writing);
}

static void an_iothread_and_a_vcpu_open_nothing(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* their reports read files, in every thread */
#endif
    assert_violates(THREAD_IOTHREAD, do_open_for_writing, "openat", SYS_openat);
    assert_violates(THREAD_VCPU, do_open_for_writing, "openat", SYS_openat);
}

static void a_network_opens_sockets_and_reads_files(void **state)
{
    assert_may(THREAD_NETWORK, do_accept);
    assert_may(THREAD_NETWORK, do_network_sockets);
    assert_may(THREAD_NETWORK, do_read_resolv_conf);
    assert_violates(THREAD_IOTHREAD, do_network_sockets, "socket", SYS_socket);
    assert_violates(THREAD_VCPU, do_network_sockets, "socket", SYS_socket);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_violates(THREAD_NETWORK, do_open_for_writing, "openat", SYS_openat);
#endif
    assert_violates(THREAD_NETWORK, do_pwritev, "pwritev", SYS_pwritev);
}

/* ---- refused calls that are no violation ---- */

static void expect_errno(long result, int error)
{
    if (result != -1 || errno != error) {
        dprintf(STDERR_FILENO, "result %ld, %s\n", result, strerror(errno));
        _exit(1);
    }
}

static void do_make_ring(void)
{
    struct io_uring_params params = {0};
    expect_errno(syscall(SYS_io_uring_setup, 8, &params), EPERM);
}

static void do_remove_file(void)
{
    expect_errno(syscall(SYS_unlink, "/nonexistent"), EPERM);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they may read files */
    struct stat st;
    expect_errno(lstat("/nonexistent", &st), EPERM);
#endif
}

static void do_ask_for_addresses(void)
{
    expect_errno(syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0), EAFNOSUPPORT);
}

static void optional_calls_of_libraries_fail_without_a_violation(void **state)
{
    assert_may(THREAD_IOTHREAD, do_make_ring);
    assert_may(THREAD_VCPU, do_remove_file);
    assert_may(THREAD_WORKER, do_ask_for_addresses);
}

/* ---- threads that start later ---- */

static pthread_t started;

static void *started_execve(void *opaque)
{
    do_pwritev(); /* forbidden for its creator */
    do_execve();
    return NULL;
}

static void do_start_worker(void)
{
    if (thread_start(&started, THREAD_WORKER, "worker/0", started_execve, NULL)) {
        pthread_join(started, NULL);
    }
}

static void a_thread_has_its_own_roles_filter_and_not_its_creators(void **state)
{
    char said[1024];
    int status = child_outcome(THREAD_VCPU, do_start_worker, said);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EXIT_STATUS_INTERNAL);
    assert_string_equal(
        said, "skiff: sandbox: worker/0 called execve (59), which its role does not allow\n");
}

static void do_memory_and_messages(void)
{
    enum { BYTES = 4 << 20 };
    char *memory = g_malloc(BYTES);
    memset(memory, 1, BYTES);
    memory = g_realloc(memory, 2 * (gsize)BYTES);
    g_free(memory);
    fprintf(stderr, "%s\n", thread_name());
    raise(SIGCONT);
}

static void every_role_may_allocate_memory_and_log(void **state)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(all_roles); i++) {
        assert_may(all_roles[i], do_memory_and_messages);
    }
}

static void an_abort_is_still_an_abort(void **state)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(all_roles); i++) {
        char said[1024];
        int status = child_outcome(all_roles[i], abort, said);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
    }
}

/* ---- the table ---- */

/* A row without effect, since another row allows all calls of its roles. */
static bool row_is_needless(const SandboxRow *row)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false; /* their own rows cover others */
#endif
    for (unsigned i = 0; i < sandbox_row_count; i++) {
        const SandboxRow *other = &sandbox_rows[i];
        if (other != row && other->call == row->call && (other->roles & row->roles) == row->roles &&
            other->tests[0].count == 0) {
            return true;
        }
    }
    return false;
}

static void every_row_has_roles_and_a_reason_and_is_needed(void **state)
{
    for (unsigned i = 0; i < sandbox_row_count; i++) {
        const SandboxRow *row = &sandbox_rows[i];
        assert_true(row->roles != 0);
        assert_true(row->why != NULL && row->why[0] != '\0');
        if (row_is_needless(row)) {
            fail_msg("row %u (call %d: %s) is needless", i, row->call, row->why);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_may_run_programs_or_make_processes),
        cmocka_unit_test(none_may_access_the_rest_of_the_system),
        cmocka_unit_test(none_may_have_sockets_of_other_families),
        cmocka_unit_test(none_may_make_code),
        cmocka_unit_test(none_may_make_other_requests_of_devices),
        cmocka_unit_test(a_call_without_a_name_is_reported_by_its_number),
        cmocka_unit_test(a_call_of_another_table_kills),
        cmocka_unit_test(roles_have_calls_that_others_lack),
        cmocka_unit_test(an_iothread_and_a_vcpu_open_nothing),
        cmocka_unit_test(a_network_opens_sockets_and_reads_files),
        cmocka_unit_test(optional_calls_of_libraries_fail_without_a_violation),
        cmocka_unit_test(a_thread_has_its_own_roles_filter_and_not_its_creators),
        cmocka_unit_test(every_role_may_allocate_memory_and_log),
        cmocka_unit_test(an_abort_is_still_an_abort),
        cmocka_unit_test(every_row_has_roles_and_a_reason_and_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
