/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random requests over all queues at once, with everything read checked against everything written.
 *
 * Each queue is a lane of its own: a part of the disk, a number stream, slots for requests in
 * flight. So a CPU works its lanes without asking anyone. For every sector of a lane there is a
 * generation (lib/pattern.h): what it must hold now. Requests in flight never overlap, except reads
 * with reads. In the end, after a flush, the whole span is read and checked once more.
 *
 * Words: `seed=` (1), `ops=` (2000, over all lanes) or `ms=` instead, `qd=` (16, per queue), `max=`
 * (128k) largest request, `span=` (64M) and `base=` (0) which bytes of the disk, `odd=0` keeps
 * segments to whole sectors, `serial=` what get-id must return, and those of lib/blk.h.
 *
 * Ends with: blk-verify: PASS ops=N bytes=N reads=N writes=N flushes=N discards=N zeroes=N ids=N
 * ...
 */
#include "lib/guest.h"
#include "lib/blk.h"
#include "lib/clock.h"
#include "lib/memory.h"
#include "lib/pattern.h"
#include "lib/random.h"
#include "lib/smp.h"

#define MAX_DEPTH 256
#define MAX_SEGMENTS 16
#define MAX_RANGES 8
#define MAX_BUFFERS (MAX_SEGMENTS + 4)
#define GUARD_SIZE 64
#define POISON 0xdb
#define POSITION_TRIES 8
#define REPORT_LIMIT 8

enum { KIND_READ, KIND_WRITE, KIND_FLUSH, KIND_DISCARD, KIND_ZEROES, KIND_ID, KIND_COUNT };

static const uint32_t kind_types[KIND_COUNT] = {BLK_READ,    BLK_WRITE,        BLK_FLUSH,
                                                BLK_DISCARD, BLK_WRITE_ZEROES, BLK_GET_ID};
static const char *const kind_names[KIND_COUNT] = {"read",    "write",  "flush",
                                                   "discard", "zeroes", "get-id"};
/* Out of 100; what the device does not offer becomes a read. */
static const unsigned kind_weights[KIND_COUNT] = {42, 44, 5, 4, 4, 1};

typedef struct Slot {
    bool busy;
    unsigned kind;
    uint64_t sector, sector_count;
    uint32_t generation; /* of a write */
    BlkHeader header;
    volatile uint8_t own_status;
    volatile uint8_t *status; /* own_status, or the byte after the data */
    BlkRange ranges[MAX_RANGES];
    uint8_t *memory; /* guard, data at any offset in a sector, status, guard */
    uint8_t *data;
    uint32_t data_size, in_size;
    VirtqueueBuffer buffers[MAX_BUFFERS];
    unsigned buffer_count;
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
    uint64_t done[KIND_COUNT], bytes;
} Lane;

static BlkDevice *blk;
static Lane lanes[BLK_MAX_QUEUES];
static uint32_t seed;
static uint64_t depth, max_sectors, end_ns;
static bool odd_segments;
static char device_id[BLK_ID_SIZE + 1];
static int device_id_known;

/* ---- choosing a request ------------------------------------------------------------------- */

static bool chance(Lane *lane, unsigned one_in)
{
    return random_below(&lane->random, one_in) == 0;
}

static bool kind_is_offered(unsigned kind)
{
    switch (kind) {
    case KIND_WRITE:
        return !blk->read_only;
    case KIND_FLUSH:
        return blk->can_flush;
    case KIND_DISCARD:
        return blk->can_discard && !blk->read_only;
    case KIND_ZEROES:
        return blk->can_write_zeroes && !blk->read_only;
    default:
        return true;
    }
}

static unsigned choose_kind(Lane *lane)
{
    uint64_t roll = random_below(&lane->random, 100);
    unsigned kind = 0;
    while (roll >= kind_weights[kind]) {
        roll -= kind_weights[kind++];
    }
    return kind_is_offered(kind) ? kind : KIND_READ;
}

/* Small ones as often as large ones. */
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
        if (!slot->busy || !slot->sector_count ||
            (slot->kind == KIND_READ && wanted->kind == KIND_READ)) {
            continue;
        }
        if (wanted->sector < slot->sector + slot->sector_count &&
            slot->sector < wanted->sector + wanted->sector_count) {
            return true;
        }
    }
    return false;
}

static uint64_t size_limit(unsigned kind)
{
    uint64_t limit = max_sectors;
    if (kind == KIND_DISCARD) {
        limit = blk->discard_max_sectors;
    } else if (kind == KIND_ZEROES) {
        limit = blk->zeroes_max_sectors;
    }
    /* Large ranges need no memory, but should not wipe out all that is known. */
    return limit < 4 * max_sectors ? limit : 4 * max_sectors;
}

static bool choose_range(Lane *lane, Slot *slot)
{
    slot->sector = slot->sector_count = 0;
    if (slot->kind == KIND_FLUSH || slot->kind == KIND_ID) {
        return true;
    }
    slot->sector_count = choose_size(lane, size_limit(slot->kind));
    for (unsigned i = 0; i < POSITION_TRIES; i++) {
        uint64_t room = lane->sector_count - slot->sector_count + 1;
        slot->sector = lane->base + random_below(&lane->random, room);
        if (!collides(lane, slot)) {
            return true;
        }
    }
    return false;
}

/* ---- laying a request out in memory --------------------------------------------------------- */

static void add_buffer(Slot *slot, volatile void *data, uint32_t size)
{
    slot->buffers[slot->buffer_count++] = (VirtqueueBuffer){(void *)(uint64_t)data, size};
}

/* Cuts @size bytes at @data into random segments. */
static void add_segments(Lane *lane, Slot *slot, uint8_t *data, uint32_t size)
{
    uint32_t unit = odd_segments && chance(lane, 2) ? 1 : BLK_SECTOR_SIZE;
    uint32_t units = size / unit;
    uint32_t limit = blk->segment_max < MAX_SEGMENTS ? blk->segment_max : MAX_SEGMENTS;
    limit = limit < lane->queue->ring.size - 4u ? limit : lane->queue->ring.size - 4u;
    limit = limit && limit < units ? limit : units ? 1 : 0;
    uint32_t count = chance(lane, 2) ? 1 : 1 + (uint32_t)random_below(&lane->random, limit);
    for (; count > 1; count--) {
        uint32_t part = 1 + (uint32_t)random_below(&lane->random, units - (count - 1));
        add_buffer(slot, data, part * unit);
        data += part * unit;
        size -= part * unit;
        units -= part;
    }
    add_buffer(slot, data, size);
}

/* One range, cut into as many as the device takes. */
static unsigned fill_ranges(Lane *lane, Slot *slot)
{
    bool zeroes = slot->kind == KIND_ZEROES;
    uint64_t limit = zeroes ? blk->zeroes_max_segments : blk->discard_max_segments;
    limit = limit < MAX_RANGES ? limit : MAX_RANGES;
    limit = limit < slot->sector_count ? limit : slot->sector_count;
    unsigned count = 1 + (unsigned)random_below(&lane->random, limit ? limit : 1);
    uint32_t flags = zeroes && blk->may_unmap && chance(lane, 2) ? BLK_RANGE_UNMAP : 0;
    uint64_t sector = slot->sector, left = slot->sector_count;
    for (unsigned i = 0; i < count; i++) {
        uint64_t others = count - 1 - i;
        uint64_t part = others ? 1 + random_below(&lane->random, left - others) : left;
        slot->ranges[i] = (BlkRange){sector, (uint32_t)part, flags};
        sector += part;
        left -= part;
    }
    return count;
}

static void add_header(Lane *lane, Slot *slot)
{
    slot->header = (BlkHeader){kind_types[slot->kind], 0, slot->sector};
    uint32_t cut = chance(lane, 16) ? 1 + (uint32_t)random_below(&lane->random, 15) : 0;
    if (cut) {
        add_buffer(slot, &slot->header, cut);
    }
    add_buffer(slot, (uint8_t *)&slot->header + cut, (uint32_t)sizeof(slot->header) - cut);
}

static void prepare_data(Lane *lane, Slot *slot)
{
    uint32_t unit = odd_segments ? 1 : BLK_SECTOR_SIZE;
    uint64_t offset = random_below(&lane->random, BLK_SECTOR_SIZE / unit) * unit;
    slot->data = slot->memory + BLK_SECTOR_SIZE + offset;
    slot->data_size = 0;
    if (slot->kind == KIND_READ || slot->kind == KIND_WRITE) {
        slot->data_size = (uint32_t)slot->sector_count << BLK_SECTOR_SHIFT;
    } else if (slot->kind == KIND_ID) {
        slot->data_size = BLK_ID_SIZE;
    }
    memset(slot->data - GUARD_SIZE, POISON, slot->data_size + 2 * GUARD_SIZE);
    if (slot->kind == KIND_WRITE) {
        slot->generation = ++lane->last_generation;
        for (uint64_t i = 0; i < slot->sector_count; i++) {
            pattern_fill(slot->data + i * BLK_SECTOR_SIZE, slot->sector + i, slot->generation,
                         seed);
        }
    }
}

/* Fills the buffers; returns how many of them the device reads. */
static unsigned lay_out(Lane *lane, Slot *slot)
{
    slot->buffer_count = 0;
    prepare_data(lane, slot);
    add_header(lane, slot);
    if (slot->kind == KIND_WRITE) {
        add_segments(lane, slot, slot->data, slot->data_size);
    } else if (slot->kind == KIND_DISCARD || slot->kind == KIND_ZEROES) {
        slot->header.sector = 0;
        add_buffer(slot, slot->ranges, fill_ranges(lane, slot) * (uint32_t)sizeof(BlkRange));
    }
    unsigned out_count = slot->buffer_count;
    bool device_writes = slot->kind == KIND_READ || slot->kind == KIND_ID;
    if (slot->kind == KIND_READ) {
        add_segments(lane, slot, slot->data, slot->data_size);
    } else if (slot->kind == KIND_ID) {
        add_buffer(slot, slot->data, BLK_ID_SIZE);
    }
    /* The status may share a descriptor with the end of the data. */
    if (device_writes && chance(lane, 8)) {
        slot->status = slot->data + slot->data_size;
        slot->buffers[slot->buffer_count - 1].size++;
    } else {
        slot->status = &slot->own_status;
        add_buffer(slot, &slot->own_status, 1);
    }
    *slot->status = BLK_STATUS_UNTOUCHED;
    slot->in_size = (device_writes ? slot->data_size : 0) + 1;
    return out_count;
}

/* ---- checking what came back ------------------------------------------------------------- */

static void check_guard(const Slot *slot, const uint8_t *guard, unsigned skip)
{
    for (unsigned i = skip; i < GUARD_SIZE; i++) {
        if (guard[i] != POISON) {
            guest_fail("blk-verify: %s of lba=%lu count=%lu: byte %ld from its data is 0x%x",
                       kind_names[slot->kind], slot->sector, slot->sector_count,
                       (long)(guard + i - slot->data), guard[i]);
        }
    }
}

static void check_read(Lane *lane, const Slot *slot)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < slot->sector_count; i++) {
        const uint8_t *data = slot->data + i * BLK_SECTOR_SIZE;
        uint64_t lba = slot->sector + i;
        uint32_t generation = lane->generations[lba - lane->base];
        if (!pattern_is_right(data, lba, generation, seed) && wrong++ < REPORT_LIMIT) {
            pattern_report(data, lba, generation, seed);
        }
    }
    if (wrong) {
        guest_fail(
            "blk-verify: queue %u: read of lba=%lu count=%lu in %u buffers: %lu sectors wrong",
            lane->queue->ring.index, slot->sector, slot->sector_count, slot->buffer_count, wrong);
    }
}

static void check_id(const Slot *slot)
{
    char id[BLK_ID_SIZE + 1] = {0};
    memcpy(id, slot->data, BLK_ID_SIZE);
    if (bootinfo_has_word("serial") && !bootinfo_is_value("serial", id)) {
        guest_fail("blk-verify: get-id says \"%s\"", id);
    }
    if (!__atomic_exchange_n(&device_id_known, 1, __ATOMIC_ACQ_REL)) {
        memcpy(device_id, id, sizeof(id));
    }
}

static void set_generations(Lane *lane, const Slot *slot, uint32_t generation)
{
    for (uint64_t i = 0; i < slot->sector_count; i++) {
        lane->generations[slot->sector + i - lane->base] = generation;
    }
}

static void finish(Lane *lane, Slot *slot, uint32_t written)
{
    if (*slot->status != BLK_STATUS_OK || written != slot->in_size) {
        guest_fail("blk-verify: queue %u: %s of lba=%lu count=%lu: status %u, %u bytes written, "
                   "expected %u",
                   lane->queue->ring.index, kind_names[slot->kind], slot->sector,
                   slot->sector_count, *slot->status, written, slot->in_size);
    }
    check_guard(slot, slot->data - GUARD_SIZE, 0);
    check_guard(slot, slot->data + slot->data_size, slot->status == &slot->own_status ? 0 : 1);
    if (slot->kind == KIND_READ) {
        check_read(lane, slot);
    } else if (slot->kind == KIND_WRITE) {
        set_generations(lane, slot, slot->generation);
    } else if (slot->kind == KIND_DISCARD) {
        set_generations(lane, slot, PATTERN_UNKNOWN); /* virtio 1.2 §5.2.6: unspecified */
    } else if (slot->kind == KIND_ZEROES) {
        set_generations(lane, slot, PATTERN_ZEROES);
    } else if (slot->kind == KIND_ID) {
        check_id(slot);
    }
    lane->done[slot->kind]++;
    lane->bytes += slot->sector_count << BLK_SECTOR_SHIFT;
    slot->busy = false;
    lane->in_flight--;
}

/* ---- driving a lane ------------------------------------------------------------------------ */

static bool random_is_over(const Lane *lane)
{
    return end_ns ? clock_now_ns() >= end_ns : lane->ops_left == 0;
}

/* What comes next on this lane goes to @slot; false when nothing can start now. */
static bool choose_request(Lane *lane, Slot *slot)
{
    if (lane->phase == PHASE_RANDOM && random_is_over(lane)) {
        lane->phase = blk->can_flush ? PHASE_FLUSH : PHASE_FINAL;
    }
    switch (lane->phase) {
    case PHASE_RANDOM:
        slot->kind = choose_kind(lane);
        if (!choose_range(lane, slot)) {
            return false;
        }
        lane->ops_left--;
        return true;
    case PHASE_FLUSH:
        slot->kind = KIND_FLUSH;
        slot->sector = slot->sector_count = 0;
        lane->phase = lane->in_flight ? PHASE_FLUSH : PHASE_FINAL;
        return lane->in_flight == 0;
    case PHASE_FINAL:
        slot->kind = KIND_READ;
        slot->sector = lane->base + lane->cursor;
        slot->sector_count = lane->sector_count - lane->cursor;
        if (slot->sector_count > max_sectors) {
            slot->sector_count = max_sectors;
        }
        if (collides(lane, slot)) {
            return false;
        }
        lane->cursor += slot->sector_count;
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
        /* Room for the longest chain first: a request once chosen is submitted. */
        if (slot->busy || lane->queue->ring.free_count < MAX_BUFFERS) {
            continue;
        }
        if (!choose_request(lane, slot)) {
            break;
        }
        unsigned out_count = lay_out(lane, slot);
        if (!virtqueue_add(&lane->queue->ring, slot->buffers, out_count,
                           slot->buffer_count - out_count, slot, chance(lane, 2))) {
            guest_fail("blk-verify: queue %u has no room", lane->queue->ring.index);
        }
        slot->busy = true;
        lane->in_flight++;
        /* Batches of random length: sometimes the device hears of each one by itself. */
        if (chance(lane, 8)) {
            virtqueue_kick(&lane->queue->ring);
        }
    }
    virtqueue_kick(&lane->queue->ring);
}

static bool progress(Lane *lane)
{
    uint32_t written;
    bool any = false;
    Slot *slot;
    while ((slot = virtqueue_take(&lane->queue->ring, &written)) != NULL) {
        finish(lane, slot, written);
        any = true;
    }
    submit_all(lane);
    return any;
}

static void run_lanes(void *arg)
{
    unsigned me = cpu_this()->index;
    bool busy = true;
    blk_note_progress();
    while (busy) {
        bool any = false;
        busy = false;
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
        lane->slots[i].memory =
            memory_alloc((max_sectors + 3) << BLK_SECTOR_SHIFT, MEMORY_PAGE_SIZE);
    }
    if (lane->queue->ring.size < MAX_BUFFERS) {
        guest_refuse(EXIT_USAGE, "qsize= is at least %u", MAX_BUFFERS);
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
    uint64_t done[KIND_COUNT] = {0}, ops = 0, bytes = 0, kicks = 0, interrupts = 0;
    for (unsigned i = 0; i < blk->queue_count; i++) {
        for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
            done[kind] += lanes[i].done[kind];
            ops += lanes[i].done[kind];
        }
        bytes += lanes[i].bytes;
        kicks += lanes[i].queue->ring.kicks;
        interrupts += lanes[i].queue->interrupts;
    }
    printf("blk-verify: PASS ops=%lu bytes=%lu reads=%lu writes=%lu flushes=%lu discards=%lu "
           "zeroes=%lu ids=%lu kicks=%lu interrupts=%lu id=\"%s\"\n",
           ops, bytes, done[KIND_READ], done[KIND_WRITE], done[KIND_FLUSH], done[KIND_DISCARD],
           done[KIND_ZEROES], done[KIND_ID], kicks, interrupts, device_id);
}

void guest_main(void)
{
    read_words();
    blk = blk_open();
    prepare_lanes();
    uint64_t ms = bootinfo_get_number("ms", 0);
    end_ns = ms ? clock_now_ns() + ms * CLOCK_NS_PER_MS : 0;
    smp_run_all(run_lanes, NULL);
    report();
}
