/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <glib/gstdio.h>
#include <unistd.h>

#include "tests/support/boot_images.h"
#include "vmm/board/x86_64/acpi.h"
#include "vmm/arch/x86_64/layout.h"

/* The tables are parsed by the specification's offsets, and with ACPICA's own tools, which the
 * build needs as well. */

#define RAM_SIZE (16 * X86_MIB)

typedef struct Fixture {
    TestRam ram;
    AcpiConfig config;
    uint32_t apic_ids[4096];
    uint64_t rsdp;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    X86Layout layout;
    test_ram_init(&f->ram, RAM_SIZE);
    assert_true(x86_layout_compute(RAM_SIZE, 40, &layout, NULL));
    for (uint32_t i = 0; i < G_N_ELEMENTS(f->apic_ids); i++) {
        f->apic_ids[i] = i;
    }
    f->config = (AcpiConfig){.apic_ids = f->apic_ids,
                             .cpu_count = 2,
                             .windows = layout.windows,
                             .last_bus = 3,
                             .has_com1 = true,
                             .has_pvpanic = true};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    test_ram_clear(&f->ram);
    g_free(f);
    return 0;
}

static uint64_t get(const uint8_t *p, size_t offset, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, p + offset, size);
    return v;
}

static const uint8_t *at(Fixture *f, uint64_t gpa, uint64_t size)
{
    const uint8_t *p = guest_ram_map(&f->ram.ram, gpa, size, false);
    assert_non_null(p);
    return p;
}

static uint8_t sum(const uint8_t *p, size_t size)
{
    uint8_t s = 0;
    for (size_t i = 0; i < size; i++) {
        s = (uint8_t)(s + p[i]);
    }
    return s;
}

static void write_tables(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    if (!x86_acpi_write(&f->config, &f->ram.ram, &f->rsdp, &error)) {
        fail_msg("%s", error->message);
    }
}

static const uint8_t *xsdt(Fixture *f)
{
    return at(f, get(at(f, f->rsdp, 36), 24, 8), 36);
}

/* The table with that signature; the DSDT through the FADT. */
static const uint8_t *table(Fixture *f, const char *signature)
{
    if (strcmp(signature, "DSDT") == 0) {
        return at(f, get(table(f, "FACP"), 140, 8), 36);
    }
    const uint8_t *x = xsdt(f);
    for (size_t i = 36; i < get(x, 4, 4); i += 8) {
        const uint8_t *t = at(f, get(x, i, 8), 36);
        if (memcmp(t, signature, 4) == 0) {
            return t;
        }
    }
    fail_msg("no %s", signature);
    return NULL;
}

static const char *const all_tables[] = {"FACP", "DSDT", "SSDT", "APIC", "MCFG"};

static void rsdp_can_be_found_and_adds_up(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    const uint8_t *p = at(f, f->rsdp, 36);
    assert_true(f->rsdp % 16 == 0 && f->rsdp >= 0xe0000 && f->rsdp < 0x100000);
    assert_memory_equal(p, "RSD PTR ", 8);
    assert_int_equal(sum(p, 20), 0);
    assert_int_equal(sum(p, 36), 0);
    assert_int_equal(p[15], 2);
}

static void every_table_adds_up_and_lies_in_the_acpi_area(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    const uint8_t *x = xsdt(f);
    assert_int_equal(sum(x, get(x, 4, 4)), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(all_tables); i++) {
        const uint8_t *t = table(f, all_tables[i]);
        assert_int_equal(sum(t, get(t, 4, 4)), 0);
        uint64_t end = (uint64_t)(t - f->ram.host) + get(t, 4, 4);
        assert_true(end <= X86_ACPI_BASE + X86_ACPI_SIZE);
    }
}

static void fadt_has_the_addresses_of_the_registers(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    const uint8_t *t = table(f, "FACP");
    assert_int_equal(get(t, 46, 2), X86_GSI_SCI);
    assert_int_equal(get(t, 56, 4), X86_PM1_EVENT);
    assert_int_equal(get(t, 64, 4), X86_PM1_CONTROL);
    assert_int_equal(get(t, 76, 4), X86_PM_TIMER);
    assert_int_equal(get(t, 80, 4), X86_GPE0);
    assert_int_equal(get(t, 88, 1), 4);
    assert_int_equal(get(t, 89, 1), 2);
    assert_int_equal(get(t, 91, 1), 4);
    assert_int_equal(get(t, 92, 1), 16);
    assert_int_equal(get(t, 108, 1), 0x32);
    assert_int_equal(get(t, 112, 4) & (1u << 4), 0);         /* fixed power button */
    assert_int_equal(get(t, 112, 4) & (1u << 20), 0);        /* not hardware-reduced */
    assert_int_equal(get(t, 112, 4) & (1u << 10), 1u << 10); /* has a reset register */
    assert_int_equal(get(t, 116, 1), 1);
    assert_int_equal(get(t, 120, 8), X86_PORT_RESET);
    assert_int_equal(get(t, 128, 1), X86_RESET_VALUE);
    assert_int_equal(get(t, 152, 8), X86_PM1_EVENT);
    assert_int_equal(get(t, 224, 8), X86_GPE0);
}

static void facs_lies_in_nvs_memory(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    assert_int_equal(get(table(f, "FACP"), 36, 4), X86_ACPI_NVS_BASE);
    const uint8_t *p = at(f, X86_ACPI_NVS_BASE, 64);
    assert_memory_equal(p, "FACS", 4);
    assert_int_equal(get(p, 4, 4), 64);
}

/* Finds the @nth MADT entry of @type, or NULL. */
static const uint8_t *madt_entry(Fixture *f, uint8_t type, unsigned nth)
{
    const uint8_t *t = table(f, "APIC");
    for (size_t i = 44; i < get(t, 4, 4); i += t[i + 1]) {
        assert_true(t[i + 1] >= 2);
        if (t[i] == type && nth-- == 0) {
            return t + i;
        }
    }
    return NULL;
}

static void madt_lists_processors_and_overrides(void **state)
{
    Fixture *f = *state;
    f->apic_ids[1] = 4;
    write_tables(f);
    assert_int_equal(madt_entry(f, 0, 0)[3], 0);
    assert_int_equal(madt_entry(f, 0, 1)[2], 1);
    assert_int_equal(madt_entry(f, 0, 1)[3], 4);
    assert_null(madt_entry(f, 0, 2));
    assert_int_equal(get(madt_entry(f, 1, 0), 4, 4), X86_IOAPIC_BASE);
    const uint8_t *timer = madt_entry(f, 2, 0), *sci = madt_entry(f, 2, 1);
    assert_int_equal(timer[3], 0);
    assert_int_equal(get(timer, 4, 4), 2);
    assert_int_equal(sci[3], 9);
    assert_int_equal(get(sci, 4, 4), 9);
    assert_int_equal(get(sci, 8, 2), 0xd); /* level, active high */
    assert_null(madt_entry(f, 9, 0));
}

static void madt_uses_x2apic_entries_above_254(void **state)
{
    Fixture *f = *state;
    f->config.cpu_count = 300;
    write_tables(f);
    assert_null(madt_entry(f, 0, 255));
    const uint8_t *e = madt_entry(f, 9, 0);
    assert_int_equal(get(e, 4, 4), 255);
    assert_int_equal(get(e, 12, 4), 255);
    assert_non_null(madt_entry(f, 9, 44));
    assert_non_null(madt_entry(f, 10, 0));
}

static void a_thousand_processors_fit(void **state)
{
    Fixture *f = *state;
    f->config.cpu_count = 1024;
    write_tables(f);
}

static void more_processors_than_fit_are_refused(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    g_autofree uint32_t *ids = g_new0(uint32_t, 10000);
    for (uint32_t i = 0; i < 10000; i++) {
        ids[i] = i;
    }
    f->config.apic_ids = ids;
    f->config.cpu_count = 10000;
    assert_false(x86_acpi_write(&f->config, &f->ram.ram, &f->rsdp, &error));
    assert_non_null(strstr(error->message, "10000 processors"));
}

static void mcfg_is_the_ecam(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    const uint8_t *t = table(f, "MCFG");
    assert_int_equal(get(t, 44, 8), X86_ECAM_BASE);
    assert_int_equal(t[54], 0);
    assert_int_equal(t[55], 3);
}

/* ---- ACPICA ---- */

static char *dump_table(Fixture *f, const char *dir, const char *signature)
{
    const uint8_t *t = table(f, signature);
    char *path = g_strdup_printf("%s/%s.aml", dir, signature);
    assert_true(g_file_set_contents(path, (const char *)t, (gssize)get(t, 4, 4), NULL));
    return path;
}

/* Runs a command line in @dir; returns its standard output. */
static char *run(const char *dir, const char *command)
{
    char *out = NULL;
    int status = 0;
    g_autofree char *full = g_strdup_printf("cd %s && { %s; } 2>&1", dir, command);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, full, NULL};
    assert_true(g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, &out, NULL, &status, NULL));
    if (status != 0) {
        fail_msg("%s: status %d: %s", command, status, out);
    }
    return out;
}

static char *make_dir(void)
{
    char *dir = g_dir_make_tmp("skiff-acpi-XXXXXX", NULL);
    assert_non_null(dir);
    return dir;
}

static void remove_dir(char *dir)
{
    g_autofree char *command = g_strdup_printf("rm -r %s", dir);
    g_free(run("/", command));
    g_free(dir);
}

static void every_table_is_disassembled_without_a_warning(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    char *dir = make_dir();
    for (size_t i = 0; i < G_N_ELEMENTS(all_tables); i++) {
        g_free(dump_table(f, dir, all_tables[i]));
        g_autofree char *command = g_strdup_printf("iasl -d %s.aml", all_tables[i]);
        g_autofree char *out = run(dir, command);
        g_autofree char *dsl = g_strdup_printf("%s/%s.dsl", dir, all_tables[i]);
        g_autofree char *text = NULL;
        assert_true(g_file_get_contents(dsl, &text, NULL, NULL));
        if (strstr(out, "rror") != NULL || strstr(text, "ncorrect") != NULL ||
            strstr(text, "nvalid") != NULL || strstr(text, "Unknown") != NULL) {
            fail_msg("%s: %s\n%s", all_tables[i], out, text);
        }
    }
    remove_dir(dir);
}

/* The result of @expression in ACPICA's interpreter. */
static char *evaluate(Fixture *f, const char *command)
{
    char *dir = make_dir();
    g_free(dump_table(f, dir, "DSDT"));
    g_free(dump_table(f, dir, "SSDT"));
    g_autofree char *line = g_strdup_printf("acpiexec -b '%s' DSDT.aml SSDT.aml", command);
    char *out = run(dir, line);
    remove_dir(dir);
    return out;
}

static void assert_says(const char *text, const char *words)
{
    if (strstr(text, words) == NULL) {
        fail_msg("'%s' is not in: %s", words, text);
    }
}

static void root_bridge_has_the_boards_windows(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    g_autofree char *out = evaluate(f, "resources \\_SB.PCI0");
    assert_says(out, "C0000000");
    assert_says(out, "FEBFFFFF");
    assert_says(out, "0000000100000000"); /* the 64-bit window */
    assert_null(strstr(out, "AE_AML"));
}

/* Checks the route of that slot and pin (0 is A) in @out against the bus's own swizzle. */
static void assert_routed(const char *out, unsigned slot, unsigned pin)
{
    g_autofree char *gsi =
        g_strdup_printf("%016X", X86_GSI_PCI_BASE + pci_intx_gate(slot << 3, pin + 1));
    g_autofree char *words = g_strdup_printf("Integer] = %016X", (slot << 16) | 0xffff);
    const char *entry = out;
    for (unsigned i = 0; i <= pin; i++) {
        entry = strstr(entry, words);
        assert_non_null(entry);
        entry += strlen(words);
    }
    for (unsigned i = 0; i < 3; i++) { /* pin, source, GSI */
        entry = strstr(entry, "Integer] = ");
        assert_non_null(entry);
        entry += strlen("Integer] = ");
    }
    assert_memory_equal(entry, gsi, 16);
}

static void interrupt_routing_is_that_of_the_bus(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    g_autofree char *out = evaluate(f, "evaluate \\_SB.PCI0._PRT");
    for (unsigned slot = 0; slot < 32; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            assert_routed(out, slot, pin);
        }
    }
}

static void only_devices_of_the_board_are_present(void **state)
{
    Fixture *f = *state;
    write_tables(f);
    g_autofree char *com1 = evaluate(f, "evaluate \\_SB.PCI0.ISA.COM1._STA");
    assert_says(com1, "000000000000000F");
    g_autofree char *com2 = evaluate(f, "evaluate \\_SB.PCI0.ISA.COM2._STA");
    assert_says(com2, "Integer] = 0000000000000000");
    g_autofree char *panic = evaluate(f, "evaluate \\_SB.PCI0.ISA.PEVT._STA");
    assert_says(panic, "000000000000000F");
}

static void the_generation_id_has_its_device(void **state)
{
    Fixture *f = *state;
    f->config.has_vmgenid = true;
    write_tables(f);
    const uint8_t *x = xsdt(f), *t = at(f, get(x, get(x, 4, 4) - 8, 8), 36);
    assert_memory_equal(t + 16, "VMGENID", 8);
    assert_int_equal(sum(t, get(t, 4, 4)), 0);
    char *dir = make_dir();
    g_autofree char *path = g_strdup_printf("%s/GENID.aml", dir);
    assert_true(g_file_set_contents(path, (const char *)t, (gssize)get(t, 4, 4), NULL));
    g_free(dump_table(f, dir, "DSDT"));
    g_free(dump_table(f, dir, "SSDT"));
    g_autofree char *out =
        run(dir, "acpiexec -b 'evaluate \\_SB.VGEN.ADDR' DSDT.aml SSDT.aml GENID.aml");
    remove_dir(dir);
    g_autofree char *address = g_strdup_printf("%016X", (unsigned)X86_VMGENID_PAGE + 40);
    assert_says(out, address);
}

static void no_64_bit_window_is_announced_when_there_is_none(void **state)
{
    Fixture *f = *state;
    f->config.windows.mmio64_size = 0;
    write_tables(f);
    g_autofree char *out = evaluate(f, "resources \\_SB.PCI0");
    assert_says(out, "C0000000");
    assert_null(strstr(out, "0000000100000000"));
    assert_null(strstr(out, "AE_AML"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rsdp_can_be_found_and_adds_up),
        TEST(every_table_adds_up_and_lies_in_the_acpi_area),
        TEST(fadt_has_the_addresses_of_the_registers),
        TEST(facs_lies_in_nvs_memory),
        TEST(madt_lists_processors_and_overrides),
        TEST(madt_uses_x2apic_entries_above_254),
        TEST(a_thousand_processors_fit),
        TEST(more_processors_than_fit_are_refused),
        TEST(mcfg_is_the_ecam),
        TEST(every_table_is_disassembled_without_a_warning),
        TEST(root_bridge_has_the_boards_windows),
        TEST(interrupt_routing_is_that_of_the_bus),
        TEST(only_devices_of_the_board_are_present),
        TEST(the_generation_id_has_its_device),
        TEST(no_64_bit_window_is_announced_when_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
