/* SPDX-License-Identifier: Apache-2.0 */
/* Block devices of the host, tested with a loop device with 4 KiB sectors. Needs root. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include "tests/block/block_test.h"

#define DEVICE_SIZE ((uint64_t)8 << 20)

static char *backing;
static char *device;
static int device_fd = -1;

/* Attaches @backing to a free loop device, which is removed when its last user closes it. */
static bool loop_attach(void)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = control >= 0 ? ioctl(control, LOOP_CTL_GET_FREE) : -1;
    if (control >= 0) {
        close(control);
    }
    if (number < 0) {
        return false;
    }
    device = g_strdup_printf("/dev/loop%d", number);
    device_fd = open(device, O_RDWR | O_CLOEXEC);
    int fd = open(backing, O_RDWR | O_CLOEXEC);
    struct loop_config config = {
        .fd = (uint32_t)fd,
        .block_size = 4096,
        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR},
    };
    bool ok = device_fd >= 0 && fd >= 0 && ioctl(device_fd, LOOP_CONFIGURE, &config) == 0;
    close(fd);
    return ok;
}

static int device_setup(void **state)
{
    backing = test_file_new(DEVICE_SIZE);
    if (!loop_attach()) {
        fprintf(stderr, "no loop device to be had: tests of host devices are skipped\n");
        g_clear_pointer(&device, g_free);
    }
    return block_test_setup(state);
}

static int device_teardown(void **state)
{
    block_test_teardown(state);
    if (device_fd >= 0) {
        close(device_fd);
    }
    test_file_free(backing);
    g_free(device);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *device_blk(const char *driver, const char *options)
{
    g_autofree char *text = g_strdup_printf("%s,filename=%s,%s", driver, device, options);
    return test_blk("disk", text, true);
}

static coroutine_fn RUNS_IN_MAIN void device_io(const char *options)
{
    BlockBackend *blk = device_blk("host_device", options);
    const uint64_t bytes = 40000;
    g_autofree uint8_t *data = g_malloc(bytes), *back = g_malloc(bytes);
    test_fill(data, bytes, 3);
    assert_int_equal(blk_size(blk), DEVICE_SIZE);
    assert_int_equal(test_io(blk, TEST_WRITE, 1000, bytes, data, BLOCK_REQ_FUA), 0);
    assert_int_equal(test_io(blk, TEST_READ, 1000, bytes, back, 0), 0);
    assert_memory_equal(data, back, bytes);
    /* Neither end is aligned to a sector of the device. */
    assert_int_equal(test_io(blk, TEST_ZERO, 1512, 30000, NULL, BLOCK_REQ_MAY_UNMAP), 0);
    memset(data + 512, 0, 30000);
    assert_int_equal(test_io(blk, TEST_READ, 1000, bytes, back, 0), 0);
    assert_memory_equal(data, back, bytes);
    assert_int_equal(test_io(blk, TEST_DISCARD, 512, DEVICE_SIZE - 1024, NULL, 0), 0);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    assert_int_equal(test_io(blk, TEST_WRITE, DEVICE_SIZE - 512, 1024, data, 0), -EINVAL);
    blk_co_free(blk);
}

static coroutine_fn RUNS_IN_MAIN void device_io_on_every_engine(void)
{
    device_io("aio=threads,discard=unmap");
    device_io("aio=threads,discard=unmap,cache.direct=on");
    device_io("aio=io_uring,discard=unmap");
    device_io("aio=io_uring,discard=unmap,cache.direct=on");
    device_io("aio=native,discard=unmap,cache.direct=on");
}

static void device_reads_what_was_written(void **state)
{
    if (device == NULL) {
        skip();
    }
    test_run(device_io_on_every_engine);
}

static coroutine_fn RUNS_IN_MAIN void device_limits(void)
{
    BlockBackend *blk = device_blk("file", "cache.direct=on");
    assert_int_equal(blk_limits(blk).request_alignment, 4096);
    assert_int_equal(blk_limits(blk).zero_alignment, 4096);
    blk_co_free(blk);
    blk = device_blk("file", "cache.direct=off");
    assert_int_equal(blk_limits(blk).request_alignment, 1);
    assert_int_equal(blk_limits(blk).zero_alignment, 4096);
    blk_co_free(blk);
}

static void device_reports_its_sector_size(void **state)
{
    if (device == NULL) {
        skip();
    }
    test_run(device_limits);
}

/* The host makes the device larger while it is open. */
static void device_grow(uint64_t size)
{
    assert_int_equal(truncate(backing, (off_t)size), 0);
    assert_int_equal(ioctl(device_fd, LOOP_SET_CAPACITY, 0), 0);
}

static coroutine_fn RUNS_IN_MAIN void device_resize(void)
{
    GError *error = NULL;
    BlockBackend *blk = device_blk("host_device", "node-name=hd");
    uint8_t data[512] = {1}, back[512];
    assert_int_equal(blk_co_truncate(blk, DEVICE_SIZE, &error), 0);
    assert_int_equal(blk_co_truncate(blk, DEVICE_SIZE * 2, &error), -ENOSPC);
    assert_non_null(strstr(error->message, "No space left on device"));
    g_clear_error(&error);
    assert_int_equal(blk_size(blk), DEVICE_SIZE);
    device_grow(DEVICE_SIZE * 2);
    assert_int_equal(blk_co_truncate(blk, DEVICE_SIZE * 2, &error), 0);
    assert_int_equal(blk_size(blk), DEVICE_SIZE * 2);
    assert_int_equal(test_io(blk, TEST_WRITE, DEVICE_SIZE * 2 - 512, 512, data, 0), 0);
    assert_int_equal(test_io(blk, TEST_READ, DEVICE_SIZE * 2 - 512, 512, back, 0), 0);
    assert_memory_equal(data, back, 512);
    assert_int_equal(blk_co_truncate(blk, DEVICE_SIZE, &error), 0);
    assert_int_equal(test_io(blk, TEST_READ, DEVICE_SIZE, 512, back, 0), -EINVAL);
    g_autofree char *text = g_strdup_printf("host_device,node-name=%s,filename=%s,cache.direct=on",
                                            block_node_name(blk_root(blk)), device);
    g_autoptr(OptDict) direct = opt_dict_parse(text, "driver", NULL);
    assert_true(block_co_reopen(&direct, 1, &error));
    assert_int_equal(blk_size(blk), DEVICE_SIZE);
    blk_co_free(blk);
}

static void device_is_resized_up_to_its_size_on_the_host(void **state)
{
    if (device == NULL) {
        skip();
    }
    test_run(device_resize);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_reads_what_was_written),
        cmocka_unit_test(device_reports_its_sector_size),
        cmocka_unit_test(device_is_resized_up_to_its_size_on_the_host),
    };
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    return cmocka_run_group_tests(tests, device_setup, device_teardown);
}
