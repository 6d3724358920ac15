/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input and output as a chardev on a terminal, whose settings every exit restores. Pipes
 * and files: test_stdio.
 *
 * Three processes, as under a shell: the test; a session leader that owns the terminal and watches
 * it; the guest process, in the foreground, in its own group (otherwise it cannot be stopped).
 */
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>
#include "tests/vmm/process/stdio_guest.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* ---- the leader's side ---- */

typedef struct Watch {
    int master;
    int slave; /* kept open, so that the settings outlive the guest process */
    struct termios before;
    pid_t guest;
} Watch;

static void watch_read_until(Watch *w, const char *text)
{
    char buf[4096] = "";
    size_t have = 0;

    while (!strstr(buf, text)) {
        ssize_t n = read(w->master, buf + have, sizeof(buf) - 1 - have);

        CHECK(n > 0);
        have += (size_t)n;
        buf[have] = '\0';
    }
}

static bool watch_is_raw(Watch *w)
{
    struct termios now;

    CHECK(tcgetattr(w->slave, &now) == 0);
    return !(now.c_lflag & ICANON);
}

static bool watch_is_restored(Watch *w)
{
    struct termios now;

    CHECK(tcgetattr(w->slave, &now) == 0);
    return now.c_iflag == w->before.c_iflag && now.c_oflag == w->before.c_oflag &&
           now.c_cflag == w->before.c_cflag && now.c_lflag == w->before.c_lflag &&
           !memcmp(now.c_cc, w->before.c_cc, sizeof(now.c_cc));
}

static void watch_say(Watch *w, const char *text)
{
    CHECK(write(w->master, text, strlen(text)) == (ssize_t)strlen(text));
}

static int watch_wait(Watch *w, int options)
{
    int status;

    CHECK(waitpid(w->guest, &status, options) == w->guest);
    return status;
}

typedef void GuestFn(void *arg);
typedef void WatchFn(Watch *w, void *arg);

typedef struct OnTerminal {
    GuestFn *guest;
    WatchFn *watch;
    void *arg;
    bool background; /* as after `skiff &` */
} OnTerminal;

/* Runs the guest with a terminal as its standard input and output, and the watch next to it. */
static void run_leader(const OnTerminal *t)
{
    Watch w;

    CHECK(setsid() > 0);
    signal(SIGTTOU, SIG_IGN);
    CHECK(openpty(&w.master, &w.slave, NULL, NULL, NULL) == 0);
    CHECK(ioctl(w.slave, TIOCSCTTY, 0) == 0);
    CHECK(tcgetattr(w.slave, &w.before) == 0);
    w.guest = fork();
    CHECK(w.guest >= 0);
    if (w.guest == 0) {
        CHECK(setpgid(0, 0) == 0);
        CHECK(t->background || tcsetpgrp(w.slave, getpid()) == 0);
        signal(SIGTTOU, SIG_DFL);
        if (!SANITIZED) { /* cmocka has its own handlers there */
            signal(SIGSEGV, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            signal(SIGFPE, SIG_DFL);
        }
        alarm(CHILD_TIMEOUT_S);
        CHECK(dup2(w.slave, STDIN_FILENO) == STDIN_FILENO);
        CHECK(dup2(w.slave, STDOUT_FILENO) == STDOUT_FILENO);
        close(w.slave);
        close(w.master);
        t->guest(t->arg);
        exit(0);
    }
    alarm(CHILD_TIMEOUT_S);
    t->watch(&w, t->arg);
    _exit(0);
}

static void on_terminal_child(void *arg)
{
    run_leader(arg);
}

static void on_terminal(GuestFn *guest, WatchFn *watch, void *arg)
{
    OnTerminal t = {.guest = guest, .watch = watch, .arg = arg};

    run_in_child(on_terminal_child, &t);
}

/* ---- exits ---- */

static void guest_exits(void *arg)
{
    Guest g = guest_begin("stdio,id=a,signal=off");

    guest_put(&g, "ready");
    guest_await(&g, "go\003\032"); /* Ctrl-C and Ctrl-Z are input */
    enter_main();
    CHECK(chardev_flush_all_blocking(10000));
}

static void watch_exit(Watch *w, void *arg)
{
    watch_read_until(w, "ready");
    CHECK(watch_is_raw(w));
    watch_say(w, "go\003\032");
    CHECK(watch_wait(w, 0) == 0);
    CHECK(watch_is_restored(w));
}

static void the_terminal_is_raw_and_restored_at_exit(void **state)
{
    on_terminal(guest_exits, watch_exit, NULL);
}

static void guest_dies(void *arg)
{
    Guest g = guest_begin("stdio,id=a");

    guest_put(&g, "ready");
    guest_await(&g, "go");
    guest_put(&g, "last words"); /* still in the ring */
    if (*(int *)arg == SIGABRT) {
        abort();
    }
    raise(*(int *)arg);
}

static void watch_death(Watch *w, void *arg)
{
    int status;

    watch_read_until(w, "ready");
    CHECK(watch_is_raw(w));
    watch_say(w, "go");
    watch_read_until(w, "last words");
    status = watch_wait(w, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == *(int *)arg);
    CHECK(watch_is_restored(w));
}

static void a_fatal_signal_restores_the_terminal_and_writes_the_rest(void **state)
{
    static int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE};
    struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none);
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
        bool sanitizers_own = signals[i] == SIGSEGV || signals[i] == SIGBUS || signals[i] == SIGFPE;

        if (!SANITIZED || !sanitizers_own) {
            on_terminal(guest_dies, watch_death, &signals[i]);
        }
    }
}

static void watch_ctrl_c(Watch *w, void *arg)
{
    int status;

    watch_read_until(w, "ready");
    watch_say(w, "\003");
    status = watch_wait(w, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    CHECK(watch_is_restored(w));
}

static void ctrl_c_ends_skiff_by_default(void **state)
{
    int signal_number = SIGINT;

    on_terminal(guest_dies, watch_ctrl_c, &signal_number);
}

/* ---- job control ---- */

static void guest_is_stopped(void *arg)
{
    Guest g = guest_begin("stdio,id=a,signal=off");

    guest_put(&g, "ready");
    guest_await(&g, "q"); /* in cooked mode it would not arrive without a newline */
    guest_put(&g, "back");
    guest_await(&g, "end");
}

static void watch_stop(Watch *w, void *arg)
{
    int status;

    watch_read_until(w, "ready");
    CHECK(watch_is_raw(w));
    CHECK(kill(w->guest, SIGTSTP) == 0);
    status = watch_wait(w, WUNTRACED);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
    CHECK(watch_is_restored(w));
    CHECK(kill(w->guest, SIGCONT) == 0);
    watch_say(w, "q");
    watch_read_until(w, "back");
    CHECK(watch_is_raw(w));
    watch_say(w, "end");
    CHECK(watch_wait(w, 0) == 0);
    CHECK(watch_is_restored(w));
}

static void a_stop_restores_the_terminal_until_cont(void **state)
{
    on_terminal(guest_is_stopped, watch_stop, NULL);
}

static void watch_background(Watch *w, void *arg)
{
    int status;

    watch_read_until(w, "ready");
    CHECK(kill(w->guest, SIGTSTP) == 0);
    status = watch_wait(w, WUNTRACED);
    CHECK(WIFSTOPPED(status));
    /* `bg`: it keeps running and does not change the terminal, which is the shell's now. */
    CHECK(tcsetpgrp(w->slave, getpgrp()) == 0);
    CHECK(kill(w->guest, SIGCONT) == 0);
    watch_wait(w, WCONTINUED);
    watch_say(w, "line\n");
    CHECK(kill(w->guest, SIGUSR1) == 0);
    watch_read_until(w, "in the background");
    CHECK(watch_is_restored(w));
    /* `fg` */
    CHECK(tcsetpgrp(w->slave, w->guest) == 0);
    CHECK(kill(w->guest, SIGCONT) == 0);
    watch_read_until(w, "got line");
    CHECK(watch_is_raw(w));
    watch_say(w, "end");
    CHECK(watch_wait(w, 0) == 0);
    CHECK(watch_is_restored(w));
}

static AioBh usr1_bh;
static bool usr1_seen;

static void see_usr1(void *opaque)
{
    usr1_seen = true;
}

/* Sent by the loop, since a signal just before its wait would not end it. */
static void on_usr1(int signal_number)
{
    aio_bh_schedule(&usr1_bh);
}

static void guest_in_background(void *arg)
{
    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    Guest g = guest_begin("stdio,id=a,signal=off");

    aio_bh_init(&usr1_bh, g.ctx, see_usr1, NULL);
    sigaction(SIGUSR1, &action, NULL);
    guest_put(&g, "ready");
    STEP_UNTIL(g.ctx, usr1_seen);
    chardev_harness_settle(g.ctx);
    CHECK(g.f->received->len == 0);
    guest_put(&g, "in the background");
    guest_await(&g, "line");
    guest_put(&g, "got line");
    guest_await(&g, "end");
}

static void in_the_background_the_terminal_is_not_changed(void **state)
{
    on_terminal(guest_in_background, watch_background, NULL);
}

/* The shell changes the settings meanwhile. */
static void watch_set_echo(Watch *w, bool on)
{
    struct termios now;

    CHECK(tcgetattr(w->slave, &now) == 0);
    now.c_lflag = on ? now.c_lflag | ECHO : now.c_lflag & ~(tcflag_t)ECHO;
    CHECK(tcsetattr(w->slave, TCSANOW, &now) == 0);
}

/* `skiff &`, `fg`: bash sends no SIGCONT to a running job. */
static void watch_brought_to_the_foreground(Watch *w, void *arg)
{
    watch_read_until(w, "here");
    watch_set_echo(w, false); /* a line editor's, when skiff starts */
    CHECK(kill(w->guest, SIGUSR1) == 0);
    watch_read_until(w, "ready");
    CHECK(!watch_is_raw(w));
    watch_set_echo(w, true);
    CHECK(tcsetpgrp(w->slave, w->guest) == 0);
    watch_say(w, "q");
    watch_read_until(w, "back");
    CHECK(watch_is_raw(w));
    watch_say(w, "end");
    CHECK(watch_wait(w, 0) == 0);
    CHECK(watch_is_restored(w));
}

static void guest_waits_for_the_foreground(void *arg)
{
    Guest g;
    sigset_t usr1, all;
    int signal_number;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, &all);
    CHECK(write(STDOUT_FILENO, "here", 4) == 4);
    CHECK(sigwait(&usr1, &signal_number) == 0);
    sigprocmask(SIG_SETMASK, &all, NULL);
    g = guest_begin("stdio,id=a,signal=off");
    guest_put(&g, "ready");
    guest_await(&g, "q");
    guest_put(&g, "back");
    guest_await(&g, "end");
}

static void in_the_foreground_the_terminal_is_made_raw(void **state)
{
    OnTerminal t = {.guest = guest_waits_for_the_foreground,
                    .watch = watch_brought_to_the_foreground,
                    .background = true};

    run_in_child(on_terminal_child, &t);
}

static void watch_end_in_the_background(Watch *w, void *arg)
{
    watch_read_until(w, "ready");
    watch_set_echo(w, false);
    CHECK(kill(w->guest, SIGUSR1) == 0);
    CHECK(watch_wait(w, 0) == 0);
    CHECK(!watch_is_restored(w)); /* as the shell has set it */
    watch_set_echo(w, true);
    CHECK(watch_is_restored(w));
}

static void guest_ends_in_the_background(void *arg)
{
    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    Guest g = guest_begin("stdio,id=a,signal=off");

    aio_bh_init(&usr1_bh, g.ctx, see_usr1, NULL);
    sigaction(SIGUSR1, &action, NULL);
    guest_put(&g, "ready");
    STEP_UNTIL(g.ctx, usr1_seen);
    CHECK(chardev_flush_all_blocking(10000));
}

static void a_terminal_that_was_never_raw_is_not_changed(void **state)
{
    OnTerminal t = {.guest = guest_ends_in_the_background,
                    .watch = watch_end_in_the_background,
                    .background = true};

    run_in_child(on_terminal_child, &t);
}

/* ---- the escape ---- */

static void count_call(void *opaque)
{
    ++*(int *)opaque;
}

static void guest_takes_no_input(void *arg)
{
    AioContext *ctx = chardev_harness_begin();
    int terminated = 0;
    char *message = chardev_harness_add(ctx, "stdio,id=a,signal=off,mux=on");
    RecordingFrontend *f = recording_frontend_new(0);
    Chardev *c;

    enter_main();
    CHECK(!message);
    aio_context_set_virtual_time(ctx, 1);
    chardev_set_terminate_handler(count_call, &terminated);
    c = chardev_claim("a", "test", NULL);
    chardev_attach(c, &recording_frontend_ops, f);
    chardev_write(c, (const uint8_t *)"ready", 5);
    while (!terminated) {
        /* Each turn a second passes: the port's queue fills, stalls, and is overrun. */
        aio_context_step(ctx, false);
        aio_context_set_virtual_time(ctx, aio_now_ns(ctx) + 1000000001);
    }
    CHECK(f->received->len == 0);
    CHECK(chardev_flush_all_blocking(10000));
}

static void watch_impatient(Watch *w, void *arg)
{
    char keys[3000];

    memset(keys, 'k', sizeof(keys));
    watch_read_until(w, "ready");
    for (int i = 0; i < 4; i++) {
        CHECK(write(w->master, keys, sizeof(keys)) == (ssize_t)sizeof(keys));
    }
    watch_say(w, "\001x");
    watch_read_until(w, "skiff: Terminated");
    CHECK(watch_wait(w, 0) == 0);
    CHECK(watch_is_restored(w));
}

static void ctrl_a_x_works_when_the_guest_takes_no_input(void **state)
{
    on_terminal(guest_takes_no_input, watch_impatient, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_terminal_is_raw_and_restored_at_exit),
        cmocka_unit_test(a_fatal_signal_restores_the_terminal_and_writes_the_rest),
        cmocka_unit_test(ctrl_c_ends_skiff_by_default),
        cmocka_unit_test(a_stop_restores_the_terminal_until_cont),
        cmocka_unit_test(in_the_background_the_terminal_is_not_changed),
        cmocka_unit_test(in_the_foreground_the_terminal_is_made_raw),
        cmocka_unit_test(a_terminal_that_was_never_raw_is_not_changed),
        cmocka_unit_test(ctrl_a_x_works_when_the_guest_takes_no_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
