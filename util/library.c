/* SPDX-License-Identifier: Apache-2.0 */
#include "util/library.h"

#include <dlfcn.h>
#include <string.h>

/* All functions, or an error. */
static bool library_resolve(Library *library, void *handle, GError **error)
{
    for (unsigned i = 0; library->names[i] != NULL; i++) {
        void *function = dlsym(handle, library->names[i]);
        if (function == NULL) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS, "%s has no %s()", library->soname,
                        library->names[i]);
            return false;
        }
        memcpy((char *)library->slots + i * sizeof(function), &function, sizeof(function));
    }
    return true;
}

bool library_load(Library *library, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&library->lock);
    if (library->loaded) {
        return true;
    }
    void *handle = dlopen(library->soname, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *why = dlerror();
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                    "%s; it is part of Debian's package %s", why != NULL ? why : library->soname,
                    library->package);
        return false;
    }
    library->loaded = library_resolve(library, handle, error);
    if (!library->loaded) {
        dlclose(handle);
    }
    return library->loaded;
}
