/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/capture.h"

#include <stdatomic.h>
#include "migration/ram/ram_image.h"

static const char *_Atomic capture_forbidden; /* NULL: it is not */

void capture_forbid(const char *why)
{
    atomic_store(&capture_forbidden, why);
}

bool capture_allowed(GError **error)
{
    const char *why = atomic_load(&capture_forbidden);
    if (why != NULL) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO, "memory cannot be frozen: %s", why);
    }
    return why == NULL;
}
