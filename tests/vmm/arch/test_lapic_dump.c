/* SPDX-License-Identifier: Apache-2.0 */
/* The output of `info lapic` for registers that the test has written. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/arch/x86_64/lapic_dump.h"

static void set(uint8_t *regs, unsigned offset, uint32_t value)
{
    memcpy(regs + offset, &value, sizeof(value));
}

/* To be freed with free(). */
static char *print(const uint8_t *regs)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    x86_lapic_print(regs, 1, out);
    fclose(out);
    return text;
}

static void a_guests_lapic_is_shown(void **state)
{
    uint8_t regs[X86_LAPIC_BYTES] = {0};
    set(regs, 0x80, 0x10);        /* TPR */
    set(regs, 0xa0, 0x20);        /* PPR */
    set(regs, 0xd0, 0x02000000);  /* LDR */
    set(regs, 0xe0, 0xffffffff);  /* DFR */
    set(regs, 0xf0, 0x3ff);       /* SPIV: enabled, no focus check */
    set(regs, 0x100, 1u << 31);   /* ISR: 31 */
    set(regs, 0x180, 1u << 31);   /* TMR: 31 is level */
    set(regs, 0x270, 1u << 31);   /* IRR: 255 */
    set(regs, 0x200, 1u << 16);   /* and 16 */
    set(regs, 0x280, 0x40);       /* ESR */
    set(regs, 0x300, 0xc48fd);    /* ICR: all but self, logical, fixed 0xfd, assert */
    set(regs, 0x310, 0x01000000); /* ICR2 */
    set(regs, 0x320, 0x400ec);    /* LVTT: TSC deadline */
    set(regs, 0x330, 0x10000);
    set(regs, 0x340, 0x1400);
    set(regs, 0x350, 0x10700);
    set(regs, 0x360, 0xe400);
    set(regs, 0x370, 0xfe);
    set(regs, 0x380, 1000);
    set(regs, 0x390, 999);
    set(regs, 0x3e0, 0xb); /* divide by 1 */
    char *text = print(regs);
    assert_string_equal(text,
                        "dumping local APIC state for CPU 1\n"
                        "\n"
                        "LVT0\t 0x00010700 active-hi edge  masked ExtINT\n"
                        "LVT1\t 0x0000e400 active-lo level remote-irr NMI\n"
                        "LVTPC\t 0x00001400 active-hi edge  pending NMI\n"
                        "LVTERR\t 0x000000fe active-hi edge  Fixed (vec 254)\n"
                        "LVTTHMR\t 0x00010000 active-hi edge  masked Fixed (vec 0)\n"
                        "LVTT\t 0x000400ec active-hi edge  tsc-deadline Fixed (vec 236)\n"
                        "Timer\t DCR=0xb (divide by 1) initial_count = 1000 current_count = 999\n"
                        "SPIV\t 0x000003ff APIC enabled, focus=off, spurious vec 255\n"
                        "ICR\t 0x000c48fd logical edge assert all Fixed (vec 253)\n"
                        "ICR2\t 0x01000000\n"
                        "ESR\t 0x00000040\n"
                        "ISR\t 31(level)\n"
                        "IRR\t 16 255\n"
                        "\n"
                        "TPR 0x10 DFR 0x0f LDR 0x02 PPR 0x20\n");
    free(text);
}

static void any_register_contents_are_printed(void **state)
{
    uint8_t regs[X86_LAPIC_BYTES];
    memset(regs, 0xff, sizeof(regs));
    char *text = print(regs);
    assert_non_null(strstr(text, "\nTimer\t DCR=0xffffffff (divide by 1) "));
    assert_non_null(strstr(text, "ISR\t 0(level) 1(level)"));
    free(text);
    memset(regs, 0, sizeof(regs));
    text = print(regs);
    assert_non_null(strstr(text, "\nTimer\t DCR=0x0 (divide by 2) "));
    assert_non_null(strstr(text, "SPIV\t 0x00000000 APIC disabled, focus=on, "));
    assert_non_null(strstr(text, "\nIRR\t (none)\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guests_lapic_is_shown),
        cmocka_unit_test(any_register_contents_are_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
