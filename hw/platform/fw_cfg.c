/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of QEMU's fw_cfg that test kernels use: RAM size and number of processors.
 *
 *   0x510  write of 2 bytes: selects an item and its first byte
 *   0x511  read of 1 byte: the item's next byte; zero beyond its end
 *
 * There is no signature item, so firmware finds no fw_cfg.
 */
#include "hw/platform/isa.h"

#define FW_CFG_PORT 0x510
#define FW_CFG_RAM_SIZE 0x03 /* items, little-endian: 8 bytes */
#define FW_CFG_NB_CPUS 0x05  /* 2 bytes */
#define FW_CFG_MAX_CPUS 0x0f /* 2 bytes */

typedef struct FwCfgState {
    uint32_t offset;
    uint16_t key;
    uint8_t reserved[2];
} FwCfgState;

typedef struct FwCfg {
    Device base;
    FwCfgState state;
    IoRegion region;
} FwCfg;

static const StateField fw_cfg_fields[] = {
    STATE_FIELD(FwCfgState, STATE_U32, offset),
    STATE_FIELD(FwCfgState, STATE_U16, key),
    STATE_PADDING(FwCfgState, reserved),
    {0},
};

static const StateDesc fw_cfg_state =
    STATE_DESC("fw_cfg", 1, FwCfg, state, FwCfgState, fw_cfg_fields);

static uint64_t fw_cfg_item(const FwCfg *f)
{
    const DeviceEnv *env = f->base.env;
    switch (f->state.key) {
    case FW_CFG_RAM_SIZE:
        return guest_ram_below_4g(env->ram) + guest_ram_above_4g(env->ram);
    case FW_CFG_NB_CPUS:
    case FW_CFG_MAX_CPUS:
        return MAX(env->cpu_count, 1);
    default:
        return 0;
    }
}

static uint8_t fw_cfg_read(FwCfg *f)
{
    uint64_t item = fw_cfg_item(f);
    uint32_t offset = f->state.offset;
    if (offset >= sizeof(item)) {
        return 0;
    }
    f->state.offset++;
    return (uint8_t)(item >> (8 * offset));
}

static MmioResult fw_cfg_access(void *opaque, IoAccess *access)
{
    FwCfg *f = opaque;
    assert_bql();
    if (access->is_write && access->size == 2) {
        f->state.key = (uint16_t)access->value;
        f->state.offset = 0;
    } else if (!access->is_write && access->size == 1) {
        access->value = fw_cfg_read(f);
    }
    return MMIO_DONE;
}

static const IoRegionOps fw_cfg_ops = {.access = fw_cfg_access, .min_size = 1, .max_size = 2};

static bool fw_cfg_realize(Device *dev, GError **error)
{
    FwCfg *f = (FwCfg *)dev;
    enter_main();
    f->region = (IoRegion){.name = "fw_cfg", .ops = &fw_cfg_ops, .opaque = f, .size = 2};
    return isa_device_attach(dev, &f->region, FW_CFG_PORT, error);
}

static void fw_cfg_reset(Device *dev)
{
    ((FwCfg *)dev)->state = (FwCfgState){0};
}

static void fw_cfg_unrealize(Device *dev)
{
    enter_main();
    isa_device_detach(&((FwCfg *)dev)->region);
}

const DeviceType fw_cfg_type = {
    .name = "fw_cfg_io",
    .description = "RAM size and number of processors for test kernels",
    .instance_size = sizeof(FwCfg),
    .state = &fw_cfg_state,
    .bus = "isa",
    .realize = fw_cfg_realize,
    .reset = fw_cfg_reset,
    .unrealize = fw_cfg_unrealize,
};
