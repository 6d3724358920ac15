/* SPDX-License-Identifier: Apache-2.0 */
/* Registers and fields: SDM volume 3, 11.4 "Local APIC" (table 11-1) and following. */
#include "vmm/arch/x86_64/lapic_dump.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/arch_vcpu.h"

enum {
    LAPIC_TPR = 0x80,
    LAPIC_PPR = 0xa0,
    LAPIC_LDR = 0xd0,
    LAPIC_DFR = 0xe0,
    LAPIC_SPIV = 0xf0,
    LAPIC_ISR = 0x100,
    LAPIC_TMR = 0x180,
    LAPIC_IRR = 0x200,
    LAPIC_ESR = 0x280,
    LAPIC_ICR = 0x300,
    LAPIC_ICR2 = 0x310,
    LAPIC_TIMER_INITIAL = 0x380,
    LAPIC_TIMER_CURRENT = 0x390,
    LAPIC_TIMER_DIVIDE = 0x3e0,
};

#define LAPIC_VECTORS 256u
#define LAPIC_VECTOR_MASK 0xffu
#define LAPIC_MODE(r) ((r) >> 8 & 7)
#define LAPIC_PENDING (1u << 12)
#define LAPIC_ACTIVE_LOW (1u << 13)
#define LAPIC_REMOTE_IRR (1u << 14)
#define LAPIC_LEVEL (1u << 15)
#define LAPIC_MASKED (1u << 16)
#define LAPIC_ICR_LOGICAL (1u << 11)
#define LAPIC_ICR_ASSERT (1u << 14)
#define LAPIC_SPIV_ENABLED (1u << 8)
#define LAPIC_SPIV_NO_FOCUS (1u << 9)

static const char *const lapic_modes[] = {"Fixed", "...",  "SMI",  "...",
                                          "NMI",   "INIT", "SIPI", "ExtINT"};

static uint32_t lapic_get(const uint8_t *regs, unsigned offset)
{
    uint32_t value;
    memcpy(&value, regs + offset, sizeof(value));
    return value;
}

static void lapic_print_mode(uint32_t value, FILE *out)
{
    unsigned mode = LAPIC_MODE(value);
    fputs(lapic_modes[mode], out);
    if (mode == 0) {
        fprintf(out, " (vec %u)", value & LAPIC_VECTOR_MASK);
    }
}

static void lapic_print_lvt(const uint8_t *regs, const char *name, unsigned offset, FILE *out)
{
    static const char *const timers[] = {"one-shot ", "periodic ", "tsc-deadline ", "... "};
    uint32_t lvt = lapic_get(regs, offset);
    fprintf(out, "%s\t 0x%08" PRIx32 " %s %s %s%s%s", name, lvt,
            (lvt & LAPIC_ACTIVE_LOW) != 0 ? "active-lo" : "active-hi",
            (lvt & LAPIC_LEVEL) != 0 ? "level" : "edge ",
            (lvt & LAPIC_MASKED) != 0 ? "masked " : "",
            (lvt & LAPIC_PENDING) != 0 ? "pending " : "",
            (lvt & LAPIC_REMOTE_IRR) != 0 ? "remote-irr " : "");
    if (strcmp(name, "LVTT") == 0) {
        fputs(timers[lvt >> 17 & 3], out);
    }
    lapic_print_mode(lvt, out);
    fputc('\n', out);
}

static void lapic_print_timer(const uint8_t *regs, FILE *out)
{
    uint32_t dcr = lapic_get(regs, LAPIC_TIMER_DIVIDE);
    unsigned shift = ((dcr & 3) | (dcr >> 1 & 4)) + 1; /* bits 0, 1 and 3; 7 is 1 */
    fprintf(out,
            "Timer\t DCR=0x%" PRIx32 " (divide by %u) initial_count = %" PRIu32
            " current_count = %" PRIu32 "\n",
            dcr, shift == 8 ? 1 : 1u << shift, lapic_get(regs, LAPIC_TIMER_INITIAL),
            lapic_get(regs, LAPIC_TIMER_CURRENT));
}

static void lapic_print_icr(const uint8_t *regs, FILE *out)
{
    static const char *const shorthands[] = {"no-shorthand", "self", "all-self", "all"};
    uint32_t icr = lapic_get(regs, LAPIC_ICR), icr2 = lapic_get(regs, LAPIC_ICR2);
    fprintf(out, "ICR\t 0x%08" PRIx32 " %s %s %s %s ", icr,
            (icr & LAPIC_ICR_LOGICAL) != 0 ? "logical" : "physical",
            (icr & LAPIC_LEVEL) != 0 ? "level" : "edge",
            (icr & LAPIC_ICR_ASSERT) != 0 ? "assert" : "de-assert", shorthands[icr >> 18 & 3]);
    lapic_print_mode(icr, out);
    fprintf(out, "\nICR2\t 0x%08" PRIx32 "\n", icr2);
}

/* A vector's bit is in one of eight words, 16 bytes apart; the TMR has the mode of each. */
static void lapic_print_vectors(const uint8_t *regs, const char *name, unsigned offset, FILE *out)
{
    bool any = false;
    fprintf(out, "%s\t", name);
    for (unsigned v = 0; v < LAPIC_VECTORS; v++) {
        unsigned word = v / 32 * 16;
        if ((lapic_get(regs, offset + word) >> v % 32 & 1) == 0) {
            continue;
        }
        bool level = (lapic_get(regs, LAPIC_TMR + word) >> v % 32 & 1) != 0;
        fprintf(out, " %u%s", v, level ? "(level)" : "");
        any = true;
    }
    fputs(any ? "\n" : " (none)\n", out);
}

void x86_lapic_print(const uint8_t regs[X86_LAPIC_BYTES], unsigned index, FILE *out)
{
    static const struct {
        const char *name;
        unsigned offset;
    } lvts[] = {{"LVT0", 0x350},   {"LVT1", 0x360},    {"LVTPC", 0x340},
                {"LVTERR", 0x370}, {"LVTTHMR", 0x330}, {"LVTT", 0x320}};
    uint32_t spiv = lapic_get(regs, LAPIC_SPIV);
    fprintf(out, "dumping local APIC state for CPU %u\n\n", index);
    for (unsigned i = 0; i < G_N_ELEMENTS(lvts); i++) {
        lapic_print_lvt(regs, lvts[i].name, lvts[i].offset, out);
    }
    lapic_print_timer(regs, out);
    fprintf(out, "SPIV\t 0x%08" PRIx32 " APIC %s, focus=%s, spurious vec %u\n", spiv,
            (spiv & LAPIC_SPIV_ENABLED) != 0 ? "enabled" : "disabled",
            (spiv & LAPIC_SPIV_NO_FOCUS) != 0 ? "off" : "on", spiv & LAPIC_VECTOR_MASK);
    lapic_print_icr(regs, out);
    fprintf(out, "ESR\t 0x%08" PRIx32 "\n", lapic_get(regs, LAPIC_ESR));
    lapic_print_vectors(regs, "ISR", LAPIC_ISR, out);
    lapic_print_vectors(regs, "IRR", LAPIC_IRR, out);
    fprintf(out,
            "\nTPR 0x%02" PRIx32 " DFR 0x%02" PRIx32 " LDR 0x%02" PRIx32 " PPR 0x%02" PRIx32 "\n",
            lapic_get(regs, LAPIC_TPR), lapic_get(regs, LAPIC_DFR) >> 28,
            lapic_get(regs, LAPIC_LDR) >> 24, lapic_get(regs, LAPIC_PPR));
}

void arch_vcpu_dump_interrupts(int vcpu_fd, unsigned index, FILE *out)
{
    struct kvm_lapic_state lapic;
    _Static_assert(sizeof(lapic.regs) == X86_LAPIC_BYTES, "KVM returns the whole register page");
    if (ioctl(vcpu_fd, KVM_GET_LAPIC, &lapic) != 0) {
        fprintf(out, "KVM_GET_LAPIC: %s\n", g_strerror(errno));
        return;
    }
    x86_lapic_print((const uint8_t *)lapic.regs, index, out);
}
