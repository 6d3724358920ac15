/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of what commands a VM: one of counters, without a machine. Its run states change, and
 * nothing else happens on the way, but that its disk may hang. All of it is main's.
 */
#ifndef SKIFF_TESTS_SUPPORT_FAKE_VM_H
#define SKIFF_TESTS_SUPPORT_FAKE_VM_H

#include "vmm/vm/vm.h"

/* What run_state_init() takes as its opaque with fake_run_ops. */
typedef struct FakeRun {
    bool start_fails; /* the next starts */
    bool disk_hangs;  /* a drain waits until fake_run_release_disk() */
    GArray *held;     /* CoToken of those that wait */
} FakeRun;

extern const RunStateOps fake_run_ops;

void fake_run_init(FakeRun *run);
/* Nothing waits any more. */
void fake_run_clear(FakeRun *run);
/* What waits for the disk goes on, in the next turn of its context. */
void fake_run_release_disk(FakeRun *run);

/* For ops of a test's own: one that does nothing. */
void fake_run_co_nothing(void *opaque);
bool fake_run_co_start(void *opaque, GError **error);

/* Frees what vm_init() has made, and vm->backends.drives. */
RUNS_IN_MAIN void fake_vm_clear(Vm *vm);

#endif
