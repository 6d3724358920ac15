/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile user of virtio-scsi: CDBs, parameter lists, framing, task management, events; logical
 * units and media that come and go meanwhile, in process.
 *
 *   fuzz_scsi [--seconds N] [--seed N] [--steps N]
 *
 * Each used entry must belong to a request that was sent and not answered. After a round the device
 * works, or sits in NEEDS_RESET; then a driver that means well resets it and finds it working. ASan
 * and the asserts judge the rest.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "hw/scsi/scsi_medium.h"
#include "tests/support/fuzzer.h"
#include "tests/support/scsi_guest.h"
#include "util/log.h"

#define SLOTS 16u
#define DATA_BYTES 8192u
#define DISK_BLOCKS 128u

typedef struct Slot {
    ScsiCall call;
    ScsiTmf tmf;
    bool call_out, tmf_out;
} Slot;

typedef struct Fuzz {
    ScsiGuest g;
    Device *hd, *cd, *extra;
    Slot slots[SLOTS];
    bool running, holding;
    uint64_t answered, broken;
} Fuzz;

/* ---- the disk ---- */

static void disk_release(void *opaque)
{
    Fuzz *f = opaque;
    if (f->holding) {
        f->holding = false;
        blk_disk_set_manual(&f->g.disk, false);
        while (blk_disk_complete(&f->g.disk, 0)) {
        }
    }
}

static void act_disk(Fuzz *f)
{
    if (!f->holding) {
        blk_disk_set_manual(&f->g.disk, true);
        f->holding = true;
    } else {
        blk_disk_complete(&f->g.disk, fuzz_below(4) ? 0 : fuzz_below(2) ? -EIO : -ENOSPC);
    }
}

/* ---- requests ---- */

static void random_bytes(uint8_t *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(fuzz_below(3) ? 0 : fuzz_random());
    }
}

/* Mostly a known operation with small numbers, else anything. */
static void random_cdb(uint8_t *cdb)
{
    static const uint8_t opcodes[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x1a, 0x1b, 0x1e, 0x25,
                                      0x28, 0x2a, 0x2b, 0x2f, 0x35, 0x41, 0x42, 0x43, 0x46, 0x4a,
                                      0x51, 0x55, 0x5a, 0x7f, 0x88, 0x8a, 0x8f, 0x91, 0x93, 0x9e,
                                      0xa0, 0xa3, 0xa8, 0xaa, 0xaf, 0xbd, 0x5e};
    static const uint8_t vpd[] = {0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};
    memset(cdb, 0, 32);
    if (fuzz_below(16) == 0) {
        random_bytes(cdb, 32);
        return;
    }
    cdb[0] = FUZZ_PICK(opcodes);
    unsigned length = scsi_cdb_length(cdb);
    for (unsigned i = 1; i < length; i++) {
        cdb[i] = (uint8_t)(fuzz_below(5) ? 0 : fuzz_below(8) ? fuzz_below(16) : fuzz_random());
    }
    if (length >= 10 && fuzz_below(2)) {
        unsigned at = length == 16 ? 13 : length == 12 ? 9 : 8;
        cdb[at] = (uint8_t)fuzz_below(DATA_BYTES / 512);
    }
    if (cdb[0] == 0x12 && fuzz_below(2)) {
        cdb[1] = 1;
        cdb[2] = FUZZ_PICK(vpd);
    }
    if (cdb[0] == 0x9e && fuzz_below(4)) {
        cdb[1] = 0x10;
    }
}

/* Parameter lists of the right shape get further. */
static void random_list(ScsiCall *c, const uint8_t *cdb)
{
    uint8_t *list = scsi_call_data(c);
    random_bytes(list, 256);
    if (cdb[0] == 0x42 && fuzz_below(2)) {
        unsigned count = fuzz_below(4);
        memset(list, 0, 8 + 16 * 4);
        list[1] = (uint8_t)(6 + 16 * count);
        list[3] = (uint8_t)(16 * count);
        for (unsigned i = 0; i < count; i++) {
            list[8 + 16 * i + 7] = (uint8_t)fuzz_below(DISK_BLOCKS + 8);
            list[8 + 16 * i + 11] = (uint8_t)fuzz_below(16);
        }
    } else if ((cdb[0] == 0x15 || cdb[0] == 0x55) && fuzz_below(2)) {
        uint8_t *page = list + (cdb[0] == 0x55 ? 8 : 4);
        memset(list, 0, 64);
        page[0] = fuzz_below(2) ? 0x08 : 0x0a;
        page[1] = page[0] == 0x08 ? 18 : 10;
        page[2] = (uint8_t)(fuzz_below(2) ? 4 : fuzz_random());
        page[3] = page[0] == 0x0a ? 0x10 : 0;
    }
}

/* The bytes that the command asks for, or any number. */
static uint32_t random_size(const uint8_t *cdb)
{
    static const uint32_t sizes[] = {4, 8, 12, 18, 24, 36, 64, 96, 255, 256, 512, 1024, 4096};
    uint32_t blocks = scsi_cdb_blocks(cdb);
    if (fuzz_below(2) && blocks <= DATA_BYTES / 512) {
        return blocks * 512;
    }
    return fuzz_below(8) ? FUZZ_PICK(sizes) : (uint32_t)fuzz_below(DATA_BYTES);
}

/* Cuts a buffer of the chain in two at a random place. */
static unsigned random_split(VringBuffer *chain, unsigned count)
{
    unsigned at = (unsigned)fuzz_below(count);
    if (chain[at].len < 2 || fuzz_below(2)) {
        return count;
    }
    memmove(&chain[at + 1], &chain[at], (count - at) * sizeof(*chain));
    uint32_t first = 1 + (uint32_t)fuzz_below(chain[at].len - 1);
    chain[at].len = first;
    chain[at + 1].gpa += first;
    chain[at + 1].len -= first;
    return count + 1;
}

static Slot *free_slot(Fuzz *f, bool tmf)
{
    Slot *s = &f->slots[fuzz_below(SLOTS)];
    return (tmf ? s->tmf_out : s->call_out) ? NULL : s;
}

static void act_request(Fuzz *f)
{
    uint8_t cdb[32];
    VringBuffer chain[8];
    Slot *s = free_slot(f, false);
    if (!s) {
        return;
    }
    ScsiCall *c = &s->call;
    random_cdb(cdb);
    random_list(c, cdb);
    c->queue = &f->g.requests[fuzz_below(2)];
    c->target = (uint8_t)(fuzz_below(16) ? 0 : fuzz_random());
    c->lun = (uint16_t)(fuzz_below(16) ? fuzz_below(3) : fuzz_below(16384));
    c->tag = fuzz_below(8);
    unsigned count = scsi_call_build(c, cdb, (int)fuzz_below(3), random_size(cdb), chain);
    if (fuzz_below(64) == 0) {
        random_bytes(virtio_bench_ram(f->g.bench, c->header, 51), 51);
    }
    if (fuzz_below(256) == 0) {
        chain[fuzz_below(count)].len = 1 + (uint32_t)fuzz_below(128);
    }
    count = random_split(chain, count);
    count = random_split(chain, count);
    c->head = virtio_guest_add(c->queue, chain, count);
    s->call_out = true;
}

static void act_task(Fuzz *f)
{
    Slot *s = free_slot(f, true);
    if (s) {
        scsi_tmf_send(&s->tmf, (uint32_t)(fuzz_below(16) ? fuzz_below(8) : fuzz_random()),
                      (uint8_t)(fuzz_below(16) ? 0 : fuzz_random()), (uint16_t)fuzz_below(4),
                      fuzz_below(8));
        s->tmf_out = true;
    }
}

static void act_control(Fuzz *f)
{
    uint64_t gpa = f->slots[0].call.data;
    VringBuffer chain[] = {{gpa, 1 + (uint32_t)fuzz_below(32), false},
                           {gpa + 64, 1 + (uint32_t)fuzz_below(8), true}};
    if (fuzz_below(32) == 0 && !f->slots[0].call_out) {
        uint8_t *request = virtio_bench_ram(f->g.bench, gpa, 64);
        random_bytes(request, 32);
        request[0] = (uint8_t)(1 + fuzz_below(3));
        virtio_guest_add(&f->g.control, chain, 2);
    }
}

static void act_event_buffer(Fuzz *f)
{
    uint32_t id, len;
    VringBuffer b = {f->slots[1].call.response + 256, fuzz_below(64) ? 16 : 3, true};
    virtio_guest_add(&f->g.events, &b, 1);
    while (virtio_guest_used(&f->g.events, &id, &len)) {
    }
}

/* ---- the host ---- */

#define MEDIUM_PATIENCE_NS (INT64_C(3600) * 1000000000)

static void remove_medium(void *opaque)
{
    enter_main();
    enter_coroutine();
    scsi_medium_co_remove(opaque, MEDIUM_PATIENCE_NS);
}

static void insert_medium(void *opaque)
{
    enter_main();
    enter_coroutine();
    scsi_medium_co_insert(opaque, "cd", NULL);
}

static void act_medium(Fuzz *f)
{
    ScsiLun *cd = scsi_medium_drive(f->cd);
    switch (fuzz_below(4)) {
    case 0:
        scsi_medium_open_tray(cd, fuzz_below(2));
        return;
    case 1:
        scsi_medium_close_tray(cd);
        return;
    case 2:
        virtio_bench_run(f->g.bench, remove_medium, cd);
        return;
    default:
        if (!cd->blk) {
            virtio_bench_run(f->g.bench, insert_medium, cd);
        }
        return;
    }
}

static void act_lun(Fuzz *f)
{
    if (f->extra) {
        scsi_guest_remove(&f->g, f->extra);
        f->extra = NULL;
    } else {
        f->extra = scsi_guest_add(&f->g, "scsi-cd", "scsi-id=0,lun=2");
    }
}

static void act_life(Fuzz *f)
{
    if (f->running) {
        disk_release(f); /* a stop waits for what is in flight */
        virtio_bench_stop(f->g.bench, f->g.controller);
    } else {
        virtio_bench_start(f->g.bench, f->g.controller);
    }
    f->running = !f->running;
}

/* ---- answers ---- */

static Slot *slot_of(Fuzz *f, const VirtioGuestQueue *q, uint32_t head)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        Slot *s = &f->slots[i];
        if (s->call_out && s->call.queue == q && s->call.head == head) {
            return s;
        }
    }
    return NULL;
}

static void take_answers(Fuzz *f)
{
    uint32_t id, len;
    for (unsigned i = 0; i < 2; i++) {
        while (virtio_guest_used(&f->g.requests[i], &id, &len)) {
            Slot *s = slot_of(f, &f->g.requests[i], id);
            fuzz_require(s, "an answer to no request", "request queue");
            s->call_out = false;
            f->answered++;
        }
    }
    while (virtio_guest_used(&f->g.control, &id, &len)) {
        for (unsigned i = 0; i < SLOTS; i++) {
            if (f->slots[i].tmf_out && f->slots[i].tmf.head == id) {
                f->slots[i].tmf_out = false;
            }
        }
    }
}

static void hostile_act(Fuzz *f)
{
    switch (fuzz_below(24)) {
    case 0:
        act_disk(f);
        return;
    case 1:
    case 2:
        act_task(f);
        return;
    case 3:
        act_control(f);
        return;
    case 4:
        act_event_buffer(f);
        return;
    case 5:
        act_medium(f);
        return;
    case 6:
        if (!f->holding) { /* an unplug waits for what is in flight */
            act_lun(f);
        }
        return;
    case 7:
        if (fuzz_below(4) == 0) {
            act_life(f);
        }
        return;
    case 8:
    case 9:
        if (f->holding) {
            act_disk(f);
        }
        return;
    default:
        act_request(f);
        return;
    }
}

/* ---- a driver that means well ---- */

static void bring_up(Fuzz *f)
{
    if (fuzz_below(2)) {
        disk_release(f); /* else the reset finds requests in flight, and pends */
    }
    if (!f->running) {
        act_life(f);
    }
    f->g.guest.pended = disk_release;
    f->g.guest.opaque = f;
    f->g.bench->ram_next = 0x100000u;
    scsi_guest_bring_up(&f->g, ~0ull);
    for (unsigned i = 0; i < SLOTS; i++) {
        f->slots[i] = (Slot){0};
        scsi_call_init(&f->slots[i].call, &f->g.requests[0], DATA_BYTES);
        scsi_tmf_init(&f->slots[i].tmf, &f->g.control);
    }
}

static bool disk_works(Fuzz *f)
{
    static const uint8_t write[10] = {0x2a, 0, 0, 0, 0, 7, 0, 0, 1};
    static const uint8_t read[10] = {0x28, 0, 0, 0, 0, 7, 0, 0, 1};
    ScsiCall c;
    disk_release(f);
    scsi_call_init(&c, &f->g.requests[fuzz_below(2)], 512);
    scsi_call_clear_attentions(&c);
    memset(scsi_call_data(&c), 0x5a, 512);
    if (scsi_call_run(&c, write, SCSI_DIR_OUT, 512) != SCSI_STATUS_GOOD) {
        return false;
    }
    memset(scsi_call_data(&c), 0, 512);
    return scsi_call_run(&c, read, SCSI_DIR_IN, 512) == SCSI_STATUS_GOOD &&
           scsi_call_data(&c)[511] == 0x5a;
}

static void hostile_round(Fuzz *f)
{
    for (unsigned i = (unsigned)fuzz_below(60); i > 0; i--) {
        hostile_act(f);
        if (fuzz_below(4) == 0) {
            take_answers(f);
        }
    }
    take_answers(f);
    if (((VirtioScsi *)(void *)f->g.controller)->state.virtio.status & VIRTIO_STATUS_NEEDS_RESET) {
        f->broken++;
    }
    bring_up(f);
    fuzz_require(disk_works(f), "the disk does not work after a reset", NULL);
    fake_machine_settle(f->g.bench->machine);
    f->g.bench->machine->delivered_count = 0;
    f->g.bench->machine->request_count = 0;
}

int main(int argc, char **argv)
{
    Fuzz f = {0};
    BlkDisk cd;
    fuzz_begin("fuzz_scsi", argc, argv);
    log_open("/dev/null", false); /* what the guest does wrong is not news here */
    scsi_guest_open(&f.g, "size=64k", "num_queues=2", ~0ull);
    blk_disk_open_as(&cd, f.g.bench, "driver=mem,node-name=cd,size=64k");
    f.hd = scsi_guest_add(&f.g, "scsi-hd", "drive=disk,scsi-id=0,lun=0,werror=stop,serial=S");
    f.cd = scsi_guest_add(&f.g, "scsi-cd", "drive=cd,scsi-id=0,lun=1");
    f.running = true;
    bring_up(&f);
    while (fuzz_goes_on()) {
        hostile_round(&f);
    }
    disk_release(&f);
    while (f.g.lun_count) {
        scsi_guest_remove(&f.g, f.g.luns[0]);
    }
    blk_disk_close(&cd);
    scsi_guest_close(&f.g);
    fuzz_end("rounds");
    printf("fuzz_scsi: %" PRIu64 " requests answered, %" PRIu64 " rounds ended in NEEDS_RESET\n",
           f.answered, f.broken);
    return 0;
}
