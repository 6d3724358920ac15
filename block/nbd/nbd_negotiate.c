/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake: greeting, options, TLS. */
#include <errno.h>
#include <stdarg.h>
#include "block/nbd/nbd_int.h"
#include "block/trace_events.h"
#include "util/log.h"

static LogLimit negotiate_limit;

/* ---- replies ---- */

int nbd_option_co_reply(const NbdOptionCall *c, uint32_t type, const struct iovec *iov,
                        unsigned niov)
{
    uint8_t header[NBD_OPTION_REPLY_SIZE];
    struct iovec all[4] = {{header, sizeof(header)}};
    g_assert(niov < G_N_ELEMENTS(all));
    size_t length = 0;
    for (unsigned i = 0; i < niov; i++) {
        length += iov[i].iov_len;
        all[i + 1] = iov[i];
    }
    uint8_t *p = nbd_put64(header, NBD_OPTION_REPLY_MAGIC);
    p = nbd_put32(p, c->option);
    p = nbd_put32(p, type);
    nbd_put32(p, (uint32_t)length);
    return nbd_channel_co_write(&c->session->channel, all, niov + 1);
}

int nbd_option_co_error(const NbdOptionCall *c, uint32_t type, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    struct iovec iov = {text, MIN(strlen(text), NBD_STRING_MAX)};
    trace_nbd_option_error(c->session->channel.fd, c->option, type & ~NBD_REP_ERROR(0), text);
    return nbd_option_co_reply(c, type, &iov, 1);
}

/* ---- options without an export ---- */

static coroutine_fn RUNS_IN_MAIN int option_co_starttls(const NbdOptionCall *c)
{
    NbdSession *s = c->session;
    g_autoptr(GError) error = NULL;
    if (c->length != 0) {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID, "option %u has no data", c->option);
    }
    if (s->channel.tls != NULL) {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID, "TLS already enabled");
    }
    if (s->creds == NULL) {
        return nbd_option_co_error(c, NBD_REP_ERR_POLICY, "TLS not configured");
    }
    if (nbd_channel_has_input(&s->channel)) {
        return -EPROTO; /* bytes without protection would be taken for protected ones */
    }
    int ret = nbd_option_co_reply(c, NBD_REP_ACK, NULL, 0);
    if (ret == 0) {
        ret = nbd_channel_co_start_tls(&s->channel, s->creds, &error);
    }
    if (error != NULL) {
        log_limited(&negotiate_limit, "NBD server: %s", error->message);
    }
    s->mode = NBD_MODE_SIMPLE;
    s->contexts = s->contexts_serial = 0;
    return ret;
}

/* STRUCTURED_REPLY and EXTENDED_HEADERS. */
static coroutine_fn RUNS_IN_MAIN int option_co_mode(const NbdOptionCall *c, NbdMode mode)
{
    NbdSession *s = c->session;
    if (c->length != 0) {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID, "option %u has no data", c->option);
    }
    if (s->mode == mode) {
        return nbd_option_co_error(c, NBD_REP_ERR_INVALID, "%s already negotiated",
                                   mode == NBD_MODE_EXTENDED ? "extended headers"
                                                             : "structured reply");
    }
    if (s->mode > mode) {
        return nbd_option_co_error(c, NBD_REP_ERR_EXT_HEADER_REQD,
                                   "extended headers already negotiated");
    }
    s->mode = mode;
    return nbd_option_co_reply(c, NBD_REP_ACK, NULL, 0);
}

static coroutine_fn RUNS_IN_MAIN int option_co_abort(const NbdOptionCall *c)
{
    nbd_option_co_reply(c, NBD_REP_ACK, NULL, 0); /* the client may not wait for it */
    return -ECONNABORTED;
}

/* ---- options ---- */

/* Before TLS, if clients have to use it: nothing else is allowed, and nothing is told about exports. */
static coroutine_fn RUNS_IN_MAIN int option_co_run_before_tls(const NbdOptionCall *c)
{
    switch (c->option) {
    case NBD_OPT_STARTTLS:
        return option_co_starttls(c);
    case NBD_OPT_ABORT:
        return option_co_abort(c);
    case NBD_OPT_EXPORT_NAME:
        return -EPERM; /* it has no reply for errors */
    default:
        return nbd_option_co_error(c, NBD_REP_ERR_TLS_REQD, "Option 0x%x not permitted before TLS",
                                   c->option);
    }
}

static coroutine_fn RUNS_IN_MAIN int option_co_run(const NbdOptionCall *c)
{
    trace_nbd_option(c->session->channel.fd, c->option, c->length);
    if (c->session->creds != NULL && c->session->channel.tls == NULL) {
        return option_co_run_before_tls(c);
    }
    switch (c->option) {
    case NBD_OPT_EXPORT_NAME:
        return nbd_option_co_export_name(c);
    case NBD_OPT_ABORT:
        return option_co_abort(c);
    case NBD_OPT_LIST:
        return nbd_option_co_list(c);
    case NBD_OPT_STARTTLS:
        return option_co_starttls(c);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return nbd_option_co_info(c);
    case NBD_OPT_STRUCTURED_REPLY:
        return option_co_mode(c, NBD_MODE_STRUCTURED);
    case NBD_OPT_EXTENDED_HEADERS:
        return option_co_mode(c, NBD_MODE_EXTENDED);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return nbd_option_co_meta(c);
    default:
        return nbd_option_co_error(c, NBD_REP_ERR_UNSUP, "Unsupported option %u", c->option);
    }
}

/* An option that is too long. */
static coroutine_fn RUNS_IN_MAIN int option_co_skip(const NbdOptionCall *c)
{
    if (c->length > NBD_OPTION_SKIP_MAX || c->option == NBD_OPT_EXPORT_NAME) {
        return -EMSGSIZE;
    }
    int ret = nbd_channel_co_skip(&c->session->channel, c->length);
    if (ret != 1) {
        return ret < 0 ? ret : -ECONNRESET;
    }
    return nbd_option_co_error(c, NBD_REP_ERR_TOO_BIG, "option %u is too long", c->option);
}

static coroutine_fn RUNS_IN_MAIN int negotiate_co_option(NbdSession *s)
{
    uint8_t header[NBD_OPTION_SIZE];
    int ret = nbd_channel_co_read(&s->channel, header, sizeof(header));
    if (ret != 1) {
        return ret < 0 ? ret : -ECONNRESET;
    }
    if (nbd_get64(header) != NBD_OPTION_MAGIC) {
        return -EPROTO;
    }
    NbdOptionCall c = {
        .session = s, .option = nbd_get32(header + 8), .length = nbd_get32(header + 12)};
    if (!s->fixed && c.option != NBD_OPT_EXPORT_NAME) {
        return -EPROTO; /* such a client does not know replies to options */
    }
    if (c.length > NBD_OPTION_DATA_MAX) {
        return option_co_skip(&c);
    }
    g_autofree uint8_t *data = g_malloc0((size_t)c.length + 1);
    c.data = data;
    ret = nbd_channel_co_read(&s->channel, data, c.length);
    if (ret != 1) {
        return ret < 0 ? ret : -ECONNRESET;
    }
    return option_co_run(&c);
}

/* ---- the handshake ---- */

static coroutine_fn RUNS_IN_MAIN int negotiate_co_greet(NbdSession *s)
{
    uint8_t greeting[NBD_GREETING_SIZE], flags[4];
    uint8_t *p = nbd_put64(greeting, NBD_GREETING_MAGIC);
    p = nbd_put64(p, NBD_OPTION_MAGIC);
    nbd_put16(p, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    struct iovec iov = {greeting, sizeof(greeting)};
    int ret = nbd_channel_co_write(&s->channel, &iov, 1);
    if (ret < 0) {
        return ret;
    }
    ret = nbd_channel_co_read(&s->channel, flags, sizeof(flags));
    if (ret != 1) {
        return ret < 0 ? ret : -ECONNRESET;
    }
    uint32_t client = nbd_get32(flags);
    s->no_zeroes = (client & NBD_FLAG_NO_ZEROES) != 0;
    s->fixed = (client & NBD_FLAG_FIXED_NEWSTYLE) != 0;
    return (client & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) == 0 ? 0 : -EPROTO;
}

bool nbd_session_co_negotiate(NbdSession *s)
{
    int ret = negotiate_co_greet(s);
    while (ret == 0 && !atomic_load(&s->killed)) {
        ret = negotiate_co_option(s);
        co_yield_turn(); /* other clients have their turns */
    }
    trace_nbd_negotiated(s->channel.fd, ret);
    return ret == NBD_NEGOTIATED;
}
