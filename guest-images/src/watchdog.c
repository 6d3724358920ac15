/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts a watchdog, reloads it `pings=` (0) times, stops reloading it and then waits for its end.
 *
 *   device=i6300esb (default) or device=tco
 *   ms=N         its time-out (2000); the TCO timer counts in 1200 ms
 *   pings=N      reloads, each after half of the time-out
 *   then=stop    stops the watchdog after the reloads, and passes after twice the time-out
 *   then=hammer  reads and writes its registers without end; the other CPUs count, and every
 *                `ms=` a line "hammer N others M" shows how often
 *
 * "watchdog: started" follows the start, "watchdog: pinged N" the reloads. At its start the guest
 * looks for an expiry before the last reset; if there was one, it prints "watchdog: it had expired"
 * and passes.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/pci.h"
#include "lib/smp.h"

#define ESB_ID 0x25ab8086
#define ESB_CONFIG 0x60
#define ESB_LOCK 0x68
#define ESB_ENABLE 2
#define ESB_TIMER1 0x0
#define ESB_TIMER2 0x4
#define ESB_RELOAD 0xc
#define ESB_PING 0x100
#define ESB_EXPIRED 0x200

#define LPC_ID 0x29188086
#define LPC_PMBASE 0x40
#define LPC_RCBA 0xf0
#define GCS_OFFSET 0x3410
#define GCS_NO_REBOOT 0x20
#define TCO_OFFSET 0x60
#define TCO_RLD 0x00
#define TCO2_STS 0x06
#define TCO2_SECOND 0x0002
#define TCO1_CNT 0x08
#define TCO_HALT 0x0800
#define TCO_TMR 0x12
#define TCO_TICK_MS 600

typedef struct Watchdog {
    void (*start)(uint64_t ms);
    void (*ping)(void);
    void (*stop)(void);
    bool (*expired)(void); /* since it was last asked */
    void (*hammer)(uint64_t random);
} Watchdog;

static PciDevice *dev;
static uint64_t esb;             /* its registers */
static uint64_t gcs;             /* of the chipset, for TCO */
static uint16_t tco;             /* its first port */
static volatile uint64_t others; /* counted by the other CPUs */

static PciDevice *find(uint32_t id)
{
    for (unsigned i = 0; i < pci_scan(); i++) {
        PciDevice *d = pci_device(i);
        if ((d->vendor_id | (uint32_t)d->device_id << 16) == id) {
            return d;
        }
    }
    guest_refuse(EXIT_MISSING, "watchdog: no PCI device 0x%x", id);
}

/* ---- i6300esb ---- */

static void esb_unlock(void)
{
    mmio_write8(esb + ESB_RELOAD, 0x80);
    mmio_write8(esb + ESB_RELOAD, 0x86);
}

static void esb_ping(void)
{
    esb_unlock();
    mmio_write16(esb + ESB_RELOAD, ESB_PING);
}

static void esb_set_lock(uint8_t value)
{
    uint32_t old = pci_read32(dev, ESB_LOCK);
    pci_write32(dev, ESB_LOCK, (old & ~0xffu) | value);
}

/* Each of the two stages is half of the time-out, in ticks of 0.993 ms. */
static void esb_start(uint64_t ms)
{
    pci_write16(dev, ESB_CONFIG, 0x03); /* 1 kHz, no interrupt */
    esb_unlock();
    mmio_write32(esb + ESB_TIMER1, (uint32_t)(ms / 2));
    esb_unlock();
    mmio_write32(esb + ESB_TIMER2, (uint32_t)(ms / 2));
    esb_ping();
    esb_set_lock(ESB_ENABLE);
}

static void esb_stop(void)
{
    esb_set_lock(0);
}

static bool esb_expired(void)
{
    bool expired = (mmio_read16(esb + ESB_RELOAD) & ESB_EXPIRED) != 0;
    esb_unlock();
    mmio_write16(esb + ESB_RELOAD, ESB_EXPIRED);
    return expired;
}

static void esb_hammer(uint64_t random)
{
    switch (random % 4) {
    case 0:
        esb_start(random % 5000);
        break;
    case 1:
        esb_set_lock((uint8_t)(random >> 8) & 6); /* not locked, so it can be enabled again */
        break;
    case 2:
        mmio_read16(esb + ESB_RELOAD);
        break;
    default:
        esb_ping();
        break;
    }
}

/* ---- TCO ---- */

static void tco_start(uint64_t ms)
{
    uint64_t ticks = ms / TCO_TICK_MS / 2;
    mmio_write32(gcs, mmio_read32(gcs) & ~(uint32_t)GCS_NO_REBOOT);
    cpu_out16(tco + TCO_TMR, (uint16_t)(ticks < 2 ? 2 : ticks));
    cpu_out16(tco + TCO_RLD, 1);
    cpu_out16(tco + TCO1_CNT, 0);
}

static void tco_ping(void)
{
    cpu_out16(tco + TCO_RLD, 1);
}

static void tco_stop(void)
{
    cpu_out16(tco + TCO1_CNT, TCO_HALT);
}

static bool tco_expired(void)
{
    bool expired = (cpu_in16(tco + TCO2_STS) & TCO2_SECOND) != 0;
    cpu_out16(tco + TCO2_STS, TCO2_SECOND);
    return expired;
}

static void tco_hammer(uint64_t random)
{
    cpu_out16((uint16_t)(tco + (random % 0x20 & ~1ul)), (uint16_t)(random >> 8));
    cpu_in16(tco + TCO_RLD);
}

/* ---- both ---- */

static const Watchdog esb_watchdog = {esb_start, esb_ping, esb_stop, esb_expired, esb_hammer};
static const Watchdog tco_watchdog = {tco_start, tco_ping, tco_stop, tco_expired, tco_hammer};

static const Watchdog *set_up(void)
{
    if (!bootinfo_is_value("device", "tco")) {
        dev = find(ESB_ID);
        pci_enable(dev);
        esb = pci_bar(dev, 0);
        return &esb_watchdog;
    }
    dev = find(LPC_ID);
    tco = (uint16_t)((pci_read32(dev, LPC_PMBASE) & 0xff80) + TCO_OFFSET);
    gcs = (pci_read32(dev, LPC_RCBA) & 0xffffc000u) + GCS_OFFSET;
    return &tco_watchdog;
}

static void wait_ms(uint64_t ms)
{
    uint64_t end = clock_now_ns() + ms * CLOCK_NS_PER_MS;
    while (clock_now_ns() < end) {
        cpu_pause();
    }
}

/* Each count of the other CPUs is an access to a device, which takes the same way as the
 * hammering. */
static void hammer_forever(void *arg)
{
    const Watchdog *w = arg;
    uint64_t ms = bootinfo_get_number("ms", 2000), done = 0, random = 1;
    uint64_t next = clock_now_ns();
    if (cpu_this()->index != 0) {
        for (;;) {
            cpu_in8(0x80);
            __atomic_add_fetch(&others, 1, __ATOMIC_RELAXED);
        }
    }
    for (;;) {
        random = random * 6364136223846793005ul + 1442695040888963407ul;
        w->hammer(random >> 33);
        done++;
        if (clock_now_ns() >= next) {
            next = clock_now_ns() + ms * CLOCK_NS_PER_MS;
            printf("hammer %lu others %lu\n", done, others);
        }
    }
}

void guest_main(void)
{
    const Watchdog *w = set_up();
    uint64_t ms = bootinfo_get_number("ms", 2000), pings = bootinfo_get_number("pings", 0);
    clock_init();
    if (w->expired()) {
        printf("watchdog: it had expired\n");
        guest_exit(EXIT_PASS);
    }
    if (bootinfo_is_value("then", "hammer")) {
        smp_start();
        smp_run_all(hammer_forever, (void *)w);
    }
    w->start(ms);
    printf("watchdog: started\n");
    for (uint64_t i = 0; i < pings; i++) {
        wait_ms(ms / 2);
        w->ping();
    }
    printf("watchdog: pinged %lu\n", pings);
    if (bootinfo_is_value("then", "stop")) {
        w->stop();
        wait_ms(ms * 2);
        printf("watchdog: PASS\n");
        guest_exit(EXIT_PASS);
    }
    for (;;) {
        cpu_pause();
    }
}
