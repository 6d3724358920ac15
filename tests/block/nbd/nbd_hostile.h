/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile NBD clients for test_nbd_hostile and fuzz_nbd. A step makes conversations, mostly valid, with
 * fields and bytes changed, and sends them in pieces through several connections at once, which read as
 * they like and end anywhere; meanwhile main drains, removes exports or restarts the server. What must
 * hold after it:
 *   - all connections end when the clients have gone;
 *   - a well-behaved client is served, and reads back what it writes.
 */
#ifndef SKIFF_TESTS_BLOCK_NBD_NBD_HOSTILE_H
#define SKIFF_TESTS_BLOCK_NBD_NBD_HOSTILE_H

#include <fcntl.h>
#include "tests/block/nbd/nbd_rig.h"
#include "tests/support/fuzzer.h"

#define HOSTILE_MAX ((size_t)256 << 10)
#define HOSTILE_CLIENTS 4u

typedef struct Hostile {
    uint8_t bytes[HOSTILE_MAX];
    size_t size, sent;
    int fd; /* -1: none */
    bool reads;
} Hostile;

static Hostile hostile[HOSTILE_CLIENTS];
static uint8_t hostile_data[1 << 20];

/* ---- conversations ---- */

static void hostile_put(Hostile *h, const void *bytes, size_t size)
{
    size = MIN(size, HOSTILE_MAX - h->size);
    memcpy(h->bytes + h->size, bytes, size);
    h->size += size;
}

static uint32_t hostile_length(uint32_t length)
{
    static const uint32_t lengths[] = {0,         1,          4096,       65536,         65537,
                                       1u << 20,  32u << 20,  0x7fffffff, 0xffffffff,    12,
                                       0x2000001, 0x80000000, 0xfffffffe, (4u << 20) + 1};
    return fuzz_below(20) == 0 ? FUZZ_PICK(lengths) : length;
}

static void hostile_option(Hostile *h, uint32_t option, const void *bytes, uint32_t length)
{
    uint8_t header[NBD_OPTION_SIZE];
    uint64_t magic = fuzz_below(50) == 0 ? fuzz_random() : NBD_OPTION_MAGIC;
    nbd_put32(nbd_put32(nbd_put64(header, magic), option), hostile_length(length));
    hostile_put(h, header, sizeof(header));
    hostile_put(h, bytes, length);
}

static const char *hostile_name(void)
{
    static const char *const names[] = {"disk", "disk", "disk", "disk", "ro", "", "other", "dis"};
    return FUZZ_PICK(names);
}

static void hostile_info(Hostile *h, uint32_t option)
{
    uint8_t bytes[256];
    size_t length = rig_info_data(bytes, hostile_name());
    uint16_t kinds = (uint16_t)fuzz_below(4);
    nbd_put16(bytes + length - 2, (uint16_t)hostile_length(kinds));
    for (unsigned i = 0; i < kinds; i++, length += 2) {
        nbd_put16(bytes + length, (uint16_t)fuzz_below(6));
    }
    if (fuzz_below(20) == 0) {
        nbd_put32(bytes, hostile_length(4));
    }
    hostile_option(h, option, bytes, (uint32_t)length);
}

static void hostile_meta(Hostile *h)
{
    static const char *const all[] = {"base:allocation",
                                      "qemu:allocation-depth",
                                      "qemu:",
                                      "qemu:dirty-bitmap:b0",
                                      "base:",
                                      "",
                                      "qemu:dirty-bitmap:other",
                                      "qemu:dirty-bitmap:"};
    const char *queries[5];
    uint8_t bytes[512];
    unsigned count = (unsigned)fuzz_below(5);
    for (unsigned i = 0; i < count; i++) {
        queries[i] = FUZZ_PICK(all);
    }
    size_t length = rig_meta_data(bytes, hostile_name(), queries, count);
    if (fuzz_below(10) == 0) {
        bytes[fuzz_below(length)] = (uint8_t)fuzz_random();
    }
    hostile_option(h, fuzz_below(3) == 0 ? NBD_OPT_LIST_META_CONTEXT : NBD_OPT_SET_META_CONTEXT,
                   bytes, (uint32_t)length);
}

/* Returns the mode that a server would be in. */
static unsigned hostile_options(Hostile *h)
{
    unsigned mode = 0;
    for (uint64_t n = fuzz_below(6); n > 0; n--) {
        switch (fuzz_below(7)) {
        case 0:
            hostile_option(h, NBD_OPT_LIST, "", 0);
            break;
        case 1:
            hostile_option(h, NBD_OPT_STRUCTURED_REPLY, "", 0);
            mode = MAX(mode, 1);
            break;
        case 2:
            hostile_option(h, NBD_OPT_EXTENDED_HEADERS, "", 0);
            mode = 2;
            break;
        case 3:
            hostile_info(h, NBD_OPT_INFO);
            break;
        case 4:
            hostile_option(h, (uint32_t)fuzz_below(16), hostile_data, (uint32_t)fuzz_below(100));
            break;
        default:
            hostile_meta(h);
        }
    }
    return mode;
}

static uint64_t hostile_offset(void)
{
    static const uint64_t offsets[] = {0,
                                       512,
                                       RIG_SIZE,
                                       RIG_SIZE - 1,
                                       1 << 20,
                                       UINT64_MAX,
                                       UINT64_MAX / 2,
                                       RIG_SIZE / 2,
                                       RIG_SIZE,
                                       2 << 20 | 77,
                                       4096};
    return fuzz_below(4) != 0 ? fuzz_below(RIG_SIZE) : FUZZ_PICK(offsets);
}

static void hostile_request(Hostile *h, unsigned mode)
{
    uint8_t header[NBD_EXT_REQUEST_SIZE];
    bool extended = mode == 2;
    uint16_t type = fuzz_below(20) == 0 ? (uint16_t)fuzz_random() : (uint16_t)fuzz_below(8);
    uint16_t flags = fuzz_below(3) == 0 ? (uint16_t)(fuzz_random() & 0x3f) : 0;
    uint32_t length = (uint32_t)fuzz_below(fuzz_below(4) == 0 ? 65536 : 2048);
    if (type == NBD_CMD_DISC && fuzz_below(4) != 0) {
        type = NBD_CMD_BLOCK_STATUS;
    }
    uint8_t *p = nbd_put32(header, fuzz_below(100) == 0 ? (uint32_t)fuzz_random()
                                   : extended           ? NBD_EXT_REQUEST_MAGIC
                                                        : NBD_REQUEST_MAGIC);
    p = nbd_put64(nbd_put16(nbd_put16(p, flags), type), fuzz_random());
    p = nbd_put64(p, hostile_offset());
    if (extended) {
        nbd_put64(p,
                  fuzz_below(20) == 0 ? fuzz_random() >> fuzz_below(64) : hostile_length(length));
    } else {
        nbd_put32(p, hostile_length(length));
    }
    hostile_put(h, header, extended ? NBD_EXT_REQUEST_SIZE : NBD_REQUEST_SIZE);
    if (type == NBD_CMD_WRITE || (extended && (flags & NBD_CMD_FLAG_PAYLOAD_LEN) != 0)) {
        hostile_put(h, hostile_data + fuzz_below(65536), length);
    }
}

static void hostile_damage(Hostile *h)
{
    for (uint64_t n = fuzz_below(4); n > 0 && h->size > 4; n--) {
        size_t at = fuzz_below(h->size), length = fuzz_below(MIN(16, h->size - at));
        switch (fuzz_below(3)) {
        case 0:
            h->bytes[at] ^= (uint8_t)(1u << fuzz_below(8));
            break;
        case 1: /* bytes are missing */
            memmove(h->bytes + at, h->bytes + at + length, h->size - at - length);
            h->size -= length;
            break;
        default:
            nbd_put32(h->bytes + MIN(at, h->size - 4), hostile_length((uint32_t)fuzz_random()));
        }
    }
}

static void hostile_make(Hostile *h)
{
    uint8_t flags[4];
    h->size = h->sent = 0;
    h->reads = fuzz_below(4) != 0;
    nbd_put32(flags, fuzz_below(10) == 0 ? (uint32_t)fuzz_below(6) : 3);
    hostile_put(h, flags, 4);
    unsigned mode = hostile_options(h);
    if (fuzz_below(10) == 0) {
        hostile_option(h, NBD_OPT_EXPORT_NAME, "disk", 4);
    } else {
        hostile_info(h, NBD_OPT_GO);
    }
    for (uint64_t n = fuzz_below(40); n > 0; n--) {
        hostile_request(h, mode);
    }
    if (fuzz_below(3) == 0) {
        hostile_damage(h);
    }
}

/* ---- connections ---- */

static void hostile_drain(Hostile *h)
{
    static uint8_t sink[1 << 16];
    while (recv(h->fd, sink, sizeof(sink), MSG_DONTWAIT) > 0) {
    }
}

static void hostile_close(Hostile *h)
{
    if (h->fd >= 0) {
        close(h->fd);
        h->fd = -1;
    }
}

/* Sends a piece, reads, or ends. */
static void hostile_turn(Hostile *h)
{
    if (h->fd < 0) {
        h->fd = rig_connect();
        hostile_make(h);
    }
    size_t size = fuzz_below(fuzz_below(2) == 0 ? 64 : 65536);
    size = MIN(h->size - h->sent, size);
    ssize_t n = size > 0 ? send(h->fd, h->bytes + h->sent, size, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    h->sent += n > 0 ? (size_t)n : 0;
    bool broken = n < 0 && errno != EAGAIN;
    if (h->reads) {
        hostile_drain(h);
    }
    if (broken) {
        hostile_close(h);
    } else if (h->sent == h->size || fuzz_below(60) == 0) {
        if (fuzz_below(2) == 0) {
            shutdown(h->fd, SHUT_WR);
            hostile_drain(h);
        }
        hostile_close(h);
    }
}

/* ---- main ---- */

static void hostile_add(const char *id, const char *name, bool writable)
{
    static const NbdExportBitmap bitmaps[] = {{.name = "b0"}};
    RigExport x = {.config = {.id = id, .name = name, .writable = writable}};
    x.config.bitmaps = bitmaps;
    x.config.bitmap_count = writable ? 1 : 0;
    x.config.allocation_depth = writable;
    rig_main(rig_export_add, &x);
    assert_null(x.error);
}

static void hostile_open(void *opaque)
{
    enter_coroutine();
    enter_main();
    test_node_add(RIG_MEM);
    assert_true(block_dirty_bitmap_co_add(block_node_find("m"), "b0", 65536, 0, NULL));
}

static void hostile_start(void)
{
    RigServer server = {.max_connections = 100};
    rig_main(rig_server_start, &server);
    hostile_add("e0", "disk", true);
    hostile_add("e1", "ro", false);
}

static void hostile_section(void *opaque)
{
    unsigned count;
    enter_coroutine();
    enter_main();
    co_mutex_lock(&rig_operation);
    g_autofree BlockBackend **list = blk_list(&count);
    co_drained_begin(list, count);
    co_yield_turn();
    co_drained_end(list, count);
    co_mutex_unlock(&rig_operation);
}

static void hostile_remove(void *opaque)
{
    enter_coroutine();
    enter_main();
    nbd_export_remove(opaque, true, NULL);
    NbdExportInfo info;
    for (unsigned i = 0; nbd_export_info(i, &info);) {
        bool gone = strcmp(info.id, opaque) != 0;
        i = gone ? i + 1 : 0;
        if (!gone) {
            co_yield_turn();
        }
    }
}

static void hostile_main_turn(void)
{
    switch (fuzz_below(12)) {
    case 0:
        rig_main(hostile_remove, (char[]){"e1"});
        hostile_add("e1", "ro", false);
        break;
    case 1:
        rig_main(rig_server_stop, NULL);
        hostile_start();
        break;
    default:
        rig_main(hostile_section, NULL);
    }
}

static void hostile_get_clients(void *opaque)
{
    enter_coroutine();
    enter_main();
    *(unsigned *)opaque = nbd_client_count();
}

/* ---- steps ---- */

static void hostile_check(void)
{
    uint8_t got[4096];
    uint64_t offset = fuzz_below(RIG_SIZE - sizeof(got)), from = fuzz_below(65536);
    unsigned clients;
    do {
        rig_main(hostile_get_clients, &clients);
    } while (clients > 0);
    int fd = rig_serve(0);
    assert_int_equal(rig_write(fd, 0, offset, hostile_data + from, sizeof(got)), 0);
    rig_request(fd, 0, NBD_CMD_READ, 1, offset, sizeof(got));
    assert_int_equal(rig_simple(fd, 1), 0);
    rig_recv(fd, got, sizeof(got));
    assert_memory_equal(got, hostile_data + from, sizeof(got));
    rig_bye(fd);
}

static void hostile_step(void)
{
    for (uint64_t n = fuzz_below(200); n > 0; n--) {
        hostile_turn(&hostile[fuzz_below(HOSTILE_CLIENTS)]);
        if (fuzz_below(100) == 0) {
            hostile_main_turn();
        }
    }
    for (unsigned i = 0; i < HOSTILE_CLIENTS; i++) {
        hostile_close(&hostile[i]);
    }
    hostile_check();
}

static void hostile_begin(void)
{
    for (unsigned i = 0; i < HOSTILE_CLIENTS; i++) {
        hostile[i].fd = -1;
    }
    test_fill(hostile_data, sizeof(hostile_data), 1);
    rig_main(hostile_open, NULL);
    hostile_start();
}

#endif
