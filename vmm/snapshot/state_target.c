/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/state_target.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "block/file/file_new.h"
#include "migration/ram/ram_blank.h"
#include "migration/ram/ram_pages.h"
#include "util/job/job.h"
#include "util/log.h"
#include "util/loop/iothread.h"
#include "vmm/snapshot/state_open.h"

#define STATE_TARGET_CLOSE_NS                                                                      \
    (INT64_C(100) * 1000000)   /* a cancelled one may take to close the file */
#define STATE_TARGET_MODE 0600 /* guest memory holds the guest's secrets */

typedef bool StateTargetStep(StateTarget *t, GError **error); /* a coroutine in main */

struct StateTarget {
    char *name; /* of the file, for messages */
    const GuestRam *ram;
    IoThread *thread; /* NULL: the node was given */
    bool cached;      /* the file is written through the page cache, which keeps it */
    bool patient;     /* co_leave waits until the file is closed, also after a cancel */
    /* The coroutine's, while there is a step */
    BlockNode *node;
    BlockBackend *blk;
    RamImage image;
    RamImageSave save;
    bool made;    /* the file did not exist */
    bool written; /* it has this save's lock, and something of it */
    bool begun;   /* state_file_co_end() is owed */
    bool valid;
    GByteArray *stream;
    RamPages dirty;  /* the user's while there is no step */
    bool only_dirty; /* of a pass */
    int ret;         /* of the part in the home */
    /* between user and coroutine */
    StateTargetStep *step; /* NULL: IDLE */
    bool step_ok;
    GError *error; /* of the last step */
    bool cancelled;
    bool leaving;   /* no further step comes */
    bool closed;    /* the coroutine has ended */
    bool abandoned; /* nobody waits for that: it frees @t */
    CoQueue begin, end;
};

bool state_target_is_cancelled(const StateTarget *t, GError **error)
{
    if (t->cancelled) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INTR, "'%s': cancelled", t->name);
    }
    return t->cancelled;
}

/* Whether @ret is no error; else sets @error. */
static RUNS_IN_MAIN bool state_target_check(const StateTarget *t, int ret, GError **error)
{
    if (ret == 0) {
        return true;
    }
    if (!state_target_is_cancelled(t, error)) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-ret), "'%s': %s", t->name,
                    g_strerror(-ret));
    }
    return false;
}

/* ---- steps ---- */

#define STATE_TARGET_USER "a save of the machine's state"

static coroutine_fn RUNS_IN_MAIN bool state_target_open_node(StateTarget *t, GError **error)
{
    if (t->patient) {
        return true; /* it was given */
    }
    const StateOpen how = {
        .home = iothread_context(t->thread), .writable = true, .direct = !t->cached};
    t->node = state_co_open(t->name, &how, error);
    if (t->node == NULL) {
        return false;
    }
    t->blk = blk_co_new_for(STATE_TARGET_USER, NULL, t->node, true, error);
    return t->blk != NULL;
}

/* A file is made anew, so it reads as zeroes. */
static coroutine_fn RUNS_IN_MAIN bool state_target_make_room(StateTarget *t, bool file,
                                                             GError **error)
{
    uint64_t bytes = state_file_bytes(&t->image);
    if (file) {
        t->save.target_is_zero = true;
        return blk_co_truncate(t->blk, 0, error) == 0 && blk_co_truncate(t->blk, bytes, error) == 0;
    }
    if (blk_size(t->blk) < bytes) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                    "'%s' has %" PRIu64 " MiB; the state of this machine needs %" PRIu64, t->name,
                    blk_size(t->blk) >> 20, (bytes + (1 << 20) - 1) >> 20);
        return false;
    }
    return true;
}

static void state_target_begin_at_home(void *opaque)
{
    StateTarget *t = opaque;
    enter_coroutine();
    enter_iothread(blk_home(t->blk));
    t->ret = state_file_co_begin(&t->save, &t->image);
}

static coroutine_fn bool state_target_step_open(StateTarget *t, GError **error)
{
    enter_main();
    bool file = !t->patient && state_name_is_path(t->name) && !file_co_is_device(t->name);
    if (file) {
        int ret = file_co_make(t->name, STATE_TARGET_MODE);
        t->made = ret == 0;
        if (!state_target_check(t, ret == -EEXIST ? 0 : ret, error)) {
            return false;
        }
        if (!file_co_is_private(t->name)) {
            log_warn("savevm-start: '%s' was there, and others than its owner can read it, or you "
                     "do not own it: it gets the guest's memory",
                     t->name);
        }
    }
    /* A file that hung until now may have the next save in it. */
    if (!state_target_open_node(t, error) || state_target_is_cancelled(t, error)) {
        return false;
    }
    t->written = true;
    if (!state_target_make_room(t, file, error)) {
        return false;
    }
    t->save.blk = t->blk;
    t->begun = true;
    co_call_in(blk_home(t->blk), state_target_begin_at_home, t);
    return state_target_check(t, t->ret, error);
}

static void state_target_pass_at_home(void *opaque)
{
    StateTarget *t = opaque;
    enter_coroutine();
    enter_iothread(blk_home(t->blk));
    t->ret = ram_image_co_pass(&t->save, t->only_dirty ? &t->dirty : NULL);
}

static coroutine_fn bool state_target_step_pass(StateTarget *t, GError **error)
{
    enter_main();
    co_call_in(blk_home(t->blk), state_target_pass_at_home, t);
    ram_pages_clear(&t->dirty, t->ram);
    return state_target_check(t, t->ret, error);
}

static void state_target_end_at_home(void *opaque)
{
    StateTarget *t = opaque;
    enter_coroutine();
    enter_iothread(blk_home(t->blk));
    t->ret = state_file_co_end(&t->save, &t->image, t->stream, t->stream != NULL ? 0 : -ECANCELED);
}

static coroutine_fn bool state_target_step_complete(StateTarget *t, GError **error)
{
    enter_main();
    t->begun = false;
    co_call_in(blk_home(t->blk), state_target_end_at_home, t);
    t->valid = t->ret == 0;
    return state_target_check(t, t->ret, error);
}

/* ---- the coroutine ---- */

static void state_target_free(StateTarget *t)
{
    iothread_free(t->thread);
    g_clear_pointer(&t->stream, g_byte_array_unref);
    ram_pages_free(&t->dirty);
    g_clear_error(&t->error);
    g_free(t->name);
    g_free(t);
}

static void state_target_clear_at_home(void *opaque)
{
    StateTarget *t = opaque;
    enter_coroutine();
    enter_iothread(blk_home(t->blk));
    t->ret = state_file_co_clear(t->blk);
}

static coroutine_fn RUNS_IN_MAIN void state_target_close(StateTarget *t)
{
    if (t->valid && t->cancelled) { /* its last request was under way when the user cancelled */
        t->valid = false;
        co_call_in(blk_home(t->blk), state_target_clear_at_home, t);
    }
    if (t->begun) {
        g_clear_pointer(&t->stream, g_byte_array_unref);
        co_call_in(blk_home(t->blk), state_target_end_at_home, t);
    }
    if (t->made && !t->valid && (t->written || !t->abandoned)) {
        /* Before its lock is released: later the name may be another save's. */
        file_co_remove(t->name);
    }
    if (t->patient) {
        job_co_operation_begin(); /* the node belongs to the graph of a disk */
    }
    if (t->blk != NULL) {
        blk_co_free(t->blk);
    }
    if (t->node != NULL) {
        block_co_unref(t->node);
    }
    if (t->patient) {
        job_co_operation_end();
    }
    g_clear_pointer(&t->thread, iothread_free); /* here, where no lock is held */
}

static void state_target_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    StateTarget *t = opaque;
    while (t->step != NULL || !t->leaving) {
        if (t->step == NULL) {
            co_queue_wait(&t->begin, "a step of a save");
            continue;
        }
        g_clear_error(&t->error);
        t->step_ok = t->step(t, &t->error);
        t->step = NULL;
        co_queue_wake_all(&t->end);
    }
    state_target_close(t);
    t->closed = true;
    if (t->abandoned) {
        state_target_free(t);
    } else {
        co_queue_wake_all(&t->end);
    }
}

/* ---- the user ---- */

static coroutine_fn RUNS_IN_MAIN bool state_target_co_do(StateTarget *t, StateTargetStep *step,
                                                         GError **error)
{
    g_assert(!t->leaving);
    if (state_target_is_cancelled(t, error)) {
        return false;
    }
    g_assert(t->step == NULL);
    t->step = step;
    co_queue_wake_all(&t->begin);
    while (t->step != NULL && !t->cancelled) {
        co_queue_wait(&t->end, "the state file");
    }
    if (state_target_is_cancelled(t, error)) {
        return false;
    }
    if (!t->step_ok) {
        g_propagate_error(error, g_steal_pointer(&t->error));
    }
    return t->step_ok;
}

bool state_target_co_open(StateTarget *t, GError **error)
{
    return state_target_co_do(t, state_target_step_open, error);
}

bool state_target_co_pass(StateTarget *t, bool dirty, GError **error)
{
    t->only_dirty = dirty;
    return state_target_co_do(t, state_target_step_pass, error);
}

bool state_target_co_complete(StateTarget *t, GByteArray *stream, GError **error)
{
    g_assert(t->stream == NULL);
    t->stream = g_byte_array_ref(stream);
    return state_target_co_do(t, state_target_step_complete, error);
}

void state_target_cancel(StateTarget *t)
{
    t->cancelled = true;
    t->save.cancelled = true;
    co_queue_wake_all(&t->end);
}

void state_target_co_leave(StateTarget *t)
{
    g_assert(!t->leaving);
    t->leaving = true;
    co_queue_wake_all(&t->begin);
    while (!t->closed && !t->cancelled) {
        co_queue_wait(&t->end, "the state file's end");
    }
    int64_t deadline = aio_now_ns(co_context(co_self())) + STATE_TARGET_CLOSE_NS;
    while (!t->closed && !t->patient &&
           co_queue_wait_until(&t->end, "the state file's end", deadline)) {
    }
    while (!t->closed && t->patient) {
        co_queue_wait(&t->end, "the state area's end");
    }
    if (t->closed) {
        state_target_free(t);
    } else {
        t->abandoned = true;
    }
}

uint64_t state_target_take_dirty(StateTarget *t)
{
    g_assert(t->step == NULL && !t->cancelled);
    return ram_pages_take_dirty(&t->dirty, t->ram);
}

uint64_t state_target_pages(const StateTarget *t)
{
    uint64_t pages = 0;
    for (unsigned i = 0; i < t->image.count; i++) {
        pages += t->image.blocks[i].size / GUEST_RAM_PAGE;
    }
    return pages;
}

uint64_t state_target_bytes(const StateTarget *t)
{
    return t->save.data;
}

bool state_target_plan(const GuestRam *ram, uint64_t *bytes, GError **error)
{
    RamImage image;
    if (!ram_image_plan(&image, ram, error)) {
        return false;
    }
    *bytes = state_file_bytes(&image);
    return true;
}

/* A RamImageReadFn. */
static int state_target_read_live(void *opaque, unsigned block, uint64_t offset, void *buf,
                                  size_t len)
{
    enter_worker();
    const StateTarget *t = opaque;
    ram_copy_live(buf, t->ram->blocks[block].host + offset, len);
    return 0;
}

/* A RamImageBlankFn. */
static int state_target_blank_live(void *opaque, unsigned block, uint64_t offset, uint64_t pages,
                                   uint64_t *bits)
{
    enter_worker();
    const StateTarget *t = opaque;
    ram_blank_find(&t->ram->blocks[block], 0, offset / GUEST_RAM_PAGE, pages, bits);
    return 0;
}

/* Takes @thread, also on failure. */
static RUNS_IN_MAIN StateTarget *state_target_make(const char *name, IoThread *thread,
                                                   const GuestRam *ram, AioContext *ctx,
                                                   GError **error)
{
    StateTarget *t = g_new0(StateTarget, 1);
    *t = (StateTarget){.name = g_strdup(name), .ram = ram, .thread = thread};
    bool ok = ram_image_plan(&t->image, ram, error);
    for (unsigned i = 0; i < ram->count && ok; i++) {
        ok = ram_pages_add(&t->dirty, i, ram->blocks[i].size) == 0;
        if (!ok) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOMEM,
                        "no memory for the set of dirty pages");
        }
    }
    if (!ok) {
        state_target_free(t);
        return NULL;
    }
    state_target_set_source(t, state_target_read_live, state_target_blank_live, t);
    co_queue_init(&t->begin);
    co_queue_init(&t->end);
    co_start(ctx, state_target_run, t);
    return t;
}

StateTarget *state_target_new(const char *path, const GuestRam *ram, AioContext *ctx,
                              GError **error)
{
    IoThread *thread = iothread_new("state", 0, error);
    StateTarget *t = thread != NULL ? state_target_make(path, thread, ram, ctx, error) : NULL;
    if (t != NULL && state_name_is_path(path)) {
        t->save.in_place = ram;
    }
    return t;
}

void state_target_keep_cached(StateTarget *t)
{
    g_assert(t->step == NULL && t->blk == NULL);
    t->cached = true;
}

StateTarget *state_target_new_on(BlockNode *node, const char *name, const GuestRam *ram,
                                 AioContext *ctx, GError **error)
{
    BlockBackend *blk = blk_co_new_for(STATE_TARGET_USER, NULL, node, true, error);
    if (blk == NULL) {
        return NULL;
    }
    StateTarget *t = state_target_make(name, NULL, ram, ctx, error);
    if (t == NULL) {
        blk_co_free(blk);
        return NULL;
    }
    block_node_ref(node);
    t->node = node;
    t->blk = blk;
    t->patient = true;
    t->save.target_is_zero = true;
    return t;
}

void state_target_set_source(StateTarget *t, RamImageReadFn *read, RamImageBlankFn *blank,
                             void *opaque)
{
    g_assert(t->step == NULL);
    t->save.in_place = NULL;
    t->save.read = read;
    t->save.blank = blank;
    t->save.opaque = opaque;
}

void state_target_set_urgent(StateTarget *t,
                             bool (*urgent)(void *opaque, unsigned *block, uint64_t *offset))
{
    g_assert(t->step == NULL);
    t->save.urgent = urgent;
}
