/* SPDX-License-Identifier: Apache-2.0 */
#include "util/sys/sys_fault.h"

#ifdef SKIFF_TESTING
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <liburing.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SYS_SLICE_IOV 64

static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fault_changed = PTHREAD_COND_INITIALIZER;
static _Atomic bool fault_armed; /* false: no call takes the lock */
static SysFault fault;
static unsigned fault_call_count, fault_hit_count;
static unsigned fault_held, fault_generation; /* a new generation releases held calls */
static void (*fault_hook)(void *arg, const char *call);
static void *fault_hook_arg;
static const char *fault_log_path; /* of the plan from the environment; NULL: none */
static __thread bool fault_in_hook;

int __real_open(const char *path, int flags, ...);
int __real_close(int fd);
ssize_t __real_write(int fd, const void *buf, size_t bytes);

/* ---- the plan ---- */

static bool fault_names(const char *calls, const char *call)
{
    size_t len = strlen(call);
    for (const char *p = calls; p != NULL; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, call, len) == 0 && (p[len] == ',' || p[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static void fault_append_log(const char *call, int error)
{
    char line[80];
    int len = snprintf(line, sizeof(line), "%s: %s\n", call, strerror(error));
    int fd = __real_open(fault_log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ssize_t put = __real_write(fd, line, (size_t)len);
        (void)put;
        __real_close(fd);
    }
}

/* Counts a matching call; returns whether it is hit. Called with the lock. */
static bool fault_count_call(const char *call)
{
    unsigned number = fault_call_count++;
    if (number < fault.after || (fault.count != 0 && number - fault.after >= fault.count)) {
        return false;
    }
    fault_hit_count++;
    if (fault_log_path != NULL) {
        fault_append_log(call, fault.error);
    }
    return true;
}

static void fault_wait_released(void)
{
    unsigned generation = fault_generation;
    fault_held++;
    pthread_cond_broadcast(&fault_changed);
    while (generation == fault_generation) {
        pthread_cond_wait(&fault_changed, &fault_lock);
    }
    fault_held--;
}

static void fault_call_hook(const char *call)
{
    void (*hook)(void *, const char *) = fault_hook;
    void *arg = fault_hook_arg;
    if (hook != NULL) {
        pthread_mutex_unlock(&fault_lock);
        fault_in_hook = true;
        hook(arg, call);
        fault_in_hook = false;
        pthread_mutex_lock(&fault_lock);
    }
}

/* True: @call fails, with errno set. *@bytes is set to the most that it may transfer. */
static bool fault_apply(const char *call, size_t *bytes)
{
    if (!atomic_load(&fault_armed) || fault_in_hook) {
        return false;
    }
    int error = 0;
    pthread_mutex_lock(&fault_lock);
    if (fault_names(fault.calls, call)) {
        fault_call_hook(call);
    }
    if (fault_names(fault.calls, call) && fault_count_call(call)) {
        error = fault.error;
        if (bytes != NULL && fault.bytes != 0 && *bytes > fault.bytes) {
            *bytes = fault.bytes;
        }
        if (fault.hold) {
            fault_wait_released();
        }
    }
    pthread_mutex_unlock(&fault_lock);
    if (error != 0) {
        errno = error;
    }
    return error != 0;
}

static void fault_release_locked(void)
{
    fault.hold = false;
    fault_generation++;
    pthread_cond_broadcast(&fault_changed);
}

void sys_fault_set(const SysFault *f)
{
    pthread_mutex_lock(&fault_lock);
    fault_release_locked();
    fault = f != NULL ? *f : (SysFault){0};
    fault_call_count = fault_hit_count = 0;
    fault_log_path = NULL;
    atomic_store(&fault_armed, f != NULL);
    pthread_mutex_unlock(&fault_lock);
}

unsigned sys_fault_calls(void)
{
    pthread_mutex_lock(&fault_lock);
    unsigned count = fault_call_count;
    pthread_mutex_unlock(&fault_lock);
    return count;
}

unsigned sys_fault_hits(void)
{
    pthread_mutex_lock(&fault_lock);
    unsigned count = fault_hit_count;
    pthread_mutex_unlock(&fault_lock);
    return count;
}

void sys_fault_await_held(void)
{
    pthread_mutex_lock(&fault_lock);
    while (fault_held == 0) {
        pthread_cond_wait(&fault_changed, &fault_lock);
    }
    pthread_mutex_unlock(&fault_lock);
}

void sys_fault_release(void)
{
    pthread_mutex_lock(&fault_lock);
    fault_release_locked();
    pthread_mutex_unlock(&fault_lock);
}

void sys_fault_hook(void (*fn)(void *arg, const char *call), void *arg)
{
    pthread_mutex_lock(&fault_lock);
    fault_hook = fn;
    fault_hook_arg = arg;
    pthread_mutex_unlock(&fault_lock);
}

/* Before main(), so that the first call of the process is counted too. */
__attribute__((constructor)) static void fault_read_environment(void)
{
    static char calls[256];
    unsigned number, error;
    const char *text = getenv("SKIFF_SYS_FAULT");
    if (text == NULL) {
        return;
    }
    if (sscanf(text, "%255[a-z0-9_,]:%u:%u", calls, &number, &error) != 3 || number == 0) {
        fprintf(stderr, "SKIFF_SYS_FAULT=%s: not CALLS:N:ERRNO\n", text);
        abort();
    }
    sys_fault_set(
        &(SysFault){.calls = calls, .after = number - 1, .count = 1, .error = (int)error});
    fault_log_path = getenv("SKIFF_SYS_FAULT_LOG");
}

/* ---- a device file that a test plays ---- */

static const SysDevice *_Atomic sys_device;

void sys_device_set(const SysDevice *device)
{
    atomic_store(&sys_device, device);
}

/* The device whose descriptor @fd is, or NULL. */
static const SysDevice *sys_device_of(int fd)
{
    const SysDevice *d = atomic_load(&sys_device);
    return d != NULL && d->owns(d->arg, fd) ? d : NULL;
}

static int sys_device_result(int result)
{
    if (result < 0) {
        errno = -result;
        return -1;
    }
    return result;
}

/* ---- writes that are to be on stable storage ---- */

static _Atomic unsigned durable_writes;

unsigned sys_durable_writes(void)
{
    return atomic_load(&durable_writes);
}

static int sys_see_flags(int flags)
{
    atomic_fetch_add(&durable_writes, (flags & RWF_DSYNC) != 0);
    return flags;
}

static struct iocb **sys_see_iocbs(long count, struct iocb **list)
{
    for (long i = 0; i < count; i++) {
        sys_see_flags(list[i]->aio_rw_flags);
    }
    return list;
}

/* What the call submits. */
static struct io_uring *sys_see_ring(struct io_uring *ring)
{
    const struct io_uring_sq *sq = &ring->sq;
    for (unsigned i = sq->sqe_head; i != sq->sqe_tail; i++) {
        const struct io_uring_sqe *sqe = &sq->sqes[i & sq->ring_mask];
        bool write = sqe->opcode == IORING_OP_WRITE || sqe->opcode == IORING_OP_WRITEV;
        sys_see_flags(write ? sqe->rw_flags : 0);
    }
    return ring;
}

/* ---- the calls ---- */

/* A call that returns @failed and sets errno. The Makefile reads names at the start of a line. */
#define SYS_CALL(name, type, failed, params, args)                                                 \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params                                                                      \
    {                                                                                              \
        return fault_apply(#name, NULL) ? (failed) : __real_##name args;                           \
    }

SYS_CALL(dup, int, -1, (int fd), (fd))
SYS_CALL(fdatasync, int, -1, (int fd), (fd))
SYS_CALL(fsync, int, -1, (int fd), (fd))
SYS_CALL(fstat, int, -1, (int fd, struct stat *st), (fd, st))
SYS_CALL(lseek, off_t, -1, (int fd, off_t offset, int whence), (fd, offset, whence))
SYS_CALL(ftruncate, int, -1, (int fd, off_t length), (fd, length))
SYS_CALL(fallocate, int, -1, (int fd, int mode, off_t offset, off_t len), (fd, mode, offset, len))
SYS_CALL(pipe2, int, -1, (int *fds, int flags), (fds, flags))
SYS_CALL(memfd_create, int, -1, (const char *name, unsigned flags), (name, flags))
SYS_CALL(mmap, void *, MAP_FAILED,
         (void *at, size_t len, int prot, int flags, int fd, off_t offset),
         (at, len, prot, flags, fd, offset))
SYS_CALL(madvise, int, -1, (void *at, size_t len, int advice), (at, len, advice))
SYS_CALL(eventfd, int, -1, (unsigned count, int flags), (count, flags))
SYS_CALL(timerfd_create, int, -1, (int clock, int flags), (clock, flags))
SYS_CALL(epoll_create1, int, -1, (int flags), (flags))
SYS_CALL(epoll_ctl, int, -1, (int epfd, int op, int fd, struct epoll_event *event),
         (epfd, op, fd, event))
SYS_CALL(epoll_pwait2, int, -1,
         (int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
          const sigset_t *signals),
         (epfd, events, max, timeout, signals))
SYS_CALL(socket, int, -1, (int domain, int type, int protocol), (domain, type, protocol))
SYS_CALL(socketpair, int, -1, (int domain, int type, int protocol, int *fds),
         (domain, type, protocol, fds))
SYS_CALL(bind, int, -1, (int fd, const struct sockaddr *a, socklen_t len), (fd, a, len))
SYS_CALL(listen, int, -1, (int fd, int backlog), (fd, backlog))
SYS_CALL(connect, int, -1, (int fd, const struct sockaddr *a, socklen_t len), (fd, a, len))
SYS_CALL(accept4, int, -1, (int fd, struct sockaddr *a, socklen_t *len, int flags),
         (fd, a, len, flags))
SYS_CALL(pthread_create, int, errno,
         (pthread_t * thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg),
         (thread, attr, fn, arg))
SYS_CALL(io_setup, int, -errno, (int depth, io_context_t *context), (depth, context))
SYS_CALL(io_submit, int, -errno, (io_context_t context, long count, struct iocb **list),
         (context, count, sys_see_iocbs(count, list)))
SYS_CALL(io_uring_queue_init_params, int, -errno,
         (unsigned entries, struct io_uring *ring, struct io_uring_params *params),
         (entries, ring, params))
SYS_CALL(io_uring_submit, int, -errno, (struct io_uring * ring), (sys_see_ring(ring)))

/* close() closes the descriptor even if it fails. */
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    int error = fault_apply("close", NULL) ? errno : 0;
    const SysDevice *d = sys_device_of(fd);
    if (d != NULL) {
        d->close(d->arg, fd);
    }
    int ret = __real_close(fd);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return ret;
}

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    const SysDevice *d = atomic_load(&sys_device);
    if (fault_apply("open", NULL)) {
        return -1;
    }
    if (d != NULL && strcmp(path, d->path) == 0) {
        return sys_device_result(d->open(d->arg));
    }
    return __real_open(path, flags, mode);
}

/* The third argument is a number or a pointer; the C library takes it as a pointer too. */
#define SYS_CALL_COMMAND(name, type)                                                               \
    int __real_##name(int fd, type request, ...);                                                  \
    int __wrap_##name(int fd, type request, ...);                                                  \
    int __wrap_##name(int fd, type request, ...)                                                   \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, request);                                                                     \
        void *arg = va_arg(ap, void *);                                                            \
        va_end(ap);                                                                                \
        return fault_apply(#name, NULL) ? -1 : __real_##name(fd, request, arg);                    \
    }

SYS_CALL_COMMAND(fcntl, int)

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    const SysDevice *d = sys_device_of(fd);
    if (fault_apply("ioctl", NULL)) {
        return -1;
    }
    return d != NULL ? sys_device_result(d->ioctl(d->arg, fd, request, arg))
                     : __real_ioctl(fd, request, arg);
}

/* ---- reads and writes, which may be short ---- */

#define SYS_CALL_BUFFER(name, buffer_type, more_params, more_args)                                 \
    ssize_t __real_##name(int fd, buffer_type buf, size_t bytes SYS_UNPACK more_params);           \
    ssize_t __wrap_##name(int fd, buffer_type buf, size_t bytes SYS_UNPACK more_params);           \
    ssize_t __wrap_##name(int fd, buffer_type buf, size_t bytes SYS_UNPACK more_params)            \
    {                                                                                              \
        return fault_apply(#name, &bytes) ? -1                                                     \
                                          : __real_##name(fd, buf, bytes SYS_UNPACK more_args);    \
    }
#define SYS_UNPACK(...) __VA_ARGS__

SYS_CALL_BUFFER(read, void *, (), ())
SYS_CALL_BUFFER(write, const void *, (), ())
SYS_CALL_BUFFER(pread, void *, (, off_t offset), (, offset))
SYS_CALL_BUFFER(pwrite, const void *, (, off_t offset), (, offset))
SYS_CALL_BUFFER(send, const void *, (, int flags), (, flags))
SYS_CALL_BUFFER(recv, void *, (, int flags), (, flags))

/* The first @bytes of @iov; elements beyond the room of @slice are left out. */
static int sys_iov_limit(struct iovec *slice, const struct iovec *iov, int niov, size_t bytes)
{
    int n = 0;
    for (; n < niov && n < SYS_SLICE_IOV && bytes > 0; n++) {
        slice[n] = iov[n];
        slice[n].iov_len = iov[n].iov_len < bytes ? iov[n].iov_len : bytes;
        bytes -= slice[n].iov_len;
    }
    return n;
}

#define SYS_CALL_IOV(name, more_params, more_args)                                                 \
    ssize_t __real_##name(int fd, const struct iovec *iov, int niov SYS_UNPACK more_params);       \
    ssize_t __wrap_##name(int fd, const struct iovec *iov, int niov SYS_UNPACK more_params);       \
    ssize_t __wrap_##name(int fd, const struct iovec *iov, int niov SYS_UNPACK more_params)        \
    {                                                                                              \
        struct iovec slice[SYS_SLICE_IOV];                                                         \
        size_t bytes = SIZE_MAX;                                                                   \
        if (fault_apply(#name, &bytes)) {                                                          \
            return -1;                                                                             \
        }                                                                                          \
        if (bytes != SIZE_MAX) {                                                                   \
            niov = sys_iov_limit(slice, iov, niov, bytes);                                         \
            iov = slice;                                                                           \
        }                                                                                          \
        return __real_##name(fd, iov, niov SYS_UNPACK more_args);                                  \
    }

SYS_CALL_IOV(readv, (), ())
SYS_CALL_IOV(writev, (), ())
SYS_CALL_IOV(preadv2, (, off_t offset, int flags), (, offset, flags))
SYS_CALL_IOV(pwritev2, (, off_t offset, int flags), (, offset, sys_see_flags(flags)))
#else
typedef int sys_fault_none; /* a translation unit is not empty */
#endif
