/* SPDX-License-Identifier: Apache-2.0 */
/* timeout: 600 */
/*
 * Snapshots with the state of a machine: in random schedules of writes to the state and to the disk, creations
 * that end or are cancelled, deletions and applications, each snapshot keeps its disk and its
 * state. qemu-img finds neither errors nor leaks, lists their sizes and frees all that they have.
 */
#include "tests/block/qcow2/qcow2_state_test.h"
#include "tests/support/rounds.h"

#define SC_DISK ((size_t)1 << 20)
#define SC_SNAPSHOTS 4u
#define SC_STEPS 14u

typedef struct ScShape {
    const char *options, *caches;
    uint64_t state; /* bytes */
} ScShape;

static const ScShape sc_shapes[] = {
    {"cluster_size=512,refcount_bits=8", ",l2-cache-size=2k,refcount-cache-size=4k", 700 << 10},
    {"cluster_size=4096", "", 5 << 20},
    {"cluster_size=16k,extended_l2=on", "", 3 << 20},
    {"cluster_size=64k", "", (3 << 20) + 512},
    {"cluster_size=4096,lazy_refcounts=on", "", 2 << 20},
    {"compat=0.10,cluster_size=4096", "", 2 << 20},
    {"cluster_size=2M", "", 7 << 20},
};

typedef struct ScSnapshot {
    char name[8];
    uint8_t *disk, *state; /* models; NULL: it does not exist */
} ScSnapshot;

typedef struct ScRig {
    const ScShape *shape;
    GRand *rand;
    char *dir;
    BlockBackend *blk;
    uint8_t *disk;
    ScSnapshot snapshots[SC_SNAPSHOTS];
    unsigned pattern, created, cancelled;
} ScRig;

static coroutine_fn RUNS_IN_MAIN void sc_open(ScRig *rig)
{
    g_autofree char *text =
        g_strdup_printf("qcow2,discard=unmap,file.driver=file,file.filename=%s/t.qcow2%s", rig->dir,
                        rig->shape->caches);
    rig->blk = test_blk("d", text, true);
}

static coroutine_fn RUNS_IN_MAIN void sc_close(ScRig *rig)
{
    blk_co_free(rig->blk);
    qcow2_shell(rig->dir, "qemu-img check -q t.qcow2");
}

static unsigned sc_random(ScRig *rig, unsigned end)
{
    return (unsigned)g_rand_int_range(rig->rand, 0, (int)end);
}

/* ---- writes ---- */

static coroutine_fn RUNS_IN_MAIN void sc_write_disk(ScRig *rig)
{
    uint64_t at = (uint64_t)sc_random(rig, SC_DISK / 512) * 512;
    uint64_t bytes = (sc_random(rig, 100) + 1) * (uint64_t)512;
    bytes = MIN(bytes, SC_DISK - at);
    test_fill(rig->disk + at, bytes, ++rig->pattern);
    assert_int_equal(test_io(rig->blk, TEST_WRITE, at, bytes, rig->disk + at, 0), 0);
}

typedef struct ScFlight {
    TestRequest request;
    uint8_t *data;
} ScFlight;

/* Begins a write of pages to a part of the state; parts are not aligned to clusters. */
static void sc_start(ScRig *rig, StateSave *s, ScFlight *f, uint64_t from, uint64_t to)
{
    uint64_t pages = (to - from) / STATE_PAGE, first = sc_random(rig, (unsigned)pages);
    uint64_t at = from + first * STATE_PAGE;
    uint64_t bytes = (sc_random(rig, 60) + 1) * (uint64_t)STATE_PAGE;
    bytes = MIN(bytes, to - at);
    bool zero = sc_random(rig, 5) == 0;
    f->data = s->model + at;
    if (zero) {
        memset(f->data, 0, bytes);
    } else {
        test_fill(f->data, bytes, ++rig->pattern);
    }
    f->request = (TestRequest){.blk = s->blk,
                               .op = zero ? TEST_ZERO : TEST_WRITE,
                               .offset = at,
                               .bytes = bytes,
                               .buf = f->data};
    test_start(&f->request);
}

/* Some writes at a time, with one to the disk between. */
static coroutine_fn RUNS_IN_MAIN void sc_write_state(ScRig *rig, StateSave *s)
{
    ScFlight flight[STATE_FLIGHT];
    uint64_t part = s->size / STATE_FLIGHT / STATE_PAGE * STATE_PAGE;
    for (unsigned i = 0; i < STATE_FLIGHT; i++) {
        uint64_t to = i + 1 == STATE_FLIGHT ? s->size : (i + 1) * part;
        sc_start(rig, s, &flight[i], i * part, to);
    }
    sc_write_disk(rig);
    for (unsigned i = 0; i < STATE_FLIGHT; i++) {
        assert_int_equal(test_finish(&flight[i].request), 0);
    }
}

/* ---- creations ---- */

typedef struct ScRaise {
    BlockSnapshotRun *run;
    TestEvent done;
} ScRaise;

static void sc_raise(void *opaque)
{
    ScRaise *r = opaque;
    enter_coroutine();
    enter_main();
    block_snapshot_co_raise(r->run);
    test_event_set(&r->done);
}

static coroutine_fn RUNS_IN_MAIN void sc_write_some(ScRig *rig, StateSave *s)
{
    for (unsigned i = sc_random(rig, 4); i > 0; i--) {
        sc_write_state(rig, s);
    }
}

/* Returns whether the creation was cancelled, at one of its four parts. */
static coroutine_fn RUNS_IN_MAIN bool sc_fill(ScRig *rig, StateSave *s, uint8_t **disk,
                                              unsigned cancel)
{
    ScRaise raise = {.run = s->run};
    sc_write_some(rig, s);
    if (cancel == 0) {
        return true;
    }
    *disk = g_memdup2(rig->disk, SC_DISK);
    state_switch(s);
    if (cancel == 1) {
        return true;
    }
    co_start(test_main, sc_raise, &raise);
    sc_write_some(rig, s);
    if (cancel == 2) {
        block_snapshot_cancel(s->run);
    }
    test_event_wait(&raise.done);
    if (cancel == 2) { /* it was undone there, or had come to the end */
        int ret = state_write(s, 0, STATE_PAGE, 1);
        assert_true(ret == 0 || ret == -ECANCELED);
        return true;
    }
    sc_write_some(rig, s);
    return cancel == 3;
}

static coroutine_fn RUNS_IN_MAIN void sc_create(ScRig *rig, ScSnapshot *snap)
{
    StateSave s;
    uint8_t *disk = NULL;
    unsigned cancel = sc_random(rig, 8);
    assert_true(state_prepare(&s, blk_root(rig->blk), snap->name, rig->shape->state));
    bool cancelled = sc_fill(rig, &s, &disk, cancel);
    if (cancelled) {
        block_snapshot_cancel(s.run);
    } else {
        qcow2_compare(s.blk, s.model, s.size, 100000, "the state that is being created");
    }
    assert_int_equal(state_end(&s), cancelled ? -ECANCELED : 0);
    if (cancelled) {
        g_free(disk);
        g_free(s.model);
        rig->cancelled++;
        return;
    }
    snap->disk = disk;
    snap->state = s.model;
    rig->created++;
}

/* ---- schedules ---- */

static coroutine_fn RUNS_IN_MAIN void sc_delete(ScRig *rig, ScSnapshot *snap)
{
    g_autoptr(GError) error = NULL;
    if (sc_random(rig, 2) == 0) {
        assert_int_equal(
            block_node_co_snapshot_delete(blk_root(rig->blk), NULL, snap->name, &error), 0);
    } else {
        sc_close(rig);
        qcow2_shell(rig->dir, "qemu-img snapshot -d %s t.qcow2 && qemu-img check -q t.qcow2",
                    snap->name);
        sc_open(rig);
    }
    g_clear_pointer(&snap->disk, g_free);
    g_clear_pointer(&snap->state, g_free);
}

static coroutine_fn RUNS_IN_MAIN void sc_apply(ScRig *rig, const ScSnapshot *snap)
{
    g_autoptr(GError) error = NULL;
    if (sc_random(rig, 2) == 0) {
        assert_int_equal(block_node_co_snapshot_apply(blk_root(rig->blk), snap->name, &error), 0);
    } else { /* the active L1 table gets entries of the state */
        sc_close(rig);
        qcow2_shell(rig->dir, "qemu-img snapshot -a %s t.qcow2 && qemu-img check -q t.qcow2",
                    snap->name);
        sc_open(rig);
    }
    memcpy(rig->disk, snap->disk, SC_DISK);
}

static coroutine_fn RUNS_IN_MAIN void sc_step(ScRig *rig)
{
    ScSnapshot *snap = &rig->snapshots[sc_random(rig, SC_SNAPSHOTS)];
    if (snap->state == NULL) {
        sc_create(rig, snap);
    } else if (sc_random(rig, 2) == 0) {
        sc_delete(rig, snap);
    } else {
        sc_apply(rig, snap);
    }
    sc_write_disk(rig);
    qcow2_compare(rig->blk, rig->disk, SC_DISK, SC_DISK, "the disk");
}

static coroutine_fn RUNS_IN_MAIN void sc_check_snapshots(ScRig *rig)
{
    for (unsigned i = 0; i < SC_SNAPSHOTS; i++) {
        const ScSnapshot *snap = &rig->snapshots[i];
        if (snap->state != NULL) {
            state_compare(blk_root(rig->blk), snap->name, snap->state, rig->shape->state);
        }
    }
}

/* As qemu-img shows them. */
static coroutine_fn RUNS_IN_MAIN void sc_check_disks(ScRig *rig)
{
    for (unsigned i = 0; i < SC_SNAPSHOTS; i++) {
        const ScSnapshot *snap = &rig->snapshots[i];
        size_t size;
        if (snap->state == NULL) {
            continue;
        }
        qcow2_shell(rig->dir, "qemu-img convert -l snapshot.name=%s -O raw t.qcow2 snap.raw",
                    snap->name);
        g_autofree uint8_t *bytes = qcow2_file_bytes(rig->dir, "snap.raw", &size);
        assert_memory_equal(bytes, snap->disk, SC_DISK);
        qcow2_shell(rig->dir,
                    "qemu-img info --output=json t.qcow2 >info && "
                    "grep -q '\"vm-state-size\": %" PRIu64 "' info",
                    rig->shape->state);
    }
}

/* Without the snapshots, the image has the clusters of the disk and nothing else. */
static coroutine_fn RUNS_IN_MAIN void sc_check_empty(ScRig *rig)
{
    for (unsigned i = 0; i < SC_SNAPSHOTS; i++) {
        ScSnapshot *snap = &rig->snapshots[i];
        if (snap->state != NULL) {
            qcow2_shell(rig->dir, "qemu-img snapshot -d %s t.qcow2", snap->name);
        }
        g_clear_pointer(&snap->disk, g_free);
        g_clear_pointer(&snap->state, g_free);
    }
    qcow2_shell(rig->dir, "qemu-img check -q t.qcow2 && qemu-img snapshot -l t.qcow2 >list && "
                          "[ ! -s list ]");
}

static coroutine_fn RUNS_IN_MAIN void sc_run(ScRig *rig)
{
    qcow2_shell(rig->dir,
                "rm -f t.qcow2 && qemu-img create -q -f qcow2 -o %s t.qcow2 %zu && "
                "qemu-io -f qcow2 -c 'write -q -P 0 0 1M' t.qcow2",
                rig->shape->options, SC_DISK);
    rig->disk = g_malloc0(SC_DISK);
    for (unsigned i = 0; i < SC_SNAPSHOTS; i++) {
        snprintf(rig->snapshots[i].name, sizeof(rig->snapshots[i].name), "s%u", i);
    }
    sc_open(rig);
    for (unsigned i = 0; i < SC_STEPS; i++) {
        sc_step(rig);
    }
    sc_check_snapshots(rig);
    sc_close(rig);
    sc_check_disks(rig);
    sc_open(rig);
    sc_check_snapshots(rig);
    sc_close(rig);
    sc_check_empty(rig);
    g_free(rig->disk);
}

BLOCK_TEST(each_snapshot_keeps_its_disk_and_its_state)
{
    unsigned shapes = G_N_ELEMENTS(sc_shapes), created = 0, cancelled = 0;
    TestSeeds seeds = test_seeds(test_rounds(2 * shapes, shapes, 60 * shapes));
    char *dir = qcow2_dir_new();
    for (unsigned seed = seeds.first; seed < seeds.end; seed++) {
        ScRig rig = {.shape = &sc_shapes[seed % shapes], .dir = dir};
        rig.rand = g_rand_new_with_seed(seed);
        printf("# seed %u: %s\n", seed, rig.shape->options);
        sc_run(&rig);
        created += rig.created;
        cancelled += rig.cancelled;
        g_rand_free(rig.rand);
    }
    printf("# %u created, %u cancelled\n", created, cancelled);
    qcow2_dir_free(dir);
    assert_true(seeds.end - seeds.first < shapes || (created > 0 && cancelled > 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_snapshot_keeps_its_disk_and_its_state),
    };
    return block_test_main(tests);
}
