/* SPDX-License-Identifier: Apache-2.0 */
/* Options that concern an export: EXPORT_NAME, LIST, INFO, GO. */
#include <errno.h>
#include "block/nbd/nbd_int.h"

/* The client chooses the export. */
static RUNS_IN_MAIN void option_choose(NbdSession *s, NbdExport *e)
{
    if (s->contexts_serial != e->serial) { /* they were of another export */
        s->contexts = 0;
    }
    s->export = e;
    s->size = blk_size(e->blk);
    nbd_export_enter(e);
}

int nbd_option_co_export_name(const NbdOptionCall *c)
{
    NbdSession *s = c->session;
    uint8_t reply[10 + 124] = {0};
    NbdExport *e = nbd_export_find((const char *)c->data, c->length);
    if (e == NULL || s->mode == NBD_MODE_EXTENDED) {
        return -ENOENT;
    }
    option_choose(s, e);
    uint8_t *p = nbd_put64(reply, s->size);
    nbd_put16(p, nbd_export_flags(e, s));
    struct iovec iov = {reply, s->no_zeroes ? 10 : sizeof(reply)};
    int ret = nbd_channel_co_write(&s->channel, &iov, 1);
    return ret < 0 ? ret : NBD_NEGOTIATED;
}

/* An export may go while a reply waits for the client, so the list is walked by serial numbers. */
static RUNS_IN_MAIN const NbdExport *option_next_export(uint64_t after)
{
    const NbdExport *e;
    for (unsigned i = 0; (e = nbd_export_at(i)) != NULL; i++) {
        if (e->serial > after && !e->removing) {
            return e;
        }
    }
    return NULL;
}

int nbd_option_co_list(const NbdOptionCall *c)
{
    if (c->length != 0) {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID, "option %u has no data", c->option);
    }
    const NbdExport *e;
    for (uint64_t serial = 0; (e = option_next_export(serial)) != NULL;) {
        serial = e->serial;
        g_autofree char *name = g_strdup(e->name);
        g_autofree char *description = g_strdup(e->description != NULL ? e->description : "");
        uint8_t length[4];
        nbd_put32(length, (uint32_t)strlen(name));
        struct iovec iov[] = {
            {length, 4}, {name, strlen(name)}, {description, strlen(description)}};
        int ret = nbd_option_co_reply(c, NBD_REP_SERVER, iov, 3);
        if (ret < 0) {
            return ret;
        }
    }
    return nbd_option_co_reply(c, NBD_REP_ACK, NULL, 0);
}

/* ---- INFO and GO ---- */

typedef struct InfoOption {
    const char *name;
    uint32_t name_length;
    bool wants_name, wants_description;
} InfoOption;

/* name length(4), name, count(2), kinds(2 each) */
static bool option_parse_info(const NbdOptionCall *c, InfoOption *o)
{
    if (c->length < 4 + 2) {
        return false;
    }
    o->name_length = nbd_get32(c->data);
    if (o->name_length > NBD_STRING_MAX || o->name_length > c->length - 6) {
        return false;
    }
    o->name = (const char *)c->data + 4;
    const uint8_t *p = c->data + 4 + o->name_length;
    unsigned count = nbd_get16(p);
    if (c->length != 4 + o->name_length + 2 + 2 * count) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        unsigned kind = nbd_get16(p + 2 + 2 * (size_t)i);
        o->wants_name = o->wants_name || kind == NBD_INFO_NAME;
        o->wants_description = o->wants_description || kind == NBD_INFO_DESCRIPTION;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN int option_co_info_text(const NbdOptionCall *c, unsigned kind,
                                                         const char *text)
{
    uint8_t header[2];
    nbd_put16(header, (uint16_t)kind);
    struct iovec iov[] = {{header, 2}, {(char *)(uintptr_t)text, strlen(text)}};
    return nbd_option_co_reply(c, NBD_REP_INFO, iov, 2);
}

static coroutine_fn RUNS_IN_MAIN int option_co_info_numbers(const NbdOptionCall *c, uint64_t size,
                                                            uint16_t flags, uint32_t preferred)
{
    uint8_t block[14], export[12];
    uint8_t *p = nbd_put16(block, NBD_INFO_BLOCK_SIZE);
    p = nbd_put32(p, 1); /* the border of the block layer aligns */
    p = nbd_put32(p, preferred);
    nbd_put32(p, NBD_DATA_MAX);
    struct iovec iov = {block, sizeof(block)};
    int ret = nbd_option_co_reply(c, NBD_REP_INFO, &iov, 1);
    if (ret < 0) {
        return ret;
    }
    p = nbd_put16(export, NBD_INFO_EXPORT);
    p = nbd_put64(p, size);
    nbd_put16(p, flags);
    iov = (struct iovec){export, sizeof(export)};
    return nbd_option_co_reply(c, NBD_REP_INFO, &iov, 1);
}

/* The export is entered, so it stays. */
static coroutine_fn RUNS_IN_MAIN int option_co_info_replies(const NbdOptionCall *c,
                                                            const InfoOption *o)
{
    const NbdSession *s = c->session;
    const NbdExport *e = s->export;
    int ret = 0;
    if (o->wants_name) {
        ret = option_co_info_text(c, NBD_INFO_NAME, e->name);
    }
    if (ret == 0 && o->wants_description && e->description != NULL) {
        ret = option_co_info_text(c, NBD_INFO_DESCRIPTION, e->description);
    }
    if (ret == 0) {
        uint32_t preferred = MAX(4096u, blk_limits(e->blk).request_alignment);
        ret = option_co_info_numbers(c, s->size, nbd_export_flags(e, s), preferred);
    }
    return ret < 0 ? ret : nbd_option_co_reply(c, NBD_REP_ACK, NULL, 0);
}

int nbd_option_co_info(const NbdOptionCall *c)
{
    NbdSession *s = c->session;
    InfoOption o = {0};
    if (!option_parse_info(c, &o)) {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID, "option %u is malformed", c->option);
    }
    NbdExport *e = nbd_export_find(o.name, o.name_length);
    if (e == NULL) {
        g_autofree char *name = g_strndup(o.name, o.name_length);
        g_autofree char *shown = opt_printable(name);
        return nbd_option_co_error(c, NBD_REP_ERR_UNKNOWN, "export '%s' not present", shown);
    }
    uint64_t contexts = s->contexts;
    option_choose(s, e);
    int ret = option_co_info_replies(c, &o);
    if (ret == 0 && c->option == NBD_OPT_GO) {
        return NBD_NEGOTIATED;
    }
    s->contexts = contexts;
    s->export = NULL;
    nbd_export_leave(e);
    return ret;
}
