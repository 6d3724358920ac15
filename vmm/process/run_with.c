/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/run_with.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RUN_WITH_ID_MAX (UINT32_MAX - 1) /* the kernel takes -1 as "unchanged" */

typedef struct RunWithOptions {
    char *chroot, *user;
} RunWithOptions;

static const OptSpec run_with_options[] = {
    OPT_SPEC(RunWithOptions, "chroot", OPT_STRING, chroot),
    OPT_SPEC(RunWithOptions, "user", OPT_STRING, user),
    {0},
};

static bool run_with_fail(const char *what, const char *value, int err, GError **error)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "-run-with %s=%s: %s%s", what,
                value, g_strerror(err),
                err == EPERM ? "; only root may do that (or CAP_SYS_CHROOT, CAP_SETUID and "
                               "CAP_SETGID)"
                             : "");
    return false;
}

/* Parses "UID:GID". False: the text has another form. */
static bool run_with_parse_ids(RunWith *r, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 3);
    uint64_t uid, gid;
    if (g_strv_length(parts) != 2 || !opt_parse_u64(parts[0], 0, RUN_WITH_ID_MAX, &uid, NULL) ||
        !opt_parse_u64(parts[1], 0, RUN_WITH_ID_MAX, &gid, NULL)) {
        return false;
    }
    r->uid = (uid_t)uid;
    r->gid = (gid_t)gid;
    r->groups = g_new(gid_t, 1);
    r->groups[0] = r->gid;
    r->group_count = 1;
    return true;
}

static bool run_with_find_user(RunWith *r, const char *name, GError **error)
{
    g_autofree char *excerpt = opt_excerpt(name);
    if (run_with_parse_ids(r, name)) {
        return true;
    }
    errno = 0;
    struct passwd *user = getpwnam(name);
    if (user == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-run-with user=%s: there is no such user%s%s; give a name or UID:GID", excerpt,
                    errno != 0 ? ": " : "", errno != 0 ? g_strerror(errno) : "");
        return false;
    }
    r->uid = user->pw_uid;
    r->gid = user->pw_gid;
    int count = 0;
    getgrouplist(name, r->gid, NULL, &count); /* returns the number */
    r->groups = g_new(gid_t, (gsize)MAX(count, 1));
    r->group_count = count;
    if (getgrouplist(name, r->gid, r->groups, &r->group_count) < 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-run-with user=%s: the groups of this user cannot be read", excerpt);
        return false;
    }
    return true;
}

bool run_with_parse(RunWith *r, const OptDict *options, GError **error)
{
    RunWithOptions o;
    *r = (RunWith){0};
    if (options == NULL) {
        return true;
    }
    opts_init(run_with_options, &o);
    if (opt_dict_has(options, "async-teardown")) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "-run-with: skiff has no async-teardown; leave it off");
        return false;
    }
    if (!opts_bind(run_with_options, &o, options, "-run-with", error)) {
        return false;
    }
    struct stat st;
    bool ok = true;
    if (o.chroot == NULL && o.user == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                    "-run-with: wants chroot=DIRECTORY, user=NAME, or both");
        ok = false;
    } else if (o.chroot != NULL && stat(o.chroot, &st) != 0) {
        ok = run_with_fail("chroot", o.chroot, errno, error);
    } else if (o.chroot != NULL && !S_ISDIR(st.st_mode)) {
        ok = run_with_fail("chroot", o.chroot, ENOTDIR, error);
    }
    if (ok && o.user != NULL) {
        ok = r->has_user = run_with_find_user(r, o.user, error);
    }
    r->chroot = g_strdup(o.chroot);
    opts_clear(run_with_options, &o);
    return ok;
}

/* A process that stops being root loses all capabilities. One that had some without being root
 * would keep them. */
static bool run_with_has_no_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data) != 0) {
        return false;
    }
    return (data[0].effective | data[0].permitted | data[1].effective | data[1].permitted) == 0;
}

static bool run_with_change_user(const RunWith *r, GError **error)
{
    g_autofree char *name = g_strdup_printf("%u:%u", r->uid, r->gid);
    if (setgroups((size_t)r->group_count, r->groups) != 0 ||
        setresgid(r->gid, r->gid, r->gid) != 0 || setresuid(r->uid, r->uid, r->uid) != 0) {
        return run_with_fail("user", name, errno, error);
    }
    if (r->uid != 0 && (setresuid(0, 0, 0) == 0 || !run_with_has_no_capabilities())) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PERM,
                    "-run-with user=%s: capabilities of root remain, so skiff does not start",
                    name);
        return false;
    }
    return true;
}

bool run_with_apply(const RunWith *r, GError **error)
{
    if (r->chroot != NULL && (chroot(r->chroot) != 0 || chdir("/") != 0)) {
        return run_with_fail("chroot", r->chroot, errno, error);
    }
    return !r->has_user || run_with_change_user(r, error);
}

void run_with_clear(RunWith *r)
{
    g_free(r->chroot);
    g_free(r->groups);
    *r = (RunWith){0};
}
