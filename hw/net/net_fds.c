/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that options name. They are the user's until the back end is open: it duplicates what it uses.
 * Then they are closed, so that the back end's own are the last ones: the other end sees when it is removed.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "hw/net/net_int.h"

#define NET_FDS_FIRST 3 /* standard descriptors stay open */

static GArray *net_fds_claimed; /* numbers, of all back ends that are being opened */

/* ---- options ---- */

/* The dictionary with option @name ("addr.str" may be str of addr), and its name there. */
static OptDict *fds_dict_of(OptDict *opts, const char **name)
{
    const char *dot = strchr(*name, '.');
    if (dot == NULL || opt_dict_has(opts, *name)) {
        return opts;
    }
    g_autofree char *outer = g_strndup(*name, (size_t)(dot - *name));
    OptDict *inner = opt_dict_get_dict(opts, outer);
    *name = inner != NULL ? dot + 1 : *name;
    return inner != NULL ? inner : opts;
}

static char **fds_split(const NetFdOption *option, const char *text)
{
    return g_strsplit(text, ":", option->is_list ? 0 : 1);
}

bool net_fds_resolve(OptDict *opts, NetFdLookUp look_up, void *opaque, GArray *taken,
                     GError **error)
{
    const NetType *type = net_type_of(opts);
    for (const NetFdOption *o = type != NULL ? type->fd_options : NULL; o != NULL && o->name; o++) {
        const char *name = o->name;
        OptDict *dict = fds_dict_of(opts, &name);
        const char *text = opt_dict_get(dict, name);
        g_auto(GStrv) list = text != NULL ? fds_split(o, text) : g_new0(char *, 1);
        for (char **item = list; *item != NULL; item++) {
            if (**item == '\0' || g_ascii_isdigit(**item)) {
                continue;
            }
            int fd = look_up(*item, opaque, error);
            if (fd < 0) {
                return false;
            }
            g_array_append_val(taken, fd);
            fcntl(fd, F_SETFD, 0); /* as one that is inherited */
            g_free(*item);
            *item = g_strdup_printf("%d", fd);
        }
        if (text != NULL) {
            g_autofree char *numbers = g_strjoinv(":", list);
            opt_dict_set(dict, name, numbers);
        }
    }
    return true;
}

/* ---- claims ---- */

static bool fds_has(const GArray *list, int fd)
{
    for (unsigned i = 0; list != NULL && i < list->len; i++) {
        if (g_array_index(list, int, i) == fd) {
            return true;
        }
    }
    return false;
}

/* skiff's own descriptors are closed by exec, and those that it has inherited were not. */
static RUNS_IN_MAIN bool fds_claim_one(GArray *fds, const char *option, int fd, GError **error)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0) {
        return true; /* the back end says so */
    }
    if (fds_has(net_fds_claimed, fd)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s=: descriptor %d is given twice", option,
                    fd);
        return false;
    }
    if (flags & FD_CLOEXEC) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "%s=: descriptor %d is not one that skiff has inherited", option, fd);
        return false;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    g_array_append_val(fds, fd);
    g_array_append_val(net_fds_claimed, fd);
    return true;
}

bool net_fds_claim(GArray *fds, const NetType *type, const OptDict *opts, GError **error)
{
    if (net_fds_claimed == NULL) {
        net_fds_claimed = g_array_new(FALSE, FALSE, sizeof(int));
    }
    for (const NetFdOption *o = type->fd_options; o != NULL && o->name != NULL; o++) {
        const char *name = o->name;
        const OptDict *dict = fds_dict_of((OptDict *)(uintptr_t)opts, &name);
        const char *text = opt_dict_get(dict, name);
        g_auto(GStrv) list = text != NULL ? fds_split(o, text) : g_new0(char *, 1);
        for (unsigned i = 0; list[i] != NULL && fds->len <= NET_FDS_MAX; i++) {
            uint64_t fd;
            if (opt_parse_u64(list[i], NET_FDS_FIRST, INT32_MAX, &fd, NULL) &&
                !fds_claim_one(fds, o->name, (int)fd, error)) {
                return false;
            }
        }
    }
    return true;
}

void net_fds_end(GArray *fds, bool opened)
{
    for (unsigned i = 0; i < fds->len; i++) {
        int fd = g_array_index(fds, int, i);
        unsigned at = 0;
        while (g_array_index(net_fds_claimed, int, at) != fd) {
            at++;
        }
        g_array_remove_index_fast(net_fds_claimed, at);
        if (opened) {
            close(fd);
        } else {
            fcntl(fd, F_SETFD, 0);
        }
    }
}
