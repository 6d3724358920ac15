/* SPDX-License-Identifier: Apache-2.0 */
/* What pflash.c and pflash_io.c share. */
#ifndef SKIFF_HW_FIRMWARE_PFLASH_INT_H
#define SKIFF_HW_FIRMWARE_PFLASH_INT_H

#include "hw/firmware/pflash.h"

/* The operation that runs. Written under the BQL while there is no owner; then the coroutine's until
 * it signals the owner. */
typedef struct PflashWork {
    IoAccess *owner; /* BQL; NULL: none */
    CfiOperation op; /* CFI_OP_NONE: a flush */
    uint32_t done;   /* bytes that were written */
    int ret;
} PflashWork;

typedef struct Pflash {
    Device base;
    /* config */
    char *drive;
    uint32_t block_size, bank_width, device_width, max_device_width, id[4];
    bool write_cache;
    /* state */
    CfiState state;
    /* runtime */
    BlockBackend *blk;
    CfiFlash cfi;
    uint8_t *array;  /* an anonymous mapping of `size` bytes */
    uint8_t *result; /* block_size bytes */
    uint64_t size;   /* bytes */
    bool shown;      /* the guest reads the mapping */
    bool placed;     /* pflash_map() */
    IoRegion region;
    Pended busy; /* accesses that wait for the end of the operation */
    PflashWork work;
} Pflash;

/* A coroutine in the home of the backend: carries out work.op and signals the owner. */
void pflash_work_run(void *opaque);
/* Reads the whole backend into the array. 0 or -errno. */
int pflash_co_read_all(Pflash *p) coroutine_fn RUNS_IN_MAIN;

#endif
