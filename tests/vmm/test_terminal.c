/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input and output as a chardev, in a process of its own: what it does to the descriptors
 * it inherited, and that the terminal is as it was on every way out.
 *
 * Three processes, as under a shell: the test; a session leader that owns the terminal and watches;
 * the guest process, in the foreground, in a group of its own (only then can it be stopped).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/support/chardev_harness.h"

#define CHILD_TIMEOUT_S 60

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* ---- in children: no cmocka, the exit status tells ---- */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(STDERR_FILENO, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__,           \
                    #condition, errno);                                                            \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

typedef struct Guest {
    AioContext *ctx;
    Chardev *c;
    RecordingFrontend *f;
} Guest;

static Guest guest_begin(const char *options)
{
    Guest g = {.ctx = chardev_harness_begin(), .f = recording_frontend_new(1 << 20)};
    char *message = chardev_harness_add(g.ctx, options);

    enter_main();
    CHECK(!message);
    g.c = chardev_claim("a", "test", NULL);
    CHECK(g.c);
    chardev_attach(g.c, &recording_frontend_ops, g.f);
    chardev_harness_settle(g.ctx);
    return g;
}

static void guest_put(Guest *g, const char *text)
{
    CHECK(chardev_write(g->c, (const uint8_t *)text, strlen(text)) == strlen(text));
}

/* Runs until @text has come as input. */
static void guest_await(Guest *g, const char *text)
{
    STEP_UNTIL(g->ctx, strstr(g->f->received->str, text));
}

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

/* Runs @guest with a terminal as its standard input and output, in the foreground, and @watch
 * beside it. */
static void run_leader(GuestFn *guest, WatchFn *watch, void *arg)
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
        CHECK(tcsetpgrp(w.slave, getpid()) == 0);
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
        guest(arg);
        exit(0);
    }
    alarm(CHILD_TIMEOUT_S);
    watch(&w, arg);
    _exit(0);
}

static void run_in_child(void (*fn)(void *arg), void *arg)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(CHILD_TIMEOUT_S);
        fn(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

typedef struct OnTerminal {
    GuestFn *guest;
    WatchFn *watch;
    void *arg;
} OnTerminal;

static void on_terminal_child(void *arg)
{
    OnTerminal *t = arg;

    run_leader(t->guest, t->watch, t->arg);
}

static void on_terminal(GuestFn *guest, WatchFn *watch, void *arg)
{
    OnTerminal t = {.guest = guest, .watch = watch, .arg = arg};

    run_in_child(on_terminal_child, &t);
}

/* ---- ways out ---- */

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

static void a_fatal_signal_restores_it_and_writes_what_is_left(void **state)
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

static void ctrl_c_ends_skiff_unless_told_otherwise(void **state)
{
    int signal_number = SIGINT;

    on_terminal(guest_dies, watch_ctrl_c, &signal_number);
}

/* ---- job control ---- */

static void guest_is_stopped(void *arg)
{
    Guest g = guest_begin("stdio,id=a,signal=off");

    guest_put(&g, "ready");
    guest_await(&g, "q"); /* in cooked mode it would not come without a newline */
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

static void being_stopped_gives_the_terminal_back_meanwhile(void **state)
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
    /* `bg`: it runs on, and leaves the terminal, which is the shell's now, alone. */
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

static volatile sig_atomic_t usr1_seen;

static void on_usr1(int signal_number)
{
    usr1_seen = 1;
}

static void guest_in_background(void *arg)
{
    struct sigaction action = {.sa_handler = on_usr1}; /* no SA_RESTART: ends the wait */
    Guest g = guest_begin("stdio,id=a,signal=off");

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

static void in_the_background_the_terminal_is_left_alone(void **state)
{
    on_terminal(guest_in_background, watch_background, NULL);
}

/* ---- pipes and files ---- */

typedef struct Pipes {
    int in[2], out[2];
} Pipes;

static void use_pipes(Pipes *p)
{
    CHECK(pipe2(p->in, O_CLOEXEC) == 0 && pipe2(p->out, O_CLOEXEC) == 0);
    CHECK(dup2(p->in[0], STDIN_FILENO) == STDIN_FILENO);
    CHECK(dup2(p->out[1], STDOUT_FILENO) == STDOUT_FILENO);
    close(p->in[0]);
    close(p->out[1]);
}

static void child_pipes(void *arg)
{
    Pipes p;
    char buf[16];
    Guest g;

    use_pipes(&p);
    g = guest_begin("stdio,id=a");
    CHECK(write(p.in[1], "input", 5) == 5);
    guest_await(&g, "input");
    guest_put(&g, "output");
    chardev_harness_settle(g.ctx);
    CHECK(read(p.out[0], buf, sizeof(buf)) == 6);
    CHECK(!(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK));
    CHECK(!(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK));
    /* End of input: the loop has nothing more to do, and output goes on. */
    close(p.in[1]);
    chardev_harness_settle(g.ctx);
    CHECK(!aio_context_step(g.ctx, false));
    CHECK(chardev_connected(g.c));
    guest_put(&g, "more");
    chardev_harness_settle(g.ctx);
    CHECK(read(p.out[0], buf, sizeof(buf)) == 4);
}

static void pipes_stay_blocking_and_end_of_input_is_calm(void **state)
{
    run_in_child(child_pipes, NULL);
}

static void child_slow_pipe(void *arg)
{
    static char line[1024], buf[1024];
    size_t sent = 0, got = 0;
    Pipes p;
    Guest g;

    memset(line, 'x', sizeof(line));
    use_pipes(&p);
    CHECK(fcntl(p.out[0], F_SETFL, O_NONBLOCK) == 0);
    g = guest_begin("stdio,id=a");
    for (;;) { /* pipe, then ring, are full */
        size_t n = chardev_write(g.c, (const uint8_t *)line, sizeof(line));

        sent += n;
        chardev_harness_settle(g.ctx);
        if (n < sizeof(line)) {
            break;
        }
    }
    CHECK(!aio_context_step(g.ctx, false));
    while (got < sent) {
        ssize_t n = read(p.out[0], buf, sizeof(buf));

        if (n > 0) {
            got += (size_t)n;
        } else {
            aio_context_step(g.ctx, true);
        }
    }
    STEP_UNTIL(g.ctx, g.f->writable > 0);
}

static void a_slow_reader_gets_every_byte(void **state)
{
    run_in_child(child_slow_pipe, NULL);
}

static void child_broken_pipe(void *arg)
{
    Pipes p;
    Guest g;

    use_pipes(&p);
    g = guest_begin("stdio,id=a");
    close(p.out[0]);
    for (int i = 0; i < 100; i++) {
        g_autofree char *big = g_strnfill(10000, 'x');

        guest_put(&g, big);
        chardev_harness_settle(g.ctx);
    }
    CHECK(!aio_context_step(g.ctx, false));
    CHECK(write(p.in[1], "input", 5) == 5);
    guest_await(&g, "input");
}

static void a_reader_that_is_gone_costs_the_output_only(void **state)
{
    run_in_child(child_broken_pipe, NULL);
}

static void child_files(void *arg)
{
    char name[] = "/tmp/skiff-stdio-XXXXXX", buf[64] = "";
    int in = open("/dev/null", O_RDONLY), out = mkstemp(name);
    Guest g;

    CHECK(dup2(in, STDIN_FILENO) == STDIN_FILENO && dup2(out, STDOUT_FILENO) == STDOUT_FILENO);
    CHECK(write(STDOUT_FILENO, "before ", 7) == 7);
    g = guest_begin("stdio,id=a");
    guest_put(&g, "during ");
    enter_main();
    CHECK(chardev_flush_all_blocking(10000));
    CHECK(write(STDOUT_FILENO, "after", 5) == 5);
    CHECK(pread(out, buf, sizeof(buf) - 1, 0) == 19);
    CHECK(!strcmp(buf, "before during after"));
    unlink(name);
}

static void a_file_keeps_its_place_for_who_shares_it(void **state)
{
    run_in_child(child_files, NULL);
}

static void child_script(void *arg)
{
    char name[] = "/tmp/skiff-stdio-XXXXXX";
    int in = mkstemp(name), null = open("/dev/null", O_WRONLY);
    Guest g;

    unlink(name);
    for (int i = 0; i < 2000; i++) {
        CHECK(write(in, "command\n", 8) == 8);
    }
    CHECK(lseek(in, 0, SEEK_SET) == 0);
    CHECK(dup2(in, STDIN_FILENO) == STDIN_FILENO && dup2(null, STDOUT_FILENO) == STDOUT_FILENO);
    g = guest_begin("stdio,id=a");
    STEP_UNTIL(g.ctx, g.f->received->len == 16000);
    guest_put(&g, "into the void");
    chardev_harness_settle(g.ctx);
}

static void input_from_a_file_arrives_whole(void **state)
{
    run_in_child(child_script, NULL);
}

static void child_twice(void *arg)
{
    Pipes p;
    Guest g;
    char *message;

    use_pipes(&p);
    g = guest_begin("stdio,id=a");
    message = chardev_harness_add(g.ctx, "stdio,id=b");
    CHECK(message && strstr(message, "stdio is used already"));
}

static void it_is_used_once(void **state)
{
    run_in_child(child_twice, NULL);
}

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

static void ctrl_a_x_works_when_the_guest_takes_nothing(void **state)
{
    on_terminal(guest_takes_no_input, watch_impatient, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_terminal_is_raw_and_restored_at_exit),
        cmocka_unit_test(a_fatal_signal_restores_it_and_writes_what_is_left),
        cmocka_unit_test(ctrl_c_ends_skiff_unless_told_otherwise),
        cmocka_unit_test(being_stopped_gives_the_terminal_back_meanwhile),
        cmocka_unit_test(in_the_background_the_terminal_is_left_alone),
        cmocka_unit_test(pipes_stay_blocking_and_end_of_input_is_calm),
        cmocka_unit_test(a_slow_reader_gets_every_byte),
        cmocka_unit_test(a_reader_that_is_gone_costs_the_output_only),
        cmocka_unit_test(a_file_keeps_its_place_for_who_shares_it),
        cmocka_unit_test(input_from_a_file_arrives_whole),
        cmocka_unit_test(it_is_used_once),
        cmocka_unit_test(ctrl_a_x_works_when_the_guest_takes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
