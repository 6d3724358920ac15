/* SPDX-License-Identifier: Apache-2.0 */
/* For tests on /dev/kvm: a VM and what its vCPUs have in common, of the host's model. The vCPUs
 * themselves are the test's to make. What fails ends the program. */
#ifndef SKIFF_TESTS_SUPPORT_HOST_KVM_H
#define SKIFF_TESTS_SUPPORT_HOST_KVM_H

#include "vmm/arch/x86_64/arch_vcpu.h"
#include "vmm/arch/x86_64/boot_state.h"

/* Where a guest of a few bytes of machine code begins, and a reset into it: 32 bits, flat. */
#define HOST_KVM_CODE 0x1000u
extern const BootState host_kvm_boot;

/* @ram is what the guest has then; @count vCPUs, each a core. */
RUNS_IN_MAIN void host_kvm_open(Kvm *kvm, ArchCpus *cpus, const GuestRam *ram, unsigned count);
/* After the vCPUs. */
RUNS_IN_MAIN void host_kvm_close(Kvm *kvm, ArchCpus *cpus);

#endif
