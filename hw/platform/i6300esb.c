/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog of the Intel 6300ESB I/O controller, a PCI function. Intel 300641 §16; QEMU's
 * "i6300esb".
 *
 *           ENABLE set, or a reload            timer 1 expires
 *   idle ----------------------------> stage 1 -----------------> stage 2
 *    ^                                    ^  ^                      |  |
 *    |   ENABLE cleared, or a reset       |  +----- a reload -------+  | timer 2 expires
 *    +--- from either stage               |                            |
 *    |                                    +-- output off, free-running-+
 *    +----- otherwise; with the output on: the action, and ENABLE is 0 +
 *
 * Config space:  0x60  WDT configuration (16 bits)    0x68  WDT lock (8 bits)
 * BAR 0:         0x00  preload of timer 1             0x04  preload of timer 2
 *                0x08  interrupt status: reads 0      0x0c  reload
 *
 * A write to a preload or to the reload register has an effect only directly after 0x80 and 0x86
 * were written to the reload register. The timers count VM time, so a stopped VM does not expire.
 * The interrupt of stage 1 is not connected, as in QEMU.
 *
 * Invariants
 *   1. The timer is armed in stages 1 and 2 only, and a stage has ENABLE set.
 *   2. After LOCK is set, only a reset changes the lock register.
 */
#include "hw/core/vm_clock.h"
#include "hw/pci/pci.h"
#include "hw/platform/trace_events.h"

#define ESB_CONFIG 0x60
#define ESB_CONFIG_WRITABLE 0x27
#define ESB_CONFIG_1MHZ 0x04      /* the clock is PCI's divided by 2^5; else by 2^15 (1 kHz) */
#define ESB_CONFIG_NO_OUTPUT 0x20 /* no action at the end of stage 2 */
#define ESB_LOCK 0x68
#define ESB_LOCK_LOCK 0x01
#define ESB_LOCK_ENABLE 0x02
#define ESB_LOCK_FREE_RUNNING 0x04
#define ESB_LOCK_WRITABLE 0x07

#define ESB_BAR_SIZE 0x10
#define ESB_TIMER1 0x00
#define ESB_TIMER2 0x04
#define ESB_RELOAD 0x0c
#define ESB_RELOAD_PING 0x0100
/* Reads as 1 after an expiry; writing 1 clears it. Linux uses bit 12 in places. */
#define ESB_RELOAD_EXPIRED 0x1200
#define ESB_UNLOCK_1 0x80
#define ESB_UNLOCK_2 0x86
#define ESB_UNLOCKED 2

#define ESB_PRELOAD_MAX 0xfffff
#define ESB_CLOCK_MHZ 33
/* A stage lasts at least this long, so that a free-running watchdog with a small preload does not
 * occupy main. */
#define ESB_STAGE_MIN_NS 1000000

typedef struct I6300esbState {
    uint64_t remaining_ns; /* until the stage ends; updated before a save */
    uint32_t preload[2];
    uint8_t stage;   /* 0: idle; 1, 2 */
    uint8_t enabled; /* ENABLE of the lock register, when it was last written */
    uint8_t unlock;  /* number of unlock writes seen */
    uint8_t expired; /* it has expired: not changed by a reset */
    uint8_t reserved[4];
} I6300esbState;

typedef struct I6300esb {
    PciDevice pci;
    I6300esbState state;
    IoRegion bar;
    VmTimer timer;
} I6300esb;

static const StateField i6300esb_fields[] = {
    STATE_FIELD(I6300esbState, STATE_U64, remaining_ns),
    STATE_ARRAY(I6300esbState, STATE_U32, preload),
    STATE_FIELD_MAX(I6300esbState, STATE_U8, stage, 2),
    STATE_FIELD_MAX(I6300esbState, STATE_U8, enabled, 1),
    STATE_FIELD_MAX(I6300esbState, STATE_U8, unlock, ESB_UNLOCKED),
    STATE_FIELD_MAX(I6300esbState, STATE_U8, expired, 1),
    STATE_PADDING(I6300esbState, reserved),
    {0},
};

static const StateDesc i6300esb_state =
    STATE_DESC("i6300esb", 1, I6300esb, state, I6300esbState, i6300esb_fields);

/* ---- timers ---- */

/* Duration of the current stage, at most 1041 s. */
static int64_t i6300esb_stage_ns(const I6300esb *w)
{
    bool fast = (pci_get(&w->pci, ESB_CONFIG, 2) & ESB_CONFIG_1MHZ) != 0;
    uint64_t ticks = (uint64_t)w->state.preload[w->state.stage - 1] << (fast ? 5 : 15);
    return MAX((int64_t)(ticks * 1000 / ESB_CLOCK_MHZ), ESB_STAGE_MIN_NS);
}

static void i6300esb_begin_stage(I6300esb *w, uint8_t stage) BQL_HELD
{
    w->state.stage = stage;
    int64_t ns = i6300esb_stage_ns(w);
    trace_i6300esb_stage(device_label(&w->pci.base), stage, ns);
    vm_timer_arm(&w->timer, vm_clock_now_ns() + ns);
}

static void i6300esb_stop(I6300esb *w) BQL_HELD
{
    w->state.stage = 0;
    vm_timer_disarm(&w->timer);
}

/* All but `expired` and the config space, which a machine's reset handles. */
static void i6300esb_power_on(I6300esb *w) BQL_HELD
{
    i6300esb_stop(w);
    w->state.enabled = 0;
    w->state.preload[0] = w->state.preload[1] = ESB_PRELOAD_MAX;
    w->state.unlock = 0;
    w->pci.wmask[ESB_LOCK] = ESB_LOCK_WRITABLE;
}

static void i6300esb_timer_fired(void *opaque)
{
    I6300esb *w = opaque;
    assert_bql();
    if (w->state.stage == 1) {
        i6300esb_begin_stage(w, 2);
        return;
    }
    bool free_running = (pci_get(&w->pci, ESB_LOCK, 1) & ESB_LOCK_FREE_RUNNING) != 0;
    if ((pci_get(&w->pci, ESB_CONFIG, 2) & ESB_CONFIG_NO_OUTPUT) == 0) {
        const Machine *machine = w->pci.base.env->machine;
        trace_i6300esb_expired(device_label(&w->pci.base));
        i6300esb_power_on(w);
        pci_set_u16(&w->pci, ESB_CONFIG, 0);
        pci_set_u8(&w->pci, ESB_LOCK, 0);
        w->state.expired = 1;
        machine_request(machine, VM_REQUEST_WATCHDOG, 0);
    } else if (free_running) {
        i6300esb_begin_stage(w, 1);
    } else {
        i6300esb_stop(w);
    }
}

/* ---- registers ---- */

/* Follows the lock register. */
static void i6300esb_config_written(PciDevice *pci, unsigned offset, unsigned size)
{
    I6300esb *w = (I6300esb *)pci;
    assert_bql();
    unsigned lock = pci_get(pci, ESB_LOCK, 1);
    bool enabled = (lock & ESB_LOCK_ENABLE) != 0, was_enabled = w->state.enabled != 0;
    if (offset > ESB_LOCK || offset + size <= ESB_LOCK) {
        return;
    }
    w->state.enabled = enabled;
    if ((lock & ESB_LOCK_LOCK) != 0) {
        pci->wmask[ESB_LOCK] = 0;
    }
    if (enabled && !was_enabled) {
        i6300esb_begin_stage(w, 1);
    } else if (!enabled) {
        i6300esb_stop(w);
    }
}

static void i6300esb_reload(I6300esb *w, uint32_t value) BQL_HELD
{
    if ((value & ESB_RELOAD_PING) != 0 && w->state.enabled != 0) {
        i6300esb_begin_stage(w, 1);
    }
    if ((value & ESB_RELOAD_EXPIRED) != 0) {
        w->state.expired = 0;
    }
}

static void i6300esb_write(I6300esb *w, const IoAccess *access) BQL_HELD
{
    I6300esbState *s = &w->state;
    uint32_t value = (uint32_t)access->value;
    if (access->offset == ESB_RELOAD && value == ESB_UNLOCK_1) {
        s->unlock = 1;
        return;
    }
    if (access->offset == ESB_RELOAD && value == ESB_UNLOCK_2 && s->unlock == 1) {
        s->unlock = ESB_UNLOCKED;
        return;
    }
    if (access->size == 1) {
        return; /* only unlocks */
    }
    bool unlocked = s->unlock == ESB_UNLOCKED;
    s->unlock = unlocked ? 0 : s->unlock;
    if (!unlocked) {
        return;
    }
    if (access->offset == ESB_RELOAD && access->size == 2) {
        i6300esb_reload(w, value);
    } else if ((access->offset == ESB_TIMER1 || access->offset == ESB_TIMER2) &&
               access->size == 4) {
        s->preload[access->offset / 4] = value & ESB_PRELOAD_MAX;
    }
}

static MmioResult i6300esb_access(void *opaque, IoAccess *access)
{
    I6300esb *w = opaque;
    assert_bql();
    if (access->is_write) {
        i6300esb_write(w, access);
        return MMIO_DONE;
    }
    bool status = access->offset == ESB_RELOAD && access->size == 2;
    access->value = status && w->state.expired != 0 ? ESB_RELOAD_EXPIRED : 0;
    return MMIO_DONE;
}

static const IoRegionOps i6300esb_ops = {.access = i6300esb_access, .min_size = 1, .max_size = 4};

/* ---- life cycle ---- */

static bool i6300esb_realize(Device *dev, GError **error)
{
    static const PciIdentity identity = {.vendor = 0x8086,
                                         .device = 0x25ab,
                                         .subsystem_vendor = 0x1af4,
                                         .subsystem = 0x1100,
                                         .class_code = 0x088000};
    I6300esb *w = (I6300esb *)dev;
    enter_main();
    if (!pci_device_plug(&w->pci, dev->env->pci_bus, &identity, error)) {
        return false;
    }
    w->bar =
        (IoRegion){.name = "i6300esb", .ops = &i6300esb_ops, .opaque = w, .size = ESB_BAR_SIZE};
    pci_device_add_bar(&w->pci, 0, &w->bar, false, false);
    w->pci.wmask[ESB_CONFIG] = ESB_CONFIG_WRITABLE;
    w->pci.wmask[ESB_LOCK] = ESB_LOCK_WRITABLE;
    w->pci.config_written = i6300esb_config_written;
    vm_timer_init(&w->timer, i6300esb_timer_fired, w);
    return true;
}

static void i6300esb_unrealize(Device *dev)
{
    I6300esb *w = (I6300esb *)dev;
    enter_main();
    vm_timer_fini(&w->timer);
    pci_device_unplug(&w->pci);
}

static void i6300esb_reset(Device *dev)
{
    I6300esb *w = (I6300esb *)dev;
    assert_bql();
    i6300esb_power_on(w);
    pci_device_reset(&w->pci);
}

static void i6300esb_pre_save(Device *dev)
{
    I6300esb *w = (I6300esb *)dev;
    assert_bql();
    pci_device_pre_save(&w->pci);
    int64_t left_ns = w->timer.armed ? w->timer.deadline_ns - vm_clock_now_ns() : 0;
    w->state.remaining_ns = (uint64_t)MAX(left_ns, 0);
}

static bool i6300esb_post_load(Device *dev, GError **error)
{
    I6300esb *w = (I6300esb *)dev;
    I6300esbState *s = &w->state;
    assert_bql();
    w->pci.wmask[ESB_LOCK] = ESB_LOCK_WRITABLE; /* or a locked register would not be loaded */
    pci_device_post_load(&w->pci);
    unsigned lock = pci_get(&w->pci, ESB_LOCK, 1);
    if ((lock & ESB_LOCK_LOCK) != 0) {
        w->pci.wmask[ESB_LOCK] = 0;
    }
    s->enabled = (lock & ESB_LOCK_ENABLE) != 0;
    s->preload[0] &= ESB_PRELOAD_MAX;
    s->preload[1] &= ESB_PRELOAD_MAX;
    if (s->stage == 0 || s->enabled == 0) {
        i6300esb_stop(w);
        return true;
    }
    const uint64_t longest_ns = ((uint64_t)ESB_PRELOAD_MAX << 15) * 1000 / ESB_CLOCK_MHZ;
    vm_timer_arm(&w->timer, vm_clock_now_ns() + (int64_t)MIN(s->remaining_ns, longest_ns));
    return true;
}

static const OptSpec i6300esb_properties[] = {PCI_DEVICE_PROPERTIES, {0}};

const DeviceType i6300esb_type = {
    .name = "i6300esb",
    .description = "Intel 6300ESB watchdog timer",
    .instance_size = sizeof(I6300esb),
    .properties = i6300esb_properties,
    .base_state = &pci_device_state_desc,
    .state = &i6300esb_state,
    .user_creatable = true,
    .bus = "pci",
    .realize = i6300esb_realize,
    .reset = i6300esb_reset,
    .unrealize = i6300esb_unrealize,
    .pre_save = i6300esb_pre_save,
    .post_load = i6300esb_post_load,
};
