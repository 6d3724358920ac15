/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random requests over all queues at once; all data read is checked against all data written.
 *
 * Each queue is a lane of its own: a part of the disk, a number stream, slots for requests in
 * flight. So CPUs work on their lanes independently. Every sector of a lane has a generation
 * (lib/pattern.h): its expected content. Requests in flight never overlap, except reads with reads.
 * At the end, after a flush, the whole span is read and checked once more.
 *
 * Words: `seed=` (1), `ops=` (2000, over all lanes), `ms=` or `until=button` (the power button)
 * instead, `qd=` (16, per queue), `max=` (128k) largest request, `span=` (64M) and `base=` (0) the
 * used bytes of the disk, `odd=0` keeps segments to whole sectors, `serial=` the expected id, and
 * those of lib/blk.h.
 *
 * Ends with: blk-verify: PASS ops=N bytes=N reads=N writes=N flushes=N discards=N zeroes=N ids=N
 * ...
 */
#include "lib/guest.h"
#include "lib/blk.h"
#include "lib/blk_request.h"
#include "lib/clock.h"
#include "lib/memory.h"
#include "lib/pattern.h"
#include "lib/power.h"
#include "lib/random.h"
#include "lib/smp.h"

#define MAX_DEPTH 256
#define POSITION_TRIES 8
#define REPORT_LIMIT 8
#define BUTTON_TURNS 64

/* Percent; kinds that the device does not offer become reads. */
static const unsigned kind_weights[BLK_KIND_COUNT] = {42, 44, 5, 4, 4, 1};

typedef struct Slot {
    bool busy;
    uint32_t generation; /* of a write */
    BlkRequest request;
} Slot;

typedef enum Phase { PHASE_RANDOM, PHASE_FLUSH, PHASE_FINAL, PHASE_DONE } Phase;

typedef struct Lane {
    BlkQueue *queue;
    Random random;
    uint64_t base, sector_count; /* in sectors */
    uint32_t *generations;       /* by sector from base */
    uint32_t last_generation;
    Phase phase;
    uint64_t ops_left, cursor; /* of the final pass */
    Slot *slots;
    unsigned in_flight;
    bool asked_for_id;
    uint64_t done[BLK_KIND_COUNT], bytes;
} Lane;

static BlkDevice *blk;
static Lane lanes[BLK_MAX_QUEUES];
static uint32_t seed;
static uint64_t depth, max_sectors, end_ns;
static bool odd_segments;
static bool until_button, button_pressed;
static char device_id[BLK_ID_SIZE + 1];
static int device_id_known;

/* ---- choosing a request ------------------------------------------------------------------- */

static bool kind_is_offered(unsigned kind)
{
    switch (kind) {
    case BLK_KIND_WRITE:
        return !blk->read_only;
    case BLK_KIND_FLUSH:
        return blk->can_flush;
    case BLK_KIND_DISCARD:
        return blk->can_discard && !blk->read_only;
    case BLK_KIND_ZEROES:
        return blk->can_write_zeroes && !blk->read_only;
    case BLK_KIND_ID:
        return !blk->scsi;
    default:
        return true;
    }
}

/* A lane asks for the id first, so that the report has it after any number of requests. */
static unsigned choose_kind(Lane *lane)
{
    if (!lane->asked_for_id && !blk->scsi) {
        lane->asked_for_id = true;
        return BLK_KIND_ID;
    }
    uint64_t roll = random_below(&lane->random, 100);
    unsigned kind = 0;
    while (roll >= kind_weights[kind]) {
        roll -= kind_weights[kind++];
    }
    return kind_is_offered(kind) ? kind : BLK_KIND_READ;
}

/* Small sizes are as frequent as large ones. */
static uint64_t choose_size(Lane *lane, uint64_t limit)
{
    limit = limit < lane->sector_count ? limit : lane->sector_count;
    uint64_t shift = random_below(&lane->random, 9);
    return 1 + random_below(&lane->random, (limit >> shift) ? limit >> shift : 1);
}

static bool collides(const Lane *lane, const Slot *wanted)
{
    for (unsigned i = 0; i < depth; i++) {
        const Slot *slot = &lane->slots[i];
        if (!slot->busy || !slot->request.sector_count ||
            (slot->request.kind == BLK_KIND_READ && wanted->request.kind == BLK_KIND_READ)) {
            continue;
        }
        if (wanted->request.sector < slot->request.sector + slot->request.sector_count &&
            slot->request.sector < wanted->request.sector + wanted->request.sector_count) {
            return true;
        }
    }
    return false;
}

static uint64_t size_limit(unsigned kind)
{
    uint64_t limit = max_sectors;
    if (kind == BLK_KIND_DISCARD) {
        limit = blk->discard_max_sectors;
    } else if (kind == BLK_KIND_ZEROES) {
        limit = blk->zeroes_max_sectors;
    }
    /* Large ranges need no memory, but should not clear all known content. */
    return limit < 4 * max_sectors ? limit : 4 * max_sectors;
}

static bool choose_range(Lane *lane, Slot *slot)
{
    slot->request.sector = slot->request.sector_count = 0;
    if (slot->request.kind == BLK_KIND_FLUSH || slot->request.kind == BLK_KIND_ID) {
        return true;
    }
    slot->request.sector_count = choose_size(lane, size_limit(slot->request.kind));
    for (unsigned i = 0; i < POSITION_TRIES; i++) {
        uint64_t room = lane->sector_count - slot->request.sector_count + 1;
        slot->request.sector = lane->base + random_below(&lane->random, room);
        if (!collides(lane, slot)) {
            return true;
        }
    }
    return false;
}

/* Fills in the data to write, or to get. */
static void prepare(Lane *lane, Slot *slot)
{
    blk_request_place(&slot->request, &lane->random, odd_segments);
    if (slot->request.kind == BLK_KIND_WRITE) {
        slot->generation = ++lane->last_generation;
        for (uint64_t i = 0; i < slot->request.sector_count; i++) {
            pattern_fill(slot->request.data + i * BLK_SECTOR_SIZE, slot->request.sector + i,
                         slot->generation, seed);
        }
    }
}

/* ---- checking results --------------------------------------------------------------------- */

static void check_read(Lane *lane, const Slot *slot)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < slot->request.sector_count; i++) {
        const uint8_t *data = slot->request.data + i * BLK_SECTOR_SIZE;
        uint64_t lba = slot->request.sector + i;
        uint32_t generation = lane->generations[lba - lane->base];
        if (!pattern_is_right(data, lba, generation, seed) && wrong++ < REPORT_LIMIT) {
            pattern_report(data, lba, generation, seed);
        }
    }
    if (wrong) {
        guest_fail(
            "blk-verify: queue %u: read of lba=%lu count=%lu in %u buffers: %lu sectors wrong",
            lane->queue->ring.index, slot->request.sector, slot->request.sector_count,
            slot->request.buffer_count, wrong);
    }
}

static void check_id(const Slot *slot)
{
    char id[BLK_ID_SIZE + 1] = {0};
    memcpy(id, slot->request.data, BLK_ID_SIZE);
    if (bootinfo_has_word("serial") && !bootinfo_is_value("serial", id)) {
        guest_fail("blk-verify: get-id says \"%s\"", id);
    }
    if (!__atomic_exchange_n(&device_id_known, 1, __ATOMIC_ACQ_REL)) {
        memcpy(device_id, id, sizeof(id));
    }
}

static void set_generations(Lane *lane, const Slot *slot, uint32_t generation)
{
    for (uint64_t i = 0; i < slot->request.sector_count; i++) {
        lane->generations[slot->request.sector + i - lane->base] = generation;
    }
}

static void finish(Lane *lane, Slot *slot, uint32_t written)
{
    if (!blk_request_succeeded(&slot->request) || written != slot->request.in_size) {
        guest_fail("blk-verify: queue %u: %s of lba=%lu count=%lu: status %u, %u bytes written, "
                   "expected %u",
                   lane->queue->ring.index, blk_request_name(&slot->request), slot->request.sector,
                   slot->request.sector_count, *slot->request.status, written,
                   slot->request.in_size);
    }
    blk_request_check_guards(&slot->request);
    if (slot->request.kind == BLK_KIND_READ) {
        check_read(lane, slot);
    } else if (slot->request.kind == BLK_KIND_WRITE) {
        set_generations(lane, slot, slot->generation);
    } else if (slot->request.kind == BLK_KIND_DISCARD) {
        set_generations(lane, slot, PATTERN_UNKNOWN); /* virtio 1.2 §5.2.6: unspecified */
    } else if (slot->request.kind == BLK_KIND_ZEROES) {
        set_generations(lane, slot, PATTERN_ZEROES);
    } else if (slot->request.kind == BLK_KIND_ID) {
        check_id(slot);
    }
    lane->done[slot->request.kind]++;
    lane->bytes += slot->request.sector_count << BLK_SECTOR_SHIFT;
    slot->busy = false;
    lane->in_flight--;
}

/* ---- driving a lane ------------------------------------------------------------------------ */

static bool random_is_over(const Lane *lane)
{
    if (until_button) {
        return __atomic_load_n(&button_pressed, __ATOMIC_RELAXED);
    }
    return end_ns ? clock_now_ns() >= end_ns : lane->ops_left == 0;
}

/* Chooses the next request of this lane for @slot; false when none can start now. */
static bool choose_request(Lane *lane, Slot *slot)
{
    if (lane->phase == PHASE_RANDOM && random_is_over(lane)) {
        lane->phase = blk->can_flush ? PHASE_FLUSH : PHASE_FINAL;
    }
    switch (lane->phase) {
    case PHASE_RANDOM:
        slot->request.kind = choose_kind(lane);
        if (!choose_range(lane, slot)) {
            return false;
        }
        lane->ops_left--;
        return true;
    case PHASE_FLUSH:
        slot->request.kind = BLK_KIND_FLUSH;
        slot->request.sector = slot->request.sector_count = 0;
        lane->phase = lane->in_flight ? PHASE_FLUSH : PHASE_FINAL;
        return lane->in_flight == 0;
    case PHASE_FINAL:
        slot->request.kind = BLK_KIND_READ;
        slot->request.sector = lane->base + lane->cursor;
        slot->request.sector_count = lane->sector_count - lane->cursor;
        if (slot->request.sector_count > max_sectors) {
            slot->request.sector_count = max_sectors;
        }
        if (collides(lane, slot)) {
            return false;
        }
        lane->cursor += slot->request.sector_count;
        lane->phase = lane->cursor == lane->sector_count ? PHASE_DONE : PHASE_FINAL;
        return true;
    default:
        return false;
    }
}

static void submit_all(Lane *lane)
{
    for (unsigned i = 0; i < depth && lane->phase != PHASE_DONE; i++) {
        Slot *slot = &lane->slots[i];
        /* Check for room for the longest chain first: a chosen request is submitted. */
        if (slot->busy || lane->queue->ring.free_count < BLK_REQUEST_MAX_BUFFERS) {
            continue;
        }
        if (!choose_request(lane, slot)) {
            break;
        }
        prepare(lane, slot);
        BlkRequest *request = &slot->request;
        unsigned out_count =
            blk_request_lay_out(request, blk, &lane->random, lane->queue->ring.size, odd_segments);
        if (!virtqueue_add(&lane->queue->ring, request->buffers, out_count,
                           request->buffer_count - out_count, slot,
                           random_chance(&lane->random, 2))) {
            guest_fail("blk-verify: queue %u has no room", lane->queue->ring.index);
        }
        slot->busy = true;
        lane->in_flight++;
        /* Batches of random length, so that the device is sometimes kicked for a single request. */
        if (random_chance(&lane->random, 8)) {
            virtqueue_kick(&lane->queue->ring);
        }
    }
    virtqueue_kick(&lane->queue->ring);
}

static void send_again(Lane *lane, Slot *slot)
{
    const BlkRequest *request = &slot->request;
    if (!virtqueue_add(&lane->queue->ring, request->buffers, request->out_count,
                       request->buffer_count - request->out_count, slot, true)) {
        guest_fail("blk-verify: queue %u has no room", lane->queue->ring.index);
    }
    virtqueue_kick(&lane->queue->ring);
}

static bool progress(Lane *lane)
{
    uint32_t written;
    bool any = false;
    Slot *slot;
    while ((slot = virtqueue_take(&lane->queue->ring, &written)) != NULL) {
        if (blk_request_retry(&slot->request)) {
            send_again(lane, slot);
            any = true;
            continue;
        }
        finish(lane, slot, written);
        any = true;
    }
    submit_all(lane);
    return any;
}

/* The boot CPU polls the button for all CPUs, at intervals. */
static void look_at_button(void)
{
    static uint32_t turn;
    if (turn++ % BUTTON_TURNS == 0 && power_button_pressed()) {
        __atomic_store_n(&button_pressed, true, __ATOMIC_RELAXED);
    }
}

static void run_lanes(void *arg)
{
    unsigned me = cpu_this()->index;
    bool busy = true;
    blk_note_progress();
    while (busy) {
        bool any = false;
        busy = false;
        if (until_button && me == 0) {
            look_at_button();
        }
        for (unsigned i = 0; i < blk->queue_count; i++) {
            Lane *lane = &lanes[i];
            if (lane->queue->cpu_index == me) {
                any = progress(lane) || any;
                busy = busy || lane->in_flight || lane->phase != PHASE_DONE;
            }
        }
        if (any) {
            blk_note_progress();
        } else if (busy) {
            blk_wait(blk);
        }
    }
}

/* ---- set-up and report ---------------------------------------------------------------------- */

static void read_words(void)
{
    seed = (uint32_t)bootinfo_get_number("seed", 1);
    depth = bootinfo_get_number("qd", 16);
    max_sectors = bootinfo_get_number("max", 128 << 10) >> BLK_SECTOR_SHIFT;
    odd_segments = bootinfo_get_number("odd", 1);
    if (depth == 0 || depth > MAX_DEPTH || max_sectors == 0 || max_sectors > 8192) {
        guest_refuse(EXIT_USAGE, "qd= is 1 to %u, max= 512 to 4M", MAX_DEPTH);
    }
}

static void prepare_lane(Lane *lane, unsigned index, uint64_t base, uint64_t sector_count)
{
    lane->queue = &blk->queues[index];
    lane->random.state = random_mix((uint64_t)seed << 8 | index);
    lane->base = base;
    lane->sector_count = sector_count;
    lane->generations = memory_alloc(sector_count * sizeof(uint32_t), 64);
    lane->last_generation = PATTERN_FIRST - 1;
    lane->ops_left = bootinfo_get_number("ops", 2000) / blk->queue_count;
    lane->slots = memory_alloc(depth * sizeof(Slot), 64);
    for (unsigned i = 0; i < depth; i++) {
        blk_request_init(&lane->slots[i].request, max_sectors);
    }
    if (lane->queue->ring.size < BLK_REQUEST_MAX_BUFFERS) {
        guest_refuse(EXIT_USAGE, "qsize= is at least %u", BLK_REQUEST_MAX_BUFFERS);
    }
}

static void prepare_lanes(void)
{
    uint64_t base = bootinfo_get_number("base", 0) >> BLK_SECTOR_SHIFT;
    uint64_t span = bootinfo_get_number("span", 64 << 20) >> BLK_SECTOR_SHIFT;
    uint64_t room = base < blk->sector_count ? blk->sector_count - base : 0;
    uint64_t share = (span < room ? span : room) / blk->queue_count;
    if (share == 0) {
        guest_refuse(EXIT_USAGE, "no sectors for %u queues", blk->queue_count);
    }
    for (unsigned i = 0; i < blk->queue_count; i++) {
        prepare_lane(&lanes[i], i, base + i * share, share);
    }
    printf("blk-verify: sectors=%lu span=%lu queues=%u cpus=%u mode=%s qd=%lu seed=%u "
           "features=0x%lx\n",
           blk->sector_count, share * blk->queue_count, blk->queue_count, smp_count(),
           blk_mode_name(blk), depth, seed, blk->virtio.features);
}

static void report(void)
{
    uint64_t done[BLK_KIND_COUNT] = {0}, ops = 0, bytes = 0, kicks = 0, interrupts = 0;
    for (unsigned i = 0; i < blk->queue_count; i++) {
        for (unsigned kind = 0; kind < BLK_KIND_COUNT; kind++) {
            done[kind] += lanes[i].done[kind];
            ops += lanes[i].done[kind];
        }
        bytes += lanes[i].bytes;
        kicks += lanes[i].queue->ring.kicks;
        interrupts += lanes[i].queue->interrupts;
    }
    printf("blk-verify: PASS ops=%lu bytes=%lu reads=%lu writes=%lu flushes=%lu discards=%lu "
           "zeroes=%lu ids=%lu kicks=%lu interrupts=%lu id=\"%s\"\n",
           ops, bytes, done[BLK_KIND_READ], done[BLK_KIND_WRITE], done[BLK_KIND_FLUSH],
           done[BLK_KIND_DISCARD], done[BLK_KIND_ZEROES], done[BLK_KIND_ID], kicks, interrupts,
           device_id);
}

void guest_main(void)
{
    read_words();
    blk = blk_open();
    prepare_lanes();
    uint64_t ms = bootinfo_get_number("ms", 0);
    until_button = bootinfo_is_value("until", "button");
    end_ns = ms ? clock_now_ns() + ms * CLOCK_NS_PER_MS : 0;
    smp_run_all(run_lanes, NULL);
    report();
}
