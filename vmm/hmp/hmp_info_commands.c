/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: info. */
#include <inttypes.h>
#include <string.h>
#include "block/block.h"
#include "vmm/hmp/hmp_int.h"

static void hmp_info_status(HmpCall *call, struct json_object *args)
{
    enter_main();
    const char *name = run_state_name(&call->vm->run);
    if (call->vm->run.phase == RUN_RUNNING || strcmp(name, "paused") == 0) {
        hmp_printf(call, "VM status: %s\n", name);
    } else {
        hmp_printf(call, "VM status: paused (%s)\n", name);
    }
}

static void hmp_info_block(HmpCall *call, struct json_object *args)
{
    enter_main();
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        hmp_printf(call, "%s (%s): %" PRIu64 " bytes%s, %u in flight\n",
                   block_node_name(blk_root(list[i])), blk_name(list[i]), blk_size(list[i]),
                   blk_read_only(list[i]) ? ", read-only" : "", blk_in_flight(list[i]));
    }
}

static void hmp_print_region(const IoRegion *r, void *opaque)
{
    hmp_printf(opaque, "  %016" PRIx64 "-%016" PRIx64 " %s\n", r->base, r->base + r->size - 1,
               r->name);
}

static void hmp_info_mtree(HmpCall *call, struct json_object *args)
{
    enter_main();
    hmp_printf(call, "RAM\n");
    for (unsigned i = 0; i < call->vm->ram.count; i++) {
        const RamBlock *b = &call->vm->ram.blocks[i];
        hmp_printf(call, "  %016" PRIx64 "-%016" PRIx64 " %s%s\n", b->gpa, b->gpa + b->size - 1,
                   b->name, b->read_only ? " (ROM)" : "");
    }
    bql_lock();
    hmp_printf(call, "memory\n");
    address_space_foreach(call->vm->mmio, hmp_print_region, call);
    hmp_printf(call, "I/O\n");
    address_space_foreach(call->vm->pio, hmp_print_region, call);
    bql_unlock();
}

static void hmp_info_qtree(HmpCall *call, struct json_object *args)
{
    enter_main();
    for (unsigned i = 0; i < call->vm->devices->len; i++) {
        const Device *dev = call->vm->devices->pdata[i];
        hmp_printf(call, "%s%s%s%s\n", dev->type->name, dev->id != NULL ? ", id \"" : "",
                   dev->id != NULL ? dev->id : "", dev->id != NULL ? "\"" : "");
    }
}

/* clang-format off */
const HmpCommand hmp_info_commands[] = {
    {"info status", NULL, NULL, "whether the VM runs", .run = hmp_info_status},
    {"info block", NULL, NULL, "disks", .run = hmp_info_block},
    {"info mtree", NULL, NULL, "address spaces", .run = hmp_info_mtree},
    {"info qtree", NULL, NULL, "devices", .run = hmp_info_qtree},
    {0},
};
/* clang-format on */
