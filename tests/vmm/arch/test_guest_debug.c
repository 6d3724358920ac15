/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm */
/* Causes of debug exits, gdb's registers, and the reports of /dev/kvm. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>
#include "vmm/arch/arch_debug.h"

#define DB 1
#define BP 3
#define DR6_STEP 0x4000

static ArchDebugCause cause_of(unsigned exception, uint64_t dr6, const ArchDebug *debug,
                               unsigned *slot)
{
    struct kvm_debug_exit_arch exit = {.exception = exception, .pc = 0x1234, .dr6 = dr6};
    uint64_t pc;
    ArchDebugCause cause = arch_debug_cause(&exit, debug, &pc, slot);
    assert_int_equal(pc, 0x1234);
    return cause;
}

static void test_a_debug_exit_has_the_requested_cause(void **unused)
{
    unsigned slot;
    ArchDebug debug = {.step = true};
    assert_int_equal(cause_of(BP, 0, &debug, &slot), ARCH_DEBUG_SOFTWARE);
    assert_int_equal(cause_of(DB, DR6_STEP, &debug, &slot), ARCH_DEBUG_STEP);
    debug.step = false; /* the guest single-steps itself */
    assert_int_equal(cause_of(DB, DR6_STEP, &debug, &slot), ARCH_DEBUG_FOREIGN);
    debug.hw[2].used = true;
    assert_int_equal(cause_of(DB, 4, &debug, &slot), ARCH_DEBUG_HARDWARE);
    assert_int_equal(slot, 2);
    assert_int_equal(cause_of(DB, 2, &debug, &slot), ARCH_DEBUG_FOREIGN);
    debug.step = true; /* a watchpoint has priority over the end of the step */
    assert_int_equal(cause_of(DB, 4 | DR6_STEP, &debug, &slot), ARCH_DEBUG_HARDWARE);
}

static void test_registers_match_their_description(void **unused)
{
    size_t all = 0;
    for (unsigned i = 0; i < arch_gdb_register_count(); i++) {
        size_t size = arch_gdb_register_size(i);
        assert_true(size > 0 && size <= ARCH_GDB_REGISTER_MAX);
        all += size;
    }
    assert_true(all <= ARCH_GDB_REGISTERS_MAX);
    assert_int_equal(arch_gdb_register_size(16), 8); /* rip, as in gdb's own description */
}

static void test_the_description_is_complete(void **unused)
{
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    const char *xml = arch_gdb_target_xml();
    assert_ptr_equal(xml, arch_gdb_target_xml());
    unsigned registers = 0;
    for (const char *at = xml; (at = strstr(at, "<reg ")) != NULL; at++) {
        registers++;
    }
    assert_int_equal(registers, arch_gdb_register_count());
    assert_non_null(strstr(xml, "<reg name=\"rip\" bitsize=\"64\" type=\"code_ptr\"/>"));
    assert_true(g_str_has_suffix(xml, "</target>\n"));
}

static void *probe_in_worker(void *opaque)
{
    enter_worker();
    ArchDebugAbilities *a = opaque;
    *a = (ArchDebugAbilities){0};
    static bool ok;
    ok = arch_debug_probe(a);
    return &ok;
}

static void test_the_probe_of_kvm_is_repeatable(void **unused)
{
    ArchDebugAbilities first, second;
    pthread_t thread;
    void *ok;
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        skip();
    }
    assert_true(thread_start(&thread, THREAD_WORKER, "worker/0", probe_in_worker, &first));
    pthread_join(thread, &ok);
    assert_true(*(bool *)ok);
    assert_true(thread_start(&thread, THREAD_WORKER, "worker/1", probe_in_worker, &second));
    pthread_join(thread, &ok);
    assert_int_equal(first.instruction, second.instruction);
    assert_int_equal(first.execute, second.execute);
    assert_int_equal(first.watch, second.watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_debug_exit_has_the_requested_cause),
        cmocka_unit_test(test_registers_match_their_description),
        cmocka_unit_test(test_the_probe_of_kvm_is_repeatable),
        cmocka_unit_test(test_the_description_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
