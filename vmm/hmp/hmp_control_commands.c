/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: running and ending the VM, and the monitor itself. */
#include <string.h>
#include "block/block.h"
#include "vmm/hmp/hmp_int.h"

static void hmp_help_line(HmpCall *call, const HmpCommand *c)
{
    hmp_append_usage(call->out, c);
    hmp_printf(call, " -- %s\n", c->help);
}

static void hmp_help(HmpCall *call, struct json_object *args)
{
    const char *wanted = qmp_arg_str(args, "command");
    unsigned found = 0;
    for (const HmpCommand *const *table = hmp_command_tables; *table != NULL; table++) {
        for (const HmpCommand *c = *table; c->name != NULL; c++) {
            size_t length = wanted != NULL ? strlen(wanted) : 0;
            if (wanted == NULL || g_strcmp0(c->alias, wanted) == 0 ||
                (strncmp(c->name, wanted, length) == 0 &&
                 (c->name[length] == '\0' || c->name[length] == ' '))) {
                hmp_help_line(call, c);
                found++;
            }
        }
    }
    if (found == 0) {
        g_autofree char *excerpt = opt_excerpt(wanted);
        hmp_printf(call, "unknown command: '%s'; help lists them\n", excerpt);
    }
}

static void hmp_stop(HmpCall *call, struct json_object *args)
{
    enter_main();
    run_state_request_stop(&call->vm->run, STOP_PAUSED);
}

static void hmp_cont(HmpCall *call, struct json_object *args)
{
    enter_main();
    run_state_request_start(&call->vm->run);
}

static void hmp_system_reset(HmpCall *call, struct json_object *args)
{
    enter_main();
    vm_reset(call->vm, VM_CAUSE_HOST_QMP_SYSTEM_RESET);
}

static void hmp_system_powerdown(HmpCall *call, struct json_object *args)
{
    enter_main();
    vm_power_down(call->vm);
}

static void hmp_quit(HmpCall *call, struct json_object *args)
{
    enter_main();
    vm_quit(call->vm, EXIT_STATUS_OK);
}

/* By the name of the -drive or -blockdev, or of the device that uses it. */
static RUNS_IN_MAIN BlockBackend *hmp_find_disk(const char *name)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(block_node_name(blk_root(list[i])), name) == 0) {
            return list[i];
        }
    }
    return blk_find(name);
}

static void hmp_block_resize(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    const char *name = qmp_arg_str(args, "device");
    vm_operation_begin(&call->vm->run);
    BlockBackend *blk = hmp_find_disk(name); /* now: it may have gone while we waited */
    if (blk == NULL) {
        hmp_printf(call, "Error: there is no disk '%s'; info block lists them\n", name);
    } else if (blk_co_truncate(blk, (uint64_t)qmp_arg_int(args, "size", 0), &error) < 0) {
        hmp_error(call, error);
    }
    vm_operation_end(&call->vm->run);
}

/* clang-format off */
const HmpCommand hmp_control_commands[] = {
    {"help", "?", HMP_PARAMS(HMP_PARAM("command", REST, .optional = true)),
     "this list, or what it says of one command", .run = hmp_help},
    {"stop", "s", NULL, "stop the processors", .run = hmp_stop},
    {"cont", "c", NULL, "go on", .run = hmp_cont},
    {"system_reset", NULL, NULL, "press the reset button", .run = hmp_system_reset},
    {"system_powerdown", NULL, NULL, "press the power button", .run = hmp_system_powerdown},
    {"block_resize", NULL, HMP_PARAMS(HMP_PARAM("device", WORD), HMP_PARAM("size", SIZE)),
     "give a disk another size, in MiB without a suffix", .run = hmp_block_resize},
    {"quit", "q", NULL, "end the VM", .run = hmp_quit},
    {0},
};
/* clang-format on */
