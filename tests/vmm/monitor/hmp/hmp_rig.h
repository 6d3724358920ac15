/* SPDX-License-Identifier: Apache-2.0 */
/* Executes lines of the human monitor on a VM without KVM, with 2 MiB of RAM. */
#ifndef SKIFF_TESTS_VMM_MONITOR_HMP_HMP_RIG_H
#define SKIFF_TESTS_VMM_MONITOR_HMP_HMP_RIG_H

#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "vmm/monitor/hmp/hmp.h"

#define HMP_RIG_RAM (2u << 20)

static _Alignas(4096) uint8_t hmp_rig_ram[HMP_RIG_RAM]; /* aligned as KVM requires */

static inline int hmp_rig_setup(void **state)
{
    static const RamBlock block = {.size = HMP_RIG_RAM, .host = hmp_rig_ram, .name = "ram"};
    qmp_rig_setup(state);
    QmpRig *rig = *state;
    memset(hmp_rig_ram, 0, sizeof(hmp_rig_ram));
    guest_ram_add(&rig->vm.machine.ram, &block);
    return 0;
}

#define HMP_TEST(f) cmocka_unit_test_setup_teardown(f, hmp_rig_setup, qmp_rig_teardown)

typedef struct HmpRigCall {
    QmpRig *rig;
    const char *line;
    GString *out;
    bool done;
} HmpRigCall;

static inline void hmp_rig_run(void *opaque)
{
    HmpRigCall *call = opaque;
    enter_main();
    enter_coroutine();
    hmp_co_execute(&call->rig->vm, call->line, call->out);
    call->done = true;
}

/* Returns the output of @line, owned by the caller. */
static inline char *hmp_prints(QmpRig *rig, const char *line)
{
    HmpRigCall call = {.rig = rig, .line = line, .out = g_string_new(NULL)};
    co_start(rig->vm.ctx, hmp_rig_run, &call);
    while (!call.done) {
        aio_context_step(rig->vm.ctx, true);
    }
    return g_string_free(call.out, FALSE);
}

static inline void assert_prints(QmpRig *rig, const char *line, const char *expected)
{
    g_autofree char *out = hmp_prints(rig, line);
    if (strcmp(out, expected) != 0) {
        fail_msg("%s\nprints:   %s\nexpected: %s", line, out, expected);
    }
}

static inline void assert_prints_part(QmpRig *rig, const char *line, const char *part)
{
    g_autofree char *out = hmp_prints(rig, line);
    if (strstr(out, part) == NULL) {
        fail_msg("%s\nprints: %s\nwithout: %s", line, out, part);
    }
}

#endif
