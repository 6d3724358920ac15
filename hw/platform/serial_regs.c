/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550A's eight registers. PC16550D §8. */
#include "hw/platform/serial_int.h"

enum {
    SERIAL_REG_DATA = 0, /* RBR, THR; with DLAB the divisor's low byte */
    SERIAL_REG_IER = 1,  /* with DLAB the divisor's high byte */
    SERIAL_REG_IIR = 2,  /* read; FCR when written */
    SERIAL_REG_LCR = 3,
    SERIAL_REG_MCR = 4,
    SERIAL_REG_LSR = 5,
    SERIAL_REG_MSR = 6,
    SERIAL_REG_SCR = 7,
};

static uint8_t serial_read_iir(Serial *s) BQL_HELD
{
    uint8_t id = serial_interrupt_id(s);
    if (id == SERIAL_IIR_THRE) {
        s->state.thre_interrupt = false; /* reading IIR clears it */
        serial_update_irq(s);
    }
    return id | ((s->state.fcr & SERIAL_FCR_ENABLE) != 0 ? SERIAL_IIR_FIFO_ON : 0);
}

static uint8_t serial_read_lsr(Serial *s) BQL_HELD
{
    SerialState *st = &s->state;
    uint8_t lsr = 0;
    if (st->rx_count > 0) {
        lsr |= SERIAL_LSR_DATA_READY | st->rx_error[0];
        for (unsigned i = 0; i < st->rx_count && (st->fcr & SERIAL_FCR_ENABLE) != 0; i++) {
            lsr |= st->rx_error[i] != 0 ? SERIAL_LSR_FIFO_ERROR : 0;
        }
        st->rx_error[0] = 0;
    }
    lsr |= st->overrun ? SERIAL_LSR_OVERRUN : 0;
    lsr |= st->tx_count == 0 ? SERIAL_LSR_THRE | SERIAL_LSR_TEMT : 0;
    st->overrun = false;
    serial_update_irq(s);
    return lsr;
}

static uint8_t serial_read(Serial *s, unsigned reg) BQL_HELD
{
    SerialState *st = &s->state;
    bool dlab = (st->lcr & SERIAL_LCR_DLAB) != 0;
    uint8_t value;
    switch (reg) {
    case SERIAL_REG_DATA:
        if (dlab) {
            return (uint8_t)st->divisor;
        }
        value = serial_rx_pop(s);
        serial_update_irq(s);
        return value;
    case SERIAL_REG_IER:
        return dlab ? (uint8_t)(st->divisor >> 8) : st->ier;
    case SERIAL_REG_IIR:
        return serial_read_iir(s);
    case SERIAL_REG_LCR:
        return st->lcr;
    case SERIAL_REG_MCR:
        return st->mcr;
    case SERIAL_REG_LSR:
        return serial_read_lsr(s);
    case SERIAL_REG_MSR:
        value = st->msr;
        st->msr &= SERIAL_MSR_LINES;
        serial_update_irq(s);
        return value;
    default:
        return st->scr;
    }
}

static void serial_write_ier(Serial *s, uint8_t value) BQL_HELD
{
    SerialState *st = &s->state;
    bool thre_enabled = (value & ~st->ier & SERIAL_IER_THRE) != 0;
    st->ier = value & 0x0f;
    if (thre_enabled && st->tx_count == 0) {
        st->thre_interrupt = true; /* raised when enabled with THR empty, as drivers expect */
    }
    serial_update_irq(s);
}

static void serial_write_mcr(Serial *s, uint8_t value) BQL_HELD
{
    s->state.mcr = value & 0x1f;
    serial_update_modem(s);
    serial_rx_room(s);
}

static MmioResult serial_write(Serial *s, unsigned reg, IoAccess *access) BQL_HELD
{
    SerialState *st = &s->state;
    bool dlab = (st->lcr & SERIAL_LCR_DLAB) != 0;
    uint8_t value = (uint8_t)access->value;
    switch (reg) {
    case SERIAL_REG_DATA:
        if (!dlab) {
            return serial_tx_write(s, access);
        }
        st->divisor = (uint16_t)((st->divisor & 0xff00) | value);
        break;
    case SERIAL_REG_IER:
        if (!dlab) {
            serial_write_ier(s, value);
            break;
        }
        st->divisor = (uint16_t)((st->divisor & 0x00ff) | value << 8);
        break;
    case SERIAL_REG_IIR:
        serial_set_fcr(s, value);
        break;
    case SERIAL_REG_LCR:
        st->lcr = value;
        break;
    case SERIAL_REG_MCR:
        serial_write_mcr(s, value);
        break;
    case SERIAL_REG_SCR:
        st->scr = value;
        break;
    default:
        break; /* writes to LSR and MSR are for factory tests */
    }
    return MMIO_DONE;
}

static MmioResult serial_access(void *opaque, IoAccess *access)
{
    Serial *s = opaque;
    assert_bql();
    if (access->is_write) {
        return serial_write(s, (unsigned)access->offset, access);
    }
    access->value = serial_read(s, (unsigned)access->offset);
    return MMIO_DONE;
}

const IoRegionOps serial_ops = {.access = serial_access, .min_size = 1, .max_size = 1};
