/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pc-testdev: the device of that name in QEMU, for kvm-unit-tests.
 *
 *   port 0xe0-0xe3        4 bytes that keep their value
 *   port 0xe4             write of 4 bytes: the page at that guest address is unmapped and mapped
 *                         again, so that KVM drops its translations of it
 *   port 0xe8-0xeb        the bytes of 0xe0 again, one at a time
 *   port 0x2000-0x2017    interrupt lines: a write of 0 lowers line N, another value raises it
 *   memory 0xff000000     64 KiB that keep their value, but are not RAM: each access exits
 */
#include <string.h>
#include <sys/mman.h>
#include "hw/platform/isa.h"

#define TESTDEV_DATA_PORT 0xe0
#define TESTDEV_FLUSH_PORT 0xe4
#define TESTDEV_BYTE_PORT 0xe8
#define TESTDEV_IRQ_PORT 0x2000
#define TESTDEV_IRQ_LINES 24
#define TESTDEV_MEMORY_GPA 0xff000000
#define TESTDEV_MEMORY_SIZE 0x10000
#define TESTDEV_PAGE 4096

typedef struct TestdevState {
    uint32_t lines; /* bit N: line N is high */
    uint8_t data[4];
    uint8_t memory[TESTDEV_MEMORY_SIZE];
} TestdevState;

typedef struct Testdev {
    Device base;
    TestdevState state;
    IoRegion data, bytes, flush, irq, memory;
    IrqLine lines[TESTDEV_IRQ_LINES];
} Testdev;

static const StateField testdev_fields[] = {
    STATE_FIELD(TestdevState, STATE_U32, lines),
    STATE_ARRAY(TestdevState, STATE_BYTES, data),
    STATE_ARRAY(TestdevState, STATE_BYTES, memory),
    {0},
};

static const StateDesc testdev_state =
    STATE_DESC("pc-testdev", 1, Testdev, state, TestdevState, testdev_fields);

/* The dispatcher keeps accesses within the region; @bytes is as large as the region. */
static void testdev_access_bytes(uint8_t *bytes, IoAccess *access)
{
    if (access->is_write) {
        memcpy(bytes + access->offset, &access->value, access->size);
    } else {
        access->value = 0;
        memcpy(&access->value, bytes + access->offset, access->size);
    }
}

static MmioResult testdev_access_data(void *opaque, IoAccess *access)
{
    Testdev *t = opaque;
    assert_bql();
    testdev_access_bytes(t->state.data, access);
    return MMIO_DONE;
}

static MmioResult testdev_access_memory(void *opaque, IoAccess *access)
{
    Testdev *t = opaque;
    assert_bql();
    testdev_access_bytes(t->state.memory, access);
    return MMIO_DONE;
}

static void testdev_flush_page(const Testdev *t, uint64_t gpa)
{
    void *page =
        guest_ram_map(t->base.env->ram, gpa & ~(uint64_t)(TESTDEV_PAGE - 1), TESTDEV_PAGE, true);
    /* The page stays readable. A device that writes to it meanwhile is a guest error. */
    if (page != NULL && mprotect(page, TESTDEV_PAGE, PROT_READ) == 0 &&
        mprotect(page, TESTDEV_PAGE, PROT_READ | PROT_WRITE) != 0) {
        log_error("%s: a page of RAM stays read-only", device_label(&t->base));
    }
}

static MmioResult testdev_access_flush(void *opaque, IoAccess *access)
{
    assert_bql();
    if (access->is_write) {
        testdev_flush_page(opaque, access->value);
    } else {
        access->value = 0;
    }
    return MMIO_DONE;
}

static void testdev_update_lines(Testdev *t) BQL_HELD
{
    for (unsigned i = 0; i < TESTDEV_IRQ_LINES; i++) {
        irq_line_set(&t->lines[i], (t->state.lines & 1u << i) != 0);
    }
}

static MmioResult testdev_access_irq(void *opaque, IoAccess *access)
{
    Testdev *t = opaque;
    assert_bql();
    uint32_t bit = 1u << access->offset;
    if (access->is_write) {
        t->state.lines = access->value != 0 ? t->state.lines | bit : t->state.lines & ~bit;
        irq_line_set(&t->lines[access->offset], access->value != 0);
    } else {
        access->value = 0;
    }
    return MMIO_DONE;
}

static const IoRegionOps testdev_data_ops = {
    .access = testdev_access_data, .min_size = 1, .max_size = 4, .unaligned = true};
static const IoRegionOps testdev_byte_ops = {
    .access = testdev_access_data, .min_size = 1, .max_size = 1};
static const IoRegionOps testdev_flush_ops = {
    .access = testdev_access_flush, .min_size = 4, .max_size = 4};
static const IoRegionOps testdev_irq_ops = {
    .access = testdev_access_irq, .min_size = 1, .max_size = 4, .unaligned = true};
static const IoRegionOps testdev_memory_ops = {
    .access = testdev_access_memory, .min_size = 1, .max_size = 8, .unaligned = true};

static void testdev_map_memory(Testdev *t) RUNS_IN_MAIN
{
    bql_lock();
    address_space_map(t->base.env->mmio, &t->memory, TESTDEV_MEMORY_GPA, 0);
    bql_unlock();
}

static void testdev_detach(Testdev *t) RUNS_IN_MAIN
{
    IoRegion *regions[] = {&t->data, &t->bytes, &t->flush, &t->irq, &t->memory};
    for (unsigned i = 0; i < G_N_ELEMENTS(regions); i++) {
        if (regions[i]->space != NULL) {
            isa_device_detach(regions[i]);
        }
    }
}

static bool testdev_realize(Device *dev, GError **error)
{
    Testdev *t = (Testdev *)dev;
    enter_main();
    t->data = (IoRegion){.name = "pc-testdev-data", .ops = &testdev_data_ops, .size = 4};
    t->flush = (IoRegion){.name = "pc-testdev-flush", .ops = &testdev_flush_ops, .size = 4};
    t->bytes = (IoRegion){.name = "pc-testdev-bytes", .ops = &testdev_byte_ops, .size = 4};
    t->irq =
        (IoRegion){.name = "pc-testdev-irq", .ops = &testdev_irq_ops, .size = TESTDEV_IRQ_LINES};
    t->memory = (IoRegion){
        .name = "pc-testdev-memory", .ops = &testdev_memory_ops, .size = TESTDEV_MEMORY_SIZE};
    t->data.opaque = t->flush.opaque = t->bytes.opaque = t->irq.opaque = t->memory.opaque = t;
    for (unsigned i = 0; i < TESTDEV_IRQ_LINES; i++) {
        isa_irq_connect(dev, &t->lines[i], i);
    }
    if (!isa_device_attach(dev, &t->data, TESTDEV_DATA_PORT, error) ||
        !isa_device_attach(dev, &t->flush, TESTDEV_FLUSH_PORT, error) ||
        !isa_device_attach(dev, &t->bytes, TESTDEV_BYTE_PORT, error) ||
        !isa_device_attach(dev, &t->irq, TESTDEV_IRQ_PORT, error)) {
        testdev_detach(t);
        return false;
    }
    testdev_map_memory(t);
    return true;
}

static void testdev_reset(Device *dev)
{
    Testdev *t = (Testdev *)dev;
    assert_bql();
    memset(&t->state, 0, sizeof(t->state));
    testdev_update_lines(t);
}

static bool testdev_post_load(Device *dev, GError **error)
{
    assert_bql();
    testdev_update_lines((Testdev *)dev);
    return true;
}

static void testdev_unrealize(Device *dev)
{
    Testdev *t = (Testdev *)dev;
    enter_main();
    testdev_detach(t);
    bql_lock();
    t->state.lines = 0;
    testdev_update_lines(t);
    bql_unlock();
}

const DeviceType pc_testdev_type = {
    .name = "pc-testdev",
    .description = "ports, interrupt lines and memory for kvm-unit-tests",
    .instance_size = sizeof(Testdev),
    .state = &testdev_state,
    .user_creatable = true,
    .bus = "isa",
    .realize = testdev_realize,
    .reset = testdev_reset,
    .unrealize = testdev_unrealize,
    .post_load = testdev_post_load,
};
