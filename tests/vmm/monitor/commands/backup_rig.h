/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of the commands of backup: images in a folder, guests that write to disks. */
#ifndef SKIFF_TESTS_VMM_MONITOR_COMMANDS_BACKUP_RIG_H
#define SKIFF_TESTS_VMM_MONITOR_COMMANDS_BACKUP_RIG_H

#include <stdlib.h>
#include <unistd.h>
#include "block/block.h"
#include "tests/support/shell.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

typedef struct Folder {
    QmpRig *rig;
    char *dir;
    BlockBackend *guest[2];
} Folder;

/* Runs a command whose arguments have the folder's name in place of "DIR". */
static inline void folder_do(Folder *f, const char *command, const char *args)
{
    g_auto(GStrv) parts = g_strsplit(args, "DIR", -1);
    g_autofree char *text = g_strjoinv(f->dir, parts);
    g_free(qmp_ok(f->rig, command, text));
}

/* ---- guests ---- */

typedef struct Guest {
    Folder *f;
    unsigned disk;
    uint64_t offset, bytes;
    uint8_t value;
    void (*fn)(struct Guest *g);
    bool done;
} Guest;

static inline void guest_run(void *opaque)
{
    Guest *g = opaque;
    enter_main();
    enter_coroutine();
    g->fn(g);
    g->done = true;
}

static inline void guest_do(Folder *f, Guest *g, void (*fn)(Guest *g))
{
    g->f = f;
    g->fn = fn;
    co_start(f->rig->vm.ctx, guest_run, g);
    while (!g->done) {
        aio_context_step(f->rig->vm.ctx, true);
    }
}

static inline void guest_attach(Guest *g)
{
    enter_main();
    enter_coroutine();
    BlockNode *n = block_node_find(g->disk == 0 ? "disk0" : "disk1");
    g->f->guest[g->disk] = blk_co_new(g->disk == 0 ? "vd0" : "vd1", n, true, NULL);
    assert_non_null(g->f->guest[g->disk]);
}

static inline void guest_detach(Guest *g)
{
    enter_main();
    enter_coroutine();
    blk_co_free(g->f->guest[g->disk]);
}

static inline void guest_write_at_home(void *opaque)
{
    Guest *g = opaque;
    BlockBackend *blk = g->f->guest[g->disk];
    g_autofree uint8_t *data = g_malloc(g->bytes);
    memset(data, g->value, g->bytes);
    struct iovec iov = {data, g->bytes};
    enter_coroutine();
    enter_iothread(blk_home(blk));
    assert_int_equal(blk_co_pwritev(blk, g->offset, g->bytes, &iov, 1, 0), 0);
    assert_int_equal(blk_co_flush(blk), 0);
}

static inline void guest_write_once(Guest *g)
{
    enter_coroutine();
    co_call_in(blk_home(g->f->guest[g->disk]), guest_write_at_home, g);
}

static inline void guest_write(Folder *f, unsigned disk, uint64_t offset, uint64_t bytes,
                               uint8_t value)
{
    Guest g = {.disk = disk, .offset = offset, .bytes = bytes, .value = value};
    guest_do(f, &g, guest_write_once);
}

/* ---- disks ---- */

static inline Folder folder_new(QmpRig *rig)
{
    Folder f = {.rig = rig, .dir = g_strdup("build/skiff-qmp-backup-XXXXXX")};
    assert_non_null(g_mkdtemp(f.dir));
    return f;
}

static inline void disk_open(Folder *f, unsigned disk, const char *format)
{
    g_autofree char *add = g_strdup_printf(
        "{'driver':'%s','node-name':'disk%u','file':{'driver':'file','filename':'%s/%u'}}", format,
        disk, f->dir, disk);
    g_free(qmp_ok(f->rig, "blockdev-add", add));
    Guest g = {.disk = disk};
    guest_do(f, &g, guest_attach);
}

static inline void disk_close(Folder *f, unsigned disk)
{
    Guest g = {.disk = disk};
    g_autofree char *del = g_strdup_printf("{'node-name':'disk%u'}", disk);
    guest_do(f, &g, guest_detach);
    g_free(qmp_ok(f->rig, "blockdev-del", del));
}

static inline void target_open(Folder *f, const char *name, const char *format, const char *more)
{
    g_autofree char *add = g_strdup_printf(
        "{'driver':'%s','node-name':'%s','file':{'driver':'file','filename':'%s/%s'}%s}", format,
        name, f->dir, name, more);
    g_free(qmp_ok(f->rig, "blockdev-add", add));
}

/* A cancelled job uses the target until its last requests there have ended. */
static inline void target_close(Folder *f, const char *name)
{
    g_autofree char *del = g_strdup_printf("{'node-name':'%s'}", name);
    bool busy = true;
    while (busy) {
        RigCall call;
        rig_call_start(f->rig, &call, "blockdev-del", del);
        rig_call_finish(&call);
        busy = call.error != NULL;
        if (busy && strstr(call.error->message, "job '") == NULL) {
            fail_msg("%s: %s", name, call.error->message);
        }
        g_clear_error(&call.error);
        json_object_put(call.result);
    }
}

static inline void folder_free(Folder *f)
{
    assert_int_equal(shell("rm -r %s", f->dir), 0);
    g_free(f->dir);
}

static inline void job_await(Folder *f, const char *id)
{
    enter_main();
    while (job_find(id) != NULL && job_status(job_find(id)) != JOB_STATUS_CONCLUDED) {
        aio_context_step(f->rig->vm.ctx, true);
    }
}

static inline void two_disks(Folder *f, QmpRig *rig)
{
    *f = folder_new(rig);
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *target = g_strdup_printf("t%u", i);
        assert_int_equal(
            shell("cd %s && qemu-img create -q -f qcow2 %u 1M && cp %u t%u", f->dir, i, i, i), 0);
        disk_open(f, i, "qcow2");
        guest_write(f, i, 0, 1 << 20, (uint8_t)(1 + i));
        target_open(f, target, "qcow2", "");
        g_autofree char *add = g_strdup_printf("{'node':'disk%u','name':'b'}", i);
        g_free(qmp_ok(rig, "block-dirty-bitmap-add", add));
    }
}

static inline void two_disks_end(Folder *f)
{
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *target = g_strdup_printf("t%u", i);
        disk_close(f, i);
        target_close(f, target);
    }
    folder_free(f);
}

#endif
