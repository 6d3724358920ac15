/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by capture_wp.c (life, readers), capture_wp_thread.c (the thread), capture_wp_pages.c (pages and their
 * faults) and capture_wp_kernel.c (userfaultfd). */
#ifndef SKIFF_MIGRATION_RAM_CAPTURE_WP_INT_H
#define SKIFF_MIGRATION_RAM_CAPTURE_WP_INT_H

#include "migration/ram/capture_wp.h"
#include "util/loop/completion.h"

/* Protected with one call while the guest runs: a fault waits for it. */
#define WP_CHUNK_PAGES 1024u
/* Open pages that are less than this apart are protected with one call. */
#define WP_GAP_PAGES 32u
/* So few pages are left for the instant. */
#define WP_FEW_PAGES 256u
#define WP_MAX_ROUNDS 16u
/* Looked at with one call, and what that counts of a chunk. */
#define WP_SCAN_PAGES 8192u
#define WP_SCAN_PRICE 256u
/* So many pages that are not there are released together: each release may split the mapping. */
#define WP_RELEASE_PAGES 8192u
/* Protection is removed in pieces of a huge page, so that the kernel splits none. */
#define WP_AREA_SHIFT 21u

typedef enum WpPhase {
    WP_IDLE,
    WP_ARMING,
    WP_ARMED,
    WP_FROZEN,
    WP_ENDING,
    WP_ENDED,
    WP_PHASE_COUNT,
} WpPhase;

/* All maps have a bit for each page, lowest first. */
typedef struct WpBlock {
    uint8_t *host;
    uint32_t pages;
    uint64_t *armed; /* PROTECTED */
    uint64_t *saved;
    uint64_t *empty;  /* EMPTY; as a page map. From FROZEN on it does not change: workers read it */
    uint32_t scanned; /* pages before this one were looked at whether they are EMPTY */
    uint32_t *slots;  /* of each page in the pool; 0: none */
    uint16_t *area_left; /* pages of each area that were not saved */
} WpBlock;

typedef enum WpCallKind { WP_CALL_ARM, WP_CALL_FREEZE, WP_CALL_READ } WpCallKind;

/* On the stack of a worker, which waits for `done`. */
typedef struct WpCall {
    WpCallKind kind;
    unsigned block; /* read: what was copied into @buf */
    uint32_t first, count;
    uint8_t *buf;
    const uint64_t
        *blank; /* not NULL: of these pages those whose bit is set; they are not wanted */
    Completion done;
    struct WpCall *next;
} WpCall;

struct CaptureWp {
    CaptureWpConfig config; /* fixed */
    pthread_t thread;
    bool started;
    int uffd, wake_fd;
    bool unpopulated; /* the kernel protects private pages that are not there */
    int pagemap;      /* -1: no page is ever EMPTY */

    _Atomic bool ended;
    const char *_Atomic failure;
    _Atomic uint64_t
        urgent; /* a page that is held: the block's number << 32 | the page, plus 1; 0: no hurry */
    pthread_mutex_t lock;
    WpCall *calls;            /* lock: oldest first */
    bool gone;                /* lock: the thread takes no more calls */
    CaptureWpStats stats_out; /* lock */

    /* the capture thread's */
    WpPhase phase;
    int error; /* -errno of reads in ENDING */
    WpBlock blocks[GUEST_RAM_MAX_BLOCKS];
    unsigned count;
    unsigned at_block; /* the next page of the round, of the hurry, or of the release */
    uint32_t at_page;
    bool round;                 /* a round is under way */
    uint64_t open, open_before; /* pages: now, and when the last round began */
    WpCall *arming;             /* waits until few pages are open */
    uint8_t *pool;              /* slot n is page n; slot 0 is none */
    uint64_t pool_bytes;
    uint32_t fresh, free; /* the first slot that was never used; the list of those that were */
    uint64_t held;        /* pages */
    bool braked;
    int64_t braked_ms; /* since when nothing was read, while braked */
    CaptureWpStats stats;
};

static inline bool wp_bit(const uint64_t *map, uint32_t page)
{
    return (map[page / 64] >> (page % 64) & 1) != 0;
}

/* ---- capture_wp_kernel.c: 0 or -errno ---- */
/* False + error: userfaultfd cannot be had. */
bool wp_kernel_open(CaptureWp *c, GError **error) RUNS_IN_WORKER;
bool wp_kernel_register(CaptureWp *c, GError **error) RUNS_IN_WORKER;
int wp_kernel_protect(const CaptureWp *c, const WpBlock *b, uint32_t first,
                      uint32_t count) RUNS_IN_MIGRATION;
/* From now on nobody but wp_kernel_fill() fills private pages that are not there. */
int wp_kernel_watch_empty(const CaptureWp *c) RUNS_IN_MIGRATION;
/* Gives a page that is not there zeroes. Also wakes those who wait. -EEXIST: it is there, or has a protection. */
int wp_kernel_fill(const CaptureWp *c, const WpBlock *b, uint32_t page) RUNS_IN_MIGRATION;
/* Also wakes those who wait. */
int wp_kernel_unprotect(const CaptureWp *c, const WpBlock *b, uint32_t first,
                        uint32_t count) RUNS_IN_MIGRATION;
int wp_kernel_unregister(const CaptureWp *c, const WpBlock *b, uint32_t first,
                         uint32_t count) RUNS_IN_MIGRATION;
typedef struct WpFault {
    uint64_t address; /* of a page */
    bool empty;       /* the page is not there; else it is protected */
} WpFault;
/* The next faults. Their number; 0: none waits. */
unsigned wp_kernel_faults(const CaptureWp *c, WpFault *faults, unsigned max) RUNS_IN_MIGRATION;

/* ---- capture_wp_pages.c ---- */
bool wp_pages_init(CaptureWp *c, GError **error) RUNS_IN_WORKER;
void wp_pages_clear(CaptureWp *c) RUNS_IN_WORKER;
/* In ENDED: the memory of what was held. */
void wp_pages_drop_pool(const CaptureWp *c) RUNS_IN_MIGRATION;
/* 0 or -errno, here and below: the capture has failed. */
int wp_pages_fault(CaptureWp *c, const WpFault *fault) RUNS_IN_MIGRATION;
/* Looks at all private pages again, in the next round, which ones are EMPTY. */
int wp_pages_watch_empty(CaptureWp *c) RUNS_IN_MIGRATION;
/* Protects the next pages of the round that are open, up to a chunk. *@more: there are more. */
int wp_pages_arm_chunk(CaptureWp *c, bool *more) RUNS_IN_MIGRATION;
/* Protects all that are open. */
int wp_pages_arm_rest(CaptureWp *c) RUNS_IN_MIGRATION;
/* Makes `urgent` what it has to be. */
void wp_pages_hurry(CaptureWp *c) RUNS_IN_MIGRATION;
int wp_pages_saved(CaptureWp *c, const WpCall *read) RUNS_IN_MIGRATION;

/* ---- capture_wp_thread.c ---- */
void *wp_thread(void *opaque);
/* Aborts when an invariant is broken. After each turn of the thread. */
void assert_wp_state(const CaptureWp *c) RUNS_IN_MIGRATION;

#endif
