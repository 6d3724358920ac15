/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/core/vm_clock.h"
#include "tests/support/fake_chardev.h"
#include "tests/support/fake_machine.h"

#define COM1 0x3f8
#define DATA (COM1 + 0)
#define IER (COM1 + 1)
#define IIR (COM1 + 2)
#define FCR (COM1 + 2)
#define LCR (COM1 + 3)
#define MCR (COM1 + 4)
#define LSR (COM1 + 5)
#define MSR (COM1 + 6)
#define SCR (COM1 + 7)
#define GSI 4

static FakeMachine *m;
static FakeChardev *c;
static Device *dev;

static int set_up(void **unused)
{
    m = fake_machine_new();
    c = fake_chardev_new("con");
    dev = fake_device(m, "isa-serial", "chardev=con");
    return 0;
}

static int tear_down(void **unused)
{
    fake_device_gone(dev);
    fake_chardev_free(c);
    fake_machine_free(m);
    return 0;
}

static void test_power_on_registers(void **unused)
{
    assert_int_equal(fake_in8(m, IER), 0);
    assert_int_equal(fake_in8(m, IIR), 0x01);
    assert_int_equal(fake_in8(m, LCR), 0);
    assert_int_equal(fake_in8(m, MCR), 0);
    assert_int_equal(fake_in8(m, LSR), 0x60);
    assert_int_equal(fake_in8(m, MSR), 0xb0);
    assert_false(m->gsi_level[GSI]);
}

static void test_registers_read_back_and_dlab_selects_the_divisor(void **unused)
{
    fake_out8(m, SCR, 0xa5);
    assert_int_equal(fake_in8(m, SCR), 0xa5);
    fake_out8(m, IER, 0xff);
    assert_int_equal(fake_in8(m, IER), 0x0f);
    fake_out8(m, MCR, 0xef);
    assert_int_equal(fake_in8(m, MCR), 0x0f);
    fake_out8(m, LCR, 0x83);
    fake_out8(m, DATA, 0x34);
    fake_out8(m, IER, 0x12);
    assert_int_equal(fake_in8(m, DATA), 0x34);
    assert_int_equal(fake_in8(m, IER), 0x12);
    fake_out8(m, LCR, 0x03);
    assert_int_equal(fake_in8(m, IER), 0x0f);
    assert_int_equal(c->output->len, 0);
}

static void test_output_goes_to_the_chardev(void **unused)
{
    for (const char *s = "boot\n"; *s != '\0'; s++) {
        assert_int_equal(fake_in8(m, LSR) & 0x60, 0x60);
        fake_out8(m, DATA, (uint8_t)*s);
    }
    assert_string_equal(c->output->str, "boot\n");
}

static void test_full_chardev_clears_thre_and_nothing_is_lost(void **unused)
{
    c->room = 2;
    fake_out8(m, FCR, 0x01);
    fake_out8(m, IER, 0x02);
    assert_int_equal(fake_in8(m, IIR), 0xc2);
    for (const char *s = "abcdefgh"; *s != '\0'; s++) {
        fake_out8(m, DATA, (uint8_t)*s);
    }
    assert_int_equal(fake_in8(m, LSR) & 0x60, 0);
    fake_out8(m, FCR, 0x07); /* a transmitter reset does not affect sent bytes */
    assert_false(m->gsi_level[GSI]);
    fake_chardev_make_room(c, 3);
    assert_int_equal(fake_in8(m, LSR) & 0x60, 0);
    fake_chardev_make_room(c, 100);
    assert_string_equal(c->output->str, "abcdefgh");
    assert_int_equal(fake_in8(m, LSR) & 0x60, 0x60);
    assert_true(m->gsi_level[GSI]);
    assert_int_equal(fake_in8(m, IIR), 0xc2);
}

static void test_a_write_without_looking_waits_for_room(void **unused)
{
    c->room = 0;
    fake_out8(m, DATA, 'a'); /* without FIFO the transmitter holds one */
    IoAccess access = {.size = 1, .is_write = true, .value = 'b'};
    bql_lock();
    assert_int_equal(address_space_dispatch(m->env.pio, DATA, &access, NULL), MMIO_PENDING);
    bql_unlock();
    fake_chardev_make_room(c, 10);
    assert_true(completion_done(&access.waiter.done));
    bql_lock();
    assert_int_equal(address_space_dispatch(m->env.pio, DATA, &access, NULL), MMIO_DONE);
    bql_unlock();
    assert_string_equal(c->output->str, "ab");
}

static void test_a_write_of_a_stopping_vcpu_does_not_wait(void **unused)
{
    c->room = 0;
    fake_out8(m, DATA, 'a');
    c->reserve = 1;
    for (const char *s = "bc"; *s != '\0'; s++) {
        IoAccess access = {.size = 1, .is_write = true, .value = (uint8_t)*s, .must_retire = true};
        bql_lock();
        assert_int_equal(address_space_dispatch(m->env.pio, DATA, &access, NULL), MMIO_DONE);
        bql_unlock();
    }
    assert_string_equal(c->output->str, "a"); /* the reserve took it; "b" is in the transmitter */
    fake_chardev_make_room(c, 10);
    assert_string_equal(c->output->str, "ab"); /* "c" found both full */
}

static void test_reset_keeps_sent_bytes_and_ends_pended_writes(void **unused)
{
    c->room = 0;
    fake_out8(m, DATA, 'a');
    IoAccess access = {.size = 1, .is_write = true, .value = 'b'};
    bql_lock();
    assert_int_equal(address_space_dispatch(m->env.pio, DATA, &access, NULL), MMIO_PENDING);
    dev->type->reset(dev);
    bql_unlock();
    assert_true(completion_done(&access.waiter.done));
    fake_chardev_make_room(c, 10);
    assert_string_equal(c->output->str, "a");
}

static void test_thre_interrupt_is_raised_and_acknowledged(void **unused)
{
    fake_out8(m, IER, 0x02); /* enabling with THR empty raises it */
    assert_true(m->gsi_level[GSI]);
    assert_int_equal(fake_in8(m, IIR), 0x02);
    assert_false(m->gsi_level[GSI]);
    assert_int_equal(fake_in8(m, IIR), 0x01);
    fake_out8(m, DATA, 'x');
    assert_true(m->gsi_level[GSI]);
    assert_int_equal(fake_in8(m, IIR), 0x02);
    fake_out8(m, IER, 0x02); /* already enabled: no new interrupt */
    assert_int_equal(fake_in8(m, IIR), 0x01);
    fake_out8(m, IER, 0x00);
    fake_out8(m, IER, 0x02);
    assert_int_equal(fake_in8(m, IIR), 0x02);
}

static void test_input_without_fifo_comes_one_by_one(void **unused)
{
    fake_out8(m, IER, 0x01);
    assert_int_equal(fake_chardev_input(c, "xy", 2), 1);
    assert_true(m->gsi_level[GSI]);
    assert_int_equal(fake_in8(m, IIR), 0x04);
    assert_int_equal(c->accepts, 0);
    assert_int_equal(fake_in8(m, LSR), 0x61);
    assert_int_equal(fake_in8(m, DATA), 'x');
    assert_int_equal(c->accepts, 1);
    assert_false(m->gsi_level[GSI]);
    assert_int_equal(fake_chardev_input(c, "y", 1), 1);
    assert_int_equal(fake_in8(m, DATA), 'y');
    assert_int_equal(fake_in8(m, LSR), 0x60);
}

static void test_trigger_levels(void **unused)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    for (unsigned i = 0; i < 4; i++) {
        fake_out8(m, FCR, (uint8_t)(0x03 | i << 6));
        fake_out8(m, IER, 0x01);
        for (unsigned n = 1; n <= 16; n++) {
            assert_int_equal(fake_chardev_input(c, "z", 1), 1);
            assert_int_equal(fake_in8(m, IIR), n >= levels[i] ? 0xc4 : 0xc1);
        }
        assert_int_equal(fake_chardev_input(c, "z", 1), 0);
        for (unsigned n = 16; n > 0; n--) {
            assert_int_equal(m->gsi_level[GSI], n >= levels[i]);
            fake_in8(m, DATA);
        }
    }
}

static void test_character_timeout_reports_input_below_the_trigger(void **unused)
{
    fake_out8(m, LCR, 0x83);
    fake_out8(m, DATA, 1); /* 115200 baud, 8N1: 10 bits, 86.8 us a character */
    fake_out8(m, IER, 0);
    fake_out8(m, LCR, 0x03);
    fake_out8(m, FCR, 0xc1);
    fake_out8(m, IER, 0x01);
    fake_chardev_input(c, "ab", 2);
    fake_machine_advance(m, 347000);
    assert_false(m->gsi_level[GSI]);
    fake_machine_advance(m, 300);
    assert_true(m->gsi_level[GSI]);
    assert_int_equal(fake_in8(m, IIR), 0xcc);
    fake_in8(m, DATA); /* reading restarts it */
    assert_false(m->gsi_level[GSI]);
    fake_machine_advance(m, 347000);
    assert_false(m->gsi_level[GSI]);
    fake_machine_advance(m, 300);
    assert_int_equal(fake_in8(m, IIR), 0xcc);
    fake_in8(m, DATA);
    fake_machine_advance(m, 1000000);
    assert_int_equal(fake_in8(m, IIR), 0xc1);
}

static void test_interrupts_have_priorities(void **unused)
{
    fake_out8(m, FCR, 0x01);
    fake_out8(m, IER, 0x0f);
    c->disconnected = true;
    fake_chardev_event(c, CHARDEV_CLOSED); /* DSR and DCD fall */
    fake_chardev_event(c, CHARDEV_BREAK);
    assert_int_equal(fake_in8(m, IIR), 0xc6);
    assert_int_equal(fake_in8(m, LSR), 0xf1); /* break, error in FIFO, data */
    assert_int_equal(fake_in8(m, LSR), 0x61);
    assert_int_equal(fake_in8(m, IIR), 0xc4);
    assert_int_equal(fake_in8(m, DATA), 0);
    assert_int_equal(fake_in8(m, IIR), 0xc2);
    assert_int_equal(fake_in8(m, IIR), 0xc0);
    assert_int_equal(fake_in8(m, MSR), 0x1a);
    assert_int_equal(fake_in8(m, IIR), 0xc1);
    assert_false(m->gsi_level[GSI]);
}

static void test_error_belongs_to_its_character(void **unused)
{
    fake_out8(m, FCR, 0x01);
    fake_chardev_input(c, "a", 1);
    fake_chardev_event(c, CHARDEV_BREAK);
    assert_int_equal(fake_in8(m, LSR), 0xe1); /* somewhere in the FIFO, not at the top */
    assert_int_equal(fake_in8(m, DATA), 'a');
    assert_int_equal(fake_in8(m, LSR), 0xf1);
    fake_in8(m, DATA);
    assert_int_equal(fake_in8(m, LSR), 0x60);
}

static void test_loopback(void **unused)
{
    fake_out8(m, MCR, 0x10);
    assert_int_equal(fake_in8(m, MSR) & 0xf0, 0x00);
    fake_out8(m, MCR, 0x1a); /* the probe of Linux */
    assert_int_equal(fake_in8(m, MSR) & 0xf0, 0x90);
    fake_out8(m, MCR, 0x15);
    assert_int_equal(fake_in8(m, MSR) & 0xf0, 0x60);
    fake_in8(m, MSR);
    fake_out8(m, MCR, 0x10);
    assert_int_equal(fake_in8(m, MSR), 0x06); /* DSR changed, trailing edge of RI */
    fake_out8(m, DATA, 'q');
    assert_int_equal(c->output->len, 0);
    assert_int_equal(fake_chardev_input(c, "no", 2), 0);
    assert_int_equal(fake_in8(m, LSR), 0x61);
    fake_out8(m, DATA, 'r'); /* not read yet: overrun */
    assert_int_equal(fake_in8(m, LSR), 0x63);
    assert_int_equal(fake_in8(m, DATA), 'r');
    unsigned accepts = c->accepts;
    fake_out8(m, MCR, 0x0b);
    assert_int_equal(c->accepts, accepts + 1); /* input may come again */
}

static void test_overrun_of_the_fifo_in_loopback(void **unused)
{
    fake_out8(m, FCR, 0x01);
    fake_out8(m, MCR, 0x10);
    fake_out8(m, IER, 0x04);
    for (unsigned i = 0; i < 17; i++) {
        fake_out8(m, DATA, (uint8_t)i);
    }
    assert_int_equal(fake_in8(m, IIR), 0xc6);
    assert_int_equal(fake_in8(m, LSR) & 2, 2);
    assert_int_equal(fake_in8(m, IIR), 0xc1);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(fake_in8(m, DATA), i);
    }
}

static void test_receiver_reset_empties_it_and_asks_for_more(void **unused)
{
    fake_out8(m, FCR, 0x01);
    assert_int_equal(fake_chardev_input(c, "0123456789abcdefg", 17), 16);
    fake_out8(m, FCR, 0x03);
    assert_int_equal(fake_in8(m, LSR), 0x60);
    assert_int_equal(c->accepts, 1);
    fake_out8(m, FCR, 0x00); /* turning FIFOs off empties them as well */
    assert_int_equal(fake_in8(m, IIR), 0x01);
}

/* All input arrives, in order, while the guest changes trigger levels. */
static void test_input_is_lossless(void **unused)
{
    uint8_t in[1000], out[1000];
    size_t given = 0, got = 0;
    for (unsigned i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t)(i * 7);
    }
    fake_out8(m, FCR, 0x81);
    while (got < sizeof(out)) {
        given += fake_chardev_input(c, in + given, MIN(sizeof(in) - given, 1 + given % 23));
        while ((fake_in8(m, LSR) & 1) != 0) {
            out[got++] = fake_in8(m, DATA);
        }
    }
    assert_memory_equal(in, out, sizeof(in));
}

static void test_state_survives_save_and_load(void **unused)
{
    assert_true(state_check_coverage(dev->type->state, NULL));
    c->room = 0;
    fake_out8(m, FCR, 0xc1);
    fake_out8(m, IER, 0x01);
    fake_out8(m, SCR, 0x77);
    fake_out8(m, DATA, 'T');
    fake_chardev_input(c, "in", 2);
    g_autoptr(GByteArray) saved = g_byte_array_new();
    state_save(dev->type->state, dev, saved);
    bql_lock();
    dev->type->reset(dev);
    bql_unlock();
    size_t used;
    assert_true(state_load(dev->type->state, dev, saved->data, saved->len, &used, NULL));
    bql_lock();
    assert_true(dev->type->post_load(dev, NULL));
    bql_unlock();
    assert_int_equal(fake_in8(m, SCR), 0x77);
    assert_false(m->gsi_level[GSI]);
    fake_machine_advance(m, INT64_C(1000000000));
    assert_int_equal(fake_in8(m, IIR), 0xcc); /* the timeout runs again */
    assert_int_equal(fake_in8(m, DATA), 'i');
    assert_int_equal(fake_in8(m, DATA), 'n');
    fake_chardev_make_room(c, 10);
    assert_string_equal(c->output->str, "T");
}

static void test_ports_come_from_index_or_properties(void **unused)
{
    Device *com2 = fake_device(m, "isa-serial", "index=1");
    fake_out8(m, 0x2f8 + 1, 0x02);
    assert_true(m->gsi_level[3]);
    assert_int_equal(fake_in8(m, 0x2f8 + 6), 0xb0); /* without a chardev: always on */
    fake_out8(m, 0x2f8, 'x');
    Device *other = fake_device(m, "isa-serial", "iobase=0x1000,irq=7");
    fake_out8(m, 0x1001, 0x02);
    assert_true(m->gsi_level[7]);
    fake_device_gone(com2);
    fake_device_gone(other);
    assert_false(m->gsi_level[3]);
}

/* A vCPU that ignores THRE sends while it reads input; main writes out a few bytes at a time and
 * delivers input. Every byte arrives once and in order, in both directions. */
#define STREAM_SIZE 3000

static void vcpu_out(uint16_t port, uint8_t value)
{
    IoAccess access = {.size = 1, .is_write = true, .value = value};
    for (;;) {
        bql_lock();
        MmioResult result = address_space_dispatch(m->env.pio, port, &access, NULL);
        bql_unlock();
        if (result == MMIO_DONE) {
            return;
        }
        completion_wait(&access.waiter.done, "serial output");
    }
}

static void *vcpu_streams(void *opaque)
{
    GByteArray *received = opaque;
    thread_adopt_role(THREAD_VCPU, "vcpu/0");
    for (unsigned sent = 0; sent < STREAM_SIZE || received->len < STREAM_SIZE;) {
        if (sent < STREAM_SIZE) {
            vcpu_out(DATA, (uint8_t)(sent++ * 13));
        }
        fake_in8(m, IIR);
        while ((fake_in8(m, LSR) & 1) != 0) {
            uint8_t value = fake_in8(m, DATA);
            g_byte_array_append(received, &value, 1);
        }
    }
    return NULL;
}

static void test_a_vcpu_and_main_stream_both_ways(void **unused)
{
    uint8_t data[STREAM_SIZE];
    g_autoptr(GByteArray) received = g_byte_array_new();
    for (unsigned i = 0; i < STREAM_SIZE; i++) {
        data[i] = (uint8_t)(i * 13);
    }
    fake_out8(m, FCR, 0x81); /* before any input: it empties the receiver */
    fake_out8(m, IER, 0x03);
    c->room = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, vcpu_streams, received), 0);
    size_t given = 0;
    while (given < STREAM_SIZE || fake_chardev_output_size(c) < STREAM_SIZE) {
        given += fake_chardev_input(c, data + given, MIN(STREAM_SIZE - given, 1 + given % 29));
        fake_chardev_make_room(c, 1 + given % 5);
        fake_machine_run(m);
    }
    pthread_join(thread, NULL);
    assert_int_equal(c->output->len, STREAM_SIZE);
    assert_memory_equal(c->output->str, data, STREAM_SIZE);
    assert_int_equal(received->len, STREAM_SIZE);
    assert_memory_equal(received->data, data, STREAM_SIZE);
}

static void test_hostile_accesses_do_no_harm(void **unused)
{
    uint32_t x = 1;
    for (unsigned i = 0; i < 20000; i++) {
        x = x * 1664525 + 1013904223;
        unsigned port = COM1 - 4 + (x >> 8) % 16, size = 1 + (x >> 16) % 8;
        if ((x >> 24) % 2 != 0) {
            fake_write(m->env.pio, port, x * UINT64_C(0x100000001), size);
        } else {
            fake_read(m->env.pio, port, size);
        }
        if (i % 64 == 0) {
            fake_chardev_input(c, "hostile", 7);
            fake_machine_advance(m, 1000000);
        }
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_power_on_registers),
        TEST(test_registers_read_back_and_dlab_selects_the_divisor),
        TEST(test_output_goes_to_the_chardev),
        TEST(test_full_chardev_clears_thre_and_nothing_is_lost),
        TEST(test_a_write_without_looking_waits_for_room),
        TEST(test_a_write_of_a_stopping_vcpu_does_not_wait),
        TEST(test_reset_keeps_sent_bytes_and_ends_pended_writes),
        TEST(test_thre_interrupt_is_raised_and_acknowledged),
        TEST(test_input_without_fifo_comes_one_by_one),
        TEST(test_trigger_levels),
        TEST(test_character_timeout_reports_input_below_the_trigger),
        TEST(test_interrupts_have_priorities),
        TEST(test_error_belongs_to_its_character),
        TEST(test_loopback),
        TEST(test_overrun_of_the_fifo_in_loopback),
        TEST(test_receiver_reset_empties_it_and_asks_for_more),
        TEST(test_input_is_lossless),
        TEST(test_state_survives_save_and_load),
        TEST(test_ports_come_from_index_or_properties),
        TEST(test_a_vcpu_and_main_stream_both_ways),
        TEST(test_hostile_accesses_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
