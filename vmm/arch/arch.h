/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface to the processor architecture. vmm/arch/x86_64/ implements it; the rest of vmm/ is
 * independent of the architecture.
 */
#ifndef SKIFF_VMM_ARCH_ARCH_H
#define SKIFF_VMM_ARCH_ARCH_H

#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include "util/state/state.h"
#include "vmm/kvm/kvm.h"

typedef struct Vcpu Vcpu;
typedef struct BootState BootState; /* initial registers, as a boot protocol requires them */
typedef struct ArchVcpu ArchVcpu;   /* the architecture's state of one vCPU */

#if defined(__x86_64__)
#define ARCH_NAME "x86_64" /* QEMU's SysEmuTarget */
#define ARCH_FIRST_MSI_GSI 24
#define ARCH_ELF_MACHINE 62 /* EM_X86_64 */
#define ARCH_MAX_VCPUS 255  /* APIC ids are 0 to 254 */
#include "vmm/arch/x86_64/page_walk.h"
#else
#error "no such board"
#endif

/* Adds interrupt controllers, timers and the routes of their pins. Called after kvm_create_vm(). */
bool arch_vm_init(Kvm *kvm, GError **error) ANY_THREAD;

/* Drops ticks of the timer chip that came too late for the guest; by default they are delivered
 * later, one after the other. After arch_vm_init(). False + error: KVM cannot. */
bool arch_vm_discard_late_ticks(Kvm *kvm, GError **error) ANY_THREAD;

/* Resets the VM's chips (interrupt controllers, timers, clock) to power-on. vCPUs are parked. */
bool arch_vm_reset(Kvm *kvm, GError **error) ANY_THREAD;
/* Stops the guest's clock while the VM is stopped. */
void arch_vm_clock_stop(Kvm *kvm) ANY_THREAD;
void arch_vm_clock_start(Kvm *kvm) ANY_THREAD;

/* The VM's chips: the architecture defines ArchVmState and its table. While the VM is stopped, and for
 * loading with the vCPUs' state loaded and before devices set their interrupt lines: the levels of
 * lines are the devices' to restore. A timer chip that ticks begins its period anew. False + error: KVM
 * refuses a part, which is named; the chips have the state they had. */
typedef struct ArchVmState ArchVmState;
extern const StateDesc arch_vm_state_desc;
ArchVmState *arch_vm_state_new(void) ANY_THREAD;
void arch_vm_state_free(ArchVmState *state) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ArchVmState, arch_vm_state_free)
bool arch_vm_save(Kvm *kvm, ArchVmState *state, GError **error) ANY_THREAD;
bool arch_vm_load(Kvm *kvm, const ArchVmState *state, GError **error) ANY_THREAD;

/* Prints the values of -cpu, for -cpu help. */
void arch_print_cpu_help(FILE *out) ANY_THREAD;

/* The models of -cpu; NULL-terminated. */
extern const char *const arch_cpu_models[];
/* Calls @each with every feature of -cpu, and whether a processor with -cpu @text has it. False +
 * error as for -cpu: an unknown name, or a feature that the host lacks. */
bool arch_cpu_expand(const Kvm *kvm, const char *text,
                     void (*each)(const char *name, bool on, void *opaque), void *opaque,
                     GError **error) ANY_THREAD;

/* What all vCPUs of one VM share. */
typedef struct ArchCpus ArchCpus;

/* In the vCPU's thread: sets up CPUID and saves the power-on state. */
ArchVcpu *arch_vcpu_new(const ArchCpus *cpus, int vcpu_fd, unsigned index, GError **error)
    RUNS_IN_VCPU;
void arch_vcpu_free(ArchVcpu *v) ANY_THREAD;
/* KVM's id for the vCPU with this index (the APIC id). */
unsigned long arch_vcpu_id(const ArchCpus *cpus, unsigned index) ANY_THREAD;
/* Restores the power-on state, then applies @boot (NULL: the reset vector). The first vCPU gets its
 * registers; every vCPU gets what firmware sets up on every processor. In the vCPU's thread. */
bool arch_vcpu_reset(ArchVcpu *v, int vcpu_fd, unsigned index, const BootState *boot,
                     GError **error) RUNS_IN_VCPU;

/* ---- saved state: the architecture defines ArchVcpuState and its table; large, so on the heap ---- */
typedef struct ArchVcpuState ArchVcpuState;
extern const StateDesc arch_vcpu_state_desc;
ArchVcpuState *arch_vcpu_state_new(void) ANY_THREAD;
void arch_vcpu_state_free(ArchVcpuState *state) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ArchVcpuState, arch_vcpu_state_free)
/* In the vCPU's thread, with the VM stopped and no exit pending. */
bool arch_vcpu_save(const ArchCpus *cpus, int vcpu_fd, unsigned index, ArchVcpuState *state,
                    GError **error) RUNS_IN_VCPU;
/* Whether a vCPU with this index can have @state: the processor that was saved offers nothing that
 * this one lacks. False + error, which names what is missing. */
bool arch_vcpu_state_check(const ArchCpus *cpus, unsigned index, const ArchVcpuState *state,
                           GError **error) ANY_THREAD;
/* Checks, then sets everything, with guest RAM loaded and the VM stopped. False + error: KVM refuses
 * a part, which is named; the vCPU has the state it had. In the vCPU's thread. */
bool arch_vcpu_load(const ArchCpus *cpus, int vcpu_fd, unsigned index, const ArchVcpuState *state,
                    GError **error) RUNS_IN_VCPU;

/* Notifies the guest that its vCPU was stopped (soft lockup watchdogs). In the vCPU's thread,
 * before it runs again. */
void arch_vcpu_resumed(int vcpu_fd) RUNS_IN_VCPU;
/* Prints the registers. In the vCPU's thread. */
void arch_vcpu_dump(int vcpu_fd, unsigned index, FILE *out) RUNS_IN_VCPU;
/* Prints the processor's interrupt controller. In the vCPU's thread. */
void arch_vcpu_dump_interrupts(int vcpu_fd, unsigned index, FILE *out) RUNS_IN_VCPU;
/* Reads a register by its lower-case name; "pc", "sp" and "fp" exist on every architecture. False:
 * there is no such register. */
bool arch_vcpu_get_register(int vcpu_fd, const char *name, uint64_t *value) RUNS_IN_VCPU;
/* Delivers the board's NMI button to this processor's interrupt controller (KVM api.rst "KVM_NMI").
 * In the vCPU's thread. */
bool arch_vcpu_press_nmi(int vcpu_fd, unsigned index, GError **error) RUNS_IN_VCPU;

/* ---- address translation: the architecture defines ArchPaging and ArchTranslation ---- */
/* Reads the registers that translation depends on. In the vCPU's thread. */
void arch_vcpu_get_paging(int vcpu_fd, ArchPaging *paging) RUNS_IN_VCPU;
/* Translates @gva. False + @error: it is not mapped, or the tables lead out of RAM. */
bool arch_translate(const ArchPaging *paging, const GuestRam *ram, uint64_t gva, ArchTranslation *t,
                    GError **error) ANY_THREAD;
/* A mapping: @size bytes at @gva are those at @gpa, RAM or not. False stops the listing. */
typedef bool ArchMappingFn(void *opaque, uint64_t gva, uint64_t gpa, uint64_t size);
/* Calls @fn for every mapped page, by ascending address; tables outside of RAM map nothing. The
 * tables may form cycles: at most *@tables_left tables are read, and the count is decremented.
 * False: @fn returned false, or there were more tables. Without paging there are no mappings. */
bool arch_list_mappings(const ArchPaging *paging, const GuestRam *ram, uint64_t *tables_left,
                        ArchMappingFn *fn, void *opaque) ANY_THREAD;

/* ---- dumps ---- */
/* Appends the registers as ELF notes: to @core in the format of a core file (NT_PRSTATUS), to @qemu
 * the further notes of QEMU's dumps. In the vCPU's thread. */
void arch_vcpu_dump_notes(int vcpu_fd, unsigned index, GByteArray *core, GByteArray *qemu)
    RUNS_IN_VCPU;

#endif
