/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts a vhost back end while the VM counts as stopped, on purpose. `make lint` proves that the
 * compiler refuses it; with SEED_LEGAL the token is returned first, and it passes. With SEED_FORGED the
 * proof that guest memory is quiet is made up, which does not compile either.
 */
#include "hw/core/run_state.h"
#include "hw/vhost/vhost.h"

#ifdef SEED_FORGED
const MemoryQuiet seed_forged = {0};
#endif

void seed_caller(RunState *rs, VhostDev *dev, const VhostStart *start) coroutine_fn RUNS_IN_MAIN;
void seed_caller(RunState *rs, VhostDev *dev, const VhostStart *start)
{
    VmStopped *token = co_vm_stop(rs, STOP_PAUSED);
#ifdef SEED_LEGAL
    vm_stopped_put(rs, token);
    vhost_co_start(dev, start, NULL);
#else
    vhost_co_start(dev, start, NULL);
    vm_stopped_put(rs, token);
#endif
}
