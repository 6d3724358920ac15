/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU programs flash while main has a control operation queued (F1), on /dev/kvm. One vCPU programs
 * and counts, another one counts. The write is held in the flash's iothread, main is held before its
 * dispatch; they are released in either order.
 *
 * Oracle: when the operation acts, both vCPUs are parked, no program is under way and the array is on
 * the disk; there is one stop and one resume; afterwards both vCPUs make progress.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "block/driver/mem.h"
#include "hw/firmware/pflash_int.h"
#include "hw/core/run_state.h"
#include "tests/support/host_kvm.h"
#include "util/loop/iothread.h"
#include "util/loop/sched_point.h"
#include "vmm/vcpu/vcpu.h"

extern const DeviceType pflash_type;

#define RAM_SIZE (4u << 20)
#define FLASH_GPA 0xfff00000u
#define PROGRAMS_AT 0x2000u /* programs that have retired */
#define COUNTER_AT 0x2004u  /* the other vCPU's */

/* Starts the other vCPU, then for ever: eax = [PROGRAMS_AT] + 1; flash: 40, eax; [PROGRAMS_AT] = eax. */
static const uint8_t code_program[] = {
    0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x01, /* mov [fee00310], 01000000 */
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00, /* mov [fee00300], 4500: INIT */
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x08, 0x46, 0x00, 0x00, /* mov [fee00300], 4608: SIPI */
    0xa1, 0x00, 0x20, 0x00, 0x00,                               /* loop: mov eax, [2000] */
    0x40,                                                       /* inc eax */
    0xc6, 0x05, 0x10, 0x00, 0xf0, 0xff, 0x40,                   /* mov byte [fff00010], 40 */
    0xa3, 0x10, 0x00, 0xf0, 0xff,                               /* mov [fff00010], eax */
    0xa3, 0x00, 0x20, 0x00, 0x00,                               /* mov [2000], eax */
    0xeb, 0xe7,                                                 /* jmp loop */
};

/* Real mode at 8000: inc dword [2004]; jmp. */
static const uint8_t code_count[] = {0x66, 0xff, 0x06, 0x04, 0x20, 0xeb, 0xf9};

typedef enum Operation { OP_SAVE, OP_LOAD, OP_RESET, OP_STOP, OP_COUNT } Operation;

typedef struct Rig {
    AioContext *ctx;
    IoThread *iothread;
    Kvm kvm;
    GuestRam ram;
    uint8_t *host;
    ArchCpus cpus;
    MachineOps machine_ops;
    Machine machine;
    AddressSpace *mmio, *pio;
    DeviceEnv env;
    BlockNode *node;
    Device *flash;
    VcpuSet *set;
    RunState rs;
    unsigned stops, resumes;
    Operation operation;
    bool operation_done, finished;
    void (*body)(struct Rig *rig);
} Rig;

static Pflash *rig_flash(const Rig *rig)
{
    return (Pflash *)rig->flash;
}

static uint32_t rig_word(const Rig *rig, uint32_t at)
{
    return __atomic_load_n((uint32_t *)(void *)(rig->host + at), __ATOMIC_SEQ_CST);
}

/* ---- the machine ---- */

static void ops_co_park(void *opaque)
{
    enter_main();
    enter_coroutine();
    vcpus_co_park(((Rig *)opaque)->set);
}

static void ops_unpark(void *opaque)
{
    enter_main();
    vcpus_unpark(((Rig *)opaque)->set);
}

static void ops_co_nothing(void *opaque)
{
}

static bool ops_co_start(void *opaque, GError **error)
{
    return true;
}

static void ops_co_drain(void *opaque)
{
    enter_main();
    enter_coroutine();
    BlockBackend *blk = rig_flash(opaque)->blk;
    co_drained_begin(&blk, 1);
    co_drained_end(&blk, 1);
}

static void rig_load_code(Rig *rig)
{
    memset(rig->host, 0, RAM_SIZE);
    memcpy(rig->host + HOST_KVM_CODE, code_program, sizeof(code_program));
    memcpy(rig->host + 0x8000, code_count, sizeof(code_count));
}

static bool ops_co_reset(void *opaque, GError **error)
{
    Rig *rig = opaque;
    enter_main();
    enter_coroutine();
    rig_load_code(rig);
    bql_lock();
    pflash_type.reset(rig->flash);
    bql_unlock();
    return arch_vm_reset(&rig->kvm, error) && vcpus_co_reset(rig->set, &host_kvm_boot, error);
}

static void ops_changed(void *opaque, RunPhase phase, StopReason reason)
{
    Rig *rig = opaque;
    if (phase == RUN_RUNNING) {
        rig->resumes++;
    } else if (phase == RUN_STOPPED) {
        rig->stops++;
    }
}

static const RunStateOps run_ops = {.co_park = ops_co_park,
                                    .unpark = ops_unpark,
                                    .co_stop_backends = ops_co_nothing,
                                    .co_start_backends = ops_co_start,
                                    .co_drain = ops_co_drain,
                                    .co_reset = ops_co_reset,
                                    .changed = ops_changed};

static coroutine_fn RUNS_IN_MAIN void rig_build(Rig *rig)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) disk = opt_dict_parse("driver=mem,node-name=disk,size=64K", NULL, &error);
    g_autoptr(OptDict) props = opt_dict_parse("drive=disk", NULL, &error);
    rig->node = block_co_open(disk, iothread_context(rig->iothread), &error);
    g_assert_no_error(error);
    rig->flash = device_new(&pflash_type, &rig->env, "flash");
    assert_true(device_set_properties(rig->flash, props, &error));
    assert_true(device_realize(rig->flash, &error));
    pflash_map(rig->flash, FLASH_GPA);
    host_kvm_open(&rig->kvm, &rig->cpus, &rig->ram, 2);
    VcpuSetConfig config = {.kvm = &rig->kvm,
                            .cpus = &rig->cpus,
                            .count = 2,
                            .mmio = rig->mmio,
                            .pio = rig->pio,
                            .event = NULL,
                            .opaque = rig};
    rig->set = vcpus_co_new(&config, &error);
    assert_non_null(rig->set);
    assert_true(vcpus_co_reset(rig->set, &host_kvm_boot, &error));
    run_state_init(&rig->rs, rig->ctx, &run_ops, rig);
}

static void rig_main(void *opaque)
{
    Rig *rig = opaque;
    enter_main();
    enter_coroutine();
    rig_build(rig);
    vm_operation_begin(&rig->rs);
    rig->rs.run_requested = true;
    co_vm_start(&rig->rs);
    vm_operation_end(&rig->rs);
    rig->body(rig);
    vm_operation_begin(&rig->rs);
    VmStopped *token = co_vm_stop(&rig->rs, STOP_PAUSED);
    vm_stopped_put(&rig->rs, token);
    vm_operation_end(&rig->rs);
    vcpus_free(rig->set);
    device_unrealize(rig->flash);
    device_free(rig->flash);
    block_co_unref(rig->node);
    rig->finished = true;
}

static void rig_run(void (*body)(Rig *rig))
{
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    Rig rig = {.body = body, .ctx = aio_context_new("main", NULL)};
    rig.iothread = iothread_new("io", 0, NULL);
    rig.host = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    RamBlock block = {.size = RAM_SIZE, .host = rig.host, .fd = -1, .name = "ram"};
    guest_ram_add(&rig.ram, &block);
    rig_load_code(&rig);
    rig.mmio = address_space_new("memory");
    rig.pio = address_space_new("I/O");
    kvm_fill_machine_ops(&rig.machine_ops);
    rig.machine = (Machine){.ops = &rig.machine_ops, .opaque = &rig.kvm};
    rig.env = (DeviceEnv){.machine = &rig.machine,
                          .ram = &rig.ram,
                          .mmio = rig.mmio,
                          .pio = rig.pio,
                          .main_ctx = rig.ctx,
                          .default_iothread = iothread_context(rig.iothread)};
    co_start(rig.ctx, rig_main, &rig);
    while (!rig.finished) {
        aio_context_step(rig.ctx, true);
    }
    host_kvm_close(&rig.kvm, &rig.cpus);
    address_space_free(rig.mmio);
    address_space_free(rig.pio);
    iothread_free(rig.iothread);
    munmap(rig.host, RAM_SIZE);
    aio_context_free(rig.ctx);
    sched_point_reset();
}

/* ---- the operations ---- */

typedef struct Disk {
    const Rig *rig;
    uint8_t bytes[64];
} Disk;

static void read_disk(void *opaque)
{
    Disk *d = opaque;
    enter_iothread(iothread_context(d->rig->iothread));
    memcpy(d->bytes, block_mem_data(d->rig->node), sizeof(d->bytes));
}

/* Nothing moves, and nothing is half done. */
static coroutine_fn RUNS_IN_MAIN void expect_still(Rig *rig)
{
    uint32_t programs = rig_word(rig, PROGRAMS_AT), counter = rig_word(rig, COUNTER_AT);
    assert_int_equal(rig->rs.phase, RUN_STOPPED);
    bql_lock();
    assert_null(rig_flash(rig)->work.owner);
    assert_null(rig_flash(rig)->busy.waiters);
    bql_unlock();
    Disk disk = {.rig = rig};
    co_call_in(iothread_context(rig->iothread), read_disk, &disk);
    assert_memory_equal(disk.bytes, pflash_array(rig->flash), sizeof(disk.bytes));
    for (unsigned i = 0; i < 100; i++) {
        co_yield_turn();
    }
    assert_int_equal(rig_word(rig, PROGRAMS_AT), programs);
    assert_int_equal(rig_word(rig, COUNTER_AT), counter);
}

static coroutine_fn RUNS_IN_MAIN void save_state(Rig *rig, bool load)
{
    g_autoptr(GByteArray) saved = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    size_t used;
    bql_lock();
    pflash_type.pre_save(rig->flash);
    state_save(pflash_type.state, rig->flash, saved);
    if (load) {
        assert_true(
            state_load(pflash_type.state, rig->flash, saved->data, saved->len, &used, &error));
        assert_true(pflash_type.post_load(rig->flash, &error));
    }
    bql_unlock();
}

static void operation_run(void *opaque)
{
    Rig *rig = opaque;
    enter_main();
    enter_coroutine();
    vm_operation_begin(&rig->rs);
    if (rig->operation == OP_RESET) {
        assert_true(co_vm_reset(&rig->rs, NULL));
    } else {
        VmStopped *token = co_vm_stop(&rig->rs, STOP_PAUSED);
        expect_still(rig);
        if (rig->operation != OP_STOP) {
            save_state(rig, rig->operation == OP_LOAD);
        }
        vm_stopped_put(&rig->rs, token);
        co_vm_resume(&rig->rs);
    }
    vm_operation_end(&rig->rs);
    rig->operation_done = true;
}

/* Both vCPUs run: the loop turns meanwhile. */
static coroutine_fn RUNS_IN_MAIN void expect_progress(Rig *rig)
{
    uint32_t programs = rig_word(rig, PROGRAMS_AT), counter = rig_word(rig, COUNTER_AT);
    while (rig_word(rig, PROGRAMS_AT) <= programs || rig_word(rig, COUNTER_AT) == counter) {
        co_yield_turn();
    }
}

static coroutine_fn RUNS_IN_MAIN void hold_a_write(Rig *rig, Operation operation)
{
    rig->operation = operation;
    rig->operation_done = false;
    rig->stops = rig->resumes = 0;
    expect_progress(rig);
    sched_point_hold("pflash.begun");
    sched_point_await("pflash.begun");
}

static coroutine_fn RUNS_IN_MAIN void finish_operation(Rig *rig)
{
    while (!rig->operation_done) {
        co_yield_turn();
    }
    assert_int_equal(rig->stops, 1);
    assert_int_equal(rig->resumes, 1);
    expect_progress(rig);
}

/* The operation begins while the write is held: it waits for it, and main for nothing. */
static void body_main_first(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (Operation op = 0; op < OP_COUNT; op++) {
        hold_a_write(rig, op);
        uint32_t programs = rig_word(rig, PROGRAMS_AT), counter = rig_word(rig, COUNTER_AT);
        while (rig_word(rig, COUNTER_AT) == counter) { /* the other vCPU runs */
            co_yield_turn();
        }
        co_start(rig->ctx, operation_run, rig);
        for (unsigned i = 0; i < 1000; i++) { /* as QMP's commands do */
            co_yield_turn();
        }
        assert_int_equal(rig->rs.phase, RUN_PARKING);
        assert_int_equal(rig_word(rig, PROGRAMS_AT), programs);
        assert_int_equal(rig->stops, 0);
        sched_point_release("pflash.begun");
        finish_operation(rig);
    }
}

static void an_operation_waits_for_a_program_that_is_held(void **state)
{
    rig_run(body_main_first);
}

/* The write ends first, and many after it, while main does not dispatch its operation. */
static void body_write_first(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (Operation op = 0; op < OP_COUNT; op++) {
        hold_a_write(rig, op);
        co_start(rig->ctx, operation_run, rig);
        uint32_t programs = rig_word(rig, PROGRAMS_AT);
        sched_point_release("pflash.begun");
        while (rig_word(rig, PROGRAMS_AT) < programs + 10) { /* main does nothing */
            sched_yield();
        }
        assert_int_equal(rig->rs.phase, RUN_RUNNING);
        finish_operation(rig);
    }
}

static void programs_need_nothing_of_main(void **state)
{
    rig_run(body_write_first);
}

/* Held between the write and its signal, instead of before the write. */
static void body_signal_held(Rig *rig)
{
    enter_main();
    enter_coroutine();
    for (Operation op = 0; op < OP_COUNT; op++) {
        rig->operation = op;
        rig->operation_done = false;
        rig->stops = rig->resumes = 0;
        expect_progress(rig);
        sched_point_hold("pflash.written");
        sched_point_await("pflash.written");
        co_start(rig->ctx, operation_run, rig);
        for (unsigned i = 0; i < 1000; i++) {
            co_yield_turn();
        }
        assert_int_equal(rig->rs.phase, RUN_PARKING);
        sched_point_release("pflash.written");
        finish_operation(rig);
    }
}

static void an_operation_waits_for_the_end_of_a_program_whose_data_is_written(void **state)
{
    rig_run(body_signal_held);
}

int main(void)
{
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        print_message("skip: /dev/kvm cannot be opened\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_waits_for_a_program_that_is_held),
        cmocka_unit_test(programs_need_nothing_of_main),
        cmocka_unit_test(an_operation_waits_for_the_end_of_a_program_whose_data_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
