/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/monitors.h"

#include "hw/chardev/chardev_set.h"
#include "vmm/monitor/hmp/hmp.h"
#include "vmm/monitor/qmp/qmp_session.h"

static RUNS_IN_MAIN void monitors_add(Vm *vm, const MonitorRequest *kind, char *id_taken)
{
    MonitorRequest *m = g_memdup2(kind, sizeof(*kind));
    m->chardev = id_taken;
    g_ptr_array_add(vm->backends.monitors, m);
}

/* ---- the command line ---- */

/* The short forms: -qmp, -qmp-pretty, -monitor. */
static coroutine_fn RUNS_IN_MAIN bool
monitors_co_add_short(Vm *vm, const GPtrArray *texts, const MonitorRequest *kind, GError **error)
{
    for (unsigned i = 0; i < texts->len; i++) {
        g_autofree char *label = g_strdup_printf("compat_monitor%u", vm->backends.monitors->len);
        char *id;
        if (!backends_co_open_string(&vm->backends, texts->pdata[i], label, kind->option, &id,
                                     error)) {
            return false;
        }
        if (id != NULL) {
            monitors_add(vm, kind, id);
        }
    }
    return true;
}

static RUNS_IN_MAIN bool monitors_add_long(Vm *vm, const OptDict *dict, GError **error)
{
    typedef struct {
        char *chardev, *id;
        int mode;
        bool pretty;
    } MonOptions;
    static const char *const modes[] = {"readline", "control", NULL};
    static const OptSpec specs[] = {
        {.name = "chardev",
         .type = OPT_STRING,
         .offset = offsetof(MonOptions, chardev),
         .required = true},
        {.name = "id", .type = OPT_STRING, .offset = offsetof(MonOptions, id)},
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
        MonitorRequest kind = {.option = "mon", .control = o.mode == 1, .pretty = o.pretty};
        monitors_add(vm, &kind, g_strdup(o.chardev));
    }
    opts_clear(specs, &o);
    return ok;
}

bool monitors_co_make(Vm *vm, GError **error)
{
    static const MonitorRequest qmp = {.option = "qmp", .control = true};
    static const MonitorRequest pretty = {.option = "qmp-pretty", .control = true, .pretty = true};
    static const MonitorRequest human = {.option = "monitor"};
    const VmConfig *config = vm->config;
    for (unsigned i = 0; i < config->control.mons->len; i++) {
        if (!monitors_add_long(vm, config->control.mons->pdata[i], error)) {
            return false;
        }
    }
    return monitors_co_add_short(vm, config->control.qmps, &qmp, error) &&
           monitors_co_add_short(vm, config->control.qmps_pretty, &pretty, error) &&
           monitors_co_add_short(vm, config->control.monitors, &human, error);
}

/* ---- opening ---- */

static RUNS_IN_MAIN bool monitors_open_one(Vm *vm, const MonitorRequest *m, GError **error)
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

bool monitors_open(Vm *vm, GError **error)
{
    for (unsigned i = 0; i < vm->backends.monitors->len; i++) {
        if (!monitors_open_one(vm, vm->backends.monitors->pdata[i], error)) {
            return false;
        }
    }
    chardev_hold_input(false);
    return true;
}
