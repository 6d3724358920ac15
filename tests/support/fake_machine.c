/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fake_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "hw/core/vm_clock.h"
#include "tests/support/fake_chardev.h"

#define FAKE_START_NS INT64_C(1000000000)

struct MsiRoute {
    MsiMessage message, wanted;
    bool committed; /* `message` is valid */
    bool changed;
    bool attached;
    uint32_t device_id;
    int event_fd;
};

static void fake_set_gsi(void *opaque, unsigned gsi, bool level)
{
    FakeMachine *m = opaque;
    pthread_mutex_lock(&m->lock);
    g_assert(gsi < FAKE_GSI_COUNT && m->gsi_level[gsi] != level);
    m->gsi_level[gsi] = level;
    m->gsi_raised[gsi] += level;
    pthread_mutex_unlock(&m->lock);
}

static void fake_deliver(FakeMachine *m, MsiMessage message)
{
    if (m->delivered_count < FAKE_LOG_MAX) {
        m->delivered[m->delivered_count] = message;
    }
    m->delivered_count++;
}

/* Takes the event in the eventfd and delivers it. */
static unsigned fake_take_event(FakeMachine *m, const MsiRoute *route)
{
    uint64_t count;
    if (!route->attached || read(route->event_fd, &count, sizeof(count)) != sizeof(count)) {
        return 0;
    }
    fake_deliver(m, route->message);
    return 1;
}

static MsiRoute *fake_msi_route_new(void *opaque, uint32_t device_id, int event_fd, GError **error)
{
    FakeMachine *m = opaque;
    assert_bql();
    if (m->routes->len == m->route_limit) {
        g_set_error_literal(error, OPT_ERROR, OPT_ERROR_VALUE, "no more routes");
        return NULL;
    }
    MsiRoute *route = g_new0(MsiRoute, 1);
    route->device_id = device_id;
    route->event_fd = event_fd;
    pthread_mutex_lock(&m->lock);
    g_ptr_array_add(m->routes, route);
    pthread_mutex_unlock(&m->lock);
    return route;
}

static void fake_msi_route_free(void *opaque, MsiRoute *route)
{
    FakeMachine *m = opaque;
    assert_bql();
    g_assert(!route->attached && !route->changed);
    pthread_mutex_lock(&m->lock);
    g_assert(g_ptr_array_remove(m->routes, route));
    pthread_mutex_unlock(&m->lock);
    g_free(route);
}

static void fake_msi_route_set(void *opaque, MsiRoute *route, MsiMessage message)
{
    assert_bql();
    route->wanted = message;
    route->changed = true;
}

static void fake_msi_routes_commit(void *opaque)
{
    FakeMachine *m = opaque;
    assert_bql();
    pthread_mutex_lock(&m->lock);
    m->route_commits++;
    for (unsigned i = 0; i < m->routes->len; i++) {
        MsiRoute *route = m->routes->pdata[i];
        if (route->changed) {
            fake_take_event(m, route); /* written before the change: has the old message */
            route->message = route->wanted;
            route->committed = true;
            route->changed = false;
        }
    }
    pthread_mutex_unlock(&m->lock);
}

static bool fake_msi_route_attach(void *opaque, MsiRoute *route, GError **error)
{
    FakeMachine *m = opaque;
    assert_bql();
    g_assert(route->committed && !route->changed && !route->attached);
    if (m->refuse_attach) {
        g_set_error_literal(error, OPT_ERROR, OPT_ERROR_VALUE, "refused");
        return false;
    }
    pthread_mutex_lock(&m->lock);
    route->attached = true;
    m->attached++;
    fake_take_event(m, route);
    pthread_mutex_unlock(&m->lock);
    return true;
}

static void fake_msi_route_detach(void *opaque, MsiRoute *route)
{
    FakeMachine *m = opaque;
    assert_bql();
    pthread_mutex_lock(&m->lock);
    g_assert(route->attached);
    fake_take_event(m, route);
    route->attached = false;
    m->attached--;
    pthread_mutex_unlock(&m->lock);
}

static void fake_msi_send(void *opaque, MsiMessage message)
{
    FakeMachine *m = opaque;
    pthread_mutex_lock(&m->lock);
    fake_deliver(m, message);
    pthread_mutex_unlock(&m->lock);
}

static int fake_doorbell_add(void *opaque, bool pio, uint64_t address, unsigned size, bool match,
                             uint64_t data, int event_fd)
{
    FakeMachine *m = opaque;
    assert_bql();
    g_assert(m->doorbell_count < G_N_ELEMENTS(m->doorbells));
    m->doorbells[m->doorbell_count++] = (FakeDoorbell){.pio = pio,
                                                       .match = match,
                                                       .address = address,
                                                       .data = data,
                                                       .size = size,
                                                       .event_fd = event_fd};
    return 0;
}

static void fake_doorbell_remove(void *opaque, bool pio, uint64_t address, unsigned size,
                                 bool match, uint64_t data, int event_fd)
{
    FakeMachine *m = opaque;
    assert_bql();
    for (unsigned i = 0; i < m->doorbell_count; i++) {
        const FakeDoorbell *d = &m->doorbells[i];
        if (d->pio == pio && d->address == address && d->size == size && d->match == match &&
            d->data == data && d->event_fd == event_fd) {
            m->doorbells[i] = m->doorbells[--m->doorbell_count];
            return;
        }
    }
    g_assert_not_reached();
}

static bool fake_set_rom_mapped(void *opaque, uint64_t gpa, bool mapped)
{
    FakeMachine *m = opaque;
    assert_bql();
    g_assert(guest_ram_map(&m->ram, gpa, 1, false) != NULL);
    if (m->refuse_rom) {
        return false;
    }
    m->rom_hidden = !mapped;
    m->rom_changes++;
    return true;
}

static void fake_request(void *opaque, int vm_request, int64_t detail)
{
    FakeMachine *m = opaque;
    pthread_mutex_lock(&m->lock);
    if (m->request_count < G_N_ELEMENTS(m->requests)) {
        m->requests[m->request_count++] = (FakeRequest){vm_request, detail};
    }
    pthread_mutex_unlock(&m->lock);
}

static const MachineOps fake_machine_ops = {
    .set_gsi = fake_set_gsi,
    .msi_route_new = fake_msi_route_new,
    .msi_route_free = fake_msi_route_free,
    .msi_route_set = fake_msi_route_set,
    .msi_routes_commit = fake_msi_routes_commit,
    .msi_route_attach = fake_msi_route_attach,
    .msi_route_detach = fake_msi_route_detach,
    .msi_send = fake_msi_send,
    .doorbell_add = fake_doorbell_add,
    .doorbell_remove = fake_doorbell_remove,
    .set_rom_mapped = fake_set_rom_mapped,
};

FakeMachine *fake_machine_new(void)
{
    FakeMachine *m = g_new0(FakeMachine, 1);
    if (thread_role() == THREAD_NONE) {
        thread_adopt_role(THREAD_MAIN, "main");
    }
    pthread_mutex_init(&m->lock, NULL);
    m->machine = (Machine){
        .ops = &fake_machine_ops, .opaque = m, .request = fake_request, .request_opaque = m};
    m->routes = g_ptr_array_new();
    m->route_limit = FAKE_ROUTE_LIMIT;
    for (unsigned i = 0; i < FAKE_GSI_COUNT; i++) {
        irq_gate_init(&m->gates[i], &m->machine, i);
        m->gate_list[i] = &m->gates[i];
    }
    RamBlock block = {
        .size = FAKE_RAM_SIZE, .host = g_malloc0(FAKE_RAM_SIZE), .fd = -1, .name = "ram"};
    guest_ram_add(&m->ram, &block);
    m->env = (DeviceEnv){
        .machine = &m->machine,
        .ram = &m->ram,
        .mmio = address_space_new("mmio"),
        .pio = address_space_new("pio"),
        .main_ctx = aio_context_new("main", NULL),
        .gates = m->gate_list,
        .gate_count = FAKE_GSI_COUNT,
    };
    g_assert(m->env.main_ctx != NULL);
    m->env.default_iothread = m->env.main_ctx;
    m->env.find_chardev = fake_chardev_find;
    aio_context_set_virtual_time(m->env.main_ctx, FAKE_START_NS);
    vm_clock_init(m->env.main_ctx);
    return m;
}

void fake_machine_free(FakeMachine *m)
{
    g_assert(m->routes->len == 0 && m->doorbell_count == 0);
    for (unsigned i = 0; i < FAKE_GSI_COUNT; i++) {
        rank_mutex_destroy(&m->gates[i].lock);
    }
    address_space_free(m->env.mmio);
    address_space_free(m->env.pio);
    vm_clock_init(NULL);
    aio_context_free(m->env.main_ctx);
    g_ptr_array_free(m->routes, TRUE);
    g_free(m->ram.blocks[0].host);
    pthread_mutex_destroy(&m->lock);
    g_free(m);
}

void fake_machine_run(FakeMachine *m)
{
    while (aio_context_step(m->env.main_ctx, false)) {
    }
}

void fake_machine_advance(FakeMachine *m, int64_t duration_ns)
{
    fake_machine_run(m); /* arms requested timers before time moves */
    aio_context_set_virtual_time(m->env.main_ctx, aio_now_ns(m->env.main_ctx) + duration_ns);
    fake_machine_run(m);
}

unsigned fake_machine_settle(FakeMachine *m)
{
    unsigned count = 0;
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->routes->len; i++) {
        count += fake_take_event(m, m->routes->pdata[i]);
    }
    pthread_mutex_unlock(&m->lock);
    return count;
}

unsigned fake_machine_delivered(const FakeMachine *m, uint32_t data)
{
    unsigned count = 0;
    for (unsigned i = 0; i < MIN(m->delivered_count, FAKE_LOG_MAX); i++) {
        count += m->delivered[i].data == data;
    }
    return count;
}

FakeRequest fake_machine_last_request(const FakeMachine *m)
{
    return m->request_count > 0 ? m->requests[m->request_count - 1] : (FakeRequest){-1, -1};
}

uint64_t fake_read(AddressSpace *as, uint64_t address, unsigned size)
{
    IoAccess access = {.size = (uint8_t)size};
    bql_lock();
    MmioResult result = address_space_dispatch(as, address, &access, NULL);
    bql_unlock();
    g_assert(result == MMIO_DONE);
    return access.value;
}

void fake_write(AddressSpace *as, uint64_t address, uint64_t value, unsigned size)
{
    IoAccess access = {.size = (uint8_t)size, .is_write = true, .value = value};
    bql_lock();
    MmioResult result = address_space_dispatch(as, address, &access, NULL);
    bql_unlock();
    g_assert(result == MMIO_DONE);
}

uint8_t fake_in8(FakeMachine *m, uint16_t port)
{
    return (uint8_t)fake_read(m->env.pio, port, 1);
}

uint16_t fake_in16(FakeMachine *m, uint16_t port)
{
    return (uint16_t)fake_read(m->env.pio, port, 2);
}

uint32_t fake_in32(FakeMachine *m, uint16_t port)
{
    return (uint32_t)fake_read(m->env.pio, port, 4);
}

void fake_out8(FakeMachine *m, uint16_t port, uint8_t value)
{
    fake_write(m->env.pio, port, value, 1);
}

void fake_out16(FakeMachine *m, uint16_t port, uint16_t value)
{
    fake_write(m->env.pio, port, value, 2);
}

void fake_out32(FakeMachine *m, uint16_t port, uint32_t value)
{
    fake_write(m->env.pio, port, value, 4);
}

static void fake_fail(GError *error)
{
    fprintf(stderr, "%s\n", error != NULL ? error->message : "no error text");
    abort();
}

Device *fake_device(FakeMachine *m, const char *name, const char *properties)
{
    const DeviceType *type = device_type_find(name);
    g_assert(type != NULL);
    return fake_device_of(m, type, properties);
}

typedef struct FakeRealize {
    Device *dev;
    bool ok, done;
    GError *error;
} FakeRealize;

static void fake_realize(void *opaque)
{
    FakeRealize *r = opaque;
    enter_main();
    enter_coroutine();
    r->ok = device_realize(r->dev, &r->error);
    r->done = true;
}

Device *fake_device_try(FakeMachine *m, const DeviceType *type, const char *properties,
                        GError **error)
{
    FakeRealize r = {.dev = device_new(type, &m->env, NULL)};
    g_autoptr(OptDict) dict =
        properties != NULL ? opt_dict_parse(properties, NULL, &r.error) : NULL;
    bool set = properties == NULL || (dict != NULL && device_set_properties(r.dev, dict, &r.error));
    if (set) {
        co_start(m->env.main_ctx, fake_realize, &r);
    }
    while (set && !r.done) {
        aio_context_step(m->env.main_ctx, true);
    }
    if (!r.ok) {
        device_free(r.dev);
        g_propagate_error(error, r.error);
        return NULL;
    }
    return r.dev;
}

Device *fake_device_of(FakeMachine *m, const DeviceType *type, const char *properties)
{
    GError *error = NULL;
    Device *dev = fake_device_try(m, type, properties, &error);
    if (dev == NULL) {
        fake_fail(error);
    }
    return dev;
}

void fake_device_gone(Device *dev)
{
    device_unrealize(dev);
    device_free(dev);
}
