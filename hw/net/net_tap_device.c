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

/* What of the options is copied. */
#define TAP_TEXTS(o)                                                                               \
    {                                                                                              \
        &(o)->ifname, &(o)->script, &(o)->downscript, &(o)->fd_text, &(o)->fds_text, &(o)->br,     \
            &(o)->helper, &(o)->vnet_hdr_text                                                      \
    }

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
static bool tap_option_excludes(const NetTapDevice *d, const char *option, bool given,
                                GError **error)
{
    bool is_helper = strcmp(option, "helper") == 0;
    const struct {
        const char *name;
        bool given;
    } others[] = {
        {"ifname", d->options.ifname != NULL},
        {"script", d->options.script != NULL},
        {"downscript", d->options.downscript != NULL},
        {"vnet_hdr", d->options.vnet_hdr_text != NULL},
        {"queues", d->options.queue_count != 0},
        {"helper", d->options.helper != NULL && !is_helper},
        {"br", d->options.br != NULL && !is_helper},
    };
    for (unsigned i = 0; given && i < G_N_ELEMENTS(others); i++) {
        if (others[i].given) {
            return refuse(error, "%s= with %s=: the device is set up already", others[i].name,
                          option);
        }
    }
    return true;
}

static bool tap_check_options(NetTapDevice *d, GError **error)
{
    bool helper = d->options.helper != NULL || d->options.br != NULL;
    if (d->options.fd_text != NULL && d->options.fds_text != NULL) {
        return refuse(error, "fd= or fds=, not both");
    }
    if (!tap_option_excludes(d, "fd", d->options.fd_text != NULL, error) ||
        !tap_option_excludes(d, "fds", d->options.fds_text != NULL, error) ||
        !tap_option_excludes(d, "helper", helper, error)) {
        return false;
    }
    if (d->options.ifname != NULL &&
        (!*d->options.ifname || strlen(d->options.ifname) >= IFNAMSIZ)) {
        return refuse(error, "ifname=%s: 1 to %d characters are needed", d->options.ifname,
                      IFNAMSIZ - 1);
    }
    if (d->options.queue_count > 1 && d->options.script != NULL &&
        strcmp(d->options.script, NET_TAP_NO_SCRIPT) != 0) {
        return refuse(error, "script= with queues=: set the device up before, with script=no");
    }
    return true;
}

/* vnet_hdr=: 1 on, 0 off, -1 what the kernel has. */
static bool tap_parse_vnet_hdr(const NetTapDevice *d, int *wanted, GError **error)
{
    bool on;
    *wanted = -1;
    if (d->options.vnet_hdr_text == NULL) {
        return true;
    }
    if (!opt_parse_bool(d->options.vnet_hdr_text, &on, error)) {
        g_prefix_error(error, "vnet_hdr=: ");
        return false;
    }
    *wanted = on;
    return true;
}

/* ---- descriptors ---- */

static bool tap_add_fd(NetTapDevice *d, int fd)
{
    d->fds[d->queues] = fd;
    d->attached[d->queues++] = true;
    return true;
}

static bool tap_set_name(NetTapDevice *d, int fd, int flags, const char *name, GError **error)
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
    g_strlcpy(d->name, r.ifr_name, IFNAMSIZ);
    return true;
}

/* Creates or opens the device, with @queues queues. */
static bool tap_create(NetTapDevice *d, unsigned queues, int vnet_hdr, GError **error)
{
    for (unsigned i = 0; i < queues; i++) {
        int fd = open(TAP_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        unsigned features = 0;
        if (fd < 0) {
            return tap_system_error(error, TAP_DEVICE);
        }
        tap_add_fd(d, fd);
        if (ioctl(fd, TUNGETFEATURES, &features) < 0) {
            return tap_system_error(error, "TUNGETFEATURES");
        }
        if (vnet_hdr > 0 && !(features & IFF_VNET_HDR)) {
            return refuse(error, "vnet_hdr=on: the kernel does not support it");
        }
        int flags = IFF_TAP | IFF_NO_PI | (queues > 1 ? IFF_MULTI_QUEUE : 0) |
                    (vnet_hdr != 0 ? (int)(features & IFF_VNET_HDR) : 0);
        const char *name = i > 0                       ? d->name
                           : d->options.ifname != NULL ? d->options.ifname
                                                       : "tap%d";
        if (!tap_set_name(d, fd, flags, name, error)) {
            return false;
        }
    }
    return true;
}

static bool tap_use_fds(NetTapDevice *d, const char *option, const char *text, GError **error)
{
    /* fd= is a list of one, since its number has no colon */
    g_auto(GStrv) list = g_strsplit(text, ":", strcmp(option, "fds") == 0 ? 0 : 1);
    for (unsigned i = 0; list[i] != NULL; i++) {
        uint64_t fd;
        if (d->queues == NET_MAX_QUEUES) {
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
        tap_add_fd(d, own);
    }
    return d->queues > 0 ? true : refuse(error, "%s= is empty", option);
}

/* Learns about the device from its first descriptor. */
static bool tap_examine(NetTapDevice *d, GError **error)
{
    for (unsigned i = 0; i < d->queues; i++) {
        struct ifreq r = {0};
        int fd = d->fds[i], flags = fcntl(fd, F_GETFL);
        if (ioctl(fd, TUNGETIFF, &r) < 0 || !(r.ifr_flags & IFF_TAP)) {
            return refuse(error, "descriptor %u is not a tap device", i);
        }
        bool vnet_hdr = r.ifr_flags & IFF_VNET_HDR;
        if (i > 0 && (vnet_hdr != d->vnet_hdr || strcmp(d->name, r.ifr_name) != 0)) {
            return refuse(error, "descriptor %u is of another device than the first one", i);
        }
        d->vnet_hdr = vnet_hdr;
        g_strlcpy(d->name, r.ifr_name, IFNAMSIZ);
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

static bool tap_set_offloads(const NetTapDevice *d, uint32_t offloads)
{
    return ioctl(d->fds[0], TUNSETOFFLOAD, tap_offload_bits(offloads)) == 0;
}

/* A guest that may send what the kernel can segment needs no more than that the kernel knows the type. */
static void tap_find_offloads(NetTapDevice *d)
{
    static const uint32_t kinds[] = {NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN,
                                     NET_OFFLOAD_UFO, NET_OFFLOAD_USO4 | NET_OFFLOAD_USO6};
    uint32_t all = NET_OFFLOAD_CSUM;
    if (!d->vnet_hdr || !tap_set_offloads(d, all)) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (tap_set_offloads(d, NET_OFFLOAD_CSUM | kinds[i])) {
            all |= kinds[i];
        }
    }
    tap_set_offloads(d, 0);
    d->offloads = all;
}

static bool tap_attach(NetTapDevice *d, unsigned queue, bool on)
{
    struct ifreq r = {.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
    if (d->attached[queue] == on) {
        return true;
    }
    if (ioctl(d->fds[queue], TUNSETQUEUE, &r) < 0) {
        return false;
    }
    d->attached[queue] = on;
    return true;
}

/* Descriptors that were given by the user may be duplicates of each other: one that is detached as another one
 * can be attached. */
static bool tap_queues_differ(NetTapDevice *d, GError **error)
{
    struct ifreq r = {.ifr_flags = IFF_ATTACH_QUEUE};
    if (d->queues > 1 && ioctl(d->fds[0], TUNSETQUEUE, &r) == 0) {
        return refuse(error, "two of the descriptors are of the same queue");
    }
    return true;
}

/* Uses the first @queues queues; the kernel sends nothing to the others. */
static bool tap_use_queues(NetTapDevice *d, unsigned queues)
{
    bool ok = true;
    for (unsigned i = 0; d->queues > 1 && i < d->queues; i++) {
        ok = tap_attach(d, i, i < queues) && ok;
    }
    return ok;
}

/* ---- what a call does ---- */

static bool tap_is_given(const NetTapDevice *d)
{
    return d->options.fd_text != NULL || d->options.fds_text != NULL;
}

static RUNS_IN_WORKER bool tap_open_descriptors(NetTapDevice *d, GError **error)
{
    const NetTapOptions *o = &d->options;
    int vnet_hdr;
    if (!tap_check_options(d, error) || !tap_parse_vnet_hdr(d, &vnet_hdr, error)) {
        return false;
    }
    if (tap_is_given(d)) {
        bool one = o->fd_text != NULL;
        return tap_use_fds(d, one ? "fd" : "fds", one ? o->fd_text : o->fds_text, error);
    }
    if (o->helper != NULL || o->br != NULL) {
        int fd = net_tap_run_helper(o->helper != NULL ? o->helper : NET_TAP_HELPER,
                                    o->br != NULL ? o->br : NET_TAP_BRIDGE, true, error);
        return fd >= 0 && tap_add_fd(d, fd);
    }
    return tap_create(d, MAX(o->queue_count, 1), vnet_hdr, error);
}

bool net_tap_device_open(NetTapDevice *d, const NetConfig *unused, GError **error)
{
    if (!tap_open_descriptors(d, error) || !tap_examine(d, error)) {
        return false;
    }
    int sndbuf = d->options.sndbuf ? (int)d->options.sndbuf : INT32_MAX;
    if (ioctl(d->fds[0], TUNSETSNDBUF, &sndbuf) < 0 && d->options.sndbuf) {
        return tap_system_error(error, "sndbuf=");
    }
    tap_find_offloads(d);
    if (!tap_use_queues(d, 1)) {
        return refuse(error, "the device does not let queues be turned off: %s", g_strerror(errno));
    }
    return tap_queues_differ(d, error);
}

/* Without script= the default one runs if it exists. */
bool net_tap_device_run_up_script(NetTapDevice *d, const NetConfig *unused, GError **error)
{
    const NetTapOptions *o = &d->options;
    const char *script = o->script != NULL ? o->script : NET_TAP_SCRIPT;
    bool made = !tap_is_given(d) && o->helper == NULL && o->br == NULL;
    if (!made || strcmp(script, NET_TAP_NO_SCRIPT) == 0 || *script == '\0' ||
        (o->script == NULL && (o->queue_count > 1 || access(script, X_OK) != 0))) {
        return true;
    }
    if (!net_tap_run_script(script, d->name, error)) {
        g_prefix_error(error, "network script: ");
        return false;
    }
    d->ran_script = true;
    return true;
}

bool net_tap_device_configure(NetTapDevice *d, const NetConfig *config, GError **error)
{
    return (tap_use_queues(d, config->queues) &&
            (!d->vnet_hdr || tap_set_offloads(d, config->receive_offloads))) ||
           tap_system_error(error, "the tap device cannot be configured");
}

const char *net_tap_device_down_script(const NetTapDevice *d)
{
    const NetTapOptions *o = &d->options;
    const char *script = o->downscript != NULL ? o->downscript : NET_TAP_DOWN_SCRIPT;
    bool runs = d->ran_script && strcmp(script, NET_TAP_NO_SCRIPT) != 0 && *script != '\0' &&
                (o->downscript != NULL || access(script, X_OK) == 0);
    return runs ? script : NULL;
}

/* Called once. Queues of the user's device are as they were if it is not used after all. */
static RUNS_IN_WORKER bool tap_end(NetTapDevice *d, GError **error)
{
    const char *script = net_tap_device_down_script(d);
    bool ok = script == NULL || net_tap_run_script(script, d->name, error);
    for (unsigned i = 0; i < d->queues; i++) {
        if (tap_is_given(d) && !d->used) {
            tap_attach(d, i, true);
        }
        close(d->fds[i]); /* a device that is not persistent goes with the last one */
    }
    d->ended = true;
    return ok;
}

/* ---- calls ---- */

typedef struct TapCall {
    NetTapDevice *device;
    NetTapDeviceFn *fn; /* NULL: the end of the device */
    NetConfig config;
    GError *error;
} TapCall;

static void tap_device_unref(NetTapDevice *d)
{
    if (atomic_fetch_sub(&d->references, 1) == 1) {
        char **const texts[] = TAP_TEXTS(&d->options);
        for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
            g_free(*texts[i]);
        }
        pthread_mutex_destroy(&d->lock);
        g_free(d);
    }
}

static void tap_call_free(TapCall *c)
{
    atomic_fetch_sub(&c->device->calls, 1);
    tap_device_unref(c->device);
    g_clear_error(&c->error);
    g_free(c);
}

static int tap_call_in_worker(void *opaque)
{
    TapCall *c = opaque;
    NetTapDevice *d = c->device;
    enter_worker();
    pthread_mutex_lock(&d->lock);
    bool ok = c->fn == NULL ? d->ended || tap_end(d, &c->error)
                            : !d->ended && c->fn(d, &c->config, &c->error);
    pthread_mutex_unlock(&d->lock);
    return ok ? 0 : -1;
}

/* The call was left behind. The end of a device happens in any case. */
static void tap_call_release(void *opaque)
{
    TapCall *c = opaque;
    if (c->fn == NULL) {
        tap_call_in_worker(c);
    }
    tap_call_free(c);
}

/* False + error: it has failed, or was left behind. */
static coroutine_fn bool tap_co_call(NetTapDevice *d, NetTapDeviceFn *fn, const NetConfig *config,
                                     int64_t limit_ns, GError **error)
{
    TapCall *c = g_new0(TapCall, 1);
    int result = 0;
    c->device = d;
    c->fn = fn;
    c->config = config != NULL ? *config : (NetConfig){0};
    atomic_fetch_add(&d->references, 1);
    atomic_fetch_add(&d->calls, 1);
    int64_t deadline_ns = limit_ns;
    if (limit_ns != NET_TAP_NO_LIMIT) {
        deadline_ns = aio_now_ns(co_context(co_self())) + limit_ns;
    }
    if (!co_run_in_lane_until(&d->lane, tap_call_in_worker, tap_call_release, c, deadline_ns,
                              &result)) {
        return refuse(error, "the host's kernel, or a script, has not returned in time");
    }
    if (result < 0) {
        g_propagate_error(error, g_steal_pointer(&c->error));
    }
    tap_call_free(c);
    return result == 0;
}

/* ---- for net_tap.c ---- */

NetTapDevice *net_tap_device_new(const NetTapOptions *options)
{
    NetTapDevice *d = g_new0(NetTapDevice, 1);
    d->options = *options;
    char **const texts[] = TAP_TEXTS(&d->options);
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        *texts[i] = g_strdup(*texts[i]);
    }
    atomic_store(&d->references, 1);
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

bool net_tap_device_co_call(NetTapDevice *d, NetTapDeviceFn *fn, const NetConfig *config,
                            int64_t limit_ns, GError **error)
{
    if (atomic_load(&d->calls) != 0) {
        return refuse(error, "the host's kernel has not returned from an earlier call");
    }
    return tap_co_call(d, fn, config, limit_ns, error);
}

bool net_tap_device_co_end(NetTapDevice *d, int64_t limit_ns, GError **error)
{
    bool hangs = atomic_load(&d->calls) != 0;
    bool ok = tap_co_call(d, NULL, NULL, hangs ? 0 : limit_ns, error);
    tap_device_unref(d);
    return ok;
}
