/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt vectors: 0-31 exceptions, 0x20-0xff free for the guest.
 *
 * Handlers run at CPL 0 with interrupts off on the CPU that took the interrupt; keep them short.
 * A vector without a handler ends the guest with a report: vector, RIP, error code, CR2.
 */
#ifndef LIB_INTERRUPTS_H
#define LIB_INTERRUPTS_H

#include <stdint.h>

#define VECTOR_SPURIOUS 0xff

typedef struct InterruptFrame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
} InterruptFrame;

typedef struct InterruptGate {
    uint64_t low, high;
} InterruptGate;

extern InterruptGate interrupts_idt[256];

typedef void InterruptHandler(InterruptFrame *frame);

/* Fills the IDT. Once, by the boot CPU, before anything can interrupt. */
void interrupts_init(void);

/* Sets or (NULL) removes the handler of @vector, for all CPUs. Any CPU. */
void interrupts_set_handler(uint8_t vector, InterruptHandler *handler);

/* Allocates an unused vector (0x30 up). Ends the guest when there is none left. */
uint8_t interrupts_alloc_vector(InterruptHandler *handler);

/* From vectors.S. */
void interrupts_dispatch(InterruptFrame *frame);

#endif
