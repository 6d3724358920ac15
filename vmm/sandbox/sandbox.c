/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox/sandbox.h"

#include <errno.h>
#include <execinfo.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "block/engine/engine.h"
#include "block/nbd/nbd.h"
#include "migration/ram/capture.h"
#include "util/log.h"
#include "util/tls.h"
#include "util/loop/thread_spawner.h"
#include "util/crash.h"
#include "vmm/sandbox/sandbox_int.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code of a SIGSYS that a filter sent: asm-generic/siginfo.h */
#endif

#define SANDBOX_ROLES (THREAD_NETWORK + 1)
/* skiff's threads run no foreign code, so they need no protection from speculation, which would
 * slow them down, vCPUs included. */
#define SANDBOX_FLAGS SECCOMP_FILTER_FLAG_SPEC_ALLOW

static SandboxFilter sandbox_base, sandbox_of_role[SANDBOX_ROLES];

static const char *const sandbox_call_names[] = {
#include "syscall_names.h"
};

/* ---- -sandbox ---- */

typedef struct SandboxOptions {
    bool enable;
    char *obsolete, *elevateprivileges, *spawn, *resourcecontrol;
} SandboxOptions;

static const OptSpec sandbox_options[] = {
    OPT_SPEC(SandboxOptions, "enable", OPT_BOOL, enable, .required = true),
    OPT_SPEC(SandboxOptions, "obsolete", OPT_STRING, obsolete, .def = "deny"),
    OPT_SPEC(SandboxOptions, "elevateprivileges", OPT_STRING, elevateprivileges, .def = "deny"),
    OPT_SPEC(SandboxOptions, "spawn", OPT_STRING, spawn, .def = "deny"),
    OPT_SPEC(SandboxOptions, "resourcecontrol", OPT_STRING, resourcecontrol, .def = "deny"),
    {0},
};

static bool sandbox_denies(const char *key, const char *value, GError **error)
{
    if (strcmp(value, "deny") == 0) {
        return true;
    }
    g_autofree char *excerpt = opt_excerpt(value);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                "-sandbox: %s=%s: skiff has only %s=deny, which is always in effect", key, excerpt,
                key);
    return false;
}

bool sandbox_parse(const OptDict *options, bool *on, GError **error)
{
    SandboxOptions o;
    *on = false;
    if (options == NULL) {
        return true;
    }
    opts_init(sandbox_options, &o);
    if (!opts_bind(sandbox_options, &o, options, "-sandbox", error)) {
        return false;
    }
    bool ok = sandbox_denies("obsolete", o.obsolete, error) &&
              sandbox_denies("elevateprivileges", o.elevateprivileges, error) &&
              sandbox_denies("spawn", o.spawn, error) &&
              sandbox_denies("resourcecontrol", o.resourcecontrol, error);
    *on = ok && o.enable;
    opts_clear(sandbox_options, &o);
    return ok;
}

/* ---- violations ---- */

typedef struct SandboxLine {
    char text[160];
    size_t length;
} SandboxLine;

static void sandbox_line_add(SandboxLine *line, const char *text)
{
    while (*text != '\0' && line->length < sizeof(line->text)) {
        line->text[line->length++] = *text++;
    }
}

static void sandbox_line_add_number(SandboxLine *line, unsigned number)
{
    char digits[12] = {0};
    unsigned at = sizeof(digits) - 1;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    sandbox_line_add(line, digits + at);
}

/* Uses only write(2): this is a signal handler. */
static void sandbox_report(unsigned call)
{
    SandboxLine line = {.length = 0};
    const char *name = call < G_N_ELEMENTS(sandbox_call_names) ? sandbox_call_names[call] : NULL;
    sandbox_line_add(&line, "skiff: sandbox: ");
    sandbox_line_add(&line, thread_name());
    sandbox_line_add(&line, " called ");
    sandbox_line_add(&line, name != NULL ? name : "a system call without a name");
    sandbox_line_add(&line, " (");
    sandbox_line_add_number(&line, call);
    sandbox_line_add(&line, "), which its role does not allow\n");
    ssize_t written = write(log_fd(), line.text, line.length);
    (void)written;
}

/* A second violation, inside the crash hook, ends the process at once. */
static void sandbox_on_violation(int signal_number, siginfo_t *info, void *context)
{
    static atomic_flag begun = ATOMIC_FLAG_INIT;
    if (info->si_code != SYS_SECCOMP) { /* sent by kill -SYS */
        signal(signal_number, SIG_DFL);
        raise(signal_number);
        return;
    }
    if (!atomic_flag_test_and_set(&begun)) {
        sandbox_report((unsigned)info->si_syscall);
        crash_run_hook();
    }
    _exit(EXIT_STATUS_INTERNAL);
}

/* Not masked while it runs, so that a violation inside it is handled too. */
static void sandbox_catch_violations(void)
{
    struct sigaction action = {.sa_sigaction = sandbox_on_violation,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    sigaction(SIGSYS, &action, NULL);
}

/* ---- entering the sandbox ---- */

static bool sandbox_install(const SandboxFilter *filter, unsigned flags)
{
    struct sock_fprog program = filter->program;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SANDBOX_FLAGS, &program) == 0;
}

/* The start hook: runs first in every thread. */
static void sandbox_enter_role(ThreadRole role)
{
    if (role != THREAD_NONE && !sandbox_install(&sandbox_of_role[role], 0)) {
        bug_abort("-sandbox: the filter of '%s' cannot be installed: %s", thread_name(),
                  g_strerror(errno));
    }
}

static bool sandbox_build(GError **error)
{
    sandbox_own_process = (uint64_t)getpid();
    if (!sandbox_filter_build(&sandbox_base, UINT32_MAX, error)) {
        return false;
    }
    for (unsigned role = THREAD_MAIN; role < SANDBOX_ROLES; role++) {
        if (!sandbox_filter_build(&sandbox_of_role[role], 1u << role, error)) {
            return false;
        }
    }
    return true;
}

/* Triggers what libraries load or read at first use, which the filters would refuse later. */
static void sandbox_warm_up(void)
{
    void *frame;
    backtrace(&frame, 1);
    tzset();
    g_free(g_locale_to_utf8("text", -1, NULL, NULL, NULL)); /* like g_strerror() */
    /* For disks and exports that are added later. What is not installed is reported then. */
    tls_load_library(NULL);
    nbd_client_load_library(NULL);
}

static bool sandbox_fail(const char *what, GError **error)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "-sandbox on: %s: %s%s", what,
                g_strerror(err),
                err == EINVAL || err == ENOSYS ? "; this kernel has no seccomp filters" : "");
    return false;
}

bool sandbox_begin(GError **error)
{
    if (!sandbox_build(error)) {
        return false;
    }
    sandbox_warm_up();
    sandbox_catch_violations();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return sandbox_fail("no new privileges", error);
    }
    if (!thread_spawner_start()) {
        return sandbox_fail("cannot start a thread", error);
    }
    if (!sandbox_install(&sandbox_base, SECCOMP_FILTER_FLAG_TSYNC)) {
        return sandbox_fail("seccomp", error);
    }
    thread_set_start_hook(sandbox_enter_role);
    return true;
}

static void sandbox_in_iothread(void *opaque)
{
    AioContext *ctx = opaque;
    enter_coroutine();
    enter_iothread(ctx);
    thread_run_start_hook();
}

static void sandbox_in_vcpu(Vcpu *v, void *opaque)
{
    enter_vcpu();
    thread_run_start_hook();
}

/* A filter cannot inspect io_uring requests, so no rings are created later: each iothread has its
 * restricted ring now, and keeps it for disks added later. A few spare rings are for iothreads
 * added later. A host without io_uring needs none. */
static coroutine_fn RUNS_IN_MAIN void sandbox_co_make_rings(Vm *vm)
{
    for (unsigned i = 0; i < vm->backends.iothreads->len; i++) {
        g_autoptr(GError) error = NULL;
        block_co_engine_get(iothread_context(vm->backends.iothreads->pdata[i]),
                            BLOCK_ENGINE_IO_URING, &error);
    }
    block_engine_make_spare_rings(BLOCK_SPARE_RINGS_MAX);
}

bool sandbox_co_enter(Vm *vm, GError **error)
{
    sandbox_co_make_rings(vm);
    capture_forbid("-sandbox on allows neither a further process nor userfaultfd");
    if (!sandbox_begin(error)) {
        return false;
    }
    for (unsigned i = 0; i < vm->backends.iothreads->len; i++) {
        AioContext *ctx = iothread_context(vm->backends.iothreads->pdata[i]);
        co_call_in(ctx, sandbox_in_iothread, ctx);
    }
    for (unsigned i = 0; i < vcpus_count(vm->machine.vcpus); i++) {
        vcpus_co_call(vm->machine.vcpus, i, sandbox_in_vcpu, NULL);
    }
    thread_run_start_hook(); /* main's; each worker installs its filter before its next job */
    return true;
}
