/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared libraries that few VMs need. They are loaded when they are first used, so all other VMs start
 * without them: libnbd alone brings some 20 libraries and 4 MiB of resident memory.
 *
 * A header lists the functions once, in a macro, and gives each its name in the library:
 *
 *     #define FOO_FUNCTIONS(F) F(foo_open) F(foo_close)
 *     #define LIBRARY_SLOT(name) __typeof__(name) *name;
 *     struct FooLibrary { FOO_FUNCTIONS(LIBRARY_SLOT) };
 *     #define foo_open foo_library.foo_open
 *
 * The slots are NULL until library_load() has succeeded, and constant afterwards.
 */
#ifndef SKIFF_UTIL_LIBRARY_H
#define SKIFF_UTIL_LIBRARY_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

#define LIBRARY_SLOT(name) __typeof__(name) *name;
#define LIBRARY_NAME(name) #name,

typedef struct Library {
    const char *soname;       /* "libnbd.so.0" */
    const char *package;      /* Debian's, for the message when it is missing */
    const char *const *names; /* of functions, in the order of the slots; NULL-terminated */
    void *slots;              /* a struct of function pointers */
    GMutex lock;
    bool loaded;
} Library;

/* Loads @library, once. Reads files: not in main or an iothread while the VM runs. False + error: it is
 * not installed, or lacks a function; a later call tries again. */
bool library_load(Library *library, GError **error) ANY_THREAD;

#endif
