/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/arch/smp.h"

static SmpTopology parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    SmpTopology t = {0};
    if (!smp_parse(text, 288, &t, &error)) {
        fail_msg("%s: %s", text != NULL ? text : "(none)", error->message);
    }
    return t;
}

static void assert_topology(const char *text, unsigned cpus, unsigned sockets, unsigned cores,
                            unsigned threads)
{
    SmpTopology t = parse(text);
    assert_int_equal(t.cpus, cpus);
    assert_int_equal(t.sockets, sockets);
    assert_int_equal(t.cores, cores);
    assert_int_equal(t.threads, threads);
}

static void assert_refused(const char *text, const char *words)
{
    g_autoptr(GError) error = NULL;
    SmpTopology t;
    if (smp_parse(text, 288, &t, &error)) {
        fail_msg("accepted: %s", text);
    }
    if (strstr(error->message, "-smp") == NULL || strstr(error->message, words) == NULL) {
        fail_msg("%s: '%s' lacks '%s'", text, error->message, words);
    }
}

static void default_is_one_processor(void **state)
{
    assert_topology(NULL, 1, 1, 1, 1);
}

static void a_number_alone_is_cores(void **state)
{
    assert_topology("4", 4, 1, 4, 1);
    assert_topology("cpus=4", 4, 1, 4, 1);
    assert_topology("{\"cpus\": 4}", 4, 1, 4, 1);
}

static void omitted_counts_are_computed(void **state)
{
    assert_topology("8,sockets=2", 8, 2, 4, 1);
    assert_topology("8,threads=2", 8, 1, 4, 2);
    assert_topology("8,cores=2", 8, 4, 2, 1);
    assert_topology("8,sockets=2,cores=2", 8, 2, 2, 2);
    assert_topology("sockets=2,cores=2,threads=2", 8, 2, 2, 2);
    assert_topology("maxcpus=6,threads=2", 6, 1, 3, 2);
    assert_topology("6,sockets=1,dies=1,clusters=1,cores=3,threads=2,maxcpus=6", 6, 1, 3, 2);
}

static void product_must_match(void **state)
{
    assert_refused("5,sockets=2,cores=2,threads=1", "is 4, which must equal the 5");
    assert_refused("7,threads=2", "must equal the 7");
    assert_refused("2,sockets=3", "must equal the 2");
}

static void hotplug_and_dies_are_refused_by_name(void **state)
{
    assert_refused("2,maxcpus=4", "no CPU hotplug");
    assert_refused("4,maxcpus=2", "is less than cpus");
    assert_refused("4,dies=2", "no dies or clusters");
}

static void numbers_are_bounded(void **state)
{
    assert_refused("0", "cpus");
    assert_refused("cores=0", "cores");
    assert_refused("-1", "cpus");
    assert_refused("4294967297", "cpus");
    assert_refused("sockets=4096,cores=4096,threads=4096", "68719476736");
    assert_refused("289", "at most 288");
    assert_refused("two", "two");
    assert_refused("2,core=2", "cores");
    assert_refused("2,cpus=2", "cpus");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_is_one_processor),
        cmocka_unit_test(a_number_alone_is_cores),
        cmocka_unit_test(omitted_counts_are_computed),
        cmocka_unit_test(product_must_match),
        cmocka_unit_test(hotplug_and_dies_are_refused_by_name),
        cmocka_unit_test(numbers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
