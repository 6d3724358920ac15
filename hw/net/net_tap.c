/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev tap: its options, its scripts, and when the device is set up. */
#include "hw/net/net_tap.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "util/log.h"

int net_tap_fd(const NetBackend *b, unsigned queue)
{
    return ((const NetTap *)(const void *)b)->queues[queue].fd;
}

/* ---- opening and closing ---- */

typedef struct TapCall {
    NetTap *tap;
    NetConfig config;
    GError *error;
} TapCall;

/* Without script= the default one runs if it exists. */
static RUNS_IN_WORKER bool tap_run_up_script(NetTap *t, GError **error)
{
    bool made = t->fd_text == NULL && t->fds_text == NULL && t->helper == NULL && t->br == NULL;
    const char *script = t->script != NULL ? t->script : NET_TAP_SCRIPT;
    if (!made || strcmp(script, NET_TAP_NO_SCRIPT) == 0 || *script == '\0' ||
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
    enter_worker();
    return net_tap_open_device(c->tap, &c->error) && tap_run_up_script(c->tap, &c->error) ? 0 : -1;
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
                           t->script != NULL ? t->script : NET_TAP_NO_SCRIPT,
                           t->downscript != NULL ? t->downscript : NET_TAP_NO_SCRIPT);
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
    bool runs = t->ran_script && strcmp(script, NET_TAP_NO_SCRIPT) != 0 && *script != '\0' &&
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
    if (!net_tap_configure_device(c->tap, &c->config)) {
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
