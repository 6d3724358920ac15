/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt delivery: lines by KVM_IRQ_LINE, MSI by irqfd with a route of its own, or by
 * KVM_SIGNAL_MSI. KVM api.rst §4.25, §4.52, §4.70, §4.75.
 *
 * KVM has no operation that changes one route: KVM_SET_GSI_ROUTING replaces the whole table. So the
 * table is kept, a route's entry is changed in place, and the table is set in KVM once for any
 * number of changes (kvm_msi_routes_commit()). Attaching and detaching use the irqfd only.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "util/log.h"
#include "vmm/kvm/kvm.h"

static void kvm_set_gsi(void *opaque, unsigned gsi, bool level)
{
    Kvm *kvm = opaque;
    struct kvm_irq_level line = {.irq = gsi, .level = level};
    if (ioctl(kvm->vm_fd, KVM_IRQ_LINE, &line) != 0) {
        log_error("KVM_IRQ_LINE of GSI %u failed: %s", gsi, g_strerror(errno));
    }
}

/* ---- the table ---- */

static bool kvm_commit_table(Kvm *kvm)
{
    kvm->table_commits++;
    kvm->table_changed = false;
    return ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, kvm->table) == 0;
}

/* Sets the entry of @r to @message; adds the entry if there is none. */
static void kvm_table_put(Kvm *kvm, MsiRoute *r, MsiMessage message)
{
    if (r->entry == 0) {
        r->entry = kvm->table->nr++;
    }
    kvm->table->entries[r->entry] = (struct kvm_irq_routing_entry){
        .gsi = r->gsi,
        .type = KVM_IRQ_ROUTING_MSI,
        .flags = kvm->has_msi_devid ? KVM_MSI_VALID_DEVID : 0,
        .u.msi = {.address_lo = (uint32_t)message.address,
                  .address_hi = (uint32_t)(message.address >> 32),
                  .data = message.data,
                  .devid = kvm->has_msi_devid ? r->device_id : 0},
    };
    kvm->table_changed = true;
}

/* The last entry takes the place of the removed one. */
static void kvm_table_remove(Kvm *kvm, MsiRoute *r)
{
    if (r->entry == 0) {
        return;
    }
    const struct kvm_irq_routing_entry *last = &kvm->table->entries[--kvm->table->nr];
    kvm->table->entries[r->entry] = *last;
    kvm->routes[last->gsi - kvm->first_msi_gsi].entry = r->entry;
    r->entry = 0;
    kvm->table_changed = true;
}

bool kvm_init_routes(Kvm *kvm, const struct kvm_irq_routing_entry *pins, unsigned count,
                     unsigned first_msi_gsi, GError **error)
{
    g_assert(count > 0 && kvm->table == NULL);
    unsigned limit = (unsigned)kvm_check(kvm, KVM_CAP_IRQ_ROUTING);
    unsigned taken = MAX(count, first_msi_gsi);
    kvm->first_msi_gsi = first_msi_gsi;
    kvm->max_routes = limit > taken ? limit - taken : 0;
    kvm->routes = g_new0(MsiRoute, kvm->max_routes);
    kvm->table =
        g_malloc0(sizeof(*kvm->table) + (count + kvm->max_routes) * sizeof(kvm->table->entries[0]));
    memcpy(kvm->table->entries, pins, count * sizeof(pins[0]));
    kvm->table->nr = count;
    if (!kvm_commit_table(kvm)) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "KVM: KVM_SET_GSI_ROUTING: %s", g_strerror(errno));
        return false;
    }
    return true;
}

void kvm_free_routes(Kvm *kvm)
{
    g_clear_pointer(&kvm->routes, g_free);
    g_clear_pointer(&kvm->table, g_free);
    kvm->changed_routes = NULL;
    kvm->max_routes = 0;
}

/* ---- routes ---- */

static MsiRoute *kvm_msi_route_new(void *opaque, uint32_t device_id, int event_fd, GError **error)
{
    Kvm *kvm = opaque;
    assert_bql();
    for (unsigned i = 0; i < kvm->max_routes; i++) {
        MsiRoute *r = &kvm->routes[i];
        if (!r->used) {
            *r = (MsiRoute){.gsi = kvm->first_msi_gsi + i,
                            .event_fd = event_fd,
                            .device_id = device_id,
                            .used = true};
            return r;
        }
    }
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                "all %u interrupt routes of this host's KVM are in use", kvm->max_routes);
    return NULL;
}

static void kvm_msi_route_free(void *opaque, MsiRoute *route)
{
    Kvm *kvm = opaque;
    assert_bql();
    g_assert(route->used && !route->attached && !route->changed);
    kvm_table_remove(kvm, route); /* KVM's copy keeps the entry until the next commit, unused */
    route->used = false;
}

static void kvm_msi_route_set(void *opaque, MsiRoute *route, MsiMessage message)
{
    Kvm *kvm = opaque;
    assert_bql();
    if (!route->changed) {
        route->next_changed = kvm->changed_routes;
        kvm->changed_routes = route;
    }
    route->wanted = message;
    route->changed = true;
    route->refused = false;
    kvm_table_put(kvm, route, message);
}

/* The entry of a route whose last message is not in effect. */
static void kvm_table_restore(Kvm *kvm, MsiRoute *r)
{
    if (r->attached) {
        kvm_table_put(kvm, r, r->committed);
    } else {
        kvm_table_remove(kvm, r);
    }
}

/* KVM has refused the table. Restores the last accepted one, then commits one route at a time. */
static void kvm_commit_one_by_one(Kvm *kvm)
{
    static LogLimit limit;
    for (MsiRoute *r = kvm->changed_routes; r != NULL; r = r->next_changed) {
        kvm_table_restore(kvm, r);
    }
    for (MsiRoute *r = kvm->changed_routes; r != NULL; r = r->next_changed) {
        kvm_table_put(kvm, r, r->wanted);
        r->refused = !kvm_commit_table(kvm);
        if (r->refused) {
            log_guest_error(&limit, "msi", "KVM refuses the MSI address %#" PRIx64,
                            r->wanted.address);
            kvm_table_restore(kvm, r);
        }
    }
}

static void kvm_msi_routes_commit(void *opaque)
{
    Kvm *kvm = opaque;
    assert_bql();
    if (!kvm->table_changed) {
        return;
    }
    if (!kvm_commit_table(kvm)) {
        kvm_commit_one_by_one(kvm);
    }
    for (MsiRoute *r = kvm->changed_routes; r != NULL; r = r->next_changed) {
        r->committed = r->refused ? r->committed : r->wanted;
        r->changed = false;
    }
    kvm->changed_routes = NULL;
}

static bool kvm_irqfd(Kvm *kvm, const MsiRoute *r, bool attach)
{
    struct kvm_irqfd irqfd = {
        .fd = (uint32_t)r->event_fd,
        .gsi = r->gsi,
        .flags = attach ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
    };
    return ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd) == 0;
}

/* At the attach KVM delivers a pending count but leaves it in the eventfd; a later write is
 * delivered and consumes the whole count. So a count left after the attach was delivered. */
static bool kvm_msi_route_attach(void *opaque, MsiRoute *route, GError **error)
{
    Kvm *kvm = opaque;
    assert_bql();
    g_assert(route->used && !route->attached && !route->changed);
    if (route->refused || route->entry == 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "KVM refuses the MSI address %#" PRIx64, route->wanted.address);
        return false;
    }
    if (!kvm_irqfd(kvm, route, true)) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "KVM_IRQFD: %s",
                    g_strerror(errno));
        return false;
    }
    route->attached = true;
    uint64_t delivered;
    while (read(route->event_fd, &delivered, sizeof(delivered)) < 0 && errno == EINTR) {
    }
    return true;
}

static void kvm_msi_route_detach(void *opaque, MsiRoute *route)
{
    Kvm *kvm = opaque;
    assert_bql();
    g_assert(route->attached);
    kvm_irqfd(kvm, route, false);
    route->attached = false;
}

static void kvm_msi_send(void *opaque, MsiMessage message)
{
    Kvm *kvm = opaque;
    struct kvm_msi msi = {
        .address_lo = (uint32_t)message.address,
        .address_hi = (uint32_t)(message.address >> 32),
        .data = message.data,
    };
    if (ioctl(kvm->vm_fd, KVM_SIGNAL_MSI, &msi) < 0) {
        static LogLimit limit;
        log_guest_error(&limit, "msi", "KVM delivers no MSI to address %#" PRIx64 ": %s",
                        message.address, g_strerror(errno));
    }
}

void kvm_irq_fill_ops(MachineOps *ops)
{
    ops->set_gsi = kvm_set_gsi;
    ops->msi_route_new = kvm_msi_route_new;
    ops->msi_route_free = kvm_msi_route_free;
    ops->msi_route_set = kvm_msi_route_set;
    ops->msi_routes_commit = kvm_msi_routes_commit;
    ops->msi_route_attach = kvm_msi_route_attach;
    ops->msi_route_detach = kvm_msi_route_detach;
    ops->msi_send = kvm_msi_send;
}
