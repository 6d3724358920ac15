/* SPDX-License-Identifier: Apache-2.0 */
/* The options common to nodes of every driver. */
#include <string.h>
#include "block/core/node_int.h"

enum { NODE_DISCARD_IGNORE, NODE_DISCARD_UNMAP, NODE_DISCARD_OFF, NODE_DISCARD_ON };
static const char *const node_discard_names[] = {"ignore", "unmap", "off", "on", NULL};
static const char *const node_detect_zeroes_names[] = {"off", NULL};

static const OptSpec node_options[] = {
    OPT_SPEC(NodeOptions, "driver", OPT_STRING, driver, .help = "the driver of the node"),
    OPT_SPEC(NodeOptions, "node-name", OPT_STRING, node_name,
             .help = "name that refers to the node"),
    OPT_SPEC(NodeOptions, "read-only", OPT_BOOL, read_only, .help = "refuse writes", .def = "off"),
    OPT_SPEC(NodeOptions, "auto-read-only", OPT_BOOL, auto_read_only,
             .help = "read-only if opening for writing fails", .def = "off"),
    OPT_SPEC(NodeOptions, "force-share", OPT_BOOL, force_share,
             .help = "with read-only: allow other writers", .def = "off"),
    OPT_SPEC(NodeOptions, "cache.direct", OPT_BOOL, cache_direct,
             .help = "bypass the host's page cache", .def = "off"),
    OPT_SPEC(NodeOptions, "cache.no-flush", OPT_BOOL, cache_no_flush,
             .help = "ignore flushes: fast, and a host crash loses data", .def = "off"),
    OPT_SPEC(NodeOptions, "discard", OPT_ENUM, discard, .help = "treatment of discards",
             .def = "ignore", .names = node_discard_names),
    OPT_SPEC(NodeOptions, "detect-zeroes", OPT_ENUM, detect_zeroes, .help = "only off is supported",
             .def = "off", .names = node_detect_zeroes_names),
    {0},
};

/* Moves the common options from @d into a separate dict. */
static OptDict *node_take_common(OptDict *d)
{
    OptDict *common = opt_dict_new();
    OptDict *cache = opt_dict_take_dict(d, "cache");
    if (cache != NULL) {
        opt_dict_set_dict(common, "cache", cache);
    }
    for (const OptSpec *spec = node_options; spec->name != NULL; spec++) {
        g_autofree char *value =
            strchr(spec->name, '.') == NULL ? opt_dict_take(d, spec->name) : NULL;
        if (value != NULL) {
            opt_dict_set(common, spec->name, value);
        }
    }
    return common;
}

bool node_options_take(OptDict *d, NodeOptions *o, GError **error)
{
    g_autoptr(OptDict) common = node_take_common(d);
    opts_init(node_options, o);
    return opts_bind(node_options, o, common, "blockdev", error);
}

void node_options_clear(NodeOptions *o)
{
    opts_clear(node_options, o);
}

BlockNodeFlags node_options_flags(const NodeOptions *o)
{
    return (BlockNodeFlags){
        .read_only = o->read_only,
        .auto_read_only = o->auto_read_only,
        .force_share = o->force_share,
        .cache_direct = o->cache_direct,
        .cache_no_flush = o->cache_no_flush,
        .discard_unmap = o->discard == NODE_DISCARD_UNMAP || o->discard == NODE_DISCARD_ON,
    };
}

static void node_inherit(OptDict *child, const char *key, bool value)
{
    opt_dict_set_default(child, key, value ? "on" : "off");
}

void node_options_inherit(OptDict *child, const BlockNodeFlags *flags)
{
    node_inherit(child, "read-only", flags->read_only);
    node_inherit(child, "auto-read-only", flags->auto_read_only);
    node_inherit(child, "force-share", flags->force_share);
    node_inherit(child, "cache.direct", flags->cache_direct);
    node_inherit(child, "cache.no-flush", flags->cache_no_flush);
    node_inherit(child, "discard", true); /* the parent decides which discards it sends */
}
