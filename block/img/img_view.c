/* SPDX-License-Identifier: Apache-2.0 */
/* -l: the disk as an internal snapshot has it. */
#include "block/img/img.h"

bool img_co_view(BlockBackend *blk, const char *snapshot)
{
    static const OptSpec options[] = {
        {.name = "snapshot.id", .type = OPT_STRING, .offset = 0},
        {.name = "snapshot.name", .type = OPT_STRING, .offset = sizeof(char *)},
        {0}};
    char *texts[2] = {0};
    BlockNode *n = blk_root(blk);
    g_autoptr(GError) error = NULL;
    bool ok;
    if (g_str_has_prefix(snapshot, "snapshot.")) {
        g_autoptr(OptDict) d = opt_dict_parse(snapshot, NULL, &error);
        if (d == NULL || !opts_bind(options, texts, d, "-l", &error)) {
            img_error("%s", error->message);
            img_error("Failed in parsing snapshot param '%s'", snapshot);
            return false;
        }
        ok = block_node_co_view_snapshot(n, texts[0], texts[1], &error);
    } else { /* an id or a name */
        ok = block_node_co_view_snapshot(n, snapshot, NULL, NULL) ||
             block_node_co_view_snapshot(n, NULL, snapshot, &error);
    }
    if (!ok) {
        img_error("Failed to load snapshot: %s", error->message);
    }
    opts_clear(options, texts);
    return ok;
}
