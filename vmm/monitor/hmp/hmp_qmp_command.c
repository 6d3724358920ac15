/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor over QMP. */
#include "vmm/monitor/hmp/hmp.h"
#include "vmm/monitor/commands/qmp_cpu.h"

static struct json_object *qmp_human_monitor_command(QmpCall *call, struct json_object *args,
                                                     GError **error)
{
    enter_main();
    enter_coroutine();
    unsigned cpu;
    if (!qmp_arg_cpu(call, args, &cpu, error)) {
        return NULL;
    }
    g_autoptr(GString) out = g_string_new(NULL);
    hmp_co_execute_on(call->vm, &cpu, qmp_arg_str(args, "command-line"), out);
    g_string_replace(out, "\n", "\r\n", 0); /* as QEMU has it */
    g_autofree char *text =
        g_utf8_make_valid(out->str, (gssize)out->len); /* a path may be invalid UTF-8 */
    return json_object_new_string(text);
}

static const QmpType qmp_human_monitor_command_args = {
    .name = "human-monitor-command-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"command-line", &qmp_str, .doc = "as typed at the monitor's prompt"},
        {"cpu-index", &qmp_int, true, "the vCPU for commands that use one; default: 0"}),
};

static const QmpCommand qmp_monitor_commands[] = {
    {
        .name = "human-monitor-command",
        .args = &qmp_human_monitor_command_args,
        .ret = &qmp_str,
        .run = qmp_human_monitor_command,
        .doc = "Executes a command of the human monitor and returns its output, including errors. "
               "For people: the output may change.",
    },
    {0},
};
static const QmpEvent qmp_monitor_events[] = {{0}};

QMP_GROUP(monitor);
