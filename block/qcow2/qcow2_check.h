/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The check of an image, and its repair: the refcounts are computed from all references in its metadata, and
 * compared with the stored ones; entries of tables and their flags are checked on the way.
 *
 * A check works on the node of the image's file only: it needs no open qcow2 node, neither the
 * backing file nor the data file, and it can check an image that does not open. A caller that has
 * the image open makes sure that nothing changes it meanwhile.
 *
 * A repair changes stored refcounts, the flag "copied", and entries of zeroes whose cluster cannot
 * exist. If refcounts cannot be mended in place, all are written anew, into clusters behind the end of
 * the file, before the header refers to them. So an interrupted repair leaves an image that is no
 * worse. A table that something else refers to as well is not changed: it may be the guest's data.
 *
 * The time is proportional to the length of the image's metadata, however often the tables refer to
 * each other. The memory is at most QCOW2_CHECK_MEMORY_MAX and a few MiB.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_CHECK_H
#define SKIFF_BLOCK_QCOW2_QCOW2_CHECK_H

#include "block/node.h"

/* Bytes of computed refcounts. They need 1 to 4 bytes for a cluster that is referred to, in pieces of 512
 * clusters. A check of an image with more ends with -ENOMEM. */
#define QCOW2_CHECK_MEMORY_MAX ((uint64_t)1 << 30)
/* QEMU's. A file with more ends the check with -EFBIG. */
#define QCOW2_CHECK_CLUSTERS_MAX ((uint64_t)INT32_MAX)

typedef struct Qcow2CheckResult {
    uint64_t check_errors; /* what could not be checked */
    uint64_t corruptions, leaks;
    uint64_t corruptions_fixed, leaks_fixed;
    uint64_t image_end; /* the end of the last cluster in use; 0: unknown */
    /* Clusters of the disk. */
    uint64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
} Qcow2CheckResult;

enum {
    QCOW2_FIX_LEAKS = 1 << 0,  /* lower refcounts that are too high */
    QCOW2_FIX_ERRORS = 1 << 1, /* the rest */
};

typedef struct Qcow2CheckRequest {
    BlockNode *file; /* writable if @fix is not 0 */
    unsigned fix;    /* QCOW2_FIX_... */
    uint64_t memory; /* bytes of counts at most; 0: QCOW2_CHECK_MEMORY_MAX */
    const char *who; /* the image's name in errors */
    /* Called for each problem with a line without its end. */
    void (*report)(void *opaque, const char *line);
    void *opaque;
    Qcow2CheckResult result;
    GError *error; /* set if the header cannot be used; owned by the caller */
} Qcow2CheckRequest;

/* Checks and repairs the image in r->file. 0, or -errno if the check could not be completed; r->result holds
 * what was found until then. Runs in the file's home. */
int qcow2_co_check(Qcow2CheckRequest *r) coroutine_fn RUNS_IN_IOTHREAD;

#endif
