/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of disks and CD drives. What is not listed ends with INVALID COMMAND OPERATION CODE,
 * such as PERSISTENT RESERVE IN and OUT. */
#include "hw/scsi/scsi_int.h"

#define READY SCSI_NEEDS_MEDIUM
#define KEEP SCSI_KEEPS_ATTENTION

/* clang-format off */
static const ScsiCommand commands[] = {
    /* SBC-3; the frequent ones first */
    {SCSI_READ_10, -1, SCSI_FOR_ALL, READY, SCSI_XFER_READ, scsi_run_read},
    {SCSI_WRITE_10, -1, SCSI_FOR_DISK, READY, SCSI_XFER_WRITE, scsi_run_write},
    {SCSI_READ_16, -1, SCSI_FOR_DISK, READY, SCSI_XFER_READ, scsi_run_read},
    {SCSI_WRITE_16, -1, SCSI_FOR_DISK, READY, SCSI_XFER_WRITE, scsi_run_write},
    {SCSI_SYNCHRONIZE_CACHE_10, -1, SCSI_FOR_ALL, READY, SCSI_XFER_NONE, scsi_run_synchronize_cache},
    {SCSI_SYNCHRONIZE_CACHE_16, -1, SCSI_FOR_DISK, READY, SCSI_XFER_NONE, scsi_run_synchronize_cache},
    {SCSI_READ_6, -1, SCSI_FOR_DISK, READY, SCSI_XFER_READ, scsi_run_read},
    {SCSI_READ_12, -1, SCSI_FOR_ALL, READY, SCSI_XFER_READ, scsi_run_read},
    {SCSI_WRITE_6, -1, SCSI_FOR_DISK, READY, SCSI_XFER_WRITE, scsi_run_write},
    {SCSI_WRITE_12, -1, SCSI_FOR_DISK, READY, SCSI_XFER_WRITE, scsi_run_write},
    {SCSI_VERIFY_10, -1, SCSI_FOR_ALL, READY, SCSI_XFER_VERIFY, scsi_run_verify},
    {SCSI_VERIFY_12, -1, SCSI_FOR_DISK, READY, SCSI_XFER_VERIFY, scsi_run_verify},
    {SCSI_VERIFY_16, -1, SCSI_FOR_DISK, READY, SCSI_XFER_VERIFY, scsi_run_verify},
    {SCSI_UNMAP, -1, SCSI_FOR_DISK, READY, SCSI_XFER_LIST_7, scsi_run_unmap},
    {SCSI_WRITE_SAME_10, -1, SCSI_FOR_DISK, READY, SCSI_XFER_SAME, scsi_run_write_same},
    {SCSI_WRITE_SAME_16, -1, SCSI_FOR_DISK, READY, SCSI_XFER_SAME, scsi_run_write_same},
    {SCSI_READ_CAPACITY_10, -1, SCSI_FOR_ALL, READY, SCSI_XFER_CAPACITY_10,
     scsi_run_read_capacity_10},
    {SCSI_SERVICE_ACTION_IN_16, SCSI_READ_CAPACITY_16_ACTION, SCSI_FOR_DISK, READY,
     SCSI_XFER_ALLOC_10, scsi_run_read_capacity_16},
    {SCSI_SEEK_10, -1, SCSI_FOR_ALL, READY, SCSI_XFER_NONE, scsi_run_seek},
    /* SPC-4 */
    {SCSI_TEST_UNIT_READY, -1, SCSI_FOR_ALL, READY, SCSI_XFER_NONE, scsi_run_test_unit_ready},
    {SCSI_INQUIRY, -1, SCSI_FOR_ALL, KEEP, SCSI_XFER_ALLOC_3, scsi_run_inquiry},
    {SCSI_REPORT_LUNS, -1, SCSI_FOR_ALL, KEEP, SCSI_XFER_ALLOC_6, scsi_run_report_luns},
    {SCSI_REQUEST_SENSE, -1, SCSI_FOR_ALL, KEEP, SCSI_XFER_ALLOC_4, scsi_run_request_sense},
    {SCSI_MODE_SENSE_6, -1, SCSI_FOR_ALL, 0, SCSI_XFER_ALLOC_4, scsi_run_mode_sense},
    {SCSI_MODE_SENSE_10, -1, SCSI_FOR_ALL, 0, SCSI_XFER_ALLOC_7, scsi_run_mode_sense},
    {SCSI_MODE_SELECT_6, -1, SCSI_FOR_ALL, 0, SCSI_XFER_LIST_4, scsi_run_mode_select},
    {SCSI_MODE_SELECT_10, -1, SCSI_FOR_ALL, 0, SCSI_XFER_LIST_7, scsi_run_mode_select},
    {SCSI_START_STOP_UNIT, -1, SCSI_FOR_ALL, 0, SCSI_XFER_NONE, scsi_run_start_stop},
    {SCSI_PREVENT_ALLOW, -1, SCSI_FOR_ALL, 0, SCSI_XFER_NONE, scsi_run_prevent_allow},
    /* MMC-6 */
    {SCSI_READ_TOC, -1, SCSI_FOR_CD, READY, SCSI_XFER_ALLOC_7, scsi_run_read_toc},
    {SCSI_GET_CONFIGURATION, -1, SCSI_FOR_CD, KEEP, SCSI_XFER_ALLOC_7, scsi_run_get_configuration},
    {SCSI_GET_EVENT_STATUS, -1, SCSI_FOR_CD, KEEP, SCSI_XFER_ALLOC_7, scsi_run_get_event_status},
    {SCSI_READ_DISC_INFORMATION, -1, SCSI_FOR_CD, READY, SCSI_XFER_ALLOC_7,
     scsi_run_read_disc_information},
    {SCSI_MECHANISM_STATUS, -1, SCSI_FOR_CD, 0, SCSI_XFER_ALLOC_8, scsi_run_mechanism_status},
};
/* clang-format on */

const ScsiCommand *scsi_command_find(const uint8_t *cdb, uint8_t type)
{
    uint8_t kind = type == SCSI_TYPE_CD ? SCSI_FOR_CD : SCSI_FOR_DISK;
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        const ScsiCommand *c = &commands[i];
        if (c->opcode == cdb[0] && (c->kinds & kind) &&
            (c->action < 0 || c->action == (cdb[1] & 0x1f))) {
            return c;
        }
    }
    return NULL;
}
