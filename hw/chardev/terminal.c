/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "hw/chardev/terminal.h"

/* Read by signal handlers. The settings change only while terminal_taken is false. */
static _Atomic int terminal_fd = -1;
static _Atomic bool terminal_taken;  /* the settings were read, in the foreground */
static _Atomic bool terminal_is_raw; /* terminal_restore() must restore them */
static _Atomic bool terminal_in_use; /* made raw since skiff came to the foreground */
static struct termios terminal_saved, terminal_raw;
static bool terminal_signals; /* main */
static AioBh *_Atomic terminal_resume_bh;

bool terminal_may_use(int fd)
{
    pid_t foreground = tcgetpgrp(fd);

    /* A descriptor that is not the controlling terminal, or is hung up, has no background. */
    return foreground < 0 || foreground == getpgrp();
}

/* Sets the terminal also from the background: SIGTTOU, which would stop the process, is blocked. At
 * exit this restores a terminal that skiff made raw. */
static void terminal_set(int fd, const struct termios *settings)
{
    sigset_t ttou, before;

    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &before);
    while (tcsetattr(fd, TCSANOW, settings) < 0 && errno == EINTR) {
        ;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void terminal_restore(void)
{
    int fd = atomic_load(&terminal_fd);

    if (fd >= 0 && atomic_exchange(&terminal_is_raw, false)) {
        terminal_set(fd, &terminal_saved);
    }
}

static void terminal_set_raw(int fd)
{
    atomic_store(&terminal_in_use, true);
    atomic_store(&terminal_is_raw, true);
    terminal_set(fd, &terminal_raw);
}

static void terminal_on_stop(int signal_number)
{
    int saved_errno = errno;
    struct sigaction stop = {.sa_handler = SIG_DFL}, handler;
    sigset_t unblock, before;

    terminal_restore();
    atomic_store(&terminal_in_use, false);
    sigaction(SIGTSTP, &stop, &handler);
    raise(SIGTSTP);
    sigemptyset(&unblock);
    sigaddset(&unblock, SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &unblock, &before); /* stops here */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sigaction(SIGTSTP, &handler, NULL);
    errno = saved_errno;
}

static void terminal_on_continue(int signal_number)
{
    int saved_errno = errno, fd = atomic_load(&terminal_fd);
    AioBh *bh = atomic_load(&terminal_resume_bh);

    atomic_store(&terminal_in_use, false);
    if (fd >= 0 && atomic_load(&terminal_taken) && terminal_may_use(fd)) {
        terminal_set_raw(fd);
    }
    if (bh) {
        aio_bh_schedule(bh); /* atomics and a write(2): async-signal-safe */
    }
    errno = saved_errno;
}

static void terminal_handle(int signal_number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    sigemptyset(&action.sa_mask);
    sigaction(signal_number, &action, NULL);
}

static void terminal_make_raw(struct termios *t, bool signals)
{
    t->c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t->c_oflag |= OPOST; /* log lines keep their carriage returns */
    t->c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | (signals ? 0 : ISIG));
    t->c_cflag = (t->c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    t->c_cc[VMIN] = 1;
    t->c_cc[VTIME] = 0;
}

bool terminal_use(void)
{
    int fd = atomic_load(&terminal_fd);

    if (fd < 0) {
        return true;
    }
    if (!terminal_may_use(fd)) {
        atomic_store(&terminal_in_use, false);
        return false;
    }
    if (!atomic_load(&terminal_taken)) {
        /* Not before: in the background the settings are those of the shell's line editor. */
        if (tcgetattr(fd, &terminal_saved) < 0) {
            return true;
        }
        terminal_raw = terminal_saved;
        terminal_make_raw(&terminal_raw, terminal_signals);
        atomic_store(&terminal_taken, true);
    }
    if (!atomic_load(&terminal_in_use)) {
        terminal_set_raw(fd);
    }
    return true;
}

void terminal_open(int fd, bool signals, AioBh *resume_bh)
{
    static bool registered;

    terminal_signals = signals;
    atomic_store(&terminal_taken, false);
    atomic_store(&terminal_in_use, false);
    atomic_store(&terminal_resume_bh, resume_bh);
    atomic_store(&terminal_fd, fd);
    if (!registered) {
        registered = true;
        atexit(terminal_restore);
    }
    terminal_handle(SIGTSTP, terminal_on_stop);
    terminal_handle(SIGCONT, terminal_on_continue);
    terminal_use();
}

void terminal_close(void)
{
    if (atomic_load(&terminal_fd) < 0) {
        return;
    }
    terminal_handle(SIGTSTP, SIG_DFL);
    terminal_handle(SIGCONT, SIG_DFL);
    terminal_restore();
    atomic_store(&terminal_fd, -1);
    atomic_store(&terminal_resume_bh, NULL);
}
