/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few Linux system calls of the agent, without a C library: a program of some 10 KiB that runs
 * in any initramfs. x86_64. A call returns the kernel's value: a result, or -errno.
 */
#ifndef AGENT_SYS_H
#define AGENT_SYS_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/signal.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYS_POLLIN 0x001
#define SYS_POLLOUT 0x004
#define SYS_POLLERR 0x008
#define SYS_POLLHUP 0x010

typedef struct SysPoll {
    int fd;
    short events, revents;
} SysPoll;

typedef struct SysTime {
    int64_t seconds, nanoseconds;
} SysTime;

static inline long sys_call6(long n, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define sys_call(n, a, b, c, d) sys_call6((n), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static inline long sys_read(int fd, void *data, size_t size)
{
    return sys_call(__NR_read, fd, data, size, 0);
}

static inline long sys_write(int fd, const void *data, size_t size)
{
    return sys_call(__NR_write, fd, data, size, 0);
}

static inline int sys_open(const char *path, int flags)
{
    return (int)sys_call(__NR_openat, AT_FDCWD, path, flags, 0);
}

static inline void sys_close(int fd)
{
    sys_call(__NR_close, fd, 0, 0, 0);
}

static inline int sys_pipe(int fds[2])
{
    return (int)sys_call(__NR_pipe2, fds, O_CLOEXEC, 0, 0);
}

static inline int sys_dup2(int from, int to)
{
    return (int)sys_call(__NR_dup2, from, to, 0, 0);
}

static inline int sys_fcntl(int fd, int command, long argument)
{
    return (int)sys_call(__NR_fcntl, fd, command, argument, 0);
}

static inline int sys_ioctl(int fd, unsigned long request, void *argument)
{
    return (int)sys_call(__NR_ioctl, fd, request, argument, 0);
}

static inline int sys_poll(SysPoll *polls, unsigned count, int timeout_ms)
{
    return (int)sys_call(__NR_poll, polls, count, timeout_ms, 0);
}

static inline int sys_fork(void)
{
    return (int)sys_call(__NR_fork, 0, 0, 0, 0);
}

static inline int sys_wait_any(int *status, int flags)
{
    return (int)sys_call(__NR_wait4, -1, status, flags, 0);
}

static inline _Noreturn void sys_exit(int status)
{
    for (;;) {
        sys_call(__NR_exit_group, status, 0, 0, 0);
    }
}

#endif
