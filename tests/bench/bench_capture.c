/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_capture FILE MIB...: what a frozen copy of RAM costs. For each size, with small and with huge pages, one line:
 * MiB, kind of pages, ms of the fork, MiB/s of saving the copy to FILE through the block layer, MiB/s of plain
 * write() of the same memory to the same file. Both end with the data on stable storage.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "block/drivers.h"
#include "migration/ram/capture_fork.h"
#include "migration/ram/ram_image.h"
#include "util/loop/iothread.h"

typedef struct Bench {
    const char *path;
    char **sizes;
    AioContext *main, *home;
    GuestRam ram;
    BlockBackend *blk;
    CaptureFork *copy;
    RamImage image;
    int ret;
} Bench;

static double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void bench_check(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int bench_fork(void *opaque)
{
    Bench *b = opaque;
    enter_worker();
    b->copy = capture_fork_begin(&b->ram, NULL);
    return b->copy != NULL ? 0 : -1;
}

static int bench_free(void *opaque)
{
    enter_worker();
    capture_fork_free(opaque);
    return 0;
}

static void bench_save(void *opaque)
{
    Bench *b = opaque;
    enter_coroutine();
    enter_iothread(b->home);
    RamImageSave s = {
        .blk = b->blk, .read = capture_fork_read, .opaque = b->copy, .target_is_zero = true};
    b->ret = ram_image_co_save(&s, &b->image);
}

static int bench_plain(void *opaque)
{
    Bench *b = opaque;
    enter_worker();
    int fd = open(b->path, O_WRONLY);
    bench_check(fd >= 0, b->path);
    for (uint64_t at = 0; at < b->ram.blocks[0].size; at += 1 << 20) {
        bench_check(pwrite(fd, b->ram.blocks[0].host + at, 1 << 20, (off_t)at) == 1 << 20,
                    "pwrite");
    }
    bench_check(fdatasync(fd) == 0, "fdatasync");
    return close(fd);
}

static coroutine_fn RUNS_IN_MAIN void bench_open(Bench *b, uint64_t bytes)
{
    GError *error = NULL;
    bench_check(truncate(b->path, 0) == 0 && truncate(b->path, (off_t)bytes) == 0, b->path);
    g_autofree char *text = g_strdup_printf("file,filename=%s", b->path);
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", &error);
    BlockNode *n = block_co_open(d, b->home, &error);
    b->blk = n != NULL ? blk_co_new("state", n, true, &error) : NULL;
    bench_check(b->blk != NULL, "open");
    block_co_unref(n);
}

static coroutine_fn RUNS_IN_MAIN void bench_one(Bench *b, uint64_t bytes, bool huge)
{
    uint8_t *map =
        mmap(NULL, bytes + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bench_check(map != MAP_FAILED, "mmap");
    uint8_t *host = (uint8_t *)(((uintptr_t)map + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
    madvise(host, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (uint64_t at = 0; at < bytes; at += 64) {
        *(uint64_t *)(host + at) = at + 1;
    }
    b->ram = (GuestRam){0};
    guest_ram_add(&b->ram, &(RamBlock){.size = bytes, .host = host, .fd = -1, .name = "ram"});
    bench_check(ram_image_plan(&b->image, &b->ram, NULL), "plan");
    bench_open(b, b->image.bytes);
    bench_check(co_run_in_worker(bench_fork, b) == 0, "fork");
    double at = bench_now();
    co_call_lasting_in(b->home, bench_save, b);
    double saved = bench_now() - at;
    bench_check(b->ret == 0, "save");
    double pause = (double)capture_fork_pause_ns(b->copy) / 1e6;
    co_run_in_worker(bench_free, b->copy);
    blk_co_free(b->blk);
    bench_check(truncate(b->path, 0) == 0 && truncate(b->path, (off_t)bytes) == 0, b->path);
    at = bench_now();
    co_run_in_worker(bench_plain, b);
    double plain = bench_now() - at, mib = (double)(bytes >> 20);
    printf("%6.0f MiB %-5s fork %8.2f ms  save %7.0f MiB/s  plain %7.0f MiB/s\n", mib,
           huge ? "huge" : "small", pause, mib / saved, mib / plain);
    munmap(map, bytes + (2 << 20));
}

static void bench_run(void *opaque)
{
    Bench *b = opaque;
    enter_coroutine();
    enter_main();
    for (char **size = b->sizes; *size != NULL; size++) {
        bench_one(b, strtoull(*size, NULL, 10) << 20, true);
        bench_one(b, strtoull(*size, NULL, 10) << 20, false);
    }
    aio_context_quit(b->main);
}

int main(int argc, char **argv)
{
    GError *error = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_capture FILE MIB...\n");
        return 2;
    }
    thread_adopt_role(THREAD_MAIN, "main");
    block_setup(block_drivers);
    Bench b = {.path = argv[1], .sizes = argv + 2, .main = aio_context_new("main", &error)};
    IoThread *io = iothread_new("io0", 0, &error);
    int fd = open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    bench_check(b.main != NULL && io != NULL && fd >= 0, argv[1]);
    close(fd);
    b.home = iothread_context(io);
    co_start(b.main, bench_run, &b);
    aio_context_run(b.main);
    iothread_free(io);
    aio_context_free(b.main);
    return 0;
}
