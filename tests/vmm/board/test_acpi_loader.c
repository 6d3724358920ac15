/* SPDX-License-Identifier: Apache-2.0 */
/* A firmware of our own executes etc/table-loader, as SeaBIOS and OVMF do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "vmm/arch/x86_64/layout.h"
#include "vmm/board/x86_64/acpi.h"

#define COMMAND_SIZE 128
#define NAME_SIZE 56

typedef struct Loaded {
    const char *name;
    GBytes *bytes;
    uint8_t *host; /* NULL: not allocated */
    uint64_t gpa;
    uint32_t align;
    uint8_t zone;
} Loaded;

typedef struct Fixture {
    uint32_t apic_ids[8];
    AcpiConfig config;
    AcpiFiles files;
    Loaded loaded[3];
    uint64_t written; /* by write pointer */
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    X86Layout layout;
    assert_true(x86_layout_compute(64 * X86_MIB, 40, &layout, NULL));
    for (uint32_t i = 0; i < G_N_ELEMENTS(f->apic_ids); i++) {
        f->apic_ids[i] = i;
    }
    f->config = (AcpiConfig){.apic_ids = f->apic_ids, .cpu_count = 2, .windows = layout.windows};
    f->config.has_vmgenid = true;
    x86_acpi_build_files(&f->config, &f->files);
    f->loaded[2] =
        (Loaded){.name = "etc/vmgenid_guid", .bytes = g_bytes_new("page", 4), .gpa = 0x3fdf000};
    f->loaded[0] = (Loaded){.name = "etc/acpi/rsdp", .bytes = f->files.rsdp, .gpa = 0xf5ab0};
    f->loaded[1] = (Loaded){.name = "etc/acpi/tables", .bytes = f->files.tables, .gpa = 0x3fe0040};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(f->loaded); i++) {
        g_free(f->loaded[i].host);
    }
    g_bytes_unref(f->loaded[2].bytes);
    g_bytes_unref(f->files.loader);
    g_bytes_unref(f->files.rsdp);
    g_bytes_unref(f->files.tables);
    g_free(f);
    return 0;
}

static uint64_t get(const uint8_t *p, size_t offset, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, p + offset, size);
    return GUINT64_FROM_LE(v);
}

static uint8_t sum(const uint8_t *p, uint64_t size)
{
    uint8_t s = 0;
    for (uint64_t i = 0; i < size; i++) {
        s = (uint8_t)(s + p[i]);
    }
    return s;
}

static Loaded *find(Fixture *f, const uint8_t *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(f->loaded); i++) {
        if (strncmp(f->loaded[i].name, (const char *)name, NAME_SIZE) == 0) {
            return &f->loaded[i];
        }
    }
    fail_msg("no file %s", (const char *)name);
    return NULL;
}

/* ---- commands ---- */

static void allocate(Fixture *f, const uint8_t *c)
{
    gsize size;
    Loaded *l = find(f, c + 4);
    assert_null(l->host);
    const uint8_t *data = g_bytes_get_data(l->bytes, &size);
    l->host = g_memdup2(data, size);
    l->align = (uint32_t)get(c, 60, 4);
    l->zone = c[64];
}

static void add_pointer(Fixture *f, const uint8_t *c)
{
    Loaded *dest = find(f, c + 4), *src = find(f, c + 60);
    uint64_t offset = get(c, 116, 4);
    unsigned size = c[120];
    assert_non_null(dest->host);
    assert_non_null(src->host);
    assert_true(size == 4 || size == 8);
    assert_true(offset + size <= g_bytes_get_size(dest->bytes));
    uint64_t value = get(dest->host, offset, size);
    assert_true(value < g_bytes_get_size(src->bytes));
    value = GUINT64_TO_LE(value + src->gpa);
    memcpy(dest->host + offset, &value, size);
}

static void add_checksum(Fixture *f, const uint8_t *c)
{
    Loaded *l = find(f, c + 4);
    uint64_t at = get(c, 60, 4), start = get(c, 64, 4), size = get(c, 68, 4);
    assert_true(start + size <= g_bytes_get_size(l->bytes));
    assert_true(at >= start && at < start + size);
    l->host[at] = (uint8_t)(l->host[at] - sum(l->host + start, size));
}

static void write_pointer(Fixture *f, const uint8_t *c)
{
    const Loaded *src = find(f, c + 60);
    assert_string_equal((const char *)c + 4, "etc/vmgenid_addr");
    assert_non_null(src->host);
    assert_int_equal(get(c, 116, 4), 0); /* offset in the file */
    assert_int_equal(c[124], 8);
    f->written = src->gpa + get(c, 120, 4);
}

static void load(Fixture *f)
{
    gsize size;
    const uint8_t *script = g_bytes_get_data(f->files.loader, &size);
    assert_true(size > 0 && size % COMMAND_SIZE == 0);
    for (gsize at = 0; at < size; at += COMMAND_SIZE) {
        const uint8_t *c = script + at;
        switch (get(c, 0, 4)) {
        case 1:
            allocate(f, c);
            break;
        case 2:
            add_pointer(f, c);
            break;
        case 3:
            add_checksum(f, c);
            break;
        case 4:
            write_pointer(f, c);
            break;
        default:
            fail_msg("unknown command");
        }
    }
}

/* ---- tests ---- */

/* The table at @gpa, which must add up to 0. */
static const uint8_t *table(Fixture *f, uint64_t gpa)
{
    const Loaded *l = &f->loaded[1];
    assert_true(gpa >= l->gpa && gpa - l->gpa + 36 <= g_bytes_get_size(l->bytes));
    const uint8_t *t = l->host + (gpa - l->gpa);
    uint64_t size = get(t, 4, 4);
    assert_true(gpa - l->gpa + size <= g_bytes_get_size(l->bytes));
    if (memcmp(t, "FACS", 4) != 0) {
        assert_int_equal(sum(t, size), 0);
    }
    return t;
}

static void files_are_allocated_where_guests_search_for_them(void **state)
{
    Fixture *f = *state;
    load(f);
    assert_int_equal(f->loaded[0].zone, 2); /* the F segment */
    assert_int_equal(f->loaded[0].align, 16);
    assert_int_equal(f->loaded[1].zone, 1);
    assert_int_equal(f->loaded[1].align, 64);
}

static void the_rsdp_leads_to_every_table(void **state)
{
    Fixture *f = *state;
    load(f);
    const uint8_t *rsdp = f->loaded[0].host;
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    const uint8_t *rsdt = table(f, get(rsdp, 16, 4)), *xsdt = table(f, get(rsdp, 24, 8));
    assert_memory_equal(rsdt, "RSDT", 4);
    assert_memory_equal(xsdt, "XSDT", 4);
    static const char *const names[] = {"FACP", "APIC", "MCFG", "SSDT", "SSDT"};
    assert_int_equal(get(rsdt, 4, 4), 36 + 4 * G_N_ELEMENTS(names));
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        const uint8_t *t = table(f, get(xsdt, 36 + 8 * i, 8));
        assert_ptr_equal(t, table(f, get(rsdt, 36 + 4 * i, 4)));
        assert_memory_equal(t, names[i], 4);
    }
}

static void the_fadt_has_the_facs_and_the_dsdt(void **state)
{
    Fixture *f = *state;
    load(f);
    const uint8_t *xsdt = table(f, get(f->loaded[0].host, 24, 8));
    const uint8_t *fadt = table(f, get(xsdt, 36, 8));
    const uint8_t *facs = table(f, get(fadt, 36, 4));
    assert_memory_equal(facs, "FACS", 4);
    assert_int_equal((facs - f->loaded[1].host) % 64, 0);
    assert_memory_equal(table(f, get(fadt, 40, 4)), "DSDT", 4);
    assert_ptr_equal(table(f, get(fadt, 140, 8)), table(f, get(fadt, 40, 4)));
}

static void the_generation_id_is_in_a_page_that_firmware_allocates(void **state)
{
    Fixture *f = *state;
    load(f);
    assert_int_equal(f->loaded[2].zone, 1);
    assert_int_equal(f->loaded[2].align, 4096);
    assert_int_equal(f->written, f->loaded[2].gpa + 40);
    const uint8_t *xsdt = table(f, get(f->loaded[0].host, 24, 8));
    const uint8_t *ssdt = table(f, get(xsdt, 36 + 8 * 4, 8));
    const uint8_t *name = memmem(ssdt, get(ssdt, 4, 4), "\x08VGIA\x0c", 6);
    assert_non_null(name);
    assert_int_equal(get(name, 6, 4), f->loaded[2].gpa);
}

static void a_machine_without_vmgenid_has_nothing_of_it(void **state)
{
    Fixture *f = *state;
    AcpiFiles other;
    f->config.has_vmgenid = false;
    x86_acpi_build_files(&f->config, &other);
    gsize size;
    const void *script = g_bytes_get_data(other.loader, &size);
    assert_null(memmem(script, size, "vmgenid", 7));
    assert_true(g_bytes_get_size(other.tables) < g_bytes_get_size(f->files.tables));
    g_bytes_unref(other.loader);
    g_bytes_unref(other.rsdp);
    g_bytes_unref(other.tables);
}

/* Firmware reads the directory with the sizes before it moves the windows. */
static void sizes_do_not_depend_on_the_pci_windows(void **state)
{
    Fixture *f = *state;
    AcpiFiles other;
    f->config.windows = (PciWindows){.mmio32_base = 0x80000000, .ecam_base = 0xe0000000};
    f->config.has_com1 = f->config.has_pvpanic = true;
    x86_acpi_build_files(&f->config, &other);
    assert_true(g_bytes_equal(other.loader, f->files.loader));
    assert_int_equal(g_bytes_get_size(other.tables), g_bytes_get_size(f->files.tables));
    assert_false(g_bytes_equal(other.tables, f->files.tables));
    g_bytes_unref(other.loader);
    g_bytes_unref(other.rsdp);
    g_bytes_unref(other.tables);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_allocated_where_guests_search_for_them),
        TEST(the_rsdp_leads_to_every_table),
        TEST(the_fadt_has_the_facs_and_the_dsdt),
        TEST(the_generation_id_is_in_a_page_that_firmware_allocates),
        TEST(a_machine_without_vmgenid_has_nothing_of_it),
        TEST(sizes_do_not_depend_on_the_pci_windows),
    };
    return cmocka_run_group_tests_name("vmm/board/acpi_loader", tests, NULL, NULL);
}
