/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a creation makes or overwrites. */
#include <errno.h>
#include <string.h>
#include "block/file/file_new.h"
#include "block/img/img_create.h"
#include "block/nbd/nbd_client_name.h"

/* Makes an empty file, unless there is one. 0 or -errno. */
static coroutine_fn RUNS_IN_MAIN int create_co_make(CreateFile *f)
{
    int ret = file_co_make(f->path, FILE_NEW_IMAGE_MODE);
    f->is_new = ret == 0;
    f->is_device = ret == -EEXIST && file_co_is_device(f->path);
    return ret == -EEXIST ? 0 : ret;
}

bool create_co_open_file(Img *img, const char *name, const char *path, CreateFile *f,
                         GError **error)
{
    *f = (CreateFile){.path = g_strdup(path), .is_device = nbd_client_is_name(path)};
    bool nbd = f->is_device; /* an export, which has its size */
    int ret = nbd ? 0 : create_co_make(f);
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "Could not create '%s': %s", path,
                    g_strerror(-ret));
        g_clear_pointer(&f->path, g_free);
        return false;
    }
    g_autoptr(OptDict) d = nbd ? nbd_client_describe_name(path, error) : opt_dict_new();
    if (d != NULL && !nbd) {
        opt_dict_set(d, "driver", "file");
        opt_dict_set(d, "filename", path);
    }
    BlockNode *node = d != NULL ? block_co_open(d, img->home, error) : NULL;
    if (node != NULL) {
        f->blk = blk_co_new(name, node, true, error);
        block_co_unref(node);
    }
    if (f->blk == NULL) {
        create_co_close_file(f, false);
        return false;
    }
    return true;
}

void create_co_close_file(CreateFile *f, bool ok)
{
    if (f->path == NULL) {
        return;
    }
    blk_co_free(f->blk);
    if (!ok && f->is_new) {
        file_co_remove(f->path);
    }
    g_free(f->path);
    *f = (CreateFile){0};
}

char *create_resolve(const char *filename, const char *name)
{
    if (name[0] == '/' || g_str_has_prefix(name, "json:") || g_str_has_prefix(name, "file:") ||
        nbd_client_is_name(name) || strchr(filename, '/') == NULL) {
        return g_strdup(name);
    }
    g_autofree char *folder = g_path_get_dirname(filename);
    return g_build_filename(folder, name, NULL);
}
