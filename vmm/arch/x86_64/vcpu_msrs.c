/* SPDX-License-Identifier: Apache-2.0 */
/* MSRs of a saved vCPU, read and written in batches. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/vcpu_state.h"

#define MSR_BATCH 256

static struct kvm_msrs *msr_batch_new(void)
{
    return g_malloc0(sizeof(struct kvm_msrs) + MSR_BATCH * sizeof(struct kvm_msr_entry));
}

/* What KVM keeps and does not list (SDM vol. 4, table 2-2). */
static const struct {
    uint32_t first, count;
} msr_unlisted[] = {
    {0x200, 16},  /* IA32_MTRR_PHYSBASE0 and so on */
    {0x250, 1},   /* IA32_MTRR_FIX64K_00000 */
    {0x258, 2},   /* FIX16K */
    {0x268, 8},   /* FIX4K */
    {0x2ff, 1},   /* IA32_MTRR_DEF_TYPE */
    {0x400, 128}, /* IA32_MC0_CTL to IA32_MC31_MISC */
};

/* What KVM lists and computes: it refuses to write them, and what they are computed from is saved. All others
 * are saved, also those that run on: the TSC (0x10), its deadline (0x6e0), the time for which a virtual
 * processor has run (0x40000010), and performance counters, which count in the guest only. */
static const uint32_t msr_computed[] = {
    0x40000020, /* HV_X64_MSR_TIME_REF_COUNT: kvmclock's time in units of 100 ns */
    0x40000022, /* HV_X64_MSR_TSC_FREQUENCY: tsc_khz, which may differ a little from host to host */
    0x40000023, /* HV_X64_MSR_APIC_FREQUENCY: a constant of KVM */
};

static bool msr_is_computed(uint32_t msr)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(msr_computed); i++) {
        if (msr_computed[i] == msr) {
            return true;
        }
    }
    return false;
}

static void msr_add(ArchVcpuState *state, uint32_t msr)
{
    if (msr_is_computed(msr)) {
        return;
    }
    for (uint32_t i = 0; i < state->msrs_used; i++) {
        if (state->msrs[i].index == msr) {
            return;
        }
    }
    if (state->msrs_used < X86_STATE_MAX_MSRS) {
        state->msrs[state->msrs_used++] = (struct kvm_msr_entry){.index = msr};
    }
}

/* Fills @state with what a KVM with this list may have, without values. */
static void msr_list_wanted(const ArchCpus *cpus, ArchVcpuState *state)
{
    state->msrs_used = 0;
    for (uint32_t i = 0; i < cpus->msr_list->nmsrs; i++) {
        msr_add(state, cpus->msr_list->indices[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(msr_unlisted); i++) {
        for (uint32_t n = 0; n < msr_unlisted[i].count; n++) {
            msr_add(state, msr_unlisted[i].first + n);
        }
    }
}

static int msr_call(int fd, unsigned long request, struct kvm_msrs *batch,
                    const struct kvm_msr_entry *entries, uint32_t count)
{
    batch->nmsrs = count;
    batch->pad = 0;
    memcpy(batch->entries, entries, count * sizeof(entries[0]));
    return ioctl(fd, request, batch);
}

bool x86_msrs_save(const ArchCpus *cpus, int vcpu_fd, ArchVcpuState *state, GError **error)
{
    g_autofree struct kvm_msrs *batch = msr_batch_new();
    uint32_t kept = 0, wanted, done = 0;

    if (cpus->msr_list->nmsrs > X86_STATE_MAX_MSRS / 2) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "KVM has %u MSRs to save, more than the %d that a state has room for",
                    cpus->msr_list->nmsrs, X86_STATE_MAX_MSRS / 2);
        return false;
    }
    msr_list_wanted(cpus, state);
    wanted = state->msrs_used;
    while (done < wanted) {
        uint32_t count = MIN(wanted - done, (uint32_t)MSR_BATCH);
        int got = msr_call(vcpu_fd, KVM_GET_MSRS, batch, &state->msrs[done], count);

        if (got < 0 && errno != EINVAL) {
            int err = errno;
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "KVM_GET_MSRS: %s",
                        g_strerror(err));
            return false;
        }
        uint32_t read = got > 0 ? MIN((uint32_t)got, count) : 0;
        memmove(&state->msrs[kept], batch->entries, read * sizeof(batch->entries[0]));
        kept += read;
        done += read + (read < count); /* a batch stops at an MSR that the vCPU does not have */
    }
    memset(&state->msrs[kept], 0, (X86_STATE_MAX_MSRS - kept) * sizeof(state->msrs[0]));
    state->msrs_used = kept;
    return true;
}

static const struct kvm_msr_entry *msr_find(const struct kvm_msr_entry *msrs, uint32_t count,
                                            uint32_t msr)
{
    for (uint32_t i = 0; i < count; i++) {
        if (msrs[i].index == msr) {
            return &msrs[i];
        }
    }
    return NULL;
}

bool x86_msrs_check(const ArchCpus *cpus, const ArchVcpuState *state, GError **error)
{
    g_autofree ArchVcpuState *known = g_new0(ArchVcpuState, 1);

    msr_list_wanted(cpus, known);
    for (uint32_t i = 0; i < state->msrs_used; i++) {
        const struct kvm_msr_entry *e = &state->msrs[i];

        if (msr_find(state->msrs, i, e->index) != NULL) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE, "MSR 0x%x is there twice", e->index);
            return false;
        }
        if (e->data != 0 && msr_find(known->msrs, known->msrs_used, e->index) == NULL) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                        "KVM on this host does not have MSR 0x%x, which the guest has used",
                        e->index);
            return false;
        }
    }
    return true;
}

/* Whether the vCPU has the value that KVM refused to write: some MSRs are constants. One that KVM
 * does not have counts as 0. */
static bool msr_has_value(int fd, struct kvm_msrs *batch, const struct kvm_msr_entry *e)
{
    if (msr_call(fd, KVM_GET_MSRS, batch, e, 1) != 1) {
        return e->data == 0;
    }
    return batch->entries[0].data == e->data;
}

bool x86_msrs_load(int vcpu_fd, const ArchVcpuState *state, bool (*wanted)(uint32_t msr),
                   GError **error)
{
    g_autofree struct kvm_msrs *batch = msr_batch_new();
    g_autofree struct kvm_msr_entry *list = g_new0(struct kvm_msr_entry, X86_STATE_MAX_MSRS);
    uint32_t count = 0, done = 0;

    for (uint32_t i = 0; i < state->msrs_used; i++) {
        if (wanted(state->msrs[i].index)) {
            list[count++] = state->msrs[i];
        }
    }
    while (done < count) {
        uint32_t now = MIN(count - done, (uint32_t)MSR_BATCH);
        int written = msr_call(vcpu_fd, KVM_SET_MSRS, batch, &list[done], now);
        int err = errno;

        done += written > 0 ? MIN((uint32_t)written, now) : 0;
        if (written >= 0 && (uint32_t)written >= now) {
            continue;
        }
        const struct kvm_msr_entry *refused = &list[done++];
        if (!msr_has_value(vcpu_fd, batch, refused)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                        "KVM_SET_MSRS: KVM refuses the value 0x%llx of MSR 0x%x%s%s", refused->data,
                        refused->index, written < 0 ? ": " : "",
                        written < 0 ? g_strerror(err) : "");
            return false;
        }
    }
    return true;
}
