/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: info on the VM as a whole. Output that QEMU has too has QEMU's format. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "vmm/monitor/hmp/hmp_complete.h"

/* ---- info alone ---- */

static void hmp_info(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    const char *item = qmp_arg_str(args, "item");
    if (item == NULL) {
        hmp_co_execute_on(call->vm, call->cpu, "help info", call->out);
        return;
    }
    g_autofree char *line = g_strconcat("info ", item, NULL);
    hmp_unknown(call, line);
}

/* ---- the VM ---- */

static void hmp_print_status(HmpCall *call, struct json_object *result)
{
    const char *status = qmp_arg_str(result, "status");
    bool running = qmp_arg_bool(result, "running", false);
    hmp_printf(call, "VM status: %s", running ? "running" : "paused");
    if (!running && strcmp(status, "paused") != 0) {
        hmp_printf(call, " (%s)", status);
    }
    hmp_printf(call, "%s\n",
               qmp_arg_bool(result, "stopping", false) ? ", I/O still in flight" : "");
}

static void hmp_print_version(HmpCall *call, struct json_object *result)
{
    struct json_object *v = qmp_arg_get(result, "qemu");
    hmp_printf(call, "%" PRId64 ".%" PRId64 ".%" PRId64 "%s\n", qmp_arg_int(v, "major", 0),
               qmp_arg_int(v, "minor", 0), qmp_arg_int(v, "micro", 0),
               qmp_arg_str(result, "package"));
}

static void hmp_print_name(HmpCall *call, struct json_object *result)
{
    const char *name = qmp_arg_str(result, "name");
    if (name != NULL) {
        hmp_printf(call, "%s\n", name);
    }
}

static void hmp_print_uuid(HmpCall *call, struct json_object *result)
{
    hmp_printf(call, "%s\n", qmp_arg_str(result, "UUID"));
}

static void hmp_print_kvm(HmpCall *call, struct json_object *result)
{
    hmp_printf(call, "kvm support: %s\n",
               qmp_arg_bool(result, "enabled", false) ? "enabled" : "disabled");
}

/* ---- processors ---- */

static void hmp_print_cpus(HmpCall *call, struct json_object *result)
{
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *cpu = hmp_item(result, i);
        int64_t index = qmp_arg_int(cpu, "cpu-index", 0);
        hmp_printf(call, "%c CPU #%" PRId64 ": thread_id=%" PRId64 "\n",
                   index == *call->cpu ? '*' : ' ', index, qmp_arg_int(cpu, "thread-id", 0));
    }
}

static void hmp_dump_registers(Vcpu *v, void *opaque)
{
    enter_vcpu();
    arch_vcpu_dump(vcpu_fd(v), vcpu_index(v), opaque);
}

static void hmp_dump_interrupts(Vcpu *v, void *opaque)
{
    enter_vcpu();
    arch_vcpu_dump_interrupts(vcpu_fd(v), vcpu_index(v), opaque);
}

/* Prints the output of @dump, which runs in the vCPU's thread. */
static coroutine_fn RUNS_IN_MAIN void hmp_co_dump(HmpCall *call, unsigned index,
                                                  void (*dump)(Vcpu *v, void *out))
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        hmp_printf(call, "Error: out of memory\n");
        return;
    }
    vcpus_co_call(call->vm->machine.vcpus, index, dump, out);
    fclose(out);
    hmp_printf(call, "%s", text);
    free(text);
}

static void hmp_info_registers(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    unsigned count = vcpus_count(call->vm->machine.vcpus);
    uint64_t wanted = qmp_arg_u64(args, "vcpu", *call->cpu);
    if (wanted >= count) {
        hmp_printf(call, "invalid CPU index; there are 0 to %u\n", count - 1);
        return;
    }
    bool all = qmp_arg_bool(args, "cpustate_all", false);
    for (unsigned i = 0; i < count; i++) {
        if (all || i == wanted) {
            hmp_printf(call, "\n");
            hmp_co_dump(call, i, hmp_dump_registers);
        }
    }
}

static void hmp_info_lapic(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    unsigned count = vcpus_count(call->vm->machine.vcpus);
    uint64_t wanted = qmp_arg_u64(args, "vcpu", *call->cpu);
    if (wanted >= count) {
        hmp_printf(call, "invalid CPU index; there are 0 to %u\n", count - 1);
        return;
    }
    hmp_co_dump(call, (unsigned)wanted, hmp_dump_interrupts);
}

/* ---- threads, chardevs, traces ---- */

static void hmp_print_iothreads(HmpCall *call, struct json_object *result)
{
    static const char *const numbers[] = {"thread-id", "poll-max-ns", "poll-grow", "poll-shrink",
                                          "aio-max-batch"};
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *t = hmp_item(result, i);
        hmp_printf(call, "%s:\n", qmp_arg_str(t, "id"));
        for (unsigned k = 0; k < G_N_ELEMENTS(numbers); k++) {
            if (qmp_arg_has(t, numbers[k])) {
                hmp_printf(call, "  %s=%" PRId64 "\n", k == 0 ? "thread_id" : numbers[k],
                           qmp_arg_int(t, numbers[k], 0));
            }
        }
    }
}

static void hmp_print_chardev(HmpCall *call, struct json_object *result)
{
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *c = hmp_item(result, i);
        hmp_printf(call, "%s: filename=%s\n", qmp_arg_str(c, "label"), qmp_arg_str(c, "filename"));
    }
}

static void hmp_info_trace_events(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    const char *name = qmp_arg_str(args, "name");
    struct json_object *qmp = json_object_new_object();
    qmp_put_str(qmp, "name", name != NULL ? name : "*");
    struct json_object *list = hmp_co_qmp(call, "trace-event-get-state", qmp);
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *event = hmp_item(list, i);
        bool on = strcmp(qmp_arg_str(event, "state"), "enabled") == 0;
        hmp_printf(call, "%s : state %d\n", qmp_arg_str(event, "name"), on);
    }
    json_object_put(list);
}

/* clang-format off */
const HmpCommand hmp_info_commands[] = {
    {"info status", NULL, NULL, "whether the VM runs", .qmp = "query-status",
     .print = hmp_print_status},
    {"info version", NULL, NULL, "skiff's version", .qmp = "query-version",
     .print = hmp_print_version},
    {"info name", NULL, NULL, "the VM's name", .qmp = "query-name", .print = hmp_print_name},
    {"info uuid", NULL, NULL, "the VM's UUID", .qmp = "query-uuid", .print = hmp_print_uuid},
    {"info kvm", NULL, NULL, "whether KVM is used", .qmp = "query-kvm", .print = hmp_print_kvm},
    {"info cpus", NULL, NULL, "processors and their threads", .qmp = "query-cpus-fast",
     .print = hmp_print_cpus},
    {"info registers", NULL,
     HMP_PARAMS(HMP_PARAM("cpustate_all", FLAG, .flag = 'a'),
                HMP_PARAM("vcpu", INT, .optional = true)),
     "registers of a processor, with -a of all", .run = hmp_info_registers},
    {"info lapic", NULL, HMP_PARAMS(HMP_PARAM("vcpu", INT, .optional = true)),
     "the local APIC of a processor", .run = hmp_info_lapic},
    {"info iothreads", NULL, NULL, "threads that serve devices", .qmp = "query-iothreads",
     .print = hmp_print_iothreads},
    {"info chardev", NULL, NULL, "character backends", .qmp = "query-chardev",
     .print = hmp_print_chardev},
    {"info trace-events", NULL,
     HMP_PARAMS(HMP_PARAM("name", WORD, .optional = true, .complete = hmp_names_trace_events)),
     "trace events, and whether they are on", .run = hmp_info_trace_events},
    {"info", NULL, HMP_PARAMS(HMP_PARAM("item", REST, .optional = true)),
     "list the info commands", .run = hmp_info},
    {0},
};
/* clang-format on */
