/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/state_open.h"

#include <string.h>
#include "block/nbd/nbd_client_name.h"
#include "util/opts/opts.h"

#define STATE_JSON "json:"

bool state_name_is_path(const char *name)
{
    return !g_str_has_prefix(name, STATE_JSON) && !nbd_client_is_name(name);
}

static OptDict *state_describe(const char *name, GError **error)
{
    if (g_str_has_prefix(name, STATE_JSON)) {
        return opt_dict_parse(name + strlen(STATE_JSON), NULL, error);
    }
    OptDict *o = opt_dict_new();
    opt_dict_set(o, "driver", "raw");
    if (nbd_client_is_name(name)) {
        OptDict *file = nbd_client_describe_name(name, error);
        if (file == NULL) {
            opt_dict_free(o);
            return NULL;
        }
        opt_dict_set_dict(o, "file", file);
    } else {
        opt_dict_set(o, "file.driver", "file");
        opt_dict_set(o, "file.filename", name);
    }
    return o;
}

BlockNode *state_co_open(const char *name, AioContext *home, bool writable, GError **error)
{
    OptDict *o = state_describe(name, error);
    if (o == NULL) {
        return NULL;
    }
    opt_dict_set_default(o, "read-only", writable ? "off" : "on");
    BlockNode *node = block_co_open(o, home, error);
    opt_dict_free(o);
    return node;
}
