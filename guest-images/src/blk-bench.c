/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of one size at a constant queue depth, for a fixed time; prints one line:
 *
 *   blk-bench: op=read bs=4096 qd=32 queues=1 cpus=1 mode=poll ops=N ms=N iops=N lat_avg_ns=N
 *   lat_max_ns=N kicks=N interrupts=N tsc_khz=N source=pm-timer
 *
 * Words: `qd=` (32, per queue), `ms=` (1000), `bs=` (4096), `op=read|write`, `order=random|ascending`
 * (from the disk's beginning, again and again), `span=` (all) how much of the disk, `seed=` (1), and those of lib/blk.h. The time is measured with the TSC
 * (lib/clock.h). Any failed request ends the guest.
 */
#include "lib/guest.h"
#include "lib/blk.h"
#include "lib/clock.h"
#include "lib/memory.h"
#include "lib/random.h"
#include "lib/scsi.h"
#include "lib/smp.h"

#define MAX_DEPTH 1024

typedef struct Slot {
    BlkHeader header;
    volatile uint8_t status;
    ScsiHeader scsi_header;
    ScsiResponse scsi_response;
    uint64_t start_tsc;
    VirtqueueBuffer buffers[3];
} Slot;

typedef struct Lane {
    BlkQueue *queue;
    Random random;
    Slot *slots;
    unsigned in_flight;
    uint64_t next_block; /* with order=ascending */
    uint64_t ops, latency_sum_tsc, latency_max_tsc;
} Lane;

static BlkDevice *blk;
static Lane lanes[BLK_MAX_QUEUES];
static uint64_t depth, block_size, block_count, duration_tsc;
static uint32_t op;
static bool ascending;
static volatile uint64_t start_tsc, end_tsc[CPU_MAX];

static void submit(Lane *lane, Slot *slot)
{
    uint64_t block =
        ascending ? lane->next_block++ % block_count : random_below(&lane->random, block_count);
    slot->header.sector = block * (block_size >> BLK_SECTOR_SHIFT);
    slot->status = BLK_STATUS_UNTOUCHED;
    if (blk->scsi) {
        slot->scsi_response.response = BLK_STATUS_UNTOUCHED;
        scsi_set_transfer(&slot->scsi_header, op == BLK_WRITE, slot->header.sector,
                          (uint32_t)(block_size >> BLK_SECTOR_SHIFT));
    }
    slot->start_tsc = cpu_read_tsc();
    unsigned out_count = op == BLK_WRITE ? 2 : 1;
    if (!virtqueue_add(&lane->queue->ring, slot->buffers, out_count, 3 - out_count, slot, true)) {
        guest_refuse(EXIT_USAGE, "qd=%lu does not fit the queue", depth);
    }
    lane->in_flight++;
}

/* Takes completed requests and, while @more, puts a new one in the place of each. */
static bool progress(Lane *lane, bool more)
{
    uint32_t written;
    bool any = false;
    Slot *slot;
    while ((slot = virtqueue_take(&lane->queue->ring, &written)) != NULL) {
        uint64_t latency = cpu_read_tsc() - slot->start_tsc;
        if (blk->scsi) {
            slot->status = slot->scsi_response.response | slot->scsi_response.status;
        }
        if (slot->status != BLK_STATUS_OK) {
            guest_fail("blk-bench: sector %lu: status %u", slot->header.sector, slot->status);
        }
        lane->in_flight--;
        lane->ops++;
        lane->latency_sum_tsc += latency;
        if (latency > lane->latency_max_tsc) {
            lane->latency_max_tsc = latency;
        }
        if (more) {
            submit(lane, slot);
        }
        any = true;
    }
    virtqueue_kick(&lane->queue->ring);
    return any;
}

static void run_lanes(void *arg)
{
    unsigned me = cpu_this()->index;
    bool more = true;
    unsigned in_flight;
    for (unsigned i = 0; i < blk->queue_count; i++) {
        if (lanes[i].queue->cpu_index == me) {
            for (unsigned j = 0; j < depth; j++) {
                submit(&lanes[i], &lanes[i].slots[j]);
            }
            virtqueue_kick(&lanes[i].queue->ring);
        }
    }
    blk_note_progress();
    do {
        bool any = false;
        in_flight = 0;
        more = more && cpu_read_tsc() - start_tsc < duration_tsc;
        for (unsigned i = 0; i < blk->queue_count; i++) {
            if (lanes[i].queue->cpu_index == me) {
                any = progress(&lanes[i], more) || any;
                in_flight += lanes[i].in_flight;
            }
        }
        if (any) {
            blk_note_progress();
        } else if (in_flight) {
            blk_wait(blk);
        }
    } while (in_flight);
    end_tsc[me] = cpu_read_tsc();
}

static void prepare_lane(Lane *lane, unsigned index, uint64_t seed)
{
    lane->queue = &blk->queues[index];
    lane->random.state = random_mix(seed + index);
    lane->slots = memory_alloc(depth * sizeof(Slot), 64);
    for (unsigned i = 0; i < depth; i++) {
        Slot *slot = &lane->slots[i];
        slot->header.type = op;
        slot->buffers[0] = (VirtqueueBuffer){&slot->header, sizeof(slot->header)};
        slot->buffers[1] =
            (VirtqueueBuffer){memory_alloc(block_size, MEMORY_PAGE_SIZE), (uint32_t)block_size};
        memset(slot->buffers[1].data, 0xa5, block_size); /* zeroes would not be data for a job */
        slot->buffers[2] = (VirtqueueBuffer){(void *)(uint64_t)&slot->status, 1};
        if (blk->scsi) { /* the response comes before the data that is read */
            scsi_prepare(&slot->scsi_header, &slot->scsi_response);
            unsigned response = op == BLK_WRITE ? 2 : 1;
            slot->buffers[0] = (VirtqueueBuffer){&slot->scsi_header, sizeof(ScsiHeader)};
            slot->buffers[3 - response] = slot->buffers[1];
            slot->buffers[response] = (VirtqueueBuffer){&slot->scsi_response, sizeof(ScsiResponse)};
        }
    }
}

static void read_words(void)
{
    depth = bootinfo_get_number("qd", 32);
    block_size = bootinfo_get_number("bs", 4096);
    op = bootinfo_is_value("op", "write") ? BLK_WRITE : BLK_READ;
    ascending = bootinfo_is_value("order", "ascending");
    if (depth == 0 || depth > MAX_DEPTH || block_size == 0 || block_size % BLK_SECTOR_SIZE ||
        block_size > 1 << 20) {
        guest_refuse(EXIT_USAGE, "qd= is 1 to %u, bs= a multiple of 512 up to 1M", MAX_DEPTH);
    }
}

static void report(void)
{
    Lane sum = {0};
    uint64_t kicks = 0, interrupts = 0, span_tsc = 1;
    for (unsigned i = 0; i < blk->queue_count; i++) {
        sum.ops += lanes[i].ops;
        sum.latency_sum_tsc += lanes[i].latency_sum_tsc;
        if (lanes[i].latency_max_tsc > sum.latency_max_tsc) {
            sum.latency_max_tsc = lanes[i].latency_max_tsc;
        }
        kicks += lanes[i].queue->ring.kicks;
        interrupts += lanes[i].queue->interrupts;
    }
    for (unsigned i = 0; i < smp_count(); i++) {
        uint64_t span = end_tsc[i] > start_tsc ? end_tsc[i] - start_tsc : 0;
        span_tsc = span > span_tsc ? span : span_tsc;
    }
    uint64_t khz = clock_tsc_hz() / 1000;
    uint64_t average_tsc = sum.ops ? sum.latency_sum_tsc / sum.ops : 0;
    printf("blk-bench: op=%s bs=%lu qd=%lu queues=%u cpus=%u mode=%s ops=%lu ms=%lu iops=%lu "
           "lat_avg_ns=%lu lat_max_ns=%lu kicks=%lu interrupts=%lu tsc_khz=%lu source=%s\n",
           op == BLK_WRITE ? "write" : "read", block_size, depth, blk->queue_count, smp_count(),
           blk_mode_name(blk), sum.ops, span_tsc / khz,
           (uint64_t)((unsigned __int128)sum.ops * clock_tsc_hz() / span_tsc),
           average_tsc * 1000000 / khz, sum.latency_max_tsc * 1000000 / khz, kicks, interrupts, khz,
           clock_source());
}

void guest_main(void)
{
    read_words();
    blk = blk_open();
    if (op == BLK_WRITE && blk->read_only) {
        guest_refuse(EXIT_USAGE, "op=write, but the disk is read-only");
    }
    uint64_t disk_size = blk->sector_count << BLK_SECTOR_SHIFT;
    uint64_t span = bootinfo_get_number("span", disk_size);
    block_count = (span < disk_size ? span : disk_size) / block_size;
    if (block_count == 0) {
        guest_refuse(EXIT_USAGE, "the disk is smaller than a block");
    }
    for (unsigned i = 0; i < blk->queue_count; i++) {
        prepare_lane(&lanes[i], i, bootinfo_get_number("seed", 1));
    }
    duration_tsc = bootinfo_get_number("ms", 1000) * (clock_tsc_hz() / 1000);
    start_tsc = cpu_read_tsc();
    smp_run_all(run_lanes, NULL);
    report();
    printf("blk-bench: PASS\n");
}
