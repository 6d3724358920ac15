/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-scsi controller with a disk whose requests wait for the test, and one that never waits. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_SCSI_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_SCSI_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/scsi_guest.h"
#include "util/loop/sched_point.h"

enum { ABORT_TASK, ABORT_SET, CLEAR_ACA, CLEAR_SET, NEXUS_RESET, LUN_RESET, QUERY, QUERY_SET };
enum { PENDING_TMF = 0xff };
#define ABORTED (SCSI_CALL_RESPONSE | VIRTIO_SCSI_S_ABORTED)
#define RESET (SCSI_CALL_RESPONSE | VIRTIO_SCSI_S_RESET)
#define CALLS 4

typedef struct Fixture {
    ScsiGuest g;
    BlkDisk other;         /* of LUN 1, never hangs */
    ScsiCall calls[CALLS]; /* to LUN 0 */
    ScsiCall other_call;
    ScsiTmf tmf;
    const char *properties; /* of the controller */
} Fixture;

static const uint8_t write_one[10] = {SCSI_WRITE_10, 0, 0, 0, 0, 0, 0, 0, 1};

/* TEST UNIT READY; as scsi_call_run(). */
static inline unsigned run_ready(ScsiCall *call)
{
    static const uint8_t cdb[6];
    return scsi_call_run(call, cdb, SCSI_DIR_NONE, 0);
}

static inline void prepare_calls(Fixture *f)
{
    for (unsigned i = 0; i < CALLS; i++) {
        scsi_call_init(&f->calls[i], &f->g.requests[0], 128 << 10);
    }
    scsi_call_init(&f->other_call, &f->g.requests[0], 512);
    f->other_call.lun = 1;
    scsi_tmf_init(&f->tmf, &f->g.control);
    scsi_call_clear_attentions(&f->calls[0]);
    scsi_call_clear_attentions(&f->other_call);
}

static inline void add_luns(Fixture *f)
{
    scsi_guest_add(&f->g, "scsi-hd", "drive=disk,scsi-id=0,lun=0,werror=stop,rerror=stop");
    scsi_guest_add(&f->g, "scsi-hd", "drive=other,scsi-id=0,lun=1");
}

static inline int set_up_with(void **state, const char *controller)
{
    Fixture *f = g_new0(Fixture, 1);
    f->properties = controller;
    scsi_guest_open(&f->g, "size=1M,manual=on,discard=unmap", controller, ~0ull);
    blk_disk_open_as(&f->other, f->g.bench, "driver=mem,node-name=other,size=1M");
    add_luns(f);
    prepare_calls(f);
    *state = f;
    return 0;
}

static inline int set_up(void **state)
{
    return set_up_with(state, "num_queues=1,virtqueue_size=1024");
}

/* Another iothread than the home serves the queue that the tests use. */
static inline int set_up_mapped(void **state)
{
    return set_up_with(state, "num_queues=2,virtqueue_size=1024,"
                              "iothread-vq-mapping.0.iothread=io,iothread-vq-mapping.0.vqs.0=1,"
                              "iothread-vq-mapping.1.iothread=io2,iothread-vq-mapping.1.vqs.0=0");
}
/* With and without a mapping. */
#define BOTH_WAYS(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, set_up, tear_down),                                      \
    {                                                                                              \
#name ", mapped", name, set_up_mapped, tear_down, NULL                                     \
    }

static int tear_down(void **state)
{
    Fixture *f = *state;
    sched_point_reset();
    while (f->g.lun_count) {
        scsi_guest_remove(&f->g, f->g.luns[0]);
    }
    blk_disk_close(&f->other);
    scsi_guest_close(&f->g);
    g_free(f);
    return 0;
}

static inline unsigned waiting(Fixture *f)
{
    virtio_bench_settle(f->g.bench);
    return block_mem_waiting(f->g.disk.node);
}

/* Sends a write that the disk holds. */
static inline void hang(Fixture *f, unsigned i)
{
    unsigned before = waiting(f);
    scsi_call_send(&f->calls[i], write_one, SCSI_DIR_OUT, 512);
    assert_int_equal(waiting(f), before + 1);
}

static inline void complete(Fixture *f, int ret)
{
    assert_true(blk_disk_complete(&f->g.disk, ret));
}

static inline void hold(Fixture *f, unsigned i)
{
    unsigned stops = f->g.bench->machine->request_count;
    hang(f, i);
    complete(f, -EIO);
    assert_int_equal(f->g.bench->machine->request_count, stops + 1);
    assert_int_equal(fake_machine_last_request(f->g.bench->machine).request,
                     VM_REQUEST_STOP_IO_ERROR);
    assert_int_equal(scsi_call_result(&f->calls[i]), SCSI_CALL_PENDING);
}

static inline void restart(Fixture *f)
{
    virtio_bench_stop(f->g.bench, f->g.controller);
    virtio_bench_start(f->g.bench, f->g.controller);
}

#endif
