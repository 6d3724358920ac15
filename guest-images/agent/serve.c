/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serving one command. Everything is in one poll loop; nothing in it blocks:
 *
 *   port --frames--> [64 KiB of standard input] --> command
 *   port <--one frame at a time-- standard output, standard error <-- command
 *
 * The command ends with its process. Output written until then is sent; later output of processes
 * that it started is not.
 */
#include "guest-images/agent/agent.h"

#define SERVE_FIONREAD 0x541b
#define SERVE_SIGSET_BYTES 8

typedef struct ServeOutput {
    int fd; /* -1: ended, or without a reader */
    uint8_t type;
    uint32_t window;
    bool last;          /* the command has ended */
    unsigned remaining; /* then: bytes of its output that are not sent */
} ServeOutput;

typedef struct Serve {
    int port, signals;
    char **environment;
    int child; /* 0: not started */
    bool ended, said_exit, bye;
    int wait_status;

    ServeOutput out[2];
    int in_fd; /* -1: closed */
    bool in_end;
    uint32_t in_at, in_count, in_owed;
    uint8_t in_data[EXEC_WINDOW_BYTES];

    uint32_t rx_have;
    uint8_t rx[EXEC_HEADER_BYTES + EXEC_RUN_BYTES + EXEC_COMMAND_MAX + 1]; /* and a NUL */
    uint32_t tx_at, tx_size;
    uint8_t tx[EXEC_HEADER_BYTES + EXEC_DATA_MAX];
} Serve;

static unsigned get_u16(const uint8_t *at)
{
    return at[0] | (unsigned)at[1] << 8;
}

static uint32_t get_u32(const uint8_t *at)
{
    return get_u16(at) | (uint32_t)get_u16(at + 2) << 16;
}

static void put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static _Noreturn void serve_fail(const char *why)
{
    agent_fail(AGENT_FAILED, why, "");
}

/* ---- to skiff ---- */

/* Begins the next frame, once the last one is sent. The caller fills in its payload. */
static uint8_t *serve_begin_frame(Serve *s, uint8_t type, uint32_t size)
{
    s->tx[0] = type;
    s->tx[1] = 0;
    put_u16(s->tx + 2, size);
    s->tx_at = 0;
    s->tx_size = EXEC_HEADER_BYTES + size;
    return s->tx + EXEC_HEADER_BYTES;
}

static bool serve_sending(const Serve *s)
{
    return s->tx_at < s->tx_size;
}

static void serve_send(Serve *s)
{
    while (serve_sending(s)) {
        long n = sys_write(s->port, s->tx + s->tx_at, s->tx_size - s->tx_at);
        if (n == -EAGAIN || n == -EINTR) {
            return;
        }
        if (n <= 0) {
            serve_fail("the port cannot be written");
        }
        s->tx_at += (uint32_t)n;
    }
}

static void serve_close_output(ServeOutput *o)
{
    if (o->fd >= 0) {
        sys_close(o->fd);
        o->fd = -1;
    }
    o->remaining = 0;
}

/* Number of bytes that may be read now. */
static uint32_t serve_output_room(const ServeOutput *o)
{
    uint32_t room = o->window < EXEC_DATA_MAX ? o->window : EXEC_DATA_MAX;
    if (o->last && o->remaining < room) {
        room = o->remaining;
    }
    return o->fd >= 0 ? room : 0;
}

/* Makes a frame of the command's output. */
static void serve_read_output(Serve *s, ServeOutput *o)
{
    uint32_t room = serve_output_room(o);
    if (room == 0 || serve_sending(s)) {
        return;
    }
    long n = sys_read(o->fd, s->tx + EXEC_HEADER_BYTES, room);
    if (n > 0) {
        o->window -= (uint32_t)n;
        o->remaining -= o->last ? (uint32_t)n : 0;
        serve_begin_frame(s, o->type, (uint32_t)n);
        serve_send(s);
    } else if (n != -EAGAIN && n != -EINTR) {
        serve_close_output(o);
    }
}

/* The command has ended: the bytes in its pipes now are its last output. */
static void serve_count_remaining(ServeOutput *o)
{
    int bytes = 0;
    o->last = true;
    if (o->fd >= 0 && sys_ioctl(o->fd, SERVE_FIONREAD, &bytes) == 0 && bytes > 0) {
        o->remaining = (unsigned)bytes;
    } else {
        serve_close_output(o);
    }
}

static void serve_compose_exit(Serve *s)
{
    uint8_t *at = serve_begin_frame(s, EXEC_EXIT, 4);
    int signal = s->wait_status & 0x7f;
    at[0] = signal != 0 ? EXEC_EXIT_SIGNAL : EXEC_EXIT_STATUS;
    at[1] = (uint8_t)(signal != 0 ? signal : s->wait_status >> 8);
    put_u16(at + 2, 0);
    s->said_exit = true;
}

/* Builds the frames that are ready to be sent. */
static void serve_compose(Serve *s)
{
    if (!serve_sending(s) && s->in_owed >= EXEC_WINDOW_BYTES / 4) {
        uint8_t *at = serve_begin_frame(s, EXEC_STDIN_WINDOW, 4);
        put_u16(at, s->in_owed & 0xffff);
        put_u16(at + 2, s->in_owed >> 16);
        s->in_owed = 0;
    }
    if (!serve_sending(s) && s->ended && !s->said_exit && s->out[0].remaining == 0 &&
        s->out[1].remaining == 0) {
        serve_compose_exit(s);
    }
    serve_send(s);
}

/* ---- the command ---- */

static _Noreturn void serve_become_command(Serve *s, const int fds[3], char *command)
{
    static char *path[] = {(char *)"PATH=/sbin:/bin:/usr/sbin:/usr/bin", NULL};
    char *arguments[] = {(char *)"sh", (char *)"-c", command, NULL};
    uint64_t none = 0;
    uint64_t by_default[4] = {0}; /* struct sigaction: SIG_DFL */
    sys_call(__NR_setsid, 0, 0, 0, 0);
    sys_call(__NR_rt_sigaction, SIGPIPE, by_default, 0, SERVE_SIGSET_BYTES);
    sys_call(__NR_rt_sigprocmask, SIG_SETMASK, &none, 0, SERVE_SIGSET_BYTES);
    for (int i = 0; i < 3; i++) {
        sys_dup2(fds[i], i);
    }
    sys_call(__NR_execve, "/bin/sh", arguments, s->environment[0] != NULL ? s->environment : path,
             0);
    sys_write(2, "skiff-agent: cannot run /bin/sh\n", 32);
    sys_exit(127);
}

/* Makes a pipe whose two ends are above 2, so that dup2() to 0, 1 and 2 overwrites neither. */
static void serve_pipe(int fds[2])
{
    if (sys_pipe(fds) < 0) {
        serve_fail("no pipe");
    }
    for (int i = 0; i < 2; i++) {
        if (fds[i] <= 2) {
            int high = sys_fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
            sys_close(fds[i]);
            fds[i] = high;
        }
    }
}

static void serve_run(Serve *s, const uint8_t *payload, uint32_t size)
{
    int in[2], out[2], err[2];
    if (s->child != 0 || size < EXEC_RUN_BYTES || get_u16(payload) != EXEC_PROTOCOL_VERSION) {
        serve_fail("skiff uses another protocol version");
    }
    s->out[0].window = get_u32(payload + 4);
    s->out[1].window = get_u32(payload + 8);
    serve_pipe(in);
    serve_pipe(out);
    serve_pipe(err);
    s->child = sys_fork();
    if (s->child == 0) {
        const int fds[3] = {in[0], out[1], err[1]};
        serve_become_command(s, fds, (char *)(uintptr_t)(payload + EXEC_RUN_BYTES));
    }
    if (s->child < 0) {
        serve_fail("no process");
    }
    sys_close(in[0]);
    sys_close(out[1]);
    sys_close(err[1]);
    s->in_fd = in[1];
    s->out[0].fd = out[0];
    s->out[1].fd = err[0];
    sys_fcntl(s->in_fd, F_SETFL, O_NONBLOCK);
    sys_fcntl(out[0], F_SETFL, O_NONBLOCK);
    sys_fcntl(err[0], F_SETFL, O_NONBLOCK);
    s->in_owed = EXEC_WINDOW_BYTES;
}

/* Reaps all children: as process 1 the agent inherits those of other processes. */
static void serve_reap(Serve *s)
{
    uint8_t info[128];
    int status, pid;
    while (sys_read(s->signals, info, sizeof(info)) > 0) {
    }
    while ((pid = sys_wait_any(&status, WNOHANG)) > 0) {
        if (pid == s->child) {
            s->ended = true;
            s->wait_status = status;
            serve_count_remaining(&s->out[0]);
            serve_count_remaining(&s->out[1]);
        }
    }
}

/* ---- standard input ---- */

static void serve_close_input(Serve *s)
{
    sys_close(s->in_fd);
    s->in_fd = -1;
}

static void serve_write_input(Serve *s)
{
    while (s->in_fd >= 0 && s->in_count > 0) {
        uint32_t chunk = EXEC_WINDOW_BYTES - s->in_at;
        long n =
            sys_write(s->in_fd, s->in_data + s->in_at, s->in_count < chunk ? s->in_count : chunk);
        if (n == -EAGAIN || n == -EINTR) {
            return;
        }
        if (n < 0) { /* the command closed its input: no more room is granted */
            serve_close_input(s);
            return;
        }
        s->in_at = (s->in_at + (uint32_t)n) % EXEC_WINDOW_BYTES;
        s->in_count -= (uint32_t)n;
        s->in_owed += (uint32_t)n;
    }
    if (s->in_fd >= 0 && s->in_end) {
        serve_close_input(s);
    }
}

static void serve_take_input(Serve *s, const uint8_t *data, uint32_t size)
{
    if (size > EXEC_WINDOW_BYTES - s->in_count) {
        serve_fail("skiff sent more input than was granted");
    }
    for (uint32_t i = 0; i < size; i++) {
        s->in_data[(s->in_at + s->in_count + i) % EXEC_WINDOW_BYTES] = data[i];
    }
    s->in_count += size;
    serve_write_input(s);
}

/* ---- from skiff ---- */

static ServeOutput *serve_output(Serve *s, const uint8_t *payload, uint32_t size, uint32_t wanted)
{
    uint32_t stream = size == wanted ? get_u32(payload) : 0;
    if (stream != EXEC_STDOUT && stream != EXEC_STDERR) {
        serve_fail("skiff named no stream");
    }
    return &s->out[stream - EXEC_STDOUT];
}

static void serve_obey(Serve *s, uint8_t type, const uint8_t *payload, uint32_t size)
{
    switch (type) {
    case EXEC_RUN:
        serve_run(s, payload, size);
        break;
    case EXEC_STDIN:
        serve_take_input(s, payload, size);
        break;
    case EXEC_STDIN_END:
        s->in_end = true;
        serve_write_input(s);
        break;
    case EXEC_WINDOW:
        serve_output(s, payload, size, 8)->window += get_u32(payload + 4);
        break;
    case EXEC_CLOSE:
        serve_close_output(serve_output(s, payload, size, 4));
        break;
    case EXEC_BYE:
        s->bye = true;
        break;
    default:
        serve_fail("skiff sent a frame of unknown type");
    }
}

/* Reads the port, frame by frame. */
static void serve_receive(Serve *s)
{
    for (;;) {
        uint32_t want = EXEC_HEADER_BYTES;
        if (s->rx_have >= EXEC_HEADER_BYTES) {
            want += get_u16(s->rx + 2);
            if (want >= sizeof(s->rx)) {
                serve_fail("skiff sent a frame that is too large");
            }
        }
        if (s->rx_have == want) {
            s->rx[want] = '\0'; /* after the command */
            s->rx_have = 0;
            serve_obey(s, s->rx[0], s->rx + EXEC_HEADER_BYTES, want - EXEC_HEADER_BYTES);
            continue;
        }
        long n = sys_read(s->port, s->rx + s->rx_have, want - s->rx_have);
        if (n == -EAGAIN || n == -EINTR) {
            return;
        }
        if (n <= 0) {
            serve_fail("skiff has closed the port");
        }
        s->rx_have += (uint32_t)n;
    }
}

/* ---- the loop ---- */

static void serve_wait(Serve *s)
{
    bool sending = serve_sending(s);
    SysPoll polls[5] = {
        {.fd = s->port, .events = (short)(SYS_POLLIN | (sending ? SYS_POLLOUT : 0))},
        {.fd = s->signals, .events = SYS_POLLIN},
        {.fd = s->in_count > 0 ? s->in_fd : -1, .events = SYS_POLLOUT},
        {.fd = -1, .events = SYS_POLLIN},
        {.fd = -1, .events = SYS_POLLIN},
    };
    for (unsigned i = 0; i < 2 && !sending; i++) {
        polls[3 + i].fd = serve_output_room(&s->out[i]) > 0 ? s->out[i].fd : -1;
    }
    sys_poll(polls, 5, -1);
    if ((polls[0].revents & (SYS_POLLHUP | SYS_POLLERR)) != 0) {
        serve_fail("skiff has closed the port");
    }
}

static void serve_greet(Serve *s, bool powers_off)
{
    uint8_t *at = serve_begin_frame(s, EXEC_HELLO, EXEC_MAGIC_BYTES + 4);
    for (unsigned i = 0; i < EXEC_MAGIC_BYTES; i++) {
        at[i] = (uint8_t)EXEC_MAGIC[i];
    }
    put_u16(at + EXEC_MAGIC_BYTES, EXEC_PROTOCOL_VERSION);
    put_u16(at + EXEC_MAGIC_BYTES + 2, powers_off ? EXEC_HELLO_POWERS_OFF : 0);
}

void agent_serve(int port, bool powers_off, char **environment)
{
    static Serve s;
    uint64_t mask = 1ull << (SIGCHLD - 1) | 1ull << (SIGPIPE - 1);
    uint64_t child = 1ull << (SIGCHLD - 1);
    s.port = port;
    s.environment = environment;
    s.in_fd = s.out[0].fd = s.out[1].fd = -1;
    s.out[0].type = EXEC_STDOUT;
    s.out[1].type = EXEC_STDERR;
    sys_call(__NR_rt_sigprocmask, SIG_BLOCK, &mask, 0, SERVE_SIGSET_BYTES);
    s.signals =
        (int)sys_call(__NR_signalfd4, -1, &child, SERVE_SIGSET_BYTES, O_NONBLOCK | O_CLOEXEC);
    if (s.signals < 0) {
        serve_fail("no signalfd");
    }
    serve_greet(&s, powers_off);
    while (!s.bye) {
        serve_send(&s);
        serve_wait(&s);
        serve_send(&s);
        serve_receive(&s);
        serve_reap(&s);
        serve_write_input(&s);
        serve_compose(&s); /* first: continuous output must not delay input */
        serve_read_output(&s, &s.out[1]);
        serve_read_output(&s, &s.out[0]);
        serve_compose(&s);
    }
}
