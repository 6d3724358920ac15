/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmcoreinfo: the fw_cfg file etc/vmcoreinfo, into which a guest's kernel writes where its crash note
 * is. QEMU docs/specs/vmcoreinfo.rst. The 16 bytes, little-endian:
 *
 *   +0 formats that the host supports   +2 format of the guest (0: none, 1: ELF note)
 *   +4 size                             +8 guest-physical address
 *
 * Only a write of all 16 bytes counts.
 */
#include "hw/firmware/vmcoreinfo.h"

#include <string.h>
#include "hw/firmware/fw_cfg.h"

#define VMCOREINFO_FILE "etc/vmcoreinfo"
#define VMCOREINFO_FORMAT_ELF 1

typedef struct VmcoreinfoState {
    uint8_t info[16];
    bool valid; /* the last write was whole */
} VmcoreinfoState;

typedef struct Vmcoreinfo {
    Device base;
    VmcoreinfoState state;
} Vmcoreinfo;

static const StateField vmcoreinfo_fields[] = {
    STATE_ARRAY(VmcoreinfoState, STATE_U8, info),
    STATE_FIELD(VmcoreinfoState, STATE_BOOL, valid),
    {0},
};

static const StateDesc vmcoreinfo_state =
    STATE_DESC("vmcoreinfo", 1, Vmcoreinfo, state, VmcoreinfoState, vmcoreinfo_fields);

static uint64_t vmcoreinfo_field(const Vmcoreinfo *v, unsigned at, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, v->state.info + at, size);
    return GUINT64_FROM_LE(value);
}

bool vmcoreinfo_get(const Device *dev, uint64_t *gpa, uint32_t *size)
{
    const Vmcoreinfo *v = (const Vmcoreinfo *)dev;
    assert_bql();
    *size = (uint32_t)vmcoreinfo_field(v, 4, 4);
    *gpa = vmcoreinfo_field(v, 8, 8);
    return v->state.valid && vmcoreinfo_field(v, 2, 2) == VMCOREINFO_FORMAT_ELF && *size != 0 &&
           *size <= VMCOREINFO_SIZE_MAX;
}

static void vmcoreinfo_written(void *opaque, uint32_t offset, uint32_t size)
{
    Vmcoreinfo *v = opaque;
    assert_bql();
    v->state.valid = offset == 0 && size == sizeof(v->state.info);
}

static void vmcoreinfo_reset(Device *dev)
{
    Vmcoreinfo *v = (Vmcoreinfo *)dev;
    const uint16_t formats = GUINT16_TO_LE(VMCOREINFO_FORMAT_ELF);
    v->state = (VmcoreinfoState){0};
    memcpy(v->state.info, &formats, sizeof(formats));
}

static bool vmcoreinfo_realize(Device *dev, GError **error)
{
    Vmcoreinfo *v = (Vmcoreinfo *)dev;
    enter_main();
    g_assert(dev->env->fw_cfg != NULL);
    return fw_cfg_add_writable(dev->env->fw_cfg, VMCOREINFO_FILE, v->state.info,
                               sizeof(v->state.info), vmcoreinfo_written, v, error);
}

static void vmcoreinfo_unrealize(Device *dev)
{
    enter_main();
    fw_cfg_remove_file(dev->env->fw_cfg, VMCOREINFO_FILE);
}

const DeviceType vmcoreinfo_type = {
    .name = VMCOREINFO_TYPE,
    .description = "lets the guest add its crash note to dump-guest-memory",
    .instance_size = sizeof(Vmcoreinfo),
    .state = &vmcoreinfo_state,
    .user_creatable = true,
    .bus = "isa",
    .realize = vmcoreinfo_realize,
    .reset = vmcoreinfo_reset,
    .unrealize = vmcoreinfo_unrealize,
};
