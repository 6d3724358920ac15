/* SPDX-License-Identifier: Apache-2.0 */
/* Writes of vmm/ itself to guest RAM are marked as dirty: loaders and debuggers. */
#include "tests/vmm/boot/boot_rig.h"
#include "vmm/machine/guest_memory.h"

#define RAM_PAGES (RAM_SIZE / GUEST_RAM_PAGE)

static uint64_t dirty[RAM_PAGES / 64];

static bool page_is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, GUEST_RAM_PAGE - 1) == 0;
}

/* RAM was zero before: any page that is not zero now has been written. */
static void assert_marked(Fixture *f)
{
    unsigned written = 0;
    guest_ram_log_take(&f->ram.ram.blocks[0], 0, RAM_PAGES, dirty);
    for (uint64_t i = 0; i < RAM_PAGES; i++) {
        if (!page_is_zero(f->ram.host + i * GUEST_RAM_PAGE)) {
            written++;
            if (!(dirty[i / 64] >> (i % 64) & 1)) {
                fail_msg("page %#" PRIx64 " was written and not marked", i);
            }
        }
    }
    assert_true(written > 0);
}

static int setup(void **state)
{
    boot_rig_new(state, image_new_bzimage());
    return guest_ram_log_start(&((Fixture *)*state)->ram.ram, NULL) ? 0 : -1;
}

static int teardown_log(void **state)
{
    GuestRam *ram = &((Fixture *)*state)->ram.ram;
    guest_ram_log_stop(ram);
    guest_ram_log_free(ram);
    return teardown(state);
}

static void a_bzimage_with_an_initrd_is_marked(void **state)
{
    Fixture *f = *state;
    static const uint8_t initrd[3 * GUEST_RAM_PAGE] = {1, [GUEST_RAM_PAGE] = 2};
    char *path = image_write(initrd, sizeof(initrd));
    assert_true(boot(f, path, "console=ttyS0"));
    image_unlink(path);
    assert_marked(f);
}

static void a_pvh_kernel_is_marked(void **state)
{
    Fixture *f = *state;
    use_image(f, image_new_elf64(TEST_ELF_GPA + 0x40, true));
    assert_true(boot(f, NULL, "quiet"));
    assert_marked(f);
}

static void a_debuggers_write_is_marked(void **state)
{
    Fixture *f = *state;
    assert_true(guest_physical_write(&f->ram.ram, 0x5ffe, "abcd", 4, NULL));
    assert_marked(f);
    assert_int_equal(dirty[0], 1 << 5 | 1 << 6);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown_log)
        T(a_bzimage_with_an_initrd_is_marked),
        T(a_pvh_kernel_is_marked),
        T(a_debuggers_write_is_marked),
    };
    thread_adopt_role(THREAD_MAIN, "main");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
