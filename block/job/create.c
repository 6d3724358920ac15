/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/create.h"

#include <errno.h>
#include "block/file/file_new.h"
#include "block/job/block_job.h"
#include "util/loop/sched_point.h"

typedef struct CreateJob {
    BlockJob bj;
    AioContext *main_ctx, *home;
    /* file */
    char *filename; /* owned */
    uint64_t size;
    BlockPreallocation preallocation;
    bool is_new;
    /* qcow2 */
    Qcow2CreateOptions options; /* its texts are owned */
    BlockNode *node, *data;     /* the job's edges hold them; file: while it is open */
    Qcow2Amend amend;
    GError *error; /* of a call in main */
} CreateJob;

static void create_free(void *state)
{
    CreateJob *c = state;
    enter_main();
    block_job_clear(&c->bj);
    g_free(c->filename);
    g_free((char *)(uintptr_t)c->options.backing_file);
    g_free((char *)(uintptr_t)c->options.backing_format);
    g_free((char *)(uintptr_t)c->options.data_file);
    g_free(c);
}

static void create_clean(Job *job)
{
    enter_main();
    enter_coroutine();
    CreateJob *c = job_state(job);
    block_job_co_remove_nodes(&c->bj);
}

static RUNS_IN_MAIN bool create_init(CreateJob *c, const JobDriver *driver, const char *id,
                                     AioContext *home, GError **error)
{
    BlockJobConfig config = {.id = id, .manual_dismiss = true};
    c->main_ctx = aio_context_current();
    c->home = home;
    return block_job_init(&c->bj, driver, &config, home, c, error);
}

/* ---- files ---- */

static void create_open_in_main(void *opaque)
{
    CreateJob *c = opaque;
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) d = opt_dict_new();
    opt_dict_set(d, "driver", "file");
    opt_dict_set(d, "filename", c->filename);
    c->node = block_co_open(d, c->home, &c->error);
}

static void create_close_in_main(void *opaque)
{
    CreateJob *c = opaque;
    enter_main();
    enter_coroutine();
    block_co_unref(g_steal_pointer(&c->node));
}

static coroutine_fn RUNS_IN_IOTHREAD int create_co_fill(const CreateJob *c)
{
    int ret = block_node_co_truncate(c->node, 0);
    if (ret == 0) {
        ret = block_node_co_truncate(c->node, c->size);
    }
    if (ret == 0) {
        ret = block_node_co_preallocate(c->node, 0, c->size, c->preallocation);
    }
    return ret == 0 ? block_node_co_flush(c->node) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int create_co_file(CreateJob *c, GError **error)
{
    int ret = file_co_make(c->filename, FILE_NEW_IMAGE_MODE);
    c->is_new = ret == 0;
    if (ret < 0 && ret != -EEXIST) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "Could not create '%s': %s", c->filename,
                    g_strerror(-ret));
        return ret;
    }
    co_call_in(c->main_ctx, create_open_in_main, c);
    if (c->node == NULL) {
        g_propagate_error(error, g_steal_pointer(&c->error));
        return -EIO;
    }
    SP("job.create", c->bj.job);
    ret = create_co_fill(c);
    co_call_in(c->main_ctx, create_close_in_main, c);
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "Could not resize file '%s': %s",
                    c->filename, g_strerror(-ret));
    }
    return ret;
}

static int create_file_run(Job *job, GError **error)
{
    CreateJob *c = job_state(job);
    enter_coroutine();
    enter_iothread(c->home);
    job_progress_set_total(job, 1);
    int ret = create_co_file(c, error);
    if (ret == 0 && job_is_cancelled(job)) {
        ret = -ECANCELED;
    }
    if (ret < 0 && c->is_new) {
        file_co_remove(c->filename);
    } else if (ret == 0) {
        job_progress_add(job, 1);
    }
    return ret;
}

static const JobDriver create_file_driver = {
    .type = "create",
    .co_run = create_file_run,
    .free = create_free,
};

bool block_create_file(const char *id, const BlockCreateFile *o, AioContext *home, GError **error)
{
    CreateJob *c = g_new0(CreateJob, 1);
    if (!create_init(c, &create_file_driver, id, home, error)) {
        g_free(c);
        return false;
    }
    c->filename = g_strdup(o->filename);
    c->size = o->size;
    c->preallocation = o->preallocation;
    job_start(c->bj.job);
    return true;
}

/* ---- qcow2 ---- */

static int create_qcow2_run(Job *job, GError **error)
{
    CreateJob *c = job_state(job);
    enter_coroutine();
    enter_iothread(c->home);
    job_progress_set_total(job, 1);
    if (!qcow2_create_check(&c->options, error)) {
        return -EINVAL;
    }
    SP("job.create", job);
    int ret = block_node_co_truncate(c->node, 0);
    Qcow2CreateRequest r = {.options = &c->options,
                            .file = c->node,
                            .data = c->data,
                            .dirty_file = ret == -ENOTSUP}; /* a device keeps its size */
    if (!qcow2_co_create(&r)) {
        g_propagate_error(error, r.error);
        return -EIO;
    }
    job_progress_add(job, 1);
    return 0;
}

static const JobDriver create_qcow2_driver = {
    .type = "create",
    .co_run = create_qcow2_run,
    .co_clean = create_clean,
    .free = create_free,
};

/* The only user of the node. */
static coroutine_fn RUNS_IN_MAIN bool create_co_take_node(CreateJob *c, BlockNode *n,
                                                          GError **error)
{
    unsigned uses = BLOCK_USE_READ | BLOCK_USE_WRITE | BLOCK_USE_RESIZE | BLOCK_USE_GRAPH;
    return block_job_co_add_node(&c->bj, n, uses, 0, error) != NULL;
}

static coroutine_fn RUNS_IN_MAIN bool create_co_start(CreateJob *c, GError **error)
{
    if (create_co_take_node(c, c->node, error) &&
        (c->data == NULL || create_co_take_node(c, c->data, error))) {
        job_start(c->bj.job);
        return true;
    }
    block_job_co_remove_nodes(&c->bj);
    job_abandon(c->bj.job);
    return false;
}

bool block_co_create_qcow2(const char *id, const Qcow2CreateOptions *o, BlockNode *file,
                           BlockNode *data, GError **error)
{
    if (data != NULL && block_node_home(data) != block_node_home(file)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "node '%s' and node '%s' live in different iothreads", block_node_name(file),
                    block_node_name(data));
        return false;
    }
    CreateJob *c = g_new0(CreateJob, 1);
    if (!create_init(c, &create_qcow2_driver, id, block_node_home(file), error)) {
        g_free(c);
        return false;
    }
    c->node = file;
    c->data = data;
    c->options = *o;
    c->options.backing_file = g_strdup(o->backing_file);
    c->options.backing_format = g_strdup(o->backing_format);
    c->options.data_file = g_strdup(o->data_file);
    return create_co_start(c, error);
}

/* ---- amending ---- */

static int amend_run(Job *job, GError **error)
{
    CreateJob *c = job_state(job);
    enter_coroutine();
    enter_iothread(c->home);
    job_progress_set_total(job, 1);
    SP("job.create", job);
    if (!qcow2_co_amend(c->node, &c->amend, error)) {
        return -EIO;
    }
    job_progress_add(job, 1);
    return 0;
}

static const JobDriver amend_driver = {
    .type = "amend",
    .co_run = amend_run,
    .co_clean = create_clean,
    .free = create_free,
};

bool block_co_amend_qcow2(const char *id, BlockNode *n, const Qcow2Amend *a, GError **error)
{
    CreateJob *c = g_new0(CreateJob, 1);
    if (!create_init(c, &amend_driver, id, block_node_home(n), error)) {
        g_free(c);
        return false;
    }
    c->node = n;
    c->amend = *a;
    return create_co_start(c, error);
}
