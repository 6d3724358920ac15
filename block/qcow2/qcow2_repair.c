/* SPDX-License-Identifier: Apache-2.0 */
/* The repair of an image that was not closed after writing with lazy refcounts. */
#include <errno.h>
#include "block/qcow2/qcow2_check.h"
#include "block/qcow2/qcow2_int.h"
#include "util/log.h"

bool qcow2_needs_repair(const BlockNode *n)
{
    const Qcow2State *s = n->state;
    uint64_t flags =
        s->header.incompatible & (QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT);
    return !n->flags.read_only && flags == QCOW2_INCOMPATIBLE_DIRTY;
}

/* The result is logged, not each line: there can be one for each cluster. */
static void repair_ignore_line(void *opaque, const char *line)
{
}

bool qcow2_co_repair(BlockNode *n, GError **error)
{
    Qcow2CheckRequest r = {.file = n->file,
                           .fix = QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS,
                           .who = qcow2_who(n),
                           .report = repair_ignore_line};
    int ret = qcow2_co_check(&r);
    if (r.error != NULL) {
        g_propagate_error(error, r.error);
        return false;
    }
    if (ret < 0 || r.result.check_errors > 0 || r.result.corruptions > 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: the image was not closed after writing, and its repair %s; open it with "
                    "read-only=on, or see what skiff-img check finds",
                    qcow2_who(n), ret < 0 ? "failed" : "has left errors");
        return false;
    }
    log_info("%s: the image was not closed after writing; %" PRIu64 " refcounts and flags and "
             "%" PRIu64 " leaked clusters have been repaired",
             qcow2_who(n), r.result.corruptions_fixed, r.result.leaks_fixed);
    return true;
}
