/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the loaders: an image that a test changes, RAM, and the results of its boot. */
#ifndef SKIFF_TESTS_VMM_BOOT_BOOT_RIG_H
#define SKIFF_TESTS_VMM_BOOT_BOOT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/boot_images.h"
#include "vmm/arch/x86_64/layout.h"

#define RAM_SIZE (64 * X86_MIB)

typedef struct Fixture {
    TestRam ram;
    GByteArray *image;
    char *path; /* of the last boot; the file is deleted */
    BootState state;
    GError *error; /* of the last boot */
} Fixture;

/* A test's set-up. Takes ownership of @image. */
static inline int boot_rig_new(void **state, GByteArray *image)
{
    Fixture *f = g_new0(Fixture, 1);
    test_ram_init(&f->ram, RAM_SIZE);
    f->image = image;
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    Fixture *f = *state;
    test_ram_clear(&f->ram);
    g_byte_array_unref(f->image);
    g_clear_error(&f->error);
    g_free(f->path);
    g_free(f);
    return 0;
}

/* Replaces the image. Takes ownership of @image. */
static inline void use_image(Fixture *f, GByteArray *image)
{
    g_byte_array_unref(f->image);
    f->image = image;
}

static inline bool boot(Fixture *f, const char *initrd, const char *cmdline)
{
    char *path = image_write_array(f->image);
    const BootRequest request = {.kernel = path, .initrd = initrd, .cmdline = cmdline};
    g_clear_error(&f->error);
    g_free(f->path);
    f->path = g_strdup(path);
    bool ok = image_boot(&request, &f->ram, &f->state, &f->error);
    image_unlink(path);
    return ok;
}

static inline void assert_boots(Fixture *f)
{
    if (!boot(f, NULL, NULL)) {
        fail_msg("%s", f->error->message);
    }
}

/* The boot fails with an error that contains @words and names the file. */
static inline void assert_refused(Fixture *f, const char *words)
{
    assert_false(boot(f, NULL, NULL));
    if (strstr(f->error->message, words) == NULL) {
        fail_msg("'%s' lacks '%s'", f->error->message, words);
    }
    assert_non_null(strstr(f->error->message, "-kernel /"));
}

/* The guest's memory at @gpa, which must be RAM. */
static inline const void *guest(Fixture *f, uint64_t gpa, uint64_t size)
{
    const void *p = guest_ram_map(&f->ram.ram, gpa, size, false);
    assert_non_null(p);
    return p;
}

#endif
