/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/iothread.h"

#include <errno.h>
#include <semaphore.h>
#include <unistd.h>
#include "util/loop/aio_int.h"
#include "util/loop/held.h"
#include "util/loop/sched_point.h"

struct IoThread {
    char *id;
    char *name;
    AioContext *ctx;
    pthread_t thread;
    int64_t poll_max_ns;
    _Atomic int tid;
    _Atomic unsigned owners;
    sem_t quit_done; /* iothread_free() has finished with the context */
};

static void *iothread_run(void *opaque)
{
    IoThread *t = opaque;
    t->tid = (int)gettid();
    SP("iothread.start", t);
    aio_context_adopt(t->ctx);
    aio_context_run(t->ctx);
    while (sem_wait(&t->quit_done) != 0 && errno == EINTR) {
    }
    aio_context_free(t->ctx);
    return NULL;
}

static IoThread *iothread_start(const char *id, char *name_taken, ThreadRole role,
                                int64_t poll_max_ns, GError **error)
{
    IoThread *t = g_new0(IoThread, 1);
    t->id = g_strdup(id);
    t->name = name_taken;
    t->poll_max_ns = poll_max_ns;
    t->owners = 1;
    t->ctx = aio_context_new_unowned(t->name, error);
    if (t->ctx == NULL) {
        goto fail;
    }
    sem_init(&t->quit_done, 0, 0);
    aio_context_set_polling(t->ctx, poll_max_ns);
    if (!thread_start(&t->thread, role, t->name, iothread_run, t)) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "iothread '%s': cannot start a thread: %s", id, g_strerror(errno));
        aio_context_free_unowned(t->ctx);
        sem_destroy(&t->quit_done);
        goto fail;
    }
    return t;
fail:
    g_free(t->id);
    g_free(t->name);
    g_free(t);
    return NULL;
}

IoThread *iothread_new(const char *id, int64_t poll_max_ns, GError **error)
{
    return iothread_start(id, g_strdup_printf("iothread/%s", id), THREAD_IOTHREAD, poll_max_ns,
                          error);
}

IoThread *iothread_new_network(const char *id, int64_t poll_max_ns, GError **error)
{
    return iothread_start(id, g_strdup_printf("net/%s", id), THREAD_NETWORK, poll_max_ns, error);
}

IoThread *iothread_ref(IoThread *t)
{
    atomic_fetch_add(&t->owners, 1);
    return t;
}

void iothread_free(IoThread *t)
{
    if (t == NULL || atomic_fetch_sub(&t->owners, 1) != 1) {
        return;
    }
    held_assert_none("the join of an iothread");
    aio_context_quit(t->ctx);
    sem_post(&t->quit_done);
    pthread_join(t->thread, NULL);
    sem_destroy(&t->quit_done);
    g_free(t->id);
    g_free(t->name);
    g_free(t);
}

AioContext *iothread_context(const IoThread *t)
{
    return t->ctx;
}

const char *iothread_id(const IoThread *t)
{
    return t->id;
}

int iothread_tid(const IoThread *t)
{
    return t->tid;
}

int64_t iothread_poll_max_ns(const IoThread *t)
{
    return t->poll_max_ns;
}
