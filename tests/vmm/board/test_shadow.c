/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm lab */
/* 0xc0000-0xfffff as the PAM registers say, for a guest on /dev/kvm. The guest is a few instructions
 * in real mode: it stores AL at DS:BX, loads AH from there, and does port I/O. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/support/host_kvm.h"
#include "tests/support/pci_dummy.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/board/x86_64/shadow.h"

#define PAM0 0x90u
#define RAM_SIZE (4u << 20)

static PciFixture *f;
static Kvm kvm;
static ArchCpus cpus;
static GuestRam ram;
static uint8_t *ram_host;
static Shadow shadow;
static uint8_t rom[X86_ROM_SHADOW_SIZE];
static HostVcpu vcpu;
static unsigned exits; /* MMIO exits of the last access */

static void pam_changed(void *opaque)
{
    shadow_update(opaque);
}

static int set_up(void **unused)
{
    f = pci_fixture_new();
    ram_host = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ram_host != MAP_FAILED);
    ram = (GuestRam){0};
    guest_ram_add(&ram, &(RamBlock){.size = RAM_SIZE, .host = ram_host, .fd = -1, .name = "ram"});
    host_kvm_open(&kvm, &cpus, &ram, 1);
    kvm_attach_ram_log(&kvm, &ram);
    for (unsigned i = 0; i < sizeof(rom); i++) {
        rom[i] = (uint8_t)(0xa0 | i >> 14);
    }
    assert_true(shadow_init(&shadow, &kvm, &ram, f->m->env.mmio, f->host, NULL));
    pci_host_listen(f->host, (PciHostListener){.pam_changed = pam_changed, .opaque = &shadow});
    shadow_set_rom(&shadow, rom, sizeof(rom));
    host_vcpu_open(&vcpu, &kvm, ram_host);
    return 0;
}

static int tear_down(void **unused)
{
    host_vcpu_close(&vcpu);
    host_kvm_close(&kvm, &cpus);
    guest_ram_log_free(&ram);
    munmap(shadow.rom, X86_ROM_SHADOW_SIZE);
    bql_lock();
    address_space_unmap(&shadow.region);
    bql_unlock();
    pci_host_listen(f->host, (PciHostListener){0});
    pci_fixture_free(f);
    munmap(ram_host, RAM_SIZE);
    return 0;
}

/* The guest stores @value at @gpa. Returns what it loads from there afterwards. */
static uint8_t guest_access(uint32_t gpa, uint8_t value)
{
    struct kvm_run *run = vcpu.run;
    host_vcpu_begin(&vcpu, gpa, value);
    for (exits = 0;; exits++) {
        assert_int_equal(ioctl(vcpu.fd, KVM_RUN, 0), 0);
        if (run->exit_reason == KVM_EXIT_IO) {
            break;
        }
        assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
        assert_int_equal(run->mmio.phys_addr, gpa);
        if (run->mmio.is_write) {
            fake_write(f->m->env.mmio, gpa, run->mmio.data[0], 1);
        } else {
            run->mmio.data[0] = (uint8_t)fake_read(f->m->env.mmio, gpa, 1);
        }
    }
    struct kvm_regs regs;
    assert_int_equal(ioctl(vcpu.fd, KVM_GET_REGS, &regs), 0);
    return (uint8_t)(regs.rax >> 8);
}

/* All segments at once, as firmware does it. */
static void set_pam(uint8_t bits)
{
    pci_cf8_write(f, 0, PAM0, bits << 4 | (uint32_t)(bits * 0x11) * 0x01010100u, 4);
    pci_cf8_write(f, 0, PAM0 + 4, (uint32_t)(bits * 0x11) * 0x010101u, 4);
}

static uint8_t ram_at(uint32_t gpa)
{
    return *(const uint8_t *)guest_ram_map(&ram, gpa, 1, false);
}

static void at_power_on_there_is_rom_and_nothing_below(void **unused)
{
    assert_int_equal(guest_access(0xe0000, 0x11), 0xa0);
    assert_int_equal(exits, 1); /* the store; ROM is read without an exit */
    assert_int_equal(guest_access(0xf3fff, 0x11), 0xa4);
    assert_int_equal(guest_access(0xfffff, 0x11), 0xa7);
    assert_int_equal(guest_access(0xc0000, 0x11), 0xff);
    assert_int_equal(exits, 2);
    assert_int_equal(guest_access(0xdffff, 0x11), 0xff);
    assert_int_equal(guest_access(0xa0000, 0x11), 0xff); /* no display adapter */
    assert_int_equal(guest_access(0xbffff, 0x11), 0xff);
    assert_int_equal(guest_access(0x9ffff, 0x11), 0x11);
    assert_int_equal(guest_access(0x100000, 0x12), 0x12);
    assert_int_equal(exits, 0);
}

static void both_bits_make_it_ram(void **unused)
{
    set_pam(3);
    for (uint32_t gpa = 0xc0000; gpa < 0x100000; gpa += 0x3fff) {
        assert_int_equal(guest_access(gpa, 0x34), 0x34);
        assert_int_equal(exits, 0);
        assert_int_equal(ram_at(gpa), 0x34);
    }
    guest_access(0xf0000, 0x34);
    set_pam(0);
    assert_int_equal(guest_access(0xf0000, 0x11), 0xa4); /* the ROM has not changed */
    assert_int_equal(ram_at(0xf0000), 0x34);             /* nor has RAM */
}

static void read_alone_protects_ram(void **unused)
{
    set_pam(3);
    guest_access(0xc8000, 0x55);
    guest_access(0xf8000, 0x56);
    set_pam(1);
    assert_int_equal(guest_access(0xc8000, 0x11), 0x55);
    assert_int_equal(exits, 1);
    assert_int_equal(guest_access(0xf8000, 0x11), 0x56);
    assert_int_equal(guest_access(0xf8000, 0x12), 0x56);
}

static void write_alone_fills_ram_behind_the_rom(void **unused)
{
    set_pam(2);
    assert_int_equal(guest_access(0xe8000, 0x77), 0xa2);
    assert_int_equal(exits, 1);
    assert_int_equal(guest_access(0xc8000, 0x78), 0xff);
    set_pam(1);
    assert_int_equal(guest_access(0xe8000, 0x11), 0x77);
    assert_int_equal(guest_access(0xc8000, 0x11), 0x78);
}

/* Every segment has its own bits. */
static void each_nibble_has_its_segment(void **unused)
{
    for (unsigned i = 0; i < PCI_HOST_PAM_SEGMENTS; i++) {
        uint64_t gpa, size;
        unsigned reg = i == 12 ? PAM0 : PAM0 + 1 + i / 2, shift = i == 12 || i % 2 != 0 ? 4 : 0;
        pci_host_pam_range(i, &gpa, &size);
        pci_cf8_write(f, 0, reg, 3u << shift, 1);
        assert_int_equal(guest_access((uint32_t)gpa, 0x21), 0x21);
        assert_int_equal(guest_access((uint32_t)(gpa + size) - 1, 0x22), 0x22);
        assert_int_equal(exits, 0);
        if (i > 0) {
            assert_int_not_equal(guest_access((uint32_t)gpa - 1, 0x23), 0x23);
        }
        pci_cf8_write(f, 0, reg, 0, 1);
        assert_int_not_equal(guest_access((uint32_t)gpa, 0x24), 0x24);
    }
}

static void a_small_image_ends_at_1m(void **unused)
{
    memset(shadow.rom, 0xff, sizeof(rom));
    shadow_set_rom(&shadow, rom, 0x10000);
    assert_int_equal(guest_access(0xfffff, 0x11), 0xa3);
    assert_int_equal(guest_access(0xf0000, 0x11), 0xa0);
    assert_int_equal(guest_access(0xeffff, 0x11), 0xff);
}

static void a_reset_brings_the_rom_back(void **unused)
{
    set_pam(3);
    assert_int_equal(guest_access(0xf0000, 0x31), 0x31);
    bql_lock();
    f->host->type->reset(f->host);
    bql_unlock();
    assert_int_equal(guest_access(0xf0000, 0x32), 0xa4);
}

static void writes_to_it_are_in_dirty_memory(void **unused)
{
    const RamBlock *block = &ram.blocks[0];
    uint64_t bits[4] = {0};
    enter_main();
    set_pam(3);
    assert_true(guest_ram_log_start(&ram, NULL));
    guest_access(0xd0000, 0x41);
    set_pam(1); /* the slot with the write goes */
    assert_true(guest_ram_log_sync(&ram, NULL));
    guest_ram_log_take(block, 0, 256, bits);
    assert_true((bits[0xd0 / 64] >> (0xd0 % 64) & 1) != 0);
    set_pam(2);
    guest_access(0xe4000, 0x42);
    memset(bits, 0, sizeof(bits));
    guest_ram_log_take(block, 0, 256, bits);
    assert_true((bits[0xe4 / 64] >> (0xe4 % 64) & 1) != 0);
    guest_ram_log_stop(&ram);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(at_power_on_there_is_rom_and_nothing_below),
        TEST(both_bits_make_it_ram),
        TEST(read_alone_protects_ram),
        TEST(write_alone_fills_ram_behind_the_rom),
        TEST(each_nibble_has_its_segment),
        TEST(a_small_image_ends_at_1m),
        TEST(a_reset_brings_the_rom_back),
        TEST(writes_to_it_are_in_dirty_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
