/* SPDX-License-Identifier: Apache-2.0 */
/* Compares docs/qmp-reference.md with the tables. With --write, as in `make docs-reference`, writes
 * it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "tests/support/qmp_reference.h"
#include "vmm/monitor/qmp/qmp_schema.h"

#define REFERENCE_FILE "docs/qmp-reference.md"

static void the_reference_is_current(void **state)
{
    g_autofree char *wanted = qmp_reference_text(), *found = NULL;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents(REFERENCE_FILE, &found, NULL, &error)) {
        fail_msg("%s; `make docs-reference` writes it", error->message);
    }
    if (strcmp(wanted, found) != 0) {
        fail_msg(REFERENCE_FILE " does not match the tables: run `make docs-reference` and commit "
                                "it with the change of the tables");
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_is_current),
    };
    if (argc == 2 && strcmp(argv[1], "--write") == 0) {
        g_autofree char *text = qmp_reference_text();
        g_autoptr(GError) error = NULL;
        if (!g_file_set_contents(REFERENCE_FILE, text, -1, &error)) {
            fprintf(stderr, "%s\n", error->message);
            return 1;
        }
        return 0;
    }
    return cmocka_run_group_tests_name("vmm/monitor/qmp/qmp_reference", tests, NULL, NULL);
}
