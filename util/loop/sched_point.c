/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/sched_point.h"

#ifdef SKIFF_TESTING
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "util/loop/thread.h"

#define SCHED_POINT_MAX 64

typedef struct SchedPoint {
    const char *name;
    bool held;
    unsigned blocked; /* threads blocked here */
    unsigned count;
    void (*hook)(void *arg, const void *object);
    void *hook_arg;
} SchedPoint;

static pthread_mutex_t point_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t point_changed = PTHREAD_COND_INITIALIZER;
static SchedPoint points[SCHED_POINT_MAX];
static unsigned _Atomic point_count; /* 0 while no test uses any: the hot path returns early */

static SchedPoint *sched_point_find(const char *name)
{
    for (unsigned i = 0; i < point_count; i++) {
        if (strcmp(points[i].name, name) == 0) {
            return &points[i];
        }
    }
    return NULL;
}

static SchedPoint *sched_point_get(const char *name)
{
    SchedPoint *p = sched_point_find(name);
    if (p == NULL) {
        if (point_count == SCHED_POINT_MAX) {
            bug_abort("too many schedule points");
        }
        p = &points[point_count];
        *p = (SchedPoint){.name = name};
        point_count++;
    }
    return p;
}

void sched_point_hit(const char *name, const void *object)
{
    if (point_count == 0) {
        return;
    }
    pthread_mutex_lock(&point_lock);
    SchedPoint *p = sched_point_find(name);
    if (p == NULL) {
        pthread_mutex_unlock(&point_lock);
        return;
    }
    p->count++;
    void (*hook)(void *, const void *) = p->hook;
    void *hook_arg = p->hook_arg;
    while (p->held) {
        p->blocked++;
        pthread_cond_broadcast(&point_changed);
        pthread_cond_wait(&point_changed, &point_lock);
        p->blocked--;
    }
    pthread_mutex_unlock(&point_lock);
    if (hook != NULL) {
        hook(hook_arg, object);
    }
}

void sched_point_hold(const char *name)
{
    pthread_mutex_lock(&point_lock);
    sched_point_get(name)->held = true;
    pthread_mutex_unlock(&point_lock);
}

void sched_point_await(const char *name)
{
    pthread_mutex_lock(&point_lock);
    SchedPoint *p = sched_point_get(name);
    while (p->blocked == 0) {
        pthread_cond_wait(&point_changed, &point_lock);
    }
    pthread_mutex_unlock(&point_lock);
}

void sched_point_release(const char *name)
{
    pthread_mutex_lock(&point_lock);
    sched_point_get(name)->held = false;
    pthread_cond_broadcast(&point_changed);
    pthread_mutex_unlock(&point_lock);
}

void sched_point_hook(const char *name, void (*fn)(void *arg, const void *object), void *arg)
{
    pthread_mutex_lock(&point_lock);
    SchedPoint *p = sched_point_get(name);
    p->hook = fn;
    p->hook_arg = arg;
    pthread_mutex_unlock(&point_lock);
}

unsigned sched_point_count(const char *name)
{
    pthread_mutex_lock(&point_lock);
    unsigned count = sched_point_get(name)->count;
    pthread_mutex_unlock(&point_lock);
    return count;
}

void sched_point_reset(void)
{
    pthread_mutex_lock(&point_lock);
    for (unsigned i = 0; i < point_count; i++) {
        points[i].held = false;
        points[i].hook = NULL;
        points[i].count = 0;
    }
    pthread_cond_broadcast(&point_changed);
    pthread_mutex_unlock(&point_lock);
}
#else
typedef int sched_point_none; /* a translation unit is not empty */
#endif
