/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of qcow2: images made by qemu-img and qemu-io, and how skiff reads them. */
#ifndef SKIFF_TESTS_BLOCK_QCOW2_QCOW2_TEST_H
#define SKIFF_TESTS_BLOCK_QCOW2_QCOW2_TEST_H

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "tests/block/block_test.h"

/* A folder of its own for each test; qcow2_dir_free() removes it with what is in it. */
static inline char *qcow2_dir_new(void)
{
    const char *dir = g_getenv("SKIFF_TEST_DIR");
    g_autofree char *base = g_canonicalize_filename(dir != NULL ? dir : "build", NULL);
    char *path = g_strdup_printf("%s/skiff-qcow2-XXXXXX", base);
    assert_non_null(g_mkdtemp(path));
    return path;
}

/* Runs a shell command in @dir; its failure, also that qemu-img is not installed, fails the test. */
static inline void __attribute__((format(printf, 2, 3)))
qcow2_shell(const char *dir, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *all =
        g_strdup_printf("cd '%s' && { %s; } 2>&1 >log || { cat log; exit 1; }", dir, command);
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) error = NULL;
    int status = 0;
    char *argv[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", all, NULL};
    if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status, &error)) {
        fail_msg("%s: %s", command, error->message);
    }
    if (status != 0) {
        fail_msg("'%s' failed (is qemu-utils installed?): %s%s", command, out, err);
    }
}

static inline void qcow2_dir_free(char *dir)
{
    qcow2_shell("/", "rm -rf '%s'", dir);
    g_free(dir);
}

static inline uint8_t *qcow2_file_bytes(const char *dir, const char *name, size_t *size)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *bytes = NULL;
    gsize length = 0;
    assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    *size = length;
    return (uint8_t *)bytes;
}

/* Opens image @name of @dir for reading; @options begins with a comma, or is empty. */
static inline coroutine_fn RUNS_IN_MAIN BlockBackend *
qcow2_open_image(const char *dir, const char *name, const char *options)
{
    g_autofree char *text = g_strdup_printf(
        "qcow2,read-only=on,file.driver=file,file.filename=%s/%s%s", dir, name, options);
    return test_blk("d", text, false);
}

/* Compares the whole disk with the bytes of @raw, in requests of @step bytes. */
static inline coroutine_fn RUNS_IN_MAIN void
qcow2_compare(BlockBackend *blk, const uint8_t *raw, size_t size, size_t step, const char *what)
{
    g_autofree uint8_t *buf = g_malloc(step);
    if (blk_size(blk) != size) {
        fail_msg("%s: the size is %" PRIu64 " instead of %zu", what, blk_size(blk), size);
    }
    for (size_t at = 0; at < size; at += step) {
        size_t length = MIN(step, size - at);
        memset(buf, 0xee, length);
        int ret = test_io(blk, TEST_READ, at, length, buf, 0);
        if (ret != 0 || memcmp(buf, raw + at, length) != 0) {
            fail_msg("%s: a read of %zu bytes at %zu returned %d, or other bytes than qemu-img's",
                     what, length, at, ret);
        }
    }
}

/* Compares image @name with what qemu-img reads from it. */
static inline coroutine_fn RUNS_IN_MAIN void qcow2_check_image(const char *dir, const char *name,
                                                               const char *options)
{
    size_t size;
    qcow2_shell(dir, "qemu-img convert -f qcow2 -O raw %s expected.raw", name);
    g_autofree uint8_t *raw = qcow2_file_bytes(dir, "expected.raw", &size);
    BlockBackend *blk = qcow2_open_image(dir, name, options);
    qcow2_compare(blk, raw, size, (size_t)1 << 20, name);
    qcow2_compare(blk, raw, size, 12800, name); /* crosses clusters unaligned */
    blk_co_free(blk);
}

#endif
