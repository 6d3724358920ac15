/* SPDX-License-Identifier: Apache-2.0 */
/* -restore: which saved options stay, where their files are, and which files are none. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/config.h"
#include "vmm/snapshot/restore_args.h"

#define SAVED "/saved"

/* The merged command line, its words separated by blanks. @saved: "NAME VALUE" or "NAME", separated by '|'. */
static char *merged(const char *saved, const char *user, const char *now)
{
    g_autoptr(GPtrArray) options =
        g_ptr_array_new_with_free_func((GDestroyNotify)config_option_free);
    g_auto(GStrv) rows = g_strsplit(saved, "|", 0);
    for (unsigned i = 0; rows[i] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit(rows[i], " ", 2);
        g_ptr_array_add(options, config_option_new(words[0], words[1]));
    }
    g_auto(GStrv) argv = g_strsplit(user, " ", 0);
    g_auto(GStrv) all = restore_args_merge((int)g_strv_length(argv), argv, options, SAVED, now);
    return g_strjoinv(" ", all);
}

static void assert_merged(const char *saved, const char *user, const char *expected)
{
    g_autofree char *all = merged(saved, user, SAVED);
    assert_string_equal(all, expected);
}

static void saved_options_come_first(void **state)
{
    assert_merged("m 64|nographic", "skiff -restore s", "skiff -m 64 -nographic -restore s");
    assert_merged("m 64", "skiff -S --restore s -qmp stdio",
                  "skiff -m 64 -S --restore s -qmp stdio");
}

static void options_that_are_given_anew_replace_the_saved(void **state)
{
    assert_merged("serial a|serial b|m 64", "skiff -restore s -serial c",
                  "skiff -m 64 -restore s -serial c");
    assert_merged("chardev file,id=a,path=x|chardev null,id=b",
                  "skiff -restore s -chardev null,id=a",
                  "skiff -chardev null,id=b -restore s -chardev null,id=a");
    assert_merged("drive file=x,id=d|drive file=y", "skiff -restore s -drive file=z,id=d",
                  "skiff -drive file=y -restore s -drive file=z,id=d");
    assert_merged("blockdev {\"driver\":\"file\",\"node-name\":\"n\",\"filename\":\"x\"}",
                  "skiff -restore s -blockdev file,node-name=n,filename=y",
                  "skiff -restore s -blockdev file,node-name=n,filename=y");
    assert_merged("machine q35", "skiff -M q35,pflash0=x -restore s",
                  "skiff -M q35,pflash0=x -restore s");
    /* Not the same, or without an id. */
    assert_merged("netdev user,id=a", "skiff -restore s -netdev user,id=b",
                  "skiff -netdev user,id=a -restore s -netdev user,id=b");
    assert_merged("device e,id=a", "skiff -restore s -device e",
                  "skiff -device e,id=a -restore s -device e");
}

static void assert_located(const char *name, const char *value, const char *expected)
{
    g_autofree char *located = restore_args_locate(name, value, SAVED);
    assert_string_equal(located, expected);
}

static void relative_paths_are_those_of_the_saved_directory(void **state)
{
    assert_located("kernel", "a/b", "/saved/a/b");
    assert_located("kernel", "/a/b", "/a/b");
    assert_located("append", "file=x", "file=x");
    assert_located("drive", "file=a,,b.img,id=x", "file=/saved/a,,b.img,id=x");
    assert_located("drive", "id=x,file=/a", "id=x,file=/a");
    assert_located("drive", "file=nbd:unix:/s", "file=nbd:unix:/s");
    assert_located("drive", "file=file:a", "file=/saved/a");
    assert_located("blockdev", "driver=qcow2,node-name=n,file.driver=file,file.filename=x",
                   "driver=qcow2,node-name=n,file.driver=file,file.filename=/saved/x");
    assert_located(
        "blockdev", "{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"x\"}}",
        "{\"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"/saved/x\"}}");
    assert_located("blockdev", "{\"driver\":", "{\"driver\":");
    assert_located("device", "virtio-net-pci,romfile=r,id=x",
                   "virtio-net-pci,romfile=/saved/r,id=x");
    assert_located("device", "virtio-net-pci,romfile=", "virtio-net-pci,romfile=");
    assert_located("virtiofs", "tag=t,path=d", "tag=t,path=/saved/d");
}

static void files_stay_where_they_are_in_the_same_directory(void **state)
{
    g_autofree char *there = merged("kernel k|nographic", "skiff -restore s", SAVED);
    assert_string_equal(there, "skiff -kernel k -nographic -restore s");
    g_autofree char *elsewhere = merged("kernel k|nographic", "skiff -restore s", "/now");
    assert_string_equal(elsewhere, "skiff -kernel /saved/k -nographic -restore s");
}

static void assert_refused(const char *user, const char *says)
{
    g_auto(GStrv) argv = g_strsplit(user, " ", 0);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) all = restore_args_expand((int)g_strv_length(argv), argv, &error);
    assert_null(all);
    if (strstr(error->message, says) == NULL) {
        fail_msg("%s: '%s' does not say '%s'", user, error->message, says);
    }
}

static void what_is_no_state_is_refused(void **state)
{
    assert_refused("skiff -restore", "needs an argument");
    assert_refused("skiff -restore a -restore b", "one state");
    assert_refused("skiff -restore /no/such", "-restore '/no/such': No such file");
    assert_refused("skiff -restore /dev/null", "-restore '/dev/null': ");
    assert_refused("skiff -restore /dev/zero",
                   "-restore '/dev/zero': state stream: this is no saved state");
    assert_refused("skiff -restore /", "-restore '/': ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_options_come_first),
        cmocka_unit_test(options_that_are_given_anew_replace_the_saved),
        cmocka_unit_test(relative_paths_are_those_of_the_saved_directory),
        cmocka_unit_test(files_stay_where_they_are_in_the_same_directory),
        cmocka_unit_test(what_is_no_state_is_refused),
    };
    return cmocka_run_group_tests_name("vmm/snapshot/restore_args", tests, NULL, NULL);
}
