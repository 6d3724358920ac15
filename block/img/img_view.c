/* SPDX-License-Identifier: Apache-2.0 */
/* -l: the disk as an internal snapshot has it. */
#include "block/img/img.h"

typedef struct View {
    BlockNode *node;
    const char *id, *name;
    bool either; /* id is an id or a name */
    bool ok;
    GError *error;
} View;

static void view_at_home(void *opaque)
{
    View *v = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(v->node));
    v->ok = block_node_co_view_snapshot(v->node, v->id, v->name, v->either ? NULL : &v->error) ||
            (v->either && block_node_co_view_snapshot(v->node, NULL, v->id, &v->error));
}

bool img_co_view(BlockBackend *blk, const char *snapshot)
{
    static const OptSpec options[] = {
        {.name = "snapshot.id", .type = OPT_STRING, .offset = 0},
        {.name = "snapshot.name", .type = OPT_STRING, .offset = sizeof(char *)},
        {0}};
    char *texts[2] = {0};
    View v = {.node = blk_root(blk), .id = snapshot, .either = true};
    g_autoptr(GError) error = NULL;
    if (g_str_has_prefix(snapshot, "snapshot.")) {
        g_autoptr(OptDict) d = opt_dict_parse(snapshot, NULL, &error);
        if (d == NULL || !opts_bind(options, texts, d, "-l", &error)) {
            img_error("%s", error->message);
            img_error("Failed in parsing snapshot param '%s'", snapshot);
            return false;
        }
        v = (View){.node = v.node, .id = texts[0], .name = texts[1]};
    }
    co_call_in(block_node_home(v.node), view_at_home, &v);
    if (!v.ok) {
        img_error("Failed to load snapshot: %s", v.error->message);
        g_clear_error(&v.error);
    }
    opts_clear(options, texts);
    return v.ok;
}
