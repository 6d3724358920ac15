/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/msi_contract.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ADDRESS 0xfee00000u

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

static MsiRoute *route_new(const MsiContract *c, int fd)
{
    GError *error = NULL;
    bql_lock();
    MsiRoute *r = c->ops->msi_route_new(c->opaque, 8, fd, &error);
    bql_unlock();
    if (!r) {
        fail_msg("%s", error->message);
    }
    return r;
}

static void set(const MsiContract *c, MsiRoute *r, uint32_t data)
{
    bql_lock();
    c->ops->msi_route_set(c->opaque, r, (MsiMessage){ADDRESS, data});
    c->ops->msi_routes_commit(c->opaque);
    bql_unlock();
}

static void attach(const MsiContract *c, MsiRoute *r)
{
    GError *error = NULL;
    bql_lock();
    bool ok = c->ops->msi_route_attach(c->opaque, r, &error);
    bql_unlock();
    if (!ok) {
        fail_msg("%s", error->message);
    }
}

static void detach(const MsiContract *c, MsiRoute *r)
{
    bql_lock();
    c->ops->msi_route_detach(c->opaque, r);
    bql_unlock();
}

static void route_free(const MsiContract *c, MsiRoute *r)
{
    bql_lock();
    c->ops->msi_route_free(c->opaque, r);
    bql_unlock();
}

typedef struct Rig {
    int fd;
    MsiRoute *route;
} Rig;

static Rig rig_new(const MsiContract *c, uint32_t data)
{
    Rig rig = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    assert_true(rig.fd >= 0);
    rig.route = route_new(c, rig.fd);
    set(c, rig.route, data);
    return rig;
}

static void rig_free(const MsiContract *c, Rig *rig)
{
    route_free(c, rig->route);
    close(rig->fd);
}

void msi_contract_pending_event_comes_once(const MsiContract *c)
{
    Rig rig = rig_new(c, 0x41);
    eventfd_write(rig.fd, 2);
    attach(c, rig.route);
    assert_false(readable(rig.fd)); /* else a later mask would see the vector pending */
    detach(c, rig.route);
    assert_true(c->delivered(c->context, 0x41));
    assert_false(readable(rig.fd));
    attach(c, rig.route);
    detach(c, rig.route);
    assert_false(c->delivered(c->context, 0x41));
    rig_free(c, &rig);
}

void msi_contract_event_is_taken_at_once(const MsiContract *c)
{
    Rig rig = rig_new(c, 0x42);
    attach(c, rig.route);
    eventfd_write(rig.fd, 1);
    assert_true(c->delivered(c->context, 0x42));
    assert_false(readable(rig.fd));
    eventfd_write(rig.fd, 1);
    detach(c, rig.route);
    assert_true(c->delivered(c->context, 0x42));
    assert_false(readable(rig.fd));
    rig_free(c, &rig);
}

void msi_contract_detached_event_stays(const MsiContract *c)
{
    Rig rig = rig_new(c, 0x43);
    attach(c, rig.route);
    detach(c, rig.route);
    eventfd_write(rig.fd, 1);
    assert_true(readable(rig.fd));
    assert_false(c->delivered(c->context, 0x43));
    assert_true(readable(rig.fd));
    attach(c, rig.route);
    detach(c, rig.route);
    assert_true(c->delivered(c->context, 0x43));
    rig_free(c, &rig);
}

void msi_contract_new_message_takes_effect(const MsiContract *c)
{
    Rig rig = rig_new(c, 0x44);
    attach(c, rig.route);
    eventfd_write(rig.fd, 1);
    set(c, rig.route, 0x45); /* while attached: earlier events have the old message */
    assert_true(c->delivered(c->context, 0x44));
    assert_false(c->delivered(c->context, 0x45));
    eventfd_write(rig.fd, 1);
    assert_true(c->delivered(c->context, 0x45));
    assert_false(c->delivered(c->context, 0x44));
    detach(c, rig.route);
    set(c, rig.route, 0x46); /* while detached */
    eventfd_write(rig.fd, 1);
    attach(c, rig.route);
    detach(c, rig.route);
    assert_true(c->delivered(c->context, 0x46));
    assert_false(c->delivered(c->context, 0x45));
    rig_free(c, &rig);
}

void msi_contract_reattach_raises_nothing(const MsiContract *c)
{
    Rig rig = rig_new(c, 0x47);
    for (unsigned i = 0; i < 10; i++) {
        attach(c, rig.route);
        detach(c, rig.route);
    }
    assert_false(c->delivered(c->context, 0x47));
    assert_false(readable(rig.fd));
    rig_free(c, &rig);
}

void msi_contract_routes_run_out_with_an_error(const MsiContract *c)
{
    g_autoptr(GPtrArray) routes = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    Rig first = rig_new(c, 0x48);
    for (;;) {
        bql_lock();
        MsiRoute *r = c->ops->msi_route_new(c->opaque, 8, first.fd, &error);
        if (r) {
            c->ops->msi_route_set(c->opaque, r, (MsiMessage){ADDRESS, 0x49});
        }
        bql_unlock();
        if (!r) {
            break;
        }
        g_ptr_array_add(routes, r);
    }
    assert_non_null(error);
    assert_true(routes->len >= c->min_routes);
    bql_lock();
    c->ops->msi_routes_commit(c->opaque); /* the machine accepts as many as it hands out */
    bql_unlock();
    MsiRoute *last = routes->pdata[routes->len - 1];
    attach(c, last);
    eventfd_write(first.fd, 1);
    assert_true(c->delivered(c->context, 0x49));
    detach(c, last);
    for (unsigned i = 0; i < routes->len; i++) {
        route_free(c, routes->pdata[i]);
    }
    attach(c, first.route); /* its entry is still there after the others are gone */
    eventfd_write(first.fd, 1);
    assert_true(c->delivered(c->context, 0x48));
    assert_false(c->delivered(c->context, 0x49));
    detach(c, first.route);
    rig_free(c, &first);
}
