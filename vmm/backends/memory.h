/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory backends: the source of guest RAM. Anonymous memory with huge pages advised, or a memfd
 * that other processes can map.
 */
#ifndef SKIFF_VMM_BACKENDS_MEMORY_H
#define SKIFF_VMM_BACKENDS_MEMORY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/opts/opts.h"
#include "util/loop/thread.h"

typedef struct MemoryBackend {
    char *id;
    uint8_t *host; /* owned mapping */
    uint64_t size;
    int fd; /* memfd, or -1 */
    bool prealloc;
    void *map; /* the mapping to unmap: host is aligned within it */
    uint64_t map_size;
} MemoryBackend;

/* Anonymous memory of @size bytes. */
MemoryBackend *memory_backend_new_ram(const char *id, uint64_t size, GError **error) ANY_THREAD;
/* Memory of @size bytes that other processes can map by its descriptor. */
MemoryBackend *memory_backend_new_memfd(const char *id, uint64_t size, GError **error) ANY_THREAD;
/* From -object memory-backend-ram|memory-backend-memfd,id=,size=[,share=on][,prealloc=on].
 * Preallocation may take long. */
MemoryBackend *memory_backend_from_opts(const OptDict *opts, GError **error) RUNS_IN_WORKER;
void memory_backend_free(MemoryBackend *m) ANY_THREAD;

#endif
