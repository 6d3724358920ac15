/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The POST port 0x80 stores a progress code, which reads back. Guests write it to delay for one bus
 * cycle, so an access must be cheap and logs nothing.
 */
#include "hw/platform/isa.h"

typedef struct PostPortState {
    uint8_t code;
} PostPortState;

typedef struct PostPort {
    Device base;
    PostPortState state;
    IoRegion region;
} PostPort;

static const StateField post_port_fields[] = {
    STATE_FIELD(PostPortState, STATE_U8, code),
    {0},
};

static const StateDesc post_port_state =
    STATE_DESC("post-port", 1, PostPort, state, PostPortState, post_port_fields);

static MmioResult post_port_access(void *opaque, IoAccess *access)
{
    PostPort *p = opaque;
    assert_bql();
    if (access->is_write) {
        p->state.code = (uint8_t)access->value;
    } else {
        access->value = p->state.code;
    }
    return MMIO_DONE;
}

static const IoRegionOps post_port_ops = {.access = post_port_access, .min_size = 1, .max_size = 1};

static bool post_port_realize(Device *dev, GError **error)
{
    PostPort *p = (PostPort *)dev;
    enter_main();
    p->region = (IoRegion){.name = "post-port", .ops = &post_port_ops, .opaque = p, .size = 1};
    return isa_device_attach(dev, &p->region, 0x80, error);
}

static void post_port_reset(Device *dev)
{
    ((PostPort *)dev)->state = (PostPortState){0};
}

static void post_port_unrealize(Device *dev)
{
    enter_main();
    isa_device_detach(&((PostPort *)dev)->region);
}

const DeviceType post_port_type = {
    .name = "post-port",
    .description = "progress codes at port 0x80",
    .instance_size = sizeof(PostPort),
    .state = &post_port_state,
    .bus = "isa",
    .realize = post_port_realize,
    .reset = post_port_reset,
    .unrealize = post_port_unrealize,
};
