/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's time: nanoseconds during which the VM was running. Counters and timeouts of devices use
 * it, so the guest does not see the time during which it is stopped. There is one, as there is one
 * VM.
 *
 * It follows the main context's clock (and so a test's virtual time). It runs from the start; a
 * machine that starts stopped pauses it first. Calendar time is the host's, see vm_clock_wall_ns().
 */
#ifndef SKIFF_HW_CORE_VM_CLOCK_H
#define SKIFF_HW_CORE_VM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop/aio.h"
#include "util/loop/held.h"

/* Begins at 0 ns, running, on @main_ctx's time. NULL when the machine is gone; no timer exists
 * then. */
void vm_clock_init(AioContext *main_ctx) ANY_THREAD;

/* Lock-free. */
int64_t vm_clock_now_ns(void) ANY_THREAD;
bool vm_clock_is_running(void) ANY_THREAD;
/* Pausing a paused clock and resuming a running one do nothing. Both take the BQL. No timer fires
 * while the clock is paused. */
void vm_clock_pause(void) RUNS_IN_MAIN;
void vm_clock_resume(void) RUNS_IN_MAIN;
/* After a load: sets the time to @now_ns. The clock is paused; called before devices' post_load. */
void vm_clock_set_ns(int64_t now_ns) RUNS_IN_MAIN;

/* Host's calendar time, ns since 1970-01-01T00:00Z. */
int64_t vm_clock_wall_ns(void) ANY_THREAD;
/* For tests: sets the calendar time to @wall_ns; it then follows the main context's clock. */
void vm_clock_set_wall_ns(int64_t wall_ns) ANY_THREAD;

/*
 * A device's timer. Armed by any thread under the BQL. @fn runs in main with the BQL held, once per
 * arming, while the clock runs. Moving the deadline later costs nothing.
 */
typedef struct VmTimer VmTimer;
struct VmTimer {
    void (*fn)(void *opaque);
    void *opaque;
    int64_t deadline_ns; /* BQL */
    bool armed;          /* BQL */
    AioTimer timer;      /* main */
    AioBh sync;          /* updates `timer` from `deadline_ns` */
    VmTimer *next;       /* BQL: all timers */
};
void vm_timer_init(VmTimer *t, void (*fn)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* @fn does not run after this and the memory may be freed. Takes the BQL. */
void vm_timer_fini(VmTimer *t) RUNS_IN_MAIN;
void vm_timer_arm(VmTimer *t, int64_t deadline_ns) BQL_HELD;
void vm_timer_disarm(VmTimer *t) BQL_HELD;

/* `resumed` is called in main, BQL held, when the clock resumes after a pause. For devices that
 * follow calendar time, which continues during a pause. */
typedef struct VmClockListener VmClockListener;
struct VmClockListener {
    void (*resumed)(void *opaque);
    void *opaque;
    VmClockListener *next; /* BQL */
};
void vm_clock_listen(VmClockListener *l) RUNS_IN_MAIN;
void vm_clock_unlisten(VmClockListener *l) RUNS_IN_MAIN;

#endif
