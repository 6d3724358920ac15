/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: frees the host's memory behind pages that the guest has given. virtio_balloon.h has
 * the states. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_balloon.h"
#include "util/iov.h"
#include "util/loop/sched_point.h"
#include "util/loop/worker.h"

/* Frees take no time without limit, but stay apart from files that hang. */
static WorkerLane balloon_lane;

/* ---- in a worker ---- */

static RUNS_IN_WORKER void balloon_discard(VirtioBalloonServer *s, uint64_t gpa, uint64_t len)
{
    int ret = guest_ram_discard(s->balloon->base.vdev.dev->env->ram, gpa, len);
    /* Memory that is being saved is kept: the guest's page then holds on to the host's, which is all that it costs. */
    if (ret < 0 && ret != -EBUSY && s->failed == 0) {
        s->failed = ret;
        s->failed_gpa = gpa;
    }
}

static int balloon_compare_pfns(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* One call for each run of pages. A driver gives its pages in any order. A run that is not wholly RAM is
 * freed page by page, so that only the pages in error are skipped. */
static RUNS_IN_WORKER void balloon_discard_run(VirtioBalloonServer *s, uint32_t first,
                                               uint32_t pages)
{
    uint64_t gpa = (uint64_t)first << VIRTIO_BALLOON_PFN_SHIFT;
    const GuestRam *ram = s->balloon->base.vdev.dev->env->ram;
    if (guest_ram_map(ram, gpa, (uint64_t)pages << VIRTIO_BALLOON_PFN_SHIFT, true) != NULL) {
        balloon_discard(s, gpa, (uint64_t)pages << VIRTIO_BALLOON_PFN_SHIFT);
        return;
    }
    for (uint32_t i = 0; i < pages; i++) {
        balloon_discard(s, gpa + ((uint64_t)i << VIRTIO_BALLOON_PFN_SHIFT),
                        1u << VIRTIO_BALLOON_PFN_SHIFT);
    }
}

static int balloon_free_pages(void *opaque)
{
    VirtioBalloonServer *s = opaque;
    enter_worker();
    SP("virtio_balloon.worker", s->balloon);
    qsort(s->pfns, s->count, sizeof(s->pfns[0]), balloon_compare_pfns);
    for (unsigned i = 0; i < s->count;) {
        unsigned end = i + 1;
        while (end < s->count && s->pfns[end] - s->pfns[end - 1] <= 1) {
            end++;
        }
        balloon_discard_run(s, s->pfns[i], s->pfns[end - 1] - s->pfns[i] + 1);
        i = end;
    }
    return 0;
}

static int balloon_free_range(void *opaque)
{
    VirtioBalloonServer *s = opaque;
    enter_worker();
    SP("virtio_balloon.worker", s->balloon);
    balloon_discard(s, s->gpa, s->len);
    return 0;
}

/* ---- home loop ---- */

/* Runs a piece. False: the queues stop or are broken. */
static coroutine_fn RUNS_IN_LOOP bool balloon_co_run_piece(VirtioBalloonServer *s,
                                                           int (*fn)(void *opaque))
{
    VirtioDevice *vdev = &s->balloon->base.vdev;
    s->failed = 0;
    co_run_in_lane(&balloon_lane, fn, s);
    if (s->failed == -EFAULT) {
        virtio_guest_error(vdev, "page at 0x%" PRIx64 " is not RAM", s->failed_gpa);
    } else if (s->failed != 0) {
        log_limited(&vdev->dev->log_limit, "%s: the memory at 0x%" PRIx64 " cannot be freed: %s",
                    device_label(vdev->dev), s->failed_gpa, g_strerror(-s->failed));
    }
    return virtio_taking(vdev);
}

static coroutine_fn RUNS_IN_LOOP bool balloon_co_inflate(VirtioBalloonServer *s,
                                                         const VirtQueueElement *e)
{
    for (uint64_t done = 0; done < e->out_len;) {
        size_t bytes = iov_copy_to_buf(e->out, e->out_num, done, s->pfns, sizeof(s->pfns));
        s->count = (unsigned)(bytes / sizeof(s->pfns[0]));
        if (s->count == 0) {
            break; /* part of a number */
        }
        trace_virtio_balloon_pages(device_label(s->balloon->base.vdev.dev), s->count, s->pfns[0]);
        done += bytes;
        if (!balloon_co_run_piece(s, balloon_free_pages)) {
            return false;
        }
    }
    return true;
}

/* A guest that poisons free pages has to find the pattern there, which a freed page has not. */
static RUNS_IN_LOOP bool balloon_keeps_reports(const VirtioBalloon *b)
{
    return virtio_has_feature(&b->base.vdev, VIRTIO_BALLOON_F_PAGE_POISON) &&
           __atomic_load_n(&b->state.poison_val, __ATOMIC_RELAXED) != 0;
}

static coroutine_fn RUNS_IN_LOOP bool balloon_co_report(VirtioBalloonServer *s,
                                                        const VirtQueueElement *e)
{
    VirtioBalloon *b = s->balloon;
    for (unsigned i = 0; i < e->in_num && !balloon_keeps_reports(b); i++) {
        uint64_t gpa, len = e->in[i].iov_len;
        bool found = guest_ram_find_host(b->base.vdev.dev->env->ram, e->in[i].iov_base, &gpa);
        g_assert(found); /* the queue has mapped it */
        trace_virtio_balloon_report(device_label(b->base.vdev.dev), gpa, len);
        for (uint64_t done = 0; done < len; done += s->len) {
            s->gpa = gpa + done;
            s->len = MIN(len - done, VIRTIO_BALLOON_PIECE_BYTES);
            if (!balloon_co_run_piece(s, balloon_free_range)) {
                return false;
            }
        }
    }
    return true;
}

static void balloon_server(void *opaque)
{
    VirtioBalloonServer *s = opaque;
    VirtioDevice *vdev = &s->balloon->base.vdev;
    enter_coroutine();
    enter_loop(vdev->home);
    do {
        VirtQueueElement *e = s->buffer;
        bool done =
            s->queue == VIRTIO_BALLOON_INFLATE ? balloon_co_inflate(s, e) : balloon_co_report(s, e);
        if (!done) {
            s->buffer = NULL;
            virtio_unpop(vdev, s->queue, e);
            return;
        }
        virtio_complete(vdev, s->queue, e, 0);
        s->buffer = virtio_pop(vdev, s->queue);
    } while (s->buffer != NULL);
    virtio_look(vdev, s->queue); /* for a buffer that came while kicks were off */
}

void virtio_balloon_server_init(VirtioBalloonServer *s, VirtioBalloon *b, unsigned queue)
{
    *s = (VirtioBalloonServer){.balloon = b, .queue = queue};
}

void virtio_balloon_serve(VirtioBalloonServer *s)
{
    VirtioDevice *vdev = &s->balloon->base.vdev;
    if (s->buffer == NULL && (s->buffer = virtio_pop(vdev, s->queue)) != NULL) {
        co_start(vdev->home, balloon_server, s);
    }
}
