/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses everything that a snapshot has to keep of one instant, and checks it all the time: never ends.
 *
 *   CPU 0    a disk: random sectors are written and read back; what each has is noted in RAM
 *            the network: echo requests to the gateway, whose replies are compared
 *   CPU 1    the flash below its own: bytes are programmed, blocks erased; a copy is kept in RAM
 *   others   walk over RAM: each page has the number of the round before
 *
 * A sector, byte or page that is not what RAM says fails the guest. The boot CPU prints
 * "mix N disk=N flash=N net=N ram=N lost=N" every `ms=` (20) milliseconds: requests, programs, replies, pages; lost: requests
 * of the network without a reply, which a guest that goes on elsewhere can have.
 *
 * Words: those of lib/blk.h, lib/net.h and lib/flash.h; `dirty=SIZE` (8M) of RAM, `span=SIZE` (8M) of the disk; `nonet` and `noflash`
 * leave these out.
 */
#include "lib/guest.h"
#include "lib/blk.h"
#include "lib/blk_request.h"
#include "lib/clock.h"
#include "lib/flash.h"
#include "lib/ip.h"
#include "lib/memory.h"
#include "lib/net.h"
#include "lib/pattern.h"
#include "lib/random.h"
#include "lib/smp.h"

#define OWN_ADDRESS 0x0a00020fu
#define PEER_ADDRESS 0x0a000202u
#define ECHO_SIZE 200u
#define ECHO_LIMIT_NS (200 * CLOCK_NS_PER_MS)
#define MAX_SECTORS 64u
#define FLASH_LOOKS 64u /* bytes compared after this many programs */
#define WORDS_PER_PAGE (MEMORY_PAGE_SIZE / sizeof(uint64_t))
#define MIN_CPUS 3u

/* ---- the disk --------------------------------------------------------------------------------- */

static BlkDevice *blk;
static BlkRequest request;
static Random disk_random = {1};
static uint32_t *generations; /* by sector */
static uint32_t last_generation = PATTERN_FIRST - 1;
static uint64_t span, disk_done;
static bool disk_busy;
static uint32_t writing; /* the generation of the write in flight */

static void disk_begin(void)
{
    request.kind = random_chance(&disk_random, 2) ? BLK_KIND_READ : BLK_KIND_WRITE;
    if (random_chance(&disk_random, 16) && blk->can_flush) {
        request.kind = BLK_KIND_FLUSH;
    }
    request.sector_count =
        request.kind == BLK_KIND_FLUSH ? 0 : 1 + random_below(&disk_random, MAX_SECTORS);
    request.sector = request.kind == BLK_KIND_FLUSH
                         ? 0
                         : random_below(&disk_random, span - request.sector_count);
    blk_request_place(&request, &disk_random, false);
    if (request.kind == BLK_KIND_WRITE) {
        writing = ++last_generation;
        for (uint64_t i = 0; i < request.sector_count; i++) {
            pattern_fill(request.data + i * BLK_SECTOR_SIZE, request.sector + i, writing, 1);
        }
    }
    unsigned out =
        blk_request_lay_out(&request, blk, &disk_random, blk->queues[0].ring.size, false);
    if (!virtqueue_add(&blk->queues[0].ring, request.buffers, out, request.buffer_count - out,
                       &request, random_chance(&disk_random, 2))) {
        guest_fail("mix: the disk's queue has no room");
    }
    virtqueue_kick(&blk->queues[0].ring);
    disk_busy = true;
}

static void disk_end(void)
{
    if (!blk_request_succeeded(&request)) {
        guest_fail("mix: %s of lba=%lu count=%lu: status %u", blk_request_name(&request),
                   request.sector, request.sector_count, *request.status);
    }
    blk_request_check_guards(&request);
    for (uint64_t i = 0; i < request.sector_count; i++) {
        uint64_t lba = request.sector + i;
        const uint8_t *data = request.data + i * BLK_SECTOR_SIZE;
        if (request.kind == BLK_KIND_WRITE) {
            generations[lba] = writing;
        } else if (!pattern_is_right(data, lba, generations[lba], 1)) {
            pattern_report(data, lba, generations[lba], 1);
            guest_fail("mix: the disk has something else at lba=%lu", lba);
        }
    }
    disk_busy = false;
    disk_done++;
}

static void disk_step(void)
{
    uint32_t written;
    if (disk_busy && virtqueue_take(&blk->queues[0].ring, &written) != NULL) {
        disk_end();
    }
    if (!disk_busy) {
        disk_begin();
    }
}

static void disk_open(void)
{
    blk = blk_open();
    span = bootinfo_get_number("span", 8 << 20) >> BLK_SECTOR_SHIFT;
    if (span > blk->sector_count || span <= MAX_SECTORS) {
        guest_refuse(EXIT_USAGE, "span= is larger than %u sectors and at most the disk",
                     MAX_SECTORS);
    }
    generations = memory_alloc(span * sizeof(uint32_t), 64); /* 0: unknown */
    blk_request_init(&request, MAX_SECTORS);
}

/* ---- the network ------------------------------------------------------------------------------ */

static NetDevice *net;
static uint8_t peer_mac[NET_MAC_SIZE];
static bool peer_known, echo_waits;
static uint16_t sequence;
static uint64_t echo_ns, replies, lost;

static void net_ask(void)
{
    uint8_t *frame = net_frame_to_send(net);
    if (frame == NULL) {
        return;
    }
    if (!peer_known) {
        net_send(net, ip_ask_address(frame, net->mac, OWN_ADDRESS, PEER_ADDRESS));
    } else {
        ip_make_echo(frame, ECHO_SIZE, net->mac, peer_mac, OWN_ADDRESS, PEER_ADDRESS, ++sequence);
        net_send(net, ECHO_SIZE);
    }
    echo_waits = true;
    echo_ns = clock_now_ns();
}

/* A network that was started anew asks for this guest's address. */
static void net_answer(const uint8_t *asked, uint32_t size)
{
    uint8_t *frame = net_frame_to_send(net);
    uint32_t answer_size = frame != NULL ? ip_answer(frame, asked, size, net->mac, OWN_ADDRESS) : 0;
    if (answer_size != 0) {
        net_send(net, answer_size);
    }
}

static void net_step(void)
{
    const uint8_t *frame;
    uint32_t size;
    uint16_t number;
    while ((frame = net_receive(net, &size)) != NULL) {
        if (!peer_known && ip_told_address(frame, size, PEER_ADDRESS, peer_mac)) {
            peer_known = true;
            echo_waits = false;
        } else if (ip_is_echo_reply(frame, size, OWN_ADDRESS, &number) && number == sequence) {
            echo_waits = false;
            replies++;
        } else {
            net_answer(frame, size);
        }
    }
    if (echo_waits && clock_now_ns() - echo_ns > ECHO_LIMIT_NS) {
        echo_waits = false;
        lost++;
    }
    if (!echo_waits) {
        net_ask();
    }
    net_flush(net);
}

/* ---- the flash -------------------------------------------------------------------------------- */

static Flash flash;
static uint8_t *flash_copy;
static volatile uint64_t programs;

static void flash_check(Random *random)
{
    flash_show_array(&flash);
    for (unsigned i = 0; i < FLASH_LOOKS; i++) {
        uint32_t at = (uint32_t)random_below(random, flash.size);
        uint8_t byte = (uint8_t)flash_read(&flash, at, 1);
        if (byte != flash_copy[at]) {
            guest_fail("mix: the flash has 0x%x at 0x%x, expected 0x%x", byte, at, flash_copy[at]);
        }
    }
}

static void flash_forever(void)
{
    Random random = {2};
    for (;;) {
        uint32_t at = (uint32_t)random_below(&random, flash.size);
        if (random_chance(&random, 64)) {
            uint32_t block = at & -FLASH_BLOCK;
            flash_erase(&flash, block);
            memset(flash_copy + block, 0xff, FLASH_BLOCK);
        } else {
            uint8_t value = (uint8_t)random_next(&random);
            flash_program(&flash, at, value, 1);
            flash_copy[at] &= value;
        }
        programs++;
        if (programs % FLASH_LOOKS == 0) {
            flash_check(&random);
        }
    }
}

static void flash_open(void)
{
    flash = flash_find();
    flash_copy = memory_alloc(flash.size, 64);
    for (uint32_t at = 0; at < flash.size; at++) {
        flash_copy[at] = (uint8_t)flash_read(&flash, at, 1);
    }
}

/* ---- RAM -------------------------------------------------------------------------------------- */

static uint64_t dirty_base, dirty_pages; /* of each CPU */
static volatile uint64_t walked[CPU_MAX];

static void walk_forever(unsigned index)
{
    uint64_t base = dirty_base + index * dirty_pages * MEMORY_PAGE_SIZE;
    for (uint64_t round = 1;; round++) {
        for (uint64_t i = 0; i < dirty_pages; i++) {
            volatile uint64_t *page = (volatile uint64_t *)(base + i * MEMORY_PAGE_SIZE);
            uint64_t last = page[WORDS_PER_PAGE - 1];
            if (page[0] != round - 1 || last != round - 1) {
                guest_fail("mix: page 0x%lx holds %lu and %lu, expected %lu", (uint64_t)page,
                           page[0], last, round - 1);
            }
            page[0] = round;
            page[WORDS_PER_PAGE - 1] = round;
            walked[index]++;
        }
    }
}

/* ---- all -------------------------------------------------------------------------------------- */

static bool with_net, with_flash;

static void print_forever(uint64_t tick_ns)
{
    uint64_t next_ns = 0;
    for (uint64_t tick = 1;;) {
        disk_step();
        if (with_net) {
            net_step();
        }
        if (clock_now_ns() >= next_ns) {
            uint64_t pages = 0;
            for (unsigned i = 0; i < smp_count(); i++) {
                pages += walked[i];
            }
            printf("mix %lu disk=%lu flash=%lu net=%lu ram=%lu lost=%lu\n", tick++, disk_done,
                   programs, replies, pages, lost);
            next_ns = clock_now_ns() + tick_ns;
        }
    }
}

static void work(void *arg)
{
    unsigned me = cpu_this()->index;
    if (me == 0) {
        print_forever(bootinfo_get_number("ms", 20) * CLOCK_NS_PER_MS);
    } else if (me == 1 && with_flash) {
        flash_forever();
    } else {
        walk_forever(me);
    }
}

void guest_main(void)
{
    with_net = !bootinfo_has_word("nonet");
    with_flash = !bootinfo_has_word("noflash");
    disk_open(); /* starts the CPUs */
    if (smp_count() < MIN_CPUS) {
        guest_refuse(EXIT_USAGE, "mix needs %u CPUs", MIN_CPUS);
    }
    if (with_net) {
        net = net_open();
    }
    if (with_flash) {
        flash_open();
    }
    dirty_pages = bootinfo_get_number("dirty", 8 << 20) / MEMORY_PAGE_SIZE / smp_count();
    dirty_base =
        (uint64_t)memory_alloc(dirty_pages * smp_count() * MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
    smp_run_all(work, NULL);
}
