/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -netdev tap: a tap device of the host's kernel (Documentation/networking/tuntap.rst). Each queue pair is
 * a descriptor, which the home loop of the NIC reads and writes; a frame is one system call.
 *
 * All set-up is in workers, since the kernel takes a lock of its whole network for it. Shared by net_tap.c
 * (options, when the device is set up), net_tap_queue.c (the data path), net_tap_vhost.c and net_tap_program.c (scripts,
 * the bridge helper). The device itself is in net_tap_device.h.
 */
#ifndef SKIFF_HW_NET_NET_TAP_H
#define SKIFF_HW_NET_NET_TAP_H

#include "hw/net/net_tap_device.h"
#include "util/log.h"

/* How long a start, a stop or a removal waits for a call of the kernel on the device. */
#define NET_TAP_LIMIT_NS (5 * 1000000000ll)

#define NET_TAP_SCRIPT "/etc/qemu-ifup"
#define NET_TAP_NO_SCRIPT "no"
#define NET_TAP_DOWN_SCRIPT "/etc/qemu-ifdown"
#define NET_TAP_HELPER "/usr/lib/qemu/qemu-bridge-helper" /* Debian's qemu-system-common */
#define NET_TAP_BRIDGE "br0"

typedef struct NetTapQueue {
    struct NetTap *tap;
    int fd; /* the device's; -1: it is not open */
    /* home */
    AioContext *home;
    AioHandler *handler; /* NULL: not started */
    bool watched, blocked;
    bool failed; /* it cannot be read any more: the device is gone */
} NetTapQueue;

typedef struct NetTap {
    NetBackend base;
    /* config */
    NetTapOptions options;
    bool vhost_on, vhostforce;
    char *vhostfd_text, *vhostfds_text;
    /* runtime */
    NetTapDevice *device; /* NULL: it has ended */
    bool vnet_hdr;
    AioBh failed_bh; /* main */
    LogLimit limit;  /* a guest can repeat what fails */
    NetTapQueue queues[NET_MAX_QUEUES];
    struct VhostNet *vhost; /* of each queue, or NULL; main */
    unsigned vhost_count;
    char *vhost_name;
} NetTap;

extern const NetType net_tap_type;

static inline NetTap *net_tap_from(NetBackend *b)
{
    return (NetTap *)(void *)b;
}

/* ---- net_tap_queue.c: home ---- */
void net_tap_queue_start(NetBackend *b, unsigned queue, AioContext *home);
void net_tap_queue_stop(NetBackend *b, unsigned queue);
void net_tap_watch(NetBackend *b, unsigned queue, bool on);
ssize_t net_tap_receive(NetBackend *b, unsigned queue, const struct iovec *iov, unsigned count);
ssize_t net_tap_send(NetBackend *b, unsigned queue, const struct iovec *iov, unsigned count);

/* ---- net_tap_vhost.c: main ---- */
/* Opens vhost-net for each queue if the options say so. After a failure nothing is open. */
bool net_tap_vhost_co_open(NetTap *t, GError **error) coroutine_fn RUNS_IN_MAIN;
void net_tap_vhost_co_close(NetTap *t) coroutine_fn RUNS_IN_MAIN;
unsigned net_tap_vhost_parts(NetBackend *b, NetVhostPart parts[NET_MAX_QUEUES]) RUNS_IN_MAIN;

/* Called when -sandbox takes effect: from then on programs are an error, not the end of skiff. */
void net_tap_forbid_programs(void) ANY_THREAD;

/* ---- net_tap_program.c: workers ---- */
/* Runs @script with the name of the interface, and waits for it. False + error: it failed. */
bool net_tap_run_script(const char *script, const char *ifname, GError **error) RUNS_IN_WORKER;
/* Lets the helper connect a new tap device to bridge @br. Returns its descriptor, or -1 + error. */
int net_tap_run_helper(const char *helper, const char *br, bool vnet_hdr, GError **error)
    RUNS_IN_WORKER;

/* The same when the process ends: waits for 5 s at most, then the script goes on without skiff. */
bool net_tap_run_script_at_end(const char *script, const char *ifname, GError **error) RUNS_IN_MAIN;

#endif
