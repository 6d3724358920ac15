/* SPDX-License-Identifier: Apache-2.0 */
/* A CD drive: MMC-6 commands, the tray. */
#include "tests/hw/scsi/scsi_bench.h"

#define REMOVAL_PREVENTED 0x55302u

static const uint8_t *data(Fixture *f)
{
    return scsi_call_data(&f->call);
}

static void bring_up_cd(Fixture *f)
{
    bring_up_as(f, "size=1M", "scsi-cd", NULL);
}

static void a_cd_has_blocks_of_2048_bytes(void **state)
{
    Fixture *f = *state;
    bring_up_cd(f);
    assert_int_equal(RUN_IN(f, 8, 0x25), GOOD);
    assert_memory_equal(data(f), "\0\0\1\xff\0\0\x08\0", 8);
    uint8_t *disk = blk_disk_data(&f->g.disk);
    for (unsigned i = 0; i < 4096; i++) {
        disk[2048 + i] = (uint8_t)(i * 3);
    }
    assert_int_equal(RUN_IN(f, 4096, 0x28, 0, 0, 0, 0, 1, 0, 0, 2), GOOD);
    assert_memory_equal(data(f), disk + 2048, 4096);
    assert_check(RUN_IN(f, 4096, 0x28, 0, 0, 0, 1, 0xff, 0, 0, 2), OUT_OF_RANGE);
    assert_check(RUN_OUT(f, 2048, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1), INVALID_COMMAND);
    assert_check(RUN_OUT(f, 8, 0x42, 0, 0, 0, 0, 0, 0, 0, 8), INVALID_COMMAND);
}

static void the_table_of_contents_has_one_track(void **state)
{
    Fixture *f = *state;
    bring_up_cd(f);
    static const uint8_t lba[] = {0, 18, 1, 1,    0,    0x14, 1, 0, 0, 0,
                                  0, 0,  0, 0x14, 0xaa, 0,    0, 0, 2, 0};
    static const uint8_t msf[] = {0, 18, 1, 1,    0,    0x14, 1, 0, 0, 0,
                                  2, 0,  0, 0x14, 0xaa, 0,    0, 0, 8, 62};
    static const uint8_t session[] = {0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0};
    assert_int_equal(RUN_IN(f, 255, 0x43, 0, 0, 0, 0, 0, 0, 0, 255), GOOD);
    assert_memory_equal(data(f), lba, sizeof(lba));
    assert_int_equal(scsi_call_resid(&f->call), 255 - sizeof(lba));
    assert_int_equal(RUN_IN(f, 255, 0x43, 2, 0, 0, 0, 0, 0, 0, 255), GOOD);
    assert_memory_equal(data(f), msf, sizeof(msf));
    assert_int_equal(RUN_IN(f, 255, 0x43, 0, 0, 0, 0, 0, 0xaa, 0, 255), GOOD); /* lead-out */
    assert_memory_equal(data(f), "\0\x0a\1\1\0\x14\xaa\0\0\0\2\0", 12);
    assert_check(RUN_IN(f, 255, 0x43, 0, 0, 0, 0, 0, 2, 0, 255), INVALID_FIELD);
    assert_int_equal(RUN_IN(f, 255, 0x43, 0, 1, 0, 0, 0, 0, 0, 255), GOOD);
    assert_memory_equal(data(f), session, sizeof(session));
    assert_int_equal(RUN_IN(f, 255, 0x43, 0, 2, 0, 0, 0, 0, 0, 255), GOOD);
    assert_memory_equal(data(f), "\0\x2e\1\1\1\x14\0\xa0", 8);
    assert_check(RUN_IN(f, 255, 0x43, 0, 5, 0, 0, 0, 0, 0, 255), INVALID_FIELD);
}

static void the_configuration_shows_the_profile(void **state)
{
    Fixture *f = *state;
    bring_up_cd(f);
    static const uint8_t full[40] = {0,    0, 0, 36, 0, 0, 0, 8, 0,    0,    3,   8, 0,
                                     0x10, 0, 0, 0,  8, 1, 0, 0, 1,    0x0b, 8,   0, 0,
                                     0,    1, 1, 0,  0, 0, 0, 3, 0x0b, 4,    0x39};
    assert_int_equal(RUN_IN(f, 40, 0x46, 0, 0, 0, 0, 0, 0, 0, 40), GOOD);
    assert_memory_equal(data(f), full, sizeof(full));
    assert_check(RUN_IN(f, 40, 0x46, 3, 0, 0, 0, 0, 0, 0, 40), INVALID_FIELD);
}

static void the_disc_is_complete(void **state)
{
    Fixture *f = *state;
    bring_up_cd(f);
    assert_int_equal(RUN_IN(f, 34, 0x51, 0, 0, 0, 0, 0, 0, 0, 34), GOOD);
    assert_memory_equal(data(f), "\0\x20\x0e\1\1\1\1\x20", 8);
    assert_check(RUN_IN(f, 34, 0x51, 1, 0, 0, 0, 0, 0, 0, 34), INVALID_FIELD);
    assert_int_equal(RUN_IN(f, 8, 0xbd, 0, 0, 0, 0, 0, 0, 0, 8), SCSI_CALL_RESPONSE | 1);
    assert_int_equal(RUN_IN(f, 8, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8), GOOD);
    assert_memory_equal(data(f), "\0\0\0\0\0\0\0\0", 8);
}

static void the_capabilities_page_has_the_lock(void **state)
{
    Fixture *f = *state;
    bring_up_cd(f);
    assert_int_equal(RUN_IN(f, 64, 0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64), GOOD);
    assert_memory_equal(data(f), "\0\x1c\0\0\0\0\0\0\x2a\x14", 10);
    assert_int_equal(data(f)[14], 0x29);
    assert_int_equal(RUN(f, 0x1e, 0, 0, 0, 1), GOOD);
    assert_int_equal(RUN_IN(f, 64, 0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64), GOOD);
    assert_int_equal(data(f)[14], 0x2b);
}

static void the_guest_opens_and_closes_the_tray(void **state)
{
    Fixture *f = *state;
    bring_up_cd(f);
    assert_int_equal(RUN(f, 0x1b, 0, 0, 0, 2), GOOD);
    assert_check(RUN(f, 0x00), NO_MEDIUM);
    assert_check(RUN_IN(f, 2048, 0x28, 0, 0, 0, 0, 0, 0, 0, 1), NO_MEDIUM);
    assert_int_equal(RUN_IN(f, 8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), GOOD);
    assert_memory_equal(data(f), "\0\6\4\x10\0\1\0\0", 8); /* open, no medium */
    assert_int_equal(RUN_IN(f, 8, 0x46, 0, 0, 0, 0, 0, 0, 0, 8), GOOD);
    assert_memory_equal(data(f) + 6, "\0\0", 2);
    assert_int_equal(RUN(f, 0x1b, 0, 0, 0, 3), GOOD);
    assert_int_equal(RUN(f, 0x00), GOOD);
    assert_int_equal(RUN_IN(f, 8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), GOOD);
    assert_memory_equal(data(f), "\0\6\4\x10\0\2\0\0", 8);
}

static void a_locked_tray_stays_closed(void **state)
{
    Fixture *f = *state;
    bring_up_cd(f);
    assert_int_equal(RUN(f, 0x1e, 0, 0, 0, 1), GOOD);
    assert_check(RUN(f, 0x1b, 0, 0, 0, 2), REMOVAL_PREVENTED);
    assert_int_equal(RUN(f, 0x00), GOOD);
    assert_int_equal(RUN(f, 0x1b, 0, 0, 0, 0x10 | 2), GOOD); /* a power condition moves no tray */
    assert_int_equal(RUN(f, 0x00), GOOD);
    assert_int_equal(RUN(f, 0x1e), GOOD);
    assert_int_equal(RUN(f, 0x1b, 0, 0, 0, 2), GOOD);
    assert_check(RUN(f, 0x00), NO_MEDIUM);
}

static void events_of_other_classes_do_not_exist(void **state)
{
    Fixture *f = *state;
    bring_up_cd(f);
    assert_check(RUN_IN(f, 8, 0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8), INVALID_FIELD); /* not polled */
    assert_int_equal(RUN_IN(f, 8, 0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8), GOOD);
    assert_memory_equal(data(f), "\0\2\x80\x10", 4);
}

static void an_empty_drive_is_not_ready(void **state)
{
    Fixture *f = *state;
    scsi_guest_open(&f->g, "size=1M", "num_queues=1", ~0ull);
    f->open = true;
    scsi_guest_add(&f->g, "scsi-cd", NULL);
    scsi_call_init(&f->call, &f->g.requests[0], 4096);
    assert_check(RUN(f, 0x00), 0x62900u);
    assert_check(RUN(f, 0x00), NO_MEDIUM);
    assert_check(RUN_IN(f, 8, 0x25), NO_MEDIUM);
    assert_check(RUN_IN(f, 64, 0x43, 0, 0, 0, 0, 0, 0, 0, 64), NO_MEDIUM);
    assert_int_equal(RUN_IN(f, 36, 0x12, 0, 0, 0, 36), GOOD);
    assert_int_equal(RUN_IN(f, 64, 0x1a, 0, 0x3f, 0, 64), GOOD);
    assert_int_equal(RUN_IN(f, 64, 0x12, 1, 0x83, 0, 64), GOOD);
    assert_memory_equal(data(f), "\5\x83\0\0", 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(a_cd_has_blocks_of_2048_bytes),       T(the_table_of_contents_has_one_track),
        T(the_configuration_shows_the_profile), T(the_disc_is_complete),
        T(the_capabilities_page_has_the_lock),  T(the_guest_opens_and_closes_the_tray),
        T(a_locked_tray_stays_closed),          T(events_of_other_classes_do_not_exist),
        T(an_empty_drive_is_not_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
