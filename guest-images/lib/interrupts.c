/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/interrupts.h"
#include "lib/console.h"
#include "lib/cpu.h"
#include "lib/exit.h"

#define GATE_INTERRUPT 0x8e00ull
#define VECTOR_UNDEFINED_OPCODE 6
#define VECTOR_FIRST_FREE 0x30
#define STUB_SIZE 16

extern const uint8_t vectors_stubs[256 * STUB_SIZE];
extern const uint8_t vectors_undefined_opcode[];

InterruptGate interrupts_idt[256] __attribute__((aligned(16)));
static InterruptHandler *handlers[256];
static uint8_t next_vector = VECTOR_FIRST_FREE;

void interrupts_init(void)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t stub = (uint64_t)vectors_stubs + vector * STUB_SIZE;
        if (vector == VECTOR_UNDEFINED_OPCODE) {
            stub = (uint64_t)vectors_undefined_opcode;
        }
        interrupts_idt[vector].low = (stub & 0xffff) | SEL_RING0_CODE << 16 | GATE_INTERRUPT << 32 |
                                     (stub >> 16 & 0xffff) << 48;
        interrupts_idt[vector].high = stub >> 32;
    }
}

void interrupts_set_handler(uint8_t vector, InterruptHandler *handler)
{
    __atomic_store_n(&handlers[vector], handler, __ATOMIC_RELEASE);
}

uint8_t interrupts_alloc_vector(InterruptHandler *handler)
{
    if (next_vector == VECTOR_SPURIOUS) {
        guest_fail("no interrupt vector left");
    }
    interrupts_set_handler(next_vector, handler);
    return next_vector++;
}

static _Noreturn void interrupts_report(const InterruptFrame *frame)
{
    uint64_t cr2;
    __asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
    console_break_lock();
    printf("\nguest: exception: cpu=%u vector=%lu error=0x%lx rip=0x%lx cs=0x%lx rsp=0x%lx "
           "rflags=0x%lx cr2=0x%lx\n",
           cpu_this()->index, frame->vector, frame->error_code, frame->rip, frame->cs, frame->rsp,
           frame->rflags, cr2);
    printf("guest: rax=0x%lx rbx=0x%lx rcx=0x%lx rdx=0x%lx rsi=0x%lx rdi=0x%lx rbp=0x%lx\n",
           frame->rax, frame->rbx, frame->rcx, frame->rdx, frame->rsi, frame->rdi, frame->rbp);
    guest_exit(EXIT_EXCEPTION);
}

void interrupts_dispatch(InterruptFrame *frame)
{
    InterruptHandler *handler = __atomic_load_n(&handlers[frame->vector], __ATOMIC_ACQUIRE);
    if (!handler) {
        interrupts_report(frame);
    }
    handler(frame);
}
