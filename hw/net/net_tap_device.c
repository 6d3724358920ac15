/* SPDX-License-Identifier: Apache-2.0 */
/* A tap device: its descriptors, queues and offloads. All of it is system calls, in workers. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "hw/net/net_tap.h"

#define TAP_DEVICE "/dev/net/tun"
/* Of Linux 6.2, for older headers. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

static bool tap_system_error(GError **error, const char *what)
{
    int failed = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(failed), "%s: %s", what,
                g_strerror(failed));
    return false;
}

/* ---- options ---- */

/* The options that are not for @option=, which brings a device of its own. */
static bool tap_option_excludes(const NetTap *t, const char *option, bool given, GError **error)
{
    bool is_helper = strcmp(option, "helper") == 0;
    const struct {
        const char *name;
        bool given;
    } others[] = {
        {"ifname", t->ifname != NULL},         {"script", t->script != NULL},
        {"downscript", t->downscript != NULL}, {"vnet_hdr", t->vnet_hdr_text != NULL},
        {"queues", t->queue_count != 0},       {"helper", t->helper != NULL && !is_helper},
        {"br", t->br != NULL && !is_helper},
    };
    for (unsigned i = 0; given && i < G_N_ELEMENTS(others); i++) {
        if (others[i].given) {
            return refuse(error, "%s= with %s=: the device is set up already", others[i].name,
                          option);
        }
    }
    return true;
}

static bool tap_check_options(NetTap *t, GError **error)
{
    bool helper = t->helper != NULL || t->br != NULL;
    if (t->fd_text != NULL && t->fds_text != NULL) {
        return refuse(error, "fd= or fds=, not both");
    }
    if (!tap_option_excludes(t, "fd", t->fd_text != NULL, error) ||
        !tap_option_excludes(t, "fds", t->fds_text != NULL, error) ||
        !tap_option_excludes(t, "helper", helper, error)) {
        return false;
    }
    if (t->ifname != NULL && (!*t->ifname || strlen(t->ifname) >= IFNAMSIZ)) {
        return refuse(error, "ifname=%s: 1 to %d characters are needed", t->ifname, IFNAMSIZ - 1);
    }
    if (t->queue_count > 1 && t->script != NULL && strcmp(t->script, NET_TAP_NO_SCRIPT) != 0) {
        return refuse(error, "script= with queues=: set the device up before, with script=no");
    }
    return true;
}

/* vnet_hdr=: 1 on, 0 off, -1 what the kernel has. */
static bool tap_parse_vnet_hdr(const NetTap *t, int *wanted, GError **error)
{
    bool on;
    *wanted = -1;
    if (t->vnet_hdr_text == NULL) {
        return true;
    }
    if (!opt_parse_bool(t->vnet_hdr_text, &on, error)) {
        g_prefix_error(error, "vnet_hdr=: ");
        return false;
    }
    *wanted = on;
    return true;
}

/* ---- descriptors ---- */

static bool tap_add_fd(NetTap *t, int fd)
{
    NetTapQueue *q = &t->queues[t->base.queues++];
    q->fd = fd;
    q->attached = true;
    return true;
}

static bool tap_set_name(NetTap *t, int fd, int flags, const char *name, GError **error)
{
    struct ifreq r = {.ifr_flags = (short)flags};
    g_strlcpy(r.ifr_name, name, IFNAMSIZ);
    if (ioctl(fd, TUNSETIFF, &r) < 0) {
        int failed = errno;
        const char *hint = failed == EPERM ? ": a device that was made for this user is needed (ip "
                                             "tuntap add), or CAP_NET_ADMIN"
                           : failed == EBUSY  ? ": another process uses the device"
                           : failed == EINVAL ? ": the device is of another kind (queues=, tun)"
                                              : "";
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(failed), "ifname=%s: %s%s", name,
                    g_strerror(failed), hint);
        return false;
    }
    g_strlcpy(t->name, r.ifr_name, IFNAMSIZ);
    return true;
}

/* Creates or opens the device, with @queues queues. */
static bool tap_create(NetTap *t, unsigned queues, int vnet_hdr, GError **error)
{
    for (unsigned i = 0; i < queues; i++) {
        int fd = open(TAP_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        unsigned features = 0;
        if (fd < 0) {
            return tap_system_error(error, TAP_DEVICE);
        }
        tap_add_fd(t, fd);
        if (ioctl(fd, TUNGETFEATURES, &features) < 0) {
            return tap_system_error(error, "TUNGETFEATURES");
        }
        if (vnet_hdr > 0 && !(features & IFF_VNET_HDR)) {
            return refuse(error, "vnet_hdr=on: the kernel does not support it");
        }
        int flags = IFF_TAP | IFF_NO_PI | (queues > 1 ? IFF_MULTI_QUEUE : 0) |
                    (vnet_hdr != 0 ? (int)(features & IFF_VNET_HDR) : 0);
        const char *name = i > 0 ? t->name : t->ifname != NULL ? t->ifname : "tap%d";
        if (!tap_set_name(t, fd, flags, name, error)) {
            return false;
        }
    }
    return true;
}

static bool tap_use_fds(NetTap *t, const char *option, const char *text, GError **error)
{
    /* fd= is a list of one, since its number has no colon */
    g_auto(GStrv) list = g_strsplit(text, ":", strcmp(option, "fds") == 0 ? 0 : 1);
    for (unsigned i = 0; list[i] != NULL; i++) {
        uint64_t fd;
        if (t->base.queues == NET_MAX_QUEUES) {
            return refuse(error, "%s=: more than %d descriptors", option, NET_MAX_QUEUES);
        }
        if (!opt_parse_u64(list[i], 0, INT32_MAX, &fd, error)) {
            g_prefix_error(error, "%s=: ", option);
            return false;
        }
        int own = fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
        if (own < 0) {
            return refuse(error, "%s=%s: it is not an open descriptor", option, list[i]);
        }
        tap_add_fd(t, own);
    }
    return t->base.queues > 0 ? true : refuse(error, "%s= is empty", option);
}

/* Learns about the device from its first descriptor. */
static bool tap_examine(NetTap *t, GError **error)
{
    for (unsigned i = 0; i < t->base.queues; i++) {
        struct ifreq r = {0};
        int fd = t->queues[i].fd, flags = fcntl(fd, F_GETFL);
        if (ioctl(fd, TUNGETIFF, &r) < 0 || !(r.ifr_flags & IFF_TAP)) {
            return refuse(error, "descriptor %u is not a tap device", i);
        }
        bool vnet_hdr = r.ifr_flags & IFF_VNET_HDR;
        if (i > 0 && (vnet_hdr != t->vnet_hdr || strcmp(t->name, r.ifr_name) != 0)) {
            return refuse(error, "descriptor %u is of another device than the first one", i);
        }
        t->vnet_hdr = vnet_hdr;
        g_strlcpy(t->name, r.ifr_name, IFNAMSIZ);
        int size = sizeof(NetHeader);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
            return tap_system_error(error, "O_NONBLOCK");
        }
        if (vnet_hdr && ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) {
            return tap_system_error(error, "TUNSETVNETHDRSZ");
        }
    }
    return true;
}

/* ---- offloads and queues ---- */

static unsigned tap_offload_bits(uint32_t offloads)
{
    return (offloads & NET_OFFLOAD_CSUM ? TUN_F_CSUM : 0) |
           (offloads & NET_OFFLOAD_TSO4 ? TUN_F_TSO4 : 0) |
           (offloads & NET_OFFLOAD_TSO6 ? TUN_F_TSO6 : 0) |
           (offloads & NET_OFFLOAD_ECN ? TUN_F_TSO_ECN : 0) |
           (offloads & NET_OFFLOAD_UFO ? TUN_F_UFO : 0) |
           (offloads & NET_OFFLOAD_USO4 ? TUN_F_USO4 : 0) |
           (offloads & NET_OFFLOAD_USO6 ? TUN_F_USO6 : 0);
}

static bool tap_set_offloads(const NetTap *t, uint32_t offloads)
{
    return ioctl(t->queues[0].fd, TUNSETOFFLOAD, tap_offload_bits(offloads)) == 0;
}

/* A guest that may send what the kernel can segment needs no more than that the kernel knows the type. */
static void tap_find_offloads(NetTap *t)
{
    static const uint32_t kinds[] = {NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN,
                                     NET_OFFLOAD_UFO, NET_OFFLOAD_USO4 | NET_OFFLOAD_USO6};
    uint32_t all = NET_OFFLOAD_CSUM;
    if (!t->vnet_hdr || !tap_set_offloads(t, all)) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (tap_set_offloads(t, NET_OFFLOAD_CSUM | kinds[i])) {
            all |= kinds[i];
        }
    }
    tap_set_offloads(t, 0);
    t->base.can_send = t->base.can_receive = all;
}

static bool tap_attach(NetTapQueue *q, bool on)
{
    struct ifreq r = {.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
    if (q->attached == on) {
        return true;
    }
    if (ioctl(q->fd, TUNSETQUEUE, &r) < 0) {
        return false;
    }
    q->attached = on;
    return true;
}

/* Descriptors that were given by the user may be duplicates of each other: one that is detached as another one
 * can be attached. */
static bool tap_queues_differ(NetTap *t, GError **error)
{
    struct ifreq r = {.ifr_flags = IFF_ATTACH_QUEUE};
    if (t->base.queues > 1 && ioctl(t->queues[0].fd, TUNSETQUEUE, &r) == 0) {
        return refuse(error, "two of the descriptors are of the same queue");
    }
    return true;
}

/* Uses the first @queues queues; the kernel sends nothing to the others. */
static bool tap_use_queues(NetTap *t, unsigned queues)
{
    bool ok = true;
    for (unsigned i = 0; t->base.queues > 1 && i < t->base.queues; i++) {
        ok = tap_attach(&t->queues[i], i < queues) && ok;
    }
    return ok;
}

/* ---- for net_tap.c ---- */

static bool tap_open_descriptors(NetTap *t, GError **error)
{
    int vnet_hdr;
    t->base.queues = 0;
    if (!tap_check_options(t, error) || !tap_parse_vnet_hdr(t, &vnet_hdr, error)) {
        return false;
    }
    if (t->fd_text != NULL || t->fds_text != NULL) {
        bool one = t->fd_text != NULL;
        return tap_use_fds(t, one ? "fd" : "fds", one ? t->fd_text : t->fds_text, error);
    }
    if (t->helper != NULL || t->br != NULL) {
        int fd = net_tap_run_helper(t->helper != NULL ? t->helper : NET_TAP_HELPER,
                                    t->br != NULL ? t->br : NET_TAP_BRIDGE, true, error);
        return fd >= 0 && tap_add_fd(t, fd);
    }
    return tap_create(t, MAX(t->queue_count, 1), vnet_hdr, error);
}

bool net_tap_open_device(NetTap *t, GError **error)
{
    if (!tap_open_descriptors(t, error) || !tap_examine(t, error)) {
        return false;
    }
    int sndbuf = t->sndbuf ? (int)t->sndbuf : INT32_MAX;
    if (ioctl(t->queues[0].fd, TUNSETSNDBUF, &sndbuf) < 0 && t->sndbuf) {
        return tap_system_error(error, "sndbuf=");
    }
    tap_find_offloads(t);
    if (!tap_use_queues(t, 1)) {
        return refuse(error, "the device does not let queues be turned off: %s", g_strerror(errno));
    }
    return tap_queues_differ(t, error);
}

bool net_tap_configure_device(NetTap *t, const NetConfig *config)
{
    return tap_use_queues(t, config->queues) &&
           (!t->vnet_hdr || tap_set_offloads(t, config->receive_offloads));
}
