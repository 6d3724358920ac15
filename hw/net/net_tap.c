/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev tap: its options, its scripts, and when the device is set up. */
#include "hw/net/net_tap.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "util/log.h"

/* ---- opening and closing ---- */

static void tap_failed(void *opaque)
{
    enter_main();
    net_backend_set_carrier(opaque, false);
}

static char *tap_describe(const NetTap *t)
{
    if (t->options.fd_text != NULL || t->options.fds_text != NULL) {
        return g_strdup_printf("%s=%s", t->options.fd_text != NULL ? "fd" : "fds",
                               t->options.fd_text != NULL ? t->options.fd_text
                                                          : t->options.fds_text);
    }
    if (t->options.helper != NULL || t->options.br != NULL) {
        return g_strdup_printf("ifname=%s,br=%s,helper=%s", t->device->name,
                               t->options.br != NULL ? t->options.br : NET_TAP_BRIDGE,
                               t->options.helper != NULL ? t->options.helper : NET_TAP_HELPER);
    }
    return g_strdup_printf("ifname=%s,script=%s,downscript=%s", t->device->name,
                           t->options.script != NULL ? t->options.script : NET_TAP_NO_SCRIPT,
                           t->options.downscript != NULL ? t->options.downscript
                                                         : NET_TAP_NO_SCRIPT);
}

/* The helper has a time limit of its own, and a script may take as long as it takes. */
static bool tap_co_open(NetBackend *b, GError **error)
{
    NetTap *t = net_tap_from(b);
    enter_main();
    enter_coroutine();
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
        t->queues[i] = (NetTapQueue){.tap = t, .fd = -1};
    }
    aio_bh_init(&t->failed_bh, b->main_ctx, tap_failed, b);
    NetTapDevice *d = t->device = net_tap_device_new(&t->options);
    bool helps = t->options.helper != NULL || t->options.br != NULL;
    if (!net_tap_device_co_call(d, net_tap_device_open, NULL,
                                helps ? NET_TAP_NO_LIMIT : NET_TAP_LIMIT_NS, error) ||
        !net_tap_device_co_call(d, net_tap_device_run_up_script, NULL, NET_TAP_NO_LIMIT, error)) {
        return false;
    }
    for (unsigned i = 0; i < d->queues; i++) {
        t->queues[i].fd = d->fds[i];
    }
    t->vnet_hdr = d->vnet_hdr;
    b->queues = d->queues;
    b->can_send = b->can_receive = d->offloads;
    b->info = tap_describe(t);
    d->used = net_tap_vhost_co_open(t, error);
    return d->used;
}

static void tap_co_close(NetBackend *b)
{
    NetTap *t = net_tap_from(b);
    g_autoptr(GError) error = NULL;
    enter_main();
    enter_coroutine();
    net_tap_vhost_co_close(t);
    aio_bh_cancel(&t->failed_bh);
    if (!net_tap_device_co_end(g_steal_pointer(&t->device), NET_TAP_LIMIT_NS, &error)) {
        log_warn("netdev %s: its end: %s", b->id, error->message);
    }
}

static bool tap_co_configure(NetBackend *b, const NetConfig *config)
{
    NetTap *t = net_tap_from(b);
    g_autoptr(GError) error = NULL;
    enter_coroutine();
    enter_loop(co_context(co_self()));
    if (net_tap_device_co_call(t->device, net_tap_device_configure, config, NET_TAP_LIMIT_NS,
                               &error)) {
        return true;
    }
    log_limited(&t->limit, "netdev %s: %s", b->id, error->message);
    return false;
}

static void tap_leave(NetBackend *b)
{
    NetTap *t = net_tap_from(b);
    g_autoptr(GError) error = NULL;
    enter_main();
    const char *script = net_tap_device_down_script(t->device);
    if (script != NULL && !net_tap_run_script_at_end(script, t->device->name, &error)) {
        log_warn("netdev %s: network script: %s", b->id, error->message);
    }
}

static const OptSpec tap_options[] = {
    OPT_SPEC(NetTap, "ifname", OPT_STRING, options.ifname,
             .help = "name of the device (default: the next tapN)"),
    OPT_SPEC(NetTap, "fd", OPT_STRING, options.fd_text,
             .help = "an inherited descriptor of the device"),
    OPT_SPEC(NetTap, "fds", OPT_STRING, options.fds_text,
             .help = "descriptors of its queues, as 5:6:7"),
    OPT_SPEC(NetTap, "script", OPT_STRING, options.script,
             .help = "program that sets the device up; no: none (default: " NET_TAP_SCRIPT
                     ", if it exists)"),
    OPT_SPEC(NetTap, "downscript", OPT_STRING, options.downscript,
             .help = "program that is run at the end; no: none (default: " NET_TAP_DOWN_SCRIPT
                     ", if it exists)"),
    OPT_SPEC(NetTap, "br", OPT_STRING, options.br, .help = "bridge for the helper (default: br0)"),
    OPT_SPEC(NetTap, "helper", OPT_STRING, options.helper,
             .help =
                 "program that makes a device on a bridge (default with br=: " NET_TAP_HELPER ")"),
    OPT_SPEC(NetTap, "vnet_hdr", OPT_STRING, options.vnet_hdr_text,
             .help = "frames have a header, which offloads need (default: if the kernel can)"),
    OPT_SPEC(NetTap, "queues", OPT_U32, options.queue_count, .max = NET_MAX_QUEUES,
             .help = "queue pairs, for a NIC with mq=on (default: 1)"),
    OPT_SPEC(NetTap, "sndbuf", OPT_SIZE, options.sndbuf, .max = INT32_MAX,
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
