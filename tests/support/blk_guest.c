/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/blk_guest.h"

#include <string.h>

typedef struct DiskCall {
    BlkDisk *disk;
    int ret;
    bool done;
    uint8_t *data;
    uint64_t size;
} DiskCall;

static void disk_open(void *opaque)
{
    DiskCall *c = opaque;
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) options = opt_dict_parse(c->disk->options, NULL, &error);
    g_assert_no_error(error);
    c->disk->node = block_co_open(options, c->disk->bench->home, &error);
    g_assert_no_error(error);
}

static void disk_close(void *opaque)
{
    DiskCall *c = opaque;
    enter_main();
    enter_coroutine();
    block_co_unref(c->disk->node);
}

static void disk_complete(void *opaque)
{
    DiskCall *c = opaque;
    enter_iothread(c->disk->bench->home);
    c->done = block_mem_complete(c->disk->node, c->ret);
}

static void disk_manual(void *opaque)
{
    DiskCall *c = opaque;
    enter_iothread(c->disk->bench->home);
    block_mem_set_manual(c->disk->node, c->done);
}

static void disk_data(void *opaque)
{
    DiskCall *c = opaque;
    enter_iothread(c->disk->bench->home);
    c->data = block_mem_data(c->disk->node);
}

void blk_disk_open_as(BlkDisk *d, VirtioBench *b, const char *options)
{
    *d = (BlkDisk){.bench = b, .options = g_strdup(options)};
    DiskCall c = {.disk = d};
    virtio_bench_run(b, disk_open, &c);
}

void blk_disk_open(BlkDisk *d, VirtioBench *b, const char *options)
{
    g_autofree char *all = g_strdup_printf("driver=mem,node-name=disk,%s", options);
    blk_disk_open_as(d, b, all);
}

static void disk_resize(void *opaque)
{
    DiskCall *c = opaque;
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    c->ret = block_node_co_resize(c->disk->node, c->size, &error);
    g_assert_no_error(error);
}

void blk_disk_resize(BlkDisk *d, uint64_t size)
{
    DiskCall c = {.disk = d, .size = size};
    virtio_bench_run(d->bench, disk_resize, &c);
    g_assert_cmpint(c.ret, ==, 0);
}

void blk_disk_close(BlkDisk *d)
{
    DiskCall c = {.disk = d};
    virtio_bench_run(d->bench, disk_close, &c);
    g_free(d->options);
}

bool blk_disk_complete(BlkDisk *d, int ret)
{
    DiskCall c = {.disk = d, .ret = ret};
    virtio_bench_at_home(d->bench, disk_complete, &c);
    virtio_bench_settle(d->bench);
    return c.done;
}

void blk_disk_set_manual(BlkDisk *d, bool manual)
{
    DiskCall c = {.disk = d, .done = manual};
    virtio_bench_at_home(d->bench, disk_manual, &c);
}

uint8_t *blk_disk_data(BlkDisk *d)
{
    DiskCall c = {.disk = d};
    virtio_bench_at_home(d->bench, disk_data, &c);
    return c.data;
}

/* ---- requests ---- */

void blk_request_init(BlkRequest *r, VirtioGuestQueue *q, uint32_t bytes)
{
    uint64_t gpa = virtio_bench_alloc(q->guest->bench, 4096 + (uint64_t)bytes);
    *r = (BlkRequest){
        .queue = q, .header = gpa, .status = gpa + 512, .data = gpa + 4096, .bytes = bytes};
}

static void *request_ram(BlkRequest *r, uint64_t gpa, uint64_t bytes)
{
    return virtio_bench_ram(r->queue->guest->bench, gpa, bytes);
}

void blk_request_header(BlkRequest *r, uint32_t type, uint64_t sector)
{
    uint8_t *h = request_ram(r, r->header, 16);
    memset(h, 0, 16);
    memcpy(h, &type, sizeof(type));
    memcpy(h + 8, &sector, sizeof(sector));
    *(uint8_t *)request_ram(r, r->status, 1) = BLK_PENDING;
}

void blk_request_send(BlkRequest *r, uint32_t type, uint64_t sector, uint32_t bytes)
{
    bool to_guest = type == BLK_IN || type == BLK_GET_ID;
    bytes = bytes == UINT32_MAX ? r->bytes : bytes;
    VringBuffer chain[3] = {{r->header, 16, false}};
    unsigned count = 1;
    if (bytes) {
        chain[count++] = (VringBuffer){r->data, bytes, to_guest};
    }
    chain[count++] = (VringBuffer){r->status, 1, true};
    blk_request_header(r, type, sector);
    r->head = virtio_guest_add(r->queue, chain, count);
}

uint8_t *blk_request_data(BlkRequest *r)
{
    return request_ram(r, r->data, r->bytes);
}

uint8_t blk_request_status(BlkRequest *r)
{
    return *(uint8_t *)request_ram(r, r->status, 1);
}

uint8_t blk_request_run(BlkRequest *r, uint32_t type, uint64_t sector, uint32_t bytes)
{
    uint32_t id = UINT32_MAX, len;
    blk_request_send(r, type, sector, bytes);
    return virtio_guest_used(r->queue, &id, &len) && id == r->head ? blk_request_status(r)
                                                                   : BLK_PENDING;
}

uint8_t blk_request_range(BlkRequest *r, uint32_t type, uint64_t sector, uint32_t sectors,
                          uint32_t flags)
{
    uint8_t *range = blk_request_data(r);
    memcpy(range, &sector, 8);
    memcpy(range + 8, &sectors, 4);
    memcpy(range + 12, &flags, 4);
    return blk_request_run(r, type, 0, 16);
}
