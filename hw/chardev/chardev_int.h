/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ChardevStream: the common part of all chardev backends. Only for hw/chardev.
 *
 *   chardev_write()                                      main
 *        |                                                |
 *        v         written                                |
 *   ring [......ooooooooooo]  --> sink "out" (fd) : position <= written
 *               ^             \-> sink "log" (fd) : position <= written
 *               position
 *
 * With logtimestamp=on "log" has its own ring, in which each line begins with the time.
 *
 * Invariants
 *   1. Positions count bytes since the stream was made and only grow; byte p is at bytes[p % size]
 *      of the sink's ring.
 *   2. position <= written for each active sink; an inactive sink does not limit the ring.
 *   3. written - (least position of an active sink) <= STREAM_RING_BYTES - STREAM_TAIL_BYTES, so
 *      that the last STREAM_TAIL_BYTES written can always be shown.
 *   4. `written` and the positions change under `lock`; bytes between position and written are not
 *      changed, so a sink writes them out without the lock.
 *   5. Main uses descriptors, and one worker at a time those of a sink that may block.
 */
#ifndef SKIFF_HW_CHARDEV_CHARDEV_INT_H
#define SKIFF_HW_CHARDEV_CHARDEV_INT_H

#include <stdatomic.h>
#include <sys/types.h>
#include "util/loop/coroutine.h"
#include "util/loop/held.h"
#include "util/log.h"
#include "util/loop/worker.h"
#include "hw/chardev/chardev_set.h"

#define STREAM_RING_BYTES (72 * 1024)
#define STREAM_TAIL_BYTES (8 * 1024)
#define STREAM_RESERVE_BYTES (8 * 1024) /* a stopping vCPU's last access: a string of up to 4 KiB */
#define STREAM_INPUT_BYTES 4096
#define STREAM_PASSED_FDS 4 /* maximum in one message; further ones are not taken */

typedef struct ChardevStream ChardevStream;
typedef struct ChardevMux ChardevMux;

/* Whether and how a descriptor can be used without blocking main. */
typedef enum FdMode {
    FD_NONBLOCK, /* O_NONBLOCK on skiff's own description */
    FD_SOCKET,   /* an inherited socket: MSG_DONTWAIT */
    FD_POLLED,   /* inherited and no socket: a worker transfers when poll() reports it ready */
    FD_BLOCKING, /* a regular file or the like, always ready: a worker transfers */
} FdMode;

typedef enum SinkWork {
    SINK_IDLE,
    SINK_QUEUED, /* a worker is to write `chunk` bytes from `from`; another state cancels this */
    SINK_BUSY,   /* the worker is writing them */
    SINK_DONE,   /* the worker has written them; see `result` */
} SinkWork;

typedef struct StreamRing {
    uint8_t *bytes; /* STREAM_RING_BYTES; NULL: no such ring */
    _Atomic uint64_t written;
    bool stamped; /* each line begins with the time */
} StreamRing;

typedef struct ChardevWatch ChardevWatch;

typedef struct ChardevSink {
    ChardevStream *stream;
    StreamRing *ring; /* the ring it writes out */
    bool active;
    int fd;
    FdMode mode;
    const char *what; /* for messages; borrowed */
    _Atomic uint64_t position;
    AioHandler *handler; /* waits until writable; NULL otherwise */
    bool ready;          /* FD_POLLED: poll() reported it ready */
    bool running;        /* the coroutine that uses the worker exists */
    _Atomic int work;    /* SinkWork */
    uint64_t from;       /* position of the worker's chunk */
    size_t chunk;
    ssize_t result; /* bytes or -errno */
    LogLimit limit;
} ChardevSink;

typedef struct ChardevBackend {
    const char *name;
    const char *description;
    size_t instance_size;   /* of the struct that begins with a ChardevStream */
    const OptSpec *options; /* offsets into the instance; NULL: only the common options */
    /* Opens the backend from the bound options. After a failure `close` is called. */
    bool (*co_open)(ChardevStream *s, GError **error);
    /* Wakes all waits of the backend. Called before `close`, possibly twice, or while co_open is
     * under way; `closing` then keeps later code from waiting. May be NULL. */
    void (*stop)(ChardevStream *s);
    /* Removes the names that the backend has made in the file system. Async-signal-safe. May be
     * NULL. */
    void (*unlink)(ChardevStream *s);
    /* Releases what co_open took; sinks and input are stopped. May be NULL. */
    void (*close)(ChardevStream *s);
    /* Input ended and was stopped, or output failed and was stopped: the peer is closing or gone.
     * @error_number 0 is end of file. Called with 0 again when `ending` was set and the answers are
     * written out. May be NULL: input stays ended, and bytes that cannot be written are dropped. */
    void (*hangup)(ChardevStream *s, int error_number);
    /* Of a socket, else NULL: the connected socket, -1: none; and the end of the connection, which exists. */
    int (*connection)(const ChardevStream *s);
    void (*end_connection)(ChardevStream *s);
    /* Reads input, and stores descriptors that come with it in `passed_fds`. NULL: read(2). */
    ssize_t (*read)(ChardevStream *s, uint8_t *data, size_t size);
    /* Whether input may be read now (not by a terminal in the background). Called before each read,
     * and every 200 ms while it returns false. NULL: always. */
    bool (*may_read)(ChardevStream *s);
} ChardevBackend;

struct ChardevStream {
    Chardev base;

    /* config: bound from options */
    bool mux_wanted;
    char *logfile;
    bool logappend;
    bool logtimestamp;
    bool timestamps; /* initial value of ring.stamped */

    OptSpec *options_table; /* needed to free config; owned */

    const ChardevBackend *backend;
    bool opened;      /* co_open was called, so close must be */
    bool closing;     /* begins and waits for nothing new */
    bool output_lost; /* some output could not be written, see the log */
    AioContext *ctx;
    char *filename;      /* for query-chardev; owned */
    char *user;          /* who claimed it, or NULL */
    ChardevMux *mux;     /* NULL without mux=on */
    bool interactive;    /* a terminal with a user */
    ChardevStream *next; /* the process's list; main, and read by crash paths */

    RankMutex lock;
    StreamRing ring, log_ring; /* changed with the lock */
    int64_t start_ns;          /* origin of timestamps */
    bool line_start;           /* lock */
    bool want_room;            /* lock: a write was short */
    ChardevWatch *watch;       /* lock: a text that is looked for in the output; NULL: none */
    AioBh flush_bh;
    ChardevSink out, log;

    _Atomic bool connected;
    bool announce; /* CHARDEV_OPENED is due */
    bool ending;   /* the input has ended; hangup() follows once stream_is_answering() is false */
    int in_fd;     /* -1: no input */
    FdMode in_mode;
    AioHandler *in_handler;
    bool in_running; /* the coroutine that reads in a worker exists */
    AioBh input_bh;
    AioTimer may_read_timer;
    int passed_fds[STREAM_PASSED_FDS]; /* received with the current bytes */
    unsigned passed_count;
    unsigned coroutines; /* number of coroutines that use the stream */
    CoQueue idle;        /* stream_co_free() waits here for them to end */
    CoQueue flushed;     /* stream_co_flush() waits here */
};

extern const ChardevOps chardev_stream_ops;

/* ---- chardev_stream.c ---- */
extern WorkerLane stream_lane; /* transfers that may block: one job for each sink */
void stream_init(ChardevStream *s, const ChardevBackend *backend, AioContext *ctx, char *id_taken)
    RUNS_IN_MAIN;
/* Stops sinks and input (waits for workers), then frees. */
void stream_co_free(ChardevStream *s) coroutine_fn RUNS_IN_MAIN;
/* Waits until all output is written out or dropped. */
void stream_co_flush(ChardevStream *s) coroutine_fn RUNS_IN_MAIN;
/* Brackets a coroutine that uses the stream; the end is its last use of it. */
void stream_coroutine_begin(ChardevStream *s) RUNS_IN_MAIN;
void stream_coroutine_end(ChardevStream *s) RUNS_IN_MAIN;
/* Applies the options for time stamps, before the sinks start. */
void stream_set_up_stamps(ChardevStream *s) RUNS_IN_MAIN;
/* Reports a change to the frontend. */
void stream_set_connected(ChardevStream *s, bool connected) RUNS_IN_MAIN;
void stream_event(ChardevStream *s, ChardevEvent event) RUNS_IN_MAIN;
void stream_set_timestamps(ChardevStream *s, bool on) ANY_THREAD;
bool stream_timestamps(ChardevStream *s) ANY_THREAD;
/* Looks for a text in the output, in place of the one before. Takes @watch; NULL: none. */
void stream_watch(ChardevStream *s, ChardevWatch *watch) RUNS_IN_MAIN;
size_t stream_tail(ChardevStream *s, uint8_t *buf, size_t size) ANY_THREAD;
/* Called when output was written. Calls the frontend's `writable` after a short write when there is
 * room again, wakes stream_co_flush() when all is written, and completes `ending`. */
void stream_check_room(ChardevStream *s) RUNS_IN_MAIN;
/* Whether output for the peer is pending: in the frontend or in the ring. */
bool stream_is_answering(ChardevStream *s) RUNS_IN_MAIN;

/* ---- chardev_input.c ---- */
void stream_input_init(ChardevStream *s) RUNS_IN_MAIN;
/* Reads @fd from now on, while the frontend has room. The caller owns the descriptor. */
void stream_input_start(ChardevStream *s, int fd, FdMode mode) RUNS_IN_MAIN;
void stream_input_stop(ChardevStream *s) RUNS_IN_MAIN;
/* The frontend was attached, detached, or has room. */
void stream_input_kick(ChardevStream *s) RUNS_IN_MAIN;

/* ---- chardev_sink.c ---- */
void sink_init(ChardevSink *sink, ChardevStream *s) ANY_THREAD;
/* Writes output to @fd, beginning with the next byte. The caller owns the descriptor. */
void sink_start(ChardevSink *sink, int fd, FdMode mode, const char *what) RUNS_IN_MAIN;
/* Drops the output that is not written. A worker may still be in its last write. */
void sink_stop(ChardevSink *sink) RUNS_IN_MAIN;
/* Writes out as much as possible without blocking. */
void sink_kick(ChardevSink *sink) RUNS_IN_MAIN;
/* Writes out everything, blocking until @deadline_ns (CLOCK_MONOTONIC) at most. False: some is
 * left. */
bool sink_flush_blocking(ChardevSink *sink, int64_t deadline_ns) RUNS_IN_MAIN;
/* From a signal handler in any thread: async-signal-safe, best effort, bounded. */
void sink_flush_crash(ChardevSink *sink) ANY_THREAD;

/* ---- backends, in their own files ---- */
extern const ChardevBackend chardev_null_backend, chardev_stdio_backend, chardev_file_backend,
    chardev_pty_backend, chardev_socket_backend, chardev_inherited_backend;

/* ---- chardev_stdio.c ---- */
/* Standard input and output can have one user only. */
bool stdio_claim(GError **error) RUNS_IN_MAIN;
void stdio_release(void) RUNS_IN_MAIN;

/* ---- chardev_mux.c ---- */
ChardevMux *mux_new(ChardevStream *s) RUNS_IN_MAIN;
void mux_free(ChardevMux *mux) RUNS_IN_MAIN;
Chardev *mux_claim(ChardevMux *mux, const char *who, GError **error) RUNS_IN_MAIN;
bool mux_in_use(const ChardevMux *mux) RUNS_IN_MAIN;
/* Sends a break to the port that has the focus. */
void mux_send_break(ChardevMux *mux) RUNS_IN_MAIN;
bool mux_owns(const Chardev *c) ANY_THREAD;
bool mux_has_focus(const Chardev *c) RUNS_IN_MAIN; /* @c is one that mux_owns() */
void mux_release(Chardev *c) RUNS_IN_MAIN;
ChardevStream *mux_stream(const Chardev *c) ANY_THREAD;

/* ---- chardev.c ---- */
AioContext *chardev_context(void) ANY_THREAD;
uint8_t chardev_escape(void) RUNS_IN_MAIN;
bool chardev_input_held(void) RUNS_IN_MAIN;
void chardev_terminate(void) RUNS_IN_MAIN;
/* The list of all streams; ends with NULL. */
ChardevStream *chardev_streams(void) ANY_THREAD;
ChardevStream *chardev_find(const char *id) RUNS_IN_MAIN; /* NULL: none */
/* Adds a stream to the list. */
void chardev_enter(ChardevStream *s) RUNS_IN_MAIN;

/* ---- chardev_add.c ---- */
void chardev_add_setup(void) RUNS_IN_MAIN;
/* Removes the names that opening chardevs have made in the file system. Async-signal-safe. */
void chardev_unlink_opening(void) ANY_THREAD;
/* Waits until chardev @id, which was called off, is gone. */
void chardev_co_await_opening(const char *id) coroutine_fn RUNS_IN_MAIN;

/* ---- chardev_fd.c ---- */
/* A descriptor for @inherited that main can use without changing the shared description: a new
 * description if the kernel allows it, else the same number. The caller closes it if *@owned.
 * @flags is O_RDONLY or O_WRONLY. */
int chardev_fd_private(int inherited, int flags, FdMode *mode, bool *owned) ANY_THREAD;
/* The mode for writing @fd, which was opened with O_NONBLOCK: epoll reports when a FIFO or terminal
 * is writable; a file blocks on its disk. */
FdMode chardev_fd_mode(int fd) ANY_THREAD;
/* Why @path could not be opened for writing; examines the file system. Not to be freed. */
const char *chardev_open_failure(const char *path, int err) RUNS_IN_WORKER;
/* read(2)/write(2) as @mode requires. Bytes or -errno. */
ssize_t chardev_fd_read(int fd, FdMode mode, void *buf, size_t size) ANY_THREAD;
ssize_t chardev_fd_write(int fd, FdMode mode, const void *buf, size_t size) ANY_THREAD;

/* ---- chardev_watch.c ---- */
/* @fn is called in main once @text, which is not empty, has been fed. */
ChardevWatch *watch_new(AioContext *ctx, const char *text, void (*fn)(void *opaque), void *opaque)
    RUNS_IN_MAIN;
void watch_free(ChardevWatch *w) RUNS_IN_MAIN;
/* The next output; with the stream's lock. */
void watch_feed(ChardevWatch *w, const uint8_t *data, size_t size) ANY_THREAD;

#endif
