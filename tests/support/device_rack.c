/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/device_rack.h"

#include <string.h>
#include "hw/core/vm_clock.h"
#include "hw/firmware/pflash.h"
#include "tests/support/fake_net.h"
#include "tests/support/net_steps.h"

/* In order of creation: a bus before what is on it. Of each type one, and one behind a bridge. */
static const struct {
    const char *type, *properties, *parent;
} rack_rows[] = {
    /* clang-format off */
    {"q35-host", NULL, NULL},
    {"ich9-lpc", NULL, NULL},
    {"i8042", NULL, NULL},
    {"post-port", NULL, NULL},
    {"fw_cfg_io", NULL, NULL},
    {"mc146818rtc", "lost_tick_policy=slew", NULL},
    {"isa-serial", "chardev=com", NULL},
    {"isa-debugcon", "chardev=debug,iobase=0x402", NULL},
    {"pvpanic", NULL, NULL},
    {"isa-debug-exit", NULL, NULL},
    {"pc-testdev", NULL, NULL},
    {"vmgenid", "guid=00112233-4455-6677-8899-aabbccddeeff", NULL},
    {"vmcoreinfo", NULL, NULL},
    {"cfi.pflash01", "drive=flash", NULL},
    {"pcie-root-port", "addr=1c", NULL},
    {"i6300esb", NULL, NULL},
    {"virtio-blk-pci", "drive=disk0,werror=stop", NULL},
    {"virtio-rng-pci", NULL, NULL},
    {"virtio-balloon-pci", NULL, NULL},
    {"virtio-serial-pci", "max_ports=3", NULL},
    {"virtconsole", "chardev=console", "virtio-serial-pci"},
    {"virtserialport", "chardev=agent,name=org.skiff.agent", "virtio-serial-pci"},
    {"vhost-vsock-pci", "guest-cid=7", NULL},
    {"virtio-scsi-pci", "num_queues=2", NULL},
    {"scsi-hd", "drive=disk1", "virtio-scsi-pci"},
    {"scsi-cd", "drive=disc,scsi-id=1", "virtio-scsi-pci"},
    {"virtio-net-pci", "netdev=net0,iothread=io,mac=52:54:00:12:34:56", NULL},
    {"vhost-user-fs-pci", "chardev=fs,tag=share", NULL},
    {"vhost-user-blk-pci", "chardev=blk,num-queues=2", NULL},
    {"virtio-rng-pci", NULL, "pcie-root-port"},
    /* clang-format on */
};

static const char *const rack_disks[RACK_DISKS] = {
    "driver=mem,node-name=disk0,size=1M",
    "driver=mem,node-name=disk1,size=1M",
    "driver=mem,node-name=disc,size=1M",
    "driver=mem,node-name=flash,size=64K",
};

static const char *const rack_chardevs[RACK_CHARDEVS] = {"com",   "debug", "console",
                                                         "agent", "fs",    "blk"};
enum { RACK_COM = 0, RACK_FS = 4, RACK_BLK = 5 };

static VmStopped rack_token = {.count = 1};

/* ---- life cycle ---- */

static void rack_add_host(DeviceRack *r)
{
    VirtioBench *b = r->bench;
    NetStep net = {.text = "fake,id=net0"};
    enter_main();
    for (unsigned i = 0; i < RACK_DISKS; i++) {
        blk_disk_open_as(&r->disks[i], b, rack_disks[i]);
    }
    for (unsigned i = 0; i < RACK_CHARDEVS; i++) {
        r->chardevs[i] = i < RACK_FS ? fake_chardev_new(rack_chardevs[i])
                                     : fake_chardev_new_socket(rack_chardevs[i], b->main_ctx);
    }
    /* Bytes stay in the transmitter. */
    fake_chardev_make_room(r->chardevs[RACK_COM], 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(r->peers); i++) {
        r->peers[i] = vhost_user_peer_new(r->chardevs[RACK_FS + i]);
        vhost_user_peer_connect(r->peers[i]);
    }
    net_setup(fake_net_types, b->main_ctx);
    virtio_bench_run(b, net_step_add, &net);
    g_assert_true(net.ok);
    r->vhost = fake_vhost_new("/dev/vhost-vsock", &r->m->ram);
}

static bool rack_has(const DeviceRack *r, const char *type)
{
    for (unsigned i = 0; i < r->devices->len; i++) {
        const Device *dev = r->devices->pdata[i];
        if (strcmp(dev->type->name, type) == 0) {
            return true;
        }
    }
    return false;
}

static void rack_add_device(DeviceRack *r, const char *type, const char *properties,
                            const char *parent)
{
    Device *dev;
    g_autofree char *error = virtio_bench_try_device(
        r->bench, type, properties, parent != NULL ? device_rack_find(r, parent) : NULL, &dev);
    if (error != NULL) {
        g_error("%s: %s", type, error);
    }
    enter_main();
    dev->path = g_strdup_printf("/machine/rack/%s%s", type, rack_has(r, type) ? ".2" : "");
    g_ptr_array_add(r->devices, dev);
    if (strcmp(type, "fw_cfg_io") == 0) {
        r->m->env.fw_cfg = dev;
    } else if (strcmp(type, "cfi.pflash01") == 0) {
        pflash_map(dev, RACK_FLASH_GPA);
    }
}

DeviceRack *device_rack_new(int64_t wall_ns)
{
    DeviceRack *r = g_new0(DeviceRack, 1);
    r->bench = virtio_bench_new();
    r->m = r->bench->machine;
    r->devices = g_ptr_array_new();
    vm_clock_set_wall_ns(wall_ns);
    rack_add_host(r);
    for (unsigned i = 0; i < G_N_ELEMENTS(rack_rows); i++) {
        rack_add_device(r, rack_rows[i].type, rack_rows[i].properties, rack_rows[i].parent);
    }
    enter_main();
    vm_clock_pause();
    device_rack_start(r);
    return r;
}

void device_rack_remove_last(DeviceRack *r)
{
    virtio_bench_unplug(r->bench, r->devices->pdata[r->devices->len - 1]);
    g_ptr_array_set_size(r->devices, (gint)r->devices->len - 1);
}

void device_rack_free(DeviceRack *r)
{
    enter_main();
    sys_fault_set(NULL);
    vm_clock_resume();
    while (r->devices->len > 0) {
        device_rack_remove_last(r);
    }
    g_ptr_array_unref(r->devices);
    fake_vhost_free(r->vhost);
    virtio_bench_run(r->bench, net_step_shutdown, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(r->peers); i++) {
        vhost_user_peer_free(r->peers[i]);
    }
    for (unsigned i = 0; i < RACK_CHARDEVS; i++) {
        fake_chardev_free(r->chardevs[i]);
    }
    for (unsigned i = 0; i < RACK_DISKS; i++) {
        blk_disk_close(&r->disks[i]);
    }
    virtio_bench_free(r->bench);
    g_free(r);
}

Device *device_rack_find(const DeviceRack *r, const char *name)
{
    g_autofree char *path = g_strdup_printf("/machine/rack/%s", name);
    for (unsigned i = 0; i < r->devices->len; i++) {
        Device *dev = r->devices->pdata[i];
        if (g_strcmp0(dev->path, path) == 0) {
            return dev;
        }
    }
    g_assert_not_reached();
}

RackDriver *device_rack_driver(DeviceRack *r, const char *name)
{
    for (unsigned i = 0; i < RACK_DRIVERS; i++) {
        if (g_strcmp0(r->drivers[i].name, name) == 0) {
            return &r->drivers[i];
        }
    }
    g_assert_not_reached();
}

void device_rack_stop(DeviceRack *r)
{
    enter_main();
    g_assert_true(r->running);
    r->running = false;
    vm_clock_pause();
    for (unsigned i = r->devices->len; i-- > 0;) {
        virtio_bench_stop(r->bench, r->devices->pdata[i]);
    }
    virtio_bench_settle(r->bench);
    fake_machine_settle(r->m);
}

void device_rack_start(DeviceRack *r)
{
    enter_main();
    g_assert_false(r->running);
    r->running = true;
    for (unsigned i = 0; i < r->devices->len; i++) {
        virtio_bench_start(r->bench, r->devices->pdata[i]);
    }
    vm_clock_resume();
    virtio_bench_settle(r->bench);
}

void device_rack_reset(DeviceRack *r)
{
    enter_main();
    g_assert_false(r->running);
    bql_lock();
    for (unsigned i = 0; i < r->devices->len; i++) {
        Device *dev = r->devices->pdata[i];
        if (dev->type->reset != NULL) {
            dev->type->reset(dev);
        }
    }
    pci_bus_assign_resources(r->bench->bus);
    bql_unlock();
}

/* ---- state ---- */

GByteArray *device_rack_save(DeviceRack *r, GError **error)
{
    g_autoptr(StateWriter) w = state_writer_new();
    enter_main();
    g_assert_false(r->running);
    bql_lock();
    bool ok = device_state_save(r->devices, &rack_token, w, error);
    bql_unlock();
    return ok ? state_writer_end(w, error) : NULL;
}

bool device_rack_load(DeviceRack *r, const GByteArray *stream, int64_t clock_ns, GError **error)
{
    enter_main();
    g_assert_false(r->running);
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, error);
    g_autoptr(DeviceStateLoad) l = s != NULL ? device_state_stage(r->devices, s, error) : NULL;
    if (l == NULL || !state_stream_all_taken(s, error)) {
        return false;
    }
    device_state_set_clock(l, clock_ns);
    bql_lock();
    bool ok = device_state_apply(l, &rack_token, error);
    bql_unlock();
    return ok;
}

GByteArray *device_rack_tables(DeviceRack *r)
{
    GByteArray *out = g_byte_array_new();
    for (unsigned i = 0; i < r->devices->len; i++) {
        const Device *dev = r->devices->pdata[i];
        if (dev->type->base_state != NULL) {
            state_save(dev->type->base_state, dev, out);
        }
        if (dev->type->state != NULL) {
            state_save(dev->type->state, dev, out);
        }
    }
    return out;
}

/* ---- the guest ---- */

uint64_t device_rack_intx(const DeviceRack *r)
{
    uint64_t high = 0;
    for (unsigned i = 0; i < r->devices->len; i++) {
        const Device *dev = r->devices->pdata[i];
        if (dev->type->base_state == &pci_device_state_desc &&
            ((const PciDevice *)(const void *)dev)->intx.level) {
            high |= UINT64_C(1) << i;
        }
    }
    return high;
}

RackGuest *device_rack_leave(DeviceRack *r)
{
    RackGuest *g = g_new0(RackGuest, 1);
    g_assert_false(r->running);
    g->ram = g_memdup2(virtio_bench_ram(r->bench, 0, FAKE_RAM_SIZE), FAKE_RAM_SIZE);
    g->ram_next = r->bench->ram_next;
    g->clock_ns = vm_clock_now_ns();
    g->wall_ns = vm_clock_wall_ns();
    g->intx = device_rack_intx(r);
    memcpy(g->gsi_level, r->m->gsi_level, sizeof(g->gsi_level));
    memcpy(g->drivers, r->drivers, sizeof(g->drivers));
    return g;
}

/* Pointers into the old machine become such into the new one. */
static void rack_rebind_queue(DeviceRack *r, VirtioGuest *guest, VirtioGuestQueue *q)
{
    VringDriver *ring = &q->ring;
    q->guest = guest;
    ring->ram = &r->bench->driver_ram;
    ring->desc = virtio_bench_ram(r->bench, ring->desc_gpa, ring->size * sizeof(VringDesc));
    ring->avail = virtio_bench_ram(r->bench, ring->avail_gpa, vring_avail_bytes(ring->size));
    ring->used = virtio_bench_ram(r->bench, ring->used_gpa, vring_used_bytes(ring->size));
}

void device_rack_adopt(DeviceRack *r, const RackGuest *guest)
{
    memcpy(virtio_bench_ram(r->bench, 0, FAKE_RAM_SIZE), guest->ram, FAKE_RAM_SIZE);
    r->bench->ram_next = guest->ram_next;
    memcpy(r->drivers, guest->drivers, sizeof(r->drivers));
    for (unsigned i = 0; i < RACK_DRIVERS; i++) {
        RackDriver *d = &r->drivers[i];
        if (d->name == NULL) {
            continue;
        }
        d->guest.bench = r->bench;
        d->guest.dev = (VirtioPci *)(void *)device_rack_find(r, d->name);
        for (unsigned n = 0; n < RACK_QUEUES; n++) {
            if (d->queues[n].guest != NULL) {
                rack_rebind_queue(r, &d->guest, &d->queues[n]);
            }
        }
    }
}

void rack_guest_free(RackGuest *g)
{
    if (g != NULL) {
        g_free(g->ram);
        g_free(g);
    }
}
