/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qmp/qmp_block.h"

const QmpType qmp_io_operation_type = {
    .name = "IoOperationType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("read", "write"),
    .doc = "Whether data comes from a disk or goes to it.",
};
const QmpType qmp_block_error_action = {
    .name = "BlockErrorAction",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("ignore", "report", "stop"),
    .doc = "What becomes of an I/O error: nothing, the guest is told, the VM stops.",
};
const QmpType qmp_block_device_status = {
    .name = "BlockDeviceIoStatus",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("ok", "failed", "nospace"),
    .doc = "Whether the VM was stopped by an I/O error of a disk.",
};
