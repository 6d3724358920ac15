/* SPDX-License-Identifier: Apache-2.0 */
#include "block/chain/chain_commit.h"
#include <errno.h>
#include "block/chain/chain.h"
#include "block/job/mirror.h"

/* ---- checks ---- */

bool chain_can_commit(BlockNode *n)
{
    return chain_image(n)->backing != NULL;
}

/* The base changes: nobody else may see it. */
static RUNS_IN_MAIN bool commit_check_base(const BlockNode *top, const BlockNode *base,
                                           GError **error)
{
    for (unsigned i = 0; i < base->parents->len; i++) {
        const BlockEdge *e = base->parents->pdata[i];
        if (e->parent != top && e->uses != 0) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "node '%s' cannot be changed: %s uses it", base->name, e->user);
            return false;
        }
    }
    return block_node_check_no_job(top, error);
}

/* ---- the job ---- */

Job *chain_commit_co_start(BlockNode *n, const char *id, GError **error)
{
    BlockNode *top = chain_image(n), *base = top->backing;
    if (base == NULL || top->drv->co_make_empty == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "%s", g_strerror(ENOTSUP));
        return NULL;
    }
    if (block_node_read_only(top)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "%s", g_strerror(EACCES));
        return NULL;
    }
    if (!commit_check_base(top, base, error)) {
        return NULL;
    }
    BlockMirrorConfig config = {.job.id = id,
                                .source = top,
                                .target = base,
                                .commit = true,
                                .keep_chain = true,
                                .unmap = true};
    return block_mirror_co_start(&config, error);
}
