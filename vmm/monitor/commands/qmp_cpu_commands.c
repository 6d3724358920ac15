/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/commands/qmp_cpu.h"
#include "vmm/monitor/commands/qmp_qom.h"
#include "vmm/arch/smp.h"

bool qmp_arg_cpu(QmpCall *call, struct json_object *args, unsigned *index, GError **error)
{
    int64_t wanted = qmp_arg_int(args, "cpu-index", 0);
    unsigned count = vcpus_count(call->vm->machine.vcpus);
    if (wanted < 0 || wanted >= count) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Parameter 'cpu-index' expects a CPU number from 0 to %u", count - 1);
        return false;
    }
    *index = (unsigned)wanted;
    return true;
}

/* ---- query-cpus-fast ---- */

/* -smp, which is valid since the start. */
static RUNS_IN_MAIN SmpTopology qmp_cpu_topology(const Vm *vm)
{
    SmpTopology topology = {.cpus = 1, .sockets = 1, .cores = 1, .threads = 1};
    smp_parse(vm->config->machine.smp, vcpus_count(vm->machine.vcpus), &topology, NULL);
    return topology;
}

static struct json_object *qmp_cpu_props(const SmpTopology *t, unsigned index)
{
    struct json_object *props = json_object_new_object();
    qmp_put_int(props, "core-id", index / t->threads % t->cores);
    qmp_put_int(props, "thread-id", index % t->threads);
    qmp_put_int(props, "socket-id", index / (t->threads * t->cores));
    return props;
}

static struct json_object *qmp_query_cpus_fast(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    const VcpuSet *vcpus = call->vm->machine.vcpus;
    unsigned count = vcpus_count(vcpus);
    SmpTopology topology = qmp_cpu_topology(call->vm);
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < count; i++) {
        struct json_object *cpu = json_object_new_object();
        g_autofree char *path = qom_cpu_path(call->vm, i);
        qmp_put_int(cpu, "cpu-index", i);
        qmp_put_str(cpu, "qom-path", path);
        qmp_put_int(cpu, "thread-id", vcpu_thread_id(vcpus, i));
        qmp_put(cpu, "props", qmp_cpu_props(&topology, i));
        qmp_put_str(cpu, "target", ARCH_NAME);
        json_object_array_add(list, cpu);
    }
    return list;
}

static const QmpType qmp_cpu_instance_properties = {
    .name = "CpuInstanceProperties",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"socket-id", &qmp_int, true, "socket within the machine"},
                           {"core-id", &qmp_int, true, "core within the socket"},
                           {"thread-id", &qmp_int, true, "thread within the core"}),
};

static const QmpType qmp_sys_emu_target = {
    .name = "SysEmuTarget",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES(ARCH_NAME),
};

static const QmpType qmp_cpu_info_fast = {
    .name = "CpuInfoFast",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"cpu-index", &qmp_int, .doc = "number of the vCPU"},
                           {"qom-path", &qmp_str, .doc = "its path, for qom-list"},
                           {"thread-id", &qmp_int, .doc = "the host's id of its thread"},
                           {"props", &qmp_cpu_instance_properties, true, "where it is"},
                           {"target", &qmp_sys_emu_target, .doc = "the architecture"}),
};
static const QmpType qmp_cpu_info_fast_list = {.kind = QMP_KIND_ARRAY,
                                               .element = &qmp_cpu_info_fast};

/* ---- query-hotpluggable-cpus ---- */

struct json_object *qmp_cpu_instance(const Vm *vm, unsigned index)
{
    SmpTopology topology = qmp_cpu_topology(vm);
    return qmp_cpu_props(&topology, index);
}

static struct json_object *qmp_query_hotpluggable_cpus(QmpCall *call, struct json_object *args,
                                                       GError **error)
{
    enter_main();
    g_autofree char *model = qom_cpu_model(call->vm->config);
    g_autofree char *type = qom_cpu_type(model);
    SmpTopology topology = qmp_cpu_topology(call->vm);
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < vcpus_count(call->vm->machine.vcpus); i++) {
        struct json_object *cpu = json_object_new_object();
        g_autofree char *path = qom_cpu_path(call->vm, i);
        qmp_put_str(cpu, "type", type);
        qmp_put_int(cpu, "vcpus-count", 1);
        qmp_put(cpu, "props", qmp_cpu_props(&topology, i));
        qmp_put_str(cpu, "qom-path", path);
        json_object_array_add(list, cpu);
    }
    return list;
}

static const QmpType qmp_hotpluggable_cpu = {
    .name = "HotpluggableCPU",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"type", &qmp_str, .doc = "its type, as qom-list-types has it"},
                           {"vcpus-count", &qmp_int, .doc = "always 1"},
                           {"props", &qmp_cpu_instance_properties, .doc = "where it is"},
                           {"qom-path", &qmp_str, true, "its path: all CPUs are there"}),
};
static const QmpType qmp_hotpluggable_cpu_list = {.kind = QMP_KIND_ARRAY,
                                                  .element = &qmp_hotpluggable_cpu};

/* ---- inject-nmi ---- */

static struct json_object *qmp_inject_nmi(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    vm_co_press_nmi(call->vm, error);
    return NULL;
}

static const QmpCommand qmp_cpu_commands[] = {
    {
        .name = "query-cpus-fast",
        .ret = &qmp_cpu_info_fast_list,
        .flags = QMP_INSTANT,
        .run = qmp_query_cpus_fast,
        .doc = "The vCPUs. They are not interrupted.",
    },
    {
        .name = "query-hotpluggable-cpus",
        .ret = &qmp_hotpluggable_cpu_list,
        .flags = QMP_INSTANT,
        .run = qmp_query_hotpluggable_cpus,
        .doc = "The slots for vCPUs. Each is occupied: vCPUs cannot be added or removed.",
    },
    {
        .name = "inject-nmi",
        .run = qmp_inject_nmi,
        .doc = "Presses the NMI button, which is wired to the LINT1 input of every processor. "
               "Processors that have LINT1 set to NMI get one.",
    },
    {0},
};
static const QmpEvent qmp_cpu_events[] = {{0}};

QMP_GROUP(cpu);
