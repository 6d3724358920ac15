/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes below an image besides its file. An option ("backing", "data-file") describes or names
 * such a node, or says that there is none; without it the header does, as QEMU follows it:
 *
 *   json:{...}      a description of a node
 *   file:NAME       NAME
 *   PROTOCOL:...    refused: skiff has no such driver
 *   /NAME           an absolute name
 *   NAME            relative to the folder of the image that has the header
 *
 * The backing file has the format that the header names. Only if it names none, the first bytes of
 * the backing file decide between qcow2 and raw: it is read-only, so that a guest cannot write a
 * header into it.
 */
#include <errno.h>
#include "block/qcow2/qcow2.h"
#include "block/nbd/nbd_client_name.h"
#include "block/qcow2/qcow2_int.h"

/* ---- names ---- */

static bool children_has_protocol(const char *name)
{
    size_t length = strcspn(name, ":/");
    return name[length] == ':';
}

/* The path that @name in the header of @n means. NULL + @error. */
static char *children_resolve(const BlockNode *n, const char *name, GError **error)
{
    const char *base = n->file->drv->filename != NULL ? n->file->drv->filename(n->file) : NULL;
    if (g_str_has_prefix(name, "file:")) {
        name += strlen("file:");
    } else if (children_has_protocol(name)) {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: the header names '%s', whose protocol skiff does not support",
                    qcow2_who(n), excerpt);
        return NULL;
    }
    if (name[0] == '/') {
        return g_strdup(name);
    }
    if (base == NULL || nbd_client_is_name(base)) {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: the header names '%s', which is relative, but node '%s' has no file name; "
                    "describe the file with an option",
                    qcow2_who(n), excerpt, n->file->name);
        return NULL;
    }
    g_autofree char *folder = g_path_get_dirname(base);
    return g_strcmp0(folder, ".") == 0 && !g_str_has_prefix(base, "./")
               ? g_strdup(name)
               : g_build_filename(folder, name, NULL);
}

/* How requests to a file that the header names reach the host: as the image's, if what the file
 * inherits from the image's node allows it. NULL: the default. */
static RUNS_IN_MAIN const char *children_aio(const BlockNode *n)
{
    const char *aio = block_node_aio(n->file);
    return g_strcmp0(aio, "native") == 0 && !n->flags.cache_direct ? NULL : aio;
}

/* A description of the file that the header names. */
static RUNS_IN_MAIN OptDict *children_describe_file(const BlockNode *n, const char *name,
                                                    GError **error)
{
    const char *aio = children_aio(n);
    if (g_str_has_prefix(name, "json:")) {
        return opt_dict_parse(name + strlen("json:"), NULL, error);
    }
    if (nbd_client_is_name(name)) {
        return nbd_client_describe_name(name, error);
    }
    g_autofree char *path = children_resolve(n, name, error);
    if (path == NULL) {
        return NULL;
    }
    OptDict *d = opt_dict_new();
    opt_dict_set(d, "driver", "file");
    opt_dict_set(d, "filename", path);
    if (aio != NULL) {
        opt_dict_set(d, "aio", aio);
    }
    return d;
}

/* ---- the format of the backing file ---- */

/* The format of the file that @file describes, a string constant. NULL + @error. */
static coroutine_fn RUNS_IN_MAIN const char *children_co_probe(const BlockNode *n,
                                                               const OptDict *file, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_copy(file);
    opt_dict_set_default(d, "read-only", "on");
    opt_dict_set_default(d, "force-share", n->flags.force_share ? "on" : "off");
    opt_dict_set_default(d, "cache.direct", n->flags.cache_direct ? "on" : "off");
    const char *format;
    BlockNode *child = block_co_open(d, n->home, error);
    if (child == NULL) {
        return NULL;
    }
    int ret = qcow2_co_probe_node(child, &format);
    block_co_unref(child);
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "reading its format: %s",
                    g_strerror(-ret));
        return NULL;
    }
    if (!qcow2_probe_supported(format)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "skiff does not support the format '%s'",
                    format);
        return NULL;
    }
    return format;
}

/* Describes the node that the header names as backing file. NULL + @error. */
static coroutine_fn RUNS_IN_MAIN OptDict *children_co_imply_backing(const BlockNode *n,
                                                                    GError **error)
{
    const Qcow2State *s = n->state;
    g_autoptr(OptDict) file = children_describe_file(n, s->header.backing_name, error);
    const char *format = s->header.backing_format;
    if (file == NULL) {
        return NULL;
    }
    if (g_str_has_prefix(s->header.backing_name, "json:")) {
        return g_steal_pointer(&file); /* it names its driver */
    }
    if (format == NULL) {
        format = children_co_probe(n, file, error);
    } else if (strcmp(format, "file") == 0 || strcmp(format, "host_device") == 0) {
        return g_steal_pointer(&file);
    }
    if (format == NULL) {
        return NULL;
    }
    OptDict *d = opt_dict_new();
    opt_dict_set(d, "driver", format);
    opt_dict_set_dict(d, "file", g_steal_pointer(&file));
    return d;
}

/* ---- opening ---- */

static void children_prefix(const BlockNode *n, const char *what, GError **error)
{
    if (g_error_matches(*error, BLOCK_ERROR, BLOCK_ERROR_DEPTH)) {
        /* one name, instead of one for each image of the chain */
        g_clear_error(error);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_DEPTH,
                    "%s of '%s': the chain of backing files is a loop, or has more than %u nodes",
                    what, qcow2_who(n), BLOCK_DEPTH_MAX);
        return;
    }
    g_prefix_error(error, "%s of '%s': ", what, qcow2_who(n));
}

static coroutine_fn RUNS_IN_MAIN bool children_co_open(BlockNode *n, const char *name,
                                                       BlockChildRole role, OptDict *implied,
                                                       GError **error)
{
    if (block_node_co_open_child(n, name, role, implied, error)) {
        return true;
    }
    children_prefix(n, role == BLOCK_ROLE_DATA ? "data file" : "backing file", error);
    return false;
}

static coroutine_fn RUNS_IN_MAIN bool children_co_open_data(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    bool described = opt_dict_has(n->child_options, "data-file");
    OptDict *implied = NULL;
    s->data = n->file;
    if (!qcow2_has_data_file(&s->header)) {
        if (described) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                        "%s: 'data-file' can only be set for images with an external data file",
                        qcow2_who(n));
        }
        return !described;
    }
    if (!described && s->header.data_file != NULL) {
        implied = children_describe_file(n, s->header.data_file, error);
        if (implied == NULL) {
            return false;
        }
    }
    if (!children_co_open(n, "data-file", BLOCK_ROLE_DATA, implied, error)) {
        return false;
    }
    s->data = block_node_child(n, "data-file");
    if (s->data == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "%s: 'data-file' is required for this image", qcow2_who(n));
    }
    return s->data != NULL;
}

static coroutine_fn RUNS_IN_MAIN bool children_co_open_backing(BlockNode *n, GError **error)
{
    const Qcow2State *s = n->state;
    OptDict *implied = NULL;
    if (!opt_dict_has(n->child_options, "backing") && s->header.backing_name != NULL) {
        implied = children_co_imply_backing(n, error);
        if (implied == NULL) {
            children_prefix(n, "backing file", error);
            return false;
        }
    }
    return children_co_open(n, "backing", BLOCK_ROLE_BACKING, implied, error);
}

bool qcow2_co_open_children(BlockNode *n, GError **error)
{
    return children_co_open_data(n, error) && children_co_open_backing(n, error);
}

void qcow2_child_changed(BlockNode *n)
{
    Qcow2State *s = n->state;
    s->data = qcow2_has_data_file(&s->header) ? block_node_child(n, "data-file") : n->file;
}
