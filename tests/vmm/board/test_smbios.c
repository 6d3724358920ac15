/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <glib/gstdio.h>
#include "tests/support/boot_images.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/board/smbios.h"

#define RAM_SIZE (16 * X86_MIB)

typedef struct Fixture {
    TestRam ram;
    GPtrArray *options; /* OptDict */
    SmbiosMachine machine;
    SmbiosTables tables;
    const uint8_t *data;
    gsize size;
    char *file; /* a temporary file, or NULL */
} Fixture;

static void free_dict(void *dict)
{
    opt_dict_free(dict);
}

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    test_ram_init(&f->ram, RAM_SIZE);
    f->options = g_ptr_array_new_with_free_func(free_dict);
    f->machine = (SmbiosMachine){.sockets = 1,
                                 .cores_per_socket = 2,
                                 .threads_per_socket = 4,
                                 .cpuid_version = 0x000806f8,
                                 .cpuid_features = 0x178bfbff,
                                 .ram = &f->ram.ram};
    *state = f;
    return 0;
}

static void forget(Fixture *f)
{
    g_clear_pointer(&f->tables.anchor, g_bytes_unref);
    g_clear_pointer(&f->tables.structures, g_bytes_unref);
    smbios_options_free((SmbiosOptions *)(uintptr_t)f->machine.options);
    f->machine.options = NULL;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    forget(f);
    g_ptr_array_unref(f->options);
    test_ram_clear(&f->ram);
    if (f->file != NULL) {
        g_unlink(f->file);
        g_free(f->file);
    }
    g_free(f);
    return 0;
}

static void add(Fixture *f, const char *option)
{
    OptDict *dict = opt_dict_parse(option, NULL, NULL);
    assert_non_null(dict);
    g_ptr_array_add(f->options, dict);
}

static void build(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    f->machine.options = smbios_options_new(f->options, true, &error);
    if (f->machine.options == NULL || !smbios_build(&f->machine, &f->tables, &error)) {
        fail_msg("%s", error->message);
    }
    f->data = g_bytes_get_data(f->tables.structures, &f->size);
}

/* The options are refused, and the message has @words. */
static void expect_refused(Fixture *f, const char *option, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_ptr_array_set_size(f->options, 0);
    add(f, option);
    assert_null(smbios_options_new(f->options, true, &error));
    if (!g_str_has_prefix(error->message, "-smbios") || strstr(error->message, words) == NULL) {
        fail_msg("'%s' has no '%s'", error->message, words);
    }
}

static void write_file(Fixture *f, const void *data, size_t size)
{
    if (f->file == NULL) {
        f->file = g_strdup("/tmp/skiff-smbios-XXXXXX");
        close(g_mkstemp(f->file));
    }
    assert_true(g_file_set_contents(f->file, data, (gssize)size, NULL));
}

/* ---- a reader ---- */

static uint64_t get(const uint8_t *p, size_t offset, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, p + offset, size);
    return v;
}

/* The structure after @p; checks that the strings end inside the tables. */
static const uint8_t *next(Fixture *f, const uint8_t *p)
{
    const uint8_t *limit = f->data + f->size, *at = p + p[1];
    assert_true(p[1] >= 4 && at + 2 <= limit);
    while (at[0] != 0 || at[1] != 0) {
        at++;
        assert_true(at + 2 <= limit);
    }
    return at + 2;
}

/* The @nth structure of @type, or NULL. */
static const uint8_t *find(Fixture *f, uint8_t type, unsigned nth)
{
    for (const uint8_t *p = f->data; p < f->data + f->size; p = next(f, p)) {
        if (p[0] == type && nth-- == 0) {
            return p;
        }
    }
    return NULL;
}

static const char *string(const uint8_t *p, size_t offset)
{
    const char *text = (const char *)p + p[1];
    for (unsigned i = 1; i < p[offset]; i++) {
        text += strlen(text) + 1;
    }
    return p[offset] != 0 ? text : "";
}

static void assert_string(const uint8_t *p, size_t offset, const char *text)
{
    assert_non_null(p);
    assert_string_equal(string(p, offset), text);
}

static uint8_t sum(const uint8_t *p, size_t size)
{
    uint8_t s = 0;
    for (size_t i = 0; i < size; i++) {
        s = (uint8_t)(s + p[i]);
    }
    return s;
}

/* ---- tests ---- */

static void the_structures_are_those_that_the_specification_requires(void **state)
{
    Fixture *f = *state;
    static const struct {
        uint8_t type, length;
        uint16_t handle;
    } expected[] = {{0, 24, 0},       {1, 27, 0x100},   {3, 22, 0x300},
                    {4, 42, 0x400},   {16, 23, 0x1000}, {17, 40, 0x1100},
                    {19, 31, 0x1300}, {32, 11, 0x2000}, {127, 4, 0x7f00}};
    build(f);
    const uint8_t *p = f->data;
    for (unsigned i = 0; i < G_N_ELEMENTS(expected); i++, p = next(f, p)) {
        assert_int_equal(p[0], expected[i].type);
        assert_int_equal(p[1], expected[i].length);
        assert_int_equal(get(p, 2, 2), expected[i].handle);
    }
    assert_ptr_equal(p, f->data + f->size);
}

static void defaults_are_those_of_qemu(void **state)
{
    Fixture *f = *state;
    build(f);
    assert_string(find(f, 1, 0), 4, "QEMU");
    assert_string(find(f, 1, 0), 5, "Standard PC (Q35 + ICH9, 2009)");
    assert_string(find(f, 1, 0), 7, "");
    assert_string(find(f, 3, 0), 4, "QEMU");
    const uint8_t *cpu = find(f, 4, 0);
    assert_string(cpu, 4, "CPU 0");
    assert_int_equal(get(cpu, 8, 8), UINT64_C(0x178bfbff000806f8));
    assert_int_equal(cpu[35], 2);
    assert_int_equal(cpu[37], 4);
    assert_int_equal(get(find(f, 17, 0), 12, 2), 16); /* MiB */
    assert_string(find(f, 17, 0), 16, "DIMM 0");
    assert_int_equal(get(find(f, 16, 0), 7, 4), RAM_SIZE / 1024);
    assert_int_equal(get(find(f, 19, 0), 8, 4), RAM_SIZE / 1024 - 1);
}

static void the_uuid_has_the_byte_order_of_the_specification(void **state)
{
    Fixture *f = *state;
    static const uint8_t expected[] = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
                                       0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    f->machine.uuid = "00112233-4455-6677-8899-AABBCCDDEEFF";
    build(f);
    assert_memory_equal(find(f, 1, 0) + 8, expected, sizeof(expected));
}

static void fields_are_set_by_options(void **state)
{
    Fixture *f = *state;
    add(f, "type=0,vendor=V,version=1,date=02/03/2024,release=4.5,uefi=on,vm=off");
    add(f, "type=1,manufacturer=M,product=P,version=X,serial=S,sku=K,family=F");
    add(f, "type=1,serial=ds=nocloud");
    add(f, "type=2,product=B,location=slot");
    add(f, "type=3,asset=A,sku=C");
    add(f, "type=4,sock_pfx=SOCK,part=N,max-speed=3000,current-speed=2500,processor-family=0x112,"
           "processor-id=7");
    add(f, "type=8,internal_reference=J1,external_reference=eth0,connector_type=11,port_type=31");
    add(f, "type=8,external_reference=eth1");
    add(f, "type=11,value=one,value=two");
    add(f, "type=11,value=three");
    add(f, "type=17,loc_pfx=SLOT,bank=B0,speed=3200");
    build(f);
    const uint8_t *p = find(f, 0, 0);
    assert_string(p, 4, "V");
    assert_string(p, 8, "02/03/2024");
    assert_int_equal(p[19], 4 | 8);
    assert_int_equal(p[20], 4);
    assert_int_equal(p[21], 5);
    p = find(f, 1, 0);
    assert_string(p, 4, "M");
    assert_string(p, 7, "ds=nocloud");
    assert_string(p, 25, "K");
    assert_string(p, 26, "F");
    assert_string(find(f, 2, 0), 4, "QEMU");
    assert_string(find(f, 2, 0), 5, "B");
    assert_string(find(f, 2, 0), 10, "slot");
    assert_string(find(f, 3, 0), 8, "A");
    assert_string(find(f, 3, 0), 21, "C");
    p = find(f, 4, 0);
    assert_string(p, 4, "SOCK 0");
    assert_int_equal(p[6], 0xfe);
    assert_int_equal(get(p, 8, 8), 7);
    assert_int_equal(get(p, 20, 2), 3000);
    assert_int_equal(get(p, 22, 2), 2500);
    assert_int_equal(get(p, 40, 2), 0x112);
    assert_string(find(f, 8, 0), 4, "J1");
    assert_string(find(f, 8, 1), 6, "eth1");
    assert_int_equal(get(find(f, 8, 1), 2, 2), 0x801);
    p = find(f, 11, 0);
    assert_int_equal(p[4], 3);
    assert_memory_equal(p + p[1], "one\0two\0three\0", 15);
    assert_string(find(f, 17, 0), 16, "SLOT 0");
    assert_int_equal(get(find(f, 17, 0), 21, 2), 3200);
}

static void wrong_options_are_refused(void **state)
{
    Fixture *f = *state;
    expect_refused(f, "serial=x", "type=");
    expect_refused(f, "type=9,slot_type=1", "type=9");
    expect_refused(f, "type=128", "128");
    expect_refused(f, "type=x", "type=x");
    expect_refused(f, "type=1,seriall=x", "serial");
    expect_refused(f, "type=1,uuid=1234", "UUID");
    expect_refused(f, "type=0,release=1", "two numbers");
    expect_refused(f, "type=0,release=1.256", "two numbers");
    expect_refused(f, "type=0,release=1.2x", "two numbers");
    expect_refused(f, "type=4,max-speed=70000", "max-speed");
    expect_refused(f, "type=8,port_type=256", "port_type");
    expect_refused(f, "file=/nonexistent", "/nonexistent");
    expect_refused(f, "file=/nonexistent,type=1", "no other");
    expect_refused(f, "type=11,path=/nonexistent", "/nonexistent");
}

static void a_file_replaces_the_structures_of_its_type(void **state)
{
    Fixture *f = *state;
    static const char system[] = "\x01\x08\x34\x12\x01\x02\0\0Mine\0Box\0";
    write_file(f, system, sizeof(system)); /* with the literal's NUL */
    g_autofree char *option = g_strdup_printf("file=%s", f->file);
    add(f, option);
    build(f);
    assert_string(find(f, 1, 0), 4, "Mine");
    assert_string(find(f, 1, 0), 5, "Box");
    assert_int_equal(get(find(f, 1, 0), 2, 2), 0x1234);
    assert_null(find(f, 1, 1));
    forget(f);
    add(f, "type=1,serial=x");
    g_autoptr(GError) error = NULL;
    assert_null(smbios_options_new(f->options, true, &error));
    assert_non_null(strstr(error->message, "type=1"));
}

static void files_that_are_no_structure_are_refused(void **state)
{
    Fixture *f = *state;
    static const struct {
        const char *data;
        size_t size;
    } bad[] = {
        {"", 0},
        {"\x01\x04\0\0\0", 5},     /* one NUL is missing */
        {"\x01\x03\0\0\0\0", 6},   /* shorter than its header */
        {"\x01\xff\0\0\0\0", 6},   /* longer than the file */
        {"\x01\x04\0\0a\0b", 7},   /* no end */
        {"\x01\x04\0\0a\0\0z", 8}, /* more than one structure */
        {"\x7f\x04\0\0\0\0", 6},   /* the end of the tables */
    };
    write_file(f, "", 0);
    g_autofree char *option = g_strdup_printf("file=%s", f->file);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        write_file(f, bad[i].data, bad[i].size);
        expect_refused(f, option, "file=");
    }
}

static void files_that_never_end_are_refused(void **state)
{
    Fixture *f = *state;
    expect_refused(f, "file=/dev/zero", "too large");
    expect_refused(f, "type=11,path=/dev/zero", "too large");
}

static void oem_strings_come_from_files(void **state)
{
    Fixture *f = *state;
    write_file(f, "from a file", 11);
    g_autofree char *option = g_strdup_printf("type=11,value=first,path=%s", f->file);
    add(f, option);
    build(f);
    const uint8_t *p = find(f, 11, 0);
    assert_memory_equal(p + p[1], "first\0from a file\0", 19);
    write_file(f, "with\0NUL", 8);
    expect_refused(f, option, "NUL");
}

static void firmware_adds_its_own_bios_structure(void **state)
{
    Fixture *f = *state;
    f->machine.has_firmware = true;
    build(f);
    assert_null(find(f, 0, 0));
    forget(f);
    add(f, "type=0,vendor=V");
    build(f);
    assert_string(find(f, 0, 0), 4, "V");
    assert_string(find(f, 0, 0), 5, "");
}

static void every_socket_has_a_processor(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    f->machine.sockets = 3;
    build(f);
    assert_string(find(f, 4, 2), 4, "CPU 2");
    assert_int_equal(get(find(f, 4, 2), 2, 2), 0x402);
    assert_null(find(f, 4, 3));
    SmbiosTables none;
    f->machine.sockets = 5000;
    assert_false(smbios_build(&f->machine, &none, &error));
    assert_non_null(strstr(error->message, "5000"));
}

static void memory_above_4_gib_is_a_range_of_its_own(void **state)
{
    Fixture *f = *state;
    static uint8_t host[1]; /* never accessed */
    GuestRam ram = {0};
    RamBlock low = {.gpa = 0, .size = 0xb0000000, .host = host, .fd = -1};
    RamBlock high = {.gpa = X86_4GIB, .size = 5 * (X86_GIB << 10), .host = host, .fd = -1};
    guest_ram_add(&ram, &low);
    guest_ram_add(&ram, &high);
    f->machine.ram = &ram;
    build(f);
    const uint8_t *p = find(f, 16, 0);
    assert_int_equal(get(p, 7, 4), 0x80000000); /* see the extended field */
    assert_int_equal(get(p, 15, 8), low.size + high.size);
    assert_int_equal(get(p, 13, 2), 3); /* of at most 2 TiB */
    assert_int_equal(get(find(f, 17, 0), 12, 2), 0x7fff);
    assert_int_equal(get(find(f, 17, 0), 28, 4), 2 << 20);
    p = find(f, 19, 1);
    assert_int_equal(get(p, 4, 4), UINT32_MAX);
    assert_int_equal(get(p, 15, 8), X86_4GIB);
    assert_int_equal(get(p, 23, 8), X86_4GIB + high.size - 1);
    assert_null(find(f, 19, 2));
}

static void a_guest_finds_the_tables_by_the_32_bit_entry_point(void **state)
{
    Fixture *f = *state;
    build(f);
    assert_true(smbios_write(&f->tables, &f->ram.ram, X86_SMBIOS_BASE, X86_SMBIOS_SIZE, NULL));
    const uint8_t *a = f->ram.host + X86_SMBIOS_BASE;
    assert_memory_equal(a, "_SM_", 4);
    assert_int_equal(a[5], 31);
    assert_int_equal(sum(a, 31), 0);
    assert_memory_equal(a + 16, "_DMI_", 5);
    assert_int_equal(sum(a + 16, 15), 0);
    assert_int_equal(get(a, 22, 2), f->size);
    assert_int_equal(get(a, 28, 2), 9);
    assert_true(get(a, 8, 2) > 40 && get(a, 8, 2) < 200);
    assert_memory_equal(f->ram.host + get(a, 24, 4), f->data, f->size);
}

static void a_guest_finds_the_tables_by_the_64_bit_entry_point(void **state)
{
    Fixture *f = *state;
    f->machine.entry = SMBIOS_ENTRY_64;
    build(f);
    assert_true(smbios_write(&f->tables, &f->ram.ram, X86_SMBIOS_BASE, X86_SMBIOS_SIZE, NULL));
    const uint8_t *a = f->ram.host + X86_SMBIOS_BASE;
    assert_memory_equal(a, "_SM3_", 5);
    assert_int_equal(sum(a, 24), 0);
    assert_int_equal(get(a, 12, 4), f->size);
    assert_memory_equal(f->ram.host + get(a, 16, 8), f->data, f->size);
    assert_int_equal(find(f, 4, 0)[1], 48);
    assert_int_equal(get(find(f, 4, 0), 46, 2), 4);
}

static void large_tables_have_the_64_bit_entry_point(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strnfill(1000, 'x');
    for (unsigned i = 0; i < 70; i++) {
        g_autofree char *option = g_strdup_printf("type=11,value=%s", text);
        add(f, option);
    }
    build(f);
    gsize size;
    assert_memory_equal(g_bytes_get_data(f->tables.anchor, &size), "_SM3_", 5);
    assert_int_equal(size, 24);
    assert_false(smbios_write(&f->tables, &f->ram.ram, X86_SMBIOS_BASE, X86_SMBIOS_SIZE, &error));
    assert_non_null(strstr(error->message, "there is room for"));
    g_clear_error(&error);
    SmbiosTables none;
    f->machine.entry = SMBIOS_ENTRY_32;
    assert_false(smbios_build(&f->machine, &none, &error));
    assert_non_null(strstr(error->message, "too large"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_structures_are_those_that_the_specification_requires),
        TEST(defaults_are_those_of_qemu),
        TEST(the_uuid_has_the_byte_order_of_the_specification),
        TEST(fields_are_set_by_options),
        TEST(wrong_options_are_refused),
        TEST(a_file_replaces_the_structures_of_its_type),
        TEST(files_that_are_no_structure_are_refused),
        TEST(files_that_never_end_are_refused),
        TEST(oem_strings_come_from_files),
        TEST(firmware_adds_its_own_bios_structure),
        TEST(every_socket_has_a_processor),
        TEST(memory_above_4_gib_is_a_range_of_its_own),
        TEST(a_guest_finds_the_tables_by_the_32_bit_entry_point),
        TEST(a_guest_finds_the_tables_by_the_64_bit_entry_point),
        TEST(large_tables_have_the_64_bit_entry_point),
    };
    return cmocka_run_group_tests_name("vmm/board/smbios", tests, NULL, NULL);
}
