/* SPDX-License-Identifier: Apache-2.0 */
/* A SCSI disk of 1 MiB, or a CD, at target 0, LUN 0. */
#ifndef SKIFF_TESTS_HW_SCSI_SCSI_BENCH_H
#define SKIFF_TESTS_HW_SCSI_SCSI_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "tests/support/scsi_guest.h"

#define DISK_BLOCKS 2048u
#define GOOD SCSI_STATUS_GOOD
#define CHECK SCSI_STATUS_CHECK_CONDITION
/* 0xKAAQQ as of scsi_call_sense() */
#define INVALID_FIELD 0x52400u
#define INVALID_LIST 0x52600u
#define LIST_LENGTH 0x51a00u
#define OUT_OF_RANGE 0x52100u
#define INVALID_COMMAND 0x52000u
#define PROTECTED 0x72700u
#define NO_MEDIUM 0x23a00u

typedef struct Fixture {
    ScsiGuest g;
    ScsiCall call;
    bool open;
} Fixture;

static int set_up(void **state)
{
    *state = g_new0(Fixture, 1);
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->open) {
        scsi_guest_close(&f->g);
    }
    g_free(f);
    return 0;
}

static inline void bring_up_as(Fixture *f, const char *disk, const char *type,
                               const char *properties)
{
    g_autofree char *all =
        g_strdup_printf("drive=disk%s%s", properties ? "," : "", properties ? properties : "");
    scsi_guest_open(&f->g, disk, "num_queues=1", ~0ull);
    f->open = true;
    scsi_guest_add(&f->g, type, all);
    scsi_call_init(&f->call, &f->g.requests[0], 256 << 10);
    scsi_call_clear_attentions(&f->call);
}

static inline void bring_up(Fixture *f, const char *properties)
{
    bring_up_as(f, "size=1M", "scsi-hd", properties);
}

#define CDB(...) ((const uint8_t[32]){__VA_ARGS__})
#define RUN_IN(f, bytes, ...) scsi_call_run(&(f)->call, CDB(__VA_ARGS__), SCSI_DIR_IN, bytes)
#define RUN_OUT(f, bytes, ...) scsi_call_run(&(f)->call, CDB(__VA_ARGS__), SCSI_DIR_OUT, bytes)
#define RUN(f, ...) scsi_call_run(&(f)->call, CDB(__VA_ARGS__), SCSI_DIR_NONE, 0)
#define assert_check(run, sense)                                                                   \
    do {                                                                                           \
        assert_int_equal(run, CHECK);                                                              \
        assert_int_equal(scsi_call_sense(&f->call), sense);                                        \
    } while (0)

#endif
