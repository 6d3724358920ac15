/* SPDX-License-Identifier: Apache-2.0 */
/* Which monitors there are, and the chardevs they are on. */
#include "hw/chardev/chardev_set.h"
#include "vmm/monitor/hmp/hmp.h"
#include "vmm/monitor/qmp/qmp_session.h"
#include "vmm/vm/vm.h"

static RUNS_IN_MAIN void vm_add_monitor(Vm *vm, const VmMonitor *kind, char *id_taken)
{
    VmMonitor *m = g_memdup2(kind, sizeof(*kind));
    m->chardev = id_taken;
    g_ptr_array_add(vm->monitors, m);
}

void vm_add_human_monitor(Vm *vm, char *id_taken, const char *option)
{
    vm_add_monitor(vm, &(VmMonitor){.option = option}, id_taken);
}

/* ---- the command line ---- */

/* The short spellings: -qmp, -qmp-pretty, -monitor. */
static coroutine_fn RUNS_IN_MAIN bool
vm_co_add_short_monitors(Vm *vm, const GPtrArray *texts, const VmMonitor *kind, GError **error)
{
    for (unsigned i = 0; i < texts->len; i++) {
        g_autofree char *label = g_strdup_printf("compat_monitor%u", vm->monitors->len);
        char *id;
        if (!vm_co_open_string(texts->pdata[i], label, kind->option, &id, error)) {
            return false;
        }
        if (id != NULL) {
            vm_add_monitor(vm, kind, id);
        }
    }
    return true;
}

static RUNS_IN_MAIN bool vm_add_long_monitor(Vm *vm, const OptDict *dict, GError **error)
{
    typedef struct {
        char *chardev;
        int mode;
        bool pretty;
    } MonOptions;
    static const char *const modes[] = {"readline", "control", NULL};
    static const OptSpec specs[] = {
        {.name = "chardev",
         .type = OPT_STRING,
         .offset = offsetof(MonOptions, chardev),
         .required = true},
        {.name = "mode",
         .type = OPT_ENUM,
         .offset = offsetof(MonOptions, mode),
         .names = modes,
         .def = "readline"},
        {.name = "pretty", .type = OPT_BOOL, .offset = offsetof(MonOptions, pretty), .def = "off"},
        {0},
    };
    MonOptions o;
    opts_init(specs, &o);
    bool ok = opts_bind(specs, &o, dict, "-mon", error);
    if (ok && o.pretty && o.mode == 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-mon: pretty=on is for mode=control");
        ok = false;
    }
    if (ok) {
        VmMonitor kind = {.option = "mon", .control = o.mode == 1, .pretty = o.pretty};
        vm_add_monitor(vm, &kind, g_strdup(o.chardev));
    }
    opts_clear(specs, &o);
    return ok;
}

bool vm_co_make_monitors(Vm *vm, GError **error)
{
    static const VmMonitor qmp = {.option = "qmp", .control = true};
    static const VmMonitor pretty = {.option = "qmp-pretty", .control = true, .pretty = true};
    static const VmMonitor human = {.option = "monitor"};
    const VmConfig *config = vm->config;
    for (unsigned i = 0; i < config->mons->len; i++) {
        if (!vm_add_long_monitor(vm, config->mons->pdata[i], error)) {
            return false;
        }
    }
    return vm_co_add_short_monitors(vm, config->qmps, &qmp, error) &&
           vm_co_add_short_monitors(vm, config->qmps_pretty, &pretty, error) &&
           vm_co_add_short_monitors(vm, config->monitors, &human, error);
}

/* ---- opening ---- */

static RUNS_IN_MAIN bool vm_open_monitor(Vm *vm, const VmMonitor *m, GError **error)
{
    Chardev *c = chardev_claim(m->chardev, m->control ? "QMP" : "monitor", error);
    if (c == NULL) {
        g_prefix_error(error, "-%s: ", m->option);
        return false;
    }
    if (m->control) {
        qmp_session_new(vm, vm->ctx, c, m->pretty);
    } else {
        hmp_monitor_new(vm, c);
    }
    return true;
}

bool vm_open_monitors(Vm *vm, GError **error)
{
    for (unsigned i = 0; i < vm->monitors->len; i++) {
        if (!vm_open_monitor(vm, vm->monitors->pdata[i], error)) {
            return false;
        }
    }
    chardev_hold_input(false);
    return true;
}
