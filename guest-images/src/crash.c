/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends in the way the command line names: exit=N, hlt, spin, triple, reset (or reset=kbd),
 * pvpanic, poweroff, exception. Prints "crash: WORD" first, so the console shows it was reached.
 */
#include "lib/guest.h"
#include "lib/acpi.h"

#define RESET_PORT 0xcf9
#define RESET_SYSTEM 0x02
#define RESET_NOW 0x04
#define KEYBOARD_STATUS_PORT 0x64
#define KEYBOARD_INPUT_FULL 0x02
#define KEYBOARD_PULSE_RESET 0xfe
#define PVPANIC_PORT 0x505
#define PVPANIC_PANICKED 1
#define PM1_SLEEP_TYPE_SHIFT 10
#define PM1_SLEEP_ENABLE (1u << 13)

static uint64_t ring0_triple_fault(uint64_t a, uint64_t b, CpuTrapFrame *frame)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } no_idt = {0, 0};
    __asm__ volatile("lidt %0; ud2" ::"m"(no_idt));
    return 0;
}

static void reset(void)
{
    if (bootinfo_is_value("reset", "kbd")) {
        for (unsigned i = 0; i < 1000; i++) {
            if (!(cpu_in8(KEYBOARD_STATUS_PORT) & KEYBOARD_INPUT_FULL)) {
                break;
            }
        }
        cpu_out8(KEYBOARD_STATUS_PORT, KEYBOARD_PULSE_RESET);
    } else {
        cpu_out8(RESET_PORT, RESET_SYSTEM);
        cpu_out8(RESET_PORT, RESET_SYSTEM | RESET_NOW);
    }
}

static void power_off(void)
{
    const AcpiFacts *acpi = acpi_facts();
    if (!acpi->pm1a_control_port || acpi->s5_type < 0) {
        guest_refuse(EXIT_MISSING, "ACPI names no way to power off");
    }
    cpu_out16(acpi->pm1a_control_port,
              (uint16_t)((unsigned)acpi->s5_type << PM1_SLEEP_TYPE_SHIFT | PM1_SLEEP_ENABLE));
}

void guest_main(void)
{
    static const char *const words[] = {"exit",  "hlt",     "spin",     "triple",
                                        "reset", "pvpanic", "poweroff", "exception"};
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (bootinfo_has_word(words[i])) {
            printf("crash: %s\n", words[i]);
        }
    }
    if (bootinfo_has_word("exit")) {
        guest_exit((uint32_t)bootinfo_get_number("exit", 0));
    }
    if (bootinfo_has_word("triple")) {
        cpu_call_ring0(ring0_triple_fault, 0, 0);
    }
    if (bootinfo_has_word("reset")) {
        reset();
    }
    if (bootinfo_has_word("pvpanic")) {
        cpu_out8(PVPANIC_PORT, PVPANIC_PANICKED);
    }
    if (bootinfo_has_word("poweroff")) {
        power_off();
    }
    if (bootinfo_has_word("exception")) {
        mmio_write32(8, 1); /* in page 0, which is not mapped */
    }
    if (bootinfo_has_word("spin")) {
        for (;;) {
            cpu_pause();
        }
    }
    cpu_halt();
}
