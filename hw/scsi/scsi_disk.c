/* SPDX-License-Identifier: Apache-2.0 */
/* scsi-hd and scsi-cd: properties and life cycle. */
#include "hw/scsi/scsi_int.h"

#define ADDRESS_AUTO UINT32_MAX
#define GRANULARITY_AUTO UINT32_MAX
#define GRANULARITY_DEFAULT 4096u
#define BLOCK_SIZE_MAX SCSI_BOUNCE_BYTES
#define CD_BLOCK_SIZE 2048
#define SERIAL_MAX 36

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

static ScsiLun *from_device(Device *dev)
{
    return (ScsiLun *)(void *)dev;
}

/* ---- properties ---- */

static bool is_power_of_two(uint64_t n)
{
    return n && !(n & (n - 1));
}

static bool check_sizes(const ScsiLun *lun, GError **error)
{
    if (!is_power_of_two(lun->logical_block_size) || !is_power_of_two(lun->physical_block_size) ||
        lun->logical_block_size > lun->physical_block_size) {
        return refuse(error,
                      "logical_block_size=%" G_GUINT64_FORMAT
                      " physical_block_size=%" G_GUINT64_FORMAT
                      ": powers of two are needed, the logical one not above the physical one",
                      lun->logical_block_size, lun->physical_block_size);
    }
    if (lun->min_io_size % lun->logical_block_size || lun->opt_io_size % lun->logical_block_size ||
        (lun->discard_granularity != GRANULARITY_AUTO &&
         lun->discard_granularity % lun->logical_block_size)) {
        return refuse(error,
                      "min_io_size, opt_io_size and discard_granularity are multiples of "
                      "logical_block_size=%" G_GUINT64_FORMAT,
                      lun->logical_block_size);
    }
    return true;
}

static bool check_text(const char *name, const char *text, size_t max, GError **error)
{
    if (text && strlen(text) > max) {
        return refuse(error, "%s=%s is longer than %zu bytes", name, text, max);
    }
    return true;
}

static bool check_properties(ScsiLun *lun, GError **error)
{
    if (lun->type == SCSI_TYPE_DISK && (!lun->drive || !*lun->drive)) {
        return refuse(error, "drive= is needed: a node-name= of -blockdev or id= of -drive");
    }
    if (lun->share_rw) {
        return refuse(error, "share-rw=on: a disk has one writer; use share-rw=off");
    }
    return check_text("serial", lun->serial, SERIAL_MAX, error) &&
           check_text("vendor", lun->vendor, 8, error) &&
           check_text("product", lun->product, 16, error) &&
           check_text("ver", lun->version, 4, error) &&
           check_text("device_id", lun->device_id, 247, error) && check_sizes(lun, error) &&
           disk_error_check(lun->rerror, error);
}

static void set_default_text(char **field, const char *text)
{
    if (!*field) {
        *field = g_strdup(text);
    }
}

/* What guests know from QEMU. */
static void set_defaults(ScsiLun *lun)
{
    bool is_cd = lun->base.type == &scsi_cd_type;
    lun->type = is_cd ? SCSI_TYPE_CD : SCSI_TYPE_DISK;
    if (is_cd) {
        lun->logical_block_size = lun->physical_block_size = CD_BLOCK_SIZE;
        lun->removable = true;
    }
    set_default_text(&lun->vendor, "QEMU");
    set_default_text(&lun->product, is_cd ? "QEMU CD-ROM" : "QEMU HARDDISK");
    set_default_text(&lun->version, "2.5+");
}

/* ---- address ---- */

static RUNS_IN_MAIN ScsiLun *find_at(const ScsiBus *bus, uint32_t target, uint32_t number)
{
    for (unsigned i = 0; i < bus->luns->len; i++) {
        ScsiLun *lun = bus->luns->pdata[i];
        if (lun->target == target && lun->lun == number) {
            return lun;
        }
    }
    return NULL;
}

static bool check_address(const ScsiLun *lun, GError **error)
{
    if (lun->channel > 0) {
        return refuse(error, "bad scsi channel id: %u", lun->channel);
    }
    if (lun->target != ADDRESS_AUTO && lun->target > SCSI_MAX_TARGET) {
        return refuse(error, "bad scsi device id: %u", lun->target);
    }
    if (lun->lun != ADDRESS_AUTO && lun->lun > SCSI_MAX_LUN) {
        return refuse(error, "bad scsi device lun: %u", lun->lun);
    }
    return true;
}

/* Without scsi-id=, the first target that lacks this LUN; without lun=, 0 or the target's first
 * free one. */
static RUNS_IN_MAIN bool choose_address(ScsiLun *lun, GError **error)
{
    const ScsiBus *bus = lun->bus;
    if (!check_address(lun, error)) {
        return false;
    }
    if (lun->target == ADDRESS_AUTO) {
        lun->lun = lun->lun == ADDRESS_AUTO ? 0 : lun->lun;
        for (lun->target = 0; lun->target <= SCSI_MAX_TARGET; lun->target++) {
            if (!find_at(bus, lun->target, lun->lun)) {
                return true;
            }
        }
        return refuse(error, "no free target");
    }
    if (lun->lun == ADDRESS_AUTO) {
        for (lun->lun = 0; lun->lun <= SCSI_MAX_LUN; lun->lun++) {
            if (!find_at(bus, lun->target, lun->lun)) {
                return true;
            }
        }
        return refuse(error, "no free lun");
    }
    const ScsiLun *other = find_at(bus, lun->target, lun->lun);
    if (other) {
        return refuse(error, "lun already used by '%s'", device_label(&other->base));
    }
    return true;
}

/* ---- life cycle ---- */

static void lun_reset(Device *dev)
{
    ScsiLun *lun = from_device(dev);
    __atomic_store_n(&lun->state.tray_locked, false, __ATOMIC_RELAXED);
    __atomic_store_n(&lun->state.tray_open, false, __ATOMIC_RELAXED);
    __atomic_store_n(&lun->state.eject_request, false, __ATOMIC_RELAXED);
    lun->state.descriptor_sense = false;
    scsi_lun_set_write_cache(lun, lun->blk, lun->default_write_cache);
    scsi_lun_attention(lun, SCSI_ATTENTION_RESET);
}

static void lun_resized(void *opaque)
{
    ScsiLun *lun = opaque;
    enter_main();
    scsi_lun_attention(lun, SCSI_ATTENTION_CAPACITY);
    atomic_store(&lun->changed, true);
    lun->bus->ops->capacity_changed(lun->bus);
}

static coroutine_fn RUNS_IN_MAIN bool lun_open_drive(ScsiLun *lun, GError **error)
{
    if (!lun->drive || !*lun->drive) {
        return true; /* a CD drive without a disc */
    }
    lun->blk =
        disk_co_open(&lun->base, lun->drive, lun->bus->home, lun->type == SCSI_TYPE_CD, error);
    if (!lun->blk) {
        return false;
    }
    if (lun->discard_granularity == GRANULARITY_AUTO) {
        uint32_t unit = blk_limits(lun->blk).zero_alignment;
        lun->discard_granularity = MAX(MAX(unit, GRANULARITY_DEFAULT), lun->logical_block_size);
    }
    if (lun->type == SCSI_TYPE_DISK) {
        BlkNotify notify = {.resized = lun_resized, .opaque = lun};
        blk_set_notify(lun->blk, &notify);
    }
    return true;
}

static bool lun_realize(Device *dev, GError **error)
{
    ScsiLun *lun = from_device(dev);
    enter_main();
    enter_coroutine();
    if (!dev->bus_device || !dev->bus_device->child_bus) {
        return refuse(error, "needs a SCSI controller before it: -device virtio-scsi-pci");
    }
    lun->bus = dev->bus_device->child_bus;
    set_defaults(lun);
    if (!check_properties(lun, error) || !choose_address(lun, error) ||
        !lun_open_drive(lun, error)) {
        return false;
    }
    lun->default_write_cache =
        lun->write_cache == 2 ? !lun->blk || blk_write_cache(lun->blk) : lun->write_cache == 0;
    lun_reset(dev);
    scsi_bus_co_join(lun->bus, lun);
    return true;
}

/* Its requests end as aborted, once their I/O has ended. */
static void lun_retire(Device *dev)
{
    ScsiLun *lun = from_device(dev);
    enter_main();
    enter_coroutine();
    scsi_bus_co_leave(lun->bus, lun);
}

static void lun_unrealize(Device *dev)
{
    ScsiLun *lun = from_device(dev);
    enter_main();
    enter_coroutine();
    scsi_bus_co_leave(lun->bus, lun);
    if (lun->blk) {
        co_drained_begin(&lun->blk, 1); /* the notifier is removed in a drained section */
        blk_set_notify(lun->blk, NULL);
        co_drained_end(&lun->blk, 1);
        blk_co_free(g_steal_pointer(&lun->blk));
    }
    if (lun->group) {
        throttle_group_unref(lun->group);
    }
}

static bool lun_check_state(const Device *dev, const void *state, GError **error)
{
    const ScsiLunState *s = state;
    return ((const ScsiLun *)(const void *)dev)->type == SCSI_TYPE_CD || !s->tray_open
               ? true
               : refuse(error, "%s: saved state has the open tray of a disk", device_label(dev));
}

static bool lun_post_load(Device *dev, GError **error)
{
    ScsiLun *lun = from_device(dev);
    if (!lun_check_state(dev, &lun->state, error)) {
        return false;
    }
    scsi_lun_set_write_cache(lun, lun->blk, lun->state.write_cache);
    return true;
}

/* ---- tables ---- */

static const StateField lun_fields[] = {
    STATE_FIELD_MAX(ScsiLunState, STATE_U8, attentions, SCSI_ATTENTION_ALL),
    STATE_FIELD(ScsiLunState, STATE_BOOL, tray_open),
    STATE_FIELD(ScsiLunState, STATE_BOOL, tray_locked),
    STATE_FIELD(ScsiLunState, STATE_BOOL, eject_request),
    STATE_FIELD(ScsiLunState, STATE_BOOL, media_event),
    STATE_FIELD(ScsiLunState, STATE_BOOL, write_cache),
    STATE_FIELD(ScsiLunState, STATE_BOOL, descriptor_sense),
    STATE_PADDING(ScsiLunState, pad),
    {0},
};

const StateDesc scsi_lun_state_desc =
    STATE_DESC("scsi-lun", 1, ScsiLun, state, ScsiLunState, lun_fields);

static const char *const on_off_auto[] = {"on", "off", "auto", NULL};

/* Of both types. */
#define LUN_PROPERTIES                                                                             \
    OPT_SPEC(ScsiLun, "drive", OPT_STRING, drive, .help = "node-name of the disk"),                \
        OPT_SPEC(ScsiLun, "channel", OPT_U32, channel, .help = "always 0"),                        \
        OPT_SPEC(ScsiLun, "scsi-id", OPT_U32, target, .def = "4294967295", .max = UINT32_MAX,      \
                 .help = "target, 0 to 255 (default: the first with a free LUN)"),                 \
        OPT_SPEC(ScsiLun, "lun", OPT_U32, lun, .def = "4294967295", .max = UINT32_MAX,             \
                 .help = "logical unit of the target, 0 to 16383 (default: the first free one)"),  \
        DEVICE_BOOTINDEX_PROPERTY,                                                                 \
        OPT_SPEC(ScsiLun, "serial", OPT_STRING, serial, .help = "serial number, up to 36 bytes"),  \
        OPT_SPEC(ScsiLun, "vendor", OPT_STRING, vendor, .help = "vendor, up to 8 bytes"),          \
        OPT_SPEC(ScsiLun, "product", OPT_STRING, product, .help = "product, up to 16 bytes"),      \
        OPT_SPEC(ScsiLun, "ver", OPT_STRING, version, .help = "revision, up to 4 bytes"),          \
        OPT_SPEC(ScsiLun, "device_id", OPT_STRING, device_id,                                      \
                 .help = "vendor specific identifier (default: serial=, then drive=)"),            \
        OPT_SPEC(ScsiLun, "wwn", OPT_U64, wwn, .help = "NAA identifier; 0: none"),                 \
        OPT_SPEC(ScsiLun, "max_io_size", OPT_SIZE, max_io_size, .def = "2147483647",               \
                 .max = UINT32_MAX, .help = "largest transfer that the guest is told of"),         \
        OPT_SPEC(ScsiLun, "write-cache", OPT_ENUM, write_cache, .def = "auto",                     \
                 .names = on_off_auto, .help = "initial cache mode; auto: the drive's"),           \
        OPT_SPEC(ScsiLun, "share-rw", OPT_BOOL, share_rw, .def = "off", .help = "always off"),     \
        DISK_ERROR_PROPERTIES(ScsiLun)

static const OptSpec hd_properties[] = {
    LUN_PROPERTIES,
    OPT_SPEC(ScsiLun, "removable", OPT_BOOL, removable, .def = "off",
             .help = "the guest sees a removable medium"),
    OPT_SPEC(ScsiLun, "dpofua", OPT_BOOL, dpofua, .def = "off",
             .help = "report that DPO and FUA are supported; they always are"),
    OPT_SPEC(ScsiLun, "rotation_rate", OPT_U16, rotation_rate,
             .help = "revolutions a minute; 0: not reported, 1: no rotation"),
    OPT_SPEC(ScsiLun, "logical_block_size", OPT_SIZE, logical_block_size, .def = "512",
             .min = BLOCK_SECTOR_SIZE, .max = BLOCK_SIZE_MAX, .help = "unit of requests"),
    OPT_SPEC(ScsiLun, "physical_block_size", OPT_SIZE, physical_block_size, .def = "512",
             .min = BLOCK_SECTOR_SIZE, .max = BLOCK_SIZE_MAX,
             .help = "unit that writes should be multiples of"),
    OPT_SPEC(ScsiLun, "min_io_size", OPT_SIZE, min_io_size, .max = BLOCK_SIZE_MAX,
             .help = "smallest efficient request"),
    OPT_SPEC(ScsiLun, "opt_io_size", OPT_SIZE, opt_io_size, .max = UINT32_MAX,
             .help = "most efficient size of a request"),
    OPT_SPEC(ScsiLun, "discard_granularity", OPT_SIZE, discard_granularity, .def = "4294967295",
             .max = UINT32_MAX,
             .help = "unit of UNMAP; 0: not thin provisioned; 4294967295: the disk's own"),
    OPT_SPEC(ScsiLun, "max_unmap_size", OPT_SIZE, max_unmap_size, .def = "1073741824",
             .max = 1ull << 40, .help = "largest UNMAP"),
    {0},
};

static const OptSpec cd_properties[] = {LUN_PROPERTIES, {0}};

static void lun_firmware_path(const Device *dev, GString *path)
{
    const ScsiLun *lun = (const ScsiLun *)dev;
    g_string_append_printf(path, "/channel@0/disk@%x,%x", lun->target, lun->lun);
}

/* The members of both types. */
#define LUN_TYPE                                                                                   \
    .instance_size = sizeof(ScsiLun), .state = &scsi_lun_state_desc, .user_creatable = true,       \
    .bus = SCSI_BUS_TYPE, .realize = lun_realize, .reset = lun_reset, .unrealize = lun_unrealize,  \
    .co_retire = lun_retire, .check_state = lun_check_state, .post_load = lun_post_load,           \
    .firmware_path = lun_firmware_path

const DeviceType scsi_hd_type = {
    .name = "scsi-hd", .description = "SCSI disk", .properties = hd_properties, LUN_TYPE};

const DeviceType scsi_cd_type = {
    .name = "scsi-cd", .description = "SCSI CD-ROM drive", .properties = cd_properties, LUN_TYPE};
