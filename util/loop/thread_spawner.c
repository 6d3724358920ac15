/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/thread_spawner.h"

#include <stdatomic.h>
#include <stddef.h>

typedef struct SpawnRequest {
    pthread_t *thread;
    void *(*fn)(void *);
    void *arg;
    int result;
    bool done;
    struct SpawnRequest *next;
} SpawnRequest;

static pthread_mutex_t spawner_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t spawner_wanted = PTHREAD_COND_INITIALIZER;
static pthread_cond_t spawner_done = PTHREAD_COND_INITIALIZER;
static SpawnRequest *spawner_requests;
static atomic_bool spawner_running;

static void *spawner_run(void *opaque)
{
    (void)opaque;
    pthread_mutex_lock(&spawner_lock);
    for (;;) {
        SpawnRequest *r = spawner_requests;
        if (r == NULL) {
            pthread_cond_wait(&spawner_wanted, &spawner_lock);
            continue;
        }
        spawner_requests = r->next;
        r->result = pthread_create(r->thread, NULL, r->fn, r->arg);
        r->done = true;
        pthread_cond_broadcast(&spawner_done);
    }
    return NULL;
}

bool thread_spawner_start(void)
{
    pthread_t thread;
    if (!thread_start(&thread, THREAD_NONE, "spawner", spawner_run, NULL)) {
        return false;
    }
    pthread_detach(thread);
    atomic_store(&spawner_running, true);
    return true;
}

bool thread_spawner_runs(void)
{
    return atomic_load_explicit(&spawner_running, memory_order_acquire);
}

int thread_spawner_create(pthread_t *thread, void *(*fn)(void *), void *arg)
{
    SpawnRequest r = {.thread = thread, .fn = fn, .arg = arg};
    pthread_mutex_lock(&spawner_lock);
    r.next = spawner_requests;
    spawner_requests = &r;
    pthread_cond_signal(&spawner_wanted);
    while (!r.done) {
        pthread_cond_wait(&spawner_done, &spawner_lock);
    }
    pthread_mutex_unlock(&spawner_lock);
    return r.result;
}
