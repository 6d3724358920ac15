/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/state_open.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "block/nbd/nbd_client_name.h"
#include "util/opts/opts.h"

#define STATE_JSON "json:"

bool state_name_is_path(const char *name)
{
    return !g_str_has_prefix(name, STATE_JSON) && !nbd_client_is_name(name);
}

static OptDict *state_describe(const char *name, GError **error)
{
    if (g_str_has_prefix(name, STATE_JSON)) {
        return opt_dict_parse(name + strlen(STATE_JSON), NULL, error);
    }
    OptDict *o = opt_dict_new();
    opt_dict_set(o, "driver", "raw");
    if (nbd_client_is_name(name)) {
        OptDict *file = nbd_client_describe_name(name, error);
        if (file == NULL) {
            opt_dict_free(o);
            return NULL;
        }
        opt_dict_set_dict(o, "file", file);
    } else {
        opt_dict_set(o, "file.driver", "file");
        opt_dict_set(o, "file.filename", name);
    }
    return o;
}

/* Ways to open a path, the fastest first. */
static const struct StateWay {
    const char *direct, *aio;
} state_ways[] = {{"on", "io_uring"}, {"on", "threads"}, {"off", "threads"}};

#define STATE_WAYS G_N_ELEMENTS(state_ways)

/* @way NULL: as its options say. */
static coroutine_fn RUNS_IN_MAIN BlockNode *
state_open_as(const char *name, const StateOpen *how, const struct StateWay *way, GError **error)
{
    OptDict *o = state_describe(name, error);
    if (o == NULL) {
        return NULL;
    }
    if (way != NULL) {
        opt_dict_set(o, "cache.direct", way->direct);
        opt_dict_set(o, "file.aio", way->aio);
    }
    opt_dict_set_default(o, "read-only", how->writable ? "off" : "on");
    BlockNode *node = block_co_open(o, how->home, error);
    opt_dict_free(o);
    return node;
}

BlockNode *state_co_open(const char *name, const StateOpen *how, GError **error)
{
    if (!state_name_is_path(name)) {
        return state_open_as(name, how, NULL, error);
    }
    unsigned i = how->direct ? 0 : STATE_WAYS - 1;
    GError *failure = NULL;
    BlockNode *node = state_open_as(name, how, &state_ways[i], &failure);
    while (node == NULL && ++i < STATE_WAYS &&
           g_error_matches(failure, BLOCK_ERROR, BLOCK_ERROR_UNSUPPORTED)) {
        g_clear_error(&failure);
        node = state_open_as(name, how, &state_ways[i], &failure);
    }
    if (node == NULL) {
        g_propagate_error(error, failure);
    }
    return node;
}

/* ---- the page cache ---- */

#define STATE_SYS_CACHESTAT                                                                        \
    451L /* cachestat(2), from Linux 6.5 on; older C libraries have no name for it */

/* Of the kernel's interface. */
struct StateCacheRange {
    uint64_t offset, length; /* 0: to the end */
};

struct StateCacheCounts {
    uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
};

typedef struct StateCached {
    const char *path;
    uint64_t offset;
} StateCached;

/* 1: it is. */
static int state_count_cached(void *opaque)
{
    enter_worker();
    const StateCached *c = opaque;
    struct StateCacheRange range = {.offset = c->offset};
    struct StateCacheCounts counts = {0};
    struct stat st;
    int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    bool cached = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                  syscall(STATE_SYS_CACHESTAT, fd, &range, &counts, 0u) == 0;
    if (fd >= 0) {
        close(fd);
    }
    /* Pages of holes that were read are in the cache, too; those who read a file read all of it. */
    uint64_t used = cached ? (uint64_t)st.st_blocks * 512 / (uint64_t)sysconf(_SC_PAGESIZE) : 0;
    return cached && counts.cached > used / 2;
}

bool state_co_is_cached(const char *path, uint64_t offset)
{
    StateCached c = {path, offset};
    return state_name_is_path(path) && co_run_in_worker(state_count_cached, &c) == 1;
}
