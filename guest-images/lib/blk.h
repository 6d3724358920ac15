/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk, or a disk on virtio-scsi: the device's features, and its queues spread over the CPUs. Boot CPU, unless stated
 * otherwise. Source: virtio 1.2 §5.2.
 *
 * Words: `bus=scsi` for virtio-scsi (lib/scsi.h), `disk=N` (0) which device, `queues=N` (all) how many queues, `qsize=N` (256) their size,
 * `mode=poll|irq|intx`, `indirect=0`, `event_idx=0`, `smp=0`, `gsi=N` for INTx.
 */
#ifndef LIB_BLK_H
#define LIB_BLK_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/virtqueue.h"

#define BLK_SECTOR_SIZE 512u
#define BLK_SECTOR_SHIFT 9
#define BLK_ID_SIZE 20
#define BLK_MAX_QUEUES 64

enum {
    BLK_READ = 0,
    BLK_WRITE = 1,
    BLK_FLUSH = 4,
    BLK_GET_ID = 8,
    BLK_DISCARD = 11,
    BLK_WRITE_ZEROES = 13,
};

#define BLK_STATUS_OK 0
#define BLK_STATUS_UNTOUCHED 0xff /* the status before the device writes it */
#define BLK_RANGE_UNMAP 1

typedef struct BlkHeader {
    uint32_t type, reserved;
    uint64_t sector;
} BlkHeader;

/* One range of a discard or write-zeroes request. */
typedef struct BlkRange {
    uint64_t sector;
    uint32_t sector_count, flags;
} BlkRange;

typedef enum BlkMode { BLK_MODE_POLL, BLK_MODE_IRQ, BLK_MODE_INTX } BlkMode;

typedef struct BlkQueue {
    Virtqueue ring;
    uint32_t cpu_index;            /* the CPU that uses it */
    volatile uint32_t interrupted; /* set by its interrupt, cleared by its user */
    volatile uint64_t interrupts;
} BlkQueue;

typedef struct BlkDevice {
    VirtioDevice virtio;
    BlkMode mode;
    uint64_t sector_count;
    uint32_t segment_max; /* maximum number of data segments of a request */
    bool scsi;            /* requests are those of lib/scsi.h */
    bool read_only, can_flush, can_discard, can_write_zeroes, may_unmap;
    uint32_t discard_max_sectors, discard_max_segments;
    uint32_t zeroes_max_sectors, zeroes_max_segments;
    unsigned queue_count;
    BlkQueue queues[BLK_MAX_QUEUES];
} BlkDevice;

/* Starts the CPUs and the device as the command line says; ends the guest if that is not
 * possible. */
BlkDevice *blk_open(void);

const char *blk_mode_name(const BlkDevice *blk);

/*
 * Waits until a completion may be there on a queue of the calling CPU: returns at once in poll
 * mode, otherwise sleeps for an interrupt. Ends the guest after `limit_ms=` (60000) without one.
 */
void blk_wait(BlkDevice *blk);

/* The calling CPU has seen a completion: restarts the limit of blk_wait(). */
void blk_note_progress(void);

#endif
