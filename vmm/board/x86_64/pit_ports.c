/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/board/x86_64/pit_ports.h"

#include "util/log.h"
#include "util/loop/coroutine.h"
#include "util/loop/sched_point.h"
#include "vmm/arch/x86_64/pit.h"
#include "vmm/board/x86_64/trace_events.h"

static int pit_ports_create_in_worker(void *opaque)
{
    enter_worker();
    PitPorts *p = opaque;
    return x86_pit_create(p->kvm, &p->error) ? 0 : -1;
}

static void pit_ports_create_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    PitPorts *p = opaque;
    int ret = co_run_in_lane(&p->lane, pit_ports_create_in_worker, p);
    if (ret != 0) {
        log_error("the guest's PIT: %s", p->error->message);
        g_clear_error(&p->error);
    }
    SP("pit.created", p);
    trace_pit_created(ret == 0);
    bql_lock();
    p->state = ret == 0 ? PIT_PORTS_PRESENT : PIT_PORTS_FAILED;
    pended_finish(&p->pended);
    bql_unlock();
    if (ret != 0) {
        p->failed(p->opaque);
    }
}

static void pit_ports_create(void *opaque)
{
    enter_main();
    PitPorts *p = opaque;
    co_start(p->ctx, pit_ports_create_run, p);
}

static MmioResult pit_ports_apply(PitPorts *p, unsigned port, IoAccess *access)
{
    g_autoptr(GError) error = NULL;
    uint8_t value = (uint8_t)access->value;
    if (!x86_pit_access(p->kvm, port, access->is_write, &value, &error)) {
        log_error("the guest's PIT: %s", error->message);
    } else if (!access->is_write) {
        access->value = value;
    }
    return MMIO_DONE;
}

static MmioResult pit_ports_access(PitPorts *p, unsigned port, IoAccess *access) BQL_HELD
{
    if (p->state == PIT_PORTS_ABSENT && x86_pit_exists()) {
        p->state = PIT_PORTS_PRESENT;
    }
    switch (p->state) {
    case PIT_PORTS_ABSENT:
        p->state = PIT_PORTS_CREATING;
        aio_bh_schedule(&p->create);
        return pended_wait_for(&p->pended, access);
    case PIT_PORTS_CREATING:
        return pended_wait_for(&p->pended, access);
    case PIT_PORTS_PRESENT:
        return pit_ports_apply(p, port, access);
    case PIT_PORTS_FAILED:
        break;
    }
    return MMIO_DONE;
}

static MmioResult pit_ports_access_counters(void *opaque, IoAccess *access)
{
    assert_bql();
    return pit_ports_access(opaque, X86_PIT_PORT + (unsigned)access->offset, access);
}

static MmioResult pit_ports_access_speaker(void *opaque, IoAccess *access)
{
    assert_bql();
    return pit_ports_access(opaque, X86_PIT_PORT_SPEAKER, access);
}

void pit_ports_init(PitPorts *p, Kvm *kvm, AddressSpace *pio, AioContext *ctx,
                    void (*failed)(void *opaque), void *opaque)
{
    static const IoRegionOps counters = {
        .access = pit_ports_access_counters, .min_size = 1, .max_size = 1};
    static const IoRegionOps speaker = {
        .access = pit_ports_access_speaker, .min_size = 1, .max_size = 1};
    *p = (PitPorts){.kvm = kvm, .ctx = ctx, .failed = failed, .opaque = opaque};
    p->pended.what = "the creation of the PIT";
    p->counters = (IoRegion){.name = "pit", .ops = &counters, .opaque = p, .size = X86_PIT_PORTS};
    p->speaker = (IoRegion){.name = "speaker", .ops = &speaker, .opaque = p, .size = 1};
    aio_bh_init(&p->create, ctx, pit_ports_create, p);
    bql_lock();
    address_space_map(pio, &p->counters, X86_PIT_PORT, 1);
    address_space_map(pio, &p->speaker, X86_PIT_PORT_SPEAKER, 1);
    bql_unlock();
}

void pit_ports_fini(PitPorts *p)
{
    bql_lock();
    g_assert(p->state != PIT_PORTS_CREATING);
    address_space_unmap(&p->counters);
    address_space_unmap(&p->speaker);
    bql_unlock();
}
