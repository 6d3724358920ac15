/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/virtio_guest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include "tests/support/loops_settle.h"

#define BENCH_ECAM_GPA 0xe0000000u
#define PCI_COMMAND 0x04
#define PCI_CAP_POINTER 0x34
#define PCI_CAP_VENDOR 0x09
#define MSIX_ENABLE 0x8000

/* ---- the machine ---- */

static AioContext *bench_find_iothread(void *opaque, const char *id)
{
    VirtioBench *b = opaque;
    if (strcmp(id, "io2") == 0 && !b->other) {
        b->other = iothread_new("io2", 0, NULL);
        g_assert_nonnull(b->other);
    }
    return strcmp(id, "io") == 0    ? b->home
           : strcmp(id, "io2") == 0 ? iothread_context(b->other)
                                    : NULL;
}

/* Replaces the machine's RAM with watched RAM. */
static RUNS_IN_MAIN void bench_watch_ram(VirtioBench *b)
{
    GuestRam *ram = &b->machine->ram;
    GError *error = NULL;
    b->watch = ram_watch_new(FAKE_RAM_SIZE);
    g_free(ram->blocks[0].host);
    ram->blocks[0].host = ram_watch_device(b->watch);
    ram->blocks[0].fd = ram_watch_fd(b->watch);
    b->driver_ram = *ram;
    b->driver_ram.blocks[0].host = ram_watch_driver(b->watch);
    if (!guest_ram_log_start(ram, &error)) {
        g_error("%s", error->message);
    }
}

static RUNS_IN_MAIN void bench_check_ram(VirtioBench *b)
{
    GuestRam *ram = &b->machine->ram;
    static uint64_t dirty[FAKE_RAM_SIZE / GUEST_RAM_PAGE / 64];
    guest_ram_log_take(&ram->blocks[0], 0, FAKE_RAM_SIZE / GUEST_RAM_PAGE, dirty);
    uint64_t page = ram_watch_unmarked(b->watch, dirty);
    if (page != UINT64_MAX) {
        g_error("the device wrote at %#" PRIx64 " and did not mark it", page * GUEST_RAM_PAGE);
    }
    guest_ram_log_stop(ram);
    guest_ram_log_free(ram);
    ram->blocks[0].host = NULL;
    ram->blocks[0].fd = -1;
    ram_watch_free(b->watch);
}

VirtioBench *virtio_bench_new(void)
{
    VirtioBench *b = g_new0(VirtioBench, 1);
    b->machine = fake_machine_new();
    enter_main();
    bench_watch_ram(b);
    b->main_ctx = b->machine->env.main_ctx;
    b->iothread = iothread_new("io", 0, NULL);
    g_assert_nonnull(b->iothread);
    b->home = iothread_context(b->iothread);
    b->machine->env.default_iothread = b->home;
    b->machine->env.opaque = b;
    b->machine->env.find_iothread = bench_find_iothread;
    PciWindows windows = {.mmio32_base = 0x80000000,
                          .mmio32_size = 0x40000000,
                          .mmio64_base = 1ull << 36,
                          .mmio64_size = 1ull << 34,
                          .ecam_base = BENCH_ECAM_GPA};
    IrqGate *const gates[8] = {&b->machine->gates[16], &b->machine->gates[17],
                               &b->machine->gates[18], &b->machine->gates[19],
                               &b->machine->gates[20], &b->machine->gates[21],
                               &b->machine->gates[22], &b->machine->gates[23]};
    b->bus = pci_bus_new(&b->machine->env, &windows, gates);
    b->machine->env.pci_bus = b->bus;
    bql_lock();
    address_space_map(b->machine->env.mmio, pci_bus_ecam(b->bus), windows.ecam_base, 1);
    bql_unlock();
    b->ram_next = 0x100000;
    return b;
}

void virtio_bench_free(VirtioBench *b)
{
    enter_main();
    virtio_bench_settle(b);
    bql_lock();
    address_space_unmap(pci_bus_ecam(b->bus));
    bql_unlock();
    pci_bus_free(b->bus);
    iothread_free(b->iothread);
    iothread_free(b->other);
    bench_check_ram(b);
    fake_machine_free(b->machine);
    g_free(b);
}

typedef struct BenchCall {
    void (*fn)(void *opaque);
    void *opaque;
    bool done;
} BenchCall;

static void bench_call(void *opaque)
{
    BenchCall *call = opaque;
    call->fn(call->opaque);
    call->done = true;
}

void virtio_bench_run(VirtioBench *b, void (*fn)(void *opaque), void *opaque)
{
    BenchCall call = {.fn = fn, .opaque = opaque};
    co_start(b->main_ctx, bench_call, &call);
    while (!call.done) {
        aio_context_step(b->main_ctx, true);
    }
}

typedef struct HomeCall {
    AioContext *home;
    BenchCall call;
} HomeCall;

static void bench_call_home(void *opaque)
{
    HomeCall *h = opaque;
    enter_main();
    enter_coroutine();
    co_call_in(h->home, bench_call, &h->call);
}

void virtio_bench_at_home(VirtioBench *b, void (*fn)(void *opaque), void *opaque)
{
    HomeCall h = {.home = b->home, .call = {.fn = fn, .opaque = opaque}};
    virtio_bench_run(b, bench_call_home, &h);
}

void virtio_bench_step(VirtioBench *b)
{
    aio_context_step(b->main_ctx, false);
}

void virtio_bench_settle(VirtioBench *b)
{
    loops_settle(b->main_ctx, b->home);
    for (unsigned i = 0; b->other && i < 4; i++) { /* a request goes to the other home and back */
        loops_settle(b->main_ctx, iothread_context(b->other));
        loops_settle(b->main_ctx, b->home);
    }
}

uint64_t virtio_bench_alloc(VirtioBench *b, uint64_t bytes)
{
    uint64_t gpa = b->ram_next;
    b->ram_next += (bytes + 4095) / 4096 * 4096;
    g_assert(b->ram_next <= FAKE_RAM_SIZE);
    memset(virtio_bench_ram(b, gpa, bytes), 0, bytes);
    return gpa;
}

void *virtio_bench_ram(VirtioBench *b, uint64_t gpa, uint64_t bytes)
{
    void *host = guest_ram_map(&b->driver_ram, gpa, bytes, true);
    g_assert_nonnull(host);
    return host;
}

/* ---- devices ---- */

typedef struct DeviceStep {
    Device *dev;
    bool ok;
    GError *error;
} DeviceStep;

/* Frees @error and returns its text, to be freed. */
static char *bench_error_text(GError *error)
{
    char *text = g_strdup(error->message);
    g_error_free(error);
    return text;
}

static void step_realize(void *opaque)
{
    DeviceStep *s = opaque;
    enter_main();
    enter_coroutine();
    s->ok = device_realize(s->dev, &s->error);
}

static char *bench_try_device_of(VirtioBench *b, const DeviceType *type, const char *properties,
                                 Device *parent, Device **dev)
{
    DeviceStep s = {.dev = device_new(type, &b->machine->env, NULL), .ok = true};
    s.dev->bus_device = parent;
    if (properties) {
        g_autoptr(OptDict) dict = opt_dict_parse(properties, NULL, &s.error);
        s.ok = dict && device_set_properties(s.dev, dict, &s.error);
    }
    if (s.ok) {
        virtio_bench_run(b, step_realize, &s);
    }
    if (!s.ok) {
        device_free(s.dev);
        *dev = NULL;
        return bench_error_text(s.error);
    }
    enter_main();
    bql_lock();
    pci_bus_assign_resources(b->bus);
    bql_unlock();
    *dev = s.dev;
    return NULL;
}

char *virtio_bench_try_device(VirtioBench *b, const char *type, const char *properties,
                              Device *parent, Device **dev)
{
    const DeviceType *t = device_type_find(type);
    g_assert_nonnull(t);
    return bench_try_device_of(b, t, properties, parent, dev);
}

Device *virtio_bench_device_of(VirtioBench *b, const DeviceType *type, const char *properties)
{
    Device *dev;
    char *text = bench_try_device_of(b, type, properties, NULL, &dev);
    if (text) {
        fprintf(stderr, "%s\n", text);
        abort();
    }
    return dev;
}

Device *virtio_bench_device(VirtioBench *b, const char *type, const char *properties)
{
    const DeviceType *t = device_type_find(type);
    g_assert_nonnull(t);
    return virtio_bench_device_of(b, t, properties);
}

static void step_stop(void *opaque)
{
    Device *dev = opaque;
    enter_main();
    enter_coroutine();
    if (dev->type->co_stop) {
        dev->type->co_stop(dev);
    }
}

static void step_start(void *opaque)
{
    DeviceStep *s = opaque;
    enter_main();
    enter_coroutine();
    s->ok = !s->dev->type->co_start || s->dev->type->co_start(s->dev, &s->error);
}

static void step_unrealize(void *opaque)
{
    enter_main();
    enter_coroutine();
    device_unrealize(opaque);
}

char *virtio_bench_try_start(VirtioBench *b, Device *dev)
{
    DeviceStep s = {.dev = dev};
    virtio_bench_run(b, step_start, &s);
    return s.ok ? NULL : bench_error_text(s.error);
}

void virtio_bench_start(VirtioBench *b, Device *dev)
{
    g_autofree char *text = virtio_bench_try_start(b, dev);
    if (text) {
        g_error("%s", text);
    }
}

void virtio_bench_stop(VirtioBench *b, Device *dev)
{
    virtio_bench_run(b, step_stop, dev);
}

void virtio_bench_unplug(VirtioBench *b, Device *dev)
{
    virtio_bench_stop(b, dev);
    virtio_bench_run(b, step_unrealize, dev);
    device_free(dev);
}

void virtio_bench_reset(VirtioBench *b, Device *dev)
{
    virtio_bench_stop(b, dev);
    enter_main();
    bql_lock();
    dev->type->reset(dev);
    pci_bus_assign_resources(b->bus);
    bql_unlock();
    virtio_bench_start(b, dev);
}

GByteArray *virtio_bench_save(VirtioBench *b, Device *dev)
{
    GByteArray *out = g_byte_array_new();
    bql_lock();
    if (dev->type->pre_save) {
        dev->type->pre_save(dev);
    }
    if (dev->type->base_state) {
        state_save(dev->type->base_state, dev, out);
    }
    state_save(dev->type->state, dev, out);
    bql_unlock();
    return out;
}

static bool bench_load_to(const DeviceType *type, void *object, const GByteArray *saved,
                          GError **error)
{
    size_t first = 0, second = 0;
    return (!type->base_state ||
            state_load(type->base_state, object, saved->data, saved->len, &first, error)) &&
           state_load(type->state, object, saved->data + first, saved->len - first, &second, error);
}

char *virtio_bench_load(VirtioBench *b, Device *dev, const GByteArray *saved)
{
    GError *error = NULL;
    const DeviceType *type = dev->type;
    g_autofree uint8_t *scratch = g_memdup2(dev, type->instance_size);
    bool ok = bench_load_to(type, scratch, saved, &error) &&
              (!type->check_state ||
               type->check_state(dev, scratch + type->state->struct_offset, &error));
    bql_lock();
    ok = ok && bench_load_to(type, dev, saved, &error) && type->post_load(dev, &error);
    bql_unlock();
    if (ok) {
        return NULL;
    }
    return bench_error_text(error);
}

/* ---- registers ---- */

MmioResult virtio_guest_access(VirtioGuest *g, uint64_t gpa, IoAccess *a)
{
    bql_lock();
    MmioResult result = address_space_dispatch(g->bench->machine->env.mmio, gpa, a, NULL);
    bql_unlock();
    return result;
}

static uint64_t guest_access_to_end(VirtioGuest *g, uint64_t gpa, IoAccess *a)
{
    while (virtio_guest_access(g, gpa, a) == MMIO_PENDING) {
        while (!completion_done(&a->waiter.done)) {
            if (g->pended) {
                g->pended(g->opaque);
            }
            aio_context_step(g->bench->main_ctx, !g->pended);
        }
    }
    return a->value;
}

uint64_t virtio_guest_read(VirtioGuest *g, uint64_t gpa, unsigned size)
{
    IoAccess a = {.size = (uint8_t)size};
    return guest_access_to_end(g, gpa, &a);
}

void virtio_guest_write(VirtioGuest *g, uint64_t gpa, uint64_t value, unsigned size)
{
    IoAccess a = {.size = (uint8_t)size, .is_write = true, .value = value};
    guest_access_to_end(g, gpa, &a);
}

uint32_t virtio_guest_common_read(VirtioGuest *g, unsigned offset, unsigned size)
{
    return (uint32_t)virtio_guest_read(g, g->common + offset, size);
}

void virtio_guest_common_write(VirtioGuest *g, unsigned offset, uint64_t value, unsigned size)
{
    virtio_guest_write(g, g->common + offset, value, size);
}

/* ---- discovery ---- */

static void guest_take_cap(VirtioGuest *g, unsigned cap)
{
    const PciDevice *pci = &g->dev->pci;
    unsigned bar = pci_get(pci, cap + 4, 1);
    uint64_t base = pci_get(pci, 0x10 + bar * 4, 4) & ~0xfu;
    base |= (uint64_t)pci_get(pci, 0x14 + bar * 4, 4) << 32;
    uint64_t gpa = base + pci_get(pci, cap + 8, 4);
    switch (pci_get(pci, cap + 3, 1)) {
    case VIRTIO_PCI_CAP_COMMON:
        g->common = gpa;
        return;
    case VIRTIO_PCI_CAP_NOTIFY:
        g->notify = gpa;
        g->notify_multiplier = pci_get(pci, cap + 16, 4);
        return;
    case VIRTIO_PCI_CAP_ISR:
        g->isr = gpa;
        return;
    case VIRTIO_PCI_CAP_DEVICE:
        g->config = gpa;
        g->config_size = pci_get(pci, cap + 12, 4);
        return;
    default:
        return;
    }
}

void virtio_guest_init(VirtioGuest *g, VirtioBench *b, Device *dev)
{
    *g = (VirtioGuest){.bench = b, .dev = (VirtioPci *)(void *)dev};
    const PciDevice *pci = &g->dev->pci;
    for (unsigned cap = pci_get(pci, PCI_CAP_POINTER, 1); cap; cap = pci_get(pci, cap + 1, 1)) {
        if (pci_get(pci, cap, 1) == PCI_CAP_VENDOR) {
            guest_take_cap(g, cap);
        }
    }
    g_assert(g->common && g->isr && g->notify);
}

uint64_t virtio_guest_ecam(const VirtioGuest *g)
{
    bql_lock();
    uint64_t bus = pci_device_bus_number(&g->dev->pci);
    bql_unlock();
    return BENCH_ECAM_GPA + (bus << 20) + ((uint64_t)g->dev->pci.devfn << 12);
}

/* ---- initialization, §3.1 ---- */

void virtio_guest_set_master(VirtioGuest *g, bool on)
{
    virtio_guest_write(g, virtio_guest_ecam(g) + PCI_COMMAND, on ? 6 : 2, 2);
}

uint8_t virtio_guest_status(VirtioGuest *g)
{
    return (uint8_t)virtio_guest_common_read(g, VIRTIO_COMMON_STATUS, 1);
}

void virtio_guest_set_status(VirtioGuest *g, uint8_t status)
{
    virtio_guest_common_write(g, VIRTIO_COMMON_STATUS, status, 1);
}

uint64_t virtio_guest_offered(VirtioGuest *g)
{
    uint64_t features = 0;
    for (unsigned i = 0; i < 2; i++) {
        virtio_guest_common_write(g, VIRTIO_COMMON_DEVICE_FEATURE_SELECT, i, 4);
        features |= (uint64_t)virtio_guest_common_read(g, VIRTIO_COMMON_DEVICE_FEATURE, 4)
                    << (32 * i);
    }
    return features;
}

void virtio_guest_reset(VirtioGuest *g)
{
    virtio_guest_set_status(g, 0);
    while (virtio_guest_status(g)) {
    }
}

bool virtio_guest_negotiate(VirtioGuest *g, uint64_t wanted)
{
    virtio_guest_reset(g);
    virtio_guest_set_master(g, true);
    virtio_guest_set_status(g, VIRTIO_STATUS_ACKNOWLEDGE);
    virtio_guest_set_status(g, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    g->features = virtio_guest_offered(g) & wanted;
    for (unsigned i = 0; i < 2; i++) {
        virtio_guest_common_write(g, VIRTIO_COMMON_DRIVER_FEATURE_SELECT, i, 4);
        virtio_guest_common_write(g, VIRTIO_COMMON_DRIVER_FEATURE,
                                  (uint32_t)(g->features >> (32 * i)), 4);
    }
    virtio_guest_set_status(g, virtio_guest_status(g) | VIRTIO_STATUS_FEATURES_OK);
    return virtio_guest_status(g) & VIRTIO_STATUS_FEATURES_OK;
}

void virtio_guest_queue(VirtioGuest *g, VirtioGuestQueue *q, unsigned index, unsigned size,
                        unsigned vector)
{
    virtio_guest_common_write(g, VIRTIO_COMMON_QUEUE_SELECT, index, 2);
    unsigned max = virtio_guest_common_read(g, VIRTIO_COMMON_QUEUE_SIZE, 2);
    size = size ? size : max;
    *q = (VirtioGuestQueue){
        .guest = g, .index = index, .event_idx = g->features & VIRTIO_F_EVENT_IDX};
    uint64_t gpa = virtio_bench_alloc(g->bench, vring_driver_bytes(size));
    vring_driver_init(&q->ring, &g->bench->driver_ram, gpa, size);
    virtio_guest_common_write(g, VIRTIO_COMMON_QUEUE_SIZE, size, 2);
    virtio_guest_common_write(g, VIRTIO_COMMON_QUEUE_VECTOR, vector, 2);
    virtio_guest_common_write(g, VIRTIO_COMMON_QUEUE_DESC, q->ring.desc_gpa, 8);
    virtio_guest_common_write(g, VIRTIO_COMMON_QUEUE_DRIVER, q->ring.avail_gpa, 8);
    virtio_guest_common_write(g, VIRTIO_COMMON_QUEUE_DEVICE, q->ring.used_gpa, 8);
    virtio_guest_common_write(g, VIRTIO_COMMON_QUEUE_ENABLE, 1, 2);
}

void virtio_guest_driver_ok(VirtioGuest *g)
{
    virtio_guest_set_status(g, virtio_guest_status(g) | VIRTIO_STATUS_DRIVER_OK);
}

void virtio_guest_enable_msix(VirtioGuest *g)
{
    const PciDevice *pci = &g->dev->pci;
    uint64_t table = pci_get(pci, 0x10 + VIRTIO_PCI_MSIX_BAR * 4, 4) & ~0xfu;
    for (unsigned i = 0; i < pci->msix.count; i++) {
        virtio_guest_write(g, table + i * 16, 0xfee00000, 4);
        virtio_guest_write(g, table + i * 16 + 4, 0, 4);
        virtio_guest_write(g, table + i * 16 + 8, 0x100 + i, 4);
        virtio_guest_write(g, table + i * 16 + 12, 0, 4);
    }
    virtio_guest_write(g, virtio_guest_ecam(g) + pci->msix.cap + 2, MSIX_ENABLE, 2);
}

/* ---- operation ---- */

void virtio_guest_kick(VirtioGuestQueue *q)
{
    FakeMachine *m = q->guest->bench->machine;
    uint64_t gpa = q->guest->notify + q->index * q->guest->notify_multiplier;
    for (unsigned i = 0; i < m->doorbell_count; i++) {
        if (m->doorbells[i].address == gpa && !m->doorbells[i].pio) {
            eventfd_write(m->doorbells[i].event_fd, 1);
            return;
        }
    }
    virtio_guest_write(q->guest, gpa, q->index, 2);
}

uint16_t virtio_guest_add(VirtioGuestQueue *q, const VringBuffer *buffers, unsigned count)
{
    uint16_t old = q->ring.avail_idx;
    uint16_t head = vring_driver_chain(&q->ring, buffers, count);
    vring_driver_offer(&q->ring, head);
    if (vring_driver_wants_kick(&q->ring, old, q->event_idx)) {
        virtio_guest_kick(q);
    }
    return head;
}

bool virtio_guest_used(VirtioGuestQueue *q, uint32_t *id, uint32_t *len)
{
    virtio_bench_settle(q->guest->bench); /* the interrupt comes after the entry too */
    bool any = vring_driver_take_used(&q->ring, id, len);
    if (any && q->event_idx) { /* request an interrupt for the next one */
        vring_driver_set_used_event(&q->ring, q->ring.last_used);
    }
    return any;
}
