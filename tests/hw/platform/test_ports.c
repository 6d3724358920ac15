/* SPDX-License-Identifier: Apache-2.0 */
/* The small port devices: debug exit, debug console, pvpanic, POST port, keyboard controller. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/fake_chardev.h"
#include "tests/support/fake_machine.h"

static FakeMachine *m;

static int set_up(void **unused)
{
    m = fake_machine_new();
    return 0;
}

static int tear_down(void **unused)
{
    fake_machine_free(m);
    return 0;
}

static bool realize_fails(const char *name, const char *properties, const char *message)
{
    Device *dev = device_new(device_type_find(name), &m->env, NULL);
    g_autoptr(OptDict) dict = opt_dict_parse(properties, NULL, NULL);
    g_autoptr(GError) error = NULL;
    bool ok = device_set_properties(dev, dict, &error) && device_realize(dev, &error);
    if (!ok && strstr(error->message, message) == NULL) {
        print_message("%s\n", error->message);
        ok = true;
    }
    device_free(dev);
    return !ok;
}

static void test_debug_exit_takes_every_width(void **unused)
{
    Device *dev = fake_device(m, "isa-debug-exit", "iobase=0xf4,iosize=4");
    fake_out8(m, 0xf4, 0x21);
    assert_int_equal(fake_machine_last_request(m).request, VM_REQUEST_DEBUG_EXIT);
    assert_int_equal(fake_machine_last_request(m).detail, 0x21);
    fake_out32(m, 0xf4, 0x12345678);
    assert_int_equal(fake_machine_last_request(m).detail, 0x12345678);
    fake_out16(m, 0xf6, 0xbeef);
    assert_int_equal(fake_machine_last_request(m).detail, 0xbeef);
    assert_int_equal(fake_in32(m, 0xf4), 0);
    assert_int_equal(m->request_count, 3);
    fake_device_gone(dev);
    assert_int_equal(fake_in8(m, 0xf4), 0xff);
}

static void test_ports_that_are_taken_or_do_not_exist_are_refused(void **unused)
{
    Device *dev = fake_device(m, "isa-debug-exit", "iobase=0x501,iosize=4");
    assert_true(realize_fails("pvpanic", "ioport=0x504", "isa-debug-exit"));
    assert_true(realize_fails("isa-debug-exit", "iobase=0x4fe,iosize=4", "isa-debug-exit"));
    assert_true(realize_fails("isa-debug-exit", "iobase=0xffff,iosize=2", "0xffff"));
    assert_true(realize_fails("isa-debug-exit", "iosize=0", "iosize"));
    fake_device_gone(dev);
}

static void test_debugcon_writes_every_byte_and_reads_its_mark(void **unused)
{
    FakeChardev *c = fake_chardev_new("dbg");
    Device *dev = fake_device(m, "isa-debugcon", "iobase=0x402,chardev=dbg");
    assert_int_equal(fake_in8(m, 0x402), 0xe9);
    for (const char *s = "hello"; *s != '\0'; s++) {
        fake_out8(m, 0x402, (uint8_t)*s);
    }
    assert_string_equal(c->output->str, "hello");
    assert_true(realize_fails("isa-debugcon", "chardev=dbg", "in use"));
    assert_true(realize_fails("isa-debugcon", "chardev=nope", "nope"));
    fake_device_gone(dev);
    fake_chardev_free(c);
}

static void test_debugcon_write_waits_while_the_chardev_is_full(void **unused)
{
    FakeChardev *c = fake_chardev_new("dbg");
    Device *dev = fake_device(m, "isa-debugcon", "chardev=dbg");
    c->room = 1;
    fake_out8(m, 0xe9, 'a');
    IoAccess access = {.size = 1, .is_write = true, .value = 'b'};
    bql_lock();
    assert_int_equal(address_space_dispatch(m->env.pio, 0xe9, &access, NULL), MMIO_PENDING);
    bql_unlock();
    assert_false(completion_done(&access.waiter.done));
    fake_chardev_make_room(c, 10);
    assert_true(completion_done(&access.waiter.done));
    bql_lock();
    assert_int_equal(address_space_dispatch(m->env.pio, 0xe9, &access, NULL), MMIO_DONE);
    bql_unlock();
    assert_string_equal(c->output->str, "ab");
    fake_device_gone(dev);
    fake_chardev_free(c);
}

static void test_debugcon_write_of_a_stopping_vcpu_does_not_wait(void **unused)
{
    FakeChardev *c = fake_chardev_new("dbg");
    Device *dev = fake_device(m, "isa-debugcon", "chardev=dbg");
    c->room = 0;
    c->reserve = 1;
    for (const char *s = "bc"; *s != '\0'; s++) { /* the reserve has no room for the second */
        IoAccess access = {.size = 1, .is_write = true, .value = (uint8_t)*s};
        bql_lock();
        assert_int_equal(address_space_dispatch(m->env.pio, 0xe9, &access, NULL), MMIO_PENDING);
        pended_cancel(&access.waiter);
        pended_cancel(&access.waiter); /* has no effect: the wait has ended */
        assert_true(completion_done(&access.waiter.done));
        access.must_retire = true;
        assert_int_equal(address_space_dispatch(m->env.pio, 0xe9, &access, NULL), MMIO_DONE);
        bql_unlock();
    }
    assert_string_equal(c->output->str, "b");
    fake_chardev_make_room(c, 10);
    fake_out8(m, 0xe9, 'd');
    assert_string_equal(c->output->str, "bd");
    fake_device_gone(dev);
    fake_chardev_free(c);
}

static void test_debugcon_without_chardev_is_silent(void **unused)
{
    Device *dev = fake_device(m, "isa-debugcon", NULL);
    fake_out8(m, 0xe9, 'a');
    fake_device_gone(dev);
}

static void test_pvpanic_tells_known_events(void **unused)
{
    Device *dev = fake_device(m, "pvpanic", NULL);
    assert_int_equal(fake_in8(m, 0x505), 3);
    fake_out8(m, 0x505, 1);
    assert_int_equal(fake_machine_last_request(m).request, VM_REQUEST_PANIC);
    assert_int_equal(fake_machine_last_request(m).detail, 1);
    fake_out8(m, 0x505, 0xf2);
    assert_int_equal(fake_machine_last_request(m).detail, 2);
    fake_out8(m, 0x505, 0);
    fake_out8(m, 0x505, 0x80);
    assert_int_equal(m->request_count, 2);
    fake_device_gone(dev);
}

static void test_post_port_gives_its_code_back(void **unused)
{
    Device *dev = fake_device(m, "post-port", NULL);
    fake_out8(m, 0x80, 0x42);
    assert_int_equal(fake_in8(m, 0x80), 0x42);
    assert_int_equal(fake_in32(m, 0x80), 0xffffff42);
    fake_device_gone(dev);
}

/* ---- keyboard controller ---- */

static uint8_t kbd_reply(uint8_t command)
{
    fake_out8(m, 0x64, command);
    assert_int_equal(fake_in8(m, 0x64) & 1, 1);
    return fake_in8(m, 0x60);
}

static void test_keyboard_controller_resets_the_machine(void **unused)
{
    Device *dev = fake_device(m, "i8042", NULL);
    fake_out8(m, 0x64, 0xff); /* pulses nothing */
    assert_int_equal(m->request_count, 0);
    fake_out8(m, 0x64, 0xfe);
    assert_int_equal(fake_machine_last_request(m).request, VM_REQUEST_RESET);
    fake_out8(m, 0x64, 0xd1); /* output port, reset bit low */
    fake_out8(m, 0x60, 0x02);
    assert_int_equal(m->request_count, 2);
    fake_out8(m, 0x92, 0x02);
    assert_int_equal(m->request_count, 2);
    fake_out8(m, 0x92, 0x03);
    assert_int_equal(m->request_count, 3);
    fake_device_gone(dev);
}

static void test_keyboard_controller_answers_its_tests(void **unused)
{
    Device *dev = fake_device(m, "i8042", NULL);
    assert_int_equal(fake_in8(m, 0x64) & 1, 0); /* nothing to flush */
    assert_int_equal(kbd_reply(0xaa), 0x55);
    assert_int_equal(fake_in8(m, 0x64) & 5, 4);
    assert_int_equal(kbd_reply(0xab), 0x00);
    assert_int_equal(kbd_reply(0xa9), 0x01); /* no aux port */
    fake_out8(m, 0x64, 0x60);
    fake_out8(m, 0x60, 0x47);
    assert_int_equal(kbd_reply(0x20), 0x47);
    assert_int_equal(kbd_reply(0xd0) & 3, 3);
    assert_int_equal(fake_in8(m, 0x92), 2);
    fake_device_gone(dev);
}

/* What the keyboard sends after @value, up to @count bytes; each raises the interrupt. */
static void expect_keyboard(uint8_t value, const char *bytes, unsigned count)
{
    fake_out8(m, 0x60, value);
    for (unsigned i = 0; i < count; i++) {
        assert_true(m->gsi_level[1]);
        assert_int_equal(fake_in8(m, 0x64) & 0x61, 0x01);
        assert_int_equal(fake_in8(m, 0x60), (uint8_t)bytes[i]);
    }
    assert_false(m->gsi_level[1]);
    assert_int_equal(fake_in8(m, 0x64) & 1, 0);
}

static void test_a_keyboard_acknowledges_at_once(void **unused)
{
    Device *dev = fake_device(m, "i8042", NULL);
    fake_out8(m, 0x64, 0x60);
    fake_out8(m, 0x60, 0x03); /* both interrupts */
    expect_keyboard(0xff, "\xfa\xaa", 2);
    expect_keyboard(0xf2, "\xfa\xab\x83", 3);
    expect_keyboard(0xed, "\xfa", 1); /* the lights, and their parameter */
    expect_keyboard(0x02, "\xfa", 1);
    expect_keyboard(0xee, "\xee", 1);
    unsigned raised = m->gsi_raised[1];
    expect_keyboard(0xf2, "\xfa\xab\x83", 3);
    assert_int_equal(m->gsi_raised[1] - raised, 3); /* an edge for each */
    fake_out8(m, 0x60, 0xf2);
    expect_keyboard(0xf4, "\xfa", 1); /* a new command ends the old one's answer */
    fake_device_gone(dev);
}

static void test_no_mouse_times_out_at_once_by_interrupt(void **unused)
{
    Device *dev = fake_device(m, "i8042", NULL);
    fake_out8(m, 0x64, 0x60);
    fake_out8(m, 0x60, 0x03); /* both interrupts */
    fake_out8(m, 0x64, 0xd3);
    fake_out8(m, 0x60, 0x5a);
    assert_true(m->gsi_level[12]);
    assert_int_equal(fake_in8(m, 0x64) & 0x61, 0x61);
    assert_int_equal(fake_in8(m, 0x60), 0xfe);
    fake_device_gone(dev);
}

static void test_hostile_accesses_do_no_harm(void **unused)
{
    Device *devices[] = {fake_device(m, "i8042", NULL), fake_device(m, "post-port", NULL),
                         fake_device(m, "pvpanic", NULL), fake_device(m, "isa-debugcon", NULL),
                         fake_device(m, "isa-debug-exit", NULL)};
    static const uint16_t ports[] = {0x5d, 0x60, 0x61, 0x64,  0x7e,  0x80,  0x90,
                                     0x92, 0xe6, 0xe9, 0x4fe, 0x501, 0x503, 0x505};
    for (unsigned i = 0; i < G_N_ELEMENTS(ports); i++) {
        for (unsigned size = 1; size <= 8; size++) {
            for (unsigned value = 0; value < 256; value++) {
                fake_write(m->env.pio, ports[i], value * UINT64_C(0x0101010101010101), size);
                fake_read(m->env.pio, ports[i], size);
            }
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(devices); i++) {
        fake_device_gone(devices[i]);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_debug_exit_takes_every_width),
        TEST(test_ports_that_are_taken_or_do_not_exist_are_refused),
        TEST(test_debugcon_writes_every_byte_and_reads_its_mark),
        TEST(test_debugcon_write_waits_while_the_chardev_is_full),
        TEST(test_debugcon_write_of_a_stopping_vcpu_does_not_wait),
        TEST(test_debugcon_without_chardev_is_silent),
        TEST(test_pvpanic_tells_known_events),
        TEST(test_post_port_gives_its_code_back),
        TEST(test_keyboard_controller_resets_the_machine),
        TEST(test_keyboard_controller_answers_its_tests),
        TEST(test_no_mouse_times_out_at_once_by_interrupt),
        TEST(test_a_keyboard_acknowledges_at_once),
        TEST(test_hostile_accesses_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
