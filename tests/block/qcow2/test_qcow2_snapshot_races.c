/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 900 */
/*
 * Requests that meet the steps of an operation on a snapshot, in every order. One request begins
 * between two steps and is held at its Nth operation on the file, for each pair of steps and each N,
 * while the remaining steps run as far as they can; or the steps are held there while the request
 * runs. Then a second request writes to the same L2 table. When all have ended, the first one's
 * clusters are written again. The disk has all that was written, the snapshots have theirs, and a
 * check finds neither errors nor leaks.
 */
#include "block/qcow2/qcow2_check.h"
#include "block/qcow2/qcow2_int.h"
#include "tests/block/qcow2/qcow2_faulty.h"
#include "tests/support/rounds.h"

#define RACE_FILE ((uint64_t)1 << 20)
#define RACE_DISK ((size_t)96 << 10) /* three L2 tables */
#define RACE_TABLE 32768u            /* bytes of the disk that one maps */
#define RACE_FREE 30720u             /* from here on its clusters are unallocated */
#define RACE_CLUSTER 512u
#define RACE_SPREAD 16u /* clusters */
#define RACE_TURNS 60u

/* An operation, and the image that it is for. */
typedef struct RaceKind {
    const char *name;
    BlockSnapshotKind kind;
    const char *snapshot; /* that is created or deleted */
    const char *options;
    const char *then;    /* commands after the first writes */
    int ret;             /* of the operation */
    const char *kept[3]; /* snapshots that exist in the end */
} RaceKind;

#define RACE_WRITE "qemu-io -f qcow2 -c 'write -q -P "
#define RACE_SNAP "qemu-img snapshot -c "

static const RaceKind race_kinds[] = {
    {"create",
     BLOCK_SNAPSHOT_CREATE,
     "new",
     "refcount_bits=64",
     RACE_SNAP "one t.qcow2 && " RACE_WRITE "2 0 20k' -c 'write -q -P 2 40k 10k' t.qcow2",
     0,
     {"one", "new", NULL}},
    {"delete",
     BLOCK_SNAPSHOT_DELETE,
     "one",
     "refcount_bits=64",
     RACE_SNAP "one t.qcow2 && " RACE_WRITE
               "2 0 20k' -c 'write -q -P 2 40k 10k' t.qcow2 && " RACE_SNAP
               "two t.qcow2 && " RACE_WRITE "3 10k 5k' t.qcow2",
     0,
     {"two", NULL}},
    {"create, which fails in the third table",
     BLOCK_SNAPSHOT_CREATE,
     "new",
     "refcount_bits=2",
     RACE_SNAP "one t.qcow2 && " RACE_SNAP "two t.qcow2 && " RACE_WRITE
               "2 0 30k' -c 'write -q -P 2 32k 30k' t.qcow2",
     -EINVAL,
     {"one", "two", NULL}},
};

/* The first request. */
typedef struct RaceRequest {
    const char *name;
    TestOp op;
    uint64_t offset, bytes;
    unsigned flags;
} RaceRequest;

static const RaceRequest race_requests[] = {
    {"a write to new clusters", TEST_WRITE, RACE_FREE, 1024, 0},
    {"a write to part of an old cluster", TEST_WRITE, RACE_TABLE + 700, 100, 0},
    {"a write to old clusters", TEST_WRITE, 2 * RACE_TABLE + 5000, 3000, 0},
    {"a discard", TEST_DISCARD, RACE_TABLE + 1024, 4096, 0},
    {"zeroes", TEST_ZERO, 2 * RACE_TABLE, 6000, BLOCK_REQ_MAY_UNMAP},
    {"zeroes that keep the clusters", TEST_ZERO, 1024, 2048, 0},
    {"a flush", TEST_FLUSH, RACE_TABLE, 0, 0},
};

typedef struct RaceRig {
    const RaceKind *kind;
    const RaceRequest *request;
    const char *options; /* of the node */
    bool hold_step;      /* a step is held, not the request */
    bool own_table;      /* the table of the request is allocated after the switch */
    char *dir;
    Qcow2Faulty file;
    BlockBackend *blk;
    uint8_t *before;       /* the disk at first */
    uint8_t *snapshots[3]; /* of kind->kept */
    uint8_t *disk;         /* model */
    /* the operation */
    BlockSnapshotInfo info;
    BlockSnapshotOp op;
    int ret;
    bool ended;
    unsigned steps; /* to be run */
    TestEvent done;
} RaceRig;

/* ---- the image ---- */

static uint8_t *race_read_by_qemu(const RaceRig *rig, const char *snapshot)
{
    size_t size;
    qcow2_shell(rig->dir, "qemu-img convert -f qcow2 %s%s -O raw t.qcow2 t.raw",
                snapshot != NULL ? "-l snapshot.name=" : "", snapshot != NULL ? snapshot : "");
    uint8_t *bytes = qcow2_file_bytes(rig->dir, "t.raw", &size);
    assert_int_equal(size, RACE_DISK);
    return bytes;
}

/* The first writes. With own_table, the clusters of a table are RACE_SPREAD apart in the file, so that
 * their refcounts are in more slices than the cache has. What is between them is free. */
static void race_fill(const RaceRig *rig)
{
    g_autoptr(GString) c = g_string_new(NULL);
    unsigned stride = rig->own_table ? 1 : RACE_FREE / RACE_CLUSTER;
    for (unsigned i = 0; i < RACE_FREE / RACE_CLUSTER; i += stride) {
        for (unsigned table = 0; table < 3; table++) {
            g_string_append_printf(c, " -c 'write -q -P 1 %u %u'",
                                   table * RACE_TABLE + i * RACE_CLUSTER, stride * RACE_CLUSTER);
        }
        if (rig->own_table) {
            g_string_append_printf(c, " -c 'write -q %u %u'",
                                   (unsigned)RACE_DISK + i * RACE_SPREAD * RACE_CLUSTER,
                                   RACE_SPREAD * RACE_CLUSTER);
        }
    }
    qcow2_shell(rig->dir,
                "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o cluster_size=512,%s t.qcow2 %s && "
                "qemu-io -f qcow2 %s t.qcow2 && qemu-img resize -q --shrink t.qcow2 96k && "
                "qemu-io -f qcow2 -c 'discard -q 93k 1k' -c 'write -q %s -P 5 93k 1k' t.qcow2",
                rig->kind->options, rig->own_table ? "2M" : "96k", c->str,
                rig->kind->ret == 0 ? "-c" : "");
}

static void race_create(RaceRig *rig)
{
    race_fill(rig);
    qcow2_shell(rig->dir, "%s", rig->kind->then);
    faulty_load(&rig->file, rig->dir, "t.qcow2", RACE_FILE);
    rig->before = race_read_by_qemu(rig, NULL);
    for (unsigned i = 0; rig->kind->kept[i] != NULL; i++) {
        bool created = strcmp(rig->kind->kept[i], "new") == 0;
        rig->snapshots[i] = race_read_by_qemu(rig, created ? NULL : rig->kind->kept[i]);
    }
}

static void race_destroy(RaceRig *rig)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rig->snapshots); i++) {
        g_clear_pointer(&rig->snapshots[i], g_free);
    }
    g_clear_pointer(&rig->before, g_free);
    faulty_free(&rig->file);
}

/* ---- the operation, step by step ---- */

static void race_begin_at_home(void *opaque)
{
    RaceRig *rig = opaque;
    BlockNode *n = blk_root(rig->blk);
    const char *what = NULL;
    enter_coroutine();
    enter_iothread(test_home);
    rig->ret = n->drv->snapshots->co_begin(n, &rig->op, &what);
    if (rig->ret == 0) {
        rig->ret = n->drv->snapshots->co_switch(n, &what);
    }
}

static void race_step_at_home(void *opaque)
{
    RaceRig *rig = opaque;
    BlockNode *n = blk_root(rig->blk);
    const char *what = NULL;
    enter_coroutine();
    enter_iothread(test_home);
    for (; rig->ret > 0 && rig->steps > 0; rig->steps--) {
        rig->ret = n->drv->snapshots->co_step(n, &rig->op, &what);
        co_yield_turn();
    }
    atomic_store(&rig->ended, true);
    test_event_set(&rig->done);
}

static coroutine_fn RUNS_IN_MAIN void race_begin(RaceRig *rig)
{
    rig->info =
        (BlockSnapshotInfo){.name = (char *)(uintptr_t)rig->kind->snapshot, .icount = UINT64_MAX};
    rig->op =
        (BlockSnapshotOp){.kind = rig->kind->kind, .info = &rig->info, .name = rig->kind->snapshot};
    test_in_home(race_begin_at_home, rig);
    assert_int_equal(rig->ret, 1);
}

static coroutine_fn RUNS_IN_MAIN void race_start_steps(RaceRig *rig, unsigned steps)
{
    rig->steps = steps;
    rig->ended = false;
    rig->done = (TestEvent){0};
    co_start(test_home, race_step_at_home, rig);
}

static coroutine_fn RUNS_IN_MAIN void race_settle(const bool *until)
{
    for (unsigned i = 0; i < RACE_TURNS && (until == NULL || !atomic_load(until)); i++) {
        test_settle();
    }
}

/* ---- requests ---- */

/* An unallocated part of the request's L2 table. */
static uint64_t race_free(const RaceRig *rig, unsigned index)
{
    uint64_t table = rig->request->offset / RACE_TABLE * RACE_TABLE;
    return table + RACE_FREE + index * RACE_CLUSTER;
}

static coroutine_fn RUNS_IN_MAIN void race_start(RaceRig *rig, TestRequest *r, RaceRequest what,
                                                 uint8_t pattern)
{
    *r = (TestRequest){.blk = rig->blk,
                       .op = what.op,
                       .offset = what.offset,
                       .bytes = what.bytes,
                       .flags = what.flags,
                       .buf = g_malloc0(what.bytes + 1)};
    memset(r->buf, what.op == TEST_WRITE ? pattern : 0, what.bytes);
    memcpy(rig->disk + r->offset, r->buf, r->bytes);
    test_start(r);
}

static coroutine_fn RUNS_IN_MAIN void race_finish(TestRequest *r)
{
    assert_int_equal(test_finish(r), 0);
    g_free(r->buf);
}

/* ---- what is left ---- */

typedef struct RaceCheck {
    Qcow2CheckRequest request;
    int ret;
} RaceCheck;

static void race_print(void *opaque, const char *line)
{
    (void)opaque;
    printf("# %s\n", line);
    fflush(stdout);
}

static void race_check_at_home(void *opaque)
{
    RaceCheck *c = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    c->ret = qcow2_co_check(&c->request);
}

static coroutine_fn RUNS_IN_MAIN void race_compare(const char *snapshot, const uint8_t *model)
{
    BlockBackend *blk = test_blk("d", "qcow2,read-only=on,file=f", false);
    if (snapshot != NULL) {
        g_autoptr(GError) error = NULL;
        assert_true(block_node_co_view_snapshot(blk_root(blk), NULL, snapshot, &error));
    }
    qcow2_compare(blk, model, RACE_DISK, RACE_DISK, snapshot != NULL ? snapshot : "the disk");
    blk_co_free(blk);
}

static coroutine_fn RUNS_IN_MAIN void race_check(RaceRig *rig, bool by_qemu)
{
    RaceCheck c = {.request = {.file = rig->file.mem, .who = "t", .report = race_print}};
    const Qcow2CheckResult *found = &c.request.result;
    blk_co_free(rig->blk);
    test_in_home(race_check_at_home, &c);
    assert_int_equal(c.ret, 0);
    assert_int_equal(found->corruptions + found->check_errors + found->leaks, 0);
    race_compare(NULL, rig->disk);
    for (unsigned i = 0; rig->kind->kept[i] != NULL; i++) {
        race_compare(rig->kind->kept[i], rig->snapshots[i]);
    }
    if (by_qemu) {
        faulty_store(&rig->file, rig->dir, "after.qcow2");
        qcow2_shell(rig->dir, "qemu-img check -f qcow2 after.qcow2");
    }
}

/* ---- all orders ---- */

typedef enum RaceEnd { RACE_TOO_MANY_STEPS, RACE_NOT_HELD, RACE_HELD } RaceEnd;

static coroutine_fn RUNS_IN_MAIN void race_write(RaceRig *rig, uint64_t offset, uint64_t bytes,
                                                 uint8_t pattern)
{
    TestRequest r;
    RaceRequest what = {.op = TEST_WRITE, .offset = offset, .bytes = bytes};
    race_start(rig, &r, what, pattern);
    race_finish(&r);
}

/* The request and the steps, one of which is held at its operation number @after on the file, and a
 * second request to the same table. */
static coroutine_fn RUNS_IN_MAIN RaceEnd race_meet(RaceRig *rig, unsigned after)
{
    TestRequest first, second;
    RaceRequest beside = {.op = TEST_WRITE, .offset = race_free(rig, 2), .bytes = RACE_CLUSTER};
    BlockFault hit = {.op = BLOCK_FAULT_ANY, .after = after, .count = 1, .hold = true};
    faulty_set(&rig->file, hit);
    for (unsigned i = 0; i < 2; i++) {
        bool request = (i == 0) != rig->hold_step;
        if (request) {
            race_start(rig, &first, *rig->request, 0xaa);
        } else {
            race_start_steps(rig, UINT_MAX);
        }
        race_settle(request ? &first.done.happened : &rig->ended);
    }
    RaceEnd end = block_fault_hits(rig->file.fault) > 0 ? RACE_HELD : RACE_NOT_HELD;
    race_start(rig, &second, beside, 0xbb);
    race_settle(&second.done.happened);
    faulty_release(&rig->file);
    race_finish(&first);
    race_finish(&second);
    test_event_wait(&rig->done);
    return end;
}

/* The operation and the request meet after @steps steps. */
static coroutine_fn RUNS_IN_MAIN RaceEnd race_run(RaceRig *rig, unsigned steps, unsigned after,
                                                  bool by_qemu)
{
    RaceEnd end = RACE_TOO_MANY_STEPS;
    faulty_add(&rig->file);
    rig->blk = test_blk("d", rig->options, true);
    rig->disk = g_memdup2(rig->before, RACE_DISK);
    race_begin(rig);
    if (rig->own_table) {
        race_write(rig, race_free(rig, 3), RACE_CLUSTER, 0x99);
    }
    race_start_steps(rig, steps);
    test_event_wait(&rig->done);
    if (rig->ret > 0) {
        end = race_meet(rig, after);
    }
    assert_int_equal(rig->ret, rig->kind->ret);
    race_write(rig, rig->request->offset, RACE_CLUSTER, 0xcc); /* in place if nothing else has it */
    race_check(rig, by_qemu);
    faulty_del();
    g_free(rig->disk);
    return end;
}

/* Returns the number of runs. If the steps are held, all begin after the switch: the request meets
 * them at each place anyway. */
static coroutine_fn RUNS_IN_MAIN unsigned race_request(RaceRig *rig)
{
    unsigned runs = 0, every = test_rounds(64, 64, 8);
    unsigned stride = rig->hold_step ? test_rounds(97, 97, 3) : test_rounds(3, 3, 1);
    for (unsigned steps = 0; steps == 0 || !rig->hold_step; steps++) {
        RaceEnd end = RACE_HELD;
        for (unsigned after = steps % stride; end == RACE_HELD; after += stride) {
            end = race_run(rig, steps, after, ++runs % every == 0);
        }
        if (end == RACE_TOO_MANY_STEPS) {
            break;
        }
    }
    return runs;
}

static coroutine_fn RUNS_IN_MAIN void race_all(bool hold_step, bool own_table, const char *options)
{
    char *dir = qcow2_dir_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(race_kinds); i++) {
        RaceRig rig = {.dir = dir,
                       .kind = &race_kinds[i],
                       .hold_step = hold_step,
                       .own_table = own_table,
                       .options = options};
        race_create(&rig);
        for (unsigned j = 0; j < G_N_ELEMENTS(race_requests); j++) {
            rig.request = &race_requests[j];
            unsigned runs = race_request(&rig);
            printf("# %s beside: %s: %u runs\n", rig.kind->name, rig.request->name, runs);
            fflush(stdout);
        }
        race_destroy(&rig);
    }
    qcow2_dir_free(dir);
}

BLOCK_TEST(a_request_held_anywhere_beside_all_steps_loses_nothing_and_breaks_no_snapshot)
{
    race_all(false, false, "qcow2,discard=unmap,file=f");
}

BLOCK_TEST(a_step_held_anywhere_beside_a_request_loses_nothing_and_breaks_no_snapshot)
{
    race_all(true, true,
             "qcow2,discard=unmap,l2-cache-size=1k,l2-cache-entry-size=512,refcount-cache-size=4k,"
             "file=f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_request_held_anywhere_beside_all_steps_loses_nothing_and_breaks_no_snapshot),
        cmocka_unit_test(
            a_step_held_anywhere_beside_a_request_loses_nothing_and_breaks_no_snapshot),
    };
    return block_test_main(tests);
}
