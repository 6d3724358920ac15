/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol itself, and the VM as a whole: what it is, whether it runs, its end. */
#include "vmm/qmp/qmp.h"
#include "vmm/qmp/qmp_request.h"
#include "vmm/qmp/qmp_session.h"
#include "vmm/qmp/qmp_tables.h"

/* ---- the protocol ---- */

static const QmpType qmp_capability = {
    .name = "QMPCapability", .kind = QMP_KIND_ENUM, .values = QMP_VALUES("oob")};
static const QmpType qmp_capability_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_capability};
static const QmpType qmp_capabilities_args = {
    .name = "qmp_capabilities-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"enable", &qmp_capability_list, true,
                            "what is to be enabled of what the greeting offers"})};

static struct json_object *qmp_capabilities(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    struct json_object *enable = qmp_arg_get(args, "enable");
    bool oob = enable != NULL && json_object_array_length(enable) > 0;
    qmp_session_negotiate(call->session, oob, error);
    return NULL;
}

const QmpCommand qmp_control_commands[] = {
    {"qmp_capabilities", &qmp_capabilities_args, NULL, QMP_INSTANT | QMP_EARLY | QMP_NEGOTIATION,
     qmp_capabilities, "Ends the capabilities negotiation: the first command of each client."},
    {0},
};
const QmpEvent qmp_control_events[] = {{0}};
