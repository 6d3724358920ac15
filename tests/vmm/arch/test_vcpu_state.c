/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm */
/* vCPUs on /dev/kvm, saved anywhere in a program and loaded into a fresh VM, which goes on to the same
 * result; states that are wrong; a KVM that refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/support/host_kvm.h"
#include "util/sys/sys_fault.h"
#include "vmm/arch/x86_64/vcpu_state.h"

#define RAM_SIZE (1u << 20)
#define HV_VP_RUNTIME 0x40000010 /* the time for which the vCPU's thread has run */
#define HV_TIME_REF_COUNT 0x40000020
#define APIC_TIMER_COUNT 0x390 /* TMCCT: runs on, and KVM derives it */

/* Programs in 64-bit mode at CPL 3, since a KVM without hardware below it runs SSE and x87 instructions
 * only there. Integer, SSE, x87 and AVX state, and memory, go into a number that each step writes to
 * the port, and each step depends on all before it. */
#define PROGRAM_STEP                                                                               \
    "imull $1664525, %eax, %eax\n"                                                                 \
    "addl $1013904223, %eax\n"                                                                     \
    "movd %eax, %xmm0\n"                                                                           \
    "paddd %xmm0, %xmm1\n"                                                                         \
    "movd %xmm1, %edx\n"                                                                           \
    "fld1\n"                                                                                       \
    "faddp\n"                                                                                      \
    "fistl 0x3000\n"                                                                               \
    "addl 0x3000, %edx\n"                                                                          \
    "addl %edx, 0x2000(,%rsi,4)\n"                                                                 \
    "xorl 0x2000(,%rsi,4), %eax\n"                                                                 \
    "incl %esi\n"                                                                                  \
    "andl $63, %esi\n"
/* clang-format off */
__asm__(".pushsection .rodata\n"
        "program_sse:\n"
        "fninit\n"
        "fldz\n"
        "1:\n" PROGRAM_STEP
        "outl %eax, $0x80\n"
        "jmp 1b\n"
        "program_avx:\n"
        "fninit\n"
        "fldz\n"
        "1:\n" PROGRAM_STEP
        "vpbroadcastd %xmm0, %ymm2\n" /* the upper half has a state component of its own */
        "vpaddd %ymm2, %ymm3, %ymm3\n"
        "vextracti128 $1, %ymm3, %xmm4\n"
        "vmovd %xmm4, %edx\n"
        "xorl %edx, %eax\n"
        "outl %eax, $0x80\n"
        "jmp 1b\n"
        "program_end:\n"
        ".popsection\n");
/* clang-format on */
extern const uint8_t program_sse[], program_avx[], program_end[];

typedef struct Host {
    Kvm kvm;
    GuestRam ram;
    uint8_t *host;
    ArchCpus cpus;
    int fd;
    struct kvm_run *run;
    ArchVcpu *arch;
} Host;

typedef void Body(Host *a, Host *b);

static RUNS_IN_MAIN void host_vm_open(Host *m)
{
    m->host = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    RamBlock block = {.size = RAM_SIZE, .host = m->host, .fd = -1, .name = "ram"};
    guest_ram_add(&m->ram, &block);
    host_kvm_open(&m->kvm, &m->cpus, &m->ram, 1);
    memcpy(m->host + HOST_KVM_CODE, program_sse, (size_t)(program_end - program_sse));
}

/* Identity-mapped pages of a user, in 64-bit mode. */
#define TABLES 0x10000u
#define USER_PAGE 7 /* present, writable, user */
#define LARGE_PAGE 0x80

static void host_put64(Host *m, uint32_t at, uint64_t value)
{
    memcpy(m->host + at, &value, sizeof(value));
}

static RUNS_IN_VCPU void host_enter_user_mode(Host *m, bool avx)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip =
                                HOST_KVM_CODE + (avx ? (uint64_t)(program_avx - program_sse) : 0),
                            .rflags = 0x3002, /* IOPL 3 */
                            .rax = 1};
    struct kvm_segment code = {.selector = 0x1b,
                               .type = 11,
                               .present = 1,
                               .dpl = 3,
                               .s = 1,
                               .l = 1,
                               .g = 1,
                               .limit = UINT32_MAX};
    struct kvm_segment data = {.selector = 0x23,
                               .type = 3,
                               .present = 1,
                               .dpl = 3,
                               .s = 1,
                               .db = 1,
                               .g = 1,
                               .limit = UINT32_MAX};
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = 7};
    host_put64(m, TABLES, (TABLES + 0x1000) | USER_PAGE);
    host_put64(m, TABLES + 0x1000, (TABLES + 0x2000) | USER_PAGE);
    host_put64(m, TABLES + 0x2000, USER_PAGE | LARGE_PAGE);
    assert_int_equal(ioctl(m->fd, KVM_GET_SREGS, &sregs), 0);
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
    sregs.cr3 = TABLES;
    sregs.cr4 = 0x620 | (avx ? 1u << 18 : 0); /* PAE, OSFXSR, OSXMMEXCPT; OSXSAVE */
    sregs.cr0 = 0x80000033;                   /* PG, NE, ET, MP, PE */
    sregs.efer = 0x500;                       /* LME, LMA */
    assert_int_equal(ioctl(m->fd, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(ioctl(m->fd, KVM_SET_REGS, &regs), 0);
    if (avx) {
        assert_int_equal(ioctl(m->fd, KVM_SET_XCRS, &xcrs), 0);
    }
}

static RUNS_IN_VCPU void host_vm_power_on(Host *m)
{
    GError *error = NULL;
    m->fd = ioctl(m->kvm.vm_fd, KVM_CREATE_VCPU, 0);
    m->run = mmap(NULL, m->kvm.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
    m->arch = arch_vcpu_new(&m->cpus, m->fd, 0, &error);
    assert_non_null(m->arch);
    assert_true(arch_vcpu_reset(m->arch, m->fd, 0, &host_kvm_boot, &error));
    host_enter_user_mode(m, false);
}

static RUNS_IN_MAIN void host_vm_close(Host *m)
{
    arch_vcpu_free(m->arch);
    munmap(m->run, m->kvm.run_size);
    close(m->fd);
    host_kvm_close(&m->kvm, &m->cpus);
    munmap(m->host, RAM_SIZE);
}

typedef struct Call {
    Host *a, *b;
    Body *body;
} Call;

static void *in_vcpu(void *opaque)
{
    enter_vcpu();
    Call *call = opaque;
    host_vm_power_on(call->a);
    host_vm_power_on(call->b);
    call->body(call->a, call->b);
    return NULL;
}

/* @body runs in a vCPU's thread, with two machines that were reset. */
static void with_machines(Body *body)
{
    Host a = {.fd = -1}, b = {.fd = -1};
    Call call = {&a, &b, body};
    pthread_t thread;
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        skip();
    }
    enter_main();
    host_vm_open(&a);
    host_vm_open(&b);
    assert_true(thread_start(&thread, THREAD_VCPU, "vcpu/0", in_vcpu, &call));
    pthread_join(thread, NULL);
    host_vm_close(&a);
    host_vm_close(&b);
}

/* Runs @m to its next OUT, which is complete on return. */
static uint32_t next_step(Host *m)
{
    uint32_t value;
    m->run->immediate_exit = 0;
    int result = ioctl(m->fd, KVM_RUN, 0);
    if (result != 0 || m->run->exit_reason != KVM_EXIT_IO) {
        fail_msg("KVM_RUN: %d, exit %u", result, m->run->exit_reason);
    }
    memcpy(&value, (uint8_t *)m->run + m->run->io.data_offset, sizeof(value));
    m->run->immediate_exit = 1;
    assert_int_equal(ioctl(m->fd, KVM_RUN, 0), -1);
    assert_int_equal(errno, EINTR);
    return value;
}

static RUNS_IN_VCPU ArchVcpuState *saved(Host *m)
{
    g_autoptr(GError) error = NULL;
    ArchVcpuState *state = arch_vcpu_state_new();
    if (!arch_vcpu_save(&m->cpus, m->fd, 0, state, &error)) {
        fail_msg("%s", error->message);
    }
    return state;
}

/* Through the stream, as a file has it. */
static RUNS_IN_VCPU void move(Host *from, Host *to)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(ArchVcpuState) out = saved(from), in = arch_vcpu_state_new();
    g_autoptr(GError) error = NULL;
    size_t used;
    state_save(&arch_vcpu_state_desc, out, stream);
    memcpy(to->host, from->host, RAM_SIZE);
    if (!state_load(&arch_vcpu_state_desc, in, stream->data, stream->len, &used, &error) ||
        !arch_vcpu_load(&to->cpus, to->fd, 0, in, &error)) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(used, stream->len);
}

#define STEPS 120

static RUNS_IN_VCPU void run_moves(Host *a, Host *b)
{
    g_autoptr(ArchVcpuState) start = saved(a);
    g_autofree uint8_t *ram = g_memdup2(a->host, RAM_SIZE);
    g_autoptr(GError) error = NULL;
    uint32_t expected[STEPS];
    for (unsigned i = 0; i < STEPS; i++) {
        expected[i] = next_step(a);
    }
    memcpy(a->host, ram, RAM_SIZE);
    assert_true(arch_vcpu_load(&a->cpus, a->fd, 0, start, &error));
    for (unsigned i = 0; i < STEPS; i++) { /* one step here, one there */
        Host *at = i % 2 == 0 ? a : b, *next = i % 2 == 0 ? b : a;
        assert_int_equal(next_step(at), expected[i]);
        memset(next->host, 0xcc, RAM_SIZE);
        move(at, next);
    }
}

static void body_moves(Host *a, Host *b)
{
    enter_vcpu();
    run_moves(a, b);
}

static void body_moves_avx(Host *a, Host *b)
{
    enter_vcpu();
    host_enter_user_mode(a, true);
    run_moves(a, b);
}

static void a_moved_vcpu_keeps_the_upper_halves_of_avx(void **state)
{
    if (!__builtin_cpu_supports("avx2")) {
        skip();
    }
    with_machines(body_moves_avx);
}

static void a_moved_vcpu_goes_on_to_the_same_result(void **state)
{
    with_machines(body_moves);
}

/* What runs on while a vCPU is stopped is not compared. */
static void blank_time(ArchVcpuState *s)
{
    memset(s->lapic.regs + APIC_TIMER_COUNT, 0, 4);
    for (uint32_t i = 0; i < s->msrs_used; i++) {
        if (s->msrs[i].index == X86_MSR_IA32_TSC || s->msrs[i].index == HV_VP_RUNTIME) {
            s->msrs[i].data = 0;
        }
    }
}

static RUNS_IN_VCPU void assert_same_state(Host *m, ArchVcpuState *expected)
{
    g_autoptr(ArchVcpuState) now = saved(m);
    blank_time(now);
    blank_time(expected);
    for (uint32_t i = 0; i < now->msrs_used; i++) {
        if (now->msrs[i].data != expected->msrs[i].data) {
            fail_msg("MSR 0x%x: 0x%llx, expected 0x%llx", now->msrs[i].index, now->msrs[i].data,
                     expected->msrs[i].data);
        }
    }
    assert_memory_equal(&now->regs, &expected->regs, sizeof(now->regs));
    assert_memory_equal(&now->sregs, &expected->sregs, sizeof(now->sregs));
    assert_memory_equal(&now->debugregs, &expected->debugregs, sizeof(now->debugregs));
    assert_memory_equal(&now->events, &expected->events, sizeof(now->events));
    assert_memory_equal(&now->lapic, &expected->lapic, sizeof(now->lapic));
    assert_memory_equal(now->xsave, expected->xsave, sizeof(now->xsave));
    assert_memory_equal(now, expected, sizeof(*now));
}

static void lapic_put(struct kvm_lapic_state *lapic, unsigned at, uint32_t value)
{
    memcpy(lapic->regs + at, &value, sizeof(value));
}

static uint64_t msr_of(const ArchVcpuState *s, uint32_t msr)
{
    for (uint32_t i = 0; i < s->msrs_used; i++) {
        if (s->msrs[i].index == msr) {
            return s->msrs[i].data;
        }
    }
    fail_msg("MSR 0x%x is not saved", msr);
    return 0;
}

#define SYSENTER_EIP 0x176
#define LSTAR 0xc0000082u
#define PENDING_IRR 0x220 /* vectors 0x40 to 0x5f */

/* A running timer, an interrupt that is pending, and MSRs, unlike at power-on. */
static void change_apic_and_msrs(Host *h)
{
    struct kvm_lapic_state lapic;
    g_autofree struct kvm_msrs *msrs = g_malloc0(sizeof(*msrs) + 2 * sizeof(msrs->entries[0]));
    assert_int_equal(ioctl(h->fd, KVM_GET_LAPIC, &lapic), 0);
    lapic_put(&lapic, 0xf0, 0x1ff);         /* SVR: on */
    lapic_put(&lapic, 0x320, 0x20050);      /* LVT timer: periodic, vector 0x50 */
    lapic_put(&lapic, 0x3e0, 0xb);          /* by 1 */
    lapic_put(&lapic, 0x380, 0x70000000);   /* initial count */
    lapic_put(&lapic, PENDING_IRR, 1 << 1); /* vector 0x41 */
    assert_int_equal(ioctl(h->fd, KVM_SET_LAPIC, &lapic), 0);
    msrs->nmsrs = 2;
    msrs->entries[0] = (struct kvm_msr_entry){.index = SYSENTER_EIP, .data = 0x1234567};
    msrs->entries[1] = (struct kvm_msr_entry){.index = LSTAR, .data = 0x7654321};
    assert_int_equal(ioctl(h->fd, KVM_SET_MSRS, msrs), 2);
}

static void body_equal(Host *a, Host *b)
{
    enter_vcpu();
    for (unsigned i = 0; i < 70; i++) {
        next_step(a);
    }
    change_apic_and_msrs(a);
    struct kvm_debugregs debug;
    assert_int_equal(ioctl(a->fd, KVM_GET_DEBUGREGS, &debug), 0);
    debug.db[0] = 0x1234;
    debug.db[3] = 0x5678;
    assert_int_equal(ioctl(a->fd, KVM_SET_DEBUGREGS, &debug), 0);
    assert_int_equal(ioctl(a->fd, KVM_NMI), 0);
    struct kvm_mp_state halted = {.mp_state = KVM_MP_STATE_HALTED};
    assert_int_equal(ioctl(a->fd, KVM_SET_MP_STATE, &halted), 0);
    g_autoptr(ArchVcpuState) state = saved(a);
    assert_int_equal(state->mp_state, KVM_MP_STATE_HALTED);
    assert_int_equal(state->events.nmi.pending, 1);
    assert_int_equal(state->debugregs.db[3], 0x5678);
    assert_int_equal(msr_of(state, SYSENTER_EIP), 0x1234567);
    assert_int_equal(msr_of(state, LSTAR), 0x7654321);
    assert_int_equal(state->lapic.regs[PENDING_IRR], 1 << 1);
    move(a, b);
    assert_same_state(b, state);
}

static void a_loaded_vcpu_saves_as_the_same(void **state)
{
    with_machines(body_equal);
}

/* ---- what is wrong ---- */

/* @change is refused by @message and leaves the vCPU as it was. */
static RUNS_IN_VCPU void assert_refused(Host *m, const ArchVcpuState *wrong, const char *message)
{
    g_autoptr(ArchVcpuState) before = saved(m);
    g_autoptr(GError) error = NULL;
    if (arch_vcpu_load(&m->cpus, m->fd, 0, wrong, &error)) {
        fail_msg("accepted: %s", message);
    }
    if (strstr(error->message, message) == NULL) {
        fail_msg("'%s' is not in: %s", message, error->message);
    }
    assert_same_state(m, before);
}

#define WRONG(field, value, message)                                                               \
    do {                                                                                           \
        g_autoptr(ArchVcpuState) wrong = g_memdup2(good, sizeof(*good));                           \
        wrong->field = (value);                                                                    \
        assert_refused(b, wrong, (message));                                                       \
    } while (0)

static void body_wrong(Host *a, Host *b)
{
    enter_vcpu();
    next_step(a);
    g_autoptr(ArchVcpuState) good = saved(a);
    WRONG(apic_id, 1, "APIC id 1, where -smp gives 0");
    WRONG(lapic.regs[0x23], 7, "local APIC has id 7");
    WRONG(msrs[1].index, good->msrs[0].index, "is there twice");
    WRONG(msrs[0], ((struct kvm_msr_entry){.index = 0xdead, .data = 1}),
          "does not have MSR 0xdead");
    WRONG(msrs[0], ((struct kvm_msr_entry){.index = HV_TIME_REF_COUNT, .data = 1}),
          "does not have MSR 0x40000020"); /* KVM computes it */
    WRONG(cpuid_used, good->cpuid_used - 1, "CPUID leaf");
    WRONG(cpuid[0].eax, good->cpuid[0].eax + 1, "CPUID leaf 0x0, index 0");
    for (uint32_t i = 0; i < good->cpuid_used; i++) {
        if (good->cpuid[i].function == 1) {
            WRONG(cpuid[i].ecx, UINT32_MAX, "which this host or -cpu does not offer");
            WRONG(cpuid[i].ecx, UINT32_MAX, "the saved processor has ");
        }
    }
}

static void states_of_another_processor_are_refused_by_name(void **state)
{
    with_machines(body_wrong);
}

/* Each call to KVM in turn fails: loading reports it by name, and the vCPU is as before. */
static void body_kvm_refuses(Host *a, Host *b)
{
    enter_vcpu();
    next_step(a);
    g_autoptr(ArchVcpuState) good = saved(a);
    g_autoptr(ArchVcpuState) other = saved(b); /* differs from it in every part */
    g_autoptr(GError) error = NULL;
    unsigned refused = 0;
    other->regs.rax = 77;
    other->debugregs.db[1] = 0x4321;
    other->sregs.cr2 = 0x1111;
    other->lapic.regs[0x80] = 0x20; /* TPR */
    other->xsave[0] = 0x7f;         /* FCW, 0x37f at power-on */
    other->events.nmi.pending = 1;
    for (unsigned n = 0;; n++) {
        assert_true(arch_vcpu_load(&b->cpus, b->fd, 0, other, &error));
        g_autoptr(ArchVcpuState) before = saved(b);
        sys_fault_set(&(SysFault){.calls = "ioctl", .after = n, .count = 1, .error = EIO});
        bool ok = arch_vcpu_load(&b->cpus, b->fd, 0, good, &error);
        bool hit = sys_fault_hits() != 0;
        sys_fault_set(NULL);
        if (!ok) {
            assert_non_null(strstr(error->message, "KVM"));
            g_clear_error(&error);
            assert_same_state(b, before);
            refused++;
        }
        if (!hit) {
            break;
        }
    }
    assert_true(refused > 15);
}

static void a_kvm_that_refuses_is_named(void **state)
{
    with_machines(body_kvm_refuses);
}

static int setup(void **state)
{
    thread_adopt_role(THREAD_MAIN, "main");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_moved_vcpu_goes_on_to_the_same_result),
        cmocka_unit_test(a_moved_vcpu_keeps_the_upper_halves_of_avx),
        cmocka_unit_test(a_loaded_vcpu_saves_as_the_same),
        cmocka_unit_test(states_of_another_processor_are_refused_by_name),
        cmocka_unit_test(a_kvm_that_refuses_is_named),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
