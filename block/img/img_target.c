/* SPDX-License-Identifier: Apache-2.0 */
/* Where a conversion writes to: see img_target.h. */
#include "block/img/img_target.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/nbd/nbd_client_name.h"

/* ---- a signal removes the temporary file ---- */

static char *volatile target_temporary; /* the file to remove; NULL: none */

static void target_signal(int number)
{
    char *path = target_temporary;
    if (path != NULL) {
        unlink(path);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void target_set_temporary(char *path)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = target_signal}, old;
    target_temporary = path;
    for (unsigned i = 0; path != NULL && i < G_N_ELEMENTS(numbers); i++) {
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            sigaction(numbers[i], &action, NULL); /* nohup stays in force */
        }
    }
}

/* ---- files ---- */

/* A job for a worker. */
typedef struct TargetWork {
    const ImgTargetOptions *options;
    struct stat st; /* of the target */
    bool exists;
    char *path;      /* with symbolic links followed */
    char *temporary; /* the new file */
    int fd;
    int error;
} TargetWork;

static bool target_is_descriptor(const char *name)
{
    return g_str_has_prefix(name, "/dev/fd/") || g_str_has_prefix(name, "/proc/self/fd/") ||
           strcmp(name, "/dev/stdout") == 0 || strcmp(name, "/dev/stderr") == 0;
}

static int target_examine_work(void *opaque)
{
    TargetWork *w = opaque;
    const char *name = w->options->open.filename;
    enter_worker();
    w->exists = stat(name, &w->st) == 0;
    w->path = w->exists ? realpath(name, NULL) : g_strdup(name);
    w->error = w->path == NULL ? errno : 0;
    return 0;
}

/* Creates the temporary file, with the rights of the file that it replaces. */
static int target_create_work(void *opaque)
{
    TargetWork *w = opaque;
    enter_worker();
    w->temporary = g_strdup_printf("%s.skiff-%d", w->path, (int)getpid());
    w->fd = open(w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (w->fd < 0) {
        w->error = errno;
        g_clear_pointer(&w->temporary, g_free);
        return 0;
    }
    target_set_temporary(w->temporary);
    if (w->exists && fchmod(w->fd, w->st.st_mode & 07777) != 0) {
        w->error = errno;
    }
    close(w->fd);
    return 0;
}

static int target_remove_work(void *opaque)
{
    const char *path = opaque;
    enter_worker();
    return unlink(path) == 0 ? 0 : -errno;
}

static int target_rename_work(void *opaque)
{
    const ImgTarget *t = opaque;
    enter_worker();
    return rename(t->temporary, t->path) == 0 ? 0 : -errno;
}

static coroutine_fn RUNS_IN_MAIN void target_co_remove(ImgTarget *t)
{
    co_run_in_worker(target_remove_work, t->temporary);
    target_set_temporary(NULL);
    g_clear_pointer(&t->temporary, g_free);
}

/* Keeps other processes out of the file that is going to be replaced. */
static coroutine_fn RUNS_IN_MAIN bool target_co_hold(Img *img, ImgTarget *t,
                                                     const ImgTargetOptions *o)
{
    ImgOpen hold = {.filename = o->open.filename, .format = "raw", .writable = true};
    t->old = img_co_open(img, "replaced", &hold);
    return t->old != NULL;
}

/* Makes an image in file @path, which exists, and opens it. */
static coroutine_fn RUNS_IN_MAIN bool target_co_format(Img *img, ImgTarget *t,
                                                       const ImgTargetOptions *o, const char *path)
{
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, o->size);
    ImgCreate create = {
        .filename = path,
        .format = o->open.format,
        .backing = o->backing,
        .backing_format = o->backing_format,
        .size = size,
        .options = o->options,
        .quiet = true,
    };
    ImgOpen open = o->open;
    open.filename = path;
    if (!img_co_create_image(img, &create)) {
        return false;
    }
    t->blk = img_co_open(img, "target", &open);
    return t->blk != NULL;
}

static coroutine_fn RUNS_IN_MAIN bool target_co_create(Img *img, ImgTarget *t,
                                                       const ImgTargetOptions *o, TargetWork *w)
{
    const char *name = o->open.filename;
    if (w->exists && !target_co_hold(img, t, o)) {
        return false;
    }
    co_run_in_worker(target_create_work, w);
    t->temporary = w->temporary;
    if (w->error != 0) {
        img_error("%s: error while converting %s: Could not create '%s': %s", name, o->open.format,
                  name, g_strerror(w->error));
        return false;
    }
    t->path = g_steal_pointer(&w->path);
    t->is_new = true;
    return target_co_format(img, t, o, t->temporary);
}

/* ---- streams ---- */

static int target_stream_work(void *opaque)
{
    TargetWork *w = opaque;
    const char *name = w->options->open.filename;
    enter_worker();
    w->fd = strcmp(name, "/dev/stdout") == 0 ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                                             : open(name, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    w->error = w->fd < 0 ? errno : 0;
    return 0;
}

static coroutine_fn RUNS_IN_MAIN bool target_co_open_stream(ImgTarget *t, const ImgTargetOptions *o,
                                                            TargetWork *w)
{
    const char *name = o->open.filename;
    if (strcmp(o->open.format, "raw") != 0) {
        img_error("%s: only raw images can be written in order, to a pipe", name);
        return false;
    }
    signal(SIGPIPE, SIG_IGN); /* the write fails instead */
    co_run_in_worker(target_stream_work, w);
    if (w->error != 0) {
        img_error("Could not open '%s': %s", name, g_strerror(w->error));
        return false;
    }
    t->stream = w->fd;
    return true;
}

typedef struct TargetStream {
    int fd;
    const uint8_t *data;
    size_t size;
} TargetStream;

static int target_stream_write_work(void *opaque)
{
    TargetStream *s = opaque;
    enter_worker();
    while (s->size > 0) {
        ssize_t n = write(s->fd, s->data, s->size);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        s->data += MAX(n, 0);
        s->size -= (size_t)MAX(n, 0);
    }
    return 0;
}

int img_target_co_stream(ImgTarget *t, const void *data, size_t size)
{
    TargetStream s = {.fd = t->stream, .data = data, .size = size};
    return co_run_in_worker(target_stream_write_work, &s);
}

/* ---- opening and closing ---- */

static coroutine_fn RUNS_IN_MAIN bool target_co_open_existing(Img *img, ImgTarget *t,
                                                              const ImgTargetOptions *o)
{
    t->blk = img_co_open(img, "target", &o->open);
    if (t->blk == NULL) {
        return false;
    }
    if (blk_size(t->blk) < o->size) {
        img_error("output file is smaller than input file");
        return false;
    }
    return true;
}

/* A block device, or an export of an NBD server. */
static coroutine_fn RUNS_IN_MAIN bool target_co_open_device(Img *img, ImgTarget *t,
                                                            const ImgTargetOptions *o)
{
    if (strcmp(o->open.format, "raw") == 0) {
        return target_co_open_existing(img, t, o);
    }
    t->is_new = true;
    return target_co_format(img, t, o, o->open.filename);
}

static coroutine_fn RUNS_IN_MAIN bool target_co_open_named(Img *img, ImgTarget *t,
                                                           const ImgTargetOptions *o, TargetWork *w)
{
    if (target_is_descriptor(o->open.filename)) {
        return target_co_open_stream(t, o, w);
    }
    if (nbd_client_is_name(o->open.filename)) {
        return target_co_open_device(img, t, o);
    }
    co_run_in_worker(target_examine_work, w);
    if (w->error != 0) {
        img_error("Could not open '%s': %s", o->open.filename, g_strerror(w->error));
        return false;
    }
    if (!w->exists || S_ISREG(w->st.st_mode)) {
        return target_co_create(img, t, o, w);
    }
    if (!S_ISBLK(w->st.st_mode) && !S_ISDIR(w->st.st_mode)) {
        return target_co_open_stream(t, o, w);
    }
    return target_co_open_device(img, t, o);
}

bool img_target_co_open(Img *img, ImgTarget *t, const ImgTargetOptions *o)
{
    TargetWork w = {.options = o};
    *t = (ImgTarget){.stream = -1};
    bool ok =
        o->existing ? target_co_open_existing(img, t, o) : target_co_open_named(img, t, o, &w);
    free(w.path);
    if (!ok) {
        img_target_co_close(t, false);
    }
    return ok;
}

bool img_target_co_close(ImgTarget *t, bool complete)
{
    int ret = 0;
    blk_co_free(t->blk);
    if (t->stream >= 0) {
        close(t->stream);
    }
    if (complete && t->temporary != NULL) {
        ret = co_run_in_worker(target_rename_work, t);
        if (ret < 0) {
            img_error("'%s' cannot be renamed to '%s': %s", t->temporary, t->path,
                      g_strerror(-ret));
        }
    }
    if (t->temporary != NULL && (!complete || ret < 0)) {
        target_co_remove(t);
    }
    target_set_temporary(NULL);
    blk_co_free(t->old);
    g_free(t->temporary);
    free(t->path);
    *t = (ImgTarget){.stream = -1};
    return ret == 0;
}
