/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/guest.h"

extern uint64_t boot_pt[512];

/* Called from boot.S through cpu_boot_block, first C code at CPL 3. */
_Noreturn void guest_start(void);

static uint64_t ring0_flush_page(uint64_t address, uint64_t unused, CpuTrapFrame *frame)
{
    __asm__ volatile("invlpg (%0)" ::"r"(address) : "memory");
    return 0;
}

_Noreturn void guest_start(void)
{
    interrupts_init();
    console_init();
    bootinfo_init();
    boot_pt[0] = 0; /* a NULL pointer faults from now on */
    cpu_call_ring0(ring0_flush_page, 0, 0);
    guest_main();
    guest_exit(EXIT_PASS);
}
