/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Breaks a thread role on purpose: code of a vCPU calls what only the main loop may. `make lint`
 * proves that the compiler refuses it; with SEED_LEGAL the caller has the right role, and it
 * passes.
 */
#include "util/loop/thread.h"

static void seed_control_step(void) RUNS_IN_MAIN;
static void seed_control_step(void)
{
}

#ifdef SEED_LEGAL
void seed_caller(void) RUNS_IN_MAIN;
#else
void seed_caller(void) RUNS_IN_VCPU;
#endif
void seed_caller(void)
{
    seed_control_step();
}
