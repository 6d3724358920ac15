/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt delivery: lines by KVM_IRQ_LINE, MSI by irqfd with a route of its own, or by
 * KVM_SIGNAL_MSI. KVM api.rst §4.25, §4.52, §4.70, §4.75.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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

static bool kvm_commit_routes(Kvm *kvm)
{
    unsigned max = kvm->fixed_route_count + kvm->route_high;
    g_autofree struct kvm_irq_routing *table =
        g_malloc0(sizeof(*table) + max * sizeof(table->entries[0]));
    for (unsigned i = 0; i < kvm->fixed_route_count; i++) {
        table->entries[table->nr++] = kvm->fixed_routes[i];
    }
    for (unsigned i = 0; i < kvm->route_high; i++) {
        const MsiRoute *r = &kvm->routes[i];
        if (!r->used) {
            continue;
        }
        table->entries[table->nr++] = (struct kvm_irq_routing_entry){
            .gsi = r->gsi,
            .type = KVM_IRQ_ROUTING_MSI,
            .flags = kvm->has_msi_devid ? KVM_MSI_VALID_DEVID : 0,
            .u.msi = {.address_lo = (uint32_t)r->message.address,
                      .address_hi = (uint32_t)(r->message.address >> 32),
                      .data = r->message.data,
                      .devid = kvm->has_msi_devid ? r->device_id : 0},
        };
    }
    return ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, table) == 0;
}

bool kvm_init_routes(Kvm *kvm, const struct kvm_irq_routing_entry *fixed, unsigned count,
                     unsigned first_msi_gsi, GError **error)
{
    assert(count <= KVM_MAX_FIXED_ROUTES);
    memcpy(kvm->fixed_routes, fixed, count * sizeof(*fixed));
    kvm->fixed_route_count = count;
    kvm->first_msi_gsi = first_msi_gsi;
    if (!kvm_commit_routes(kvm)) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "KVM: KVM_SET_GSI_ROUTING: %s", g_strerror(errno));
        return false;
    }
    return true;
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

static MsiRoute *kvm_route_alloc(Kvm *kvm)
{
    for (unsigned i = 0; i < KVM_MAX_ROUTES; i++) {
        if (!kvm->routes[i].used) {
            kvm->route_high = MAX(kvm->route_high, i + 1);
            kvm->routes[i].gsi = kvm->first_msi_gsi + i;
            kvm->routes[i].used = true;
            return &kvm->routes[i];
        }
    }
    return NULL;
}

static MsiRoute *kvm_msi_route_add(void *opaque, MsiMessage message, uint32_t device_id,
                                   int event_fd, GError **error)
{
    Kvm *kvm = opaque;
    assert_bql();
    MsiRoute *r = kvm_route_alloc(kvm);
    if (r == NULL) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                    "all %d MSI routes are in use: use fewer queues or devices", KVM_MAX_ROUTES);
        return NULL;
    }
    r->message = message;
    r->device_id = device_id;
    r->event_fd = event_fd;
    if (kvm_commit_routes(kvm) && kvm_irqfd(kvm, r, true)) {
        return r;
    }
    int err = errno;
    r->used = false;
    kvm_commit_routes(kvm);
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err),
                "KVM refuses an MSI route (address %#" PRIx64 ", data %#x): %s", message.address,
                message.data, g_strerror(err));
    return NULL;
}

static void kvm_msi_route_update(void *opaque, MsiRoute *route, MsiMessage message)
{
    Kvm *kvm = opaque;
    assert_bql();
    if (route->message.address == message.address && route->message.data == message.data) {
        return;
    }
    MsiMessage old = route->message;
    route->message = message;
    if (!kvm_commit_routes(
            kvm)) { /* an address that is not an MSI: the guest's error, it gets no interrupt */
        static LogLimit limit;
        log_guest_error(&limit, "msi", "KVM refuses the MSI address %#" PRIx64, message.address);
        route->message = old;
    }
}

static void kvm_msi_route_remove(void *opaque, MsiRoute *route)
{
    Kvm *kvm = opaque;
    assert_bql();
    kvm_irqfd(kvm, route, false);
    route->used = false;
    kvm_commit_routes(kvm);
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
    ops->msi_route_add = kvm_msi_route_add;
    ops->msi_route_update = kvm_msi_route_update;
    ops->msi_route_remove = kvm_msi_route_remove;
    ops->msi_send = kvm_msi_send;
}
