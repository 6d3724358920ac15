/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img's main(): finds the subcommand and runs it on the main loop. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "block/drivers.h"
#include "block/img/img_serve.h"
#include "util/loop/iothread.h"
#include "util/loop/worker.h"

static const struct {
    const char *name;
    int (*co_run)(Img *img); /* coroutine in main */
    const char *usage;
} commands[] = {
    {"amend", img_co_amend,
     "-o OPTIONS [-f FMT] [-t CACHE] [-p] [-q] [--force] [--image-opts] FILENAME"},
    {"bench", img_co_bench,
     "[-f FMT] [-c COUNT] [-d DEPTH] [-s SIZE] [-S STEP] [-o OFFSET] [-w] [--pattern=BYTE] "
     "[--flush-interval=N] [--no-drain] [-i threads|native|io_uring] [-n] [-t CACHE] [-q] [-U] "
     "[--image-opts] FILENAME"},
    {"bitmap", img_co_bitmap,
     "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b SOURCE_FILE "
     "[-F SOURCE_FMT]] [-g GRANULARITY] [-f FMT] [--image-opts] FILENAME BITMAP"},
    {"check", img_co_check,
     "[-r leaks|all] [-f FMT] [--output=human|json] [-T CACHE] [-q] [-U] [--image-opts] FILENAME"},
    {"commit", img_co_commit, "[-f FMT] [-t CACHE] [-b BASE] [-d] [-p] [-q] [-r RATE] FILENAME"},
    {"compare", img_co_compare,
     "[-f FMT] [-F FMT] [-T CACHE] [-p] [-q] [-s] [-U] [--image-opts] FILENAME1 FILENAME2"},
    {"convert", img_co_convert,
     "[-f FMT] [-O FMT] [-o OPTIONS] [-B BACKING] [-F FMT] [-l SNAPSHOT] [-m COROUTINES] [-n] [-p] "
     "[-q] [-r RATE] [-S SIZE] [-t CACHE] "
     "[-T CACHE] [-c] [-C] [-W] [-U] "
     "[--image-opts] [--target-image-opts] [--target-is-zero] [--salvage] [--bitmaps "
     "[--skip-broken-bitmaps]] FILENAME... OUTPUT"},
    {"create", img_co_create,
     "[-f FMT] [-b BACKING] [-F BACKING_FMT] [-u] [-o OPTIONS] [-q] FILENAME [SIZE]"},
    {"info", img_co_info,
     "[-f FMT] [--output=human|json] [--backing-chain] [-U] [--image-opts] FILENAME"},
    {"io", img_co_io,
     "[-f FMT] [-c COMMAND]... [-r] [-n] [-t CACHE] [-d ignore|unmap] [-U] [--image-opts] "
     "FILENAME"},
    {"map", img_co_map,
     "[-f FMT] [--start-offset=N] [--max-length=N] [--output=human|json] [-U] [--image-opts] "
     "FILENAME"},
    {"measure", img_co_measure,
     "[-f FMT] [-O FMT] [-o OPTIONS] [-l SNAPSHOT] [--output=human|json] [-U] [--image-opts] "
     "[--size=N | FILENAME]"},
    {"rebase", img_co_rebase,
     "[-f FMT] [-t CACHE] [-T CACHE] [-p] [-q] [-u] [-U] [--image-opts] -b BACKING [-F FMT] "
     "FILENAME"},
    {"resize", img_co_resize,
     "[-f FMT] [--preallocation=MODE] [--shrink] [-q] [--image-opts] FILENAME [+|-]SIZE"},
    {"serve", img_co_serve,
     "[-f FMT] [-r] [-k SOCKET | -b ADDRESS -p PORT] [-x NAME] [-D TEXT] [-e CLIENTS] [-t] [-B "
     "BITMAP]... [-A] [-l SNAPSHOT] [--cache=CACHE] [-n] [--aio=AIO] [--discard=ignore|unmap] "
     "[--object=tls-creds-...] [--tls-creds=ID] [--handshake-limit=SECONDS] [--pid-file=FILE] "
     "[--fork] [-v] [-U] [--image-opts] FILENAME"},
    {"snapshot", img_co_snapshot, "[-U] [-q] [--image-opts] -l FILENAME"},
    {"state", img_co_state, "[--output=human|json] [--brief] [-q] [-U] [--image-opts] FILENAME"},
};

typedef struct ImgRun {
    Img img;
    AioContext *ctx;
    int (*co_run)(Img *img);
    int status;
} ImgRun;

static void img_print_help(void)
{
    puts("usage: skiff-img COMMAND [OPTION]...\n\nCommands, with the options of qemu-img:");
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        printf("  %s %s\n", commands[i].name, commands[i].usage);
    }
    fputs("\nFormats:", stdout);
    for (const char *const *name = block_driver_names(); *name != NULL; name++) {
        printf(" %s", *name);
    }
    putchar('\n');
}

static void img_run(void *opaque)
{
    ImgRun *r = opaque;
    enter_coroutine();
    enter_main();
    r->status = r->co_run(&r->img);
    aio_context_quit(r->ctx);
}

static int img_run_command(ImgRun *r)
{
    g_autoptr(GError) error = NULL;
    thread_adopt_role(THREAD_MAIN, "main");
    r->ctx = aio_context_new("main", &error);
    IoThread *thread =
        r->ctx != NULL && worker_pool_start(&error) ? iothread_new("img", 0, &error) : NULL;
    if (thread == NULL) {
        img_error("%s", error->message);
        return 1;
    }
    r->img.home = iothread_context(thread);
    co_start(r->ctx, img_run, r);
    aio_context_run(r->ctx);
    img_free_objects(&r->img);
    iothread_free(thread);
    aio_context_free(r->ctx);
    return r->status;
}

/* Output that could not be written is a failure. */
static int img_end(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        img_error("standard output: %s", g_strerror(errno));
        return status != 0 ? status : 1;
    }
    return status;
}

int main(int argc, char **argv)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) { /* else an image would get the number */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
            return 1;
        }
    }
    signal(SIGXFSZ, SIG_IGN);
    block_setup(block_drivers);
    if (argc < 2) {
        return img_usage_error("Not enough arguments");
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        img_print_help();
        return img_end(0);
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("skiff-img version " SKIFF_VERSION);
        return img_end(0);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            ImgRun r = {
                .img = {.argc = argc - 1, .argv = argv + 1, .print_help = img_print_help},
                .co_run = commands[i].co_run,
            };
            if (r.co_run == img_co_serve && !img_serve_fork(argc - 1, argv + 1, &r.status)) {
                return r.status;
            }
            return img_end(img_run_command(&r));
        }
    }
    return img_usage_error("Command not found: %s", argv[1]);
}
