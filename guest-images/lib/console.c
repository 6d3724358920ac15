/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/console.h"
#include "lib/cpu.h"
#include "lib/text.h"

#define UART_PORT 0x3f8
#define UART_DATA (UART_PORT + 0)
#define UART_INTERRUPT_ENABLE (UART_PORT + 1)
#define UART_FIFO_CONTROL (UART_PORT + 2)
#define UART_LINE_CONTROL (UART_PORT + 3)
#define UART_MODEM_CONTROL (UART_PORT + 4)
#define UART_LINE_STATUS (UART_PORT + 5)
#define UART_STATUS_EMPTY 0x20
#define UART_FIFO_SIZE 16
#define DEBUGCON_PORT 0xe9
#define DEBUGCON_ANSWER 0xe9
#define WAIT_LIMIT 1000000

static int lock_word;
static bool has_uart = true; /* assumed at first, so that an early exception is printed */
static bool has_debugcon;
static unsigned fifo_room; /* bytes that the transmitter takes without another check */

void console_init(void)
{
    has_debugcon = cpu_in8(DEBUGCON_PORT) == DEBUGCON_ANSWER;
    has_uart = cpu_in8(UART_LINE_STATUS) != 0xff;
    if (!has_uart) {
        return;
    }
    cpu_out8(UART_INTERRUPT_ENABLE, 0);
    cpu_out8(UART_LINE_CONTROL, 0x80);
    cpu_out8(UART_DATA, 1); /* 115200 baud */
    cpu_out8(UART_INTERRUPT_ENABLE, 0);
    cpu_out8(UART_LINE_CONTROL, 0x03); /* 8 bits, no parity, 1 stop bit */
    cpu_out8(UART_FIFO_CONTROL, 0x07);
    cpu_out8(UART_MODEM_CONTROL, 0x03);
}

void console_lock(void)
{
    while (__atomic_exchange_n(&lock_word, 1, __ATOMIC_ACQUIRE)) {
        cpu_pause();
    }
}

void console_unlock(void)
{
    __atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE);
}

void console_break_lock(void)
{
    console_unlock();
}

static void put_byte(char byte)
{
    if (has_debugcon) {
        cpu_out8(DEBUGCON_PORT, (uint8_t)byte);
    }
    if (!has_uart) {
        return;
    }
    if (fifo_room == 0) {
        unsigned tries = 0;
        while (!(cpu_in8(UART_LINE_STATUS) & UART_STATUS_EMPTY)) {
            if (++tries == WAIT_LIMIT) {
                has_uart = false;
                return;
            }
        }
        fifo_room = UART_FIFO_SIZE;
    }
    cpu_out8(UART_DATA, (uint8_t)byte);
    fifo_room--;
}

static void put_char(void *unused, char c)
{
    if (c == '\n') {
        put_byte('\r');
    }
    put_byte(c);
}

void console_puts_locked(const char *text)
{
    for (; *text; text++) {
        put_char(NULL, *text);
    }
}

void console_vprintf_locked(const char *format, va_list args)
{
    text_format(put_char, NULL, format, args);
}

int printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    console_lock();
    console_vprintf_locked(format, args);
    console_unlock();
    va_end(args);
    return 0;
}
