/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends as the command line says: exit=N, hlt, spin, triple, reset (or reset=kbd), pvpanic,
 * poweroff, exception. Prints "crash: WORD" first, which shows on the console that it got there.
 */
#include "lib/guest.h"
#include "lib/power.h"

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
        power_triple_fault();
    }
    if (bootinfo_is_value("reset", "kbd")) {
        power_reset_by_keyboard();
    } else if (bootinfo_has_word("reset")) {
        power_reset();
    }
    if (bootinfo_has_word("pvpanic")) {
        power_panic();
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
