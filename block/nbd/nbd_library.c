/* SPDX-License-Identifier: Apache-2.0 */
#include "block/nbd/nbd_library.h"

#include "block/nbd/nbd.h"

static const char *const libnbd_names[] = {LIBNBD_FUNCTIONS(LIBRARY_NAME) NULL};
LibnbdLibrary libnbd_library;
static Library libnbd = {
    .soname = "libnbd.so.0", .package = "libnbd0", .names = libnbd_names, .slots = &libnbd_library};

bool nbd_client_load_library(GError **error)
{
    return library_load(&libnbd, error);
}
