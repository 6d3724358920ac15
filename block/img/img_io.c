/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skiff-img io: runs commands on an image, for tests. The commands, their options and what they
 * print are those of qemu-io. A command that fails makes the exit status 1; the next ones run.
 */
#include "block/img/img_io.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/node.h"

#define IO_BYTES_MAX ((uint64_t)1 << 30) /* of a buffer */

typedef struct IoCommand IoCommand;
typedef struct IoCall {
    ImgIo *io;
    const IoCommand *command;
    char **words; /* words[0] is the command's name */
    int count;
    bool ends; /* set by quit */
} IoCall;

struct IoCommand {
    const char *name, *short_name;
    bool (*co_run)(IoCall *c); /* in main. False: failed, which has been printed */
    int min, max;              /* arguments; max -1: any number */
    const char *usage;
    /* of requests */
    ImgIoOp op;
    bool background, vector;
};

/* ---- arguments ---- */

static bool io_parse_size(const char *text, uint64_t *size)
{
    if (opt_parse_size(text, 1, size, NULL) && *size <= BLOCK_SIZE_MAX) {
        return true;
    }
    printf("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n", text);
    return false;
}

static bool io_parse_pattern(const char *text, int *pattern)
{
    uint64_t value;
    if (!opt_parse_u64(text, 0, 255, &value, NULL)) {
        printf("%s is not a valid pattern byte\n", text);
        return false;
    }
    *pattern = (int)value;
    return true;
}

/* What the options of a read or write ask for. */
typedef struct IoFlags {
    bool zero, unmap, fua, compressed;
} IoFlags;

static void io_print_usage(const IoCommand *command)
{
    printf("%s %s\n", command->name, command->usage);
}

/* False: reported. */
static bool io_take_option(const IoCommand *command, ImgIoRequest *r, IoFlags *f, int letter,
                           const char *argument)
{
    switch (letter) {
    case 'C':
        return r->terse = true;
    case 'c':
        return f->compressed = true;
    case 'q':
        return r->quiet = true;
    case 'v':
        return r->dump = true;
    case 'f':
        return f->fua = true;
    case 'z':
        return f->zero = true;
    case 'u':
        return f->unmap = true;
    case 'P':
        return io_parse_pattern(argument, &r->pattern);
    case 's':
        return io_parse_size(argument, &r->check_skip);
    case 'l':
        return io_parse_size(argument, &r->check_bytes);
    default:
        io_print_usage(command);
        return false;
    }
}

static bool io_check_flags(const ImgIoRequest *r, const IoFlags *f)
{
    if (f->fua && f->compressed) {
        puts("-f and -b or -c cannot be specified at the same time");
        return false;
    }
    if (f->zero && r->pattern >= 0) {
        puts("Only one of -z, -P, and -s can be specified at the same time");
        return false;
    }
    if (f->unmap && !f->zero) {
        puts("-u requires -z to be specified");
        return false;
    }
    return true;
}

/* A compressed write has whole sectors. */
static bool io_check_sector(const char *what, uint64_t value)
{
    if (value % BLOCK_SECTOR_SIZE != 0) {
        printf("%" PRIu64 " is not a sector-aligned value for '%s'\n", value, what);
    }
    return value % BLOCK_SECTOR_SIZE == 0;
}

/* Parses options, an offset and lengths. @allowed as for getopt(). */
static RUNS_IN_MAIN bool io_parse_request(const IoCall *c, ImgIoRequest *r, const char *allowed)
{
    IoFlags f = {0};
    optind = 0; /* starts anew */
    for (int letter; (letter = getopt(c->count, c->words, allowed)) != -1;) {
        if (!io_take_option(c->command, r, &f, letter, optarg)) {
            return false;
        }
    }
    int left = c->count - optind;
    if (left < 2 || (left > 2 && !c->command->vector) || left - 1 > (int)IMG_IO_PIECES_MAX) {
        io_print_usage(c->command);
        return false;
    }
    if (!io_check_flags(r, &f) || !io_parse_size(c->words[optind], &r->offset)) {
        return false;
    }
    bool has_data = r->op == IMG_IO_READ || (r->op == IMG_IO_WRITE && !f.zero);
    for (int i = optind + 1; i < c->count; i++) {
        uint64_t *length = &r->lengths[r->pieces++];
        if (!io_parse_size(c->words[i], length)) {
            return false;
        }
        if (has_data && *length > IO_BYTES_MAX) {
            printf("length cannot exceed %" PRIu64 ", given %s\n", IO_BYTES_MAX, c->words[i]);
            return false;
        }
    }
    r->op = f.zero ? IMG_IO_WRITE_ZEROES : r->op;
    r->flags = (f.fua ? BLOCK_REQ_FUA : 0) | (f.unmap ? BLOCK_REQ_MAY_UNMAP : 0) |
               (f.compressed && !f.zero ? BLOCK_REQ_COMPRESSED : 0);
    return !f.compressed ||
           (io_check_sector("offset", r->offset) && io_check_sector("count", r->lengths[0]));
}

/* ---- commands ---- */

static coroutine_fn RUNS_IN_MAIN bool io_co_request(IoCall *c)
{
    static const char *const allowed[] = {
        [IMG_IO_READ] = "+CqvP:s:l:", [IMG_IO_WRITE] = "+CqfuzP:", [IMG_IO_DISCARD] = "+Cq"};
    const IoCommand *command = c->command;
    ImgIoRequest r = {.io = c->io,
                      .op = command->op,
                      .name = command->name,
                      .background = command->background,
                      .pattern = -1};
    bool compresses = command->op == IMG_IO_WRITE && !command->vector;
    return io_parse_request(c, &r, compresses ? "+CcqfuzP:" : allowed[command->op]) &&
           img_io_co_run(&r);
}

static coroutine_fn RUNS_IN_MAIN bool io_co_flush(IoCall *c)
{
    ImgIoRequest r = {.io = c->io, .op = IMG_IO_FLUSH, .name = "flush"};
    return img_io_co_run(&r);
}

static coroutine_fn RUNS_IN_MAIN bool io_co_wait(IoCall *c)
{
    return img_io_co_wait(c->io);
}

static coroutine_fn RUNS_IN_MAIN bool io_co_length(IoCall *c)
{
    g_autofree char *text = img_io_size_text((double)blk_size(c->io->blk));
    puts(text);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool io_co_truncate(IoCall *c)
{
    g_autoptr(GError) error = NULL;
    uint64_t size;
    if (!io_parse_size(c->words[1], &size)) {
        return false;
    }
    if (blk_co_truncate(c->io->blk, size, &error) < 0) {
        img_error("%s", error->message);
        return false;
    }
    return true;
}

typedef struct IoMap {
    BlockBackend *blk;
    uint64_t offset, end;
    BlockStatus status;
    int ret;
} IoMap;

static void io_map_at_home(void *opaque)
{
    IoMap *m = opaque;
    enter_coroutine();
    enter_iothread(blk_home(m->blk));
    m->ret = blk_co_block_status(m->blk, m->offset, m->end - m->offset, false, &m->status);
}

static void io_print_extent(uint64_t start, uint64_t bytes, bool allocated)
{
    g_autofree char *size = img_io_size_text((double)bytes);
    g_autofree char *at = img_io_size_text((double)start);
    if (bytes > 0) {
        printf("%s (0x%" PRIx64 ") bytes %s at offset %s (0x%" PRIx64 ")\n", size, bytes,
               allocated ? "    allocated" : "not allocated", at, start);
    }
}

/* What the image itself holds, without backing files. */
static coroutine_fn RUNS_IN_MAIN bool io_co_map(IoCall *c)
{
    IoMap m = {.blk = c->io->blk, .end = blk_size(c->io->blk)};
    uint64_t start = 0;
    bool allocated = false;
    for (; m.offset < m.end; m.offset += m.status.bytes) {
        co_call_in(blk_home(m.blk), io_map_at_home, &m);
        if (m.ret < 0) {
            printf("Failed to get allocation status: %s\n", g_strerror(-m.ret));
            return false;
        }
        bool here = (m.status.flags & BLOCK_STATUS_ALLOCATED) != 0;
        if (here != allocated) {
            io_print_extent(start, m.offset - start, allocated);
            start = m.offset;
            allocated = here;
        }
    }
    io_print_extent(start, m.end - start, allocated);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool io_co_sleep(IoCall *c)
{
    uint64_t ms;
    if (!opt_parse_u64(c->words[1], 0, 1000000000, &ms, NULL)) {
        printf("%s is not a valid argument\n", c->words[1]);
        return false;
    }
    co_sleep_ns((int64_t)ms * 1000000);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool io_co_quit(IoCall *c)
{
    c->ends = true;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool io_co_help(IoCall *c);

#define IO_READ_USAGE "[-Cqv] [-P pattern [-s off] [-l len]] off len"
#define IO_WRITE_USAGE "[-Cfquz] [-P pattern] off len"

static const IoCommand io_commands[] = {
    {"read", "r", io_co_request, 2, -1, IO_READ_USAGE, IMG_IO_READ, false, false},
    {"readv", "rv", io_co_request, 2, -1, IO_READ_USAGE " [len..]", IMG_IO_READ, false, true},
    {"write", "w", io_co_request, 2, -1, "[-Ccfquz] [-P pattern] off len", IMG_IO_WRITE, false,
     false},
    {"writev", "wv", io_co_request, 2, -1, IO_WRITE_USAGE " [len..]", IMG_IO_WRITE, false, true},
    {"aio_read", NULL, io_co_request, 2, -1, IO_READ_USAGE " [len..]", IMG_IO_READ, true, true},
    {"aio_write", NULL, io_co_request, 2, -1, IO_WRITE_USAGE " [len..]", IMG_IO_WRITE, true, true},
    {"aio_flush", NULL, io_co_wait, 0, 0, "", IMG_IO_FLUSH, false, false},
    {"discard", "d", io_co_request, 2, -1, "[-Cq] off len", IMG_IO_DISCARD, false, false},
    {"flush", "f", io_co_flush, 0, 0, "", IMG_IO_FLUSH, false, false},
    {"length", "l", io_co_length, 0, 0, "", IMG_IO_FLUSH, false, false},
    {"map", NULL, io_co_map, 0, 0, "", IMG_IO_FLUSH, false, false},
    {"sleep", NULL, io_co_sleep, 1, 1, "ms", IMG_IO_FLUSH, false, false},
    {"truncate", "t", io_co_truncate, 1, 1, "off", IMG_IO_FLUSH, false, false},
    {"help", "?", io_co_help, 0, 0, "", IMG_IO_FLUSH, false, false},
    {"quit", "q", io_co_quit, 0, 0, "", IMG_IO_FLUSH, false, false},
};

static coroutine_fn RUNS_IN_MAIN bool io_co_help(IoCall *c)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(io_commands); i++) {
        printf("%s %s\n", io_commands[i].name, io_commands[i].usage);
    }
    return true;
}

/* ---- lines ---- */

static const IoCommand *io_find(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(io_commands); i++) {
        if (strcmp(name, io_commands[i].name) == 0 ||
            g_strcmp0(name, io_commands[i].short_name) == 0) {
            return &io_commands[i];
        }
    }
    return NULL;
}

/* Runs one command. False: failed. */
static coroutine_fn RUNS_IN_MAIN bool io_co_line(IoCall *c, const char *line)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \t\n", -1);
    c->words = words;
    c->count = 0;
    for (char **word = words; *word != NULL; word++) { /* leaves out empty words */
        if (**word == '\0') {
            g_free(*word);
        } else {
            words[c->count++] = *word;
        }
    }
    words[c->count] = NULL;
    if (c->count == 0) {
        return true;
    }
    c->command = io_find(words[0]);
    if (c->command == NULL) {
        fprintf(stderr, "command \"%s\" not found\n", words[0]);
        return false;
    }
    int arguments = c->count - 1;
    if (arguments < c->command->min || (c->command->max >= 0 && arguments > c->command->max)) {
        printf("bad argument count %d to %s: %s %s\n", arguments, words[0], c->command->name,
               c->command->usage);
        return false;
    }
    return c->command->co_run(c);
}

typedef struct IoInput {
    char *line;
    size_t size;
} IoInput;

static int io_read_line_work(void *opaque)
{
    IoInput *in = opaque;
    enter_worker();
    return getline(&in->line, &in->size, stdin) < 0 ? -1 : 0;
}

static coroutine_fn RUNS_IN_MAIN bool io_co_input(IoCall *c)
{
    IoInput in = {0};
    bool ok = true;
    while (!c->ends && co_run_in_worker(io_read_line_work, &in) == 0) {
        ok = io_co_line(c, in.line) && ok;
        fflush(stdout);
    }
    free(in.line);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN int io_co_run(ImgIo *io, const GPtrArray *lines)
{
    IoCall c = {.io = io};
    bool ok = true;
    for (unsigned i = 0; i < lines->len && !c.ends; i++) {
        ok = io_co_line(&c, lines->pdata[i]) && ok;
    }
    if (lines->len == 0) {
        ok = io_co_input(&c);
    }
    ok = img_io_co_wait(io) && ok;
    return ok ? 0 : 1;
}

static bool io_parse_modes(ImgOpen *o, const char *cache, const char *discard, bool no_cache)
{
    o->cache.direct = no_cache;
    if (cache != NULL && !img_parse_cache(cache, &o->cache)) {
        img_error("Invalid cache option: %s", cache);
        return false;
    }
    o->unmap = discard == NULL || strcmp(discard, "unmap") == 0 || strcmp(discard, "on") == 0;
    if (!o->unmap && strcmp(discard, "ignore") != 0 && strcmp(discard, "off") != 0) {
        img_error("Invalid discard option: %s", discard);
        return false;
    }
    return true;
}

int img_co_io(Img *img)
{
    ImgOpen o = {0};
    ImgIo io = {.img = img};
    const char *cache = NULL, *discard = NULL;
    bool no_cache = false, read_only = false;
    g_autoptr(GPtrArray) lines = g_ptr_array_new();
    const ImgOption options[] = {
        {"cmd", 'c', IMG_TEXTS, lines},
        {"format", 'f', IMG_TEXT, &o.format},
        {"read-only", 'r', IMG_FLAG, &read_only},
        {"nocache", 'n', IMG_FLAG, &no_cache},
        {"cache", 't', IMG_TEXT, &cache},
        {"discard", 'd', IMG_TEXT, &discard},
        {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts},
        {0},
    };
    int status;
    if (!img_parse_for_image(img, options, &status)) {
        return status;
    }
    if (!io_parse_modes(&o, cache, discard, no_cache)) {
        return 1;
    }
    o.filename = img->files[0];
    o.writable = !read_only;
    io.blk = img_co_open(img, "image", &o);
    if (io.blk == NULL) {
        return 1;
    }
    co_queue_init(&io.idle);
    status = io_co_run(&io, lines);
    blk_co_free(io.blk);
    return status;
}
