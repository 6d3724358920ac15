/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves a vCPU's registers as notes of a dump.
 *
 * "CORE", NT_PRSTATUS: Linux' struct elf_prstatus, from which gdb and crash read registers; one
 * "thread" for each vCPU, numbered from 1.
 *
 * "QEMU", type 0: system registers for kernel debuggers (crash locates a kernel with KASLR by IDTR
 * and CR3). The layout is QEMU's interface to other programs: version 1 and its size first; a
 * descriptor's flags are bits 8-23 of the upper word of its descriptor (Intel SDM volume 3, 3.4.5).
 */
#include <elf.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/procfs.h>
#include <sys/user.h>
#include "vmm/arch/arch.h"
#include "vmm/arch/elf_note.h"

#define MSR_KERNEL_GS_BASE 0xc0000102u

typedef struct QemuNoteSegment {
    uint32_t selector, limit, flags, pad;
    uint64_t base;
} QemuNoteSegment;

typedef struct QemuNote {
    uint32_t version, size;
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
    QemuNoteSegment cs, ds, es, fs, gs, ss;
    QemuNoteSegment ldt, tr, gdt, idt;
    uint64_t cr[5];
    uint64_t kernel_gs_base;
} QemuNote;

_Static_assert(sizeof(QemuNote) == 440, "other programs read this layout");
_Static_assert(sizeof(struct user_regs_struct) == sizeof(elf_gregset_t),
               "both are the same layout");

static void dump_put_core_note(GByteArray *notes, unsigned index, const struct kvm_regs *r,
                               const struct kvm_sregs *s)
{
    struct elf_prstatus status = {.pr_pid = (pid_t)index + 1};
    struct user_regs_struct regs = {
        .r15 = r->r15,
        .r14 = r->r14,
        .r13 = r->r13,
        .r12 = r->r12,
        .rbp = r->rbp,
        .rbx = r->rbx,
        .r11 = r->r11,
        .r10 = r->r10,
        .r9 = r->r9,
        .r8 = r->r8,
        .rax = r->rax,
        .rcx = r->rcx,
        .rdx = r->rdx,
        .rsi = r->rsi,
        .rdi = r->rdi,
        .rip = r->rip,
        .cs = s->cs.selector,
        .eflags = r->rflags,
        .rsp = r->rsp,
        .ss = s->ss.selector,
        .fs_base = s->fs.base,
        .gs_base = s->gs.base,
        .ds = s->ds.selector,
        .es = s->es.selector,
        .fs = s->fs.selector,
        .gs = s->gs.selector,
    };
    memcpy(&status.pr_reg, &regs, sizeof(regs));
    elf_note_append(notes, "CORE", NT_PRSTATUS, &status, sizeof(status));
}

static QemuNoteSegment dump_segment(const struct kvm_segment *s)
{
    return (QemuNoteSegment){
        .selector = s->selector,
        .limit = s->limit,
        .flags = (uint32_t)s->type << 8 | (uint32_t)s->s << 12 | (uint32_t)s->dpl << 13 |
                 (uint32_t)s->present << 15 | (uint32_t)s->avl << 20 | (uint32_t)s->l << 21 |
                 (uint32_t)s->db << 22 | (uint32_t)s->g << 23,
        .base = s->base,
    };
}

static void dump_put_qemu_note(GByteArray *notes, const struct kvm_regs *r,
                               const struct kvm_sregs *s, uint64_t kernel_gs_base)
{
    QemuNote n = {
        .version = 1,
        .size = sizeof(n),
        .rax = r->rax,
        .rbx = r->rbx,
        .rcx = r->rcx,
        .rdx = r->rdx,
        .rsi = r->rsi,
        .rdi = r->rdi,
        .rsp = r->rsp,
        .rbp = r->rbp,
        .r8 = r->r8,
        .r9 = r->r9,
        .r10 = r->r10,
        .r11 = r->r11,
        .r12 = r->r12,
        .r13 = r->r13,
        .r14 = r->r14,
        .r15 = r->r15,
        .rip = r->rip,
        .rflags = r->rflags,
        .cs = dump_segment(&s->cs),
        .ds = dump_segment(&s->ds),
        .es = dump_segment(&s->es),
        .fs = dump_segment(&s->fs),
        .gs = dump_segment(&s->gs),
        .ss = dump_segment(&s->ss),
        .ldt = dump_segment(&s->ldt),
        .tr = dump_segment(&s->tr),
        .gdt = {.limit = s->gdt.limit, .base = s->gdt.base},
        .idt = {.limit = s->idt.limit, .base = s->idt.base},
        .cr = {s->cr0, 0, s->cr2, s->cr3, s->cr4},
        .kernel_gs_base = kernel_gs_base,
    };
    elf_note_append(notes, "QEMU", 0, &n, sizeof(n));
}

static uint64_t dump_get_kernel_gs_base(int vcpu_fd)
{
    g_autofree struct kvm_msrs *msrs =
        g_malloc0(sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry));
    msrs->nmsrs = 1;
    msrs->entries[0].index = MSR_KERNEL_GS_BASE;
    return ioctl(vcpu_fd, KVM_GET_MSRS, msrs) == 1 ? msrs->entries[0].data : 0;
}

void arch_vcpu_dump_notes(int vcpu_fd, unsigned index, GByteArray *core, GByteArray *qemu)
{
    struct kvm_regs regs = {0}; /* these two calls do not fail for an existing vCPU */
    struct kvm_sregs sregs = {0};
    ioctl(vcpu_fd, KVM_GET_REGS, &regs);
    ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);
    dump_put_core_note(core, index, &regs, &sregs);
    dump_put_qemu_note(qemu, &regs, &sregs, dump_get_kernel_gs_base(vcpu_fd));
}
