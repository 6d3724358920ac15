/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/x86_64/pit.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define PIT_CHANNELS 3
#define PIT_SPEAKER_CHANNEL 2
#define PIT_WHOLE_COUNT 0x10000 /* 18.2 Hz */
#define PIT_MODE_RATE 2
#define PIT_MODE_SQUARE 3
/* rw_mode, read_state, write_state and count_latched */
#define PIT_RW_LOW 1
#define PIT_RW_HIGH 2
#define PIT_RW_WORD 3
#define PIT_RW_SECOND 4 /* the high byte of a word is next */
#define PIT_READ_BACK 3
#define PIT_READ_BACK_NO_COUNT 0x20
#define PIT_READ_BACK_NO_STATUS 0x10
#define PIT_STATUS_OUT 0x80

#define SPEAKER_GATE 0x01
#define SPEAKER_DATA 0x02
#define SPEAKER_REFRESH 0x10
#define SPEAKER_OUT 0x20
#define PIT_FLAG_SPEAKER_DATA 0x2 /* KVM_PIT_FLAGS_SPEAKER_DATA_ON of newer headers */

static struct {
    struct kvm_pit_state2 power_on;
    _Atomic bool exists;
    bool discard_late_ticks;
} x86_pit;

static bool pit_fail(GError **error, const char *what)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "KVM: %s: %s", what,
                g_strerror(err));
    return false;
}

/* ---- the chip in KVM ---- */

bool x86_pit_check(Kvm *kvm, GError **error)
{
    errno = ENOTSUP;
    return kvm_check(kvm, KVM_CAP_PIT2) > 0 || pit_fail(error, "KVM_CAP_PIT2");
}

bool x86_pit_discard_late_ticks(Kvm *kvm, GError **error)
{
    x86_pit.discard_late_ticks = kvm_check(kvm, KVM_CAP_REINJECT_CONTROL) > 0;
    errno = ENOTSUP;
    return x86_pit.discard_late_ticks || pit_fail(error, "KVM_REINJECT_CONTROL");
}

bool x86_pit_create(Kvm *kvm, GError **error)
{
    struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
    struct kvm_reinject_control late = {.pit_reinject = 0};
    if (ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &config) != 0) {
        return pit_fail(error, "KVM_CREATE_PIT2");
    }
    if (ioctl(kvm->vm_fd, KVM_GET_PIT2, &x86_pit.power_on) != 0) {
        return pit_fail(error, "KVM_GET_PIT2");
    }
    if (x86_pit.discard_late_ticks && ioctl(kvm->vm_fd, KVM_REINJECT_CONTROL, &late) != 0) {
        return pit_fail(error, "KVM_REINJECT_CONTROL");
    }
    atomic_store(&x86_pit.exists, true);
    return true;
}

bool x86_pit_exists(void)
{
    return atomic_load(&x86_pit.exists);
}

static bool pit_set(Kvm *kvm, struct kvm_pit_state2 *pit, GError **error)
{
    return ioctl(kvm->vm_fd, KVM_SET_PIT2, pit) == 0 || pit_fail(error, "KVM_SET_PIT2");
}

bool x86_pit_reset(Kvm *kvm, GError **error)
{
    return !x86_pit_exists() || pit_set(kvm, &x86_pit.power_on, error);
}

bool x86_pit_start_bios_timer(Kvm *kvm, GError **error)
{
    if (!x86_pit_exists() && !x86_pit_create(kvm, error)) {
        return false;
    }
    struct kvm_pit_state2 pit = x86_pit.power_on;
    pit.channels[0].count = PIT_WHOLE_COUNT;
    pit.channels[0].mode = PIT_MODE_RATE;
    pit.channels[0].rw_mode = PIT_RW_WORD;
    pit.channels[0].gate = 1;
    return pit_set(kvm, &pit, error);
}

bool x86_pit_access(Kvm *kvm, unsigned port, bool is_write, uint8_t *value, GError **error)
{
    struct kvm_pit_state2 pit, before;
    struct timespec now;
    if (ioctl(kvm->vm_fd, KVM_GET_PIT2, &pit) != 0) {
        return pit_fail(error, "KVM_GET_PIT2");
    }
    before = pit;
    clock_gettime(CLOCK_MONOTONIC, &now);
    x86_pit_apply(&pit, port, is_write, value, now.tv_sec * INT64_C(1000000000) + now.tv_nsec);
    return memcmp(&pit, &before, sizeof(pit)) == 0 || pit_set(kvm, &pit, error);
}

/* ---- the chip's registers ---- */

static uint64_t pit_ticks(const struct kvm_pit_channel_state *c, int64_t now_ns)
{
    int64_t elapsed_ns = now_ns > c->count_load_time ? now_ns - c->count_load_time : 0;
    return (uint64_t)((unsigned __int128)(uint64_t)elapsed_ns * X86_PIT_HZ / 1000000000);
}

static uint32_t pit_period(const struct kvm_pit_channel_state *c)
{
    return c->count != 0 ? c->count : PIT_WHOLE_COUNT;
}

static uint16_t pit_count(const struct kvm_pit_channel_state *c, int64_t now_ns)
{
    uint64_t ticks = pit_ticks(c, now_ns);
    uint32_t period = pit_period(c);
    switch (c->mode) {
    case 0:
    case 1:
    case 4:
    case 5:
        return (uint16_t)(period - ticks);
    case PIT_MODE_SQUARE:
        return (uint16_t)(period - 2 * ticks % period);
    default:
        return (uint16_t)(period - ticks % period);
    }
}

static bool pit_out(const struct kvm_pit_channel_state *c, int64_t now_ns)
{
    uint64_t ticks = pit_ticks(c, now_ns);
    uint32_t period = pit_period(c);
    switch (c->mode) {
    case 1:
        return ticks < period;
    case PIT_MODE_RATE:
        return ticks % period == 0 && ticks != 0;
    case PIT_MODE_SQUARE:
        return ticks % period < (period + 1) / 2;
    case 4:
    case 5:
        return ticks == period;
    default:
        return ticks >= period;
    }
}

static void pit_latch_count(struct kvm_pit_channel_state *c, int64_t now_ns)
{
    if (c->count_latched == 0) {
        c->latched_count = pit_count(c, now_ns);
        c->count_latched = c->rw_mode;
    }
}

static void pit_latch_status(struct kvm_pit_channel_state *c, int64_t now_ns)
{
    if (c->status_latched == 0) {
        c->status = (uint8_t)((pit_out(c, now_ns) ? PIT_STATUS_OUT : 0) | c->rw_mode << 4 |
                              c->mode << 1 | c->bcd);
        c->status_latched = 1;
    }
}

static void pit_read_back(struct kvm_pit_state2 *pit, uint8_t value, int64_t now_ns)
{
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        if ((value & 2u << i) == 0) {
            continue;
        }
        if ((value & PIT_READ_BACK_NO_COUNT) == 0) {
            pit_latch_count(&pit->channels[i], now_ns);
        }
        if ((value & PIT_READ_BACK_NO_STATUS) == 0) {
            pit_latch_status(&pit->channels[i], now_ns);
        }
    }
}

static void pit_write_control(struct kvm_pit_state2 *pit, uint8_t value, int64_t now_ns)
{
    unsigned channel = value >> 6;
    uint8_t rw = value >> 4 & 3, mode = value >> 1 & 7;
    if (channel == PIT_READ_BACK) {
        pit_read_back(pit, value, now_ns);
        return;
    }
    struct kvm_pit_channel_state *c = &pit->channels[channel];
    if (rw == 0) {
        pit_latch_count(c, now_ns);
        return;
    }
    c->rw_mode = c->read_state = c->write_state = rw;
    c->mode = mode > 5 ? mode - 4 : mode;
    c->bcd = value & 1;
}

static void pit_load(struct kvm_pit_channel_state *c, uint32_t count, int64_t now_ns)
{
    c->count = count != 0 ? count : PIT_WHOLE_COUNT;
    c->count_load_time = now_ns;
}

static void pit_write_counter(struct kvm_pit_channel_state *c, uint8_t value, int64_t now_ns)
{
    switch (c->write_state) {
    case PIT_RW_HIGH:
        pit_load(c, (uint32_t)value << 8, now_ns);
        break;
    case PIT_RW_WORD:
        c->write_latch = value;
        c->write_state = PIT_RW_SECOND;
        break;
    case PIT_RW_SECOND:
        pit_load(c, c->write_latch | (uint32_t)value << 8, now_ns);
        c->write_state = PIT_RW_WORD;
        break;
    default:
        pit_load(c, value, now_ns);
        break;
    }
}

static uint8_t pit_read_latched(struct kvm_pit_channel_state *c)
{
    uint8_t which = c->count_latched;
    c->count_latched = which == PIT_RW_WORD ? PIT_RW_HIGH : 0;
    return (uint8_t)(which == PIT_RW_HIGH ? c->latched_count >> 8 : c->latched_count);
}

static uint8_t pit_read_counter(struct kvm_pit_channel_state *c, int64_t now_ns)
{
    if (c->status_latched != 0) {
        c->status_latched = 0;
        return c->status;
    }
    if (c->count_latched != 0) {
        return pit_read_latched(c);
    }
    uint16_t count = pit_count(c, now_ns);
    switch (c->read_state) {
    case PIT_RW_HIGH:
        return (uint8_t)(count >> 8);
    case PIT_RW_WORD:
        c->read_state = PIT_RW_SECOND;
        return (uint8_t)count;
    case PIT_RW_SECOND:
        c->read_state = PIT_RW_WORD;
        return (uint8_t)(count >> 8);
    default:
        return (uint8_t)count;
    }
}

/* In the modes 1, 2, 3 and 5 a rising gate begins the count again. */
static void pit_set_gate(struct kvm_pit_channel_state *c, bool gate, int64_t now_ns)
{
    if (gate && c->gate == 0 && c->mode != 0 && c->mode != 4) {
        c->count_load_time = now_ns;
    }
    c->gate = gate;
}

static void pit_access_speaker(struct kvm_pit_state2 *pit, bool is_write, uint8_t *value,
                               int64_t now_ns)
{
    struct kvm_pit_channel_state *c = &pit->channels[PIT_SPEAKER_CHANNEL];
    if (is_write) {
        pit_set_gate(c, (*value & SPEAKER_GATE) != 0, now_ns);
        pit->flags &= ~(uint32_t)PIT_FLAG_SPEAKER_DATA;
        pit->flags |= (*value & SPEAKER_DATA) != 0 ? PIT_FLAG_SPEAKER_DATA : 0;
        return;
    }
    *value = (uint8_t)((c->gate != 0 ? SPEAKER_GATE : 0) |
                       ((pit->flags & PIT_FLAG_SPEAKER_DATA) != 0 ? SPEAKER_DATA : 0) |
                       ((now_ns >> 14 & 1) != 0 ? SPEAKER_REFRESH : 0) |
                       (pit_out(c, now_ns) ? SPEAKER_OUT : 0));
}

void x86_pit_apply(struct kvm_pit_state2 *pit, unsigned port, bool is_write, uint8_t *value,
                   int64_t now_ns)
{
    if (port == X86_PIT_PORT_SPEAKER) {
        pit_access_speaker(pit, is_write, value, now_ns);
    } else if (port == X86_PIT_PORT + PIT_CHANNELS) {
        if (is_write) {
            pit_write_control(pit, *value, now_ns);
        } else {
            *value = 0; /* write-only; KVM reads 0 */
        }
    } else if (is_write) {
        pit_write_counter(&pit->channels[port - X86_PIT_PORT], *value, now_ns);
    } else {
        *value = pit_read_counter(&pit->channels[port - X86_PIT_PORT], now_ns);
    }
}
