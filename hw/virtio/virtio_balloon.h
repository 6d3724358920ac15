/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (virtio 1.2 §5.5): the guest gives memory back, because the host asks for it (the
 * balloon), or by reporting what it does not use. Shared by its three files: the device and its config
 * (virtio_balloon.c), the pages (virtio_balloon_pages.c), the statistics (virtio_balloon_stats.c).
 *
 * The host's memory is freed by a system call for each run of pages, in a worker, piece by piece. Each of
 * the two queues that free pages has a server in the home loop:
 *
 *          kick: takes a buffer                       the ring is empty
 *   IDLE -----------------------> WORKING (coroutine) -----------------> IDLE
 *                                   |      ^                             ^
 *                     a piece, to a |      | done                        | the queues stop, or one is
 *                     worker        v      |                             | broken: the buffer returns to
 *                                 IN_WORKER -----------------------------+ the ring, unanswered
 *
 * Statistics are a conversation: the driver offers a buffer with numbers, and the device returns it when
 * it wants new ones. Main decides when (guest-stats-polling-interval); the numbers go to main by a slot
 * that has one owner.
 *
 * Invariants
 *   1. A queue has one server, which has one buffer. Deflation and statistics need no server.
 *   2. A buffer is answered after all its pages were freed, so the driver cannot take a page back
 *      before that.
 *   3. Between two pieces a server looks whether the queues stop. A stop waits for one piece at most:
 *      VIRTIO_BALLOON_PIECE_PAGES, or VIRTIO_BALLOON_PIECE_BYTES of a report.
 *   4. Only RAM is freed; other addresses are the driver's error and are skipped.
 *   5. The home loop writes `slot` while `slot_with_main` is false, main reads it while that is true.
 *   6. The buffer with statistics is in flight while the device keeps it, and returns to the ring when
 *      the queues stop.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_BALLOON_H
#define SKIFF_HW_VIRTIO_VIRTIO_BALLOON_H

#include "hw/virtio/virtio_pci.h"

#define VIRTIO_BALLOON_PFN_SHIFT 12 /* pages have 4 KiB, whatever the guest uses (§5.5.6) */
#define VIRTIO_BALLOON_PIECE_PAGES 1024u
#define VIRTIO_BALLOON_PIECE_BYTES (UINT64_C(64) << 20)

/* Feature bits, §5.5.3. */
#define VIRTIO_BALLOON_F_STATS_VQ (1ull << 1)
#define VIRTIO_BALLOON_F_DEFLATE_ON_OOM (1ull << 2)
#define VIRTIO_BALLOON_F_PAGE_POISON (1ull << 4)
#define VIRTIO_BALLOON_F_PAGE_REPORTING (1ull << 5)

/* Queues, §5.5.2. There is no queue for hints, so that for reports moves up. */
enum {
    VIRTIO_BALLOON_INFLATE,
    VIRTIO_BALLOON_DEFLATE,
    VIRTIO_BALLOON_STATS,
    VIRTIO_BALLOON_REPORTING,
};

/* Numbers of the guest, by the driver's tag (§5.5.6.3; 10 and up: Linux' virtio_balloon.h). */
#define VIRTIO_BALLOON_STAT_COUNT 16
/* QEMU's names, "stat-swap-in", ...; NULL */
extern const char *const virtio_balloon_stat_names[VIRTIO_BALLOON_STAT_COUNT + 1];

typedef struct VirtioBalloonStats {
    uint64_t values[VIRTIO_BALLOON_STAT_COUNT]; /* UINT64_MAX: the guest does not report it */
    int64_t updated_s;                          /* host's time, seconds since 1970; 0: never */
} VirtioBalloonStats;

typedef struct VirtioBalloonState {
    VirtioState virtio;
    uint32_t num_pages;  /* the host's wish. BQL */
    uint32_t actual;     /* the driver's answer. BQL */
    uint32_t poison_val; /* the driver's. Written with the BQL; read by the home loop: atomic */
    uint8_t pad[4];
} VirtioBalloonState;

typedef struct VirtioBalloon VirtioBalloon;

/* The server of a queue. */
typedef struct VirtioBalloonServer {
    VirtioBalloon *balloon;
    unsigned queue;
    VirtQueueElement *buffer; /* NULL: IDLE */
    /* of the piece: written by the home loop before the worker runs, then the worker's */
    unsigned count;
    uint32_t pfns[VIRTIO_BALLOON_PIECE_PAGES]; /* of the inflate queue */
    uint64_t gpa, len;                         /* of the reporting queue */
    int failed;                                /* -errno of the first error; else 0 */
    uint64_t failed_gpa;
} VirtioBalloonServer;

struct VirtioBalloon {
    VirtioPci base;
    /* config */
    char *iothread;
    bool deflate_on_oom, page_poison, free_page_reporting, free_page_hint;
    /* state */
    VirtioBalloonState state;
    /* runtime, home loop */
    VirtioBalloonServer inflate, reporting;
    VirtQueueElement *stats_buffer; /* kept, or NULL */
    AioBh poll_bh;                  /* main's message: new statistics are wanted */
    /* runtime, the slot */
    VirtioBalloonStats slot;
    _Atomic bool slot_with_main;
    /* runtime, main */
    AioBh changed_bh; /* a vCPU's message: `actual` has changed */
    AioBh stats_bh;   /* the home loop's message: the slot is filled */
    AioTimer poll;
    uint32_t poll_interval_s; /* 0: no polling */
    VirtioBalloonStats stats;
};

static inline VirtioBalloon *virtio_balloon_from(VirtioDevice *vdev)
{
    return (VirtioBalloon *)(void *)((uint8_t *)vdev - offsetof(VirtioBalloon, base.vdev));
}

/* ---- for the rooms above; @dev is a virtio-balloon-pci ---- */
extern const DeviceType virtio_balloon_pci_type;
/* Asks the guest to do with @bytes of memory. More than the machine has counts as all. */
void virtio_balloon_set_target(Device *dev, uint64_t bytes) RUNS_IN_MAIN;
/* The memory that the guest says it has left, in bytes. */
uint64_t virtio_balloon_actual(Device *dev) RUNS_IN_MAIN;
/* The last statistics, which the guest sends every @seconds; 0: at its start only. */
const VirtioBalloonStats *virtio_balloon_stats(const Device *dev) RUNS_IN_MAIN;
void virtio_balloon_set_poll_interval(Device *dev, uint32_t seconds) RUNS_IN_MAIN;
uint32_t virtio_balloon_poll_interval(const Device *dev) RUNS_IN_MAIN;

/* ---- virtio_balloon_pages.c ---- */
void virtio_balloon_server_init(VirtioBalloonServer *s, VirtioBalloon *b, unsigned queue)
    RUNS_IN_MAIN;
/* Takes what is available in the server's queue, unless the server works. */
void virtio_balloon_serve(VirtioBalloonServer *s) RUNS_IN_LOOP;

/* ---- virtio_balloon_stats.c ---- */
void virtio_balloon_stats_init(VirtioBalloon *b) RUNS_IN_MAIN;
/* The queues are with main. */
void virtio_balloon_stats_co_cleanup(VirtioBalloon *b) coroutine_fn RUNS_IN_MAIN;
void virtio_balloon_stats_receive(VirtioBalloon *b) RUNS_IN_LOOP;
void virtio_balloon_stats_release(VirtioBalloon *b) RUNS_IN_LOOP;

#endif
