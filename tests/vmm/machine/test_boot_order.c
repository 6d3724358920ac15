/* SPDX-License-Identifier: Apache-2.0 */
/* The boot order that firmware reads: paths as QEMU writes them, order, and -boot's letters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "hw/scsi/scsi.h"
#include "tests/support/pci_dummy.h"
#include "vmm/machine/boot_order.h"

static PciFixture *f;
static MachineConfig config;
static VmMachine machine;

/* ---- a PCI device that firmware boots from ---- */

static bool disk_realize(Device *dev, GError **error)
{
    static const PciIdentity identity = {
        .vendor = 0x1af4, .device = 0x1042, .class_code = 0x010000};
    return pci_device_plug((PciDevice *)dev, dev->env->pci_bus, &identity, error);
}

static void disk_unrealize(Device *dev)
{
    pci_device_unplug((PciDevice *)dev);
}

static void disk_firmware_path(const Device *dev, GString *path)
{
    g_string_append(path, "/disk@0,0");
}

static const OptSpec disk_properties[] = {PCI_DEVICE_PROPERTIES, DEVICE_BOOTINDEX_PROPERTY, {0}};

static const DeviceType disk_type = {
    .name = "test-disk",
    .instance_size = sizeof(PciDevice),
    .properties = disk_properties,
    .bus = "pci",
    .firmware_path = disk_firmware_path,
    .realize = disk_realize,
    .unrealize = disk_unrealize,
};

static Device *add(const char *properties)
{
    Device *dev = fake_device_of(f->m, &disk_type, properties);
    g_ptr_array_add(machine.devices, dev);
    return dev;
}

static Device *add_lun(Device *controller, uint32_t target, uint32_t lun, uint32_t bootindex)
{
    Device *dev = device_new(&scsi_hd_type, &f->m->env, NULL);
    ((ScsiLun *)dev)->target = target;
    ((ScsiLun *)dev)->lun = lun;
    dev->bus_device = controller;
    dev->bootindex = bootindex;
    g_ptr_array_add(machine.devices, dev);
    return dev;
}

static int set_up(void **unused)
{
    f = pci_fixture_new();
    config = (MachineConfig){0};
    machine = (VmMachine){.config = &config, .devices = g_ptr_array_new(), .pci = f->bus};
    return 0;
}

static int tear_down(void **unused)
{
    for (unsigned i = 0; i < machine.devices->len; i++) {
        fake_device_gone(machine.devices->pdata[i]);
    }
    g_ptr_array_free(machine.devices, TRUE);
    pci_fixture_free(f);
    return 0;
}

static void assert_order(const char *expected)
{
    g_autofree char *order = machine_boot_order(&machine);
    assert_non_null(order);
    assert_string_equal(order, expected);
}

static void without_bootindex_there_is_no_list(void **unused)
{
    add("addr=4");
    config.boot.strict = true;
    assert_null(machine_boot_order(&machine));
}

static void the_lowest_comes_first(void **unused)
{
    add("addr=4,bootindex=7");
    add("addr=5,bootindex=0");
    add("addr=1e,bootindex=3,multifunction=on");
    add("addr=1e.2,bootindex=4000000000");
    add("addr=6");
    assert_order("/pci@i0cf8/scsi@5/disk@0,0\n"
                 "/pci@i0cf8/scsi@1e/disk@0,0\n"
                 "/pci@i0cf8/scsi@4/disk@0,0\n"
                 "/pci@i0cf8/scsi@1e,2/disk@0,0");
}

static void a_scsi_disk_is_named_by_its_controller(void **unused)
{
    Device *controller = add("addr=3");
    add_lun(controller, 0x12, 0x1f, 2);
    add_lun(controller, 0, 0, 1);
    assert_order("/pci@i0cf8/scsi@3/channel@0/disk@0,0\n"
                 "/pci@i0cf8/scsi@3/channel@0/disk@12,1f");
}

static void strict_ends_the_list(void **unused)
{
    add("addr=4,bootindex=1");
    config.boot.strict = true;
    assert_order("/pci@i0cf8/scsi@4/disk@0,0\nHALT");
}

static void a_bootindex_is_used_once(void **unused)
{
    g_autoptr(GError) error = NULL;
    Device *a = add("addr=4,bootindex=1");
    Device *b = fake_device_of(f->m, &disk_type, "addr=5,bootindex=1");
    assert_false(machine_check_bootindex(&machine, b, &error));
    assert_non_null(strstr(error->message, "The bootindex 1 has already been used"));
    b->bootindex = 2;
    assert_true(machine_check_bootindex(&machine, b, NULL));
    a->bootindex = b->bootindex = DEVICE_NO_BOOTINDEX;
    assert_true(machine_check_bootindex(&machine, b, NULL));
    fake_device_gone(b);
}

static void letters_of_once_are_for_the_start(void **unused)
{
    assert_string_equal(machine_boot_drives(&machine, true), "cad");
    config.boot.order = (char *)(uintptr_t) "dc";
    assert_string_equal(machine_boot_drives(&machine, true), "dc");
    config.boot.once = (char *)(uintptr_t) "n";
    assert_string_equal(machine_boot_drives(&machine, true), "n");
    assert_string_equal(machine_boot_drives(&machine, false), "dc");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(without_bootindex_there_is_no_list),
        TEST(the_lowest_comes_first),
        TEST(a_scsi_disk_is_named_by_its_controller),
        TEST(strict_ends_the_list),
        TEST(a_bootindex_is_used_once),
        TEST(letters_of_once_are_for_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
