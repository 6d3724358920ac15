/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: control of the VM, help, gdb and logging. */
#include <errno.h>
#include <string.h>
#include "util/log.h"
#include "vmm/gdb/gdbstub.h"
#include "vmm/monitor/hmp/hmp_complete.h"

/* ---- help ---- */

static void hmp_help_line(HmpCall *call, const HmpCommand *c)
{
    hmp_append_usage(call->out, c);
    hmp_printf(call, " -- %s\n", c->help);
}

/* Whether @wanted is the command's alias, its name, or the first word of its name. */
static bool hmp_help_fits(const HmpCommand *c, const char *wanted)
{
    size_t length = strlen(wanted);
    return g_strcmp0(c->alias, wanted) == 0 ||
           (strncmp(c->name, wanted, length) == 0 &&
            (c->name[length] == '\0' || c->name[length] == ' '));
}

static void hmp_help(HmpCall *call, struct json_object *args)
{
    const char *wanted = qmp_arg_str(args, "command");
    unsigned found = 0;
    for (const HmpCommand *const *table = hmp_command_tables; *table != NULL; table++) {
        for (const HmpCommand *c = *table; c->name != NULL; c++) {
            if (wanted == NULL || hmp_help_fits(c, wanted)) {
                hmp_help_line(call, c);
                found++;
            }
        }
    }
    if (found == 0) {
        hmp_unknown(call, wanted);
    }
}

/* ---- the monitor and logging ---- */

static void hmp_cpu(HmpCall *call, struct json_object *args)
{
    uint64_t index = qmp_arg_u64(args, "index", 0);
    unsigned count = vcpus_count(call->vm->machine.vcpus);
    if (index >= count) {
        hmp_printf(call, "invalid CPU index; there are 0 to %u\n", count - 1);
        return;
    }
    *call->cpu = (unsigned)index;
}

typedef struct HmpLogfile {
    const char *path;
    int error; /* errno */
} HmpLogfile;

static int hmp_logfile_in_worker(void *opaque)
{
    enter_worker();
    HmpLogfile *l = opaque;
    bool ok = log_open(l->path, log_has_timestamps());
    l->error = ok ? 0 : errno;
    return l->error;
}

static void hmp_logfile(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    HmpLogfile l = {.path = qmp_arg_str(args, "filename")};
    if (co_run_in_worker(hmp_logfile_in_worker, &l) != 0) {
        hmp_printf(call, "Error: Could not open '%s': %s\n", l.path, g_strerror(l.error));
    }
}

static void hmp_gdbserver(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    const char *device = qmp_arg_str(args, "device");
    device = device != NULL ? device : GDBSTUB_DEFAULT_DEVICE;
    if (!gdbstub_co_open(call->vm, device, &error)) {
        hmp_printf(call, "Could not open gdbserver on device '%s': %s\n", device, error->message);
    } else if (strcmp(device, "none") == 0) {
        hmp_printf(call, "Disabled gdbserver\n");
    } else {
        hmp_printf(call, "Waiting for gdb connection on device '%s'\n", device);
    }
}

static void hmp_trace_event(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *qmp = json_object_new_object();
    qmp_put_str(qmp, "name", qmp_arg_str(args, "name"));
    qmp_put_bool(qmp, "enable", qmp_arg_bool(args, "option", false));
    json_object_put(hmp_co_qmp(call, "trace-event-set-state", qmp));
}

/* clang-format off */
const HmpCommand hmp_control_commands[] = {
    {"help", "?",
     HMP_PARAMS(HMP_PARAM("command", REST, .optional = true, .complete = hmp_names_commands)),
     "list the commands, or describe one", .run = hmp_help},
    {"stop", "s", NULL, "stop the VM", .qmp = "stop"},
    {"cont", "c", NULL, "start or continue the VM", .qmp = "cont"},
    {"system_reset", NULL, NULL, "press the reset button", .qmp = "system_reset"},
    {"system_powerdown", NULL, NULL, "press the power button; the guest decides what to do",
     .qmp = "system_powerdown"},
    {"nmi", NULL, NULL, "press the NMI button", .qmp = "inject-nmi"},
    {"balloon", NULL, HMP_PARAMS(HMP_PARAM("value", SIZE)),
     "ask the guest to do with so much memory, in MiB", .qmp = "balloon"},
    {"quit", "q", NULL, "end the VM", .qmp = "quit"},
    {"set_action", NULL, HMP_PARAMS(HMP_PARAM("panic", OPTS)),
     "set the reaction to a reboot, shutdown, panic or watchdog, as -action", .qmp = "set-action"},
    {"watchdog_action", NULL, HMP_PARAMS(HMP_PARAM("action", WORD)),
     "set the reaction to a watchdog that expires", .qmp = "watchdog-set-action"},
    {"cpu", NULL, HMP_PARAMS(HMP_PARAM("index", INT)),
     "select the processor for other commands", .run = hmp_cpu},
    {"gdbserver", NULL, HMP_PARAMS(HMP_PARAM("device", WORD, .optional = true)),
     "serve gdb, on tcp::1234 or a device as for -gdb; none ends it", .run = hmp_gdbserver},
    {"savevm-start", NULL, HMP_PARAMS(HMP_PARAM("statefile", WORD, .optional = true)),
     "save the machine to a file and stop it; without one only stop it", .qmp = "savevm-start"},
    {"savevm-end", NULL, NULL, "let the VM run again after savevm-start, or cancel that",
     .qmp = "savevm-end"},
    {"x-rewind-point", NULL, NULL, "hold the machine as it is in memory, for x-rewind",
     .qmp = "x-rewind-point"},
    {"x-rewind", NULL, NULL, "go back to the point of x-rewind-point", .qmp = "x-rewind"},
    {"x-rewind-end", NULL, NULL, "give the point of x-rewind-point up", .qmp = "x-rewind-end"},
    {"trace-event", NULL,
     HMP_PARAMS(HMP_PARAM("name", WORD, .complete = hmp_names_trace_events),
                HMP_PARAM("option", SWITCH)),
     "turn trace events on or off, by name with * and ?", .run = hmp_trace_event},
    {"logfile", NULL, HMP_PARAMS(HMP_PARAM("filename", WORD)),
     "write the log to a file, which is truncated", .run = hmp_logfile},
    {0},
};
/* clang-format on */
