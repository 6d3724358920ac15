/* SPDX-License-Identifier: Apache-2.0 */
#include "util/owned_path.h"

#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>

bool owned_path_set(OwnedPath *o, const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0) {
        return false;
    }
    g_free(o->path);
    *o = (OwnedPath){
        .path = g_canonicalize_filename(path, NULL), .device = st.st_dev, .inode = st.st_ino};
    return true;
}

bool owned_path_is_ours(const OwnedPath *o)
{
    struct stat st;

    return o->path != NULL && lstat(o->path, &st) == 0 && st.st_dev == o->device &&
           st.st_ino == o->inode;
}

bool owned_path_unlink(const OwnedPath *o)
{
    return owned_path_is_ours(o) && unlink(o->path) == 0;
}

void owned_path_clear(OwnedPath *o)
{
    g_clear_pointer(&o->path, g_free);
}
