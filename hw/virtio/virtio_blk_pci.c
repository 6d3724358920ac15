/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk-pci: properties, configuration space (virtio 1.2 §5.2.4), life cycle. */
#include <string.h>
#include "hw/virtio/virtio_blk.h"

#define VIRTIO_BLK_DEVICE_ID 2
#define PCI_CLASS_STORAGE_SCSI 0x010000 /* as guests expect for virtio-blk */

typedef struct __attribute__((packed)) VirtioBlkConfig {
    uint64_t capacity; /* sectors */
    uint32_t size_max;
    uint32_t seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp; /* log2 of logical blocks per physical one */
    uint8_t alignment_offset;
    uint16_t min_io_size; /* logical blocks */
    uint32_t opt_io_size; /* logical blocks */
    uint8_t writeback;
    uint8_t unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
} VirtioBlkConfig;

G_STATIC_ASSERT(sizeof(VirtioBlkConfig) == 60);
G_STATIC_ASSERT(sizeof(VirtioBlkConfig) <= VIRTIO_MAX_CONFIG);

static VirtioBlk *from_device(Device *dev)
{
    return (VirtioBlk *)(void *)dev;
}

/* ---- configuration space and cache mode ---- */

static void virtio_blk_get_config(VirtioDevice *vdev, uint8_t *config)
{
    assert_bql();
    const VirtioBlk *b = virtio_blk_from(vdev);
    VirtioBlkConfig c = {
        .capacity = blk_size(b->blk) / BLOCK_SECTOR_SIZE,
        .seg_max = b->queue_size - 2u, /* header and status take a descriptor each */
        .blk_size = (uint32_t)b->logical_block_size,
        .physical_block_exp =
            (uint8_t)__builtin_ctzll(b->physical_block_size / b->logical_block_size),
        .min_io_size = (uint16_t)MIN(b->min_io_size / b->logical_block_size, UINT16_MAX),
        .opt_io_size = (uint32_t)(b->opt_io_size / b->logical_block_size),
        .writeback = b->state.writeback,
        .num_queues = b->num_queues,
        .max_discard_sectors = b->max_discard_sectors,
        .max_discard_seg = 1,
        .discard_sector_alignment = (uint32_t)(b->discard_granularity / BLOCK_SECTOR_SIZE),
        .max_write_zeroes_sectors = b->max_write_zeroes_sectors,
        .max_write_zeroes_seg = 1,
        .write_zeroes_may_unmap = 1,
    };
    memcpy(config, &c, sizeof(c));
}

static void virtio_blk_set_writeback(VirtioBlk *b, bool on)
{
    b->state.writeback = on;
    blk_set_write_cache(b->blk, on);
}

static void virtio_blk_set_config(VirtioDevice *vdev, unsigned offset, unsigned size,
                                  uint32_t value)
{
    assert_bql();
    if (offset != offsetof(VirtioBlkConfig, writeback) || size != 1 || value > 1 ||
        !virtio_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE)) {
        virtio_guest_error(vdev, "write of %u bytes at 0x%x of the device configuration", size,
                           offset);
        return;
    }
    virtio_blk_set_writeback(virtio_blk_from(vdev), value);
}

/* A driver without flush gets writethrough, which needs none (§5.2.5.2). */
static void virtio_blk_negotiated(VirtioDevice *vdev)
{
    assert_bql();
    VirtioBlk *b = virtio_blk_from(vdev);
    virtio_blk_set_writeback(b,
                             b->default_writeback && virtio_has_feature(vdev, VIRTIO_BLK_F_FLUSH));
}

static void virtio_blk_reset(VirtioDevice *vdev)
{
    assert_bql();
    VirtioBlk *b = virtio_blk_from(vdev);
    virtio_blk_set_writeback(b, b->default_writeback);
}

/* The queues are returned when no request is in flight, so none waits for throttling meanwhile. */
static void virtio_blk_stopping(VirtioDevice *vdev)
{
    enter_iothread(vdev->home);
    VirtioBlk *b = virtio_blk_from(vdev);
    b->stopping = true;
    blk_set_hurry(b->blk, true);
    co_queue_wake_all(&b->visitors);
}

static void virtio_blk_stopped(VirtioDevice *vdev)
{
    enter_iothread(vdev->home);
    VirtioBlk *b = virtio_blk_from(vdev);
    b->stopping = false;
    blk_set_hurry(b->blk, false);
}

static const VirtioOps virtio_blk_ops = {
    .device_id = VIRTIO_BLK_DEVICE_ID,
    .get_config = virtio_blk_get_config,
    .set_config = virtio_blk_set_config,
    .negotiated = virtio_blk_negotiated,
    .reset = virtio_blk_reset,
    .stopping = virtio_blk_stopping,
    .stopped = virtio_blk_stopped,
    .handle_queue = virtio_blk_handle_queue,
};

/* ---- callbacks of the backend ---- */

static void virtio_blk_resized(void *opaque)
{
    VirtioBlk *b = opaque;
    enter_main();
    bql_lock();
    virtio_config_changed(&b->base.vdev);
    bql_unlock();
}

static void virtio_blk_quiesce(void *opaque)
{
    VirtioBlk *b = opaque;
    enter_loop(b->base.vdev.home);
    virtio_quiesce(&b->base.vdev);
}

static void virtio_blk_resume(void *opaque)
{
    VirtioBlk *b = opaque;
    enter_loop(b->base.vdev.home);
    virtio_resume(&b->base.vdev);
    if (!b->base.vdev.quiesced) {
        co_queue_wake_all(&b->visitors);
    }
}

/* ---- realize ---- */

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

static bool virtio_blk_is_power_of_two(uint64_t n)
{
    return n && !(n & (n - 1));
}

static bool virtio_blk_check_properties(VirtioBlk *b, GError **error)
{
    if (!b->drive || !*b->drive) {
        return refuse(error, "drive= is needed: a node-name= of -blockdev or id= of -drive");
    }
    if (!b->num_queues) {
        b->num_queues = (uint16_t)CLAMP(b->base.pci.base.env->cpu_count, 1, VIRTIO_MAX_QUEUES);
    }
    if (!virtio_blk_is_power_of_two(b->queue_size) || b->queue_size < 4) {
        return refuse(error, "queue-size=%u is not a power of two from 4 to %u", b->queue_size,
                      VIRTQUEUE_MAX_SIZE);
    }
    if (!virtio_blk_is_power_of_two(b->logical_block_size) ||
        !virtio_blk_is_power_of_two(b->physical_block_size) ||
        b->logical_block_size > b->physical_block_size) {
        return refuse(error,
                      "logical_block_size=%" G_GUINT64_FORMAT
                      " physical_block_size=%" G_GUINT64_FORMAT
                      ": powers of two are needed, the logical one not above the physical one",
                      b->logical_block_size, b->physical_block_size);
    }
    if (b->min_io_size % b->logical_block_size || b->opt_io_size % b->logical_block_size ||
        b->discard_granularity % b->logical_block_size) {
        return refuse(error,
                      "min_io_size, opt_io_size and discard_granularity are multiples of "
                      "logical_block_size=%" G_GUINT64_FORMAT,
                      b->logical_block_size);
    }
    if (b->serial && strlen(b->serial) > 20) {
        return refuse(error, "serial=%s is longer than 20 bytes", b->serial);
    }
    return disk_error_check(b->rerror, error);
}

/* A queue is served by the loop of its drive. A drive without users moves to the iothread of
 * iothread=. */
static coroutine_fn RUNS_IN_MAIN bool virtio_blk_open_backend(VirtioBlk *b, GError **error)
{
    const Device *dev = &b->base.pci.base;
    AioContext *home = b->iothread ? disk_find_iothread(dev, b->iothread, error) : NULL;
    if ((b->iothread && !home) ||
        !virtio_mapping_resolve(&b->mapping, dev, b->iothread, 0, b->num_queues, error)) {
        return false;
    }
    home = b->mapping.homes ? b->mapping.homes[0] : home;
    b->blk = disk_co_open(dev, b->drive, home, false, error);
    return b->blk;
}

static RUNS_IN_MAIN void virtio_blk_init_virtio(VirtioBlk *b)
{
    VirtioDevice *vdev = &b->base.vdev;
    BlockLimits limits = blk_limits(b->blk);
    vdev->ops = &virtio_blk_ops;
    vdev->state = &b->state.virtio;
    vdev->home = blk_home(b->blk);
    virtio_mapping_apply(&b->mapping, vdev);
    co_queue_init(&b->visitors);
    vdev->num_queues = b->num_queues;
    vdev->queue_size = b->queue_size;
    vdev->request_size = virtio_blk_request_size();
    vdev->config_size = sizeof(VirtioBlkConfig);
    vdev->request_coroutines = true;
    vdev->features = VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH |
                     VIRTIO_BLK_F_TOPOLOGY | (b->config_wce ? VIRTIO_BLK_F_CONFIG_WCE : 0) |
                     (b->num_queues > 1 ? VIRTIO_BLK_F_MQ : 0);
    if (blk_read_only(b->blk)) {
        vdev->features |= VIRTIO_BLK_F_RO;
    } else {
        vdev->features |= (b->discard ? VIRTIO_BLK_F_DISCARD : 0) |
                          (b->write_zeroes ? VIRTIO_BLK_F_WRITE_ZEROES : 0);
    }
    if (!b->discard_granularity) {
        b->discard_granularity = MAX(limits.zero_alignment, b->logical_block_size);
    }
    b->default_writeback = b->write_cache == 2 ? blk_write_cache(b->blk) : b->write_cache == 0;
    b->base.class_code = PCI_CLASS_STORAGE_SCSI;
}

static RUNS_IN_MAIN void virtio_blk_free_mapping(VirtioBlk *b)
{
    virtio_mapping_clear(&b->mapping);
    g_clear_pointer(&b->lanes, g_free);
}

static bool virtio_blk_realize(Device *dev, GError **error)
{
    VirtioBlk *b = from_device(dev);
    enter_main();
    enter_coroutine();
    if (!virtio_blk_check_properties(b, error)) {
        return false;
    }
    if (!virtio_blk_open_backend(b, error)) {
        virtio_blk_free_mapping(b);
        return false;
    }
    virtio_blk_init_virtio(b);
    if (b->mapping.homes) {
        virtio_blk_co_init_lanes(b);
    }
    if (!virtio_pci_realize(&b->base, error)) {
        blk_co_free(g_steal_pointer(&b->blk));
        virtio_blk_free_mapping(b);
        return false;
    }
    BlkNotify notify = {.resized = virtio_blk_resized,
                        .quiesce = virtio_blk_quiesce,
                        .resume = virtio_blk_resume,
                        .opaque = b};
    blk_set_notify(b->blk, &notify);
    return true;
}

static void virtio_blk_unrealize(Device *dev)
{
    VirtioBlk *b = from_device(dev);
    enter_main();
    enter_coroutine();
    co_drained_begin(&b->blk, 1); /* the notifier is removed in a drained section */
    blk_set_notify(b->blk, NULL);
    co_drained_end(&b->blk, 1);
    virtio_pci_unrealize(&b->base);
    blk_co_free(g_steal_pointer(&b->blk));
    virtio_blk_free_mapping(b);
}

static bool virtio_blk_post_load(Device *dev, GError **error)
{
    VirtioBlk *b = from_device(dev);
    if (!virtio_pci_post_load(dev, error)) {
        return false;
    }
    virtio_blk_set_writeback(b, b->state.writeback);
    return true;
}

/* ---- tables ---- */

static const StateField virtio_blk_fields[] = {
    {.name = "virtio",
     .type = STATE_STRUCT,
     .offset = offsetof(VirtioBlkState, virtio),
     .size = sizeof(VirtioState),
     .count = 1,
     .sub = &virtio_state_desc},
    STATE_FIELD(VirtioBlkState, STATE_BOOL, writeback),
    STATE_ARRAY(VirtioBlkState, STATE_PAD, pad),
    {0},
};

static const StateDesc virtio_blk_state_desc =
    STATE_DESC("virtio-blk", 1, VirtioBlk, state, VirtioBlkState, virtio_blk_fields);

static const char *const on_off_auto[] = {"on", "off", "auto", NULL};

#define BLOCK_SIZE_MAX (2u << 20)
static const OptSpec virtio_blk_properties[] = {
    VIRTIO_PCI_PROPERTIES(VirtioBlk, base, "128"),
    OPT_SPEC(VirtioBlk, "drive", OPT_STRING, drive, .help = "node-name of the disk"),
    OPT_SPEC(VirtioBlk, "iothread", OPT_STRING, iothread, .help = "iothread that serves the disk"),
    VIRTIO_MAPPING_PROPERTY(VirtioBlk, mapping),
    OPT_SPEC(VirtioBlk, "serial", OPT_STRING, serial, .help = "serial number, up to 20 bytes"),
    OPT_SPEC(VirtioBlk, "num-queues", OPT_U16, num_queues, .max = VIRTIO_MAX_QUEUES,
             .help = "request queues; 0: one per processor"),
    OPT_SPEC(VirtioBlk, "queue-size", OPT_U16, queue_size, .def = "256", .min = 4,
             .max = VIRTQUEUE_MAX_SIZE, .help = "entries of a queue, a power of two"),
    OPT_SPEC(VirtioBlk, "logical_block_size", OPT_SIZE, logical_block_size, .def = "512",
             .min = BLOCK_SECTOR_SIZE, .max = BLOCK_SIZE_MAX, .help = "unit of requests"),
    OPT_SPEC(VirtioBlk, "physical_block_size", OPT_SIZE, physical_block_size, .def = "512",
             .min = BLOCK_SECTOR_SIZE, .max = BLOCK_SIZE_MAX,
             .help = "unit that writes should be multiples of"),
    OPT_SPEC(VirtioBlk, "min_io_size", OPT_SIZE, min_io_size, .max = BLOCK_SIZE_MAX,
             .help = "smallest efficient request"),
    OPT_SPEC(VirtioBlk, "opt_io_size", OPT_SIZE, opt_io_size, .max = UINT32_MAX,
             .help = "most efficient size of a request"),
    OPT_SPEC(VirtioBlk, "discard_granularity", OPT_SIZE, discard_granularity, .max = UINT32_MAX,
             .help = "unit of a discard; 0: the disk's own"),
    OPT_SPEC(VirtioBlk, "max-discard-sectors", OPT_U32, max_discard_sectors, .def = "4194303",
             .min = 1, .max = 4194303, .help = "largest discard"),
    OPT_SPEC(VirtioBlk, "max-write-zeroes-sectors", OPT_U32, max_write_zeroes_sectors,
             .def = "4194303", .min = 1, .max = 4194303, .help = "largest write-zeroes"),
    OPT_SPEC(VirtioBlk, "discard", OPT_BOOL, discard, .def = "on", .help = "offer DISCARD"),
    OPT_SPEC(VirtioBlk, "write-zeroes", OPT_BOOL, write_zeroes, .def = "on",
             .help = "offer WRITE_ZEROES"),
    OPT_SPEC(VirtioBlk, "config-wce", OPT_BOOL, config_wce, .def = "on",
             .help = "the guest may change the cache mode"),
    OPT_SPEC(VirtioBlk, "write-cache", OPT_ENUM, write_cache, .def = "auto", .names = on_off_auto,
             .help = "initial cache mode; auto: the drive's"),
    DISK_ERROR_PROPERTIES(VirtioBlk),
    {0},
};

static void virtio_blk_firmware_path(const Device *dev, GString *path)
{
    g_string_append(path, "/disk@0,0");
}

const DeviceType virtio_blk_pci_type = {
    .name = "virtio-blk-pci",
    .description = "virtio disk",
    .instance_size = sizeof(VirtioBlk),
    .properties = virtio_blk_properties,
    .base_state = &pci_device_state_desc,
    .state = &virtio_blk_state_desc,
    .user_creatable = true,
    .bus = "pci",
    .firmware_path = virtio_blk_firmware_path,
    .realize = virtio_blk_realize,
    .reset = virtio_pci_reset,
    .unrealize = virtio_blk_unrealize,
    .co_start = virtio_pci_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .check_state = virtio_pci_check_state,
    .post_load = virtio_blk_post_load,
};
