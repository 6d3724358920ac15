/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What features of io_uring cost or save that block/engine/engine_io_uring.c does not use: random
 * reads of 4 KiB with O_DIRECT, processor time of this thread and requests a second for each
 * feature and depth. All variants run in turn, several times; the medians are printed.
 *
 * usage: bench_uring FILE   (a file of at least 64 MiB with contents everywhere)
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define URING_BLOCK 4096u
#define URING_BUFFERS ((size_t)256 << 20)
#define URING_REQUESTS 20000u
#define URING_ROUNDS 5u
#define URING_BATCH 8u /* requests of one system call, as in the engine */

typedef enum UringFeature {
    URING_FILES = 1,  /* registered file */
    URING_MEMORY = 2, /* registered buffers, which locks them in memory */
    URING_ONE_WAIT =
        4 /* submits and waits in one call; the loop's epoll set is polled by the ring */,
    URING_DEFER = 8,   /* completions only when this thread waits for them */
    URING_IOPOLL = 16, /* completions by polling the disk */
} UringFeature;

static const struct {
    const char *name;
    unsigned features;
} uring_variants[] = {
    {"as the engine", 0},
    {"registered file", URING_FILES},
    {"registered buffers", URING_MEMORY},
    {"one wait", URING_ONE_WAIT},
    {"one wait, DEFER_TASKRUN", URING_ONE_WAIT | URING_DEFER},
    {"IOPOLL", URING_IOPOLL},
};

static const unsigned uring_depths[] = {1, 32, 128};

typedef struct UringResult {
    double rate, cpu_us;
    int error;
} UringResult;

typedef struct UringRun {
    struct io_uring ring;
    unsigned features, depth;
    int file, epoll;
    uint64_t blocks;
    uint8_t *memory;
    uint32_t random;
    unsigned issued, done;
} UringRun;

static double uring_clock(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int uring_setup(UringRun *run)
{
    struct io_uring_params params = {.cq_entries = 1024};
    params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG;
    params.flags |= run->features & URING_DEFER
                        ? 1u << 13 /* DEFER_TASKRUN, not in Debian's header */
                        : IORING_SETUP_COOP_TASKRUN;
    params.flags |= run->features & URING_IOPOLL ? IORING_SETUP_IOPOLL : 0;
    int ret = io_uring_queue_init_params(256, &run->ring, &params);
    if (ret != 0) {
        return ret;
    }
    io_uring_register_ring_fd(&run->ring);
    if (run->features & URING_FILES) {
        ret = io_uring_register_files(&run->ring, &run->file, 1);
    }
    if (ret == 0 && run->features & URING_MEMORY) {
        struct iovec iov = {run->memory, URING_BUFFERS};
        ret = io_uring_register_buffers(&run->ring, &iov, 1);
    }
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run->features & URING_ONE_WAIT) {
        io_uring_prep_poll_multishot(io_uring_get_sqe(&run->ring), run->epoll, EPOLLIN);
    } else {
        struct epoll_event event = {.events = EPOLLIN};
        epoll_ctl(run->epoll, EPOLL_CTL_ADD, run->ring.ring_fd, &event);
    }
    return ret;
}

static void uring_prepare(UringRun *run)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&run->ring);
    run->random = run->random * 1664525u + 1013904223u;
    uint64_t offset = (run->random >> 4) % run->blocks * URING_BLOCK;
    uint8_t *to =
        run->memory + (size_t)(run->random >> 3) % (URING_BUFFERS / URING_BLOCK) * URING_BLOCK;
    int file = run->features & URING_FILES ? 0 : run->file;
    if (run->features & URING_MEMORY) {
        io_uring_prep_read_fixed(sqe, file, to, URING_BLOCK, offset, 0);
    } else {
        io_uring_prep_read(sqe, file, to, URING_BLOCK, offset);
    }
    sqe->flags |= run->features & URING_FILES ? IOSQE_FIXED_FILE : 0;
    io_uring_sqe_set_data(sqe, run);
    run->issued++;
}

static int uring_wait(UringRun *run)
{
    int ret;
    if (run->features & (URING_ONE_WAIT | URING_IOPOLL)) {
        ret = io_uring_submit_and_wait(&run->ring, 1);
    } else {
        ret = io_uring_submit(&run->ring);
        if (ret >= 0 && io_uring_cq_ready(&run->ring) == 0) {
            struct epoll_event event;
            epoll_wait(run->epoll, &event, 1, -1);
        }
        if (IO_URING_READ_ONCE(*run->ring.sq.kflags) & IORING_SQ_TASKRUN) {
            io_uring_get_events(&run->ring);
        }
    }
    return ret == -EINTR ? 0 : MIN(ret, 0);
}

/* Returns 0 or the first request's -errno. */
static int uring_reap(UringRun *run)
{
    struct io_uring_cqe *cqes[128];
    unsigned count = io_uring_peek_batch_cqe(&run->ring, cqes, G_N_ELEMENTS(cqes));
    int ret = 0;
    for (unsigned i = 0; i < count; i++) {
        if (io_uring_cqe_get_data(cqes[i]) == run) {
            run->done++;
            ret = cqes[i]->res == (int)URING_BLOCK ? ret : MIN(cqes[i]->res, -1);
        }
    }
    io_uring_cq_advance(&run->ring, count);
    return ret;
}

static int uring_loop(UringRun *run)
{
    int ret = 0;
    while (run->done < URING_REQUESTS && ret == 0) {
        while (run->issued < URING_REQUESTS && run->issued - run->done < run->depth) {
            uring_prepare(run);
            if (io_uring_sq_ready(&run->ring) >= URING_BATCH) {
                io_uring_submit(&run->ring);
            }
        }
        ret = uring_wait(run);
        ret = ret == 0 ? uring_reap(run) : ret;
    }
    return ret;
}

static UringResult uring_measure(UringRun run)
{
    UringResult result = {.error = uring_setup(&run)};
    double wall = uring_clock(CLOCK_MONOTONIC), cpu = uring_clock(CLOCK_THREAD_CPUTIME_ID);
    if (result.error == 0) {
        result.error = uring_loop(&run);
    }
    result.rate = URING_REQUESTS / (uring_clock(CLOCK_MONOTONIC) - wall);
    result.cpu_us = (uring_clock(CLOCK_THREAD_CPUTIME_ID) - cpu) * 1e6 / URING_REQUESTS;
    io_uring_queue_exit(&run.ring);
    close(run.epoll);
    return result;
}

static int uring_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double uring_median(double *values)
{
    qsort(values, URING_ROUNDS, sizeof(*values), uring_compare);
    return values[URING_ROUNDS / 2];
}

static void uring_measure_depth(UringRun run)
{
    double rate[G_N_ELEMENTS(uring_variants)][URING_ROUNDS];
    double cpu[G_N_ELEMENTS(uring_variants)][URING_ROUNDS];
    int error[G_N_ELEMENTS(uring_variants)] = {0};
    for (unsigned round = 0; round < URING_ROUNDS; round++) {
        for (unsigned v = 0; v < G_N_ELEMENTS(uring_variants); v++) {
            run.features = uring_variants[v].features;
            UringResult result = error[v] == 0 ? uring_measure(run) : (UringResult){0};
            error[v] = error[v] == 0 ? result.error : error[v];
            rate[v][round] = result.rate;
            cpu[v][round] = result.cpu_us;
        }
    }
    for (unsigned v = 0; v < G_N_ELEMENTS(uring_variants); v++) {
        if (error[v] != 0) {
            printf("%s; %u; %s; -\n", uring_variants[v].name, run.depth, strerror(-error[v]));
        } else {
            printf("%s; %u; %.0f; %.2f\n", uring_variants[v].name, run.depth, uring_median(rate[v]),
                   uring_median(cpu[v]));
        }
    }
}

int main(int argc, char **argv)
{
    UringRun run = {.file = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC) : -1};
    if (run.file < 0) {
        fprintf(stderr, argc == 2 ? "bench_uring: %s: %s\n" : "usage: bench_uring FILE\n", argv[1],
                strerror(errno));
        return 1;
    }
    run.blocks = (uint64_t)lseek(run.file, 0, SEEK_END) / URING_BLOCK;
    run.memory =
        mmap(NULL, URING_BUFFERS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (run.blocks == 0 || run.memory == MAP_FAILED) {
        fprintf(stderr, "bench_uring: the file is empty, or there is no memory\n");
        return 1;
    }
    memset(run.memory, 1, URING_BUFFERS);
    for (unsigned i = 0; i < G_N_ELEMENTS(uring_depths); i++) {
        run.depth = uring_depths[i];
        uring_measure_depth(run);
    }
    return 0;
}
