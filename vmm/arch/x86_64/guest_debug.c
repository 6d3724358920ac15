/* SPDX-License-Identifier: Apache-2.0 */
/* Debug registers and single-stepping through KVM. Intel SDM volume 3 §17.2 "Debug Registers"; KVM
 * api.rst "KVM_SET_GUEST_DEBUG". */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/arch_debug.h"

#define X86_RFLAGS_TF (UINT64_C(1) << 8)
#define X86_EXCEPTION_DB 1
#define X86_EXCEPTION_BP 3
#define X86_DR6_STEP (UINT64_C(1) << 14)
#define X86_DR6_SLOTS UINT64_C(0xf)
#define X86_DR7_FIXED UINT64_C(0x400)
#define X86_DR7_GLOBAL_EXACT (UINT64_C(1) << 9)

#ifndef KVM_GUESTDBG_BLOCKIRQ
#define KVM_GUESTDBG_BLOCKIRQ 0x00100000
#endif

bool arch_debug_can_block_interrupts(const Kvm *kvm)
{
    int offered = kvm_check(kvm, KVM_CAP_SET_GUEST_DEBUG2);
    return offered > 0 && (offered & KVM_GUESTDBG_BLOCKIRQ) != 0;
}

static uint64_t x86_dr7(const ArchDebug *debug)
{
    static const uint64_t kinds[] = {
        [ARCH_HW_EXECUTE] = 0, [ARCH_HW_WRITE] = 1, [ARCH_HW_ACCESS] = 3};
    uint64_t dr7 = X86_DR7_FIXED | X86_DR7_GLOBAL_EXACT;
    for (unsigned i = 0; i < ARCH_HW_BREAKPOINTS; i++) {
        const ArchHwBreakpoint *b = &debug->hw[i];
        if (!b->used) {
            continue;
        }
        uint64_t size = b->size == 8 ? 2 : b->size - 1; /* 1, 2, 8, 4 bytes are 0, 1, 2, 3 */
        dr7 |= UINT64_C(2) << (i * 2) | (kinds[b->kind] | size << 2) << (16 + i * 4);
    }
    return dr7;
}

static void x86_fill_guest_debug(struct kvm_guest_debug *d, const ArchDebug *debug)
{
    *d = (struct kvm_guest_debug){.arch.debugreg[7] = X86_DR7_FIXED};
    if (debug->traps) { /* every trap exits to skiff then, even without a breakpoint */
        d->control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    }
    if (debug->software) {
        d->control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    }
    if (debug->step) {
        d->control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
        d->control |= debug->step_blocks_interrupts ? KVM_GUESTDBG_BLOCKIRQ : 0;
    }
    for (unsigned i = 0; i < ARCH_HW_BREAKPOINTS; i++) {
        if (debug->hw[i].used) {
            d->control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
            d->arch.debugreg[i] = debug->hw[i].address;
            d->arch.debugreg[7] = x86_dr7(debug);
        }
    }
}

bool arch_debug_apply(int vcpu_fd, const ArchDebug *debug, GError **error)
{
    struct kvm_guest_debug d;
    x86_fill_guest_debug(&d, debug);
    if (ioctl(vcpu_fd, KVM_SET_GUEST_DEBUG, &d) != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "KVM_SET_GUEST_DEBUG: %s",
                    g_strerror(errno));
        return false;
    }
    return true;
}

/* A watchpoint has priority over a completed step, which may be reported with it. */
ArchDebugCause arch_debug_cause(const struct kvm_debug_exit_arch *exit, const ArchDebug *debug,
                                uint64_t *pc, unsigned *slot)
{
    *pc = exit->pc;
    *slot = 0;
    if (exit->exception == X86_EXCEPTION_BP) {
        return ARCH_DEBUG_SOFTWARE;
    }
    for (unsigned i = 0; i < ARCH_HW_BREAKPOINTS; i++) {
        if ((exit->dr6 & UINT64_C(1) << i) != 0 && debug->hw[i].used) {
            *slot = i;
            return ARCH_DEBUG_HARDWARE;
        }
    }
    return (exit->dr6 & X86_DR6_STEP) != 0 && debug->step ? ARCH_DEBUG_STEP : ARCH_DEBUG_FOREIGN;
}

void arch_debug_reinject(int vcpu_fd, const struct kvm_debug_exit_arch *exit,
                         const ArchDebug *debug)
{
    struct kvm_guest_debug d;
    x86_fill_guest_debug(&d, debug);
    d.control |= KVM_GUESTDBG_ENABLE;
    if (exit->exception == X86_EXCEPTION_BP) {
        d.control |= KVM_GUESTDBG_INJECT_BP;
    } else {
        struct kvm_debugregs registers;
        if (ioctl(vcpu_fd, KVM_GET_DEBUGREGS, &registers) == 0) {
            registers.dr6 =
                (registers.dr6 & ~X86_DR6_SLOTS) | (exit->dr6 & (X86_DR6_SLOTS | X86_DR6_STEP));
            ioctl(vcpu_fd, KVM_SET_DEBUGREGS, &registers);
        }
        d.control |= KVM_GUESTDBG_INJECT_DB;
    }
    ioctl(vcpu_fd, KVM_SET_GUEST_DEBUG, &d); /* EBUSY: another exception has priority */
}

bool arch_debug_drop_trap(int vcpu_fd, const struct kvm_debug_exit_arch *exit)
{
    struct kvm_regs regs;
    if (exit->exception != X86_EXCEPTION_DB || (exit->dr6 & X86_DR6_STEP) == 0 ||
        ioctl(vcpu_fd, KVM_GET_REGS, &regs) != 0) {
        return false;
    }
    regs.rflags &= ~X86_RFLAGS_TF;
    return ioctl(vcpu_fd, KVM_SET_REGS, &regs) == 0;
}

bool arch_debug_is_fallback(int vcpu_fd, const struct kvm_run *run, uint64_t pc[2])
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    if (run->io.direction != KVM_EXIT_IO_OUT || run->io.size != 1 || run->io.count != 1 ||
        ioctl(vcpu_fd, KVM_GET_REGS, &regs) != 0 || ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) != 0) {
        return false;
    }
    pc[0] = sregs.cs.base + regs.rip;
    pc[1] = pc[0] - 1;
    return true;
}

bool arch_paging_is_on(const ArchPaging *paging)
{
    return (paging->cr0 & X86_CR0_PG) != 0;
}
