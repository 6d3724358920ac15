/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes below an image besides its file. An option ("backing", "data-file") describes such a
 * node completely; without it the header does, as QEMU follows it:
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
    if (base == NULL) {
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

/* A description of the file that the header names. */
static OptDict *children_describe_file(const BlockNode *n, const char *name, GError **error)
{
    if (g_str_has_prefix(name, "json:")) {
        return opt_dict_parse(name + strlen("json:"), NULL, error);
    }
    g_autofree char *path = children_resolve(n, name, error);
    if (path == NULL) {
        return NULL;
    }
    OptDict *d = opt_dict_new();
    opt_dict_set(d, "driver", "file");
    opt_dict_set(d, "filename", path);
    return d;
}

/* ---- the format of the backing file ---- */

typedef struct Probe {
    BlockNode *node;
    uint8_t bytes[QCOW2_PROBE_LENGTH];
    int ret;
} Probe;

static void children_probe_in_home(void *opaque)
{
    Probe *p = opaque;
    enter_coroutine();
    enter_iothread(p->node->home);
    struct iovec iov = {p->bytes, sizeof(p->bytes)};
    p->ret = qcow2_co_read_child(p->node, 0, sizeof(p->bytes), &iov, 1);
}

/* The format of the file that @file describes, a string constant. NULL + @error. */
static coroutine_fn RUNS_IN_MAIN const char *children_co_probe(const BlockNode *n,
                                                               const OptDict *file, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_copy(file);
    opt_dict_set_default(d, "read-only", "on");
    opt_dict_set_default(d, "force-share", n->flags.force_share ? "on" : "off");
    Probe p = {.node = block_co_open(d, n->home, error)};
    if (p.node == NULL) {
        return NULL;
    }
    co_call_in(p.node->home, children_probe_in_home, &p);
    block_co_unref(p.node);
    if (p.ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "reading its format: %s",
                    g_strerror(-p.ret));
        return NULL;
    }
    const char *format = qcow2_probe(p.bytes, sizeof(p.bytes));
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

/* The images that a coroutine is opening, each the backing file of the one before. */
typedef struct ChildrenOpening {
    const Coroutine *co;
    struct ChildrenOpening *outer;
} ChildrenOpening;
static ChildrenOpening *children_opening; /* main only */

/* Limits the chain: a header can name its own image. */
static bool children_check_depth(const BlockNode *n, GError **error)
{
    unsigned depth = 0;
    for (const ChildrenOpening *o = children_opening; o != NULL; o = o->outer) {
        depth += o->co == co_self();
    }
    if (depth > QCOW2_CHAIN_MAX) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: the chain of backing files is a loop, or longer than %u images",
                    qcow2_who(n), QCOW2_CHAIN_MAX);
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN BlockNode *
children_co_open(BlockNode *n, OptDict *d, bool read_only, const char *what, GError **error)
{
    ChildrenOpening o = {.co = co_self(), .outer = children_opening};
    opt_dict_set(d, "read-only", read_only ? "on" : "off");
    opt_dict_set_default(d, "cache.direct", n->flags.cache_direct ? "on" : "off");
    opt_dict_set_default(d, "cache.no-flush", n->flags.cache_no_flush ? "on" : "off");
    opt_dict_set_default(d, "force-share", n->flags.force_share ? "on" : "off");
    children_opening = &o;
    BlockNode *child = children_check_depth(n, error) ? block_co_open(d, n->home, error) : NULL;
    ChildrenOpening **link = &children_opening;
    while (*link != &o) {
        link = &(*link)->outer; /* another coroutine may have begun to open an image meanwhile */
    }
    *link = o.outer;
    if (child == NULL) {
        g_prefix_error(error, "%s of '%s': ", what, qcow2_who(n));
        return NULL;
    }
    if (child->home != n->home) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "%s of '%s' lives in iothread '%s', the image in '%s'", what, qcow2_who(n),
                    aio_context_name(child->home), aio_context_name(n->home));
        block_co_unref(child);
        return NULL;
    }
    return child;
}

static coroutine_fn RUNS_IN_MAIN bool children_co_open_data(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    g_autoptr(OptDict) d = s->data_option != NULL ? opt_dict_copy(s->data_option) : NULL;
    s->data = n->file;
    if (!qcow2_has_data_file(&s->header)) {
        if (d != NULL) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                        "%s: 'data-file' can only be set for images with an external data file",
                        qcow2_who(n));
            return false;
        }
        return true;
    }
    if (d == NULL && s->header.data_file == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "%s: 'data-file' is required for this image", qcow2_who(n));
        return false;
    }
    if (d == NULL) {
        d = children_describe_file(n, s->header.data_file, error);
    }
    s->own_data = d != NULL ? children_co_open(n, d, n->flags.read_only, "data file", error) : NULL;
    s->data = s->own_data;
    return s->own_data != NULL;
}

static coroutine_fn RUNS_IN_MAIN bool children_co_open_backing(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    g_autoptr(OptDict) d = NULL;
    if (s->backing_option != NULL) {
        d = opt_dict_copy(s->backing_option);
    } else if (s->header.backing_name != NULL) {
        d = children_co_imply_backing(n, error);
        if (d == NULL) {
            g_prefix_error(error, "backing file of '%s': ", qcow2_who(n));
            return false;
        }
    } else {
        return true;
    }
    s->backing = children_co_open(n, d, true, "backing file", error);
    return s->backing != NULL;
}

bool qcow2_co_open_children(BlockNode *n, GError **error)
{
    if (children_co_open_data(n, error) && children_co_open_backing(n, error)) {
        return true;
    }
    qcow2_co_close_children(n);
    return false;
}

void qcow2_co_close_children(BlockNode *n)
{
    Qcow2State *s = n->state;
    if (s->backing != NULL) {
        block_co_unref(s->backing);
        s->backing = NULL;
    }
    if (s->own_data != NULL) {
        block_co_unref(s->own_data);
        s->own_data = NULL;
    }
}

/* ---- moving ---- */

static coroutine_fn RUNS_IN_MAIN void children_co_return(BlockNode *child, AioContext *home)
{
    g_autoptr(GError) error = NULL;
    if (child != NULL && !block_co_move(child, home, &error)) {
        bug_abort("node '%s' cannot return to its iothread: %s", child->name, error->message);
    }
}

bool qcow2_co_move_children(BlockNode *n, AioContext *home, GError **error)
{
    Qcow2State *s = n->state;
    if (s->backing != NULL && !block_co_move(s->backing, home, error)) {
        return false;
    }
    if (s->own_data != NULL && !block_co_move(s->own_data, home, error)) {
        children_co_return(s->backing, n->home);
        return false;
    }
    return true;
}

void qcow2_co_return_children(BlockNode *n, AioContext *home)
{
    Qcow2State *s = n->state;
    children_co_return(s->backing, home);
    children_co_return(s->own_data, home);
}
