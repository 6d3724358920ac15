/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: request types, framing, configuration space, error policies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "tests/support/blk_guest.h"

#define DISK_SECTORS 2048u

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
        blk_disk_close(&f->disk);
    }
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static void bring_up_disk(Fixture *f, const char *disk, const char *properties, uint64_t features)
{
    g_autofree char *all =
        g_strdup_printf("drive=disk%s%s", properties ? "," : "", properties ? properties : "");
    blk_disk_open(&f->disk, f->bench, disk);
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", all);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    virtio_guest_enable_msix(&f->guest);
    assert_true(virtio_guest_negotiate(&f->guest, features));
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_CONFIG_VECTOR, 0, 2);
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, 1);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

static void bring_up(Fixture *f, const char *properties)
{
    bring_up_disk(f, "size=1M", properties, ~0ull);
}

static uint64_t config(Fixture *f, unsigned offset, unsigned size)
{
    return virtio_guest_read(&f->guest, f->guest.config + offset, size);
}

static bool needs_reset(Fixture *f)
{
    virtio_bench_settle(f->bench);
    return virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET;
}

/* ---- requests ---- */

static void what_is_written_can_be_read(void **state)
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

static void the_used_length_is_what_was_device_writable(void **state)
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

static void what_was_not_negotiated_is_unsupported(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up_disk(f, "size=1M", NULL, ~(VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES));
    blk_request_init(&r, &f->queue, 512);
    assert_int_equal(blk_request_range(&r, BLK_DISCARD, 0, 1, 0), BLK_UNSUPP);
    assert_int_equal(blk_request_range(&r, BLK_ZEROES, 0, 1, 0), BLK_UNSUPP);
    assert_int_equal(blk_request_run(&r, 2, 0, 512), BLK_UNSUPP); /* SCSI of old */
    assert_int_equal(blk_request_run(&r, 0x80000001, 0, 512), BLK_UNSUPP);
}

static void sectors_that_are_not_there_are_errors(void **state)
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

/* ---- configuration space ---- */

static void the_configuration_says_what_the_disk_is(void **state)
{
    Fixture *f = *state;
    bring_up(f, "logical_block_size=1024,physical_block_size=4096,min_io_size=2048,"
                "opt_io_size=65536,discard_granularity=4096,queue-size=64");
    assert_int_equal(config(f, 0, 8), DISK_SECTORS);
    assert_int_equal(config(f, 12, 4), 62);   /* seg_max */
    assert_int_equal(config(f, 20, 4), 1024); /* blk_size */
    assert_int_equal(config(f, 24, 1), 2);    /* physical_block_exp */
    assert_int_equal(config(f, 26, 2), 2);    /* min_io_size */
    assert_int_equal(config(f, 28, 4), 64);   /* opt_io_size */
    assert_int_equal(config(f, 32, 1), 1);    /* writeback */
    assert_int_equal(config(f, 36, 4), 4194303);
    assert_int_equal(config(f, 40, 4), 1);
    assert_int_equal(config(f, 44, 4), 8); /* discard_sector_alignment */
    assert_int_equal(config(f, 52, 4), 1);
    assert_int_equal(config(f, 60, 4), 0xffffffff); /* behind the end */
}

static void the_guest_may_choose_the_cache_mode(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    const VirtioBlk *b = virtio_blk_from(&f->guest.dev->vdev);
    virtio_guest_write(&f->guest, f->guest.config + 32, 0, 1);
    assert_int_equal(config(f, 32, 1), 0);
    assert_false(blk_write_cache(b->blk));
    virtio_guest_write(&f->guest, f->guest.config + 32, 7, 1);   /* no such mode */
    virtio_guest_write(&f->guest, f->guest.config, 0, 4);        /* read-only */
    virtio_guest_write(&f->guest, f->guest.config + 32, ~0u, 4); /* wrong width */
    assert_int_equal(config(f, 32, 1), 0);
    assert_int_equal(config(f, 0, 8), DISK_SECTORS);
    virtio_guest_write(&f->guest, f->guest.config + 32, 1, 1);
    assert_true(blk_write_cache(b->blk));
}

static void a_driver_that_cannot_flush_gets_writethrough(void **state)
{
    Fixture *f = *state;
    bring_up_disk(f, "size=1M", NULL, ~VIRTIO_BLK_F_FLUSH);
    const VirtioBlk *b = virtio_blk_from(&f->guest.dev->vdev);
    assert_false(blk_write_cache(b->blk));
    assert_int_equal(config(f, 32, 1), 0);
    virtio_guest_reset(&f->guest);
    assert_true(blk_write_cache(b->blk));
}

static void resize_disk(void *opaque)
{
    enter_main();
    enter_coroutine();
    g_assert_cmpint(blk_co_truncate(opaque, 2 << 20, NULL), ==, 0);
}

static void a_resize_is_told(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    uint32_t generation = virtio_guest_common_read(&f->guest, VIRTIO_COMMON_GENERATION, 1);
    assert_int_equal(config(f, 0, 8), DISK_SECTORS);
    assert_int_equal(virtio_guest_common_read(&f->guest, VIRTIO_COMMON_GENERATION, 1), generation);
    virtio_bench_run(f->bench, resize_disk, virtio_blk_from(&f->guest.dev->vdev)->blk);
    virtio_bench_settle(f->bench);
    fake_machine_settle(f->bench->machine);
    assert_int_equal(fake_machine_delivered(f->bench->machine, 0x100), 1);
    assert_int_equal(config(f, 0, 8), 2 * DISK_SECTORS);
    assert_int_not_equal(virtio_guest_common_read(&f->guest, VIRTIO_COMMON_GENERATION, 1),
                         generation);
    BlkRequest r;
    blk_request_init(&r, &f->queue, 512);
    assert_int_equal(blk_request_run(&r, BLK_IN, 2 * DISK_SECTORS - 1, 512), BLK_OK);
}

static void a_read_only_disk_says_so_and_refuses(void **state)
{
    Fixture *f = *state;
    BlkRequest r;
    bring_up_disk(f, "size=1M,read-only=on", "werror=stop", ~0ull);
    assert_true(f->guest.features & VIRTIO_BLK_F_RO);
    assert_false(f->guest.features & VIRTIO_BLK_F_DISCARD);
    blk_request_init(&r, &f->queue, 512);
    assert_int_equal(blk_request_run(&r, BLK_OUT, 0, 512), BLK_IOERR);
    assert_int_equal(blk_request_run(&r, BLK_IN, 0, 512), BLK_OK);
    assert_int_equal(f->bench->machine->request_count, 0);
}

/* ---- error policies ---- */

typedef struct Policy {
    const char *properties;
    uint32_t type;
    int error;
    uint8_t status; /* BLK_PENDING: parked */
} Policy;

static void errors_do_what_the_user_chose(void **state)
{
    Fixture *f = *state;
    static const Policy policies[] = {
        {NULL, BLK_OUT, EIO, BLK_IOERR},
        {NULL, BLK_OUT, ENOSPC, BLK_PENDING},
        {NULL, BLK_IN, EIO, BLK_IOERR},
        {NULL, BLK_IN, ENOSPC, BLK_IOERR},
        {NULL, BLK_FLUSH, EIO, BLK_IOERR},
        {"werror=report", BLK_OUT, ENOSPC, BLK_IOERR},
        {"werror=ignore", BLK_OUT, EIO, BLK_OK},
        {"werror=ignore", BLK_IN, EIO, BLK_IOERR},
        {"rerror=ignore", BLK_IN, EIO, BLK_OK},
        {"werror=enospc", BLK_OUT, ENOSPC, BLK_PENDING},
        {"werror=enospc", BLK_OUT, EIO, BLK_IOERR},
        {"werror=stop", BLK_OUT, EIO, BLK_PENDING},
        {"werror=stop", BLK_FLUSH, EIO, BLK_PENDING},
        {"werror=stop", BLK_IN, EIO, BLK_IOERR},
        {"rerror=stop", BLK_IN, EIO, BLK_PENDING},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(policies); i++) {
        const Policy *p = &policies[i];
        BlkRequest r;
        bring_up_disk(f, "size=1M,manual=on", p->properties, ~0ull);
        f->bench->machine->request_count = 0;
        blk_request_init(&r, &f->queue, 512);
        blk_request_send(&r, p->type, 0, p->type == BLK_FLUSH ? 0 : 512);
        virtio_bench_settle(f->bench);
        assert_true(blk_disk_complete(&f->disk, -p->error));
        assert_int_equal(blk_request_status(&r), p->status);
        FakeRequest request = fake_machine_last_request(f->bench->machine);
        if (p->status == BLK_PENDING) {
            assert_int_equal(request.request, VM_REQUEST_STOP_IO_ERROR);
            assert_int_equal(request.detail, p->error);
        } else {
            assert_int_equal(request.request, -1);
        }
        virtio_bench_unplug(f->bench, f->dev); /* what is parked is not in flight */
        blk_disk_close(&f->disk);
        f->dev = NULL;
    }
}

/* ---- properties ---- */

static void impossible_disks_are_refused(void **state)
{
    Fixture *f = *state;
    static const struct {
        const char *properties, *says;
    } bad[] = {
        {"", "drive="},
        {"drive=nobody", "nobody"},
        {"drive=disk,iothread=nobody", "iothread=nobody"},
        {"drive=disk,queue-size=100", "power of two"},
        {"drive=disk,queue-size=2048", "queue-size"},
        {"drive=disk,num-queues=65", "num-queues"},
        {"drive=disk,logical_block_size=513", "powers of two"},
        {"drive=disk,logical_block_size=4096", "physical"},
        {"drive=disk,opt_io_size=100", "opt_io_size"},
        {"drive=disk,serial=123456789012345678901", "20 bytes"},
        {"drive=disk,rerror=enospc", "rerror"},
        {"drive=disk,packed=on", "packed"},
        {"drive=disk,scsi=on", "scsi"},
    };
    blk_disk_open(&f->disk, f->bench, "size=1M");
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        Device *dev;
        g_autofree char *text =
            virtio_bench_try_device(f->bench, "virtio-blk-pci", bad[i].properties, NULL, &dev);
        assert_non_null(text);
        if (!strstr(text, bad[i].says)) {
            fail_msg("'%s' does not speak of %s", text, bad[i].says);
        }
    }
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", "drive=disk,iothread=io");
}

static void the_state_table_leaves_no_gap(void **state)
{
    GError *error = NULL;
    if (!state_check_coverage(device_type_find("virtio-blk-pci")->state, &error)) {
        fail_msg("%s", error->message);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(what_is_written_can_be_read),
        T(the_used_length_is_what_was_device_writable),
        T(framing_is_the_drivers_own),
        T(an_indirect_request_works),
        T(the_serial_number_is_the_id),
        T(discard_and_write_zeroes_clear_their_range),
        T(wrong_ranges_are_refused),
        T(what_was_not_negotiated_is_unsupported),
        T(sectors_that_are_not_there_are_errors),
        T(requests_are_whole_logical_blocks),
        T(a_request_without_header_needs_a_reset),
        T(a_request_without_status_needs_a_reset),
        T(every_queue_serves),
        T(the_configuration_says_what_the_disk_is),
        T(the_guest_may_choose_the_cache_mode),
        T(a_driver_that_cannot_flush_gets_writethrough),
        T(a_resize_is_told),
        T(a_read_only_disk_says_so_and_refuses),
        T(errors_do_what_the_user_chose),
        T(impossible_disks_are_refused),
        T(the_state_table_leaves_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
