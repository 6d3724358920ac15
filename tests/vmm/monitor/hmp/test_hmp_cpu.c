/* SPDX-License-Identifier: Apache-2.0 */
/* Commands on vCPUs of /dev/kvm: registers, expressions, memory by page tables, NMIs. The guest is
 * a few bytes of machine code. */
#include "tests/vmm/monitor/hmp/hmp_rig.h"

#include <sys/ioctl.h>
#include <unistd.h>
#include "tests/support/host_kvm.h"

#define TEST_COUNTER 0x2000u
#define TEST_LVT_LINT1 0x360
#define TEST_LVT_NMI 0x400u
#define TEST_LVT_EXTINT 0x700u
#define TEST_LVT_MASKED 0x10000u

typedef struct Rig {
    QmpRig *base;
    ArchCpus cpus;
    void (*body)(struct Rig *rig);
    bool done;
} Rig;

/* mov eax, 0x12345678; mov esp, 0x5000; loop: inc dword [0x2000]; jmp loop */
static const uint8_t code_count[] = {0xb8, 0x78, 0x56, 0x34, 0x12, 0xbc, 0x00, 0x50, 0x00,
                                     0x00, 0xff, 0x05, 0x00, 0x20, 0x00, 0x00, 0xeb, 0xf8};

static void rig_vcpu_event(void *opaque, int event)
{
    fail_msg("vCPU event %d", event);
}

static void rig_main(void *opaque)
{
    enter_main();
    enter_coroutine();
    Rig *rig = opaque;
    Vm *vm = &rig->base->vm;
    VcpuSetConfig config = {.kvm = &vm->machine.kvm,
                            .cpus = &rig->cpus,
                            .count = rig->cpus.topology.cpus,
                            .mmio = vm->machine.mmio,
                            .pio = vm->machine.pio,
                            .event = rig_vcpu_event,
                            .opaque = rig};
    GError *error = NULL;
    vm->machine.vcpus = vcpus_co_new(&config, &error);
    assert_non_null(vm->machine.vcpus);
    assert_true(vcpus_co_reset(vm->machine.vcpus, &host_kvm_boot, &error));
    rig->body(rig);
    vcpus_co_park(vm->machine.vcpus);
    vcpus_free(vm->machine.vcpus);
    rig->done = true;
}

static void rig_run(void (*body)(Rig *rig), unsigned cpus)
{
    void *base = NULL;
    hmp_rig_setup(&base);
    enter_main();
    Rig rig = {.base = base, .body = body};
    Vm *vm = &rig.base->vm;
    memcpy(hmp_rig_ram + HOST_KVM_CODE, code_count, sizeof(code_count));
    host_kvm_open(&vm->machine.kvm, &rig.cpus, &vm->machine.ram, cpus);
    rig.base->config.machine.smp = g_strdup_printf("%u,sockets=1,cores=%u,threads=1", cpus, cpus);
    co_start(vm->ctx, rig_main, &rig);
    while (!rig.done) {
        aio_context_step(vm->ctx, true);
    }
    host_kvm_close(&vm->machine.kvm, &rig.cpus);
    qmp_rig_teardown(&base);
}

/* ---- in the rig's coroutine ---- */

static coroutine_fn RUNS_IN_MAIN char *co_prints(Rig *rig, const char *line)
{
    GString *out = g_string_new(NULL);
    hmp_co_execute(&rig->base->vm, line, out);
    return g_string_free(out, FALSE);
}

static coroutine_fn RUNS_IN_MAIN void assert_co_prints(Rig *rig, const char *line, const char *part)
{
    g_autofree char *out = co_prints(rig, line);
    if (strstr(out, part) == NULL) {
        fail_msg("%s\nprints: %s\nwithout: %s", line, out, part);
    }
}

static coroutine_fn void wait_for_count(uint32_t more)
{
    const uint32_t *counter = (const void *)(hmp_rig_ram + TEST_COUNTER);
    uint32_t from = __atomic_load_n(counter, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(counter, __ATOMIC_SEQ_CST) - from < more) {
        co_yield_turn();
    }
}

/* ---- registers ---- */

static void body_registers(Rig *rig)
{
    enter_main();
    enter_coroutine();
    assert_co_prints(rig, "print $eip", "0x1000\n");
    assert_co_prints(rig, "info registers", "\nCPU#0\nEAX=00000000 EBX=");
    assert_co_prints(rig, "info registers", "\nEIP=00001000 EFL=00000002 [-------] CPL=0 II=0 ");
    assert_co_prints(rig, "info registers", "\nCS =0008 00000000 ffffffff 00c");
    assert_co_prints(rig, "info registers", " DPL=0 CS32 [-RA]\n");
    vcpus_unpark(rig->base->vm.machine.vcpus);
    wait_for_count(1000);
    assert_co_prints(rig, "info registers", "\nEAX=12345678 EBX=");
    assert_co_prints(rig, "info registers", " ESP=00005000\n");
    assert_co_prints(rig, "print $RAX + 1", "0x12345679\n");
    assert_co_prints(rig, "print $ax", "0x5678\n");
    assert_co_prints(rig, "print $sp", "0x5000\n");
    assert_co_prints(rig, "print $cs|$ss", "0x18\n");
    assert_co_prints(rig, "print $r99", "no register");
    assert_co_prints(rig, "x /4xb $sp-0x5000+0x1000", "0000000000001000: 0xb8 0x78 0x56 0x34\n");
    assert_co_prints(rig, "info registers -a", "CPU#0");
    assert_co_prints(rig, "info registers 7", "invalid CPU index");
    assert_co_prints(rig, "info lapic", "dumping local APIC state for CPU 0\n\nLVT0\t 0x");
    assert_co_prints(rig, "info lapic 7", "invalid CPU index");
    wait_for_count(1000); /* the guest still runs */
}

static void registers_are_read_while_the_guest_runs(void **state)
{
    rig_run(body_registers, 1);
}

static void body_many(Rig *rig)
{
    enter_main();
    enter_coroutine();
    g_autofree char *out = co_prints(rig, "info registers -a");
    assert_non_null(strstr(out, "\nCPU#0\n"));
    assert_non_null(strstr(out, "\nCPU#2\n"));
    unsigned cpu = 1;
    GString *text = g_string_new(NULL);
    hmp_co_execute_on(&rig->base->vm, &cpu, "cpu 2", text);
    assert_int_equal(cpu, 2);
    hmp_co_execute_on(&rig->base->vm, &cpu, "cpu 3", text);
    assert_int_equal(cpu, 2);
    hmp_co_execute_on(&rig->base->vm, &cpu, "info registers", text);
    assert_non_null(strstr(text->str, "\nCPU#2\n"));
    assert_null(strstr(text->str, "\nCPU#0\n"));
    g_string_free(text, TRUE);
    GError *error = NULL;
    struct json_object *list =
        qmp_co_execute(&rig->base->vm, NULL, "query-cpus-fast", NULL, &error);
    assert_int_equal(json_object_array_length(list), 3);
    struct json_object *last = json_object_array_get_idx(list, 2);
    assert_int_equal(qmp_arg_int(last, "thread-id", 0),
                     vcpu_thread_id(rig->base->vm.machine.vcpus, 2));
    struct json_object *props = qmp_arg_get(last, "props");
    assert_int_equal(qmp_arg_int(props, "core-id", -1), 2);
    assert_int_equal(qmp_arg_int(props, "socket-id", -1), 0);
    json_object_put(list);
}

static void each_processor_has_its_own_registers(void **state)
{
    rig_run(body_many, 3);
}

/* ---- NMI ---- */

typedef struct Lint {
    uint32_t lvt;
    bool pending;
} Lint;

static void lint_set(Vcpu *v, void *opaque)
{
    enter_vcpu();
    Lint *lint = opaque;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    assert_int_equal(ioctl(vcpu_fd(v), KVM_GET_LAPIC, &lapic), 0);
    uint32_t spurious = 0x1ff; /* enabled: a disabled one masks its inputs */
    memcpy(lapic.regs + 0xf0, &spurious, sizeof(spurious));
    memcpy(lapic.regs + TEST_LVT_LINT1, &lint->lvt, sizeof(lint->lvt));
    assert_int_equal(ioctl(vcpu_fd(v), KVM_SET_LAPIC, &lapic), 0);
    assert_int_equal(ioctl(vcpu_fd(v), KVM_GET_VCPU_EVENTS, &events), 0);
    events.nmi.pending = 0;
    events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
    assert_int_equal(ioctl(vcpu_fd(v), KVM_SET_VCPU_EVENTS, &events), 0);
}

static void lint_get(Vcpu *v, void *opaque)
{
    enter_vcpu();
    Lint *lint = opaque;
    struct kvm_vcpu_events events;
    assert_int_equal(ioctl(vcpu_fd(v), KVM_GET_VCPU_EVENTS, &events), 0);
    lint->pending = events.nmi.pending || events.nmi.injected;
}

static coroutine_fn RUNS_IN_MAIN bool nmi_arrives(Rig *rig, unsigned cpu, uint32_t lvt)
{
    Lint lint = {.lvt = lvt};
    vcpus_co_call(rig->base->vm.machine.vcpus, cpu, lint_set, &lint);
    g_autofree char *out = co_prints(rig, "nmi");
    assert_string_equal(out, "");
    vcpus_co_call(rig->base->vm.machine.vcpus, cpu, lint_get, &lint);
    return lint.pending;
}

static void body_nmi(Rig *rig)
{
    enter_main();
    enter_coroutine();
    assert_false(nmi_arrives(rig, 0, TEST_LVT_NMI | TEST_LVT_MASKED));
    assert_false(nmi_arrives(rig, 1, TEST_LVT_NMI | TEST_LVT_MASKED));
    assert_false(nmi_arrives(rig, 0, TEST_LVT_EXTINT));
    assert_true(nmi_arrives(rig, 0, TEST_LVT_NMI));
    assert_true(nmi_arrives(rig, 1, TEST_LVT_NMI));
}

static void the_nmi_button_is_wired_to_lint1(void **state)
{
    rig_run(body_nmi, 2);
}

/* ---- memory ---- */

static void body_memsave(Rig *rig)
{
    enter_main();
    enter_coroutine();
    g_autofree char *dir = g_dir_make_tmp("skiff-hmp.XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "memory", NULL);
    g_autofree char *line = g_strdup_printf("memsave 0x1000 18 %s", path);
    g_autofree char *text = NULL;
    gsize size;
    vcpus_unpark(rig->base->vm.machine.vcpus);
    assert_co_prints(rig, line, "");
    assert_true(g_file_get_contents(path, &text, &size, NULL));
    assert_int_equal(size, sizeof(code_count));
    assert_memory_equal(text, code_count, size);
    assert_co_prints(rig, "memsave 0xffffffff 1 /dev/null", "Error: Invalid addr 0x00000000ffff");
    GError *error = NULL;
    struct json_object *args = json_object_new_object();
    qmp_put_int(args, "val", 0);
    qmp_put_int(args, "size", 1);
    qmp_put_str(args, "filename", path);
    qmp_put_int(args, "cpu-index", 5);
    assert_null(qmp_co_execute(&rig->base->vm, NULL, "memsave", args, &error));
    assert_string_equal(error->message, "Parameter 'cpu-index' expects a CPU number from 0 to 0");
    g_error_free(error);
    json_object_put(args);
    assert_co_prints(rig, "gva2gpa 0x1234", "gpa: 0x1234\n");
    unlink(path);
    rmdir(dir);
}

static void memory_is_saved_while_the_guest_runs(void **state)
{
    rig_run(body_memsave, 1);
}

int main(void)
{
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        print_message("skip: /dev/kvm cannot be opened\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_are_read_while_the_guest_runs),
        cmocka_unit_test(each_processor_has_its_own_registers),
        cmocka_unit_test(the_nmi_button_is_wired_to_lint1),
        cmocka_unit_test(memory_is_saved_while_the_guest_runs),
    };
    return cmocka_run_group_tests_name("vmm/monitor/hmp/cpu", tests, NULL, NULL);
}
