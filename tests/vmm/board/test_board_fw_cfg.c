/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/firmware/fw_cfg.h"
#include "tests/support/fake_machine.h"
#include "vmm/board/x86_64/board_fw_cfg.h"

static FakeMachine *m;
static MachineConfig config;
static BoardFwCfg b;
static unsigned builds;
static SmbiosTables smbios;
static BoardFiles files;
static BoardUserFile user;

static void build_acpi(void *opaque, AcpiFiles *acpi)
{
    const char text[] = {(char)('a' + builds++), '\0'};
    acpi->loader = g_bytes_new(text, 1);
    acpi->rsdp = g_bytes_new("rsdp", 4);
    acpi->tables = g_bytes_new("tables", 6);
}

static int set_up(void **unused)
{
    m = fake_machine_new();
    builds = 0;
    files = (BoardFiles){.user = g_ptr_array_new()};
    smbios = (SmbiosTables){.anchor = g_bytes_new("anchor", 6), .structures = g_bytes_new("s", 1)};
    config = (MachineConfig){0};
    b = (BoardFwCfg){.fw_cfg = fake_device(m, "fw_cfg_io", NULL),
                     .config = &config,
                     .ram = &m->ram,
                     .smbios = &smbios,
                     .files = &files,
                     .apic_id_limit = 6,
                     .build_acpi = build_acpi};
    return 0;
}

static int tear_down(void **unused)
{
    fake_device_gone(b.fw_cfg);
    boot_blobs_clear(&files.kernel);
    g_ptr_array_unref(files.user);
    g_bytes_unref(smbios.anchor);
    g_bytes_unref(smbios.structures);
    fake_machine_free(m);
    return 0;
}

static void fill(void)
{
    g_autoptr(GError) error = NULL;
    if (!board_fw_cfg_add(&b, &error)) {
        fail_msg("%s", error->message);
    }
    board_fw_cfg_update(&b);
}

static void assert_file(const char *name, const void *data, size_t size)
{
    g_autoptr(GBytes) bytes = fw_cfg_get_file(b.fw_cfg, name);
    assert_non_null(bytes);
    assert_int_equal(g_bytes_get_size(bytes), size);
    assert_memory_equal(g_bytes_get_data(bytes, NULL), data, size);
}

static void assert_item(uint16_t key, const void *data, size_t size)
{
    fake_out16(m, 0x510, key);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(fake_in8(m, 0x511), ((const uint8_t *)data)[i]);
    }
}

static void e820_has_ram_and_the_pages_of_kvm(void **unused)
{
    static const uint8_t expected[] = {
        0, 0xc0, 0xff, 0xfe, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, /* reserved */
        0, 0,    0,    0,    0, 0, 0, 0, 0, 0,    0, 1, 0, 0, 0, 0, 1, 0, 0, 0, /* 16 MiB */
    };
    fill();
    assert_file("etc/e820", expected, sizeof(expected));
}

static void ram_above_4_gib_is_an_entry_of_its_own(void **unused)
{
    static uint8_t host[1]; /* never accessed */
    GuestRam ram = {0};
    RamBlock low = {.gpa = 0, .size = 0xb0000000, .host = host, .fd = -1, .name = "low"};
    RamBlock high = {.gpa = UINT64_C(1) << 32, .size = 1 << 30, .host = host, .fd = -1};
    RamBlock rom = {.gpa = 0xfffc0000, .size = 0x40000, .host = host, .fd = -1, .read_only = true};
    guest_ram_add(&ram, &low);
    guest_ram_add(&ram, &rom);
    guest_ram_add(&ram, &high);
    b.ram = &ram;
    fill();
    static const uint8_t expected[] = {
        0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 1, 0, 0, 0,
    };
    g_autoptr(GBytes) bytes = fw_cfg_get_file(b.fw_cfg, "etc/e820");
    assert_int_equal(g_bytes_get_size(bytes), 60);
    assert_memory_equal((const uint8_t *)g_bytes_get_data(bytes, NULL) + 40, expected, 20);
}

static void items_are_those_of_qemu(void **unused)
{
    static const uint8_t uuid[] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                   0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
    config.uuid = (char[]){"01234567-89ab-CDEF-1032-547698badcfe"};
    fill();
    assert_item(FW_CFG_UUID, uuid, sizeof(uuid));
    assert_item(FW_CFG_NOGRAPHIC, "\1\0", 2);
    assert_item(FW_CFG_MAX_CPUS, "\6\0", 2);
    assert_item(FW_CFG_NB_CPUS, "\1\0", 2);
    assert_item(FW_CFG_IRQ0_OVERRIDE, "\1\0\0\0", 4);
    assert_item(FW_CFG_NUMA, (uint8_t[7 * 8]){0}, sizeof(uint8_t[7 * 8]));
    assert_file("etc/system-states", "\x80\0\0\1\2\x80", 6);
    assert_file("etc/smbios/smbios-anchor", "anchor", 6);
    assert_file("etc/smbios/smbios-tables", "s", 1);
}

static void a_machine_without_uuid_has_zeros(void **unused)
{
    fill();
    assert_item(FW_CFG_UUID, (uint8_t[16]){0}, sizeof(uint8_t[16]));
}

static void acpi_tables_are_built_again_when_firmware_selects_them(void **unused)
{
    fill();
    assert_int_equal(builds, 1);
    assert_file(ACPI_FILE_LOADER, "a", 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_item(FW_CFG_FILE_FIRST, "rsdp", 4);
        assert_item(FW_CFG_FILE_FIRST + 1, "tables", 6);
    }
    assert_int_equal(builds, 2);
    assert_file(ACPI_FILE_LOADER, "b", 1);
}

static void a_kernel_for_firmware_is_there_with_its_addresses(void **unused)
{
    fill();
    assert_item(FW_CFG_KERNEL_SIZE, "\0\0\0\0", 4); /* none */
    files.kernel = (BootBlobs){.setup = g_bytes_new("setup", 5),
                               .kernel = g_bytes_new("kernel", 6),
                               .cmdline = g_bytes_new("quiet", 6),
                               .initrd = g_bytes_new("initrd", 6),
                               .setup_addr = 0x10000,
                               .kernel_addr = 0x100000,
                               .cmdline_addr = 0x20000,
                               .initrd_addr = 0x7ef000};
    fake_device_gone(b.fw_cfg);
    b.fw_cfg = fake_device(m, "fw_cfg_io", NULL);
    fill();
    assert_item(FW_CFG_SETUP_DATA, "setup\0", 6);
    assert_item(FW_CFG_SETUP_SIZE, "\5\0\0\0", 4);
    assert_item(FW_CFG_SETUP_ADDR, "\0\0\1\0", 4);
    assert_item(FW_CFG_KERNEL_DATA, "kernel\0", 7);
    assert_item(FW_CFG_KERNEL_SIZE, "\6\0\0\0", 4);
    assert_item(FW_CFG_KERNEL_ADDR, "\0\0\x10\0", 4);
    assert_item(FW_CFG_CMDLINE_DATA, "quiet\0", 6);
    assert_item(FW_CFG_CMDLINE_SIZE, "\6\0\0\0", 4); /* with the NUL */
    assert_item(FW_CFG_CMDLINE_ADDR, "\0\0\2\0", 4);
    assert_item(FW_CFG_INITRD_DATA, "initrd", 6);
    assert_item(FW_CFG_INITRD_SIZE, "\6\0\0\0", 4);
    assert_item(FW_CFG_INITRD_ADDR, "\0\xf0\x7e\0", 4);
}

static void files_of_the_user_are_added(void **unused)
{
    user = (BoardUserFile){.name = (char[]){"opt/org.example/x"}, .data = g_bytes_new("text", 4)};
    g_ptr_array_add(files.user, &user);
    fill();
    assert_file("opt/org.example/x", "text", 4);
    g_bytes_unref(user.data);
}

static void a_file_of_the_machine_is_not_replaced_by_the_user(void **unused)
{
    g_autoptr(GError) error = NULL;
    user = (BoardUserFile){.name = (char[]){"etc/e820"}, .data = g_bytes_new("text", 4)};
    g_ptr_array_add(files.user, &user);
    assert_false(board_fw_cfg_add(&b, &error));
    assert_non_null(strstr(error->message, "-fw_cfg: fw_cfg file 'etc/e820': the file exists"));
    g_bytes_unref(user.data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(e820_has_ram_and_the_pages_of_kvm),
        TEST(ram_above_4_gib_is_an_entry_of_its_own),
        TEST(items_are_those_of_qemu),
        TEST(a_machine_without_uuid_has_zeros),
        TEST(acpi_tables_are_built_again_when_firmware_selects_them),
        TEST(a_kernel_for_firmware_is_there_with_its_addresses),
        TEST(files_of_the_user_are_added),
        TEST(a_file_of_the_machine_is_not_replaced_by_the_user),
    };
    return cmocka_run_group_tests_name("vmm/board/board_fw_cfg", tests, NULL, NULL);
}
