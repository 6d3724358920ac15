/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which thread may make which system call, and why. A call without a row ends the process.
 *
 * CALL(name, roles, why) allows a call with any arguments; WHEN() restricts it to arguments that
 * pass the tests; REFUSE() fails it with an errno, for optional calls of libraries. Add a row only
 * for calls that skiff makes after start-up, and only for the roles that make them.
 */
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <linux/vhost.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include "migration/ram/ram_pagemap.h"
#include "vmm/sandbox/sandbox_int.h"

#define SPAWNER (1u << THREAD_NONE)
#define MAIN (1u << THREAD_MAIN)
#define IOTHREAD (1u << THREAD_IOTHREAD)
#define VCPU (1u << THREAD_VCPU)
#define WORKER (1u << THREAD_WORKER)
#define NETWORK (1u << THREAD_NETWORK)
#define ALL (SPAWNER | MAIN | IOTHREAD | VCPU | WORKER | NETWORK | 1u << THREAD_MIGRATION)

#define VALUES(...)                                                                                \
    (const uint64_t[])                                                                             \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define COUNT(...) (sizeof(VALUES(__VA_ARGS__)) / sizeof(uint64_t))
/* The argument, an int, is one of the values. */
#define IS(number, ...)                                                                            \
    {                                                                                              \
        .argument = (number), .count = COUNT(__VA_ARGS__), .mask = UINT32_MAX,                     \
        .values = VALUES(__VA_ARGS__)                                                              \
    }
/* The argument, a long, is one of the values. */
#define IS_LONG(number, ...)                                                                       \
    {                                                                                              \
        .argument = (number), .count = COUNT(__VA_ARGS__), .mask = UINT64_MAX,                     \
        .values = VALUES(__VA_ARGS__)                                                              \
    }
/* The argument, masked with the bits, equals the value. */
#define BITS(number, bits, value)                                                                  \
    {                                                                                              \
        .argument = (number), .count = 1, .mask = (bits), .values = VALUES(value)                  \
    }
#define IS_OWN_PROCESS(number)                                                                     \
    {                                                                                              \
        .argument = (number), .count = 1, .mask = UINT32_MAX, .values = &sandbox_own_process       \
    }
#define CALL(name, who, text)                                                                      \
    {                                                                                              \
        .call = SCMP_SYS(name), .roles = (who), .why = (text)                                      \
    }
#define WHEN(name, who, text, ...)                                                                 \
    {                                                                                              \
        .call = SCMP_SYS(name), .roles = (who), .why = (text), .tests = { __VA_ARGS__ }            \
    }
#define REFUSE(name, who, number, text, ...)                                                       \
    {                                                                                              \
        .call = SCMP_SYS(name), .roles = (who), .error = (number), .why = (text), .tests = {       \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

#define THREAD_FLAGS (CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
#define NAMESPACE_FLAGS                                                                            \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)
#define TYPE_BITS UINT64_C(0xf) /* of socket(): without SOCK_NONBLOCK and SOCK_CLOEXEC */

uint64_t sandbox_own_process;

const SandboxRow sandbox_rows[] = {
    /* ---- any thread: libc, logging, waiting, crash handling ---- */
    CALL(read, ALL, "eventfds, passed descriptors"),
    CALL(write, ALL, "eventfds, log lines"),
    CALL(writev, ALL, "backtraces, assertion messages"),
    CALL(close, ALL, "descriptors"),
    CALL(poll, ALL, "a slow log or console"),
    CALL(ppoll, ALL, "poll() where the architecture has no other"),
    CALL(futex, ALL, "mutexes, conditions, completions"),
    CALL(sched_yield, ALL, "spinning"),
    CALL(sched_getaffinity, ALL, "malloc counts processors"),
    CALL(clock_gettime, ALL, "where the vDSO has no clock"),
    CALL(gettimeofday, ALL, "where the vDSO has no clock"),
    CALL(clock_nanosleep, ALL, "short sleeps"),
    CALL(nanosleep, ALL, "short sleeps"),
    CALL(restart_syscall, ALL, "a wait continues after a signal"),
    CALL(brk, ALL, "malloc"),
    WHEN(mmap, ALL, "malloc, stacks; never code", BITS(2, PROT_EXEC, 0)),
    REFUSE(mmap, WORKER, EACCES, "the resolver tries to load plug-ins",
           BITS(2, PROT_EXEC, PROT_EXEC)),
    WHEN(mprotect, ALL, "malloc, guard pages; never code", BITS(2, PROT_EXEC, 0)),
    CALL(mremap, ALL, "realloc"),
    CALL(munmap, ALL, "free"),
    CALL(madvise, ALL, "freed memory"),
    CALL(getrandom, ALL, "hash seeds; virtio-rng"),
    CALL(gettid, ALL, "thread names in messages, raise()"),
    CALL(getpid, ALL, "raise(), log lines"),
    CALL(rt_sigprocmask, ALL, "signal masks"),
    CALL(rt_sigaction, ALL, "a crash handler restores the default action"),
    CALL(rt_sigreturn, ALL, "the end of a handler"),
    CALL(sigaltstack, ALL, "the handlers' stack"),
    WHEN(tgkill, ALL, "raise(), vCPU kicks; own threads only", IS_OWN_PROCESS(0)),
    CALL(pause, ALL, "a second thread that crashes"),
    CALL(exit, ALL, "the end of a thread"),
    CALL(exit_group, ALL, "the end"),
    CALL(set_robust_list, ALL, "thread start"),
    CALL(rseq, ALL, "thread start"),
    CALL(getpeername, ALL, "GLib checks whether standard error is the journal"),
    WHEN(newfstatat, ALL, "fstat()", BITS(3, 0x1000 /* AT_EMPTY_PATH */, 0x1000)),
    CALL(fstat, ALL, "stdio"),
    WHEN(ioctl, ALL, "a crashing thread restores the terminal",
         IS_LONG(1, TCGETS, TCSETS, TCSETSW, TCSETSF)),
    WHEN(sendto, ALL, "send(): pending console output when a thread crashes", IS_LONG(4, 0)),
    REFUSE(unlink, IOTHREAD | VCPU, EPERM, "by a crashing thread: its socket file remains"),
    REFUSE(newfstatat, IOTHREAD | VCPU, EPERM, "whether that socket is skiff's own",
           BITS(3, 0x1000, 0)),
    REFUSE(lstat, IOTHREAD | VCPU, EPERM, "the same"),
    REFUSE(openat, IOTHREAD | VCPU, EACCES, "malloc, trimming, reads the overcommit mode",
           IS(2, O_RDONLY | O_CLOEXEC)),

    /* ---- threads: the spawner creates them, and each installs its role's filter ---- */
    WHEN(clone, SPAWNER, "a thread, in the same namespaces",
         BITS(0, THREAD_FLAGS | NAMESPACE_FLAGS, THREAD_FLAGS)),
    REFUSE(clone3, SPAWNER, ENOSYS, "a filter cannot read its flags; libc falls back to clone()"),
    WHEN(prctl, SPAWNER, "thread names", IS(0, PR_SET_NAME)),
    WHEN(seccomp, SPAWNER, "the role's filter", IS(0, SECCOMP_SET_MODE_FILTER)),

    /* ---- loops ---- */
    CALL(epoll_wait, MAIN | IOTHREAD | NETWORK, "a loop's sleep"),
    CALL(epoll_pwait, MAIN | IOTHREAD | NETWORK, "a loop's sleep"),
    CALL(epoll_pwait2, MAIN | IOTHREAD | NETWORK, "a loop's sleep, to the nanosecond"),
    CALL(epoll_ctl, MAIN | IOTHREAD | NETWORK, "handlers are added and removed"),
    CALL(epoll_create1, MAIN, "the loop of an added iothread"),
    CALL(eventfd2, MAIN | IOTHREAD | VCPU, "doorbells and interrupts of a device that starts"),
    CALL(dup, MAIN, "descriptors passed by clients"),
    CALL(dup2, MAIN, "-daemonize closes the terminal"),
    CALL(dup3, MAIN | WORKER, "-daemonize closes the terminal; a new log file"),
    WHEN(fcntl, ALL, "properties of descriptors, locks on files",
         IS(1, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD, F_DUPFD_CLOEXEC)),
    WHEN(fcntl, MAIN | WORKER, "locks on files, seals on memory",
         IS(1, F_OFD_SETLK, F_OFD_GETLK, F_ADD_SEALS, F_GET_SEALS)),

    /* ---- KVM: the ioctl() request identifies the kind of descriptor ---- */
    WHEN(ioctl, VCPU, "running the vCPU",
         IS_LONG(1, KVM_RUN, KVM_GET_MP_STATE, KVM_SET_MP_STATE, KVM_KVMCLOCK_CTRL)),
    WHEN(ioctl, VCPU, "reset, registers for the monitor and gdb",
         IS_LONG(1, KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, KVM_GET_FPU,
                 KVM_SET_FPU, KVM_GET_XSAVE, KVM_SET_XSAVE, KVM_GET_XCRS, KVM_SET_XCRS,
                 KVM_GET_MSRS, KVM_SET_MSRS, KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_GET_DEBUGREGS,
                 KVM_SET_DEBUGREGS, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_SET_GUEST_DEBUG,
                 KVM_TRANSLATE, KVM_NMI, KVM_INTERRUPT)),
    WHEN(ioctl, VCPU, "a save or load of the machine",
         IS_LONG(1, KVM_GET_TSC_KHZ, KVM_GET_SREGS2, KVM_GET_XSAVE2, KVM_GET_NESTED_STATE,
                 KVM_SET_TSC_KHZ, KVM_SET_SREGS2, KVM_SET_NESTED_STATE)),
    WHEN(ioctl, WORKER, "a load of the machine",
         IS_LONG(1, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, KVM_GET_PIT2, KVM_SET_PIT2, KVM_GET_CLOCK,
                 KVM_SET_CLOCK)),
    WHEN(ioctl, MAIN | VCPU | IOTHREAD, "interrupts and doorbells of a device that starts",
         IS_LONG(1, KVM_SIGNAL_MSI, KVM_IRQ_LINE, KVM_IRQFD, KVM_IOEVENTFD, KVM_SET_GSI_ROUTING,
                 KVM_CHECK_EXTENSION)),
    WHEN(ioctl, WORKER, "a save: which memory was never touched", IS_LONG(1, RAM_PAGEMAP_SCAN)),
    WHEN(ioctl, WORKER, "the PIT, at the guest's first access",
         IS_LONG(1, KVM_CREATE_PIT2, KVM_GET_PIT2, KVM_REINJECT_CONTROL)),
    WHEN(ioctl, VCPU, "that access", IS_LONG(1, KVM_GET_PIT2, KVM_SET_PIT2)),
    WHEN(ioctl, MAIN | VCPU, "flash that shows or hides its array",
         IS_LONG(1, KVM_SET_USER_MEMORY_REGION)),
    WHEN(ioctl, MAIN, "reset of the machine; memory that is added",
         IS_LONG(1, KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, KVM_GET_PIT2,
                 KVM_SET_PIT2, KVM_GET_DIRTY_LOG)),

    /* ---- vhost: what the kernel's back ends are told ---- */
    WHEN(ioctl, WORKER, "a vhost back end is opened, started and stopped",
         IS_LONG(1, VHOST_SET_OWNER, VHOST_GET_FEATURES, VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE,
                 VHOST_SET_LOG_BASE, VHOST_SET_VRING_NUM, VHOST_SET_VRING_BASE,
                 VHOST_GET_VRING_BASE, VHOST_SET_VRING_ADDR, VHOST_SET_VRING_KICK,
                 VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR, VHOST_NET_SET_BACKEND,
                 VHOST_VSOCK_SET_GUEST_CID, VHOST_VSOCK_SET_RUNNING)),

    /* ---- block requests ---- */
    CALL(io_submit, IOTHREAD, "aio=native"),
    CALL(io_getevents, IOTHREAD, "aio=native"),
    CALL(io_pgetevents, IOTHREAD, "aio=native"),
    CALL(io_setup, IOTHREAD, "aio=native, by the first added disk"),
    CALL(io_destroy, IOTHREAD, "aio=native, by the last removed disk"),
    CALL(io_uring_enter, IOTHREAD, "aio=io_uring, on rings that were restricted before"),
    WHEN(io_uring_register, IOTHREAD, "its descriptor, for speed",
         IS(1, IORING_REGISTER_RING_FDS, IORING_UNREGISTER_RING_FDS)),
    REFUSE(io_uring_setup, IOTHREAD, EPERM, "rings could bypass this table"),
    CALL(readv, IOTHREAD, "frames of a tap device"),
    CALL(preadv, IOTHREAD | WORKER, "files"),
    CALL(preadv2, IOTHREAD | WORKER, "files"),
    CALL(pwritev, IOTHREAD | WORKER, "files"),
    CALL(pwritev2, IOTHREAD | WORKER, "files"),
    CALL(fdatasync, IOTHREAD | WORKER, "flushes"),

    /* ---- files, which workers open, read and write for all threads ---- */
    WHEN(membarrier, MAIN, "logging of dirty memory starts",
         IS(0, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED)),
    CALL(openat, MAIN | WORKER, "disks, logs, dumps, added character devices"),
    CALL(open, MAIN | WORKER, "the same, by older libraries"),
    CALL(access, MAIN | WORKER, "files"),
    CALL(faccessat, MAIN | WORKER, "files"),
    CALL(faccessat2, MAIN | WORKER, "files"),
    CALL(newfstatat, MAIN | WORKER, "files"),
    CALL(stat, MAIN | WORKER, "files"),
    CALL(lstat, MAIN | WORKER, "files"),
    CALL(statx, MAIN | WORKER, "what O_DIRECT needs"),
    CALL(fstatfs, MAIN | WORKER, "the kind of file system"),
    CALL(statfs, MAIN | WORKER, "the kind of file system"),
    CALL(readlink, MAIN | WORKER, "the descriptor's file"),
    CALL(readlinkat, MAIN | WORKER, "the descriptor's file"),
    CALL(getcwd, MAIN | WORKER, "relative names"),
    CALL(getdents64, WORKER, "the process that holds a disk's lock"),
    CALL(pread64, MAIN | WORKER, "kernels at reset; files"),
    CALL(pwrite64, MAIN | WORKER, "files"),
    CALL(readv, MAIN | WORKER, "files"),
    CALL(lseek, MAIN | WORKER, "sizes"),
    CALL(fsync, WORKER, "flushes"),
    CALL(sync_file_range, WORKER, "flushes"),
    CALL(fallocate, WORKER, "zeroes and discards"),
    CALL(ftruncate, MAIN | WORKER, "sizes; the pid file of a process that cannot remove it"),
    CALL(fadvise64, MAIN | WORKER, "read-ahead"),
    CALL(fchmod, MAIN | WORKER, "the mode of a created file"),
    CALL(umask, WORKER, "the mode of a created file"),
    CALL(rename, WORKER, "a file is replaced atomically"),
    CALL(renameat, WORKER, "a file is replaced atomically"),
    CALL(renameat2, WORKER, "a file is replaced atomically"),
    CALL(linkat, WORKER, "a file is replaced atomically"),
    CALL(geteuid, WORKER, "whose a file is that gets the guest's memory"),
    CALL(unlink, MAIN | WORKER, "sockets and the pid file, at the end; a dump that failed"),
    CALL(unlinkat, MAIN, "sockets and the pid file, at the end"),
    CALL(symlink, MAIN | WORKER, "the name of a pseudo-terminal"),
    CALL(symlinkat, MAIN | WORKER, "the name of a pseudo-terminal"),
    CALL(memfd_create, MAIN | WORKER, "added guest memory"),
    CALL(mincore, WORKER, "a save: which shared memory was never touched"),
    CALL(mbind, WORKER, "added guest memory"),
    WHEN(ioctl, WORKER | IOTHREAD | MAIN, "disks that are block devices",
         IS_LONG(1, BLKDISCARD, BLKZEROOUT, BLKSSZGET, BLKPBSZGET, BLKGETSIZE64)),
    WHEN(ioctl, WORKER, "tap devices: what the guest negotiates; added ones",
         IS_LONG(1, TUNSETOFFLOAD, TUNSETQUEUE, TUNGETIFF, TUNSETIFF, TUNGETFEATURES,
                 TUNSETVNETHDRSZ, TUNSETSNDBUF)),
    CALL(uname, MAIN | WORKER, "host names"),

    /* ---- terminals ---- */
    WHEN(ioctl, MAIN, "terminals and pseudo-terminals",
         IS_LONG(1, TIOCGPGRP, TIOCGWINSZ, TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER, FIONREAD, TCSBRK,
                 TCFLSH)),
    WHEN(ioctl, WORKER, "added pseudo-terminals", IS_LONG(1, TIOCGPTN, TIOCSPTLCK)),
    CALL(getpgrp, MAIN, "whether skiff is in the foreground"),
    CALL(getpgid, MAIN, "whether skiff is in the foreground"),
    CALL(getppid, MAIN, "the parent process"),
    CALL(getrusage, MAIN, "statistics"),
    CALL(times, MAIN, "statistics"),
    CALL(sysinfo, MAIN | WORKER, "the size of memory"),
    CALL(waitid, MAIN, "the end of -virtiofs' process"),
    CALL(pipe2, MAIN, "streams of a command in the guest"),
    CALL(signalfd4, MAIN, "signals as messages"),
    CALL(timerfd_create, MAIN, "timers"),
    CALL(timerfd_settime, MAIN | IOTHREAD | NETWORK, "timers; a loop's sleep without epoll_pwait2"),

    /* ---- sockets: UNIX and TCP, and what the resolver needs ---- */
    WHEN(socket, MAIN | WORKER, "streams", IS(0, AF_UNIX, AF_INET, AF_INET6),
         BITS(1, TYPE_BITS, SOCK_STREAM)),
    WHEN(socket, WORKER, "host names", IS(0, AF_UNIX, AF_INET, AF_INET6),
         BITS(1, TYPE_BITS, SOCK_DGRAM)),
    WHEN(socket, MAIN, "added networks of datagrams; whether a server's socket is in use",
         IS(0, AF_UNIX, AF_INET, AF_INET6), BITS(1, TYPE_BITS, SOCK_DGRAM)),
    REFUSE(socket, WORKER, EAFNOSUPPORT, "getaddrinfo() would list the host's addresses",
           IS(0, AF_NETLINK)),
    WHEN(socketpair, MAIN, "skiff's own streams", IS(0, AF_UNIX)),
    CALL(bind, MAIN | WORKER, "servers"),
    CALL(listen, MAIN, "servers"),
    CALL(accept4, MAIN, "clients"),
    CALL(connect, MAIN | WORKER, "clients; the resolver"),
    CALL(shutdown, MAIN | IOTHREAD, "disconnected clients; connections of NBD"),
    CALL(getsockname, MAIN | WORKER, "addresses"),
    CALL(getsockopt, MAIN | WORKER, "the result of a connect"),
    CALL(setsockopt, MAIN | WORKER, "TCP_NODELAY, SO_REUSEADDR; the resolver"),
    CALL(recvfrom, MAIN | WORKER | IOTHREAD, "data; in an iothread of NBD servers and clients"),
    CALL(sendto, MAIN | WORKER | IOTHREAD, "data; in an iothread to NBD servers and clients"),
    CALL(recvmsg, MAIN | WORKER | IOTHREAD,
         "data; descriptors passed by clients; datagrams of a network"),
    CALL(sendmsg, MAIN | IOTHREAD | WORKER, "data; a worker's: a TLS handshake"),
    CALL(sendmmsg, WORKER, "the resolver"),

    /* ---- a user-mode network: the guest's connections are sockets of its thread ---- */
    WHEN(socket, NETWORK, "connections of the guest; ping", IS(0, AF_UNIX, AF_INET, AF_INET6),
         BITS(1, TYPE_BITS, SOCK_STREAM)),
    WHEN(socket, NETWORK, "datagrams of the guest; ping", IS(0, AF_INET, AF_INET6),
         BITS(1, TYPE_BITS, SOCK_DGRAM)),
    CALL(bind, NETWORK, "connections and datagrams of the guest"),
    CALL(connect, NETWORK, "connections of the guest"),
    CALL(listen, NETWORK, "forwarded ports"),
    CALL(accept, NETWORK, "forwarded ports"),
    CALL(accept4, NETWORK, "forwarded ports"),
    CALL(shutdown, NETWORK, "one direction of a connection"),
    CALL(getsockname, NETWORK, "addresses"),
    CALL(getsockopt, NETWORK, "the result of a connect"),
    CALL(setsockopt, NETWORK, "TCP_NODELAY, SO_REUSEADDR, SO_OOBINLINE"),
    CALL(recvfrom, NETWORK, "data"),
    CALL(recvmsg, NETWORK, "data"),
    CALL(sendto, NETWORK, "data"),
    CALL(sendmsg, NETWORK, "data"),
    CALL(readv, NETWORK, "data"),
    WHEN(ioctl, NETWORK, "how much has arrived", IS_LONG(1, FIONREAD, FIONBIO)),
    WHEN(openat, NETWORK, "/etc/resolv.conf; files of tftp=, for reading only",
         IS(2, O_RDONLY, O_RDONLY | O_CLOEXEC)),
    CALL(newfstatat, NETWORK, "whether /etc/resolv.conf has changed"),
    CALL(stat, NETWORK, "whether /etc/resolv.conf has changed"),
    CALL(lseek, NETWORK, "files of tftp="),

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    /* ---- sanitizers: in their builds only ---- */
    CALL(openat, ALL, "a report reads symbols and maps"),
    CALL(newfstatat, ALL, "a report reads symbols and maps"),
    CALL(readlink, ALL, "a report reads symbols and maps"),
    CALL(pread64, ALL, "a report reads symbols and maps"),
    CALL(lseek, ALL, "a report reads symbols and maps"),
    CALL(prlimit64, ALL, "a thread's stack"),
    CALL(prctl, ALL, "thread names"),
    CALL(mmap, ALL, "shadow memory"),
    CALL(mprotect, ALL, "shadow memory"),
#endif
};

const unsigned sandbox_row_count = G_N_ELEMENTS(sandbox_rows);
