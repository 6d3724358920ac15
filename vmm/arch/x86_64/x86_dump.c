/* SPDX-License-Identifier: Apache-2.0 */
/* Prints registers in the layout of QEMU's `info registers`, for people and scripts. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/arch_vcpu.h"

#define X86_XSAVE_MXCSR (24 / 4) /* of kvm_xsave.region. SDM volume 1, 10.5.1 */
#define X86_RFLAGS_VM (1u << 17)

typedef struct X86Dump {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debugregs;
    struct kvm_fpu fpu;
    struct kvm_mp_state mp_state;
    struct kvm_vcpu_events events;
    bool long_mode, code64;
} X86Dump;

static bool x86_dump_read(X86Dump *d, int fd)
{
    if (ioctl(fd, KVM_GET_REGS, &d->regs) != 0 || ioctl(fd, KVM_GET_SREGS, &d->sregs) != 0) {
        return false;
    }
    /* Registers that KVM lacks are printed as zeros. */
    if (ioctl(fd, KVM_GET_DEBUGREGS, &d->debugregs) != 0) {
        memset(&d->debugregs, 0, sizeof(d->debugregs));
    }
    if (ioctl(fd, KVM_GET_FPU, &d->fpu) != 0) {
        memset(&d->fpu, 0, sizeof(d->fpu));
    }
    struct kvm_xsave xsave;
    if (ioctl(fd, KVM_GET_XSAVE, &xsave) == 0) {
        d->fpu.mxcsr = xsave.region[X86_XSAVE_MXCSR]; /* KVM_GET_FPU omits it */
    }
    if (ioctl(fd, KVM_GET_MP_STATE, &d->mp_state) != 0) {
        d->mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
    }
    if (ioctl(fd, KVM_GET_VCPU_EVENTS, &d->events) != 0) {
        memset(&d->events, 0, sizeof(d->events));
    }
    d->long_mode = (d->sregs.efer & X86_EFER_LMA) != 0;
    d->code64 = d->long_mode && d->sregs.cs.l;
    return true;
}

/* ---- general registers ---- */

static unsigned x86_dump_cpl(const X86Dump *d)
{
    if ((d->sregs.cr0 & X86_CR0_PE) == 0) {
        return 0;
    }
    return (d->regs.rflags & X86_RFLAGS_VM) != 0 ? 3 : d->sregs.ss.dpl;
}

static void x86_dump_flags(const X86Dump *d, FILE *out)
{
    static const struct {
        unsigned bit;
        char letter;
    } flags[] = {{10, 'D'}, {11, 'O'}, {7, 'S'}, {6, 'Z'}, {4, 'A'}, {2, 'P'}, {0, 'C'}};
    fputc('[', out);
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        fputc((d->regs.rflags >> flags[i].bit & 1) != 0 ? flags[i].letter : '-', out);
    }
    fprintf(out, "] CPL=%u II=%u A20=1 SMM=%u HLT=%u\n", x86_dump_cpl(d),
            d->events.interrupt.shadow != 0, d->events.smi.smm,
            d->mp_state.mp_state == KVM_MP_STATE_HALTED);
}

static void x86_dump_general(const X86Dump *d, FILE *out)
{
    const struct kvm_regs *r = &d->regs;
    const struct {
        const char *name;
        uint64_t value;
    } words[] = {
        {"AX", r->rax},  {"BX", r->rbx},  {"CX", r->rcx},  {"DX", r->rdx},
        {"SI", r->rsi},  {"DI", r->rdi},  {"BP", r->rbp},  {"SP", r->rsp},
        {"R8 ", r->r8},  {"R9 ", r->r9},  {"R10", r->r10}, {"R11", r->r11},
        {"R12", r->r12}, {"R13", r->r13}, {"R14", r->r14}, {"R15", r->r15},
    };
    for (unsigned i = 0; i < (d->code64 ? G_N_ELEMENTS(words) : 8); i++) {
        char end = i % 4 == 3 ? '\n' : ' ';
        if (d->code64) {
            fprintf(out, "%s%s=%016" PRIx64 "%c", i < 8 ? "R" : "", words[i].name, words[i].value,
                    end);
        } else {
            fprintf(out, "E%s=%08" PRIx32 "%c", words[i].name, (uint32_t)words[i].value, end);
        }
    }
    if (d->code64) {
        fprintf(out, "RIP=%016" PRIx64 " RFL=%08" PRIx32 " ", (uint64_t)r->rip,
                (uint32_t)r->rflags);
    } else {
        fprintf(out, "EIP=%08" PRIx32 " EFL=%08" PRIx32 " ", (uint32_t)r->rip, (uint32_t)r->rflags);
    }
    x86_dump_flags(d, out);
}

/* ---- segments ---- */

/* The upper half of the descriptor as it would be in a table, without base and limit. SDM volume 3,
 * 3.4.5. */
static uint32_t x86_dump_attributes(const struct kvm_segment *s)
{
    return (uint32_t)(s->type << 8 | s->s << 12 | s->dpl << 13 | s->present << 15 | s->avl << 20 |
                      s->l << 21 | s->db << 22 | s->g << 23);
}

/* SDM volume 3, table 3-2. */
static const char *x86_dump_system_type(const struct kvm_segment *s, bool long_mode)
{
    static const char *const names[2][16] = {
        {[1] = "TSS16-avl",
         [2] = "LDT",
         [3] = "TSS16-busy",
         [4] = "CallGate16",
         [5] = "TaskGate",
         [6] = "IntGate16",
         [7] = "TrapGate16",
         [9] = "TSS32-avl",
         [11] = "TSS32-busy",
         [12] = "CallGate32",
         [14] = "IntGate32",
         [15] = "TrapGate32"},
        {[0] = "<hiword>",
         [2] = "LDT",
         [9] = "TSS64-avl",
         [11] = "TSS64-busy",
         [12] = "CallGate64",
         [14] = "IntGate64",
         [15] = "TrapGate64"},
    };
    const char *name = names[long_mode][s->type & 15];
    return name != NULL ? name : "Reserved";
}

static void x86_dump_segment(const X86Dump *d, FILE *out, const char *name,
                             const struct kvm_segment *s)
{
    int width = d->code64 ? 16 : 8;
    fprintf(out, "%-3s=%04x %0*" PRIx64 " %08x %08x", name, s->selector, width,
            d->code64 ? (uint64_t)s->base : (uint32_t)s->base, s->limit, x86_dump_attributes(s));
    if ((d->sregs.cr0 & X86_CR0_PE) == 0 || !s->present) {
        fputc('\n', out);
        return;
    }
    fprintf(out, " DPL=%d ", s->dpl);
    if (!s->s) {
        fprintf(out, "%s\n", x86_dump_system_type(s, d->long_mode));
        return;
    }
    bool code = (s->type & 8) != 0;
    fputs(code ? (s->l    ? "CS64"
                  : s->db ? "CS32"
                          : "CS16")
               : (s->db || d->long_mode ? "DS  " : "DS16"),
          out);
    fprintf(out, " [%c%c%c]\n",
            (s->type & 4) == 0 ? '-'
            : code             ? 'C'
                               : 'E',
            (s->type & 2) == 0 ? '-'
            : code             ? 'R'
                               : 'W',
            (s->type & 1) != 0 ? 'A' : '-');
}

static void x86_dump_table(const X86Dump *d, FILE *out, const char *name,
                           const struct kvm_dtable *t)
{
    fprintf(out, "%s=     %0*" PRIx64 " %08x\n", name, d->long_mode ? 16 : 8,
            d->long_mode ? (uint64_t)t->base : (uint32_t)t->base, t->limit);
}

static void x86_dump_system(const X86Dump *d, FILE *out)
{
    const struct kvm_sregs *s = &d->sregs;
    const struct {
        const char *name;
        const struct kvm_segment *segment;
    } segments[] = {{"ES", &s->es}, {"CS", &s->cs}, {"SS", &s->ss},   {"DS", &s->ds},
                    {"FS", &s->fs}, {"GS", &s->gs}, {"LDT", &s->ldt}, {"TR", &s->tr}};
    for (unsigned i = 0; i < G_N_ELEMENTS(segments); i++) {
        x86_dump_segment(d, out, segments[i].name, segments[i].segment);
    }
    x86_dump_table(d, out, "GDT", &s->gdt);
    x86_dump_table(d, out, "IDT", &s->idt);
    int width = d->long_mode ? 16 : 8;
    fprintf(out, "CR0=%08" PRIx64 " CR2=%0*" PRIx64 " CR3=%0*" PRIx64 " CR4=%08" PRIx64 "\n",
            (uint64_t)s->cr0, width, (uint64_t)s->cr2, width, (uint64_t)s->cr3, (uint64_t)s->cr4);
    for (unsigned i = 0; i < 4; i++) {
        fprintf(out, "DR%u=%016" PRIx64 " ", i, (uint64_t)d->debugregs.db[i]);
    }
    fprintf(out, "\nDR6=%016" PRIx64 " DR7=%016" PRIx64 "\n", (uint64_t)d->debugregs.dr6,
            (uint64_t)d->debugregs.dr7);
    fprintf(out, "EFER=%016" PRIx64 "\n", (uint64_t)s->efer);
}

/* ---- floating point ---- */

static void x86_dump_fpu(const X86Dump *d, FILE *out)
{
    const struct kvm_fpu *f = &d->fpu;
    fprintf(out, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", f->fcw, f->fsw,
            f->fsw >> 11 & 7u, f->ftwx, f->mxcsr);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t mantissa;
        uint16_t exponent;
        memcpy(&mantissa, f->fpr[i], sizeof(mantissa));
        memcpy(&exponent, f->fpr[i] + sizeof(mantissa), sizeof(exponent));
        fprintf(out, "FPR%u=%016" PRIx64 " %04x%c", i, mantissa, exponent, i % 2 == 1 ? '\n' : ' ');
    }
    for (unsigned i = 0; i < (d->code64 ? 16 : 8); i++) {
        uint64_t half[2];
        memcpy(half, f->xmm[i], sizeof(half));
        fprintf(out, "XMM%02u=%016" PRIx64 " %016" PRIx64 "%c", i, half[1], half[0],
                i % 2 == 1 ? '\n' : ' ');
    }
}

void arch_vcpu_dump(int vcpu_fd, unsigned index, FILE *out)
{
    X86Dump d = {0};
    fprintf(out, "CPU#%u\n", index);
    if (!x86_dump_read(&d, vcpu_fd)) {
        fprintf(out, "registers cannot be read: %s\n", g_strerror(errno));
        return;
    }
    x86_dump_general(&d, out);
    x86_dump_system(&d, out);
    x86_dump_fpu(&d, out);
    fflush(out);
}

/* ---- one register ---- */

static bool x86_find_register(const char *name, const struct kvm_regs *r, const struct kvm_sregs *s,
                              uint64_t *value)
{
    const struct {
        const char *name;
        uint64_t value;
    } words[] = {
        {"rax", r->rax},        {"rbx", r->rbx},        {"rcx", r->rcx},
        {"rdx", r->rdx},        {"rsi", r->rsi},        {"rdi", r->rdi},
        {"rbp", r->rbp},        {"rsp", r->rsp},        {"r8", r->r8},
        {"r9", r->r9},          {"r10", r->r10},        {"r11", r->r11},
        {"r12", r->r12},        {"r13", r->r13},        {"r14", r->r14},
        {"r15", r->r15},        {"rip", r->rip},        {"rflags", r->rflags},
        {"pc", r->rip},         {"sp", r->rsp},         {"fp", r->rbp},
        {"cr0", s->cr0},        {"cr2", s->cr2},        {"cr3", s->cr3},
        {"cr4", s->cr4},        {"cr8", s->cr8},        {"efer", s->efer},
        {"cs", s->cs.selector}, {"ss", s->ss.selector}, {"ds", s->ds.selector},
        {"es", s->es.selector}, {"fs", s->fs.selector}, {"gs", s->gs.selector},
        {"tr", s->tr.selector}, {"fsbase", s->fs.base}, {"gsbase", s->gs.base},
        {"gdt", s->gdt.base},   {"idt", s->idt.base},   {"eflags", r->rflags},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strcmp(words[i].name, name) == 0) {
            *value = words[i].value;
            return true;
        }
    }
    return false;
}

bool arch_vcpu_get_register(int vcpu_fd, const char *name, uint64_t *value)
{
    struct kvm_regs r;
    struct kvm_sregs s;
    if (ioctl(vcpu_fd, KVM_GET_REGS, &r) != 0 || ioctl(vcpu_fd, KVM_GET_SREGS, &s) != 0) {
        return false;
    }
    if (x86_find_register(name, &r, &s, value)) {
        return true;
    }
    /* "eax", "ip" for 16 and 32 bits */
    g_autofree char *wide = g_strconcat("r", name[0] == 'e' ? name + 1 : name, NULL);
    if (!x86_find_register(wide, &r, &s, value)) {
        return false;
    }
    *value &= name[0] == 'e' ? UINT32_MAX : UINT16_MAX;
    return true;
}
