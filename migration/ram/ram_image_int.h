/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: what saving and loading share. Each of a few coroutines in the home takes the next piece of RAM,
 * has a worker handle its memory, and reads or writes the file, until no piece is left or one failed. */
#ifndef SKIFF_MIGRATION_RAM_RAM_IMAGE_INT_H
#define SKIFF_MIGRATION_RAM_RAM_IMAGE_INT_H

#include "migration/ram/ram_image.h"

/* Large pieces, since each costs a few hand-overs between threads; and enough of them that the disk has work while processors
 * copy. With six of 2 MiB a save was 1.2 times as fast as with eight of 1 MiB and 1.5 times as with four; more gained nothing. */
#define RAM_PIECE (2u << 20) /* bytes; a multiple of 64 pages */
#define RAM_PIECE_PAGES (RAM_PIECE / GUEST_RAM_PAGE)
#define RAM_PIECE_WORDS (RAM_PIECE_PAGES / 64)
#define RAM_STREAMS 6u
#define RAM_BLANK_STEP                                                                             \
    (UINT64_C(64) << 20) /* bytes that are looked at with one call; a multiple of RAM_PIECE */
#define RAM_RUNS 8u      /* of a piece in flight: memory may have data in single pages */

typedef struct RamStreams RamStreams;

typedef struct RamPiece {
    RamStreams *streams;
    unsigned block;
    uint64_t offset; /* bytes in the block */
    uint32_t pages;
    uint64_t *map; /* the bits of its pages in the block's page map: whole words */
    uint8_t *buf;  /* with `buffered`: RAM_PIECE bytes, aligned to a page */
    /* Of a save; bits as in a page map. */
    uint64_t wanted[RAM_PIECE_WORDS]; /* pages to be copied */
    uint64_t data[RAM_PIECE_WORDS];   /* of those: not zero */
    uint64_t zero[RAM_PIECE_WORDS];   /* of those: zero, but their place in the file may not be */
} RamPiece;

struct RamStreams {
    const RamImage *image;
    /* Handles one piece: a coroutine in the home. 0 or -errno, which ends all streams. */
    int (*co_run)(RamPiece *p);
    void *opaque;
    bool buffered;                 /* pieces have a buffer */
    const _Atomic bool *cancelled; /* NULL: it cannot be */
    const RamPages *wanted;        /* a save of these pages; NULL: of all */
    RamPages blank;                /* of a save of all pages: those that need not be read */
    RamPages pages; /* the page maps, as in the file; the caller allocates and frees them */
    bool skipped[GUEST_RAM_MAX_BLOCKS]; /* blocks that need no piece */
    unsigned block;                     /* the next piece */
    uint64_t offset;
    unsigned running;
    int ret;
    CoQueue ended;
    const RamImageSave *hurry; /* a save with urgent pieces; NULL: there are none */
    uint64_t *taken
        [GUEST_RAM_MAX_BLOCKS]; /* with `hurry`, a bit for each piece: taken ahead of its turn */
};

/* Runs the streams of the calling coroutine's context to their end. 0, -errno of the first that failed, or
 * -ECANCELED. */
int ram_streams_co_run(RamStreams *s) coroutine_fn RUNS_IN_IOTHREAD;
/* Reads or writes the pages from @first to @end of the piece: a coroutine in the home. 0 or -errno. */
typedef int RamRunFn(RamPiece *p, uint32_t first, uint32_t end);
/* Calls @fn for the runs of set bits in @bits, some at a time, until all have ended. 0, or -errno of one, behind which
 * none begins. */
int ram_piece_co_runs(RamPiece *p, const uint64_t *bits, RamRunFn *fn)
    coroutine_fn RUNS_IN_IOTHREAD;
/* The next run of set bits from *@end on. False: there is none. */
bool ram_piece_next_run(const RamPiece *p, const uint64_t *bits, uint32_t *first, uint32_t *end)
    ANY_THREAD;
/* Maps for all blocks of @s->image, zeroed; -ENOMEM. */
int ram_streams_alloc_maps(RamStreams *s) ANY_THREAD;
uint32_t ram_streams_map_crc(const RamStreams *s, unsigned block) ANY_THREAD;
#endif
