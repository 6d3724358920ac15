/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-scsi-pci: properties, configuration space (virtio 1.2 §5.6.4), life cycle. */
#include "hw/virtio/virtio_scsi.h"

#define VIRTIO_SCSI_DEVICE_ID 8
#define PCI_CLASS_STORAGE_SCSI 0x010000
#define EVENT_INFO_SIZE 16

typedef struct __attribute__((packed)) VirtioScsiConfig {
    uint32_t num_queues; /* request queues */
    uint32_t seg_max;
    uint32_t max_sectors;
    uint32_t cmd_per_lun;
    uint32_t event_info_size;
    uint32_t sense_size; /* the driver may write it */
    uint32_t cdb_size;   /* the same */
    uint16_t max_channel;
    uint16_t max_target;
    uint32_t max_lun;
} VirtioScsiConfig;

G_STATIC_ASSERT(sizeof(VirtioScsiConfig) == 36);
G_STATIC_ASSERT(sizeof(VirtioScsiConfig) <= VIRTIO_MAX_CONFIG);

static VirtioScsi *from_device(Device *dev)
{
    return (VirtioScsi *)(void *)dev;
}

/* ---- configuration space ---- */

static void virtio_scsi_get_config(VirtioDevice *vdev, uint8_t *config)
{
    assert_bql();
    const VirtioScsi *s = virtio_scsi_from(vdev);
    VirtioScsiConfig c = {
        .num_queues = s->num_queues,
        .seg_max = s->queue_size - 2u, /* header and response take a descriptor each */
        .max_sectors = s->max_sectors,
        .cmd_per_lun = s->cmd_per_lun,
        .event_info_size = EVENT_INFO_SIZE,
        .sense_size = s->state.sense_size,
        .cdb_size = s->state.cdb_size,
        .max_channel = 0,
        .max_target = SCSI_MAX_TARGET,
        .max_lun = SCSI_MAX_LUN,
    };
    memcpy(config, &c, sizeof(c));
}

static void virtio_scsi_set_config(VirtioDevice *vdev, unsigned offset, unsigned size,
                                   uint32_t value)
{
    assert_bql();
    VirtioScsi *s = virtio_scsi_from(vdev);
    bool early = !(s->state.virtio.status & VIRTIO_STATUS_DRIVER_OK);
    if (early && size == 4 && offset == offsetof(VirtioScsiConfig, sense_size) &&
        value <= VIRTIO_SCSI_SENSE_SIZE_MAX) {
        s->state.sense_size = value;
    } else if (early && size == 4 && offset == offsetof(VirtioScsiConfig, cdb_size) &&
               value <= VIRTIO_SCSI_CDB_SIZE_MAX) {
        s->state.cdb_size = value;
    } else {
        virtio_guest_error(vdev, "write of %u bytes at 0x%x of the device configuration: 0x%x",
                           size, offset, value);
    }
}

static void virtio_scsi_reset(VirtioDevice *vdev)
{
    assert_bql();
    VirtioScsi *s = virtio_scsi_from(vdev);
    s->state.sense_size = VIRTIO_SCSI_SENSE_SIZE;
    s->state.cdb_size = VIRTIO_SCSI_CDB_SIZE;
    s->state.events_missed = false;
    if (s->bus.luns) { /* not during realize */
        scsi_bus_reset(&s->bus);
    }
}

/* ---- queues: home loop ---- */

static void virtio_scsi_started(VirtioDevice *vdev)
{
    VirtioScsi *s = virtio_scsi_from(vdev);
    enter_loop(vdev->home);
    s->sense_size = s->state.sense_size;
    s->cdb_size = s->state.cdb_size;
    virtio_scsi_report_changed(s);
    virtio_scsi_begin_early(s);
}

static void virtio_scsi_stopping(VirtioDevice *vdev)
{
    enter_iothread(vdev->home);
    VirtioScsi *s = virtio_scsi_from(vdev);
    scsi_bus_set_hurry(&s->bus, true);
    virtio_scsi_park_held(s);
}

static void virtio_scsi_stopped(VirtioDevice *vdev)
{
    enter_iothread(vdev->home);
    scsi_bus_set_hurry(&virtio_scsi_from(vdev)->bus, false);
}

static void virtio_scsi_handle_queue(VirtioDevice *vdev, unsigned index)
{
    VirtioScsi *s = virtio_scsi_from(vdev);
    enter_loop(virtio_queue_home(vdev, index));
    switch (index) {
    case VIRTIO_SCSI_CONTROL_QUEUE:
        virtio_scsi_handle_control(s);
        return;
    case VIRTIO_SCSI_EVENT_QUEUE:
        virtio_scsi_handle_events(s);
        return;
    default:
        virtio_scsi_take_requests(s, index, UINT32_MAX);
        return;
    }
}

static const VirtioOps virtio_scsi_ops = {
    .device_id = VIRTIO_SCSI_DEVICE_ID,
    .get_config = virtio_scsi_get_config,
    .set_config = virtio_scsi_set_config,
    .reset = virtio_scsi_reset,
    .started = virtio_scsi_started,
    .stopping = virtio_scsi_stopping,
    .stopped = virtio_scsi_stopped,
    .handle_queue = virtio_scsi_handle_queue,
};

static const ScsiBusOps virtio_scsi_bus_ops = {
    .held_ended = virtio_scsi_held_ended,
    .lun_changed = virtio_scsi_lun_changed,
    .capacity_changed = virtio_scsi_capacity_changed,
};

/* ---- life cycle ---- */

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

static bool virtio_scsi_check_properties(VirtioScsi *s, GError **error)
{
    if (!s->num_queues) {
        s->num_queues =
            (uint16_t)CLAMP(s->base.pci.base.env->cpu_count, 1, VIRTIO_SCSI_MAX_REQUEST_QUEUES);
    }
    if (s->queue_size & (s->queue_size - 1)) {
        return refuse(error, "virtqueue_size=%u is not a power of two from 4 to %u", s->queue_size,
                      VIRTQUEUE_MAX_SIZE);
    }
    return true;
}

static void changed_bh(void *opaque)
{
    VirtioScsi *s = opaque;
    enter_loop(s->base.vdev.home);
    virtio_scsi_report_changed(s);
}

/* The first iothread of a mapping, or that of iothread=. */
static RUNS_IN_MAIN bool virtio_scsi_find_home(VirtioScsi *s, GError **error)
{
    const Device *dev = &s->base.pci.base;
    VirtioDevice *vdev = &s->base.vdev;
    if (!virtio_mapping_resolve(&s->mapping, dev, s->iothread, VIRTIO_SCSI_FIRST_REQUEST_QUEUE,
                                s->num_queues, error)) {
        return false;
    }
    vdev->home = s->mapping.homes ? s->mapping.homes[0]
                 : s->iothread    ? disk_find_iothread(dev, s->iothread, error)
                                  : dev->env->default_iothread;
    return vdev->home;
}

static bool virtio_scsi_realize(Device *dev, GError **error)
{
    VirtioScsi *s = from_device(dev);
    VirtioDevice *vdev = &s->base.vdev;
    enter_main();
    if (!virtio_scsi_check_properties(s, error) || !virtio_scsi_find_home(s, error)) {
        return false;
    }
    vdev->ops = &virtio_scsi_ops;
    vdev->state = &s->state.virtio;
    vdev->num_queues = VIRTIO_SCSI_FIRST_REQUEST_QUEUE + s->num_queues;
    vdev->queue_size = s->queue_size;
    vdev->request_size = sizeof(VirtioScsiRequest);
    vdev->config_size = sizeof(VirtioScsiConfig);
    vdev->request_coroutines = true;
    vdev->unlimited_queues = 1u << VIRTIO_SCSI_CONTROL_QUEUE | 1u << VIRTIO_SCSI_EVENT_QUEUE;
    vdev->features =
        (s->hotplug ? VIRTIO_SCSI_F_HOTPLUG : 0) | (s->param_change ? VIRTIO_SCSI_F_CHANGE : 0);
    s->base.class_code = PCI_CLASS_STORAGE_SCSI;
    virtio_mapping_apply(&s->mapping, vdev);
    virtio_scsi_init_lanes(s);
    aio_bh_init(&s->changed_bh, vdev->home, changed_bh, s);
    if (!virtio_pci_realize(&s->base, error)) {
        virtio_scsi_free_lanes(s);
        return false;
    }
    scsi_bus_init(&s->bus, &virtio_scsi_bus_ops, dev, vdev->home);
    s->bus.max_transfer_sectors = s->max_sectors;
    return true;
}

static void cancel_at_home(void *opaque)
{
    aio_bh_cancel(&((VirtioScsi *)opaque)->changed_bh);
}

/* All its logical units are unrealized. */
static void virtio_scsi_unrealize(Device *dev)
{
    VirtioScsi *s = from_device(dev);
    enter_main();
    enter_coroutine();
    co_call_in(s->base.vdev.home, cancel_at_home, s);
    virtio_pci_unrealize(&s->base);
    virtio_scsi_free_lanes(s);
    scsi_bus_cleanup(&s->bus);
}

static bool virtio_scsi_check_state(const Device *dev, const void *state, GError **error)
{
    const VirtioScsiState *s = state;
    if (s->sense_size > VIRTIO_SCSI_SENSE_SIZE_MAX || s->cdb_size > VIRTIO_SCSI_CDB_SIZE_MAX) {
        return refuse(error, "%s: saved state has sense_size=%u cdb_size=%u", device_label(dev),
                      s->sense_size, s->cdb_size);
    }
    return virtio_pci_check_state(dev, state, error);
}

static bool virtio_scsi_post_load(Device *dev, GError **error)
{
    return virtio_scsi_check_state(dev, &from_device(dev)->state, error) &&
           virtio_pci_post_load(dev, error);
}

/* ---- tables ---- */

static const StateField virtio_scsi_fields[] = {
    STATE_STRUCT_ONE(VirtioScsiState, virtio, &virtio_state_desc),
    STATE_FIELD(VirtioScsiState, STATE_U32, sense_size),
    STATE_FIELD(VirtioScsiState, STATE_U32, cdb_size),
    STATE_FIELD(VirtioScsiState, STATE_BOOL, events_missed),
    STATE_ARRAY(VirtioScsiState, STATE_PAD, pad),
    {0},
};

static const StateDesc virtio_scsi_state_desc =
    STATE_DESC("virtio-scsi", 1, VirtioScsi, state, VirtioScsiState, virtio_scsi_fields);

static const OptSpec virtio_scsi_properties[] = {
    VIRTIO_PCI_PROPERTIES(VirtioScsi, base, "128"),
    OPT_SPEC(VirtioScsi, "iothread", OPT_STRING, iothread,
             .help = "iothread that serves the controller and its disks"),
    VIRTIO_MAPPING_PROPERTY(VirtioScsi, mapping),
    OPT_SPEC(VirtioScsi, "num_queues", OPT_U16, num_queues, .max = VIRTIO_SCSI_MAX_REQUEST_QUEUES,
             .help = "request queues; 0: one per processor"),
    OPT_SPEC(VirtioScsi, "virtqueue_size", OPT_U16, queue_size, .def = "256", .min = 4,
             .max = VIRTQUEUE_MAX_SIZE, .help = "entries of a queue, a power of two"),
    OPT_SPEC(VirtioScsi, "max_sectors", OPT_U32, max_sectors, .def = "65535", .min = 1,
             .max = UINT32_MAX, .help = "largest request that drivers send, in 512 bytes"),
    OPT_SPEC(VirtioScsi, "cmd_per_lun", OPT_U32, cmd_per_lun, .def = "128", .min = 1,
             .max = UINT32_MAX, .help = "commands that drivers have in flight for a disk"),
    OPT_SPEC(VirtioScsi, "hotplug", OPT_BOOL, hotplug, .def = "on",
             .help = "report disks that come and go"),
    OPT_SPEC(VirtioScsi, "param_change", OPT_BOOL, param_change, .def = "on",
             .help = "report disks whose size changes"),
    {0},
};

const DeviceType virtio_scsi_pci_type = {
    .name = "virtio-scsi-pci",
    .description = "virtio SCSI controller: the bus of scsi-hd and scsi-cd",
    .instance_size = sizeof(VirtioScsi),
    .properties = virtio_scsi_properties,
    .base_state = &pci_device_state_desc,
    .state = &virtio_scsi_state_desc,
    .user_creatable = true,
    .bus = "pci",
    .provides_bus = SCSI_BUS_TYPE,
    .realize = virtio_scsi_realize,
    .reset = virtio_pci_reset,
    .unrealize = virtio_scsi_unrealize,
    .co_start = virtio_pci_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .check_state = virtio_scsi_check_state,
    .post_load = virtio_scsi_post_load,
};
