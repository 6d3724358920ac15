/* SPDX-License-Identifier: Apache-2.0 */
/* The state table of a vCPU, without KVM. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "vmm/arch/x86_64/vcpu_state.h"

static void every_truncation_and_bound_is_refused(void **state)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(ArchVcpuState) s = arch_vcpu_state_new();
    s->xsave_used = 4096;
    s->msrs_used = s->cpuid_used = s->xcrs_used = 2;
    state_save(&arch_vcpu_state_desc, s, stream);
    size_t used;
    assert_true(state_load(&arch_vcpu_state_desc, s, stream->data, stream->len, &used, NULL));
    for (guint size = 0; size < stream->len; size++) {
        g_autofree uint8_t *exact = g_memdup2(stream->data, size);
        g_autoptr(GError) error = NULL;
        assert_false(state_load(&arch_vcpu_state_desc, s, exact, size, &used, &error));
    }
    s->xsave_used = 4095;
    g_byte_array_set_size(stream, 0);
    state_save(&arch_vcpu_state_desc, s, stream);
    assert_false(state_load(&arch_vcpu_state_desc, s, stream->data, stream->len, &used, NULL));
}

static void the_table_is_complete(void **state)
{
    g_autoptr(GError) error = NULL;
    if (!state_check_coverage(&arch_vcpu_state_desc, &error)) {
        fail_msg("%s", error->message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_complete),
        cmocka_unit_test(every_truncation_and_bound_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
