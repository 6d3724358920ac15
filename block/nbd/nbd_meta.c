/* SPDX-License-Identifier: Apache-2.0 */
/* LIST_META_CONTEXT and SET_META_CONTEXT: which kinds of block status a client can ask for. */
#include <errno.h>
#include "block/nbd/nbd_int.h"

#define META_BASE "base:"
#define META_ALLOCATION "base:allocation"
#define META_QEMU "qemu:"
#define META_DEPTH "qemu:allocation-depth"
#define META_BITMAP "qemu:dirty-bitmap:"

/* A position in an option's data. */
typedef struct MetaInput {
    const uint8_t *at, *end;
} MetaInput;

static bool meta_take_number(MetaInput *in, uint32_t *value)
{
    if (in->end - in->at < 4) {
        return false;
    }
    *value = nbd_get32(in->at);
    in->at += 4;
    return true;
}

static bool meta_take_string(MetaInput *in, const char **text, uint32_t *length)
{
    if (!meta_take_number(in, length) || *length > NBD_STRING_MAX ||
        (size_t)(in->end - in->at) < *length) {
        return false;
    }
    *text = (const char *)in->at;
    in->at += *length;
    return true;
}

static bool meta_equals(const char *query, size_t length, const char *text)
{
    return strlen(text) == length && memcmp(query, text, length) == 0;
}

static bool meta_begins(const char *query, size_t length, const char *text)
{
    return length >= strlen(text) && memcmp(query, text, strlen(text)) == 0;
}

static uint64_t meta_bitmaps(const NbdExport *e)
{
    return ((UINT64_C(1) << e->bitmap_count) - 1) << NBD_CONTEXT_BITMAP;
}

static uint64_t meta_depth(const NbdExport *e)
{
    return e->allocation_depth ? UINT64_C(1) << NBD_CONTEXT_DEPTH : 0;
}

static uint64_t meta_all(const NbdExport *e)
{
    return UINT64_C(1) << NBD_CONTEXT_ALLOCATION | meta_depth(e) | meta_bitmaps(e);
}

/* The contexts that a query means. @list: a name space means all of it. */
static uint64_t meta_match(const NbdExport *e, const char *query, size_t length, bool list)
{
    if (meta_equals(query, length, META_ALLOCATION) ||
        (list && meta_equals(query, length, META_BASE))) {
        return UINT64_C(1) << NBD_CONTEXT_ALLOCATION;
    }
    if (list && meta_equals(query, length, META_QEMU)) {
        return meta_depth(e) | meta_bitmaps(e);
    }
    if (meta_equals(query, length, META_DEPTH)) {
        return meta_depth(e);
    }
    if (list && meta_equals(query, length, META_BITMAP)) {
        return meta_bitmaps(e);
    }
    if (meta_begins(query, length, META_BITMAP)) {
        size_t skip = strlen(META_BITMAP);
        for (unsigned i = 0; i < e->bitmap_count; i++) {
            if (meta_equals(query + skip, length - skip, e->bitmaps[i].name)) {
                return UINT64_C(1) << (NBD_CONTEXT_BITMAP + i);
            }
        }
    }
    return 0;
}

/* To be freed. */
static char *meta_name(const NbdExport *e, unsigned context)
{
    switch (context) {
    case NBD_CONTEXT_ALLOCATION:
        return g_strdup(META_ALLOCATION);
    case NBD_CONTEXT_DEPTH:
        return g_strdup(META_DEPTH);
    default:
        return g_strconcat(META_BITMAP, e->bitmaps[context - NBD_CONTEXT_BITMAP].name, NULL);
    }
}

static coroutine_fn RUNS_IN_MAIN int meta_co_reply(const NbdOptionCall *c, NbdExport *e,
                                                   uint64_t contexts)
{
    int ret = 0;
    for (unsigned i = 0; i < NBD_CONTEXTS_MAX && ret == 0; i++) {
        if ((contexts & UINT64_C(1) << i) == 0) {
            continue;
        }
        g_autofree char *name = meta_name(e, i);
        uint8_t id[4];
        nbd_put32(id, c->option == NBD_OPT_SET_META_CONTEXT ? i : 0);
        struct iovec iov[] = {{id, 4}, {name, strlen(name)}};
        ret = nbd_option_co_reply(c, NBD_REP_META_CONTEXT, iov, 2);
    }
    return ret < 0 ? ret : nbd_option_co_reply(c, NBD_REP_ACK, NULL, 0);
}

/* Reads the queries. False: they are malformed. */
static bool meta_collect(const NbdExport *e, MetaInput *in, bool list, uint64_t *contexts)
{
    uint32_t count, length;
    const char *query;
    *contexts = 0;
    if (!meta_take_number(in, &count)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!meta_take_string(in, &query, &length)) {
            return false;
        }
        *contexts |= e != NULL ? meta_match(e, query, length, list) : 0;
    }
    if (list && count == 0 && e != NULL) {
        *contexts = meta_all(e);
    }
    return in->at == in->end;
}

int nbd_option_co_meta(const NbdOptionCall *c)
{
    NbdSession *s = c->session;
    bool list = c->option == NBD_OPT_LIST_META_CONTEXT;
    MetaInput in = {.at = c->data, .end = c->data + c->length};
    const char *name;
    uint32_t length;
    uint64_t contexts = 0;
    if (!list) {
        s->contexts = s->contexts_serial = 0;
    }
    if (s->mode < NBD_MODE_STRUCTURED) {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID,
                                   "option %u needs structured replies, which are not negotiated",
                                   c->option);
    }
    NbdExport *e = NULL;
    if (meta_take_string(&in, &name, &length)) {
        e = nbd_export_find(name, length);
    } else {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID, "option %u is malformed", c->option);
    }
    if (!meta_collect(e, &in, list, &contexts)) {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID, "option %u is malformed", c->option);
    }
    if (e == NULL) {
        g_autofree char *text = g_strndup(name, length);
        g_autofree char *shown = opt_printable(text);
        return nbd_option_co_error(c, NBD_REP_ERR_UNKNOWN, "export '%s' not present", shown);
    }
    if (!list) {
        s->contexts = contexts;
        s->contexts_serial = e->serial;
    }
    nbd_export_enter(e); /* it stays while the replies wait for the client */
    int ret = meta_co_reply(c, e, contexts);
    nbd_export_leave(e);
    return ret;
}
