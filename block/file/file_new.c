/* SPDX-License-Identifier: Apache-2.0 */
#include "block/file/file_new.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/file/file_opener.h"

typedef struct FileMake {
    const char *path;
    mode_t mode;
} FileMake;

static int file_make_work(void *opaque)
{
    const FileMake *m = opaque;
    enter_worker();
    int fd = open(m->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, m->mode);
    if (fd < 0) {
        return -errno;
    }
    close(fd);
    return 0;
}

static int file_remove_work(void *opaque)
{
    enter_worker();
    return unlink(opaque);
}

static int file_is_device_work(void *opaque)
{
    struct stat st;
    enter_worker();
    return stat(opaque, &st) == 0 && S_ISBLK(st.st_mode);
}

static int file_is_private_work(void *opaque)
{
    struct stat st;
    enter_worker();
    return stat(opaque, &st) != 0 || !S_ISREG(st.st_mode) ||
           ((st.st_mode & (S_IRGRP | S_IROTH)) == 0 && st.st_uid == geteuid());
}

int file_co_make(const char *path, mode_t mode)
{
    FileMake m = {.path = path, .mode = mode};
    int ret;
    return file_co_run_opener(path, file_make_work, &m, &ret, NULL) ? ret : -EBUSY;
}

void file_co_remove(const char *path)
{
    file_co_run_opener_late(file_remove_work, (char *)(uintptr_t)path);
}

static coroutine_fn bool file_co_ask(const char *path, int (*fn)(void *opaque))
{
    int ret;
    return file_co_run_opener(path, fn, (char *)(uintptr_t)path, &ret, NULL) && ret != 0;
}

bool file_co_is_device(const char *path)
{
    return file_co_ask(path, file_is_device_work);
}

bool file_co_is_private(const char *path)
{
    return file_co_ask(path, file_is_private_work);
}
