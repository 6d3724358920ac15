/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/exit_status.h"
#include "vmm/arch/x86_64/boot_state.h"
#include "vmm/arch/x86_64/layout.h"

static X86Layout compute(uint64_t size, unsigned phys_bits)
{
    X86Layout layout;
    g_autoptr(GError) error = NULL;
    if (!x86_layout_compute(size, phys_bits, &layout, &error)) {
        fail_msg("%s", error->message);
    }
    return layout;
}

static void assert_refused(uint64_t size, unsigned phys_bits, const char *words)
{
    X86Layout layout;
    g_autoptr(GError) error = NULL;
    assert_false(x86_layout_compute(size, phys_bits, &layout, &error));
    if (strstr(error->message, words) == NULL) {
        fail_msg("'%s' lacks '%s'", error->message, words);
    }
}

static void small_ram_is_one_range(void **state)
{
    X86Layout l = compute(128 * X86_MIB, 40);
    assert_int_equal(l.ram_count, 1);
    assert_int_equal(l.ram[0].gpa, 0);
    assert_int_equal(l.ram[0].size, 128 * X86_MIB);
    assert_int_equal(l.windows.mmio64_base, X86_4GIB);
}

static void ram_that_just_fits_stays_below_4g(void **state)
{
    assert_int_equal(compute(X86_LOW_RAM_MAX, 40).ram_count, 1);
    assert_int_equal(compute(X86_LOW_RAM_MAX + 4096, 40).ram_count, 2);
}

static void big_ram_goes_around_the_hole(void **state)
{
    X86Layout l = compute(7 * X86_GIB / 2, 40);
    assert_int_equal(l.ram_count, 2);
    assert_int_equal(l.ram[0].size, X86_LOW_RAM_MAX);
    assert_int_equal(l.ram[1].gpa, X86_4GIB);
    assert_int_equal(l.ram[1].offset, X86_LOW_RAM_MAX);
    assert_int_equal(l.ram[1].size, 7 * X86_GIB / 2 - X86_LOW_RAM_MAX);
    assert_int_equal(l.windows.mmio64_base, X86_4GIB + X86_GIB);
}

static void windows_do_not_touch_ram_or_each_other(void **state)
{
    const uint64_t sizes[] = {2 * X86_MIB, X86_GIB, 3 * X86_GIB, 5 * X86_GIB, 60 * X86_GIB};
    for (unsigned bits = 36; bits <= 52; bits += 4) {
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
            X86Layout l = compute(sizes[i], bits);
            uint64_t total = 0;
            for (unsigned r = 0; r < l.ram_count; r++) {
                total += l.ram[r].size;
                uint64_t end = l.ram[r].gpa + l.ram[r].size;
                assert_true(end <= X86_ECAM_BASE || l.ram[r].gpa >= X86_4GIB);
                assert_true(l.windows.mmio64_size == 0 || end <= l.windows.mmio64_base);
            }
            assert_int_equal(total, sizes[i]);
            assert_true(l.windows.mmio64_base + l.windows.mmio64_size <= UINT64_C(1) << bits);
            assert_true(l.windows.mmio64_base + l.windows.mmio64_size <= X86_GPA_LIMIT);
        }
    }
}

static void without_room_there_is_no_64_bit_window(void **state)
{
    X86Layout l = compute(X86_LOW_RAM_MAX + 60 * X86_GIB, 36);
    assert_int_equal(l.windows.mmio64_size, 0);
}

static void impossible_sizes_are_refused(void **state)
{
    assert_refused(0, 40, "too little");
    assert_refused(X86_MIB, 40, "1024 KiB is too little; the machine needs 2M");
    assert_refused(2 * X86_MIB + 1, 40, "not a multiple of 4 KiB");
    assert_refused(64 * X86_GIB, 36, "at most 64256M does");
    assert_refused(UINT64_MAX - 4095, 52, "at most");
}

/* ---- registers ---- */

static void reset_vector_is_where_the_rom_ends(void **state)
{
    BootState boot;
    struct kvm_regs regs;
    struct kvm_sregs sregs = {.apic_base = 0xfee00900};
    x86_boot_state_reset_vector(&boot);
    x86_boot_fill_regs(&boot, &regs, &sregs);
    assert_int_equal(sregs.cs.base + regs.rip, 0xfffffff0);
    assert_int_equal(sregs.cs.selector, 0xf000);
    assert_int_equal(sregs.cr0 & 1, 0);
    assert_int_equal(regs.rflags, 2);
    assert_int_equal(sregs.apic_base, 0xfee00900);
}

static void protected_mode_is_flat_without_paging(void **state)
{
    const BootState boot = {.mode = X86_BOOT_PROT32,
                            .rip = 0x100000,
                            .rax = 1,
                            .rbx = 2,
                            .gdt_base = 0x3000,
                            .gdt_limit = 31,
                            .code_selector = 0x10,
                            .data_selector = 0x18};
    struct kvm_regs regs;
    struct kvm_sregs sregs = {0};
    x86_boot_fill_regs(&boot, &regs, &sregs);
    assert_int_equal(regs.rip, 0x100000);
    assert_int_equal(regs.rax, 1);
    assert_int_equal(regs.rbx, 2);
    assert_int_equal(sregs.cr0 & 0x80000001, 1);
    assert_int_equal(sregs.cr4, 0);
    assert_int_equal(sregs.efer, 0);
    assert_int_equal(sregs.cs.db, 1);
    assert_int_equal(sregs.cs.l, 0);
    assert_int_equal(sregs.cs.limit, UINT32_MAX);
    assert_int_equal(sregs.ss.selector, 0x18);
    assert_int_equal(sregs.tr.limit, 0x67);
    assert_int_equal(sregs.gdt.base, 0x3000);
}

static void long_mode_has_paging_on(void **state)
{
    const BootState boot = {.mode = X86_BOOT_LONG64,
                            .rip = 0x1000200,
                            .rsi = 0x1000,
                            .cr3 = 0x4000,
                            .code_selector = 0x10,
                            .data_selector = 0x18};
    struct kvm_regs regs;
    struct kvm_sregs sregs = {0};
    x86_boot_fill_regs(&boot, &regs, &sregs);
    assert_int_equal(regs.rsi, 0x1000);
    assert_int_equal(sregs.cr0 & 0x80000001, 0x80000001);
    assert_int_equal(sregs.cr3, 0x4000);
    assert_int_equal(sregs.cr4, 0x20);
    assert_int_equal(sregs.efer, 0x500);
    assert_int_equal(sregs.cs.l, 1);
    assert_int_equal(sregs.cs.db, 0);
}

static void only_directly_booted_kernels_get_msrs(void **state)
{
    struct kvm_msr_entry entries[X86_BOOT_MSRS];
    BootState boot;
    x86_boot_state_reset_vector(&boot);
    assert_int_equal(x86_boot_fill_msrs(&boot, entries), 0);
    boot.mode = X86_BOOT_LONG64;
    assert_int_equal(x86_boot_fill_msrs(&boot, entries), 2);
    assert_int_equal(entries[0].data & 0x8ff, 0x806); /* MTRRs on, write-back */
}

/* ---- exit statuses ---- */

static void no_other_status_equals_a_debug_exit(void **state)
{
    const ExitStatus all[] = {
        EXIT_STATUS_OK,           EXIT_STATUS_USAGE,    EXIT_STATUS_PANIC,   EXIT_STATUS_RESET,
        EXIT_STATUS_TRIPLE_FAULT, EXIT_STATUS_WATCHDOG, EXIT_STATUS_TIMEOUT, EXIT_STATUS_INTERNAL,
    };
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        assert_int_equal(all[i] % 2, 0);
        assert_true(all[i] < 126);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(all[i], all[j]);
        }
    }
    assert_int_equal(exit_status_debug_exit(0), 1);
    assert_int_equal(exit_status_debug_exit(0x10), 33);
    assert_int_equal(exit_status_debug_exit(UINT64_MAX), 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ram_is_one_range),
        cmocka_unit_test(ram_that_just_fits_stays_below_4g),
        cmocka_unit_test(big_ram_goes_around_the_hole),
        cmocka_unit_test(windows_do_not_touch_ram_or_each_other),
        cmocka_unit_test(without_room_there_is_no_64_bit_window),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(reset_vector_is_where_the_rom_ends),
        cmocka_unit_test(protected_mode_is_flat_without_paging),
        cmocka_unit_test(long_mode_has_paging_on),
        cmocka_unit_test(only_directly_booted_kernels_get_msrs),
        cmocka_unit_test(no_other_status_equals_a_debug_exit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
