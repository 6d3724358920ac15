/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/live_ram.h"

#include <stdatomic.h>

/* What is left for the stopped VM: at most this part of its pages, and so many bytes. */
#define LIVE_RAM_LEFT_PART 32u
#define LIVE_RAM_LEFT_BYTES (UINT64_C(16) << 20)
#define LIVE_RAM_MAX_PASSES 16u

bool live_ram_co_start_log(LiveRam *l, bool *busy, GError **error)
{
    GuestRam *ram = &l->vm->machine.ram;
    vm_operation_begin(&l->vm->run);
    *busy = atomic_load(&ram->logging);
    if (*busy) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST,
                    "another save copies memory, or a rewind point is held");
    } else {
        l->logging = guest_ram_co_log_start(ram, error);
    }
    vm_operation_end(&l->vm->run);
    return l->logging;
}

void live_ram_co_stop_log(LiveRam *l)
{
    if (l->logging) {
        guest_ram_co_log_stop(&l->vm->machine.ram);
        l->logging = false;
    }
}

/* Takes what is dirty for the next pass. */
static RUNS_IN_MAIN bool live_ram_take_dirty(const LiveRam *l, uint64_t *pages, GError **error)
{
    /* A step that was given up may still use the set of pages. */
    if (state_target_is_cancelled(l->target, error) ||
        !guest_ram_log_sync(&l->vm->machine.ram, error)) {
        return false;
    }
    *pages = state_target_take_dirty(l->target);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool live_ram_pass(LiveRam *l, bool dirty, GError **error)
{
    l->passes++;
    return state_target_co_pass(l->target, dirty, error);
}

bool live_ram_co_copy(LiveRam *l, GError **error)
{
    uint64_t pages = UINT64_MAX, before;
    uint64_t few = MIN(state_target_pages(l->target) / LIVE_RAM_LEFT_PART,
                       LIVE_RAM_LEFT_BYTES / GUEST_RAM_PAGE);
    bool ok = live_ram_pass(l, false, error);
    while (ok && l->passes < LIVE_RAM_MAX_PASSES) {
        before = pages;
        if (!live_ram_take_dirty(l, &pages, error)) {
            return false;
        }
        if (pages <= few || pages > before / 4 * 3) {
            break;
        }
        ok = live_ram_pass(l, true, error);
    }
    return ok;
}

bool live_ram_co_copy_last(LiveRam *l, const VmStopped *token, GError **error)
{
    uint64_t pages;
    return (!l->logging || live_ram_take_dirty(l, &pages, error)) &&
           live_ram_pass(l, l->logging, error);
}
