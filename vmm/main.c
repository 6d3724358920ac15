/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skiff's main(): from the command line to the exit status. Everything between runs on the main
 * loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "util/log.h"
#include "util/trace.h"
#include "util/loop/waitgraph.h"
#include "hw/chardev/chardev_set.h"
#include "hw/net/net_tap.h"
#include "vmm/process/daemon.h"
#include "vmm/process/notify.h"
#include "vmm/process/pidfile.h"
#include "vmm/process/run_with.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/exec/exec_vm.h"
#include "vmm/cmdline/restore_args.h"
#include "vmm/snapshot/prefault.h"
#include "vmm/snapshot/snapshot_job.h"
#include "vmm/snapshot/state_load.h"
#include "vmm/template/template.h"
#include "vmm/startup.h"

#define MAIN_FLUSH_BOUND_MS 2000
#define MAIN_TAIL_BYTES 8192 /* a Linux panic with its registers and backtrace */
#ifdef SKIFF_TESTING
#define MAIN_WATCHDOG_NS (INT64_C(20) * 1000000000)
#endif

typedef struct Main {
    VmConfig config;
    Vm vm;
    int signal_fd;
    bool sandbox;
    RunWith run_with;
    char *build_error;
} Main;

/* ---- process matters ---- */

/* Prints one line, even if it quotes several lines of the user's. */
static void main_print_error(const char *message)
{
    g_autofree char *line = opt_printable(message);
    fprintf(stderr, "skiff: %s\n", line);
}

/* A closed standard descriptor would be reused by the next opened file, a disk say, and output for
 * the user would be written into that. */
static bool main_fill_standard_fds(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
            return false;
        }
    }
    return true;
}

/* The requested output has been printed. */
static ExitStatus main_end_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return EXIT_STATUS_OK;
    }
    g_autofree char *message = g_strdup_printf("standard output: %s", g_strerror(errno));
    main_print_error(message);
    return EXIT_STATUS_USAGE;
}

typedef struct MainPidfile {
    const char *path;
    GError *error;
} MainPidfile;

static int main_write_pidfile_in_worker(void *opaque)
{
    enter_worker();
    MainPidfile *p = opaque;
    return pidfile_write(p->path, &p->error) ? 0 : -1;
}

static coroutine_fn RUNS_IN_MAIN bool main_co_write_pidfile(Main *m, GError **error)
{
    MainPidfile p = {.path = m->config.process.pidfile};
    if (p.path == NULL || co_run_in_worker(main_write_pidfile_in_worker, &p) == 0) {
        return true;
    }
    g_propagate_error(error, p.error);
    return false;
}

/* ---- signals: messages like any other ---- */

static void main_on_signal(void *opaque)
{
    enter_main();
    Main *m = opaque;
    struct signalfd_siginfo info;
    if (read(m->signal_fd, &info, sizeof(info)) != sizeof(info)) {
        return;
    }
    log_info("terminating on signal %d from process %d", (int)info.ssi_signo, (int)info.ssi_pid);
    vm_quit_because(&m->vm, EXIT_STATUS_OK, VM_CAUSE_HOST_SIGNAL);
}

static bool main_take_signals(Main *m, GError **error)
{
    sigset_t set;
    struct sigaction hangup;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
        sigaddset(&set, SIGHUP); /* nohup has it ignored; it must stay so */
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (m->signal_fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "signalfd: %s",
                    g_strerror(errno));
        return false;
    }
    static const AioHandlerOps ops = {.readable = main_on_signal};
    aio_handler_add(m->vm.ctx, m->signal_fd, &ops, m);
    return true;
}

static void main_terminate(void *opaque) /* Ctrl-A x */
{
    enter_main();
    Main *m = opaque;
    vm_quit_because(&m->vm, EXIT_STATUS_OK, VM_CAUSE_HOST_UI);
}

/* ---- start-up, on the loop ---- */

/* Everything on the command line is open: drops the privileges that are no longer needed. */
static coroutine_fn RUNS_IN_MAIN bool main_co_confine(Main *m, GError **error)
{
    if (m->config.process.daemonize && chdir("/") != 0) {
        log_warn("-daemonize: cannot leave the directory: %s", g_strerror(errno));
    }
    if (m->sandbox) {
        net_tap_forbid_programs();
    }
    return run_with_apply(&m->run_with, error) && (!m->sandbox || sandbox_co_enter(&m->vm, error));
}

static void main_start(void *opaque)
{
    enter_main();
    enter_coroutine();
    Main *m = opaque;
    g_autoptr(GError) error = NULL;
    vm_operation_begin(&m->vm.run);
    m->vm.run.run_requested = !m->config.life.start_stopped && !m->vm.life.quitting;
    const char *state = m->config.life.load_state, *tag = m->config.life.load_tag;
    bool ok = startup_co_build(&m->vm, &error) &&
              (state == NULL || state_load_co(&m->vm, state, m->config.life.map_state, &error)) &&
              (tag == NULL || snapshot_load_co_at_start(&m->vm, tag, &error)) &&
              main_co_write_pidfile(m, &error) && main_co_confine(m, &error);
    if (ok) {
        daemon_report(EXIT_STATUS_OK);
        co_vm_resume(&m->vm.run); /* unless a debugger has connected meanwhile */
        prefault_start();
    } else {
        m->build_error = g_strdup(error->message);
    }
    vm_operation_end(&m->vm.run);
    if (!ok) {
        m->vm.life.quitting = true; /* nothing to stop */
        m->vm.life.exit_status = EXIT_STATUS_USAGE;
        aio_context_quit(m->vm.ctx);
    }
}

static bool main_prepare(Main *m, GError **error)
{
    const VmConfig *config = &m->config;
    if ((config->process.log_file != NULL || config->process.log_timestamps) &&
        !log_open(config->process.log_file, config->process.log_timestamps)) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "-D %s: %s",
                    config->process.log_file, g_strerror(errno));
        return false;
    }
    for (unsigned i = 0; i < config->process.traces->len; i++) {
        if (!trace_configure(config->process.traces->pdata[i], error)) {
            return false;
        }
    }
    if (!sandbox_parse(config->process.sandbox, &m->sandbox, error) ||
        !run_with_parse(&m->run_with, config->process.run_with, error)) {
        return false;
    }
    if (config->process.daemonize && !daemon_fork(error)) {
        return false;
    }
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    AioContext *ctx = aio_context_new("main", error);
    if (ctx == NULL) {
        return false;
    }
    startup_init(&m->vm, config, ctx);
    chardev_set_terminate_handler(main_terminate, m);
    if (config->backends.escape_set) {
        chardev_set_escape(config->backends.escape);
    }
    return main_take_signals(m, error);
}

/* ---- exit ---- */

static void main_print_tail(Main *m)
{
    Chardev *console = m->vm.backends.console;
    uint8_t tail[MAIN_TAIL_BYTES];
    size_t size = console != NULL ? chardev_tail(console, tail, sizeof(tail)) : 0;
    if (size > 0) {
        fprintf(stderr, "skiff: the console's last lines:\n%.*s%s", (int)size, (char *)tail,
                tail[size - 1] == '\n' ? "" : "\n");
    }
}

/* Exits without freeing the VM: its storage is flushed and complete, and the kernel frees faster.
 * Never returns. */
static void main_exit(Main *m, int status)
{
    if (m->vm.ctx != NULL) {
        enter_main();
        notify_exit(status);
        if (!chardev_flush_all_blocking(MAIN_FLUSH_BOUND_MS)) {
            log_warn("console output was lost: its reader does not read");
        }
        chardev_leave();
        net_leave();
        g_autofree char *explanation = exec_vm_explain();
        g_autofree char *unsaved = m->build_error == NULL ? template_explain() : NULL;
        if (m->vm.life.show_console || (unsaved != NULL && status != EXIT_STATUS_USAGE) ||
            (explanation != NULL && exec_vm_console_explains())) {
            main_print_tail(m);
        }
        if (explanation != NULL) {
            main_print_error(explanation);
        }
        if (unsaved != NULL) {
            main_print_error(unsaved);
        }
    }
    pidfile_remove();
    if (m->build_error != NULL) {
        main_print_error(m->build_error);
    }
    /* A parent that still waits is waiting for a VM that failed to start, whatever the status. */
    daemon_report(status == EXIT_STATUS_OK ? EXIT_STATUS_USAGE : status);
    fflush(NULL);
    _exit(status);
}

static Main the_process; /* skiff-gdb.py refers to this name */

int main(int argc, char **argv)
{
    Main *m = &the_process;
    g_autoptr(GError) error = NULL;
    if (!main_fill_standard_fds()) {
        return EXIT_STATUS_USAGE; /* no output is possible */
    }
    /* A file that grows beyond `ulimit -f` gives an error, not a fatal signal. */
    signal(SIGXFSZ, SIG_IGN);
    startup_set_lists();
    vm_config_init(&m->config);
    if (restore_args_wanted(argc, argv)) {
        argv = restore_args_expand(argc, argv, &error); /* lives as long as the process */
        if (argv == NULL) {
            main_print_error(error->message);
            return EXIT_STATUS_USAGE;
        }
        argc = (int)g_strv_length(argv);
    }
    switch (cmdline_parse(&m->config, argc, argv, &error)) {
    case CMDLINE_DONE:
        return main_end_output();
    case CMDLINE_ERROR:
        main_print_error(error->message);
        return EXIT_STATUS_USAGE;
    case CMDLINE_RUN:
        break;
    }
    if (!main_prepare(m, &error)) {
        m->build_error = g_strdup(error->message);
        main_exit(m, EXIT_STATUS_USAGE);
    }
#ifdef SKIFF_TESTING
    wait_watchdog_start(MAIN_WATCHDOG_NS);
#endif
    co_start(m->vm.ctx, main_start, m);
    aio_context_run(m->vm.ctx);
    main_exit(m, m->vm.life.exit_status);
}
