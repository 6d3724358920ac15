/* SPDX-License-Identifier: Apache-2.0 */
/* SCSI commands of every device: INQUIRY, VPD, REPORT LUNS, sense, mode pages. */
#include "tests/hw/scsi/scsi_bench.h"

static const uint8_t *data(Fixture *f)
{
    return scsi_call_data(&f->call);
}

/* ---- INQUIRY ---- */

static void a_disk_has_standard_inquiry_data(void **state)
{
    Fixture *f = *state;
    bring_up(f, "vendor=ACME,product=Disk,ver=7");
    assert_int_equal(RUN_IN(f, 96, 0x12, 0, 0, 0, 96), GOOD);
    static const uint8_t head[8] = {0x00, 0x00, 0x05, 0x12, 31, 0, 0, 0x12};
    assert_memory_equal(data(f), head, 8);
    assert_memory_equal(data(f) + 8, "ACME    Disk            7   ", 28);
    assert_int_equal(scsi_call_resid(&f->call), 60);
}

static void a_cd_drive_is_removable(void **state)
{
    Fixture *f = *state;
    bring_up_as(f, "size=1M", "scsi-cd", NULL);
    assert_int_equal(RUN_IN(f, 36, 0x12, 0, 0, 0, 36), GOOD);
    assert_int_equal(data(f)[0], 0x05);
    assert_int_equal(data(f)[1], 0x80);
    assert_memory_equal(data(f) + 8, "QEMU    QEMU CD-ROM     2.5+", 28);
}

static void inquiry_data_is_cut_to_the_allocation_length(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    memset(scsi_call_data(&f->call), 0xee, 64);
    assert_int_equal(RUN_IN(f, 5, 0x12, 0, 0, 0, 5), GOOD);
    assert_int_equal(data(f)[4], 31);
    assert_int_equal(data(f)[5], 0xee);
    assert_int_equal(RUN(f, 0x12), GOOD);
    assert_check(RUN_IN(f, 36, 0x12, 0, 0x80, 0, 36), INVALID_FIELD); /* a page without EVPD */
}

static void vital_product_data_pages_are_listed(void **state)
{
    Fixture *f = *state;
    bring_up(f, "serial=S1");
    static const uint8_t pages[] = {0, 0, 0, 6, 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};
    assert_int_equal(RUN_IN(f, 255, 0x12, 1, 0, 0, 255), GOOD);
    assert_memory_equal(data(f), pages, sizeof(pages));
    assert_int_equal(scsi_call_resid(&f->call), 255 - sizeof(pages));
    assert_int_equal(RUN_IN(f, 255, 0x12, 1, 0x80, 0, 255), GOOD);
    assert_memory_equal(data(f), "\0\x80\0\2S1", 6);
    assert_check(RUN_IN(f, 255, 0x12, 1, 0x81, 0, 255), INVALID_FIELD);
}

static void a_disk_without_serial_has_no_page_80(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    static const uint8_t pages[] = {0, 0, 0, 5, 0x00, 0x83, 0xb0, 0xb1, 0xb2};
    assert_int_equal(RUN_IN(f, 255, 0x12, 1, 0, 0, 255), GOOD);
    assert_memory_equal(data(f), pages, sizeof(pages));
    assert_check(RUN_IN(f, 255, 0x12, 1, 0x80, 0, 255), INVALID_FIELD);
}

static void the_identification_has_the_device_id_and_the_wwn(void **state)
{
    Fixture *f = *state;
    bring_up(f, "device_id=dev,wwn=0x5000c50015ea71ac,serial=S1");
    static const uint8_t page[] = {0,    0x83, 0,    19,   0x02, 0x00, 0,   3,
                                   'd',  'e',  'v',  0x01, 0x03, 0,    8,   0x50,
                                   0x00, 0xc5, 0x00, 0x15, 0xea, 0x71, 0xac};
    assert_int_equal(RUN_IN(f, 255, 0x12, 1, 0x83, 0, 255), GOOD);
    assert_memory_equal(data(f), page, sizeof(page));
}

static void block_pages_show_the_limits_of_the_disk(void **state)
{
    Fixture *f = *state;
    bring_up(f, "logical_block_size=512,physical_block_size=4096,min_io_size=4096,opt_io_size=1M,"
                "discard_granularity=8192,max_unmap_size=1M,rotation_rate=7200,max_io_size=2M");
    static const uint8_t limits[36] = {0, 0xb0, 0,    0x3c, 1, 0, 0, 8,  /* WSNZ; granularity */
                                       0, 0,    0x10, 0,    0, 0, 8, 0,  /* most, best transfer */
                                       0, 0,    0,    0,    0, 0, 8, 0,  /* UNMAP: blocks */
                                       0, 0,    0,    255,  0, 0, 0, 16, /* descriptors; unit */
                                       0, 0,    0,    0};
    assert_int_equal(RUN_IN(f, 64, 0x12, 1, 0xb0, 0, 64), GOOD);
    assert_memory_equal(data(f), limits, sizeof(limits));
    assert_int_equal(scsi_call_resid(&f->call), 0);
    assert_int_equal(RUN_IN(f, 64, 0x12, 1, 0xb1, 0, 64), GOOD);
    assert_memory_equal(data(f), "\0\xb1\0\x3c\x1c\x20\0\0", 8);
    assert_int_equal(RUN_IN(f, 64, 0x12, 1, 0xb2, 0, 64), GOOD);
    assert_memory_equal(data(f), "\0\xb2\0\4\0\xe0\2\0", 8);
}

static void a_disk_without_discard_is_fully_provisioned(void **state)
{
    Fixture *f = *state;
    bring_up(f, "discard_granularity=0");
    assert_int_equal(RUN_IN(f, 64, 0x12, 1, 0xb2, 0, 64), GOOD);
    assert_memory_equal(data(f), "\0\xb2\0\4\0\xe0\1\0", 8);
    assert_int_equal(RUN_IN(f, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), GOOD);
    assert_int_equal(data(f)[14], 0);
}

/* ---- REPORT LUNS and absent LUNs ---- */

static void luns_are_reported_in_order(void **state)
{
    Fixture *f = *state;
    bring_up(f, "lun=3");
    scsi_guest_add(&f->g, "scsi-cd", "scsi-id=0,lun=300");
    scsi_guest_add(&f->g, "scsi-cd", "scsi-id=7,lun=0");
    static const uint8_t list[] = {0, 0, 0, 24, 0, 0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0,
                                   0, 3, 0, 0,  0, 0, 0, 0, 0x41, 0x2c, 0, 0, 0, 0, 0, 0};
    f->call.lun = 3;
    assert_int_equal(RUN_IN(f, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64), GOOD);
    assert_memory_equal(data(f), list, sizeof(list));
    assert_int_equal(RUN_IN(f, 16, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16), GOOD);
    assert_memory_equal(data(f), list, 16);
    assert_check(RUN_IN(f, 15, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15), INVALID_FIELD);
    assert_check(RUN_IN(f, 16, 0xa0, 0, 3, 0, 0, 0, 0, 0, 0, 16), INVALID_FIELD);
    assert_int_equal(RUN_IN(f, 16, 0xa0, 0, 1, 0, 0, 0, 0, 0, 0, 16), GOOD);
    assert_memory_equal(data(f), "\0\0\0\0\0\0\0\0", 8); /* no well known logical unit */
}

static void a_lun_that_does_not_exist_says_so(void **state)
{
    Fixture *f = *state;
    bring_up(f, "scsi-id=2,lun=3");
    f->call.target = 2;
    f->call.lun = 5;
    assert_int_equal(RUN_IN(f, 36, 0x12, 0, 0, 0, 36), GOOD);
    assert_int_equal(data(f)[0], 0x7f);
    assert_check(RUN(f, 0x00), 0x52500u);
    assert_int_equal(RUN_IN(f, 18, 0x03, 0, 0, 0, 18), GOOD);
    assert_int_equal(data(f)[2], 5);
    assert_int_equal(data(f)[12], 0x25);
    f->call.lun = 0;
    assert_int_equal(RUN_IN(f, 36, 0x12, 0, 0, 0, 36), GOOD);
    assert_int_equal(data(f)[0], 0x3f);
    assert_int_equal(RUN_IN(f, 16, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16), GOOD);
    assert_int_equal(data(f)[3], 16);
    f->call.target = 1;
    assert_int_equal(RUN(f, 0x00), SCSI_CALL_RESPONSE | VIRTIO_SCSI_S_BAD_TARGET);
}

/* ---- unit attentions and sense ---- */

static void a_reset_is_reported_once(void **state)
{
    Fixture *f = *state;
    scsi_guest_open(&f->g, "size=1M", "num_queues=1", ~0ull);
    f->open = true;
    scsi_guest_add(&f->g, "scsi-hd", "drive=disk");
    scsi_call_init(&f->call, &f->g.requests[0], 4096);
    assert_int_equal(RUN_IN(f, 36, 0x12, 0, 0, 0, 36), GOOD); /* does not report it */
    assert_int_equal(RUN_IN(f, 16, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16), GOOD);
    assert_check(RUN(f, 0x00), 0x62900u);
    assert_int_equal(RUN(f, 0x00), GOOD);
    virtio_guest_reset(&f->g.guest);
    scsi_guest_bring_up(&f->g, ~0ull);
    scsi_call_init(&f->call, &f->g.requests[0], 4096);
    assert_int_equal(RUN_IN(f, 18, 0x03, 0, 0, 0, 18), GOOD); /* REQUEST SENSE takes it */
    assert_int_equal(data(f)[2], 6);
    assert_int_equal(data(f)[12], 0x29);
    assert_int_equal(RUN(f, 0x00), GOOD);
}

static void request_sense_has_both_formats(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    assert_int_equal(RUN_IN(f, 252, 0x03, 0, 0, 0, 252), GOOD);
    assert_memory_equal(data(f), "\x70\0\0\0\0\0\0\xa\0\0\0\0\0\0\0\0\0\0", 18);
    assert_int_equal(scsi_call_resid(&f->call), 252 - 18);
    assert_int_equal(RUN_IN(f, 252, 0x03, 1, 0, 0, 252), GOOD);
    assert_memory_equal(data(f), "\x72\0\0\0\0\0\0\0", 8);
    assert_int_equal(scsi_call_resid(&f->call), 252 - 8);
}

static void the_change_of_luns_is_reported_to_the_target(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    scsi_guest_add(&f->g, "scsi-cd", "scsi-id=0,lun=1");
    assert_check(RUN(f, 0x00), 0x63f0eu);
    scsi_guest_remove(&f->g, f->g.luns[1]);
    assert_int_equal(RUN_IN(f, 16, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16), GOOD); /* clears it */
    assert_int_equal(RUN(f, 0x00), GOOD);
    scsi_guest_add(&f->g, "scsi-cd", "scsi-id=1,lun=1"); /* another target */
    assert_int_equal(RUN(f, 0x00), GOOD);
}

static void unknown_commands_are_refused(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    assert_check(RUN(f, 0x5e), INVALID_COMMAND); /* PERSISTENT RESERVE IN */
    assert_check(RUN(f, 0x5f), INVALID_COMMAND);
    assert_check(RUN(f, 0x43), INVALID_COMMAND); /* READ TOC, of a CD */
    assert_check(RUN(f, 0x7f, 0, 0, 0, 0, 0, 0, 24), INVALID_COMMAND);
    assert_check(RUN(f, 0x7f, 0, 0, 0, 0, 0, 0, 255), INVALID_COMMAND);
    assert_check(RUN(f, 0xc0), INVALID_COMMAND);
    assert_check(RUN(f, 0x9e, 0x11), INVALID_COMMAND);
}

/* ---- mode pages ---- */

static void mode_sense_shows_the_pages(void **state)
{
    Fixture *f = *state;
    bring_up(f, "dpofua=on");
    assert_int_equal(RUN_IN(f, 255, 0x1a, 0, 0x3f, 0, 255), GOOD);
    static const uint8_t head[] = {55, 0, 0x10, 8, 0, 0, 8, 0, 0, 0, 2, 0, 0x01, 10, 0x80};
    assert_memory_equal(data(f), head, sizeof(head));
    assert_int_equal(scsi_call_resid(&f->call), 255 - 56);
    assert_int_equal(data(f)[24], 0x08);
    assert_int_equal(data(f)[26], 0x04); /* WCE */
    assert_int_equal(data(f)[44], 0x0a);
    assert_int_equal(RUN_IN(f, 20, 0x1a, 8, 0x48, 0, 20),
                     GOOD); /* changeable, without descriptor */
    assert_memory_equal(data(f), "\x17\0\x10\0\x08\x12\x04", 7);
    assert_int_equal(RUN_IN(f, 64, 0x5a, 0, 0x08, 0, 0, 0, 0, 0, 64), GOOD);
    assert_memory_equal(data(f), "\0\x22\0\x10\0\0\0\x08\0\0\x08\0\0\0\2\0\x08\x12\x04", 19);
    assert_check(RUN_IN(f, 64, 0x1a, 0, 0xc8, 0, 64), 0x53900u);
    assert_check(RUN_IN(f, 64, 0x1a, 0, 0x2a, 0, 64), INVALID_FIELD);
    assert_check(RUN_IN(f, 64, 0x1a, 0, 0x08, 1, 64), INVALID_FIELD);
}

static void a_read_only_disk_is_write_protected(void **state)
{
    Fixture *f = *state;
    bring_up_as(f, "size=1M,read-only=on", "scsi-hd", NULL);
    assert_int_equal(RUN_IN(f, 64, 0x1a, 8, 0x08, 0, 64), GOOD);
    assert_int_equal(data(f)[2], 0x80);
    assert_check(RUN_OUT(f, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1), PROTECTED);
    assert_check(RUN_OUT(f, 512, 0x41, 0, 0, 0, 0, 0, 0, 0, 1), PROTECTED);
}

static unsigned mode_select(Fixture *f, const uint8_t *list, size_t bytes)
{
    memcpy(scsi_call_data(&f->call), list, bytes);
    return RUN_OUT(f, (uint32_t)bytes, 0x15, 0x10, 0, 0, (uint8_t)bytes);
}

static void mode_select_turns_the_write_cache_off(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    uint8_t list[24] = {0, 0, 0, 0, 0x08, 18};
    assert_int_equal(mode_select(f, list, 24), GOOD);
    assert_int_equal(RUN_IN(f, 24, 0x1a, 8, 0x08, 0, 24), GOOD);
    assert_int_equal(data(f)[6], 0);
    assert_false(blk_write_cache(blk_find("scsi-hd")));
    list[6] = 0x04;
    assert_int_equal(mode_select(f, list, 24), GOOD);
    assert_true(blk_write_cache(blk_find("scsi-hd")));
}

static void mode_select_with_an_error_changes_nothing(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    uint8_t list[36] = {0, 0, 0, 0, 0x08, 18};
    list[24] = 0x0a;
    list[25] = 10;
    list[28] = 1; /* a bit that cannot change; the current page has 0x10 in byte 3 */
    assert_check(mode_select(f, list, 36), INVALID_LIST);
    assert_true(blk_write_cache(blk_find("scsi-hd")));
    assert_check(mode_select(f, list, 23), INVALID_LIST); /* cut short */
    assert_check(mode_select(f, list, 3), LIST_LENGTH);
    list[3] = 8;
    assert_check(mode_select(f, list, 8), LIST_LENGTH);
    assert_check(mode_select(f, list, 36), INVALID_LIST);              /* another block size */
    assert_check(RUN_OUT(f, 24, 0x15, 0x11, 0, 0, 24), INVALID_FIELD); /* SP */
    assert_check(RUN_OUT(f, 24, 0x15, 0x00, 0, 0, 24), INVALID_FIELD); /* not PF */
    assert_int_equal(RUN(f, 0x15, 0x10), GOOD);
    assert_check(RUN_OUT(f, 129, 0x15, 0x10, 0, 0, 129), LIST_LENGTH);
}

static void sense_data_takes_the_format_of_the_control_page(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    const uint8_t list[] = {0, 0, 0, 0, 0x0a, 10, 0x04, 0x10, 0, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(mode_select(f, list, sizeof(list)), GOOD);
    assert_check(RUN(f, 0x5e), INVALID_COMMAND);
    const uint8_t *response = virtio_bench_ram(f->g.bench, f->call.response, 108);
    assert_int_equal(response[12], 0x72);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(a_disk_has_standard_inquiry_data),
        T(a_cd_drive_is_removable),
        T(inquiry_data_is_cut_to_the_allocation_length),
        T(vital_product_data_pages_are_listed),
        T(a_disk_without_serial_has_no_page_80),
        T(the_identification_has_the_device_id_and_the_wwn),
        T(block_pages_show_the_limits_of_the_disk),
        T(a_disk_without_discard_is_fully_provisioned),
        T(luns_are_reported_in_order),
        T(a_lun_that_does_not_exist_says_so),
        T(a_reset_is_reported_once),
        T(request_sense_has_both_formats),
        T(the_change_of_luns_is_reported_to_the_target),
        T(unknown_commands_are_refused),
        T(mode_sense_shows_the_pages),
        T(a_read_only_disk_is_write_protected),
        T(mode_select_turns_the_write_cache_off),
        T(mode_select_with_an_error_changes_nothing),
        T(sense_data_takes_the_format_of_the_control_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
