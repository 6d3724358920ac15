/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the data mover.
 *
 *   copy.c        making, freeing, abandoning
 *   copy_run.c    the data step: which range is next, and when
 *   copy_claim.c  a claim: status, read, write
 *   copy_pace.c   the share of the time that is left to guests
 *   copy_memory.c buffers, and their limit
 *   copy_range.c  requests of filters
 */
#ifndef SKIFF_BLOCK_JOB_COPY_INT_H
#define SKIFF_BLOCK_JOB_COPY_INT_H

#include "block/job/copy.h"
#include "block/job/copy_pace.h"

typedef enum CopyKind {
    COPY_BACKGROUND, /* of the data step */
    COPY_RANGE,      /* for a filter; whole bits too */
    COPY_SAVE,       /* the same, before a write */
    COPY_UPDATE,     /* for a filter; the exact bytes of a write */
    COPY_FLUSH,      /* no bytes: a flush of the target */
    COPY_LOOK,       /* no bytes: what the source holds */
} CopyKind;

/* A question for the block status. */
typedef struct CopyLook {
    uint64_t offset, bytes;
    bool below; /* see block_node_co_block_status() */
    BlockStatus status;
} CopyLook;

/* A range that is being copied by a coroutine of its own. */
typedef struct CopyClaim {
    BlockCopy *copy;
    CopyKind kind;
    uint64_t offset, bytes;
    uint64_t memory; /* reserved for its buffer */
    uint64_t paid;   /* what the speed limit has counted for it */
    uint8_t *data;   /* the buffer; NULL: none yet */
    bool working;    /* counted as work of the data step */
    bool reading;    /* counted at the source */
    bool released;   /* the source may change: another attempt would read other data */
    int64_t start_ns;
    int *result;     /* of the request that waits; NULL: none */
    CopyLook *look;  /* its question */
    CoQueue waiters; /* for its end */
    struct CopyClaim *next, **link;
} CopyClaim;

struct BlockCopy {
    /* links */
    BlockJob *bj;               /* NULL: none */
    BlockNode *source, *target; /* references; target NULL: the source itself */
    BlockEdge *target_edge;     /* owned once the copy is freed */
    AioContext *home, *main_ctx;

    /* config */
    uint64_t size, granularity;
    uint64_t memory;
    uint64_t chunk_min, chunk_max; /* of data */
    unsigned claims_max;           /* of the data step */
    bool unmap, compress, whole_units;
    bool remote; /* the target is not on this host, so writes to it take nothing from guests */
    int64_t save_timeout_ns;

    /* home */
    BlockDirtyBitmap *todo;
    BlockDirtyBitmap *written; /* what the target got; all else is zero there. NULL: unknown */
    CopyClaim *claims;
    unsigned background; /* claims of the data step */
    unsigned reading;    /* claims that are counted at the source */
    unsigned working;    /* claims of the data step that use what guests use, too */
    CopyPace pace;
    uint64_t claimed;        /* bytes of all claims */
    uint64_t memory_used;    /* reserved by claims */
    struct CopySpare *spare; /* buffers that no claim uses: a list, owned */
    uint64_t spare_bytes;
    CoQueue memory_waiters; /* filters' requests */
    CoQueue end_waiters;    /* for the end of a request to the source, or of a claim */
    uint64_t cursor;        /* where the next search begins */
    uint64_t chunk;         /* the size of the next claim of data */
    uint64_t zero_chunk;    /* the same if the one before was zeroes only; 0: it was data */
    int error;              /* the first one since the data step looked */
    bool error_is_read;
    unsigned releases; /* copy_release_updates() calls */
    bool lifted;       /* block_copy_lift() */
    int broken;        /* block_copy_break() */
    bool abandoned;
    bool leaving;            /* the data step waits for the last claims */
    bool unthrottled;        /* no request waits at the source for throttling */
    bool target_unthrottled; /* the same at the target */
    bool orphaned;           /* freed, except for the last claims */
    bool ending;             /* the user waits for the end */
    uint64_t ending_left;    /* bytes to copy since then until guests have outpaced the copy */
    void (*outpaced)(void *opaque); /* block_copy_set_outpaced() */
    void *outpaced_opaque;
    AioBh abandon_bh;

    _Atomic bool hurried; /* block_copy_hurry() */
};

#define COPY_CLAIMS_MAX 16u /* of the data step */
#define COPY_MEMORY_DEFAULT ((uint64_t)16 << 20)
#define COPY_LEAVE_NS                                                                              \
    ((int64_t)1000000000) /* for which a job that ends early waits for its target */
#define COPY_CHUNK_MIN ((uint64_t)64 << 10)
#define COPY_CHUNK_MAX ((uint64_t)1 << 20)
#define COPY_ZERO_CHUNK_MAX ((uint64_t)1 << 30)

/* ---- copy_claim.c ---- */
/* The first claim that overlaps the range; NULL: none. */
CopyClaim *copy_find_claim(const BlockCopy *c, uint64_t offset, uint64_t bytes) RUNS_IN_IOTHREAD;
/* Starts to copy a range without a claim. The caller has counted it at source and target. @memory is
 * reserved; @result may be NULL. */
CopyClaim *copy_start(BlockCopy *c, CopyKind kind, uint64_t offset, uint64_t bytes, int *result)
    RUNS_IN_IOTHREAD;
/* Takes the counts of a claim, for a caller that must not wait. */
void copy_count(BlockCopy *c) RUNS_IN_IOTHREAD;
/* Wakes the data step, if there is a job. */
void copy_signal(const BlockCopy *c) RUNS_IN_IOTHREAD;
/* A number that changes with each begin and end of a request of others in the home. */
uint64_t copy_requests_of_others(void) RUNS_IN_IOTHREAD;
/* Whether the user waits for the end of the job, which then leaves no time to guests. */
bool copy_is_ending(const BlockCopy *c) RUNS_IN_IOTHREAD;
/* Sets the job's progress total. */
void copy_update_total(const BlockCopy *c) RUNS_IN_IOTHREAD;

/* ---- copy_memory.c ---- */
/* The memory of a claim of so many bytes. */
uint64_t copy_memory_for(const BlockCopy *c, uint64_t bytes) ANY_THREAD;
/* Reserves it. False: there is none now. */
bool copy_reserve(BlockCopy *c, uint64_t bytes) RUNS_IN_IOTHREAD;
/* The same above the limit. */
void copy_reserve_more(BlockCopy *c, uint64_t bytes) RUNS_IN_IOTHREAD;
/* Makes the buffer of a claim. False: the host has no memory. */
bool copy_get_buffer(CopyClaim *k) RUNS_IN_IOTHREAD;
/* Ends the reservation of a claim, whose buffer is kept for another one or freed. */
void copy_release_memory(CopyClaim *k) RUNS_IN_IOTHREAD;
/* Frees the buffers that no claim uses. The caller alone uses the copy. */
void copy_free_spare(BlockCopy *c) ANY_THREAD;

/* ---- copy.c ---- */
/* As block_copy_abandon(), in the home. */
void copy_abandon(BlockCopy *c) RUNS_IN_IOTHREAD;
/* The last claim of an orphaned copy has ended. */
void copy_end_orphan(BlockCopy *c) RUNS_IN_IOTHREAD;

/* ---- copy_range.c ---- */
/* What block_copy_lift() does for requests that wait already. */
void copy_release_updates(BlockCopy *c) RUNS_IN_IOTHREAD;

#endif
