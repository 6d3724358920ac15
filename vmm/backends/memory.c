/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/backends/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_HUGE_PAGE (UINT64_C(2) << 20)

static bool memory_map(MemoryBackend *m, GError **error)
{
    /* Aligned to a huge page, so that the kernel can use huge pages for all of it. */
    uint64_t slack = m->size >= MEMORY_HUGE_PAGE ? MEMORY_HUGE_PAGE : 0;
    m->map_size = m->size + slack;
    m->map = mmap(NULL, m->map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->map != MAP_FAILED) {
        uintptr_t at = (uintptr_t)m->map;
        at = slack != 0 ? (at + slack - 1) & ~(uintptr_t)(slack - 1) : at;
        int flags = m->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
        m->host = mmap((void *)at, m->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, m->fd, 0);
        if (m->host != MAP_FAILED) {
            madvise(m->host, m->size, MADV_HUGEPAGE); /* fails without support, which is harmless */
            madvise(m->host, m->size, MADV_DONTDUMP); /* skiff's core files omit guest memory */
            return true;
        }
        munmap(m->map, m->map_size);
    }
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOMEM,
                "cannot get %" PRIu64 " MiB of memory for the guest: %s; use a smaller -m",
                m->size >> 20, g_strerror(errno));
    return false;
}

static MemoryBackend *memory_backend_new(const char *id, uint64_t size, int fd, GError **error)
{
    MemoryBackend *m = g_new0(MemoryBackend, 1);
    m->id = g_strdup(id);
    m->size = size;
    m->fd = fd;
    if (!memory_map(m, error)) {
        m->map = NULL;
        memory_backend_free(m);
        return NULL;
    }
    return m;
}

MemoryBackend *memory_backend_new_ram(const char *id, uint64_t size, GError **error)
{
    return memory_backend_new(id, size, -1, error);
}

MemoryBackend *memory_backend_new_memfd(const char *id, uint64_t size, GError **error)
{
    int fd = memfd_create(id, MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "shared memory '%s': %s",
                    id, g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    return memory_backend_new(id, size, fd, error);
}

typedef struct MemoryOptions {
    char *type, *id;
    uint64_t size;
    bool share, prealloc;
} MemoryOptions;

static const OptSpec memory_specs[] = {
    {.name = "qom-type",
     .type = OPT_STRING,
     .offset = offsetof(MemoryOptions, type),
     .required = true},
    {.name = "id", .type = OPT_STRING, .offset = offsetof(MemoryOptions, id), .required = true},
    {.name = "size",
     .type = OPT_SIZE,
     .offset = offsetof(MemoryOptions, size),
     .min = 1 << 20,
     .max = UINT64_C(1) << 46,
     .required = true},
    {.name = "share", .type = OPT_BOOL, .offset = offsetof(MemoryOptions, share)},
    {.name = "prealloc", .type = OPT_BOOL, .offset = offsetof(MemoryOptions, prealloc)},
    {0},
};

MemoryBackend *memory_backend_from_opts(const OptDict *opts, GError **error)
{
    MemoryOptions o;
    opts_init(memory_specs, &o);
    if (!opts_bind(memory_specs, &o, opts, "-object", error)) {
        return NULL;
    }
    MemoryBackend *m = NULL;
    bool memfd = strcmp(o.type, "memory-backend-memfd") == 0;
    if (!memfd && o.share) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-object %s: share=on needs memory-backend-memfd", o.type);
    } else {
        m = memfd ? memory_backend_new_memfd(o.id, o.size, error)
                  : memory_backend_new_ram(o.id, o.size, error);
    }
    if (m != NULL && o.prealloc && madvise(m->host, m->size, MADV_POPULATE_WRITE) != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOMEM,
                    "-object %s: cannot allocate %" PRIu64 " MiB beforehand: %s", o.type,
                    m->size >> 20, g_strerror(errno));
        memory_backend_free(m);
        m = NULL;
    }
    if (m != NULL) {
        m->prealloc = o.prealloc;
    }
    opts_clear(memory_specs, &o);
    return m;
}

void memory_backend_free(MemoryBackend *m)
{
    if (m == NULL) {
        return;
    }
    if (m->map != NULL) {
        munmap(m->map, m->map_size);
    }
    if (m->fd >= 0) {
        close(m->fd);
    }
    g_free(m->id);
    g_free(m);
}
