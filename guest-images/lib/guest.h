/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included by every guest. A guest defines guest_main(); it runs on the boot CPU at CPL 3 with
 * interrupts off, and ends by guest_exit(). Returning from it passes.
 */
#ifndef LIB_GUEST_H
#define LIB_GUEST_H

#include "lib/bootinfo.h"
#include "lib/console.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/interrupts.h"
#include "lib/text.h"

void guest_main(void);

#endif
