/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam to the kernel: test builds make chosen system calls fail, be short or wait.
 *
 * The sources call the C library directly. Variants with SKIFF_TESTING are linked with
 * `--wrap=NAME` for each call that sys_fault.c wraps (the Makefile reads the names there), so calls
 * from skiff's own objects pass through the seam; calls from within libraries do not. The release
 * build is linked without the option and has no seam.
 *
 * One plan is active at a time. A process may also get its plan from the environment:
 *
 *   SKIFF_SYS_FAULT=CALLS:N:ERRNO   the Nth call (from 1) of CALLS fails with the number ERRNO
 *   SKIFF_SYS_FAULT_LOG=FILE        a line is appended to FILE when that call is reached
 */
#ifndef SKIFF_UTIL_SYS_SYS_FAULT_H
#define SKIFF_UTIL_SYS_SYS_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#ifdef SKIFF_TESTING
/* Which calls, and what happens to them. */
typedef struct SysFault {
    const char *calls; /* names, separated by commas: "open,ioctl"; must stay valid */
    unsigned after;    /* this many matching calls pass first */
    unsigned count;    /* then this many are hit; 0: all that follow */
    bool hold;         /* a hit call waits until sys_fault_release() */
    int error;         /* then it fails with this errno; 0: it is carried out */
    size_t bytes;      /* a read or write transfers at most this many bytes; 0: no limit */
} SysFault;

/* Replaces the plan and counts from 0 again; NULL: no plan. Held calls continue. Any thread. */
void sys_fault_set(const SysFault *fault);
/* Calls that matched, and calls that were hit, since the plan was set. */
unsigned sys_fault_calls(void);
unsigned sys_fault_hits(void);
/* Blocks until a call is held. */
void sys_fault_await_held(void);
/* Releases all held calls; later ones are not held. */
void sys_fault_release(void);
/* Calls @fn(@arg, name) before each matching call, on the calling thread; calls that @fn makes are
 * not seen. NULL removes it. */
void sys_fault_hook(void (*fn)(void *arg, const char *call), void *arg);
/* A device file that a test plays. open() of @path returns what @open returns, a real descriptor or
 * -errno; its ioctls are @ioctl's: >= 0 or -errno. Called on the calling thread, after the plan. */
typedef struct SysDevice {
    const char *path;
    int (*open)(void *arg);
    bool (*owns)(void *arg, int fd); /* whether @fd is an open descriptor of the device */
    int (*ioctl)(void *arg, int fd, unsigned long request, void *value);
    void (*close)(void *arg, int fd); /* before @fd is closed */
    void *arg;
} SysDevice;
/* NULL: no device. It must stay valid. No call may be under way. */
void sys_device_set(const SysDevice *device);
/* Writes that have been submitted with RWF_DSYNC, by any call, in this process. */
unsigned sys_durable_writes(void);
#endif

#endif
