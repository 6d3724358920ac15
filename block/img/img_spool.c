/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image that comes from a pipe. A pipe has no size and cannot be read at an offset, so its data
 * goes to a temporary file first, in $TMPDIR or /var/tmp. The file has no name, so it vanishes with
 * the process; blocks of zeroes take no space in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/img/img.h"
#include "util/zero.h"

#define SPOOL_BLOCK ((size_t)64 << 10)

typedef struct Spool {
    const char *filename;
    bool is_pipe;
    int fd;    /* of the temporary file; -1: none */
    int error; /* errno */
    const char *what;
} Spool;

static RUNS_IN_WORKER int spool_fail(Spool *s, const char *what)
{
    s->error = errno;
    s->what = what;
    return -1;
}

static RUNS_IN_WORKER int spool_create(Spool *s)
{
    const char *folder = getenv("TMPDIR");
    g_autofree char *path =
        g_build_filename(folder != NULL ? folder : "/var/tmp", "skiff-img-XXXXXX", NULL);
    s->fd = mkostemp(path, O_CLOEXEC);
    if (s->fd < 0 || unlink(path) != 0) {
        return spool_fail(s, "creating a temporary file");
    }
    return 0;
}

/* Fills the block unless the data ends. Returns the bytes read, or -errno. */
static RUNS_IN_WORKER ssize_t spool_read(int fd, uint8_t *block)
{
    size_t done = 0;
    while (done < SPOOL_BLOCK) {
        ssize_t n = read(fd, block + done, SPOOL_BLOCK - done);
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        done += (size_t)MAX(n, 0);
    }
    return (ssize_t)done;
}

static RUNS_IN_WORKER bool spool_write(int fd, const uint8_t *block, size_t size, off_t at)
{
    for (size_t done = 0; done < size && !bytes_are_zero(block, size);) {
        ssize_t n = pwrite(fd, block + done, size - done, at + (off_t)done);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        done += (size_t)MAX(n, 0);
    }
    return true;
}

static RUNS_IN_WORKER int spool_copy(Spool *s, int from)
{
    g_autofree uint8_t *block = g_malloc(SPOOL_BLOCK);
    off_t at = 0;
    for (ssize_t n = 1; n > 0; at += n) {
        n = spool_read(from, block);
        if (n < 0) {
            return spool_fail(s, "reading");
        }
        if (!spool_write(s->fd, block, (size_t)n, at)) {
            return spool_fail(s, "writing to a temporary file");
        }
    }
    return ftruncate(s->fd, at) == 0 ? 0 : spool_fail(s, "writing to a temporary file");
}

static int spool_work(void *opaque)
{
    Spool *s = opaque;
    struct stat st;
    enter_worker();
    s->is_pipe = stat(s->filename, &st) == 0 && S_ISFIFO(st.st_mode);
    if (!s->is_pipe) {
        return 0; /* what is wrong with it is reported when it is opened */
    }
    int from = open(s->filename, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        return spool_fail(s, "opening it");
    }
    int ret = spool_create(s);
    if (ret == 0) {
        ret = spool_copy(s, from);
    }
    close(from);
    return ret;
}

bool img_co_spool(const char *filename, int *fd)
{
    Spool s = {.filename = filename, .fd = -1};
    int ret = co_run_in_worker(spool_work, &s);
    if (ret < 0) {
        img_error("Could not read '%s': %s: %s", filename, s.what, g_strerror(s.error));
        if (s.fd >= 0) {
            close(s.fd);
        }
        s.fd = -1;
    }
    *fd = s.fd;
    return ret == 0;
}
