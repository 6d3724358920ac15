/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm lab */
/* Memory slots on /dev/kvm: they are added, changed and removed, and vCPU writes are logged. The
 * guest is a few instructions in real mode: it stores AL at DS:BX and does port I/O, repeatedly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/support/host_kvm.h"
#include "util/sys/sys_fault.h"

#define RAM_SIZE (64u << 12)
#define FLASH_GPA 0x80000u /* addressed as 0x8000:0 */
#define FLASH_SIZE 0x4000u

static Kvm kvm;
static ArchCpus cpus;
static GuestRam ram;
static uint8_t *host, *flash;
static HostVcpu vcpu;

static int set_up(void **unused)
{
    ram = (GuestRam){0};
    host = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    flash = mmap(NULL, FLASH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(host != MAP_FAILED && flash != MAP_FAILED);
    guest_ram_add(&ram, &(RamBlock){.size = RAM_SIZE, .host = host, .fd = -1, .name = "ram"});
    host_kvm_open(&kvm, &cpus, &ram, 1);
    kvm_attach_ram_log(&kvm, &ram);
    host_vcpu_open(&vcpu, &kvm, host);
    return 0;
}

static int tear_down(void **unused)
{
    host_vcpu_close(&vcpu);
    host_kvm_close(&kvm, &cpus);
    guest_ram_log_free(&ram);
    munmap(host, RAM_SIZE);
    munmap(flash, FLASH_SIZE);
    return 0;
}

/* The guest stores @value at @gpa. Returns the resulting exit: MMIO at the store, otherwise I/O. */
static uint32_t guest_store(uint32_t gpa, uint8_t value)
{
    struct kvm_run *run = vcpu.run;
    host_vcpu_begin(&vcpu, gpa, value);
    assert_int_equal(ioctl(vcpu.fd, KVM_RUN, 0), 0);
    uint32_t reason = run->exit_reason;
    assert_true(reason == KVM_EXIT_IO || reason == KVM_EXIT_MMIO);
    run->immediate_exit = 1; /* completes the access */
    ioctl(vcpu.fd, KVM_RUN, 0);
    run->immediate_exit = 0;
    return reason;
}

static uint64_t dirty_pages(void)
{
    uint64_t bits = 0;
    assert_true(guest_ram_log_sync(&ram, NULL));
    guest_ram_log_take(&ram.blocks[0], 0, RAM_SIZE / GUEST_RAM_PAGE, &bits);
    return bits;
}

static void vcpu_writes_are_in_dirty_memory(void **unused)
{
    enter_main();
    assert_int_equal(guest_store(0x3000, 1), KVM_EXIT_IO);
    assert_true(guest_ram_log_start(&ram, NULL));
    dirty_pages();
    assert_int_equal(guest_store(0x5004, 2), KVM_EXIT_IO);
    guest_ram_mark(&ram, 0x9000, 1); /* a device's */
    uint64_t dirty = dirty_pages();
    assert_int_equal(dirty, 1 << 5 | 1 << 9);
    assert_int_equal(dirty_pages(), 0);
    assert_int_equal(guest_store(0x5004, 3), KVM_EXIT_IO); /* the same page again */
    assert_int_equal(dirty_pages(), 1 << 5);
    guest_ram_log_stop(&ram);
    assert_int_equal(guest_store(0x7000, 4), KVM_EXIT_IO);
    assert_true(guest_ram_log_start(&ram, NULL));
    assert_int_equal(dirty_pages() & 1 << 7, 0);
    guest_ram_log_stop(&ram);
}

/* As for pflash: read as memory, written as a device; then completely a device. */
static void a_slot_is_added_changed_and_removed(void **unused)
{
    const RamBlock block = {.gpa = FLASH_GPA, .size = FLASH_SIZE, .host = flash, .name = "flash"};
    KvmSlot *slot;
    enter_main();
    assert_int_equal(guest_store(FLASH_GPA, 1), KVM_EXIT_MMIO); /* no slot */
    bql_lock();
    slot = kvm_slot_add(&kvm, &block, NULL);
    bql_unlock();
    assert_non_null(slot);
    assert_int_equal(guest_store(FLASH_GPA, 2), KVM_EXIT_IO);
    assert_int_equal(flash[0], 2);
    bql_lock();
    assert_true(kvm_slot_set_read_only(&kvm, slot, true, NULL));
    bql_unlock();
    assert_int_equal(guest_store(FLASH_GPA, 3), KVM_EXIT_MMIO);
    assert_true(vcpu.run->mmio.is_write && vcpu.run->mmio.phys_addr == FLASH_GPA);
    assert_int_equal(flash[0], 2);
    bql_lock();
    assert_true(kvm_slot_set_read_only(&kvm, slot, false, NULL));
    bql_unlock();
    assert_int_equal(guest_store(FLASH_GPA, 4), KVM_EXIT_IO);
    assert_int_equal(flash[0], 4);
    bql_lock();
    assert_true(kvm_slot_remove(&kvm, slot, NULL));
    bql_unlock();
    assert_int_equal(guest_store(FLASH_GPA, 5), KVM_EXIT_MMIO);
    assert_int_equal(flash[0], 4);
}

static void slots_changed_while_logging_keep_their_log(void **unused)
{
    const RamBlock block = {.gpa = FLASH_GPA, .size = FLASH_SIZE, .host = flash, .name = "flash"};
    uint64_t bits = 0;
    enter_main();
    guest_ram_add(&ram, &block);
    assert_true(guest_ram_log_start(&ram, NULL));
    bql_lock();
    KvmSlot *slot = kvm_slot_add(&kvm, &block, NULL); /* added while logging: logged */
    bql_unlock();
    assert_non_null(slot);
    assert_int_equal(guest_store(FLASH_GPA + 0x1000, 1), KVM_EXIT_IO);
    bql_lock();
    assert_true(kvm_slot_set_read_only(&kvm, slot, true, NULL));
    assert_true(kvm_slot_remove(&kvm, slot, NULL));
    bql_unlock();
    assert_true(guest_ram_log_sync(&ram, NULL));
    guest_ram_log_take(&ram.blocks[1], 0, FLASH_SIZE / GUEST_RAM_PAGE, &bits);
    assert_int_equal(bits, 2);
    guest_ram_log_stop(&ram);
}

static void a_refused_change_leaves_the_slot_unchanged(void **unused)
{
    g_autoptr(GError) error = NULL;
    RamBlock block = {.gpa = 0x2000, .size = 0x1000, .host = flash, .name = "overlap"};
    enter_main();
    bql_lock();
    assert_null(kvm_slot_add(&kvm, &block, &error)); /* over RAM */
    assert_non_null(strstr(error->message, "overlap"));
    g_clear_error(&error);
    unsigned added = 0;
    for (block.gpa = FLASH_GPA; kvm_slot_add(&kvm, &block, &error); block.gpa += 0x1000) {
        added++;
    }
    bql_unlock();
    assert_int_equal(added, KVM_MAX_SLOTS - 1);
    assert_non_null(strstr(error->message, "slots are in use"));
    assert_int_equal(guest_store(0x2000, 9), KVM_EXIT_IO);
    assert_int_equal(host[0x2000], 9);
}

/* KVM refuses the change of one slot: the others are logged no more. */
static void a_refusal_ends_the_logging_of_the_other_slots(void **unused)
{
    static const SysFault refusal = {.calls = "ioctl", .count = 1, .error = ENOMEM};
    const RamBlock block = {.gpa = FLASH_GPA, .size = FLASH_SIZE, .host = flash, .name = "flash"};
    enter_main();
    bql_lock();
    const KvmSlot *slot = kvm_slot_add(&kvm, &block, NULL);
    bql_unlock();
    assert_true(guest_ram_log_start(&ram, NULL));
    assert_true(slot->logged);
    sys_fault_set(&refusal);
    guest_ram_log_stop(&ram);
    sys_fault_set(NULL);
    assert_true(kvm.slots[0].logged); /* the one it refused */
    assert_false(slot->logged);
    assert_true(guest_ram_log_start(&ram, NULL));
    guest_ram_log_stop(&ram);
    assert_false(kvm.slots[0].logged);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(vcpu_writes_are_in_dirty_memory),
        T(a_slot_is_added_changed_and_removed),
        T(slots_changed_while_logging_keep_their_log),
        T(a_refused_change_leaves_the_slot_unchanged),
        T(a_refusal_ends_the_logging_of_the_other_slots),
    };
    thread_adopt_role(THREAD_MAIN, "main");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
