/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-blk disk on the mem driver, and a guest's requests to it. */
#ifndef SKIFF_TESTS_SUPPORT_BLK_GUEST_H
#define SKIFF_TESTS_SUPPORT_BLK_GUEST_H

#include "block/driver/mem.h"
#include "hw/virtio/virtio_blk.h"
#include "tests/support/virtio_guest.h"

enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_DISCARD = 11, BLK_ZEROES = 13 };
enum { BLK_OK = 0, BLK_IOERR = 1, BLK_UNSUPP = 2, BLK_PENDING = 0xff };

typedef struct BlkDisk {
    VirtioBench *bench;
    BlockNode *node;
    char *options;
} BlkDisk;

/* Opens node "disk": driver=mem with @options added ("size=1M,manual=on"). */
void blk_disk_open(BlkDisk *d, VirtioBench *b, const char *options);
/* The same with all options given: of any driver and name. */
void blk_disk_open_as(BlkDisk *d, VirtioBench *b, const char *options);
void blk_disk_close(BlkDisk *d);
/* As block_resize does. */
void blk_disk_resize(BlkDisk *d, uint64_t size);
/* Completes the oldest waiting request; false: none. */
bool blk_disk_complete(BlkDisk *d, int ret);
void blk_disk_set_manual(BlkDisk *d, bool manual);
uint8_t *blk_disk_data(BlkDisk *d);

/* A request in guest memory: header, data, status. */
typedef struct BlkRequest {
    VirtioGuestQueue *queue;
    uint64_t header, data, status; /* gpa */
    uint32_t bytes;
    uint16_t head;
} BlkRequest;

/* Memory for a request of up to @bytes of data. */
void blk_request_init(BlkRequest *r, VirtioGuestQueue *q, uint32_t bytes);
void blk_request_header(BlkRequest *r, uint32_t type, uint64_t sector);
/* Offers it in the usual layout and kicks; @bytes UINT32_MAX: as at init. */
void blk_request_send(BlkRequest *r, uint32_t type, uint64_t sector, uint32_t bytes);
uint8_t *blk_request_data(BlkRequest *r);
uint8_t blk_request_status(BlkRequest *r);
/* Sends it, waits for the used entry and returns the status. */
uint8_t blk_request_run(BlkRequest *r, uint32_t type, uint64_t sector, uint32_t bytes);
/* The same for a range of DISCARD or WRITE_ZEROES. */
uint8_t blk_request_range(BlkRequest *r, uint32_t type, uint64_t sector, uint32_t sectors,
                          uint32_t flags);

#endif
