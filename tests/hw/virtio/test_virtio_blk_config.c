/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: configuration space, error policies, properties. */
#include "tests/hw/virtio/virtio_blk_bench.h"

/* ---- configuration space ---- */

static void the_configuration_describes_the_disk(void **state)
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

static void a_resize_is_reported(void **state)
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
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.isr, 1), VIRTIO_ISR_CONFIG);
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

/* Number of errors the device has reported: written in its iothread, read when that is idle. */
static _Atomic unsigned told_count;
static DeviceIoError told;

static void take_io_error(void *opaque, const Device *dev, const DeviceIoError *e)
{
    told = *e;
    assert_string_equal(e->node, "disk");
    told_count++;
}

static void errors_follow_werror_and_rerror(void **state)
{
    Fixture *f = *state;
    f->bench->machine->env.io_error = take_io_error;
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
        assert_int_equal(told_count, i + 1);
        assert_int_equal(told.error, p->error);
        assert_int_equal(told.is_read, p->type == BLK_IN);
        assert_int_equal(told.action, p->status == BLK_PENDING ? DEVICE_IO_STOP
                                      : p->status == BLK_OK    ? DEVICE_IO_IGNORE
                                                               : DEVICE_IO_REPORT);
        if (p->status == BLK_PENDING) {
            assert_int_equal(request.request, VM_REQUEST_STOP_IO_ERROR);
            assert_int_equal(request.detail, p->error);
        } else {
            assert_int_equal(request.request, -1);
        }
        virtio_bench_unplug(f->bench, f->dev); /* a parked request is not in flight */
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

/* -device without id= twice, as -drive creates them. */
static void devices_without_an_id_do_not_collide(void **state)
{
    Fixture *f = *state;
    Device *second;
    blk_disk_open(&f->disk, f->bench, "size=1M,read-only=on");
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", "drive=disk");
    g_autofree char *text =
        virtio_bench_try_device(f->bench, "virtio-blk-pci", "drive=disk", NULL, &second);
    if (text) {
        fail_msg("%s", text);
    }
    virtio_bench_unplug(f->bench, second);
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
        T(the_configuration_describes_the_disk),
        T(the_guest_may_choose_the_cache_mode),
        T(a_driver_that_cannot_flush_gets_writethrough),
        T(a_resize_is_reported),
        T(a_read_only_disk_says_so_and_refuses),
        T(errors_follow_werror_and_rerror),
        T(impossible_disks_are_refused),
        T(devices_without_an_id_do_not_collide),
        T(the_state_table_leaves_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
