/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qmp/qmp.h"
#include "vmm/qmp/qmp_tables.h"

const QmpCommand qmp_chardev_commands[] = {{0}};
static const QmpType vserport_change = {
    .name = "q_obj_VSERPORT_CHANGE-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "id of the virtio-serial port"},
                           {"open", &qmp_bool, .doc = "whether the guest has it open"}),
};

const QmpEvent qmp_chardev_events[] = {
    {"VSERPORT_CHANGE", &vserport_change,
     "The guest has opened or closed a virtio-serial port that has an id."},
    {0},
};
