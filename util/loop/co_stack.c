/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/co_stack.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

#define CO_SLAB_SIZE (CO_SLAB_STACKS * CO_STACK_SIZE)
#define CO_SLAB_FULL ((1u << CO_SLAB_STACKS) - 1)
#if defined(__SANITIZE_THREAD__)
#define CO_STACKS_MAX 4096u /* TSan supports 8,128 threads and fibers */
#else
#define CO_STACKS_MAX 65536u /* 16 GiB of addresses */
#endif
#define CO_MAPPINGS_DEFAULT 65530u /* the kernel's default */

/* A slab is on the list while it has a free stack. */
struct CoSlab {
    CoSlab *next, *prev;
    uint8_t *memory;
    uint32_t used;    /* bit n: stack n is allocated */
    uint32_t guarded; /* bit n: stack n has its guard, which stays until the slab is unmapped */
    uint32_t split;   /* bit n: that guard splits the mapping */
};

static pthread_mutex_t slab_lock = PTHREAD_MUTEX_INITIALIZER;
static CoSlab *slabs_free;  /* slabs with a free stack */
static unsigned slab_count; /* mapped slabs */
static unsigned stack_count;
static unsigned stacks_max; /* 0: not computed yet */
static unsigned splits_max; /* guards that may split a mapping */
static unsigned split_count;

/* ---- system calls ---- */

#ifdef SKIFF_TESTING
static CoStackFault *stack_fault;

void co_stack_set_fault(CoStackFault *fault)
{
    pthread_mutex_lock(&slab_lock);
    stack_fault = fault;
    stacks_max = 0;
    pthread_mutex_unlock(&slab_lock);
}

static bool stack_call_fails(CoStackCall call)
{
    int error = stack_fault != NULL ? stack_fault(call) : 0;
    errno = error != 0 ? error : errno;
    return error != 0;
}
#else
#define stack_call_fails(call) false
#endif

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static unsigned mappings_max(void)
{
    unsigned value = 0;
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
    if (f != NULL) {
        if (fscanf(f, "%u", &value) != 1) {
            value = 0;
        }
        fclose(f);
    }
    return value != 0 ? value : CO_MAPPINGS_DEFAULT;
}

static bool guard_call(uint8_t *base, size_t size)
{
    return !stack_call_fails(CO_STACK_GUARD) && madvise(base, size, MADV_GUARD_INSTALL) == 0;
}

/* A guard that splits costs two mappings; such guards may use a quarter of all mappings. Without
 * the other kind of guard there are no further stacks. */
static void limit_compute(void)
{
    splits_max = MAX(MIN(CO_STACKS_MAX, mappings_max() / 8), CO_SLAB_STACKS);
    bool light = guard_call(NULL, 0) || errno != EINVAL; /* an empty range tests for support */
    stacks_max = light ? CO_STACKS_MAX : splits_max;
}

static bool guard_install(CoSlab *slab, unsigned n)
{
    uint8_t *base = slab->memory + n * CO_STACK_SIZE;
    if (split_count < splits_max && !stack_call_fails(CO_STACK_PROTECT) &&
        mprotect(base, page_size(), PROT_NONE) == 0) {
        slab->split |= 1u << n;
        split_count++;
        return true;
    }
    return guard_call(base, page_size());
}

/* ---- slabs ---- */

static void slab_list(CoSlab *slab)
{
    slab->prev = NULL;
    slab->next = slabs_free;
    if (slabs_free != NULL) {
        slabs_free->prev = slab;
    }
    slabs_free = slab;
}

static void slab_unlist(CoSlab *slab)
{
    if (slab->next != NULL) {
        slab->next->prev = slab->prev;
    }
    if (slab->prev != NULL) {
        slab->prev->next = slab->next;
    } else {
        slabs_free = slab->next;
    }
}

static CoSlab *slab_map(void)
{
    if (stack_call_fails(CO_STACK_MAP)) {
        return NULL;
    }
    void *memory = mmap(NULL, CO_SLAB_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    /* With a huge page each first access to a stack would cost 2 MiB. */
    madvise(memory, CO_SLAB_SIZE, MADV_NOHUGEPAGE);
    CoSlab *slab = g_new0(CoSlab, 1);
    slab->memory = memory;
    slab_count++;
    slab_list(slab);
    return slab;
}

static void slab_unmap(CoSlab *slab)
{
    slab_unlist(slab);
    split_count -= (unsigned)__builtin_popcount(slab->split);
    munmap(slab->memory, CO_SLAB_SIZE);
    g_free(slab);
    slab_count--;
}

static unsigned stack_max(CoStackUse use)
{
    if (stacks_max == 0) {
        limit_compute();
    }
    return use == CO_STACK_FOR_REQUEST ? stacks_max - stacks_max / 8 : stacks_max;
}

static bool stack_allowed(CoStackUse use)
{
    unsigned max = stack_max(use);
    if (stack_count >= max) {
        return false;
    }
    return slabs_free != NULL || (slab_count + 1) * CO_SLAB_STACKS <= stacks_max;
}

static bool stack_take(CoStack *stack, CoStackUse use)
{
    if (!stack_allowed(use)) {
        return false;
    }
    CoSlab *slab = slabs_free != NULL ? slabs_free : slab_map();
    if (slab == NULL) {
        return false;
    }
    unsigned n = (unsigned)__builtin_ctz(~slab->used);
    uint8_t *base = slab->memory + n * CO_STACK_SIZE;
    if ((slab->guarded >> n & 1) == 0 && !guard_install(slab, n)) {
        if (slab->used == 0) {
            slab_unmap(slab);
        }
        return false;
    }
    slab->guarded |= 1u << n;
    slab->used |= 1u << n;
    if (slab->used == CO_SLAB_FULL) {
        slab_unlist(slab);
    }
    stack_count++;
    *stack = (CoStack){.base = base, .slab = slab};
    return true;
}

bool co_stack_alloc(CoStack *stack, CoStackUse use)
{
    pthread_mutex_lock(&slab_lock);
    bool ok = stack_take(stack, use);
    pthread_mutex_unlock(&slab_lock);
#ifdef __SANITIZE_THREAD__
    if (ok) {
        stack->fiber = __tsan_create_fiber(0);
    }
#endif
    return ok;
}

void co_stack_free(CoStack *stack)
{
    CoSlab *slab = stack->slab;
#ifdef __SANITIZE_ADDRESS__
    /* Frames leave poison behind; ASan would report it in the next user of the addresses. */
    __asan_unpoison_memory_region(stack->base, CO_STACK_SIZE);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_destroy_fiber(stack->fiber);
#endif
    madvise(stack->base + page_size(), CO_STACK_SIZE - page_size(), MADV_DONTNEED);
    pthread_mutex_lock(&slab_lock);
    if (slab->used == CO_SLAB_FULL) {
        slab_list(slab);
    }
    slab->used &= ~(1u << (size_t)(stack->base - slab->memory) / CO_STACK_SIZE);
    stack_count--;
    /* One empty slab is kept, so that alternating allocation and free map nothing. */
    if (slab->used == 0 && (slab->next != NULL || slab->prev != NULL)) {
        slab_unmap(slab);
    }
    pthread_mutex_unlock(&slab_lock);
    *stack = (CoStack){0};
}

unsigned co_stack_request_max(void)
{
    pthread_mutex_lock(&slab_lock);
    unsigned max = stack_max(CO_STACK_FOR_REQUEST);
    pthread_mutex_unlock(&slab_lock);
    return max;
}

unsigned co_stack_count(void)
{
    pthread_mutex_lock(&slab_lock);
    unsigned count = stack_count;
    pthread_mutex_unlock(&slab_lock);
    return count;
}
