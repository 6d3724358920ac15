/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmgenid. QEMU docs/specs/vmgenid.rst. In a fw_cfg file the GUID is at offset 40 of a page that is
 * otherwise zero, so that firmware does not take it for an ACPI table. The first three fields of the
 * GUID are little-endian.
 */
#include "hw/firmware/vmgenid.h"

#include <string.h>
#include "hw/firmware/fw_cfg.h"

#define GUID_SIZE 16
#define GUID_AUTO "auto"

typedef struct VmgenidState {
    uint8_t address[8]; /* of the GUID, little-endian; 0: unknown */
} VmgenidState;

typedef struct Vmgenid {
    Device base;
    /* config */
    char *guid; /* as written; "auto" becomes a random one */
    VmgenidState state;
    /* runtime */
    uint8_t bytes[GUID_SIZE];
} Vmgenid;

static const StateField vmgenid_fields[] = {
    STATE_ARRAY(VmgenidState, STATE_U8, address),
    {0},
};

static const StateDesc vmgenid_state =
    STATE_DESC("vmgenid", 1, Vmgenid, state, VmgenidState, vmgenid_fields);

const char *vmgenid_guid(const Device *dev)
{
    return ((const Vmgenid *)dev)->guid;
}

static void vmgenid_parse(const char *text, uint8_t bytes[GUID_SIZE])
{
    static const uint8_t order[] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    for (unsigned i = 0; i < GUID_SIZE; i++) {
        text += *text == '-';
        bytes[order[i]] =
            (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 2;
    }
}

static uint64_t vmgenid_address(const Vmgenid *v)
{
    uint64_t address;
    memcpy(&address, v->state.address, sizeof(address));
    return GUINT64_FROM_LE(address);
}

/* Writes the GUID to the guest's copy. */
static bool vmgenid_update(Vmgenid *v)
{
    uint64_t address = vmgenid_address(v);
    return address == 0 || guest_ram_write(v->base.env->ram, address, v->bytes, GUID_SIZE);
}

static void vmgenid_try_update(Vmgenid *v)
{
    if (!vmgenid_update(v)) {
        log_guest_error(&v->base.log_limit, device_label(&v->base),
                        "the address of the generation id is not RAM");
    }
}

static void vmgenid_written(void *opaque, uint32_t offset, uint32_t size)
{
    Vmgenid *v = opaque;
    assert_bql();
    if (offset + size == sizeof(v->state.address)) {
        vmgenid_try_update(v);
    }
}

bool vmgenid_place(Device *dev, uint64_t gpa)
{
    Vmgenid *v = (Vmgenid *)dev;
    uint64_t address = GUINT64_TO_LE(gpa + VMGENID_OFFSET);
    assert_bql();
    memcpy(v->state.address, &address, sizeof(address));
    return vmgenid_update(v);
}

static bool vmgenid_choose(Vmgenid *v, GError **error)
{
    if (strcmp(v->guid, GUID_AUTO) == 0) {
        g_free(v->guid);
        v->guid = g_uuid_string_random();
    } else if (!g_uuid_string_is_valid(v->guid)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "guid=%s: is no GUID; give one, or auto",
                    v->guid);
        return false;
    }
    vmgenid_parse(v->guid, v->bytes);
    return true;
}

static GBytes *vmgenid_page(const Vmgenid *v)
{
    uint8_t *page = g_malloc0(VMGENID_PAGE_SIZE);
    memcpy(page + VMGENID_OFFSET, v->bytes, GUID_SIZE);
    return g_bytes_new_take(page, VMGENID_PAGE_SIZE);
}

static void vmgenid_unrealize(Device *dev)
{
    enter_main();
    fw_cfg_remove_file(dev->env->fw_cfg, VMGENID_FILE_GUID);
    fw_cfg_remove_file(dev->env->fw_cfg, VMGENID_FILE_ADDR);
}

static bool vmgenid_realize(Device *dev, GError **error)
{
    Vmgenid *v = (Vmgenid *)dev;
    enter_main();
    Device *fw_cfg = dev->env->fw_cfg;
    g_assert(fw_cfg != NULL);
    if (!vmgenid_choose(v, error) ||
        !fw_cfg_add_file(fw_cfg, VMGENID_FILE_GUID, vmgenid_page(v), error)) {
        return false;
    }
    if (!fw_cfg_add_writable(fw_cfg, VMGENID_FILE_ADDR, v->state.address, sizeof(v->state.address),
                             vmgenid_written, v, error)) {
        fw_cfg_remove_file(fw_cfg, VMGENID_FILE_GUID);
        return false;
    }
    return true;
}

static void vmgenid_reset(Device *dev)
{
    ((Vmgenid *)dev)->state = (VmgenidState){0};
}

/* A machine that is loaded has the GUID of this process, and is notified if it is another one. The address is the guest's: a wrong one must
 * not keep the machine from being loaded. */
static bool vmgenid_post_load(Device *dev, GError **error)
{
    Vmgenid *v = (Vmgenid *)dev;
    uint64_t address = vmgenid_address(v);
    uint8_t before[GUID_SIZE];
    assert_bql();
    if (address != 0 && guest_ram_read(dev->env->ram, address, before, GUID_SIZE) &&
        memcmp(before, v->bytes, GUID_SIZE) == 0) {
        return true;
    }
    vmgenid_try_update(v);
    if (address != 0 && dev->env->acpi_event != NULL) {
        dev->env->acpi_event(dev->env->opaque, VMGENID_GPE);
    }
    return true;
}

static const OptSpec vmgenid_properties[] = {
    {.name = "guid",
     .type = OPT_STRING,
     .offset = offsetof(Vmgenid, guid),
     .help = "the generation id, or auto for a random one",
     .def = GUID_AUTO},
    {0},
};

const DeviceType vmgenid_type = {
    .name = VMGENID_TYPE,
    .description = "VM generation id",
    .instance_size = sizeof(Vmgenid),
    .properties = vmgenid_properties,
    .state = &vmgenid_state,
    .user_creatable = true,
    .bus = "isa",
    .realize = vmgenid_realize,
    .reset = vmgenid_reset,
    .unrealize = vmgenid_unrealize,
    .post_load = vmgenid_post_load,
};
