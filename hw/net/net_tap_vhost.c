/* SPDX-License-Identifier: Apache-2.0 */
/* vhost=on: the kernel's vhost-net serves a NIC's queues, one descriptor of it for each tap queue. */
#include <fcntl.h>
#include <unistd.h>
#include "hw/net/net_tap.h"
#include "hw/vhost/vhost_net.h"
#include "util/log.h"

/* The descriptors of vhostfd= and vhostfds=, -1 for those that skiff opens itself. */
static RUNS_IN_MAIN bool tap_vhost_get_fds(const NetTap *t, int fds[NET_MAX_QUEUES], GError **error)
{
    const char *option = t->vhostfds_text != NULL ? "vhostfds" : "vhostfd";
    const char *text = t->vhostfds_text != NULL ? t->vhostfds_text : t->vhostfd_text;
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++) {
        fds[i] = -1;
    }
    if (text == NULL) {
        return true;
    }
    g_auto(GStrv) list = g_strsplit(text, ":", t->vhostfds_text != NULL ? 0 : 1);
    if (g_strv_length(list) != t->base.queues) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "%s=%s: %u descriptors are needed, one for each queue", option, text,
                    t->base.queues);
        return false;
    }
    for (unsigned i = 0; list[i] != NULL; i++) {
        uint64_t fd;
        if (!opt_parse_u64(list[i], 0, INT_MAX, &fd, error)) {
            g_prefix_error(error, "%s=: ", option);
            return false;
        }
        if (fcntl((int)fd, F_GETFD) < 0) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "%s=%s: skiff has inherited no such descriptor", option, list[i]);
            return false;
        }
        fds[i] = (int)fd;
    }
    return true;
}

static bool tap_vhost_is_wanted(const NetTap *t)
{
    return t->vhost_on || t->vhostforce || t->vhostfd_text != NULL || t->vhostfds_text != NULL;
}

static coroutine_fn RUNS_IN_MAIN bool tap_vhost_co_open_all(NetTap *t, GError **error)
{
    int fds[NET_MAX_QUEUES];
    if (!t->vnet_hdr) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "vhost=on needs vnet_hdr=on");
        return false;
    }
    if (!tap_vhost_get_fds(t, fds, error)) {
        return false;
    }
    t->vhost_name = g_strdup_printf("vhost-net %s", t->base.id);
    t->vhost = g_new0(VhostNet, t->base.queues);
    for (unsigned i = 0; i < t->base.queues; i++) {
        int own = fds[i] >= 0 ? fcntl(fds[i], F_DUPFD_CLOEXEC, 3) : -1;
        if (!vhost_net_co_open(&t->vhost[i], own, t->queues[i].fd, t->base.main_ctx, t->vhost_name,
                               error)) {
            if (own >= 0 && t->vhost[i].kernel.dev.losses == 0) {
                close(own);
            }
            return false;
        }
        t->vhost_count++;
    }
    return true;
}

/* As in QEMU: skiff itself moves the frames when vhost cannot be had, unless vhostforce=on. */
bool net_tap_vhost_co_open(NetTap *t, GError **error)
{
    g_autoptr(GError) failure = NULL;
    if (!tap_vhost_is_wanted(t) || tap_vhost_co_open_all(t, &failure)) {
        return true;
    }
    net_tap_vhost_co_close(t);
    if (t->vhostforce || failure->domain == OPT_ERROR) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    log_warn("netdev %s: %s; skiff serves the queues itself", t->base.id, failure->message);
    return true;
}

void net_tap_vhost_co_close(NetTap *t)
{
    while (t->vhost_count > 0) {
        vhost_net_co_close(&t->vhost[--t->vhost_count]);
    }
    g_clear_pointer(&t->vhost, g_free);
    g_clear_pointer(&t->vhost_name, g_free);
}

unsigned net_tap_vhost_parts(NetBackend *b, NetVhostPart parts[NET_MAX_QUEUES])
{
    NetTap *t = net_tap_from(b);
    for (unsigned i = 0; i < t->vhost_count; i++) {
        parts[i] = (NetVhostPart){.dev = &t->vhost[i].kernel.dev,
                                  .first_queue = VHOST_NET_VRINGS * i,
                                  .count = VHOST_NET_VRINGS,
                                  .features = VHOST_NET_FEATURES};
    }
    return t->vhost_count;
}
