/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP command transaction: all actions or none, at one point in time. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "block/dirty_bitmap.h"
#include "block/driver/fault.h"
#include "tests/support/shell.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "util/loop/sched_point.h"

#define DISKS 2
#define DISK_BYTES (1u << 20)

typedef struct Disks {
    QmpRig *rig;
    char *dir;
    BlockBackend *blk[DISKS]; /* of guests */
} Disks;

/* ---- coroutines in main ---- */

typedef struct Body {
    Disks *d;
    void (*fn)(struct Body *b);
    unsigned disk;
    uint64_t offset;
    int ret;
    bool done;
} Body;

static void body_run(void *opaque)
{
    Body *b = opaque;
    enter_main();
    enter_coroutine();
    b->fn(b);
    b->done = true;
}

static void body_do(Body *b, void (*fn)(Body *b))
{
    b->fn = fn;
    b->done = false;
    co_start(b->d->rig->vm.ctx, body_run, b);
    while (!b->done) {
        aio_context_step(b->d->rig->vm.ctx, true);
    }
}

static void body_attach(Body *b)
{
    enter_main();
    enter_coroutine();
    const char *name = b->disk == 0 ? "disk0" : "disk1";
    b->d->blk[b->disk] = blk_co_new(name, block_node_find(name), true, NULL);
    assert_non_null(b->d->blk[b->disk]);
}

static void body_detach(Body *b)
{
    enter_main();
    enter_coroutine();
    blk_co_free(b->d->blk[b->disk]);
}

static void write_at_home(void *opaque)
{
    Body *b = opaque;
    static uint8_t data[4096] = {1};
    struct iovec iov = {data, sizeof(data)};
    enter_coroutine();
    enter_iothread(blk_home(b->d->blk[b->disk]));
    b->ret = blk_co_pwritev(b->d->blk[b->disk], b->offset, sizeof(data), &iov, 1, 0);
}

static void body_write(Body *b)
{
    enter_coroutine();
    co_call_in(blk_home(b->d->blk[b->disk]), write_at_home, b);
}

static void disk_write(Disks *d, unsigned disk, uint64_t offset)
{
    Body b = {.d = d, .disk = disk, .offset = offset};
    body_do(&b, body_write);
    assert_int_equal(b.ret, 0);
}

typedef struct SetFault {
    BlockNode *node;
    BlockFault fault;
} SetFault;

static void set_fault_at_home(void *opaque)
{
    SetFault *s = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(s->node));
    block_fault_set(s->node, &s->fault);
}

static SetFault set_fault;

static void body_set_fault(Body *b)
{
    enter_main();
    enter_coroutine();
    set_fault.node = block_node_find(b->disk == 0 ? "fault0" : "fault1");
    co_call_in(block_node_home(set_fault.node), set_fault_at_home, &set_fault);
}

/* After @after more writes, writes to the file of the disk fail. */
static void disk_fail_writes(Disks *d, unsigned disk, uint64_t after)
{
    Body b = {.d = d, .disk = disk};
    set_fault.fault = (BlockFault){.op = BLOCK_FAULT_WRITE, .after = after, .error = ENOSPC};
    body_do(&b, body_set_fault);
}

static void disk_mend(Disks *d, unsigned disk)
{
    Body b = {.d = d, .disk = disk};
    set_fault.fault = (BlockFault){.op = BLOCK_FAULT_NONE};
    body_do(&b, body_set_fault);
}

/* ---- disks ---- */

static void disks_add(Disks *d, QmpRig *rig)
{
    *d = (Disks){.rig = rig, .dir = g_strdup("build/skiff-qmp-transaction-XXXXXX")};
    assert_non_null(g_mkdtemp(d->dir));
    for (unsigned i = 0; i < DISKS; i++) {
        g_autofree char *add = g_strdup_printf(
            "{'driver':'qcow2','node-name':'disk%u','file':{'driver':'fault','node-name':'fault%u',"
            "'file':{'driver':'file','filename':'%s/%u'}}}",
            i, i, d->dir, i);
        assert_int_equal(
            shell("qemu-img create -q -f qcow2 -o cluster_size=4k %s/%u %u", d->dir, i, DISK_BYTES),
            0);
        g_free(qmp_ok(rig, "blockdev-add", add));
        Body b = {.d = d, .disk = i};
        body_do(&b, body_attach);
    }
}

static void disks_del(Disks *d)
{
    for (unsigned i = 0; i < DISKS; i++) {
        Body b = {.d = d, .disk = i};
        body_do(&b, body_detach);
        g_autofree char *del = g_strdup_printf("{'node-name':'disk%u'}", i);
        g_free(qmp_ok(d->rig, "blockdev-del", del));
        /* 3: it has lost space, which an undo may cause when the file cannot be written */
        assert_int_equal(
            shell("qemu-img check -q -f qcow2 %s/%u >/dev/null || [ $? = 3 ]", d->dir, i), 0);
    }
    assert_int_equal(shell("rm -r %s", d->dir), 0);
    g_free(d->dir);
}

/* The bitmaps and snapshots of all disks. Owned by the caller. */
static char *disks_describe(void)
{
    enter_main();
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < DISKS; i++) {
        BlockNode *n = block_node_find(i == 0 ? "disk0" : "disk1");
        for (unsigned j = 0; j < block_dirty_bitmap_count(n); j++) {
            BlockDirtyBitmapInfo info;
            block_dirty_bitmap_info(n, j, &info);
            g_string_append_printf(text, "%s%s%s=%u ", info.name, info.recording ? "" : "-",
                                   info.persistent ? "*" : "", (unsigned)info.dirty_bytes);
        }
        const BlockImageInfo *image = block_node_image_info(n);
        for (unsigned j = 0; j < image->snapshot_count; j++) {
            g_string_append_printf(text, "snapshot:%s ", image->snapshots[j].name);
        }
        g_string_append(text, "| ");
    }
    return g_string_free(text, FALSE);
}

static void disks_expect(const char *expected)
{
    g_autofree char *found = disks_describe();
    assert_string_equal(found, expected);
}

/* Bitmaps a (recording, 8 KiB set), b (not recording, 4 KiB set) and p (persistent, 8 KiB set). */
static void disks_add_bitmaps(Disks *d)
{
    g_free(qmp_ok(d->rig, "transaction",
                  "{'actions':[{'type':'block-dirty-bitmap-add','data':{'node':'disk0','name':'a',"
                  "'granularity':4096}},{'type':'block-dirty-bitmap-add','data':{'node':'disk0',"
                  "'name':'b','granularity':4096}},{'type':'block-dirty-bitmap-add','data':{"
                  "'node':'disk0','name':'p','granularity':4096,'persistent':true}}]}"));
    disk_write(d, 0, 0);
    g_free(qmp_ok(d->rig, "block-dirty-bitmap-disable", "{'node':'disk0','name':'b'}"));
    disk_write(d, 0, 65536);
    disks_expect("a=8192 b-=4096 p*=8192 | | ");
}

/* ---- tests ---- */

static void actions_take_effect_in_their_order(void **state)
{
    Disks d;
    disks_add(&d, *state);
    disks_add_bitmaps(&d);
    g_free(qmp_ok(d.rig, "transaction",
                  "{'actions':["
                  "{'type':'block-dirty-bitmap-add','data':{'node':'disk1','name':'m',"
                  "'granularity':4096}},"
                  "{'type':'block-dirty-bitmap-merge','data':{'node':'disk1','target':'m',"
                  "'bitmaps':[{'node':'disk0','name':'a'}]}},"
                  "{'type':'block-dirty-bitmap-disable','data':{'node':'disk1','name':'m'}},"
                  "{'type':'block-dirty-bitmap-clear','data':{'node':'disk0','name':'a'}},"
                  "{'type':'block-dirty-bitmap-remove','data':{'node':'disk0','name':'p'}},"
                  "{'type':'block-dirty-bitmap-enable','data':{'node':'disk0','name':'b'}}]}"));
    disks_expect("a=0 b=4096 | m-=8192 | ");
    disk_write(&d, 0, 8192);
    disks_expect("a=4096 b=8192 | m-=8192 | ");
    disks_del(&d);
}

static void an_abort_after_any_action_undoes_all(void **state)
{
    static const char *const actions[] = {
        "{'type':'block-dirty-bitmap-remove','data':{'node':'disk0','name':'p'}}",
        "{'type':'block-dirty-bitmap-add','data':{'node':'disk0','name':'p','persistent':true,"
        "'disabled':true}}",
        "{'type':'block-dirty-bitmap-merge','data':{'node':'disk0','target':'p','bitmaps':['a']}}",
        "{'type':'block-dirty-bitmap-clear','data':{'node':'disk0','name':'a'}}",
        "{'type':'block-dirty-bitmap-merge','data':{'node':'disk0','target':'a','bitmaps':['b']}}",
        "{'type':'block-dirty-bitmap-enable','data':{'node':'disk0','name':'b'}}",
        "{'type':'block-dirty-bitmap-disable','data':{'node':'disk0','name':'a'}}",
        "{'type':'blockdev-snapshot-internal-sync','data':{'device':'disk0','name':'s'}}",
        "{'type':'block-dirty-bitmap-remove','data':{'node':'disk0','name':'b'}}",
        "{'type':'block-dirty-bitmap-clear','data':{'node':'disk0','name':'p'}}",
    };
    Disks d;
    disks_add(&d, *state);
    disks_add_bitmaps(&d);
    for (unsigned at = 0; at <= G_N_ELEMENTS(actions); at++) {
        g_autoptr(GString) text = g_string_new("{'actions':[");
        for (unsigned i = 0; i < G_N_ELEMENTS(actions); i++) {
            g_string_append(text, at == i ? "{'type':'abort','data':{}}," : "");
            g_string_append_printf(text, "%s,", actions[i]);
        }
        g_string_append(text, "{'type':'abort','data':{}}]}");
        qmp_fails(d.rig, "transaction", text->str, "GenericError",
                  "Transaction aborted using Abort action");
        disks_expect("a=8192 b-=4096 p*=8192 | | ");
        disk_write(&d, 0, 0); /* a and p record as before */
        disks_expect("a=8192 b-=4096 p*=8192 | | ");
    }
    disk_write(&d, 0, 8192);
    disks_expect("a=12288 b-=4096 p*=12288 | | ");
    disks_del(&d);
}

/* A bitmap that an undone transaction has removed is in the image again. */
static void a_bitmap_whose_removal_is_undone_is_stored(void **state)
{
    Disks d;
    disks_add(&d, *state);
    disks_add_bitmaps(&d);
    qmp_fails(d.rig, "transaction",
              "{'actions':[{'type':'block-dirty-bitmap-remove','data':{'node':'disk0','name':'p'}},"
              "{'type':'abort','data':{}}]}",
              "GenericError", "Transaction aborted using Abort action");
    Body b = {.d = &d, .disk = 0};
    body_do(&b, body_detach);
    g_free(qmp_ok(d.rig, "blockdev-del", "{'node-name':'disk0'}"));
    g_autofree char *add = g_strdup_printf(
        "{'driver':'qcow2','node-name':'disk0','file':{'driver':'file','filename':'%s/0'}}", d.dir);
    g_free(qmp_ok(d.rig, "blockdev-add", add));
    disks_expect("p*=8192 | | ");
    body_do(&b, body_attach);
    disks_del(&d);
}

#define TWO_SNAPSHOTS                                                                              \
    "{'type':'blockdev-snapshot-internal-sync','data':{'device':'disk0','name':'s'}},"             \
    "{'type':'blockdev-snapshot-internal-sync','data':{'device':'disk1','name':'s'}}"
#define WITH_BITMAPS                                                                               \
    "{'type':'block-dirty-bitmap-clear','data':{'node':'disk0','name':'a'}},"                      \
    "{'type':'block-dirty-bitmap-remove','data':{'node':'disk0','name':'p'}},"

/* The writes to the file of the second disk begin to fail at each possible point. */
static void a_snapshot_that_fails_at_any_write_leaves_nothing(void **state)
{
    static const char *const texts[] = {"{'actions':[" TWO_SNAPSHOTS "]}",
                                        "{'actions':[" WITH_BITMAPS TWO_SNAPSHOTS "]}"};
    static const char *const expected[] = {"a=8192 b-=4096 p*=8192 snapshot:s | snapshot:s | ",
                                           "a=0 b-=4096 snapshot:s | snapshot:s | "};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        Disks d;
        disks_add(&d, *state);
        disks_add_bitmaps(&d);
        disk_write(&d, 1, 0);
        bool done = false;
        unsigned after = 0;
        for (; !done; after++) {
            RigCall call;
            disk_fail_writes(&d, 1, after);
            rig_call_start(d.rig, &call, "transaction", texts[i]);
            rig_call_finish(&call);
            done = call.error == NULL;
            disk_mend(&d, 1);
            disks_expect(done ? expected[i] : "a=8192 b-=4096 p*=8192 | | ");
            json_object_put(call.result);
            g_clear_error(&call.error);
            assert_true(after < 100);
        }
        assert_true(after > 2);
        disks_del(&d);
    }
}

/* ---- one point in time ---- */

static struct {
    Disks *d;
    Body writes[DISKS];
    unsigned prepares;
    bool written; /* a request of a guest ended between two prepares */
} point;

static void point_prepare(void *arg, const void *object)
{
    for (unsigned i = 0; i < DISKS; i++) {
        if (point.prepares == 0) {
            point.writes[i] = (Body){.d = point.d, .disk = i, .fn = body_write, .ret = 1};
            co_start(point.d->rig->vm.ctx, body_run, &point.writes[i]);
        }
        point.written = point.written || point.writes[i].done;
    }
    point.prepares++;
}

/* The first byte of the disk in a snapshot is @byte. */
static void disk_expect_in_snapshot(Disks *d, unsigned disk, unsigned byte)
{
    assert_int_equal(shell("cp %s/%u %s/copy && qemu-img snapshot -a s %s/copy && "
                           "qemu-io -f qcow2 -c 'read -q -P %u 0 1' %s/copy",
                           d->dir, disk, d->dir, d->dir, byte, d->dir),
                     0);
}

static void all_disks_are_drained_from_the_first_action_to_the_last(void **state)
{
    Disks d;
    disks_add(&d, *state);
    disks_add_bitmaps(&d);
    memset(&point, 0, sizeof(point));
    point.d = &d;
    sched_point_hook("qmp.transaction_prepare", point_prepare, NULL);
    g_free(qmp_ok(d.rig, "transaction",
                  "{'actions':[{'type':'block-dirty-bitmap-clear','data':{'node':'disk0','name':"
                  "'a'}}," TWO_SNAPSHOTS ",{'type':'block-dirty-bitmap-add','data':{'node':'disk1',"
                  "'name':'n','granularity':4096}}]}"));
    sched_point_reset();
    assert_int_equal(point.prepares, 4);
    assert_false(point.written);
    while (!point.writes[0].done || !point.writes[1].done) {
        aio_context_step(d.rig->vm.ctx, true);
    }
    disks_expect("a=4096 b-=4096 p*=8192 snapshot:s | n=4096 snapshot:s | ");
    for (unsigned i = 0; i < DISKS; i++) {
        disk_expect_in_snapshot(&d, i, i == 0); /* the second disk had no write before */
    }
    disks_del(&d);
}

/* ---- arguments ---- */

static void wrong_actions_are_refused_before_anything_happens(void **state)
{
    static const char *const cases[][2] = {
        {"{'actions':[{'type':'no-such','data':{}}]}",
         "Parameter 'type' does not accept value 'no-such'"},
        {"{'actions':[{'type':'abort'}]}", "Parameter 'data' is missing"},
        {"{'actions':[{'type':'abort','data':{'x':1}}]}", "Parameter 'x' is unexpected"},
        {"{'actions':[{'type':'block-dirty-bitmap-clear','data':{'node':'disk0','name':'a'}},"
         "{'type':'block-dirty-bitmap-clear','data':{'node':'disk0'}}]}",
         "Parameter 'name' is missing"},
        {"{'actions':[{'type':'block-dirty-bitmap-clear','data':7}]}",
         "Invalid parameter type for 'data', expected: object"},
        {"{'actions':[{'type':'abort','data':{}}],'properties':{'completion-mode':'grouped'}}",
         "Action 'abort' does not support transaction property completion-mode = grouped"},
        {"{'actions':[],'properties':{'completion-mode':'x'}}",
         "Parameter 'completion-mode' does not accept value 'x'"},
        {"{'actions':[{'type':'block-dirty-bitmap-clear','data':{'node':'disk0','name':'a'}},"
         "{'type':'block-dirty-bitmap-clear','data':{'node':'none','name':'a'}}]}",
         "Cannot find device='none' nor node-name='none'"},
        {"{'actions':[{'type':'block-dirty-bitmap-clear','data':{'node':'disk0','name':'a'}},"
         "{'type':'block-dirty-bitmap-merge','data':{'node':'disk0','target':'a','bitmaps':['b',"
         "{'node':'disk1','name':'none'}]}}]}",
         "Dirty bitmap 'none' not found"},
        {"{'actions':[" TWO_SNAPSHOTS "," TWO_SNAPSHOTS "]}",
         "an operation on its internal snapshots is running"},
    };
    Disks d;
    disks_add(&d, *state);
    disks_add_bitmaps(&d);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(d.rig, "transaction", cases[i][0], "GenericError", cases[i][1]);
        disks_expect("a=8192 b-=4096 p*=8192 | | ");
    }
    qmp_returns(d.rig, "transaction", "{'actions':[]}", "{}");
    qmp_returns(d.rig, "transaction", "{'actions':[],'properties':{'completion-mode':'grouped'}}",
                "{}");
    disks_del(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(actions_take_effect_in_their_order),
        QMP_TEST(an_abort_after_any_action_undoes_all),
        QMP_TEST(a_bitmap_whose_removal_is_undone_is_stored),
        QMP_TEST(a_snapshot_that_fails_at_any_write_leaves_nothing),
        QMP_TEST(all_disks_are_drained_from_the_first_action_to_the_last),
        QMP_TEST(wrong_actions_are_refused_before_anything_happens),
    };
    return cmocka_run_group_tests_name("qmp transaction", tests, NULL, NULL);
}
