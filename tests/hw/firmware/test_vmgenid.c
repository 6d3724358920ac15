/* SPDX-License-Identifier: Apache-2.0 */
/* vmgenid and vmcoreinfo: what firmware and the guest read and write through fw_cfg. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/firmware/fw_cfg.h"
#include "hw/firmware/vmcoreinfo.h"
#include "hw/firmware/vmgenid.h"
#include "tests/support/fake_machine.h"

#define GUID "00112233-4455-6677-8899-aabbccddeeff"
#define DESCRIPTOR 0x1000
#define SOURCE 0x2000
#define PAGE 0x300000

static const uint8_t guid_bytes[] = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
                                     0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

static FakeMachine *m;
static Device *fw_cfg, *dev;

static int set_up(void **unused)
{
    m = fake_machine_new();
    fw_cfg = m->env.fw_cfg = fake_device(m, "fw_cfg_io", NULL);
    return 0;
}

static int tear_down(void **unused)
{
    fake_device_gone(dev);
    fake_device_gone(fw_cfg);
    fake_machine_free(m);
    return 0;
}

static uint8_t *ram(uint64_t gpa)
{
    return m->ram.blocks[0].host + gpa;
}

/* Selects file @index of the directory and skips, if @offset is not 0; then writes. */
static uint32_t dma(uint32_t control, uint32_t length)
{
    const uint32_t words[] = {GUINT32_TO_BE(control), GUINT32_TO_BE(length), 0,
                              GUINT32_TO_BE(SOURCE)};
    uint32_t result;
    memcpy(ram(DESCRIPTOR), words, sizeof(words));
    fake_out32(m, 0x518, GUINT32_SWAP_LE_BE(DESCRIPTOR));
    memcpy(&result, ram(DESCRIPTOR), 4);
    return GUINT32_FROM_BE(result);
}

static uint32_t write_file(unsigned index, uint32_t offset, const void *data, uint32_t size)
{
    memcpy(ram(SOURCE), data, size);
    assert_int_equal(dma((0x20 + index) << 16 | 8 | 4, offset), 0);
    return dma(16, size);
}

static uint32_t write_address(uint64_t address)
{
    address = GUINT64_TO_LE(address);
    return write_file(0, 0, &address, 8); /* etc/vmgenid_addr is before etc/vmgenid_guid */
}

static void reset(void)
{
    bql_lock();
    dev->type->reset(dev);
    bql_unlock();
}

/* ---- vmgenid ---- */

static void firmware_reads_a_page_with_the_guid(void **unused)
{
    dev = fake_device(m, "vmgenid", "guid=" GUID);
    g_autoptr(GBytes) page = fw_cfg_get_file(fw_cfg, "etc/vmgenid_guid");
    gsize size;
    const uint8_t *data = g_bytes_get_data(page, &size);
    assert_int_equal(size, 4096);
    assert_memory_equal(data + 40, guid_bytes, 16);
    for (unsigned i = 0; i < size; i++) {
        assert_true((i >= 40 && i < 56) || data[i] == 0);
    }
    assert_string_equal(vmgenid_guid(dev), GUID);
}

static void the_guid_goes_to_the_address_that_firmware_writes(void **unused)
{
    dev = fake_device(m, "vmgenid", "guid=" GUID);
    assert_int_equal(write_address(PAGE + 40), 0);
    assert_memory_equal(ram(PAGE + 40), guid_bytes, 16);
    assert_int_equal(*ram(PAGE + 39), 0);
    assert_int_equal(*ram(PAGE + 56), 0);
}

static void an_address_that_is_not_ram_is_ignored(void **unused)
{
    static const uint64_t addresses[] = {0xfee00000, FAKE_RAM_SIZE - 15, UINT64_MAX};
    dev = fake_device(m, "vmgenid", "guid=" GUID);
    for (unsigned i = 0; i < G_N_ELEMENTS(addresses); i++) {
        assert_int_equal(write_address(addresses[i]), 0);
        bql_lock();
        assert_true(dev->type->post_load(dev, NULL)); /* the guest's mistake, or its attack */
        bql_unlock();
    }
    assert_int_equal(write_address(PAGE), 0);
    assert_memory_equal(ram(PAGE), guid_bytes, 16);
}

static unsigned events, last_event;

static void note_event(void *opaque, unsigned gpe)
{
    assert_bql();
    events++;
    last_event = gpe;
}

static void a_loaded_machine_gets_the_new_guid_and_is_notified(void **unused)
{
    events = 0;
    m->env.acpi_event = note_event;
    dev = fake_device(m, "vmgenid", "guid=" GUID);
    assert_int_equal(write_address(PAGE), 0);
    memset(ram(PAGE), 0xee, 16); /* the GUID of the machine that was saved */
    bql_lock();
    assert_true(dev->type->post_load(dev, NULL));
    bql_unlock();
    assert_memory_equal(ram(PAGE), guid_bytes, 16);
    assert_int_equal(events, 1);
    assert_int_equal(last_event, VMGENID_GPE);
    bql_lock();
    assert_true(dev->type->post_load(dev, NULL)); /* the same process again, as for a rewind */
    bql_unlock();
    assert_int_equal(events, 1);
}

static void a_reset_forgets_the_address(void **unused)
{
    dev = fake_device(m, "vmgenid", "guid=" GUID);
    assert_int_equal(write_address(PAGE), 0);
    reset();
    memset(ram(PAGE), 0xee, 16);
    bql_lock();
    assert_true(dev->type->post_load(dev, NULL));
    bql_unlock();
    assert_int_equal(*ram(PAGE), 0xee);
}

static void the_board_places_it_without_firmware(void **unused)
{
    dev = fake_device(m, "vmgenid", "guid=" GUID);
    bql_lock();
    assert_true(vmgenid_place(dev, PAGE));
    assert_false(vmgenid_place(dev, FAKE_RAM_SIZE));
    bql_unlock();
    assert_memory_equal(ram(PAGE + 40), guid_bytes, 16);
}

static void auto_is_a_random_guid(void **unused)
{
    dev = fake_device(m, "vmgenid", NULL);
    assert_true(g_uuid_string_is_valid(vmgenid_guid(dev)));
    g_autofree char *first = g_strdup(vmgenid_guid(dev));
    fake_device_gone(dev);
    dev = fake_device(m, "vmgenid", "guid=auto");
    assert_string_not_equal(vmgenid_guid(dev), first);
}

static void a_wrong_guid_and_a_second_device_are_refused(void **unused)
{
    static const char *const bad[] = {"", "1", "00112233445566778899aabbccddeeff", GUID "0"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(OptDict) props = opt_dict_new();
        Device *other = device_new(device_type_find("vmgenid"), &m->env, NULL);
        opt_dict_set(props, "guid", bad[i]);
        assert_true(device_set_properties(other, props, NULL));
        assert_false(device_realize(other, &error));
        assert_non_null(strstr(error->message, "is no GUID"));
        device_free(other);
    }
    g_autoptr(GError) error = NULL;
    dev = fake_device(m, "vmgenid", NULL);
    Device *second = device_new(device_type_find("vmgenid"), &m->env, NULL);
    assert_false(device_realize(second, &error));
    assert_non_null(strstr(error->message, "exists already"));
    device_free(second);
    g_autoptr(GBytes) page = fw_cfg_get_file(fw_cfg, "etc/vmgenid_guid"); /* of the first one */
    assert_non_null(page);
}

/* ---- vmcoreinfo ---- */

static bool get(uint64_t *gpa, uint32_t *size)
{
    bql_lock();
    bool ok = vmcoreinfo_get(dev, gpa, size);
    bql_unlock();
    return ok;
}

/* Little-endian: formats, size, address. */
static const uint8_t whole[] = {1, 0, 1, 0, 0x48, 1, 0, 0, 0, 0x10, 0x32, 0, 1, 0, 0, 0};

static void the_guest_says_where_its_note_is(void **unused)
{
    uint64_t gpa;
    uint32_t size;
    dev = fake_device(m, "vmcoreinfo", NULL);
    g_autoptr(GBytes) initial = fw_cfg_get_file(fw_cfg, "etc/vmcoreinfo");
    assert_memory_equal(g_bytes_get_data(initial, NULL), "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_false(get(&gpa, &size));
    assert_int_equal(write_file(0, 0, whole, 16), 0);
    assert_true(get(&gpa, &size));
    assert_int_equal(gpa, UINT64_C(0x100321000));
    assert_int_equal(size, 0x148);
    reset();
    assert_false(get(&gpa, &size));
}

static void only_a_whole_write_counts(void **unused)
{
    uint64_t gpa;
    uint32_t size;
    dev = fake_device(m, "vmcoreinfo", NULL);
    assert_int_equal(write_file(0, 0, whole, 8), 0);
    assert_int_equal(write_file(0, 8, whole + 8, 8), 0);
    assert_false(get(&gpa, &size));
    assert_int_equal(write_file(0, 0, whole, 16), 0);
    assert_true(get(&gpa, &size));
    assert_int_equal(write_file(0, 15, whole, 1), 0);
    assert_false(get(&gpa, &size));
}

static void impossible_values_are_none(void **unused)
{
    static const struct {
        unsigned at;
        uint8_t value;
    } bad[] = {{2, 0}, {2, 2}, {6, 0x11}, {7, 1}};
    uint64_t gpa;
    uint32_t size;
    dev = fake_device(m, "vmcoreinfo", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint8_t info[16];
        memcpy(info, whole, 16);
        info[bad[i].at] = bad[i].value;
        assert_int_equal(write_file(0, 0, info, 16), 0);
        assert_false(get(&gpa, &size));
    }
}

static void the_state_tables_cover_the_devices(void **unused)
{
    dev = fake_device(m, "vmgenid", NULL);
    assert_true(state_check_coverage(dev->type->state, NULL));
    assert_true(state_check_coverage(device_type_find("vmcoreinfo")->state, NULL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(firmware_reads_a_page_with_the_guid),
        TEST(the_guid_goes_to_the_address_that_firmware_writes),
        TEST(an_address_that_is_not_ram_is_ignored),
        TEST(a_loaded_machine_gets_the_new_guid_and_is_notified),
        TEST(a_reset_forgets_the_address),
        TEST(the_board_places_it_without_firmware),
        TEST(auto_is_a_random_guid),
        TEST(a_wrong_guid_and_a_second_device_are_refused),
        TEST(the_guest_says_where_its_note_is),
        TEST(only_a_whole_write_counts),
        TEST(impossible_values_are_none),
        TEST(the_state_tables_cover_the_devices),
    };
    return cmocka_run_group_tests_name("hw/firmware/vmgenid", tests, NULL, NULL);
}
