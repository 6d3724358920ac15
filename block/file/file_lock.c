/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping other processes out of an image.
 *
 * The locks are open file description locks on single bytes that stand for rights, at the places
 * where QEMU has them, so that skiff, QEMU and qemu-img see each other:
 *
 *   byte 100 + right: read-locked by who uses the right
 *   byte 200 + right: read-locked by who lets nobody else use it
 *
 * Read locks never collide, so first we lock, then we look whether somebody holds the opposite
 * byte: of two that come at once, at most one goes on.
 *
 * | opened as              | uses               | forbids others |
 * |------------------------|--------------------|----------------|
 * | writer                 | read write resize  | write resize   |
 * | reader                 | read               | write resize   |
 * | reader, force-share=on | (nothing)          | (nothing)      |
 *
 * A writer is thus alone; readers are many.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/file/driver_file.h"
#include "util/log.h"

enum { RIGHT_READ = 0, RIGHT_WRITE = 1, RIGHT_RESIZE = 3, RIGHT_COUNT = 4 };
#define LOCK_USES_BASE 100
#define LOCK_FORBIDS_BASE 200
#define LOCK_SPAN 200 /* from the first byte to past the last */

static int lock_byte(int fd, off_t byte)
{
    struct flock fl = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &fl) == 0 ? 0 : -errno;
}

/* 1: somebody else holds it; 0: nobody; -errno. */
static int lock_is_held(int fd, off_t byte)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &fl) != 0) {
        return -errno;
    }
    return fl.l_type != F_UNLCK;
}

static int lock_take(int fd, unsigned uses, unsigned forbids)
{
    for (unsigned right = 0; right < RIGHT_COUNT; right++) {
        int ret = (uses & 1u << right) != 0 ? lock_byte(fd, LOCK_USES_BASE + (off_t)right) : 0;
        if (ret == 0 && (forbids & 1u << right) != 0) {
            ret = lock_byte(fd, LOCK_FORBIDS_BASE + (off_t)right);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* 1: another uses what we forbid, or forbids what we use. */
static int lock_check(int fd, unsigned uses, unsigned forbids)
{
    for (unsigned right = 0; right < RIGHT_COUNT; right++) {
        int ret =
            (uses & 1u << right) != 0 ? lock_is_held(fd, LOCK_FORBIDS_BASE + (off_t)right) : 0;
        if (ret == 0 && (forbids & 1u << right) != 0) {
            ret = lock_is_held(fd, LOCK_USES_BASE + (off_t)right);
        }
        if (ret != 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- who it is: the kernel does not tell the holder of such a lock, so look who has it open ----
 */

static bool lock_process_has_open(const char *pid, const struct stat *st)
{
    g_autofree char *dir_name = g_strdup_printf("/proc/%s/fd", pid);
    DIR *dir = opendir(dir_name);
    if (dir == NULL) {
        return false;
    }
    bool found = false;
    for (struct dirent *e = readdir(dir); e != NULL && !found; e = readdir(dir)) {
        struct stat other;
        found = fstatat(dirfd(dir), e->d_name, &other, 0) == 0 && other.st_dev == st->st_dev &&
                other.st_ino == st->st_ino;
    }
    closedir(dir);
    return found;
}

static char *lock_describe_process(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/comm", pid);
    g_autofree char *comm = NULL;
    if (!g_file_get_contents(path, &comm, NULL, NULL)) {
        return g_strdup_printf("process %s", pid);
    }
    return g_strdup_printf("process %s (%s)", pid, g_strchomp(comm));
}

static char *lock_find_holder(int fd)
{
    struct stat st;
    DIR *dir = opendir("/proc");
    char *holder = NULL;
    if (dir != NULL && fstat(fd, &st) == 0) {
        for (struct dirent *e = readdir(dir); e != NULL && holder == NULL; e = readdir(dir)) {
            if (isdigit((unsigned char)e->d_name[0]) && atol(e->d_name) != getpid() &&
                lock_process_has_open(e->d_name, &st)) {
                holder = lock_describe_process(e->d_name);
            }
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return holder != NULL ? holder : g_strdup("another drive or process");
}

static bool lock_fail(int fd, const char *filename, bool write, GError **error)
{
    g_autofree char *holder = lock_find_holder(fd);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE, "'%s' is in use by %s; %s", filename,
                holder,
                write ? "end it, or use read-only=on if it only reads"
                      : "end it, or use read-only=on,force-share=on to read what it writes");
    return false;
}

/* The rights, as sets of bits. */
static unsigned lock_forbids(void)
{
    return 1u << RIGHT_WRITE | 1u << RIGHT_RESIZE;
}

static unsigned lock_uses(bool write)
{
    return 1u << RIGHT_READ | (write ? lock_forbids() : 0);
}

static void lock_release(int fd)
{
    struct flock fl = {
        .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = LOCK_USES_BASE, .l_len = LOCK_SPAN};
    fcntl(fd, F_OFD_SETLK, &fl);
}

void file_lock_restore(int fd, FileLocking locking, bool write, bool force_share)
{
    if (locking != FILE_LOCKING_OFF && !force_share) {
        lock_take(fd, lock_uses(write), lock_forbids());
    }
}

bool file_lock(int fd, const char *filename, FileLocking locking, bool write, bool force_share,
               GError **error)
{
    return file_lock_replacing(fd, -1, filename, locking, write, force_share, error);
}

bool file_lock_replacing(int fd, int old_fd, const char *filename, FileLocking locking, bool write,
                         bool force_share, GError **error)
{
    if (force_share && write) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "'%s': force-share needs read-only=on",
                    filename);
        return false;
    }
    if (locking == FILE_LOCKING_OFF || force_share) {
        return true;
    }
    int ret = lock_take(fd, lock_uses(write), lock_forbids());
    if (ret == 0 && old_fd >= 0) {
        lock_release(old_fd);
    }
    if (ret == 0) {
        ret = lock_check(fd, lock_uses(write), lock_forbids());
    }
    if (ret == 0) {
        return true;
    }
    if (ret == 1 || ret == -EAGAIN || ret == -EACCES) {
        return lock_fail(fd, filename, write, error);
    }
    if (locking == FILE_LOCKING_AUTO) {
        log_warn("'%s': no locks there (%s): a second writer will not be noticed", filename,
                 g_strerror(-ret));
        return true;
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "'%s': locking=on: %s; use locking=auto",
                filename, g_strerror(-ret));
    return false;
}
