/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev tap: its options, and the set-up of the device. */
#include "hw/net/net_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "util/log.h"

#define TAP_DEVICE "/dev/net/tun"
#define TAP_NO_SCRIPT "no"
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

int net_tap_fd(const NetBackend *b, unsigned queue)
{
    return ((const NetTap *)(const void *)b)->queues[queue].fd;
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
    if (t->queue_count > 1 && t->script != NULL && strcmp(t->script, TAP_NO_SCRIPT) != 0) {
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

/* ---- descriptors (workers) ---- */

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

/* ---- offloads (workers) ---- */

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

/* ---- opening and closing ---- */

typedef struct TapCall {
    NetTap *tap;
    NetConfig config;
    GError *error;
} TapCall;

static RUNS_IN_WORKER bool tap_open_device(NetTap *t, GError **error)
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

/* Without script= the default one runs if it exists. */
static RUNS_IN_WORKER bool tap_run_up_script(NetTap *t, GError **error)
{
    bool made = t->fd_text == NULL && t->fds_text == NULL && t->helper == NULL && t->br == NULL;
    const char *script = t->script != NULL ? t->script : NET_TAP_SCRIPT;
    if (!made || strcmp(script, TAP_NO_SCRIPT) == 0 || *script == '\0' ||
        (t->script == NULL && (t->queue_count > 1 || access(script, X_OK) != 0))) {
        return true;
    }
    if (!net_tap_run_script(script, t->name, error)) {
        g_prefix_error(error, "network script: ");
        return false;
    }
    t->ran_script = true;
    return true;
}

static int tap_open_in_worker(void *opaque)
{
    TapCall *c = opaque;
    NetTap *t = c->tap;
    enter_worker();
    if (!tap_open_device(t, &c->error) || !tap_examine(t, &c->error)) {
        return -1;
    }
    int sndbuf = t->sndbuf ? (int)t->sndbuf : INT32_MAX;
    if (ioctl(t->queues[0].fd, TUNSETSNDBUF, &sndbuf) < 0 && t->sndbuf) {
        return tap_system_error(&c->error, "sndbuf=") ? 0 : -1;
    }
    tap_find_offloads(t);
    if (!tap_use_queues(t, 1)) {
        return refuse(&c->error, "the device does not let queues be turned off: %s",
                      g_strerror(errno))
                   ? 0
                   : -1;
    }
    return tap_queues_differ(t, &c->error) && tap_run_up_script(t, &c->error) ? 0 : -1;
}

static void tap_failed(void *opaque)
{
    enter_main();
    net_backend_set_carrier(opaque, false);
}

static char *tap_describe(const NetTap *t)
{
    if (t->fd_text != NULL || t->fds_text != NULL) {
        return g_strdup_printf("%s=%s", t->fd_text != NULL ? "fd" : "fds",
                               t->fd_text != NULL ? t->fd_text : t->fds_text);
    }
    if (t->helper != NULL || t->br != NULL) {
        return g_strdup_printf("ifname=%s,br=%s,helper=%s", t->name,
                               t->br != NULL ? t->br : NET_TAP_BRIDGE,
                               t->helper != NULL ? t->helper : NET_TAP_HELPER);
    }
    return g_strdup_printf("ifname=%s,script=%s,downscript=%s", t->name,
                           t->script != NULL ? t->script : TAP_NO_SCRIPT,
                           t->downscript != NULL ? t->downscript : TAP_NO_SCRIPT);
}

static bool tap_co_open(NetBackend *b, GError **error)
{
    NetTap *t = net_tap_from(b);
    TapCall c = {.tap = t};
    enter_main();
    enter_coroutine();
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
        t->queues[i] = (NetTapQueue){.tap = t, .fd = -1};
    }
    aio_bh_init(&t->failed_bh, b->main_ctx, tap_failed, b);
    if (co_run_in_worker(tap_open_in_worker, &c) < 0) {
        g_propagate_error(error, c.error);
        return false;
    }
    b->info = tap_describe(t);
    return net_tap_vhost_co_open(t, error);
}

/* The script that undoes what script= did; NULL: none. */
static const char *tap_down_script(const NetTap *t)
{
    const char *script = t->downscript != NULL ? t->downscript : NET_TAP_DOWN_SCRIPT;
    bool runs = t->ran_script && strcmp(script, TAP_NO_SCRIPT) != 0 && *script != '\0' &&
                (t->downscript != NULL || access(script, X_OK) == 0);
    return runs ? script : NULL;
}

static int tap_close_in_worker(void *opaque)
{
    TapCall *c = opaque;
    NetTap *t = c->tap;
    enter_worker();
    const char *script = tap_down_script(t);
    if (script != NULL) {
        net_tap_run_script(script, t->name, &c->error);
    }
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
        if (t->queues[i].fd >= 0) {
            close(t->queues[i].fd); /* a device that is not persistent goes with the last one */
        }
    }
    return 0;
}

static void tap_co_close(NetBackend *b)
{
    NetTap *t = net_tap_from(b);
    TapCall c = {.tap = t};
    enter_main();
    enter_coroutine();
    net_tap_vhost_co_close(t);
    aio_bh_cancel(&t->failed_bh);
    co_run_in_worker(tap_close_in_worker, &c);
    if (c.error != NULL) {
        log_warn("netdev %s: network script: %s", b->id, c.error->message);
        g_error_free(c.error);
    }
}

static int tap_configure_in_worker(void *opaque)
{
    TapCall *c = opaque;
    enter_worker();
    if (!tap_use_queues(c->tap, c->config.queues) ||
        (c->tap->vnet_hdr && !tap_set_offloads(c->tap, c->config.receive_offloads))) {
        log_limited(&c->tap->limit, "netdev %s: the tap device cannot be configured: %s",
                    c->tap->base.id, g_strerror(errno));
        return -1;
    }
    return 0;
}

static bool tap_co_configure(NetBackend *b, const NetConfig *config)
{
    TapCall c = {.tap = net_tap_from(b), .config = *config};
    enter_coroutine();
    return co_run_in_worker(tap_configure_in_worker, &c) == 0;
}

static void tap_leave(NetBackend *b)
{
    NetTap *t = net_tap_from(b);
    g_autoptr(GError) error = NULL;
    enter_main();
    const char *script = tap_down_script(t);
    if (script != NULL && !net_tap_run_script_at_end(script, t->name, &error)) {
        log_warn("netdev %s: network script: %s", b->id, error->message);
    }
}

static const OptSpec tap_options[] = {
    OPT_SPEC(NetTap, "ifname", OPT_STRING, ifname,
             .help = "name of the device (default: the next tapN)"),
    OPT_SPEC(NetTap, "fd", OPT_STRING, fd_text, .help = "an inherited descriptor of the device"),
    OPT_SPEC(NetTap, "fds", OPT_STRING, fds_text, .help = "descriptors of its queues, as 5:6:7"),
    OPT_SPEC(NetTap, "script", OPT_STRING, script,
             .help = "program that sets the device up; no: none (default: " NET_TAP_SCRIPT
                     ", if it exists)"),
    OPT_SPEC(NetTap, "downscript", OPT_STRING, downscript,
             .help = "program that is run at the end; no: none (default: " NET_TAP_DOWN_SCRIPT
                     ", if it exists)"),
    OPT_SPEC(NetTap, "br", OPT_STRING, br, .help = "bridge for the helper (default: br0)"),
    OPT_SPEC(NetTap, "helper", OPT_STRING, helper,
             .help =
                 "program that makes a device on a bridge (default with br=: " NET_TAP_HELPER ")"),
    OPT_SPEC(NetTap, "vnet_hdr", OPT_STRING, vnet_hdr_text,
             .help = "frames have a header, which offloads need (default: if the kernel can)"),
    OPT_SPEC(NetTap, "queues", OPT_U32, queue_count, .max = NET_MAX_QUEUES,
             .help = "queue pairs, for a NIC with mq=on (default: 1)"),
    OPT_SPEC(NetTap, "sndbuf", OPT_SIZE, sndbuf, .max = INT32_MAX,
             .help = "bytes that may be on their way in the kernel; 0: no limit"),
    OPT_SPEC(NetTap, "vhost", OPT_BOOL, vhost_on,
             .help = "the kernel's vhost-net moves the frames of the NIC"),
    OPT_SPEC(NetTap, "vhostforce", OPT_BOOL, vhostforce,
             .help = "vhost=on, and it is an error if vhost-net cannot be opened"),
    OPT_SPEC(NetTap, "vhostfd", OPT_STRING, vhostfd_text,
             .help = "an inherited descriptor of /dev/vhost-net"),
    OPT_SPEC(NetTap, "vhostfds", OPT_STRING, vhostfds_text,
             .help = "descriptors of /dev/vhost-net, one for each queue, as 7:8:9"),
    {0},
};

static const NetFdOption tap_fd_options[] = {
    {"fd", false}, {"fds", true}, {"vhostfd", false}, {"vhostfds", true}, {0}};

const NetType net_tap_type = {
    .name = "tap",
    .description = "a tap device of the host",
    .instance_size = sizeof(NetTap),
    .options = tap_options,
    .fd_options = tap_fd_options,
    .co_open = tap_co_open,
    .co_close = tap_co_close,
    .leave = tap_leave,
    .co_configure = tap_co_configure,
    .queue_start = net_tap_queue_start,
    .queue_stop = net_tap_queue_stop,
    .watch = net_tap_watch,
    .receive = net_tap_receive,
    .send = net_tap_send,
    .vhost_parts = net_tap_vhost_parts,
};
