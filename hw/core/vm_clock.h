/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's time: nanoseconds during which the VM was running. Counters and timeouts of devices go
 * by it, so that a stop of an hour is no time at all to the guest. There is one, as there is one
 * VM.
 *
 * It goes by the main context's clock (and so by a test's virtual time), and runs from the start; a
 * machine that starts stopped pauses it first. Calendar time is the host's, see vm_clock_wall_ns().
 */
#ifndef SKIFF_HW_CORE_VM_CLOCK_H
#define SKIFF_HW_CORE_VM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop/aio.h"
#include "util/loop/held.h"

/* Begins at 0 ns, running, on @main_ctx's time. NULL: the machine is gone. No timer is there. */
void vm_clock_init(AioContext *main_ctx) ANY_THREAD;

/* Lock-free. */
int64_t vm_clock_now_ns(void) ANY_THREAD;
bool vm_clock_is_running(void) ANY_THREAD;
/* Pausing what is paused, and resuming what runs, does nothing. They take the BQL. No timer fires
 * between the two. */
void vm_clock_pause(void) RUNS_IN_MAIN;
void vm_clock_resume(void) RUNS_IN_MAIN;
/* After a load: time goes on from @now_ns. Paused, before devices' post_load. */
void vm_clock_set_ns(int64_t now_ns) RUNS_IN_MAIN;

/* Host's calendar time, ns since 1970-01-01T00:00Z. */
int64_t vm_clock_wall_ns(void) ANY_THREAD;
/* Tests: calendar time is @wall_ns now and goes on with the main context's clock. */
void vm_clock_set_wall_ns(int64_t wall_ns) ANY_THREAD;

/*
 * A device's timer. Armed by any thread under the BQL; @fn runs in main with the BQL held, once per
 * arming, while the clock runs. One that is armed later than before costs nothing to arm.
 */
typedef struct VmTimer VmTimer;
struct VmTimer {
    void (*fn)(void *opaque);
    void *opaque;
    int64_t deadline_ns; /* BQL */
    bool armed;          /* BQL */
    AioTimer timer;      /* main */
    AioBh sync;          /* brings `timer` in line with `deadline_ns` */
    VmTimer *next;       /* BQL: all timers */
};
void vm_timer_init(VmTimer *t, void (*fn)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* After this @fn does not run and the memory may go. Takes the BQL. */
void vm_timer_fini(VmTimer *t) RUNS_IN_MAIN;
void vm_timer_arm(VmTimer *t, int64_t deadline_ns) BQL_HELD;
void vm_timer_disarm(VmTimer *t) BQL_HELD;

/* Has @fn called in main, BQL held, when the clock goes on after a pause: for what follows calendar
 * time, which went on meanwhile. */
typedef struct VmClockListener VmClockListener;
struct VmClockListener {
    void (*resumed)(void *opaque);
    void *opaque;
    VmClockListener *next; /* BQL */
};
void vm_clock_listen(VmClockListener *l) RUNS_IN_MAIN;
void vm_clock_unlisten(VmClockListener *l) RUNS_IN_MAIN;

#endif
