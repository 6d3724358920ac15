/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD client: attempts to connect in the background. The first one follows the loss of a
 * connection at once if that had brought replies; the pauses between further ones double up to 16 s.
 */
#include "block/nbd/nbd_client_int.h"
#include "util/loop/sched_point.h"

/* ---- arrivals ---- */

typedef struct ReconnectArrival {
    NbdLink *link;
    struct nbd_handle *handle;
} ReconnectArrival;

static void reconnect_arrive_at_home(void *opaque)
{
    ReconnectArrival *a = opaque;
    enter_coroutine();
    enter_iothread(a->link->client->home);
    nbd_link_attach(a->link, a->handle);
}

static RUNS_IN_MAIN void reconnect_settled(NbdClient *c)
{
    co_queue_wake_all(&c->settled);
}

void nbd_client_co_deliver(NbdLink *l, struct nbd_handle *handle)
{
    NbdClient *c = l->client;
    ReconnectArrival a = {.link = l, .handle = handle};
    while (c->moving) {
        co_queue_wait(&c->settled, "the move of an NBD node");
    }
    c->delivering++;
    SP("nbd.deliver", l);
    co_call_in(c->home, reconnect_arrive_at_home, &a);
    c->delivering--;
    reconnect_settled(c);
}

void nbd_client_co_hold_arrivals(NbdClient *c)
{
    c->moving = true;
    while (c->delivering > 0) {
        co_queue_wait(&c->settled, "an NBD connection on its way to the node");
    }
}

void nbd_client_resume_arrivals(NbdClient *c)
{
    c->moving = false;
    reconnect_settled(c);
}

/* ---- attempts ---- */

/* Whether requests that fit the export as it was fit it as it is. */
static bool reconnect_check_export(const NbdClient *c, const NbdClientExport *now, GError **error)
{
    const char *change = nbd_client_export_find_loss(&c->export, now);
    if (change != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "the export '%s' has changed: %s",
                    c->target->name, change);
    }
    return change == NULL;
}

/* Waits for the time of the next attempt. */
static coroutine_fn RUNS_IN_MAIN void reconnect_co_pause(NbdConnector *c)
{
    unsigned failures = c->link->failures;
    if (failures == 0) {
        return;
    }
    int64_t pause_s = MIN(INT64_C(1) << MIN(failures - 1, 8u), NBD_CLIENT_PAUSE_MAX_S);
    nbd_connector_set_deadline(c, aio_now_ns(c->ctx) + pause_s * NBD_CLIENT_SECOND);
    nbd_connector_co_sleep(c);
}

/* One attempt. Whether the link is up. */
static coroutine_fn RUNS_IN_MAIN bool reconnect_co_try(NbdConnector *c)
{
    g_autoptr(GError) error = NULL;
    NbdClientExport export;
    NbdLink *l = c->link;
    SP("nbd.attempt", l);
    nbd_connector_set_deadline(c, aio_now_ns(c->ctx) + NBD_CLIENT_ATTEMPT_S * NBD_CLIENT_SECOND);
    struct nbd_handle *h = nbd_connector_co_connect(c, &export, &error);
    nbd_connector_set_deadline(c, INT64_MAX);
    if (c->cancelled) {
        nbd_close(h);
        return false;
    }
    if (h != NULL && !reconnect_check_export(l->client, &export, &error)) {
        nbd_close(h);
        h = NULL;
    }
    l->failures++; /* until it has brought a reply */
    if (h == NULL) {
        log_limited(&l->client->limit, "node '%s': cannot connect again: %s", c->target->node_name,
                    error->message);
        return false;
    }
    nbd_client_co_deliver(l, h);
    return true;
}

static void reconnect_run(void *opaque)
{
    NbdConnector *c = opaque;
    enter_coroutine();
    enter_main();
    bool up = false;
    while (!up && !c->cancelled) {
        reconnect_co_pause(c);
        up = !c->cancelled && reconnect_co_try(c);
    }
    NbdLink *l = c->link;
    l->connector = NULL;
    nbd_connector_clear(c);
    g_free(c);
    if (l->lost_again) {
        nbd_client_reconnect(l);
    }
    reconnect_settled(l->client);
}

void nbd_client_reconnect(NbdLink *l)
{
    NbdClient *c = l->client;
    l->lost_again = l->connector != NULL; /* which has just delivered what is lost now */
    if (c->closing || !c->reconnects || l->lost_again) {
        return;
    }
    l->connector = g_new0(NbdConnector, 1);
    nbd_connector_init(l->connector, c->target, c->main);
    l->connector->link = l;
    co_start(c->main, reconnect_run, l->connector);
}

void nbd_client_co_stop_reconnecting(NbdClient *c)
{
    c->closing = true;
    for (unsigned i = 0; i < c->link_count; i++) {
        NbdLink *l = &c->links[i];
        if (l->connector != NULL) {
            nbd_connector_cancel(l->connector);
        }
        while (l->connector != NULL) {
            co_queue_wait(&c->settled, "the end of an attempt to connect to an NBD server");
        }
    }
}
