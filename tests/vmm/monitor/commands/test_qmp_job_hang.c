/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every job whose source, target or base hangs, with every command that must answer meanwhile. A command
 * has answered when its result comes without more than 100 ms of the clocks, which the test moves. What
 * does not hold is reported as a cell: job, what hangs, command.
 */
#include "block/driver/fault.h"
#include "tests/support/death.h"
#include "tests/support/shell.h"
#include "tests/vmm/vm/hotplug_rig.h"
#include "util/job/job.h"

#define PATIENCE 2000 /* turns of 1 ms in which storage that works must answer */
#define ANSWER_NS (INT64_C(100) * 1000000)

/* ---- jobs, and what hangs ---- */

typedef struct Hang {
    const char *job, *command, *args;
    const char *what, *node; /* node: the fault node */
    BlockFaultOp op;
    bool
        ends; /* a cancel ends the job while it hangs; not if a stop waits for the guest's disk itself */
    bool stops; /* a stop reaches its end while it hangs: nothing of the guest's disk hangs */
} Hang;

#define MIRROR "{'job-id':'j','device':'top','target':'target','sync':'full'}"
#define COMMIT                                                                                     \
    "{'job-id':'j','device':'top','top-node':'mid','base-node':'base','backing-file':'b'}"
#define ACTIVE "{'job-id':'j','device':'top','base-node':'base'}"
#define STREAM "{'job-id':'j','device':'top'}"
#define CREATE "{'job-id':'j','options':{'driver':'qcow2','file':'spare-file','size':1048576}}"
#define AMEND                                                                                      \
    "{'job-id':'j','node-name':'target','options':{'driver':'qcow2','lazy-refcounts':true}}"

static const Hang hangs[] = {
    {"mirror", "blockdev-mirror", MIRROR, "source", "top-file", BLOCK_FAULT_READ, true, true},
    {"mirror", "blockdev-mirror", MIRROR, "target", "target-file", BLOCK_FAULT_ANY, true, true},
    {"mirror", "blockdev-mirror", MIRROR, "base", "base-file", BLOCK_FAULT_ANY, true, true},
    {"backup", "blockdev-backup", MIRROR, "source", "top-file", BLOCK_FAULT_READ, true, true},
    {"backup", "blockdev-backup", MIRROR, "target", "target-file", BLOCK_FAULT_ANY, true, true},
    {"backup", "blockdev-backup", MIRROR, "base", "base-file", BLOCK_FAULT_ANY, true, true},
    {"active commit", "block-commit", ACTIVE, "source", "top-file", BLOCK_FAULT_READ, true, true},
    {"active commit", "block-commit", ACTIVE, "base", "base-file", BLOCK_FAULT_WRITE, true, true},
    {"commit", "block-commit", COMMIT, "source", "mid-file", BLOCK_FAULT_READ, true, true},
    {"commit", "block-commit", COMMIT, "base", "base-file", BLOCK_FAULT_WRITE, true, true},
    {"stream", "block-stream", STREAM, "target", "top-file", BLOCK_FAULT_WRITE, false, false},
    {"stream", "block-stream", STREAM, "base", "base-file", BLOCK_FAULT_ANY, true, true},
    {"create", "blockdev-create", CREATE, "target", "spare-file", BLOCK_FAULT_ANY, false, true},
    {"amend", "x-blockdev-amend", AMEND, "target", "target-file", BLOCK_FAULT_ANY, false, true},
};

/* ---- commands, in this order ---- */

typedef struct Cell {
    const char *command, *args;
} Cell;

#define QUERIES                                                                                    \
    {"query-block-jobs", "{}"}, {"query-jobs", "{}"}, {"query-block", "{}"},                       \
        {"query-blockstats", "{}"}, {"query-named-block-nodes", "{}"},                             \
    {                                                                                              \
        "query-status", "{}"                                                                       \
    }

static const Cell before_cancel[] = {
    QUERIES,
    {"device_add", "{'driver':'virtio-rng-pci','id':'rng','addr':'6.1'}"},
    {"device_del", "{'id':'rng'}"},
    {"blockdev-add", "{'driver':'null-co','node-name':'else'}"},
    {"blockdev-del", "{'node-name':'else'}"},
    {"stop", "{}"},
    {"query-status", "{}"},
    {"cont", "{}"},
    {"system_reset", "{}"},
    {"job-pause", "{'id':'j'}"},
    {"job-resume", "{'id':'j'}"},
    {"block-job-set-speed", "{'device':'j','speed':0}"},
    {"block-job-cancel", "{'device':'j'}"},
    {"job-cancel", "{'id':'j'}"},
    {"block-job-cancel", "{'device':'j','force':true}"},
    QUERIES,
};
static const Cell after_cancel[] = {
    QUERIES,
    {"stop", "{}"},
    {"query-status", "{}"},
    {"cont", "{}"},
    {"system_reset", "{}"},
    {"device_add", "{'driver':'virtio-rng-pci','id':'rng','addr':'6.1'}"},
    {"device_del", "{'id':'rng'}"},
    {"blockdev-add", "{'driver':'null-co','node-name':'else'}"},
    {"blockdev-del", "{'node-name':'else'}"},
};

/* ---- the chain ---- */

static void set_home_time(void *opaque)
{
    AioContext *home = rig->bench->home;
    enter_iothread(home);
    aio_context_set_virtual_time(home, aio_now_ns(home) + *(const int64_t *)opaque);
}

/* The clocks of main and the iothread stand still but for this. */
static void pass_time(int64_t ns)
{
    aio_context_set_virtual_time(rig->vm.ctx, aio_now_ns(rig->vm.ctx) + ns);
    aio_post(rig->bench->home, set_home_time, &ns);
    rig_settle();
}

/* Runs a command, and what it waits for. */
static RUNS_IN_MAIN void carry_out(const char *name, const char *args)
{
    Command c;
    command_start(&c, name, args);
    while (!c.done) {
        virtio_bench_step(rig->bench);
    }
    if (c.error != NULL) {
        fail_msg("%s %s: %s", name, args, c.error);
    }
    command_clear(&c);
}

static char *dir;

static int make_images(void **state)
{
    dir = g_strdup("build/skiff-job-hang-XXXXXX");
    assert_non_null(g_mkdtemp(dir));
    return shell("cd %s && for i in base mid top target spare; do"
                 " qemu-img create -q -f qcow2 $i.orig 1M; done &&"
                 " qemu-io -f qcow2 -c 'write -q -P 1 0 256k' base.orig &&"
                 " qemu-io -f qcow2 -c 'write -q -P 2 256k 256k' mid.orig &&"
                 " qemu-io -f qcow2 -c 'write -q -P 3 512k 256k' top.orig",
                 dir);
}

static int remove_images(void **state)
{
    int ret = shell("rm -r %s", dir);
    g_free(dir);
    return ret;
}

static RUNS_IN_MAIN void await_job_end(void)
{
    while (job_find("j") != NULL && job_status(job_find("j")) != JOB_STATUS_CONCLUDED) {
        pass_time(ANSWER_NS);
    }
}

static RUNS_IN_MAIN void add_file(const char *name)
{
    g_autofree char *file = g_strdup_printf("{'driver':'fault','node-name':'%s-file','file':{"
                                            "'driver':'file','filename':'%s/%s'}}",
                                            name, dir, name);
    carry_out("blockdev-add", file);
}

static RUNS_IN_MAIN void add_image(const char *name, const char *backing, bool read_only)
{
    g_autofree char *below = g_strdup_printf(",'backing':'%s'", backing != NULL ? backing : "");
    g_autofree char *image =
        g_strdup_printf("{'driver':'qcow2','node-name':'%s','read-only':%s,'file':'%s-file'%s}",
                        name, read_only ? "true" : "false", name, backing != NULL ? below : "");
    add_file(name);
    carry_out("blockdev-add", image);
}

static RUNS_IN_MAIN void open_chain(void)
{
    assert_int_equal(
        shell("cd %s && for i in base mid top target spare; do cp $i.orig $i; done", dir), 0);
    add_image("base", NULL, true);
    add_image("mid", "base", true);
    add_image("top", "mid", false);
    add_image("target", NULL, false);
    add_file("spare");
    carry_out("device_add", "{'driver':'virtio-blk-pci','id':'vd','drive':'top','addr':'5'}");
}

/* ---- faults ---- */

typedef struct Fault {
    BlockNode *node;
    BlockFault fault;
    bool done;
} Fault;

static void fault_at_home(void *opaque)
{
    Fault *f = opaque;
    enter_coroutine();
    enter_iothread(rig->bench->home);
    block_fault_set(f->node, &f->fault);
    if (!f->fault.hold) {
        block_fault_release(f->node, UINT32_MAX);
    }
}

static void fault_run(void *opaque)
{
    Fault *f = opaque;
    enter_main();
    enter_coroutine();
    co_call_in(rig->bench->home, fault_at_home, f);
    f->done = true;
}

static RUNS_IN_MAIN void set_fault(const char *node, BlockFault fault)
{
    Fault f = {.node = block_node_find(node), .fault = fault};
    co_start(rig->vm.ctx, fault_run, &f);
    while (!f.done) {
        virtio_bench_step(rig->bench);
    }
}

/* ---- cells ---- */

static unsigned failed_cells, cells;

static void cell_failed(const Hang *h, const char *command, const char *why)
{
    failed_cells++;
    print_error("cell: %s, %s hangs, %s: %s\n", h->job, h->what, command, why);
}

/* Whether the condition comes true without more time on the clocks. Workers have time. */
static RUNS_IN_MAIN bool comes(bool (*condition)(const Command *c), const Command *c)
{
    for (unsigned turn = 0; turn < PATIENCE && !condition(c); turn++) {
        rig_settle();
        g_usleep(1000);
    }
    return condition(c);
}

static bool has_answered(const Command *c)
{
    return c->done;
}

static bool shown_as_stopped(const Command *c)
{
    return rig->vm.run.phase == RUN_STOPPED;
}

/* A command that has not answered is left behind: its struct lives as long as the process. */
static RUNS_IN_MAIN void run_cell(const Hang *h, const Cell *cell)
{
    Command *c = g_new0(Command, 1);
    cells++;
    command_start(c, cell->command, cell->args);
    if (!c->done) {
        pass_time(ANSWER_NS);
    }
    if (!comes(has_answered, c)) {
        cell_failed(h, cell->command, "no answer in 100 ms");
        return;
    }
    if (strcmp(cell->command, "stop") == 0 && h->stops && !comes(shown_as_stopped, c)) {
        cell_failed(h, cell->command, "the VM has not stopped");
    }
    command_clear(c);
    g_free(c);
}

static RUNS_IN_MAIN void run_cells(const Hang *h, const Cell *list, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        run_cell(h, &list[i]);
    }
}

static RUNS_IN_MAIN void start_and_hang(const Hang *h)
{
    open_chain();
    set_fault(h->node, (BlockFault){.op = h->op, .hold = true});
    carry_out(h->command, h->args);
    while (block_fault_held(block_node_find(h->node)) == 0) {
        virtio_bench_step(rig->bench);
    }
}

/* What the job used is free some time after the storage has answered. */
static RUNS_IN_MAIN void close_chain(void)
{
    static const char *const nodes[] = {"top",       "mid",         "base",
                                        "target",    "top-file",    "mid-file",
                                        "base-file", "target-file", "spare-file"};
    carry_out("device_del", "{'id':'vd'}");
    out32(EJECT, 1u << 5);
    rig_settle();
    for (unsigned i = 0; i < G_N_ELEMENTS(nodes); i++) {
        g_autofree char *args = g_strdup_printf("{'node-name':'%s'}", nodes[i]);
        for (bool gone = false; !gone;) {
            Command c;
            command_start(&c, "blockdev-del", args);
            while (!c.done) {
                pass_time(ANSWER_NS);
            }
            gone = c.error == NULL;
            command_clear(&c);
            pass_time(ANSWER_NS);
        }
    }
}

static RUNS_IN_MAIN void storage_answers(const Hang *h)
{
    set_fault(h->node, (BlockFault){0});
    await_job_end();
    if (job_find("j") != NULL) {
        carry_out("job-dismiss", "{'id':'j'}");
    }
    close_chain();
}

static RUNS_IN_MAIN void run_hang(const Hang *h)
{
    start_and_hang(h);
    run_cells(h, before_cancel, G_N_ELEMENTS(before_cancel));
    if (h->ends) {
        await_job_end();
        if (block_fault_held(block_node_find(h->node)) == 0) {
            cell_failed(h, "cancel", "the storage did not hang");
        }
        run_cells(h, after_cancel, G_N_ELEMENTS(after_cancel));
    }
    storage_answers(h);
}

/* Only what was requested last counts: the VM runs. */
static void every_command_answers_while_a_job_hangs(void **state)
{
    enter_main();
    pass_time(0);
    vm_jobs_init(&rig->vm);
    failed_cells = cells = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(hangs); i++) {
        run_hang(&hangs[i]);
    }
    print_message("%u cells\n", cells);
    assert_int_equal(failed_cells, 0);
}

/* quit answers, and skiff leaves within its bound. */
static void quit_while_hanging(void *opaque)
{
    static const Cell quit = {"quit", "{}"};
    const Hang *h = opaque;
    void *state;
    assert_int_equal(set_up_fast(&state), 0);
    enter_main();
    pass_time(0);
    vm_jobs_init(&rig->vm);
    start_and_hang(h);
    run_cell(h, &quit);
    for (int64_t ns = 0; ns <= 6 * SECOND_NS; ns += ANSWER_NS) {
        pass_time(ANSWER_NS);
    }
    aio_context_run(rig->vm.ctx); /* ends only by the quit */
    assert_int_equal(failed_cells, 0);
}

/* A quit that completes images of a VM that has not stopped holds all requests for good: nothing but the end of the
 * process comes after it. So each quit has a process of its own, which ends as skiff does. */
static void quit_works_while_a_job_hangs(void **state)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(hangs); i++) {
        assert_exits(quit_while_hanging, (void *)(uintptr_t)&hangs[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quit_works_while_a_job_hangs), /* first: no other threads yet */
        cmocka_unit_test_setup_teardown(every_command_answers_while_a_job_hangs, set_up_fast,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("vmm/monitor/qmp_job_hang", tests, make_images,
                                       remove_images);
}
