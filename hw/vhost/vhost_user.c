/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/ram_outside.h"
#include "hw/vhost/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "hw/vhost/trace_events.h"
#include "util/log.h"
#include "util/opts/opts.h"

#define VIRTIO_F_VERSION_1_BIT (1ull << 32)
/* What skiff has of the protocol. */
#define USER_PROTOCOL                                                                              \
    ((1ull << VHOST_USER_PROTOCOL_F_MQ) | (1ull << VHOST_USER_PROTOCOL_F_LOG_SHMFD) |              \
     (1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK) | (1ull << VHOST_USER_PROTOCOL_F_BACKEND_REQ) |     \
     (1ull << VHOST_USER_PROTOCOL_F_CONFIG) | (1ull << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))

/* ---- coroutines of the connection ---- */

static void user_start_coroutine(VhostUser *u, CoroutineEntry *entry)
{
    u->coroutines++;
    co_start(u->dev.ctx, entry, u);
}

/* The coroutine's last use of @u. */
static RUNS_IN_MAIN void user_end_coroutine(VhostUser *u)
{
    u->coroutines--;
    co_queue_wake_all(&u->changed);
}

/* ---- the end of a connection ---- */

/* From GREETING or USABLE to ABSENT. */
static RUNS_IN_MAIN void user_drop(VhostUser *u, const char *why)
{
    if (u->link == NULL) {
        return;
    }
    if (u->dev.usable) {
        vhost_lost(&u->dev, why); /* drops it by give_up() */
        return;
    }
    g_free(u->why);
    u->why = g_strdup(why);
    vhost_user_link_close(g_steal_pointer(&u->link));
    co_queue_wake_all(&u->changed);
    chardev_disconnect(u->chardev);
}

static void user_link_lost(void *opaque, const char *why)
{
    enter_main();
    user_drop(opaque, why);
}

/* ---- configuration space ---- */

static coroutine_fn RUNS_IN_MAIN bool user_co_read_config(VhostUser *u, GError **error)
{
    unsigned size = u->needs.config_size;
    VhostUserMessage m = vhost_user_message(VHOST_USER_GET_CONFIG, VHOST_USER_CONFIG_HEADER + size);
    m.payload.config.size = size;
    if (!vhost_user_co_send(u, &m, false, aio_now_ns(u->dev.ctx) + u->dev.timeout_ns, error)) {
        return false;
    }
    if (m.header.size == 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "GET_CONFIG: the back end has no configuration space of %u bytes", size);
        return false;
    }
    memcpy(u->config, m.payload.config.bytes, size);
    return true;
}

/* The first contents are no change. */
static RUNS_IN_MAIN void user_tell_config(VhostUser *u)
{
    if (u->greeted && u->events != NULL && u->events->config_changed != NULL) {
        u->events->config_changed(u->events_opaque);
    }
}

static void user_config_coroutine(void *opaque)
{
    VhostUser *u = opaque;
    enter_coroutine();
    enter_main();
    while (u->config_stale && u->dev.usable && !u->closing) {
        u->config_stale = false;
        if (user_co_read_config(u, NULL) && u->dev.usable && !u->closing) {
            user_tell_config(u);
        }
    }
    u->config_reading = false;
    user_end_coroutine(u);
}

/* Any number of these messages costs one read under way and one more. */
static void user_config_changed(void *opaque)
{
    VhostUser *u = opaque;
    enter_main();
    if (u->needs.config_size == 0 || !u->dev.usable) {
        return;
    }
    u->config_stale = true;
    if (!u->config_reading) {
        u->config_reading = true;
        user_start_coroutine(u, user_config_coroutine);
    }
}

bool vhost_user_co_set_config(VhostUser *u, unsigned offset, const uint8_t *bytes, unsigned size,
                              GError **error)
{
    VhostUserMessage m = vhost_user_message(VHOST_USER_SET_CONFIG, VHOST_USER_CONFIG_HEADER + size);
    m.payload.config.offset = offset;
    m.payload.config.size = size;
    memcpy(m.payload.config.bytes, bytes, size);
    return vhost_user_co_send(u, &m, true, aio_now_ns(u->dev.ctx) + u->dev.timeout_ns, error);
}

static const VhostUserLinkEvents user_link_events = {.lost = user_link_lost,
                                                     .config_changed = user_config_changed};

/* ---- the greeting ---- */

static coroutine_fn RUNS_IN_MAIN bool user_co_get_u64(VhostUser *u, VhostUserRequest request,
                                                      uint64_t *value, int64_t deadline_ns,
                                                      GError **error)
{
    VhostUserMessage m = vhost_user_message(request, 0);
    if (!vhost_user_co_send(u, &m, false, deadline_ns, error)) {
        return false;
    }
    *value = m.payload.u64;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool user_co_agree_on_protocol(VhostUser *u, int64_t deadline_ns,
                                                                GError **error)
{
    uint64_t theirs;
    u->protocol_features = 0;
    if ((u->peer_features & VHOST_USER_F_PROTOCOL_FEATURES) == 0) {
        return true;
    }
    if (!user_co_get_u64(u, VHOST_USER_GET_PROTOCOL_FEATURES, &theirs, deadline_ns, error)) {
        return false;
    }
    VhostUserMessage m = vhost_user_message(VHOST_USER_SET_PROTOCOL_FEATURES, sizeof(uint64_t));
    uint64_t agreed = theirs & USER_PROTOCOL;
    if (u->needs.config_size == 0) {
        agreed &= ~(1ull << VHOST_USER_PROTOCOL_F_CONFIG);
    }
    if (u->needs.in_order || u->needs.stateful) {
        agreed &= ~(1ull << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
    }
    m.payload.u64 = agreed;
    if (!vhost_user_co_send(u, &m, false, deadline_ns, error)) {
        return false;
    }
    u->protocol_features = agreed;
    return true;
}

/* How many vrings the peer serves. Without multiqueue, one unit, or what the device needs. */
static coroutine_fn RUNS_IN_MAIN bool user_co_get_vrings(VhostUser *u, unsigned *vrings,
                                                         int64_t deadline_ns, GError **error)
{
    uint64_t units;
    *vrings = u->needs.vrings_per_unit == 2 ? 2 : u->needs.vrings;
    if (!vhost_user_has_protocol(u, VHOST_USER_PROTOCOL_F_MQ)) {
        return true;
    }
    if (!user_co_get_u64(u, VHOST_USER_GET_QUEUE_NUM, &units, deadline_ns, error)) {
        return false;
    }
    *vrings = (unsigned)MIN(units * u->needs.vrings_per_unit, VHOST_MAX_VRINGS);
    if (units > VHOST_MAX_VRINGS) {
        *vrings = VHOST_MAX_VRINGS;
    }
    return true;
}

static RUNS_IN_MAIN bool user_check_peer(const VhostUser *u, unsigned vrings, GError **error)
{
    uint64_t needed =
        u->needs.features | VIRTIO_F_VERSION_1_BIT | (u->greeted ? u->dev.features : 0);
    uint64_t missing = needed & ~u->peer_features;
    if (u->greeted && !vhost_user_has_protocol(u, VHOST_USER_PROTOCOL_F_LOG_SHMFD)) {
        missing |= needed & VHOST_F_LOG_WRITES;
    }
    if (missing != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the back end lacks features %#" G_GINT64_MODIFIER "x that the device needs",
                    missing);
        return false;
    }
    if (vrings < u->needs.vrings) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the back end serves %u queues, the device has %u", vrings, u->needs.vrings);
        return false;
    }
    if (u->needs.config_size != 0 && !vhost_user_has_protocol(u, VHOST_USER_PROTOCOL_F_CONFIG)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the back end does not describe its device (protocol feature CONFIG)");
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool user_co_greet(VhostUser *u, GError **error)
{
    unsigned vrings;
    int64_t deadline_ns = aio_now_ns(u->dev.ctx) + VHOST_USER_OPEN_NS;
    VhostUserMessage owner = vhost_user_message(VHOST_USER_SET_OWNER, 0);
    if (!user_co_get_u64(u, VHOST_USER_GET_FEATURES, &u->peer_features, deadline_ns, error) ||
        !user_co_agree_on_protocol(u, deadline_ns, error) ||
        !user_co_get_vrings(u, &vrings, deadline_ns, error) || !user_check_peer(u, vrings, error) ||
        !vhost_user_co_send(u, &owner, false, deadline_ns, error)) {
        return false;
    }
    if (u->needs.config_size != 0 &&
        ((vhost_user_has_protocol(u, VHOST_USER_PROTOCOL_F_BACKEND_REQ) &&
          !vhost_user_link_co_open_channel(u->link, deadline_ns, error)) ||
         !user_co_read_config(u, error))) {
        return false;
    }
    if (!u->greeted) {
        u->dev.features = u->peer_features & ~VHOST_USER_F_PROTOCOL_FEATURES;
        if (!vhost_user_has_protocol(u, VHOST_USER_PROTOCOL_F_LOG_SHMFD)) {
            u->dev.features &= ~VHOST_F_LOG_WRITES;
        }
        u->dev.num_vrings = vrings;
    }
    return true;
}

/* The back end of a device whose requests may complete in any order can be replaced if it keeps a list
 * of those in flight. */
static RUNS_IN_MAIN void user_note_replaceable(VhostUser *u)
{
    u->dev.reconnects =
        !u->needs.stateful &&
        (u->needs.in_order || vhost_user_has_protocol(u, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD));
}

static void user_greet_coroutine(void *opaque)
{
    VhostUser *u = opaque;
    g_autoptr(GError) error = NULL;
    enter_coroutine();
    enter_main();
    VhostUserLink *link = u->link;
    if (link != NULL && !u->closing && !u->dev.usable) {
        bool ok = user_co_greet(u, &error);
        if (u->link != link) {
            /* lost meanwhile; `why` has the reason */
        } else if (!ok) {
            log_limited(&u->limit, "%s: %s", u->name, error->message);
            user_drop(u, error->message);
        } else {
            trace_vhost_user_usable(u->name, u->dev.features, u->protocol_features,
                                    u->dev.num_vrings);
            user_note_replaceable(u);
            vhost_came_back(&u->dev);
            aio_bh_schedule(&u->presence_bh);
            user_tell_config(u);
            u->greeted = true;
        }
    }
    user_end_coroutine(u);
}

static RUNS_IN_MAIN void user_connected(VhostUser *u)
{
    int fd = chardev_socket_fd(u->chardev);
    int own = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0 || u->link != NULL) {
        if (own >= 0) {
            close(own);
        }
        return;
    }
    u->link = vhost_user_link_new(u->dev.ctx, own, &user_link_events, u);
    user_start_coroutine(u, user_greet_coroutine);
}

static void user_chardev_event(void *opaque, ChardevEvent event)
{
    VhostUser *u = opaque;
    enter_main();
    if (event == CHARDEV_OPENED) {
        user_connected(u);
    } else if (event == CHARDEV_CLOSED) {
        user_drop(u, "the peer has closed the connection");
    }
}

static const ChardevFrontendOps user_frontend = {.event = user_chardev_event};

static void user_presence_changed(void *opaque)
{
    VhostUser *u = opaque;
    enter_main();
    if (u->events != NULL && u->events->presence_changed != NULL) {
        u->events->presence_changed(u->events_opaque);
    }
}

/* ---- vrings that are enabled ---- */

static void user_adjust_coroutine(void *opaque)
{
    VhostUser *u = opaque;
    unsigned enabled;
    enter_coroutine();
    enter_main();
    do {
        enabled = u->enabled;
    } while (vhost_user_co_enable(u) && enabled != u->enabled);
    u->adjusting = false;
    user_end_coroutine(u);
}

void vhost_user_set_enabled(VhostUser *u, unsigned enabled)
{
    if (u->enabled == enabled) {
        return;
    }
    u->enabled = enabled;
    if (!u->adjusting && !u->closing && u->dev.phase == VHOST_RUNNING) {
        u->adjusting = true;
        user_start_coroutine(u, user_adjust_coroutine);
    }
}

/* ---- life cycle ---- */

static coroutine_fn RUNS_IN_MAIN bool user_co_await_peer(VhostUser *u, GError **error)
{
    int64_t deadline_ns = aio_now_ns(u->dev.ctx) + VHOST_USER_OPEN_NS;
    while (!u->dev.usable && u->why == NULL) {
        if (!co_queue_wait_until(&u->changed, "the first vhost-user back end", deadline_ns)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                        "no back end has connected to chardev '%s' in %d seconds: start it first",
                        u->chardev->id, (int)(VHOST_USER_OPEN_NS / 1000000000));
            return false;
        }
    }
    if (!u->dev.usable) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "the back end at chardev '%s': %s",
                    u->chardev->id, u->why);
    }
    return u->dev.usable;
}

bool vhost_user_co_open(VhostUser *u, const VhostUserNeeds *needs, Chardev *chardev,
                        AioContext *ctx, const GuestRam *ram, const char *id,
                        const VhostUserEvents *events, void *opaque, GError **error)
{
    *u =
        (VhostUser){.needs = *needs, .chardev = chardev, .events = events, .events_opaque = opaque};
    if (!chardev_is_socket(chardev)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "chardev '%s' is no socket; vhost-user needs -chardev socket,path=...",
                    chardev->id);
        return false;
    }
    u->name = g_strdup_printf("vhost-user %s", id);
    u->inflight_fd = -1;
    co_queue_init(&u->changed);
    vhost_init(&u->dev, &vhost_user_ops, ctx, ram, u->name);
    u->dev.needs_fds = true;
    u->dev.max_regions = VHOST_USER_MAX_REGIONS;
    u->enabled = VHOST_USER_ALL_VRINGS;
    aio_bh_init(&u->presence_bh, ctx, user_presence_changed, u);
    VhostMemory memory;
    if (ram != NULL && !vhost_memory_build(ram, u->dev.max_regions, true, &memory, error)) {
        g_clear_pointer(&u->name, g_free);
        return false;
    }
    ram_outside_begin();
    chardev_attach(chardev, &user_frontend, u);
    if (!user_co_await_peer(u, error)) {
        vhost_user_co_close(u);
        return false;
    }
    return true;
}

void vhost_user_co_close(VhostUser *u)
{
    if (u->name == NULL) {
        return;
    }
    u->closing = true;
    chardev_attach(u->chardev, NULL, NULL);
    if (u->link != NULL) {
        vhost_user_link_close(g_steal_pointer(&u->link));
        chardev_disconnect(u->chardev);
    }
    while (u->coroutines > 0) {
        co_queue_wait(&u->changed, "a vhost-user connection's last request");
    }
    aio_bh_cancel(&u->presence_bh);
    vhost_cleanup(&u->dev);
    ram_outside_end();
    vhost_user_drop_inflight(u);
    g_clear_pointer(&u->why, g_free);
    g_clear_pointer(&u->name, g_free);
}

void vhost_user_forget_requests(VhostUser *u)
{
    atomic_store(&u->inflight_void, true);
    atomic_store(&u->session, false);
    atomic_store(&u->session_lost, false);
}

bool vhost_user_keeps_state(const VhostUser *u)
{
    return atomic_load(&u->session);
}

bool vhost_user_needs_reset(const VhostUser *u)
{
    return atomic_load(&u->session_lost) || (!u->dev.usable && !u->dev.reconnects);
}
