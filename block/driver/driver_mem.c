/* SPDX-License-Identifier: Apache-2.0 */
#include "block/driver/mem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "block/drivers.h"
#include "util/zero.h"

#define MEM_STATUS_BLOCK ((uint64_t)4 << 10) /* granularity of an extent */
#define MEM_STATUS_MAX ((uint64_t)1 << 20)   /* bytes examined by one query */

typedef struct MemWait {
    CoToken token;
    int ret;
    struct MemWait *next;
} MemWait;

typedef struct MemState {
    /* config */
    uint64_t size_option;
    bool manual;
    /* runtime */
    uint8_t *data;
    size_t mapped;
    _Atomic unsigned waiting;
    MemWait *head, **tail;
    BlockMemJournal *journal; /* a test's; NULL: none */
} MemState;

static const OptSpec mem_options[] = {
    OPT_SPEC(MemState, "size", OPT_SIZE, size_option,
             .help = "size of the disk, initially all zeroes", .def = "64M",
             .min = BLOCK_SECTOR_SIZE, .max = (uint64_t)1 << 46),
    OPT_SPEC(MemState, "manual", OPT_BOOL, manual, .help = "tests complete the requests",
             .def = "off"),
    {0},
};

static coroutine_fn RUNS_IN_MAIN bool mem_co_open(BlockNode *n, GError **error)
{
    MemState *s = n->state;
    if (!block_is_aligned(s->size_option, BLOCK_SECTOR_SIZE)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "driver=mem: size must be a multiple of %u", BLOCK_SECTOR_SIZE);
        return false;
    }
    /* Not populated: pages that are never written use no memory. */
    void *data = mmap(NULL, s->size_option, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "driver=mem: %" G_GUINT64_FORMAT " bytes of memory: %s", s->size_option,
                    g_strerror(errno));
        return false;
    }
    s->data = data;
    s->mapped = s->size_option;
    s->tail = &s->head;
    atomic_store(&n->size, s->size_option);
    return true;
}

static coroutine_fn RUNS_IN_MAIN void mem_co_close(BlockNode *n)
{
    MemState *s = n->state;
    assert(s->head == NULL);
    munmap(s->data, s->mapped);
}

/* Consumes @data. */
static void mem_record(MemState *s, BlockMemRecord r)
{
    if (s->journal != NULL) {
        g_array_append_val(s->journal->records, r);
    } else {
        g_free(r.data);
    }
}

/* Returns 0 if the request is to be carried out. */
static coroutine_fn RUNS_IN_IOTHREAD int mem_co_admit(MemState *s)
{
    if (!s->manual) {
        return 0;
    }
    MemWait w = {.token = co_arm()};
    *s->tail = &w;
    s->tail = &w.next;
    atomic_fetch_add(&s->waiting, 1);
    co_wait(w.token);
    return w.ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int
mem_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
    MemState *s = n->state;
    int ret = mem_co_admit(s);
    if (ret == 0) {
        iov_copy_from_buf(iov, niov, 0, s->data + offset, bytes);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int mem_co_pwritev(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes, const struct iovec *iov,
                                                        unsigned niov, unsigned flags)
{
    MemState *s = n->state;
    int ret = mem_co_admit(s);
    if (ret == 0) {
        iov_copy_to_buf(iov, niov, 0, s->data + offset, bytes);
        if (s->journal != NULL) {
            mem_record(s, (BlockMemRecord){.op = BLOCK_MEM_WRITE,
                                           .offset = offset,
                                           .bytes = bytes,
                                           .data = g_memdup2(s->data + offset, bytes),
                                           .fua = (flags & BLOCK_REQ_FUA) != 0});
        }
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int mem_co_flush(BlockNode *n)
{
    MemState *s = n->state;
    unsigned covers = s->journal != NULL ? s->journal->records->len : 0;
    int ret = mem_co_admit(s);
    if (ret == 0) {
        mem_record(s, (BlockMemRecord){.op = BLOCK_MEM_FLUSH, .covers = covers});
    }
    return ret;
}

/* Whole pages are returned to the host and then read as zeroes. */
static void mem_zero(MemState *s, uint64_t offset, uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t start = block_align_up(offset, page);
    uint64_t end = block_align_down(offset + bytes, page);
    if (start >= end || madvise(s->data + start, end - start, MADV_DONTNEED) != 0) {
        memset(s->data + offset, 0, bytes);
        return;
    }
    memset(s->data + offset, 0, start - offset);
    memset(s->data + end, 0, offset + bytes - end);
}

static coroutine_fn RUNS_IN_IOTHREAD int mem_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes, unsigned flags)
{
    MemState *s = n->state;
    int ret = mem_co_admit(s);
    if (ret == 0) {
        mem_zero(s, offset, bytes);
        mem_record(s, (BlockMemRecord){.op = BLOCK_MEM_WRITE,
                                       .offset = offset,
                                       .bytes = bytes,
                                       .fua = (flags & BLOCK_REQ_FUA) != 0});
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int mem_co_discard(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes)
{
    return mem_co_write_zeroes(n, offset, bytes, 0);
}

/* The kernel does not report which pages were ever written: their bytes are compared with zero. */
static bool mem_block_is_zero(const MemState *s, uint64_t offset, uint64_t bytes)
{
    return bytes_are_zero(s->data + offset, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int mem_co_block_status(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes, bool precise,
                                                             BlockStatus *status)
{
    MemState *s = n->state;
    int ret = mem_co_admit(s);
    if (ret < 0) {
        return ret;
    }
    uint64_t end = offset + MIN(bytes, MEM_STATUS_MAX);
    uint64_t at = offset;
    bool zero = false;
    while (at < end) {
        uint64_t len = MIN(end, block_align_down(at, MEM_STATUS_BLOCK) + MEM_STATUS_BLOCK) - at;
        bool is_zero = mem_block_is_zero(s, at, len);
        if (at != offset && is_zero != zero) {
            break;
        }
        zero = is_zero;
        at += len;
    }
    *status = (BlockStatus){.bytes = at - offset,
                            .flags = (zero ? BLOCK_STATUS_ZERO : BLOCK_STATUS_DATA) |
                                     BLOCK_STATUS_OFFSET_VALID,
                            .map_node = n,
                            .map_offset = offset};
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int mem_co_truncate(BlockNode *n, uint64_t size)
{
    MemState *s = n->state;
    if (size == 0) {
        return -EINVAL;
    }
    void *data = mremap(s->data, s->mapped, size, MREMAP_MAYMOVE);
    if (data == MAP_FAILED) {
        return -errno;
    }
    uint64_t old = block_node_size(n);
    s->data = data;
    s->mapped = size;
    if (size < old) { /* the cut part reads as zeroes if the disk grows again */
        uint64_t page_end = block_align_up(size, (uint64_t)sysconf(_SC_PAGESIZE));
        memset(s->data + size, 0, MIN(page_end, old) - size);
    }
    mem_record(s, (BlockMemRecord){.op = BLOCK_MEM_TRUNCATE, .bytes = size});
    return 0;
}

const BlockDriver block_driver_mem = {
    .name = "mem",
    .help = "a disk in memory, lost at exit",
    .state_size = sizeof(MemState),
    .options = mem_options,
    .caps = {.fua = true},
    .co_open = mem_co_open,
    .co_close = mem_co_close,
    .co_preadv = mem_co_preadv,
    .co_pwritev = mem_co_pwritev,
    .co_flush = mem_co_flush,
    .co_discard = mem_co_discard,
    .co_write_zeroes = mem_co_write_zeroes,
    .co_block_status = mem_co_block_status,
    .co_truncate = mem_co_truncate,
};

/* ---- for tests ---- */

static MemState *mem_state(const BlockNode *n)
{
    assert(n->drv == &block_driver_mem);
    return n->state;
}

void block_mem_set_manual(BlockNode *n, bool manual)
{
    assert_home(n->home);
    mem_state(n)->manual = manual;
}

unsigned block_mem_waiting(const BlockNode *n)
{
    return atomic_load(&mem_state(n)->waiting);
}

bool block_mem_complete(BlockNode *n, int ret)
{
    assert_home(n->home);
    MemState *s = mem_state(n);
    MemWait *w = s->head;
    if (w == NULL) {
        return false;
    }
    s->head = w->next;
    if (s->head == NULL) {
        s->tail = &s->head;
    }
    atomic_fetch_sub(&s->waiting, 1);
    w->ret = ret;
    co_wake(w->token);
    return true;
}

void block_mem_set_journal(BlockNode *n, BlockMemJournal *journal)
{
    assert_home(n->home);
    mem_state(n)->journal = journal;
}

static void mem_clear_record(void *record)
{
    g_free(((BlockMemRecord *)record)->data);
}

void block_mem_journal_init(BlockMemJournal *journal)
{
    journal->records = g_array_new(FALSE, FALSE, sizeof(BlockMemRecord));
    g_array_set_clear_func(journal->records, mem_clear_record);
}

void block_mem_journal_clear(BlockMemJournal *journal)
{
    g_array_unref(journal->records);
}

uint8_t *block_mem_data(BlockNode *n)
{
    assert_home(n->home);
    return mem_state(n)->data;
}
