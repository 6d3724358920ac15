/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks of an image against other processes.
 *
 * The locks are open file description locks on single bytes. Each byte stands for a right, at the
 * same offset as in QEMU, so that skiff, QEMU and qemu-img see each other:
 *
 *   byte 100 + right: read-locked by a user of the right
 *   byte 200 + right: read-locked by a process that forbids the right to others
 *
 * Read locks never conflict. So first the locks are taken, then the opposite bytes are tested: of
 * two processes that start at the same time, at most one succeeds.
 *
 * | opened as              | uses               | forbids others |
 * |------------------------|--------------------|----------------|
 * | writer                 | read write resize  | write resize   |
 * | reader                 | read               | write resize   |
 * | reader, force-share=on | (nothing)          | (nothing)      |
 *
 * So there is either one writer or any number of readers.
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

typedef struct LockRights {
    unsigned uses, forbids; /* sets of bits */
} LockRights;

static int lock_byte(int fd, off_t byte)
{
    struct flock fl = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &fl) == 0 ? 0 : -errno;
}

/* Whether another open file holds a lock: 1, 0 or -errno. */
static int lock_is_held(int fd, off_t byte)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &fl) != 0) {
        return -errno;
    }
    return fl.l_type != F_UNLCK;
}

static void lock_unlock_byte(int fd, off_t byte)
{
    struct flock fl = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    fcntl(fd, F_OFD_SETLK, &fl);
}

static int lock_take(int fd, LockRights rights)
{
    for (unsigned right = 0; right < RIGHT_COUNT; right++) {
        int ret =
            (rights.uses & 1u << right) != 0 ? lock_byte(fd, LOCK_USES_BASE + (off_t)right) : 0;
        if (ret == 0 && (rights.forbids & 1u << right) != 0) {
            ret = lock_byte(fd, LOCK_FORBIDS_BASE + (off_t)right);
        }
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* 1: another process uses a right that we forbid, or forbids one that we use. */
static int lock_check(int fd, LockRights rights)
{
    for (unsigned right = 0; right < RIGHT_COUNT; right++) {
        int ret = (rights.uses & 1u << right) != 0
                      ? lock_is_held(fd, LOCK_FORBIDS_BASE + (off_t)right)
                      : 0;
        if (ret == 0 && (rights.forbids & 1u << right) != 0) {
            ret = lock_is_held(fd, LOCK_USES_BASE + (off_t)right);
        }
        if (ret != 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- the holder: the kernel does not report it, so search for a process with the file open ----
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

/* ---- whole sets of rights ---- */

static LockRights lock_rights(const FileLockMode *mode)
{
    const unsigned changes = 1u << RIGHT_WRITE | 1u << RIGHT_RESIZE;
    if (mode->locking == FILE_LOCKING_OFF || mode->force_share) {
        return (LockRights){0};
    }
    return (LockRights){.uses = 1u << RIGHT_READ | (mode->write ? changes : 0), .forbids = changes};
}

static void lock_release(int fd, LockRights rights)
{
    for (unsigned right = 0; right < RIGHT_COUNT; right++) {
        if ((rights.uses & 1u << right) != 0) {
            lock_unlock_byte(fd, LOCK_USES_BASE + (off_t)right);
        }
        if ((rights.forbids & 1u << right) != 0) {
            lock_unlock_byte(fd, LOCK_FORBIDS_BASE + (off_t)right);
        }
    }
}

/* Converts the result of taking and checking locks to the result for the user. */
static bool lock_finish(int fd, const char *filename, const FileLockMode *mode, int ret,
                        GError **error)
{
    if (ret == 0) {
        return true;
    }
    if (ret == 1 || ret == -EAGAIN || ret == -EACCES) {
        return lock_fail(fd, filename, mode->write, error);
    }
    if (mode->locking == FILE_LOCKING_AUTO) {
        log_warn("'%s': the file system has no locks (%s): a second writer is not detected",
                 filename, g_strerror(-ret));
        return true;
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "'%s': locking=on: %s; use locking=auto",
                filename, g_strerror(-ret));
    return false;
}

static bool lock_check_mode(const char *filename, const FileLockMode *mode, GError **error)
{
    if (mode->force_share && mode->write) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "'%s': force-share needs read-only=on",
                    filename);
        return false;
    }
    return true;
}

bool file_lock(int fd, const char *filename, const FileLockMode *mode, GError **error)
{
    LockRights rights = lock_rights(mode);
    if (!lock_check_mode(filename, mode, error)) {
        return false;
    }
    int ret = lock_take(fd, rights);
    if (ret == 0) {
        ret = lock_check(fd, rights);
    }
    return lock_finish(fd, filename, mode, ret, error);
}

/* ---- a second descriptor for the same open image ---- */

/* The rights of @mode that @old lacks. */
static LockRights lock_added(const FileLockMode *old, const FileLockMode *mode)
{
    LockRights had = lock_rights(old), rights = lock_rights(mode);
    return (LockRights){.uses = rights.uses & ~had.uses, .forbids = rights.forbids & ~had.forbids};
}

void file_lock_forget(int old_fd, const FileLockMode *old, const FileLockMode *mode)
{
    lock_release(old_fd, lock_added(old, mode));
}

bool file_lock_extend(int fd, int old_fd, const char *filename, const FileLockMode *old,
                      const FileLockMode *mode, GError **error)
{
    if (!lock_check_mode(filename, mode, error)) {
        return false;
    }
    /* The old descriptor gets the new rights too: a check through it ignores its own locks, so none
     * of them must be released for the check. */
    int ret = lock_take(old_fd, lock_added(old, mode));
    if (ret == 0) {
        ret = lock_check(old_fd, lock_rights(mode));
    }
    if (ret == 0) {
        ret = lock_take(fd, lock_rights(mode));
    }
    if (!lock_finish(old_fd, filename, mode, ret, error)) {
        file_lock_forget(old_fd, old, mode);
        return false;
    }
    return true;
}
