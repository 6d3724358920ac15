/* SPDX-License-Identifier: Apache-2.0 */
/* The watchdog i6300esb, driven as Linux does, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/core/vm_clock.h"
#include "tests/hw/platform/watchdog_test.h"
#include "tests/support/pci_dummy.h"

#define DEVFN (3 << 3)
#define BAR 0xd0000000u
#define CONFIG 0x60
#define LOCK 0x68
#define LOCKED 1
#define ENABLE 2
#define FREE_RUNNING 4
#define NO_OUTPUT 0x20
#define FAST 0x04
#define S_NS INT64_C(1000000000)
#define TICK_NS (INT64_C(1000000000) * 32768 / 33000000) /* 1 kHz, about */

static PciFixture *f;
static FakeMachine *m;
static Device *dog;

static void enable_memory(void)
{
    pci_cf8_write(f, DEVFN, 0x10, BAR, 4);
    pci_cf8_write(f, DEVFN, 4, 2, 2);
}

static int set_up(void **unused)
{
    f = pci_fixture_new();
    m = f->m;
    dog = fake_device(m, "i6300esb", "addr=3");
    enable_memory();
    return 0;
}

static int tear_down(void **unused)
{
    vm_clock_resume();
    fake_device_gone(dog);
    pci_fixture_free(f);
    return 0;
}

static void reset(void)
{
    bql_lock();
    dog->type->reset(dog);
    bql_unlock();
}

static void unlock(void)
{
    fake_write(m->env.mmio, BAR + 0xc, 0x80, 1);
    fake_write(m->env.mmio, BAR + 0xc, 0x86, 1);
}

static void set_preloads(uint32_t first, uint32_t second)
{
    unlock();
    fake_write(m->env.mmio, BAR, first, 4);
    unlock();
    fake_write(m->env.mmio, BAR + 4, second, 4);
}

static void ping(void)
{
    unlock();
    fake_write(m->env.mmio, BAR + 0xc, 0x100, 2);
}

static void pass(int64_t duration_ns)
{
    watchdog_pass(m, duration_ns);
}

static bool has_expired(void)
{
    return watchdog_has_expired(m);
}

static void test_identity(void **unused)
{
    assert_int_equal(pci_cf8_read(f, DEVFN, 0, 4), 0x25ab8086);
    assert_int_equal(pci_cf8_read(f, DEVFN, 8, 4) >> 16, 0x0880);
    pci_cf8_write(f, DEVFN, 0x10, UINT32_MAX, 4);
    assert_int_equal(pci_cf8_read(f, DEVFN, 0x10, 4), 0xfffffff0);
}

static void test_it_expires_after_both_stages(void **unused)
{
    set_preloads(1000, 2000);
    pass(100 * S_NS);
    assert_false(has_expired()); /* it is not enabled */
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    pass(2900 * TICK_NS);
    assert_false(has_expired());
    pass(200 * TICK_NS);
    assert_true(has_expired());
    assert_int_equal(fake_read(m->env.mmio, BAR + 0xc, 2), 0x1200);
    assert_int_equal(pci_cf8_read(f, DEVFN, LOCK, 1), 0); /* at power-on again */
    pass(10000 * S_NS);
    assert_false(has_expired());
}

static void test_a_ping_starts_again_from_either_stage(void **unused)
{
    set_preloads(1000, 1000);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    for (unsigned i = 0; i < 20; i++) {
        pass((i % 2 == 0 ? 900 : 1900) * TICK_NS);
        ping();
    }
    assert_false(has_expired());
    pass(2100 * TICK_NS);
    assert_true(has_expired());
}

static void test_registers_take_a_write_only_after_the_unlock(void **unused)
{
    set_preloads(1000, 1000);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    pass(1900 * TICK_NS);
    fake_write(m->env.mmio, BAR + 0xc, 0x100, 2);
    fake_write(m->env.mmio, BAR + 0xc, 0x86, 1); /* without 0x80 before */
    fake_write(m->env.mmio, BAR + 0xc, 0x100, 2);
    unlock();
    fake_write(m->env.mmio, BAR, 5000, 4); /* uses the unlock up */
    fake_write(m->env.mmio, BAR + 0xc, 0x100, 2);
    pass(200 * TICK_NS);
    assert_true(has_expired());
}

static void test_the_fast_clock_is_1024_times_faster(void **unused)
{
    pci_cf8_write(f, DEVFN, CONFIG, FAST | 3, 2);
    assert_int_equal(pci_cf8_read(f, DEVFN, CONFIG, 2), FAST | 3);
    set_preloads(500 * 1024, 500 * 1024);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    pass(990 * TICK_NS);
    assert_false(has_expired());
    pass(20 * TICK_NS);
    assert_true(has_expired());
}

static void test_clearing_enable_stops_it(void **unused)
{
    set_preloads(1000, 1000);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    pci_cf8_write(f, DEVFN, LOCK, 0, 1);
    pass(100 * S_NS);
    assert_false(has_expired());
    ping();
    pass(100 * S_NS);
    assert_false(has_expired());
}

static void test_the_lock_holds_until_a_reset(void **unused)
{
    set_preloads(1000, 1000);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE | LOCKED, 1);
    pci_cf8_write(f, DEVFN, LOCK, 0, 1);
    pci_cf8_write(f, DEVFN, LOCK, FREE_RUNNING, 4);
    assert_int_equal(pci_cf8_read(f, DEVFN, LOCK, 1), ENABLE | LOCKED);
    pass(2100 * TICK_NS);
    assert_true(has_expired());
    pci_cf8_write(f, DEVFN, LOCK, ENABLE | LOCKED, 1);
    reset();
    assert_int_equal(pci_cf8_read(f, DEVFN, LOCK, 1), 0);
    pci_cf8_write(f, DEVFN, LOCK, FREE_RUNNING, 1);
    assert_int_equal(pci_cf8_read(f, DEVFN, LOCK, 1), FREE_RUNNING);
}

static void test_a_reset_keeps_the_expired_flag_only(void **unused)
{
    set_preloads(1000, 1000);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    pass(3000 * TICK_NS);
    assert_true(has_expired());
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    reset();
    enable_memory();
    pass(3000 * S_NS);
    assert_false(has_expired());
    assert_int_equal(fake_read(m->env.mmio, BAR + 0xc, 2), 0x1200);
    fake_write(m->env.mmio, BAR + 0xc, 0x200, 2); /* not unlocked */
    assert_int_equal(fake_read(m->env.mmio, BAR + 0xc, 2), 0x1200);
    unlock();
    fake_write(m->env.mmio, BAR + 0xc, 0x200, 2);
    assert_int_equal(fake_read(m->env.mmio, BAR + 0xc, 2), 0);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1); /* the power-on preloads: 1041 s each */
    pass(2060 * S_NS);
    assert_false(has_expired());
    pass(40 * S_NS);
    assert_true(has_expired());
}

static void test_without_output_it_does_nothing(void **unused)
{
    pci_cf8_write(f, DEVFN, CONFIG, NO_OUTPUT, 2);
    set_preloads(1000, 1000);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    pass(100 * S_NS);
    assert_false(has_expired());
    assert_int_equal(fake_read(m->env.mmio, BAR + 0xc, 2), 0);
    pci_cf8_write(f, DEVFN, CONFIG, 0, 2);
    pass(100 * S_NS);
    assert_false(has_expired()); /* it stopped */
    ping();
    pass(3000 * TICK_NS);
    assert_true(has_expired());
}

/* With a preload of 0, a stage of no length would keep main's loop busy for ever: this would hang. */
static void test_a_free_running_watchdog_leaves_main_time(void **unused)
{
    pci_cf8_write(f, DEVFN, CONFIG, NO_OUTPUT | FAST, 2);
    set_preloads(0, 0);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE | FREE_RUNNING, 1);
    pass(S_NS);
    assert_false(has_expired());
    pci_cf8_write(f, DEVFN, CONFIG, 0, 2); /* it still counts */
    set_preloads(1000, 1000);
    pass(3000 * TICK_NS);
    assert_true(has_expired());
}

static void test_a_stopped_vm_does_not_expire(void **unused)
{
    set_preloads(1000, 1000);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    pass(1500 * TICK_NS);
    vm_clock_pause();
    pass(1000 * S_NS);
    assert_false(has_expired());
    vm_clock_resume();
    pass(400 * TICK_NS);
    assert_false(has_expired());
    pass(200 * TICK_NS);
    assert_true(has_expired());
}

static void save(GByteArray *base, GByteArray *own)
{
    bql_lock();
    dog->type->pre_save(dog);
    bql_unlock();
    state_save(dog->type->base_state, dog, base);
    state_save(dog->type->state, dog, own);
}

static void load(const GByteArray *base, const GByteArray *own)
{
    size_t used;
    assert_true(state_load(dog->type->base_state, dog, base->data, base->len, &used, NULL));
    assert_true(state_load(dog->type->state, dog, own->data, own->len, &used, NULL));
    bql_lock();
    assert_true(dog->type->post_load(dog, NULL));
    bql_unlock();
}

static void test_it_goes_on_after_save_and_load(void **unused)
{
    assert_true(state_check_coverage(dog->type->state, NULL));
    g_autoptr(GByteArray) base = g_byte_array_new(), own = g_byte_array_new();
    set_preloads(1000, 1000);
    pci_cf8_write(f, DEVFN, LOCK, ENABLE | LOCKED, 1);
    pass(1500 * TICK_NS); /* in stage 2 */
    unlock();
    vm_clock_pause();
    save(base, own);
    reset();
    vm_clock_set_ns(99); /* another machine's clock */
    load(base, own);
    vm_clock_resume();
    fake_write(m->env.mmio, BAR + 4, 2000, 4); /* it was unlocked */
    pci_cf8_write(f, DEVFN, LOCK, 0, 1);       /* it is locked */
    assert_int_equal(pci_cf8_read(f, DEVFN, LOCK, 1), ENABLE | LOCKED);
    pass(400 * TICK_NS);
    assert_false(has_expired());
    pass(200 * TICK_NS);
    assert_true(has_expired());
    load(base, own);
    ping();
    pass(2100 * TICK_NS);
    assert_true(has_expired());
}

static void test_a_damaged_state_is_bounded(void **unused)
{
    g_autoptr(GByteArray) base = g_byte_array_new(), own = g_byte_array_new();
    pci_cf8_write(f, DEVFN, LOCK, ENABLE, 1);
    save(base, own);
    for (unsigned i = 0; i + 8 <= own->len; i++) {
        g_autoptr(GByteArray) bad = g_byte_array_new();
        size_t used;
        g_byte_array_append(bad, own->data, own->len);
        memset(bad->data + i, 0xff, 8);
        if (state_load(dog->type->state, dog, bad->data, bad->len, &used, NULL)) {
            bql_lock();
            assert_true(dog->type->post_load(dog, NULL));
            bql_unlock();
            pass(3000 * S_NS);
            m->request_count = 0;
        }
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity),
        TEST(test_it_expires_after_both_stages),
        TEST(test_a_ping_starts_again_from_either_stage),
        TEST(test_registers_take_a_write_only_after_the_unlock),
        TEST(test_the_fast_clock_is_1024_times_faster),
        TEST(test_clearing_enable_stops_it),
        TEST(test_the_lock_holds_until_a_reset),
        TEST(test_a_reset_keeps_the_expired_flag_only),
        TEST(test_without_output_it_does_nothing),
        TEST(test_a_free_running_watchdog_leaves_main_time),
        TEST(test_a_stopped_vm_does_not_expire),
        TEST(test_it_goes_on_after_save_and_load),
        TEST(test_a_damaged_state_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
