/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: request types and framing. */
#include "tests/hw/virtio/virtio_blk_bench.h"
#include "util/loop/sched_point.h"

static bool needs_reset(Fixture *f)
{
    virtio_bench_settle(f->bench);
    return virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET;
}

/* ---- requests ---- */

static void written_data_can_be_read(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up(f, NULL);
    blk_request_init(&r, &f->queue, 8192);
    for (unsigned i = 0; i < 8192; i++) {
        blk_request_data(&r)[i] = (uint8_t)(i * 7);
    }
    assert_int_equal(blk_request_run(&r, BLK_OUT, 5, 8192), BLK_OK);
    assert_memory_equal(blk_disk_data(&f->disk) + 5 * 512, blk_request_data(&r), 8192);
    memset(blk_request_data(&r), 0, 8192);
    assert_int_equal(blk_request_run(&r, BLK_IN, 5, 8192), BLK_OK);
    assert_memory_equal(blk_disk_data(&f->disk) + 5 * 512, blk_request_data(&r), 8192);
    assert_int_equal(blk_request_run(&r, BLK_FLUSH, 0, 0), BLK_OK);
}

static void the_used_length_counts_device_writable_bytes(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    BlkRequest r;
    bring_up(f, NULL);
    blk_request_init(&r, &f->queue, 1024);
    blk_request_send(&r, BLK_IN, 0, 1024);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 1025);
    blk_request_send(&r, BLK_OUT, 0, 1024);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 1);
}

static void framing_is_the_drivers_own(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    BlkRequest r;
    bring_up(f, NULL);
    blk_request_init(&r, &f->queue, 1024);
    memset(blk_disk_data(&f->disk), 0x5a, 1024);
    /* the header in three pieces, data and status in pieces across sector borders */
    VringBuffer in[] = {{r.header, 1, false}, {r.header + 1, 10, false}, {r.header + 11, 5, false},
                        {r.data, 700, true},  {r.data + 700, 324, true}, {r.status, 1, true}};
    blk_request_header(&r, BLK_IN, 0);
    virtio_guest_add(&f->queue, in, 6);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(blk_request_status(&r), BLK_OK);
    assert_memory_equal(blk_request_data(&r), blk_disk_data(&f->disk), 1024);
    /* header and data in one, data and status in one */
    r.status = r.data + 1024 - 512;
    blk_request_header(&r, BLK_OUT, 2);
    uint8_t *data = virtio_bench_ram(f->bench, r.header + 16, 512);
    memset(data, 0x77, 512);
    VringBuffer out[] = {{r.header, 16 + 512, false}, {r.status, 1, true}};
    virtio_guest_add(&f->queue, out, 2);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(blk_request_status(&r), BLK_OK);
    assert_int_equal(blk_disk_data(&f->disk)[1024 + 511], 0x77);
    blk_request_header(&r, BLK_IN, 2);
    VringBuffer joint[] = {{r.header, 16, false}, {r.data, 513, true}};
    virtio_guest_add(&f->queue, joint, 2);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(blk_request_data(&r)[511], 0x77);
    assert_int_equal(blk_request_data(&r)[512], BLK_OK);
}

static void an_indirect_request_works(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    BlkRequest r;
    bring_up(f, NULL);
    blk_request_init(&r, &f->queue, 1024);
    uint64_t table = virtio_bench_alloc(f->bench, 4096);
    VringBuffer chain[] = {{r.header, 16, false}, {r.data, 1024, true}, {r.status, 1, true}};
    blk_request_header(&r, BLK_IN, 0);
    vring_driver_offer(&f->queue.ring, vring_driver_indirect(&f->queue.ring, table, chain, 3));
    virtio_guest_kick(&f->queue);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(blk_request_status(&r), BLK_OK);
}

static void the_serial_number_is_the_id(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up(f, "serial=12345678901234567890");
    blk_request_init(&r, &f->queue, 512);
    assert_int_equal(blk_request_run(&r, BLK_GET_ID, 0, 20), BLK_OK);
    assert_memory_equal(blk_request_data(&r), "12345678901234567890", 20);
    memset(blk_request_data(&r), 0, 512);
    assert_int_equal(blk_request_run(&r, BLK_GET_ID, 0, 4), BLK_OK);
    assert_memory_equal(blk_request_data(&r), "1234\0", 5);
}

static void discard_and_write_zeroes_clear_their_range(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up(f, NULL);
    blk_request_init(&r, &f->queue, 512);
    uint8_t *disk = blk_disk_data(&f->disk);
    memset(disk, 0xee, 4096);
    assert_int_equal(blk_request_range(&r, BLK_ZEROES, 1, 2, 0), BLK_OK);
    assert_int_equal(disk[511], 0xee);
    assert_int_equal(disk[512], 0);
    assert_int_equal(disk[1535], 0);
    assert_int_equal(disk[1536], 0xee);
    assert_int_equal(blk_request_range(&r, BLK_ZEROES, 3, 1, 1), BLK_OK);
    assert_int_equal(disk[1536], 0);
    assert_int_equal(blk_request_range(&r, BLK_DISCARD, 0, 1, 0), BLK_OK);
}

static void wrong_ranges_are_refused(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up(f, "max-discard-sectors=100");
    blk_request_init(&r, &f->queue, 512);
    assert_int_equal(blk_request_range(&r, BLK_DISCARD, 0, 1, 1), BLK_UNSUPP); /* unmap */
    assert_int_equal(blk_request_range(&r, BLK_ZEROES, 0, 1, 2), BLK_UNSUPP);
    assert_int_equal(blk_request_range(&r, BLK_DISCARD, 0, 101, 0), BLK_IOERR);
    assert_int_equal(blk_request_range(&r, BLK_ZEROES, DISK_SECTORS - 1, 2, 0), BLK_IOERR);
    assert_int_equal(blk_request_range(&r, BLK_ZEROES, UINT64_MAX, 2, 0), BLK_IOERR);
    assert_int_equal(blk_request_run(&r, BLK_ZEROES, 0, 32), BLK_IOERR); /* two ranges */
    assert_int_equal(blk_request_run(&r, BLK_DISCARD, 0, 15), BLK_IOERR);
    assert_int_equal(blk_request_run(&r, BLK_DISCARD, 0, 0), BLK_IOERR);
}

static void requests_without_their_feature_are_unsupported(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up_disk(f, "size=1M", NULL, ~(VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES));
    blk_request_init(&r, &f->queue, 512);
    assert_int_equal(blk_request_range(&r, BLK_DISCARD, 0, 1, 0), BLK_UNSUPP);
    assert_int_equal(blk_request_range(&r, BLK_ZEROES, 0, 1, 0), BLK_UNSUPP);
    assert_int_equal(blk_request_run(&r, 2, 0, 512), BLK_UNSUPP); /* the old SCSI request */
    assert_int_equal(blk_request_run(&r, 0x80000001, 0, 512), BLK_UNSUPP);
}

static void sectors_beyond_the_disk_are_errors(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up(f, NULL);
    blk_request_init(&r, &f->queue, 4096);
    static const struct {
        uint64_t sector;
        uint32_t bytes;
    } bad[] = {{DISK_SECTORS, 512},
               {DISK_SECTORS - 1, 1024},
               {UINT64_MAX, 512},
               {UINT64_MAX / 512 + 1, 512},
               {1ull << 55, 512},
               {0, 511},
               {0, 513},
               {DISK_SECTORS + 1, 0}};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_int_equal(blk_request_run(&r, BLK_IN, bad[i].sector, bad[i].bytes), BLK_IOERR);
        assert_int_equal(blk_request_run(&r, BLK_OUT, bad[i].sector, bad[i].bytes), BLK_IOERR);
    }
    assert_int_equal(blk_request_run(&r, BLK_IN, DISK_SECTORS - 8, 4096), BLK_OK);
    assert_int_equal(blk_request_run(&r, BLK_IN, DISK_SECTORS, 0), BLK_OK);
}

static void requests_are_whole_logical_blocks(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up(f, "logical_block_size=4096,physical_block_size=4096");
    blk_request_init(&r, &f->queue, 4096);
    assert_int_equal(blk_request_run(&r, BLK_IN, 0, 512), BLK_IOERR);
    assert_int_equal(blk_request_run(&r, BLK_IN, 1, 4096), BLK_IOERR);
    assert_int_equal(blk_request_run(&r, BLK_IN, 8, 4096), BLK_OK);
}

static void a_request_without_header_needs_a_reset(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up(f, NULL);
    blk_request_init(&r, &f->queue, 512);
    VringBuffer chain[] = {{r.header, 15, false}, {r.status, 1, true}};
    virtio_guest_add(&f->queue, chain, 2);
    assert_true(needs_reset(f));
}

static void a_request_without_status_needs_a_reset(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up(f, NULL);
    blk_request_init(&r, &f->queue, 512);
    VringBuffer chain[] = {{r.header, 16, false}};
    virtio_guest_add(&f->queue, chain, 1);
    assert_true(needs_reset(f));
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, VIRTIO_NO_VECTOR);
    virtio_guest_driver_ok(&f->guest);
    assert_int_equal(blk_request_run(&r, BLK_IN, 0, 512), BLK_OK);
}

static void every_queue_serves(void **state)
{
    Fixture *f = *state;
    VirtioGuestQueue q[4];
    BlkRequest r;
    bring_up(f, "num-queues=4,queue-size=16");
    assert_int_equal(config(f, 34, 2), 4);
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    for (unsigned i = 0; i < 4; i++) {
        virtio_guest_queue(&f->guest, &q[i], i, 0, i + 1);
    }
    virtio_guest_driver_ok(&f->guest);
    for (unsigned i = 0; i < 4; i++) {
        blk_request_init(&r, &q[i], 512);
        assert_int_equal(blk_request_run(&r, BLK_IN, i, 512), BLK_OK);
        fake_machine_settle(f->bench->machine);
        assert_int_equal(fake_machine_delivered(f->bench->machine, 0x101 + i), 1);
    }
}

/* ---- kicks that are suppressed ---- */

typedef struct Late {
    BlkRequest request;
    bool sent, wanted_kick;
} Late;

/* In the iothread, after it found the queue empty and before it enables kicks. */
static void send_late(void *arg, const void *vdev)
{
    Late *late = arg;
    VringDriver *ring = &late->request.queue->ring;
    if (late->sent) {
        return;
    }
    late->sent = true;
    VringBuffer chain[] = {{late->request.header, 16, false},
                           {late->request.data, 20, true},
                           {late->request.status, 1, true}};
    uint16_t old = ring->avail_idx;
    vring_driver_offer(ring, vring_driver_chain(ring, chain, 3));
    late->wanted_kick = vring_driver_wants_kick(ring, old, late->request.queue->event_idx);
}

/* Both ways of suppressing kicks: by index and by flag. */
static void requests_sent_before_kicks_are_enabled_are_taken(void **state)
{
    Fixture *f = *state;
    static const uint64_t features[] = {~0ull, ~VIRTIO_F_EVENT_IDX};
    for (unsigned i = 0; i < G_N_ELEMENTS(features); i++) {
        uint32_t id, len;
        Late late = {0};
        BlkRequest r;
        if (i == 0) {
            bring_up_disk(f, "size=1M", NULL, features[i]);
        } else {
            assert_true(virtio_guest_negotiate(&f->guest, features[i]));
            virtio_guest_queue(&f->guest, &f->queue, 0, 0, 1);
            virtio_guest_driver_ok(&f->guest);
            virtio_bench_settle(f->bench);
        }
        blk_request_init(&r, &f->queue, 512);
        blk_request_init(&late.request, &f->queue, 512);
        blk_request_header(&late.request, BLK_GET_ID, 0);
        sched_point_hook("virtio.processed", send_late, &late);
        blk_request_send(&r, BLK_GET_ID, 0, 20);
        virtio_bench_settle(f->bench);
        sched_point_reset();
        assert_true(late.sent);
        assert_false(late.wanted_kick);
        assert_true(virtio_guest_used(&f->queue, &id, &len));
        assert_true(virtio_guest_used(&f->queue, &id, &len));
    }
}

/* More than the budget of a queue, with one kick for all. */
static void a_long_queue_is_taken_to_its_end(void **state)
{
    Fixture *f = *state;
    const unsigned requests = 2 * VIRTIO_QUEUE_BUDGET + 1;
    uint32_t id, len;
    BlkRequest r;
    bring_up(f, "queue-size=1024");
    blk_request_init(&r, &f->queue, 512);
    blk_request_header(&r, BLK_GET_ID, 0);
    VringBuffer chain[] = {{r.header, 16, false}, {r.data, 20, true}, {r.status, 1, true}};
    for (unsigned i = 0; i < requests; i++) {
        vring_driver_offer(&f->queue.ring, vring_driver_chain(&f->queue.ring, chain, 3));
    }
    virtio_guest_kick(&f->queue);
    for (unsigned i = 0; i < requests; i++) {
        assert_true(virtio_guest_used(&f->queue, &id, &len));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(written_data_can_be_read),
        T(the_used_length_counts_device_writable_bytes),
        T(framing_is_the_drivers_own),
        T(an_indirect_request_works),
        T(the_serial_number_is_the_id),
        T(discard_and_write_zeroes_clear_their_range),
        T(wrong_ranges_are_refused),
        T(requests_without_their_feature_are_unsupported),
        T(sectors_beyond_the_disk_are_errors),
        T(requests_are_whole_logical_blocks),
        T(a_request_without_header_needs_a_reset),
        T(a_request_without_status_needs_a_reset),
        T(every_queue_serves),
        T(requests_sent_before_kicks_are_enabled_are_taken),
        T(a_long_queue_is_taken_to_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
