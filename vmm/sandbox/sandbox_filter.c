/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles rows to filters with libseccomp; the most frequent test comes first. */
#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/sandbox/sandbox_int.h"

/* Converts a test to libseccomp's form; for one of the values. */
static struct scmp_arg_cmp filter_compare(const SandboxTest *test, unsigned value)
{
    if (test->mask == UINT64_MAX) {
        return SCMP_CMP64(test->argument, SCMP_CMP_EQ, test->values[value], 0);
    }
    return SCMP_CMP64(test->argument, SCMP_CMP_MASKED_EQ, test->mask, test->values[value]);
}

/* Adds a row; a test with several values becomes several rules. */
static int filter_add_row(scmp_filter_ctx ctx, const SandboxRow *row)
{
    uint32_t action = row->error != 0 ? SCMP_ACT_ERRNO((unsigned)row->error) : SCMP_ACT_ALLOW;
    unsigned first = MAX(row->tests[0].count, 1), second = MAX(row->tests[1].count, 1);
    for (unsigned i = 0; i < first * second; i++) {
        struct scmp_arg_cmp compare[2];
        unsigned n = 0;
        if (row->tests[0].count > 0) {
            compare[n++] = filter_compare(&row->tests[0], i % first);
        }
        if (row->tests[1].count > 0) {
            compare[n++] = filter_compare(&row->tests[1], i / first);
        }
        int ret = seccomp_rule_add_array(ctx, action, row->call, n, compare);
        if (ret != 0) {
            return ret;
        }
    }
    return 0;
}

/* Whether a row allows the call to some of @roles without tests. */
static bool filter_is_unrestricted(int call, unsigned roles)
{
    for (unsigned i = 0; i < sandbox_row_count; i++) {
        const SandboxRow *row = &sandbox_rows[i];
        if (row->call == call && (row->roles & roles) != 0 && row->error == 0 &&
            row->tests[0].count == 0) {
            return true;
        }
    }
    return false;
}

/* Adds unrestricted calls first: libseccomp then ignores their rows with tests. */
static int filter_add_rows(scmp_filter_ctx ctx, unsigned roles)
{
    for (unsigned i = 0; i < sandbox_row_count; i++) {
        const SandboxRow *row = &sandbox_rows[i];
        if ((row->roles & roles) == 0 || (filter_is_unrestricted(row->call, roles) &&
                                          (row->error != 0 || row->tests[0].count > 0))) {
            continue;
        }
        int ret = filter_add_row(ctx, row);
        if (ret != 0) {
            return ret;
        }
    }
    return 0;
}

static int filter_export(scmp_filter_ctx ctx, SandboxFilter *filter)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int ret = seccomp_export_bpf(ctx, fd);
    struct stat st;
    if (ret == 0 && fstat(fd, &st) != 0) {
        ret = -errno;
    }
    if (ret == 0) {
        filter->program.len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
        filter->program.filter = g_malloc((size_t)st.st_size);
        if (pread(fd, filter->program.filter, (size_t)st.st_size, 0) != st.st_size) {
            ret = -EIO;
        }
    }
    close(fd);
    return ret;
}

bool sandbox_filter_build(SandboxFilter *filter, unsigned roles, GError **error)
{
    *filter = (SandboxFilter){0};
    int ret = -ENOMEM;
    /* A call that is not of this architecture's table (the 32-bit table, x32) kills at once. */
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
    if (ctx != NULL) {
        ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    }
    if (ret == 0) {
        ret = seccomp_syscall_priority(ctx, SCMP_SYS(ioctl), UINT8_MAX); /* KVM_RUN */
    }
    if (ret == 0) {
        ret = filter_add_rows(ctx, roles);
    }
    if (ret == 0) {
        ret = filter_export(ctx, filter);
    }
    seccomp_release(ctx);
    if (ret != 0) {
        sandbox_filter_clear(filter);
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-ret),
                    "-sandbox: cannot make a filter: %s", g_strerror(-ret));
        return false;
    }
    return true;
}

void sandbox_filter_clear(SandboxFilter *filter)
{
    g_free(filter->program.filter);
    *filter = (SandboxFilter){0};
}
