/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/gdb_registers_int.h"

#define X86_MSR_KERNEL_GS_BASE 0xc0000102

/* ---- conversion from and to KVM's structs ---- */

/* KVM_GET_MSRS or KVM_SET_MSRS of MSR_KERNEL_GS_BASE. */
static bool x86_kernel_gs_base(int fd, unsigned long request, uint64_t *value)
{
    g_autofree struct kvm_msrs *msrs = g_malloc0(sizeof(*msrs) + sizeof(msrs->entries[0]));
    msrs->nmsrs = 1;
    msrs->entries[0] = (struct kvm_msr_entry){.index = X86_MSR_KERNEL_GS_BASE, .data = *value};
    bool ok = ioctl(fd, request, msrs) == 1;
    *value = msrs->entries[0].data;
    return ok;
}

static bool x86_state_fail(GError **error, const char *what)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "%s: %s", what, g_strerror(err));
    return false;
}

static bool x86_state_read(X86State *s, int fd, GError **error)
{
    memset(s, 0, sizeof(*s));
    if (ioctl(fd, KVM_GET_REGS, &s->regs) != 0) {
        return x86_state_fail(error, "KVM_GET_REGS");
    }
    if (ioctl(fd, KVM_GET_SREGS, &s->sregs) != 0) {
        return x86_state_fail(error, "KVM_GET_SREGS");
    }
    if (ioctl(fd, KVM_GET_FPU, &s->fpu) != 0) {
        return x86_state_fail(error, "KVM_GET_FPU");
    }
    x86_kernel_gs_base(fd, KVM_GET_MSRS, &s->kernel_gs_base); /* 0 if it does not exist */
    return true;
}

static bool x86_state_write(const X86State *s, int fd, GError **error)
{
    if (s->sregs_changed && ioctl(fd, KVM_SET_SREGS, &s->sregs) != 0) {
        return x86_state_fail(error, "KVM_SET_SREGS");
    }
    if (s->regs_changed && ioctl(fd, KVM_SET_REGS, &s->regs) != 0) {
        return x86_state_fail(error, "KVM_SET_REGS");
    }
    if (s->fpu_changed && ioctl(fd, KVM_SET_FPU, &s->fpu) != 0) {
        return x86_state_fail(error, "KVM_SET_FPU");
    }
    uint64_t kernel_gs_base = s->kernel_gs_base;
    if (s->kernel_gs_base_changed && !x86_kernel_gs_base(fd, KVM_SET_MSRS, &kernel_gs_base)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "KVM refuses that k_gs_base");
        return false;
    }
    return true;
}

/* ---- x87 tags: FXSAVE keeps 1 bit per register, gdb uses 2 (SDM vol. 1 §8.1.7, §10.5.1) ---- */

static unsigned x87_tag(const uint8_t *st)
{
    uint16_t exponent;
    uint64_t mantissa;
    memcpy(&mantissa, st, 8);
    memcpy(&exponent, st + 8, 2);
    exponent &= 0x7fff;
    if (exponent == 0 && mantissa == 0) {
        return 1; /* zero */
    }
    return exponent == 0 || exponent == 0x7fff || mantissa >> 63 == 0 ? 2 : 0; /* special: valid */
}

static uint32_t x87_get_tags(const struct kvm_fpu *fpu)
{
    unsigned top = fpu->fsw >> 11 & 7;
    uint32_t tags = 0;
    for (unsigned i = 0; i < 8; i++) { /* i: the register itself; fpr[] counts from the top */
        unsigned tag = (fpu->ftwx >> i & 1) != 0 ? x87_tag(fpu->fpr[(i - top) & 7]) : 3;
        tags |= tag << (i * 2);
    }
    return tags;
}

static void x87_set_tags(struct kvm_fpu *fpu, uint32_t tags)
{
    fpu->ftwx = 0;
    for (unsigned i = 0; i < 8; i++) {
        fpu->ftwx |= (uint8_t)(((tags >> (i * 2) & 3) != 3) << i);
    }
}

/* ---- one register ---- */

static struct kvm_segment *x86_segment(X86State *s, const X86Register *r)
{
    return (struct kvm_segment *)(void *)((char *)s + r->offset);
}

static void x86_get(X86State *s, const X86Register *r, uint8_t *buf)
{
    uint32_t value = 0;
    switch (r->kind) {
    case X86_PLAIN:
        memset(buf, 0, r->size);
        memcpy(buf, (char *)s + r->offset, r->stored != 0 ? r->stored : r->size);
        return;
    case X86_SELECTOR:
        value = x86_segment(s, r)->selector;
        break;
    case X86_FTAG:
        value = x87_get_tags(&s->fpu);
        break;
    case X86_FISEG:
        value = s->fpu.last_ip >> 32 & 0xffff;
        break;
    case X86_FOSEG:
        value = s->fpu.last_dp >> 32 & 0xffff;
        break;
    }
    memcpy(buf, &value, sizeof(value));
}

/* A selector cannot be set without its descriptor, except in real mode. */
static bool x86_set_selector(X86State *s, const X86Register *r, uint32_t value, GError **error)
{
    struct kvm_segment *segment = x86_segment(s, r);
    if ((s->sregs.cr0 & X86_CR0_PE) != 0 || value > UINT16_MAX) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s can be set in real mode only, to 16 bits", r->name);
        return false;
    }
    segment->selector = (uint16_t)value;
    segment->base = value << 4;
    return true;
}

static bool x86_set(X86State *s, const X86Register *r, const uint8_t *buf, GError **error)
{
    uint8_t now[ARCH_GDB_REGISTER_MAX];
    uint32_t value;
    x86_get(s, r, now);
    if (memcmp(now, buf, r->size) == 0) {
        return true;
    }
    memcpy(&value, buf, sizeof(value));
    switch (r->kind) {
    case X86_PLAIN:
        memcpy((char *)s + r->offset, buf, r->stored != 0 ? r->stored : r->size);
        break;
    case X86_SELECTOR:
        if (!x86_set_selector(s, r, value, error)) {
            return false;
        }
        break;
    case X86_FTAG:
        x87_set_tags(&s->fpu, value);
        break;
    case X86_FISEG:
        s->fpu.last_ip = (uint32_t)s->fpu.last_ip | (uint64_t)(uint16_t)value << 32;
        break;
    case X86_FOSEG:
        s->fpu.last_dp = (uint32_t)s->fpu.last_dp | (uint64_t)(uint16_t)value << 32;
        break;
    }
    *(bool *)((char *)s + r->changed) = true;
    return true;
}

bool arch_gdb_read_registers(int vcpu_fd, uint8_t *buf, GError **error)
{
    X86State s;
    if (!x86_state_read(&s, vcpu_fd, error)) {
        return false;
    }
    const X86Register *r;
    for (unsigned i = 0; (r = x86_gdb_register(i)) != NULL; i++) {
        x86_get(&s, r, buf);
        buf += r->size;
    }
    return true;
}

bool arch_gdb_write_registers(int vcpu_fd, const uint8_t *buf, GError **error)
{
    X86State s;
    if (!x86_state_read(&s, vcpu_fd, error)) {
        return false;
    }
    const X86Register *r;
    for (unsigned i = 0; (r = x86_gdb_register(i)) != NULL; i++) {
        if (!x86_set(&s, r, buf, error)) {
            return false;
        }
        buf += r->size;
    }
    return x86_state_write(&s, vcpu_fd, error);
}

bool arch_gdb_read_register(int vcpu_fd, unsigned number, uint8_t *buf, GError **error)
{
    X86State s;
    if (!x86_state_read(&s, vcpu_fd, error)) {
        return false;
    }
    x86_get(&s, x86_gdb_register(number), buf);
    return true;
}

bool arch_gdb_write_register(int vcpu_fd, unsigned number, const uint8_t *buf, GError **error)
{
    X86State s;
    return x86_state_read(&s, vcpu_fd, error) &&
           x86_set(&s, x86_gdb_register(number), buf, error) && x86_state_write(&s, vcpu_fd, error);
}

void arch_gdb_set_pc(int vcpu_fd, uint64_t pc)
{
    struct kvm_regs regs;
    if (ioctl(vcpu_fd, KVM_GET_REGS, &regs) == 0) {
        regs.rip = pc;
        ioctl(vcpu_fd, KVM_SET_REGS, &regs);
    }
}
