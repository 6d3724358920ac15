/* SPDX-License-Identifier: Apache-2.0 */
/* A machine without KVM that is saved: memory that a guest writes, the run state, two files that fail or hang, and
 * what a file holds. */
#ifndef SKIFF_TESTS_VMM_SNAPSHOT_SAVEVM_RIG_H
#define SKIFF_TESTS_VMM_SNAPSHOT_SAVEVM_RIG_H

#include <stdio.h>
#include "migration/state_file.h"
#include "tests/migration/ram/ram_test.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/savevm.h"

#define NODE "fault,node-name=%s,file.driver=mem,file.size=80M"
#define FILE_A "json:{\"driver\":\"raw\",\"file\":\"a\"}"
#define FILE_B "json:{\"driver\":\"raw\",\"file\":\"b\"}"
#define STREAM "the state of vCPUs and devices"
#define LAST_PAGE ((RAM_TEST_LOW + RAM_TEST_HIGH) / GUEST_RAM_PAGE - 1)

typedef struct Rig {
    Vm vm;
    RamTest ram;
    RamTest at_stop; /* what memory was when the VM was stopped */
    BlockNode *a, *b;
    unsigned stops, starts, saves;
    unsigned seed;
    bool log_fails, state_fails;
    bool stop_comes;       /* a user's stop, while the VM is stopped for the save */
    struct End *end_comes; /* a user's savevm-end, at that time */
    RamTest at_point;      /* what memory was when the newest state was staged */
    unsigned loads;
    bool load_fails, load_stop_comes, load_reset_comes;
    bool of_file;          /* the state that is loaded is one of a file */
    unsigned dirty_passes; /* so often a pass finds all pages written again */
    void (*parked)(void);  /* a coroutine: what the guest has done last; NULL: nothing */
} Rig;

static Rig *rig;

/* ---- the machine ---- */

static inline void rig_write(uint64_t page)
{
    uint64_t gpa;
    uint8_t *to = rig->ram.host + page * GUEST_RAM_PAGE;
    test_fill(to, GUEST_RAM_PAGE, ++rig->seed);
    assert_true(guest_ram_find_host(&rig->vm.machine.ram, to, &gpa));
    guest_ram_mark(&rig->vm.machine.ram, gpa, GUEST_RAM_PAGE);
}

/* The guest writes until the end, and the last page only then. */
static inline void rig_park(void *opaque)
{
    enter_coroutine();
    rig_write(3);
    rig_write(LAST_PAGE);
    if (rig->parked != NULL) {
        rig->parked();
    }
    memcpy(rig->at_stop.host, rig->ram.host, RAM_TEST_LOW + RAM_TEST_HIGH);
    rig->stops++;
}

static inline void rig_unpark(void *opaque)
{
    rig->starts++;
    rig_write(5);
}

static inline void rig_step(void *opaque)
{
}

static inline bool rig_start_backends(void *opaque, GError **error)
{
    return true;
}

static inline bool rig_reset(void *opaque, GError **error)
{
    return true;
}

static const RunStateOps rig_ops = {
    .co_park = rig_park,
    .unpark = rig_unpark,
    .co_stop_backends = rig_step,
    .co_start_backends = rig_start_backends,
    .co_drain = rig_step,
    .co_reset = rig_reset,
};

typedef struct End {
    bool ok, ended;
    const char *then; /* the file of a save that the same user starts at once */
} End;

static inline void end_run(void *opaque)
{
    End *e = opaque;
    enter_coroutine();
    enter_main();
    e->ok = savevm_co_end(&rig->vm, NULL) &&
            (e->then == NULL || savevm_co_start(&rig->vm, e->then, NULL));
    e->ended = true;
}

/* Stands for the real one: of the machine, only memory is here. */
GByteArray *machine_state_co_save(Vm *vm, const VmStopped *token, GError **error)
{
    assert_int_equal(vm->run.phase, RUN_STOPPED);
    assert_int_equal(token->count, 1);
    rig->saves++;
    if (rig->stop_comes) {
        run_state_request_stop(&vm->run, STOP_PAUSED);
    }
    if (rig->end_comes != NULL) { /* while the vCPUs answer */
        co_start(test_main, end_run, rig->end_comes);
        co_yield_turn();
    }
    if (rig->state_fails) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "vnet0: its state is elsewhere");
        return NULL;
    }
    StateWriter *w = state_writer_new();
    assert_true(state_writer_text(w, "text", STREAM, NULL));
    GByteArray *stream = state_writer_end(w, NULL);
    state_writer_free(w);
    return stream;
}

/* The state of vCPUs and devices: whether the VM ran. */
struct MachineStateLoad {
    bool ran;
};

MachineStateLoad *machine_state_stage(Vm *vm, const GByteArray *stream, GError **error)
{
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, error);
    if (s == NULL) {
        return NULL;
    }
    assert_string_equal(state_stream_text(s, "text"), STREAM);
    MachineStateLoad *l = g_new0(MachineStateLoad, 1);
    l->ran = vm->run.run_requested;
    memcpy(rig->at_point.host, rig->ram.host, RAM_TEST_LOW + RAM_TEST_HIGH);
    return l;
}

bool machine_state_ran(const MachineStateLoad *l)
{
    return l->ran;
}

/* Memory is that of the point before vCPUs and devices are loaded. */
bool machine_state_co_apply(Vm *vm, MachineStateLoad *l, const VmStopped *token, GError **error)
{
    enter_main();
    assert_int_equal(vm->run.phase, RUN_STOPPED);
    assert_int_equal(token->count, 1);
    assert_true(rig->of_file || ram_test_equal(&rig->ram, &rig->at_point));
    rig->loads++;
    if (rig->load_stop_comes) {
        run_state_request_stop(&vm->run, STOP_PAUSED);
    }
    if (rig->load_reset_comes) {
        run_state_request_reset(&vm->run);
    }
    if (rig->load_fails) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "vnet0: no");
        return false;
    }
    if (!rig->of_file) {
        rig_write(7); /* as KVM and devices do while they are loaded */
    }
    run_state_set_loaded(&vm->run, token, STOP_PAUSED);
    return true;
}

void machine_state_load_free(MachineStateLoad *l)
{
    g_free(l);
}

static inline bool rig_log_start(void *opaque, GError **error)
{
    if (rig->log_fails) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "vsock0 cannot log");
    }
    return !rig->log_fails;
}

static inline void rig_log_stop(void *opaque)
{
}

/* The guest's writes since the last pass. */
static inline bool rig_log_sync(void *opaque, const GuestRam *ram, GError **error)
{
    if (rig->dirty_passes > 0 && rig->vm.run.phase == RUN_RUNNING) {
        rig->dirty_passes--;
        for (uint64_t page = 0; page <= LAST_PAGE; page += 1 + page % 2) {
            rig_write(page);
        }
    }
    return true;
}

static const GuestRamLogOps rig_log = {rig_log_start, rig_log_stop, rig_log_sync};

static inline coroutine_fn RUNS_IN_MAIN BlockNode *rig_node(const char *name)
{
    g_autofree char *text = g_strdup_printf(NODE, name);
    return test_node_add(text);
}

static inline coroutine_fn RUNS_IN_MAIN void rig_init(void)
{
    rig = g_new0(Rig, 1);
    ram_test_init(&rig->ram);
    ram_test_init(&rig->at_stop);
    ram_test_init(&rig->at_point);
    test_fill(rig->ram.host, RAM_TEST_LOW / 2, 1); /* one run of pages: few requests */
    Vm *vm = &rig->vm;
    vm->ctx = test_main;
    vm->machine.ram = rig->ram.ram;
    vm->machine.ram.log_ops = &rig_log;
    run_state_init(&vm->run, test_main, &rig_ops, rig);
    vm_operation_begin(&vm->run);
    vm->run.run_requested = true;
    co_vm_start(&vm->run);
    vm_operation_end(&vm->run);
    rig->a = rig_node("a");
    rig->b = rig_node("b");
}

static inline coroutine_fn RUNS_IN_MAIN void rig_clear(void)
{
    vm_operation_begin(&rig->vm.run);
    vm_stopped_put(&rig->vm.run, co_vm_stop(&rig->vm.run, STOP_PAUSED));
    vm_operation_end(&rig->vm.run);
    /* The file of a save that was cancelled is closed when its last step has ended. */
    while (!block_co_delete("a", NULL)) {
        co_yield_turn();
    }
    while (!block_co_delete("b", NULL)) {
        co_yield_turn();
    }
    guest_ram_log_free(&rig->vm.machine.ram);
    ram_test_clear(&rig->ram);
    ram_test_clear(&rig->at_stop);
    ram_test_clear(&rig->at_point);
    g_clear_pointer(&rig, g_free);
}

static inline coroutine_fn RUNS_IN_MAIN void rig_start(const char *path)
{
    GError *error = NULL;
    if (!savevm_co_start(&rig->vm, path, &error)) {
        fail_msg("savevm-start: %s", error->message);
    }
}

static inline coroutine_fn RUNS_IN_MAIN void rig_wait(SavevmState wanted)
{
    while (savevm_info().state == SAVEVM_ACTIVE) {
        co_yield_turn();
    }
    if (savevm_info().state != wanted) {
        fail_msg("the save is in state %d: %s", savevm_info().state, savevm_info().error);
    }
}

static inline bool rig_runs(void)
{
    return rig->vm.run.phase == RUN_RUNNING;
}

/* ---- what the file holds ---- */

typedef struct Reading {
    BlockBackend *blk;
    GByteArray *stream;
    RamTest ram;
    GError *error;
} Reading;

static inline void reading_at_home(void *opaque)
{
    Reading *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    r->stream = state_file_co_read_stream(r->blk, &r->error);
    if (r->stream != NULL) {
        assert_true(ram_image_co_load(r->blk, STATE_FILE_RAM_OFFSET, &r->ram.ram, &r->error));
    }
}

/* Whether it holds the state of the last stop; false: it holds none. */
static inline coroutine_fn RUNS_IN_MAIN bool file_is_valid(BlockNode *n)
{
    Reading r = {0};
    ram_test_init(&r.ram);
    r.blk = blk_co_new("reader", n, false, NULL);
    assert_non_null(r.blk);
    co_call_in(test_home, reading_at_home, &r);
    bool valid = r.stream != NULL;
    if (valid) {
        g_autoptr(StateStream) s = state_stream_decode(r.stream->data, r.stream->len, NULL);
        assert_non_null(s);
        assert_string_equal(state_stream_text(s, "text"), STREAM);
        assert_true(ram_test_equal(&r.ram, &rig->at_stop));
        g_byte_array_unref(r.stream);
    } else {
        g_clear_error(&r.error);
    }
    blk_co_free(r.blk);
    ram_test_clear(&r.ram);
    return valid;
}

/* ---- faults ---- */

typedef struct FaultCall {
    BlockNode *node;
    BlockFault fault;
} FaultCall;

static inline void fault_set_at_home(void *opaque)
{
    FaultCall *c = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(c->node, &c->fault);
}

static inline coroutine_fn RUNS_IN_MAIN void fault_set(BlockNode *n, BlockFault fault)
{
    FaultCall c = {n, fault};
    co_call_in(test_home, fault_set_at_home, &c);
}

static inline void fault_release_at_home(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(opaque, &(BlockFault){0});
    block_fault_release(opaque, 1000);
}

static inline coroutine_fn RUNS_IN_MAIN void fault_release(BlockNode *n)
{
    co_call_in(test_home, fault_release_at_home, n);
}

#endif
