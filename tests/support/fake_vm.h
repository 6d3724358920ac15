/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of code that commands a VM: a VM of counters, without a machine. Its run states change
 * without further effect, except that its disk may hang. Main only.
 */
#ifndef SKIFF_TESTS_SUPPORT_FAKE_VM_H
#define SKIFF_TESTS_SUPPORT_FAKE_VM_H

#include "vmm/vm/vm.h"

/* The opaque of run_state_init() with fake_run_ops. */
typedef struct FakeRun {
    bool start_fails; /* the next starts */
    bool disk_hangs;  /* a drain waits until fake_run_release_disk() */
    GArray *held;     /* CoToken of waiting coroutines */
} FakeRun;

extern const RunStateOps fake_run_ops;

void fake_run_init(FakeRun *run);
/* Frees @run; nothing may wait any more. */
void fake_run_clear(FakeRun *run);
/* Resumes coroutines that wait for the disk, in the next turn of their context. */
void fake_run_release_disk(FakeRun *run);

/* An operation that does nothing, for a test's own ops. */
void fake_run_co_nothing(void *opaque);
bool fake_run_co_start(void *opaque, GError **error);

/* Frees what vm_init() created, and vm->backends.drives. */
RUNS_IN_MAIN void fake_vm_clear(Vm *vm);

#endif
