/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole machine on /dev/kvm with the guest of snapshot_guest.h, in the test's process: board, devices, two vCPUs.
 * The test's thread is main. A test's body is a coroutine; RAM is put aside by a copy.
 */
#ifndef SKIFF_TESTS_VMM_SNAPSHOT_SNAPSHOT_RIG_H
#define SKIFF_TESTS_VMM_SNAPSHOT_SNAPSHOT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "hw/core/vm_clock.h"
#include "tests/support/boot_images.h"
#include "tests/support/fake_machine.h"
#include "tests/vmm/snapshot/snapshot_guest.h"
#include "vmm/snapshot/machine_parts.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/machine_state_int.h"
#include "vmm/arch/x86_64/vcpu_state.h"
#include "vmm/arch/x86_64/vm_state.h"
#include "vmm/startup.h"

typedef struct Rig Rig;
typedef void RigBody(Rig *r);
typedef void RigStopped(Rig *r, const VmStopped *token);

/* One for all tests: a process has one VM. */
static struct Rig {
    Vm vm;
    VmConfig config;
    AioContext *ctx;
    char *kernel;
    IoRegion port, mmio;
    uint32_t accesses; /* BQL */
    GuestModel model;  /* at the newest step that was compared */
    RigBody *body;
    bool done;
    bool starts_stopped;
    /* a machine that was put aside */
    GByteArray *stream;
    uint8_t *ram;
    uint32_t kept_accesses;
    int64_t kept_clock_ns;
} rig;

/* ---- the test's device ---- */

static inline MmioResult rig_access(void *opaque, IoAccess *access)
{
    assert_bql();
    Rig *r = opaque;
    if (!access->is_write) {
        access->value = r->accesses;
    }
    r->accesses++;
    return MMIO_DONE;
}

static inline RUNS_IN_MAIN void rig_map(Rig *r)
{
    static const IoRegionOps ops = {.access = rig_access};
    r->port = (IoRegion){.name = "test", .ops = &ops, .opaque = r, .size = 8};
    r->mmio = (IoRegion){.name = "test", .ops = &ops, .opaque = r, .size = 0x1000};
    bql_lock();
    address_space_map(r->vm.machine.pio, &r->port, GUEST_PORT, 1);
    address_space_map(r->vm.machine.mmio, &r->mmio, GUEST_MMIO, 1);
    bql_unlock();
}

/* ---- the guest ---- */

static inline uint32_t rig_word(const Rig *r, uint32_t gpa)
{
    return __atomic_load_n((uint32_t *)(void *)(r->vm.machine.memory->host + gpa),
                           __ATOMIC_SEQ_CST);
}

/* All steps since the last call have the numbers of the model. The log has not wrapped meanwhile. */
static inline void rig_compare(Rig *r)
{
    uint32_t steps = rig_word(r, GUEST_STEPS);
    assert_in_range(steps, r->model.steps, r->model.steps + GUEST_LOG_LENGTH - 1);
    while (r->model.steps < steps) {
        uint32_t at = GUEST_LOG + 4 * (r->model.steps % GUEST_LOG_LENGTH);
        guest_model_step(&r->model);
        if (rig_word(r, at) != r->model.number) {
            fail_msg("step %u: 0x%x, expected 0x%x", r->model.steps, rig_word(r, at),
                     r->model.number);
        }
    }
}

static inline coroutine_fn RUNS_IN_MAIN void rig_await(Rig *r, uint32_t gpa, uint32_t more_than)
{
    while (rig_word(r, gpa) <= more_than) {
        g_usleep(100); /* leaves the processor to the guest */
        co_yield_turn();
    }
}

static inline coroutine_fn RUNS_IN_MAIN void rig_while_stopped(Rig *r, RigStopped *fn)
{
    RunState *rs = &r->vm.run;
    vm_operation_begin(rs);
    VmStopped *token = co_vm_stop(rs, STOP_PAUSED);
    fn(r, token);
    vm_stopped_put(rs, token);
    co_vm_resume(rs);
    vm_operation_end(rs);
}

/* The interrupt line register of the device "early", which a reset sets below 0x80. */
static inline RUNS_IN_MAIN void rig_select_register(Rig *r)
{
    const PciDevice *dev = (PciDevice *)machine_find_device(&r->vm.machine, "early");
    fake_write(r->vm.machine.pio, 0xcf8, 0x80000000u | (uint32_t)dev->devfn << 8 | 0x3c, 4);
}

static inline RUNS_IN_MAIN uint8_t rig_read_register(Rig *r)
{
    rig_select_register(r);
    return (uint8_t)fake_read(r->vm.machine.pio, 0xcfc, 1);
}

static inline RUNS_IN_MAIN void rig_write_register(Rig *r, uint8_t value)
{
    rig_select_register(r);
    fake_write(r->vm.machine.pio, 0xcfc, value, 1);
}

/* ---- saved and loaded ---- */

static inline coroutine_fn RUNS_IN_MAIN GByteArray *rig_co_save(Rig *r, const VmStopped *token)
{
    g_autoptr(GError) error = NULL;
    GByteArray *stream = machine_state_co_save(&r->vm, token, &error);
    if (stream == NULL) {
        fail_msg("%s", error->message);
    }
    return stream;
}

static inline coroutine_fn RUNS_IN_MAIN void rig_co_put_aside(Rig *r, const VmStopped *token)
{
    uint64_t size = r->vm.machine.memory->size;
    g_clear_pointer(&r->stream, g_byte_array_unref);
    r->stream = rig_co_save(r, token);
    r->ram = r->ram != NULL ? r->ram : g_malloc(size);
    memcpy(r->ram, r->vm.machine.memory->host, size);
    r->kept_accesses = r->accesses;
    r->kept_clock_ns = vm_clock_now_ns();
}

static inline coroutine_fn RUNS_IN_MAIN void rig_co_load(Rig *r, const VmStopped *token)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineStateLoad) l = machine_state_stage(&r->vm, r->stream, &error);
    if (l == NULL) {
        fail_msg("%s", error->message);
    }
    memcpy(r->vm.machine.memory->host, r->ram, r->vm.machine.memory->size);
    r->accesses = r->kept_accesses;
    if (!machine_state_co_apply(&r->vm, l, token, &error)) {
        fail_msg("%s", error->message);
    }
}

/* What goes on while the machine is stopped, and what KVM computes. */
static inline void blank_time(MachineParts *parts)
{
    for (unsigned i = 0; i < parts->count; i++) {
        ArchVcpuState *s = parts->vcpus[i];
        memset(s->lapic.regs + 0x390, 0, 4); /* the timer's current count */
        memset(s->lapic.regs + 0xa0, 0, 4);  /* the priority, which KVM computes late */
        for (uint32_t m = 0; m < s->msrs_used; m++) {
            if (s->msrs[m].index == X86_MSR_IA32_TSC || s->msrs[m].index == 0x40000010) {
                s->msrs[m].data = 0;
            }
        }
    }
}

static inline RUNS_IN_MAIN MachineParts *parts_of(Rig *r, const GByteArray *stream)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, &error);
    MachineParts *parts = machine_parts_load(&r->vm.machine, s, &error);
    if (parts == NULL) {
        fail_msg("%s", error->message);
    }
    blank_time(parts);
    return parts;
}

/* Sections of devices are equal, except where the clock of the host is in them. */
static inline void expect_same_devices(const GByteArray *now, const GByteArray *expected)
{
    g_autoptr(StateStream) a = state_stream_decode(now->data, now->len, NULL);
    g_autoptr(StateStream) b = state_stream_decode(expected->data, expected->len, NULL);
    assert_int_equal(a->sections->len, b->sections->len);
    unsigned compared = 0;
    for (unsigned i = 0; i < a->sections->len; i++) {
        const StateSection *x = a->sections->pdata[i], *y = b->sections->pdata[i];
        const char *name = state_section_name(x);
        assert_string_equal(x->instance, y->instance);
        assert_string_equal(name, state_section_name(y));
        if (strcmp(name, "x86-vcpu") == 0 || strcmp(name, "vm") == 0 ||
            strcmp(name, "mc146818rtc") == 0) {
            continue;
        }
        if (x->size != y->size || memcmp(x->data, y->data, x->size) != 0) {
            fail_msg("%s of %s differs", name, x->instance);
        }
        compared++;
    }
    assert_true(compared > 5);
}

static inline coroutine_fn RUNS_IN_MAIN void rig_co_expect_state(Rig *r, const GByteArray *expected,
                                                                 const VmStopped *token)
{
    g_autoptr(GByteArray) stream = rig_co_save(r, token);
    g_autoptr(MachineParts) a = parts_of(r, stream), b = parts_of(r, expected);
    for (unsigned i = 0; i < a->count; i++) {
        assert_memory_equal(&a->vcpus[i]->regs, &b->vcpus[i]->regs, sizeof(a->vcpus[i]->regs));
        assert_memory_equal(&a->vcpus[i]->lapic, &b->vcpus[i]->lapic, sizeof(a->vcpus[i]->lapic));
        assert_memory_equal(a->vcpus[i], b->vcpus[i], sizeof(*a->vcpus[i]));
    }
    assert_memory_equal(a->chips, b->chips, sizeof(*a->chips));
    expect_same_devices(stream, expected);
}

static inline coroutine_fn RUNS_IN_MAIN bool rig_co_apply(Rig *r, const GByteArray *stream,
                                                          const VmStopped *token, GError **error)
{
    g_autoptr(MachineStateLoad) l = machine_state_stage(&r->vm, stream, error);
    return l != NULL && machine_state_co_apply(&r->vm, l, token, error);
}

static inline void stopped_compare_and_put_aside(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    rig_compare(r);
    rig_co_put_aside(r, token);
}

/* ---- the rig ---- */

static inline void rig_main(void *opaque)
{
    enter_main();
    enter_coroutine();
    Rig *r = opaque;
    if (!r->vm.built) {
        g_autoptr(GError) error = NULL;
        vm_operation_begin(&r->vm.run);
        r->vm.run.run_requested = !r->starts_stopped;
        if (!startup_co_build(&r->vm, &error)) {
            fail_msg("%s", error->message);
        }
        rig_map(r);
        co_vm_resume(&r->vm.run);
        vm_operation_end(&r->vm.run);
    }
    r->body(r);
    r->done = true;
}

static inline void rig_run(RigBody *body)
{
    if (rig.ctx == NULL) {
        skip();
    }
    rig.body = body;
    rig.done = false;
    co_start(rig.ctx, rig_main, &rig);
    while (!rig.done) {
        aio_context_step(rig.ctx, true);
    }
}

#define RIG_TEST(name, body)                                                                       \
    static void name(void **state)                                                                 \
    {                                                                                              \
        rig_run(body);                                                                             \
    }
static inline int rig_setup(void **state)
{
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        return 0;
    }
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    g_autoptr(GByteArray) image = image_new_elf32(TEST_ELF_GPA);
    size_t size = (size_t)(guest_end - guest_begin);
    assert_true(size <= TEST_ELF_DATA);
    image_poke(image, TEST_ELF_DATA_OFFSET, guest_begin, size);
    rig.kernel = image_write_array(image);
    const char *argv[] = {"skiff",     "-m",
                          "16",        "-smp",
                          "2",         "-nodefaults",
                          "-device",   "virtio-rng-pci,id=early",
                          "-blockdev", "null-co,node-name=first,read-only=on",
                          "-blockdev", "null-co,node-name=second,read-only=on",
                          "-device",   "virtio-scsi-pci",
                          "-device",   "scsi-cd,drive=first,id=cd",
                          "-kernel",   rig.kernel,
                          NULL};
    g_autoptr(GError) error = NULL;
    vm_config_init(&rig.config);
    if (cmdline_parse(&rig.config, G_N_ELEMENTS(argv) - 1, (char **)(uintptr_t)argv, &error) !=
        CMDLINE_RUN) {
        fail_msg("%s", error->message);
    }
    rig.model = (GuestModel)GUEST_MODEL_START;
    rig.ctx = aio_context_new("main", &error);
    startup_set_lists();
    startup_init(&rig.vm, &rig.config, rig.ctx);
    return 0;
}

static inline int rig_teardown(void **state)
{
    if (rig.kernel != NULL) {
        image_unlink(rig.kernel);
    }
    return 0;
}

#endif
