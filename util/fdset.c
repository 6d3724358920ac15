/* SPDX-License-Identifier: Apache-2.0 */
#include "util/fdset.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "util/opts/opts.h"

typedef struct FdsetEntry {
    int64_t id;
    int fd;
    char *note;
} FdsetEntry;

/* A plain mutex: workers take it too, and nothing is called while it is held. */
static pthread_mutex_t fdset_lock = PTHREAD_MUTEX_INITIALIZER;
static GPtrArray *fdset_entries; /* FdsetEntry, ids ascending */

static void fdset_entry_free(gpointer opaque)
{
    FdsetEntry *e = opaque;
    close(e->fd);
    g_free(e->note);
    g_free(e);
}

static FdsetEntry *fdset_entry(unsigned i)
{
    return fdset_entries != NULL && i < fdset_entries->len ? fdset_entries->pdata[i] : NULL;
}

bool fdset_is_path(const char *path)
{
    return g_str_has_prefix(path, FDSET_PREFIX);
}

/* ---- opening ---- */

static int fdset_find(int64_t id, int access_mode)
{
    int failure = -ENOENT;
    FdsetEntry *e;
    for (unsigned i = 0; (e = fdset_entry(i)) != NULL; i++) {
        if (e->id != id) {
            continue;
        }
        int flags = fcntl(e->fd, F_GETFL);
        if (flags >= 0 && (flags & O_ACCMODE) == access_mode) {
            return e->fd;
        }
        failure = -EACCES;
    }
    return failure;
}

/* Sets the flags that F_SETFL can change; O_SYNC and the like stay as opened. */
static int fdset_apply_flags(int fd, int flags)
{
    const int settable = O_APPEND | O_DIRECT | O_NOATIME | O_NONBLOCK;
    int now = fcntl(fd, F_GETFL);
    if (now < 0) {
        return -errno;
    }
    int wanted = (now & ~settable) | (flags & settable);
    return wanted == now || fcntl(fd, F_SETFL, wanted) == 0 ? 0 : -errno;
}

int fdset_dup_fd(const char *path, int flags)
{
    uint64_t id;
    if (!fdset_is_path(path) ||
        !opt_parse_u64(path + strlen(FDSET_PREFIX), 0, INT64_MAX, &id, NULL)) {
        return -EINVAL;
    }
    pthread_mutex_lock(&fdset_lock);
    int fd = fdset_find((int64_t)id, flags & O_ACCMODE);
    if (fd >= 0) {
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        fd = fd < 0 ? -errno : fd;
    }
    pthread_mutex_unlock(&fdset_lock);
    int ret = fd < 0 ? fd : fdset_apply_flags(fd, flags);
    if (ret < 0 && fd >= 0) {
        close(fd);
    }
    return ret < 0 ? ret : fd;
}

/* ---- the list ---- */

/* The lowest free id. */
static int64_t fdset_new_id(void)
{
    int64_t id = 0;
    FdsetEntry *e;
    for (unsigned i = 0; (e = fdset_entry(i)) != NULL; i++) {
        if (e->id == id) {
            id++;
        } else if (e->id > id) {
            break;
        }
    }
    return id;
}

static unsigned fdset_place(int64_t id)
{
    unsigned i = 0;
    FdsetEntry *e;
    while ((e = fdset_entry(i)) != NULL && e->id <= id) {
        i++;
    }
    return i;
}

int64_t fdset_add(int64_t id, int fd, const char *opaque, GError **error)
{
    const unsigned most = 256;
    pthread_mutex_lock(&fdset_lock);
    if (fdset_entries == NULL) {
        fdset_entries = g_ptr_array_new_with_free_func(fdset_entry_free);
    }
    if (fdset_entries->len == most) {
        id = -1;
    } else {
        id = id < 0 ? fdset_new_id() : id;
        FdsetEntry *e = g_new(FdsetEntry, 1);
        *e = (FdsetEntry){.id = id, .fd = fd, .note = g_strdup(opaque)};
        g_ptr_array_insert(fdset_entries, (int)fdset_place(id), e);
    }
    pthread_mutex_unlock(&fdset_lock);
    if (id < 0) {
        close(fd);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "there are %u descriptors in sets already; remove-fd makes room", most);
    }
    return id;
}

bool fdset_remove(int64_t id, int fd, GError **error)
{
    bool found = false;
    pthread_mutex_lock(&fdset_lock);
    FdsetEntry *e;
    for (unsigned i = 0; (e = fdset_entry(i)) != NULL;) {
        if (e->id == id && (fd < 0 || e->fd == fd)) {
            g_ptr_array_remove_index(fdset_entries, i);
            found = true;
        } else {
            i++;
        }
    }
    pthread_mutex_unlock(&fdset_lock);
    if (!found && fd < 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "File descriptor named 'fdset-id:%" G_GINT64_FORMAT "' not found", id);
    } else if (!found) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "File descriptor named 'fdset-id:%" G_GINT64_FORMAT ", fd:%d' not found", id,
                    fd);
    }
    return found;
}

void fdset_foreach(void (*fn)(int64_t id, int fd, const char *note, void *opaque), void *opaque)
{
    pthread_mutex_lock(&fdset_lock);
    FdsetEntry *e;
    for (unsigned i = 0; (e = fdset_entry(i)) != NULL; i++) {
        fn(e->id, e->fd, e->note, opaque);
    }
    pthread_mutex_unlock(&fdset_lock);
}
