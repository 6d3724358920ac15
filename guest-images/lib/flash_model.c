/* SPDX-License-Identifier: Apache-2.0 */
#include "flash_model.h" /* beside it: unit tests include this file too */

#define READY 0x80
#define ERASE_FAILED 0x20
#define PROGRAM_FAILED 0x10
#define PROTECTED 0x02

void flash_model_reset(FlashModel *m)
{
    m->status = READY;
    m->shows = 'a';
    m->command = 0;
    m->cycle = 0;
    m->queued = m->promised = 0;
    m->strayed = false;
    m->changed_at = m->changed_end = 0;
    for (unsigned i = 0; i < FLASH_MODEL_BLOCKS; i++) {
        m->locked[i] = 0;
    }
}

/* ---- reads ---- */

static unsigned buffer_bytes(const FlashModel *m)
{
    return m->bank == 1 ? 256 : 2048;
}

static unsigned lowest_bit(uint32_t value)
{
    unsigned bit = 0;
    while (!(value >> bit & 1)) {
        bit++;
    }
    return bit;
}

static uint8_t query_byte(const FlashModel *m, uint32_t word)
{
    static const uint8_t fixed[0x40] = {[0x10] = 'Q',  'R',           'Y',           1,
                                        [0x15] = 0x31, [0x1b] = 0x45, [0x1c] = 0x55, [0x1f] = 0x07,
                                        [0x20] = 0x07, [0x21] = 0x0a, [0x23] = 0x04, [0x24] = 0x04,
                                        [0x25] = 0x04, [0x28] = 0x02, [0x2c] = 0x01, [0x31] = 'P',
                                        'R',           'I',           '1',           '0',
                                        [0x3f] = 1};
    uint32_t chips = m->chip ? m->bank / m->chip : 1;
    uint32_t blocks = m->size / m->block, block = m->block / chips;
    switch (word) {
    case 0x27:
        return (uint8_t)lowest_bit(blocks * block);
    case 0x2a:
        return (uint8_t)lowest_bit(buffer_bytes(m));
    case 0x2d:
    case 0x2e:
        return (uint8_t)((blocks - 1) >> (word - 0x2d) * 8);
    case 0x2f:
    case 0x30:
        return (uint8_t)(block >> ((word - 0x2f) * 8 + 8));
    default:
        return word < sizeof(fixed) ? fixed[word] : 0;
    }
}

/* What a chip answers at its word @word; @at finds the block. */
static uint32_t chip_answer(const FlashModel *m, uint32_t word, uint32_t at)
{
    if (m->shows == 'q') {
        uint32_t byte = query_byte(m, word);
        return m->chip != m->chip_at_most ? byte | byte << 8 | byte << 16 | byte << 24 : byte;
    }
    word &= 0xff;
    return word < 2 ? m->id[word] : word == 2 ? m->locked[at / m->block] : 0;
}

/* What the bank answers where no width of chips is known. */
static uint32_t bank_answer(const FlashModel *m, uint32_t at)
{
    uint32_t word = (at & 0xff) / m->bank;
    if (m->shows == 'q') {
        return query_byte(m, word);
    }
    return word == 0   ? (uint32_t)(m->id[0] << 8 | m->id[1])
           : word == 1 ? (uint32_t)(m->id[2] << 8 | m->id[3])
           : word == 2 ? m->locked[at / m->block]
                       : 0;
}

/* One byte of a read that began at @at: the lane's chip answers. */
static uint8_t lane_byte(const FlashModel *m, uint32_t at, unsigned i)
{
    unsigned lane = i % m->bank, row = at + (i - lane);
    uint32_t word = row / m->bank / (m->chip_at_most / m->chip);
    return (uint8_t)(chip_answer(m, word, row) >> (lane % m->chip) * 8);
}

uint32_t flash_model_read(const FlashModel *m, uint32_t at, unsigned size)
{
    uint32_t value = 0;
    if ((m->shows == 'i' || m->shows == 'q') && m->chip == 0) {
        value = bank_answer(m, at);
        return size == 4 ? value : value & ((1u << size * 8) - 1);
    }
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = 0;
        if (m->shows == 'a') {
            byte = m->array[at + i];
        } else if (m->shows == 's') {
            byte = i % (m->chip ? m->chip : 2) == 0 ? m->status : 0;
        } else {
            byte = lane_byte(m, at, i);
        }
        value |= (uint32_t)byte << i * 8;
    }
    return value;
}

/* ---- writes ---- */

static void end_command(FlashModel *m, uint8_t shows, uint8_t status)
{
    m->command = 0;
    m->cycle = 0;
    m->shows = shows;
    m->status |= status;
}

/* Whether the block that holds @at may change; if not, the command fails. */
static bool may_change(FlashModel *m, uint32_t at, uint8_t failure)
{
    if (m->read_only || m->locked[at / m->block]) {
        end_command(m, 's', READY | failure | (m->read_only ? 0 : PROTECTED));
        return false;
    }
    return true;
}

static void clear_bits(FlashModel *m, uint32_t at, uint8_t byte)
{
    m->array[at] &= byte;
    m->changed_at = m->changed_at == m->changed_end || at < m->changed_at ? at : m->changed_at;
    m->changed_end = at >= m->changed_end ? at + 1 : m->changed_end;
}

static void program_word(FlashModel *m, uint32_t at, uint32_t value, unsigned size)
{
    if (at / m->block != (at + size - 1) / m->block) {
        end_command(m, 's', READY | PROGRAM_FAILED);
    } else if (may_change(m, at, PROGRAM_FAILED)) {
        for (unsigned i = 0; i < size; i++) {
            clear_bits(m, at + i, (uint8_t)(value >> i * 8));
        }
        end_command(m, 's', READY);
    }
}

static void erase_block(FlashModel *m, uint32_t at)
{
    if (may_change(m, at, ERASE_FAILED)) {
        m->changed_at = at - at % m->block;
        m->changed_end = m->changed_at + m->block;
        for (uint32_t i = m->changed_at; i < m->changed_end; i++) {
            m->array[i] = 0xff;
        }
        end_command(m, 's', READY);
    }
}

static void queue_word(FlashModel *m, uint32_t at, uint32_t value, unsigned size)
{
    if (m->queued == 0 && !m->strayed) {
        m->window = at - at % buffer_bytes(m);
    }
    if (at < m->window || at + size > m->window + buffer_bytes(m)) {
        m->strayed = true;
    } else {
        for (unsigned i = 0; i < size; i++) {
            m->places[m->queued] = at + i;
            m->bytes[m->queued++] = (uint8_t)(value >> i * 8);
        }
    }
    m->promised--;
}

/* A place that came twice has the byte that came last. */
static bool is_outdated(const FlashModel *m, uint32_t i)
{
    for (uint32_t later = i + 1; later < m->queued; later++) {
        if (m->places[later] == m->places[i]) {
            return true;
        }
    }
    return false;
}

static void program_queue(FlashModel *m)
{
    if (m->strayed) {
        end_command(m, 's', READY | PROGRAM_FAILED);
    } else if (may_change(m, m->window, PROGRAM_FAILED)) {
        for (uint32_t i = 0; i < m->queued; i++) {
            if (!is_outdated(m, i)) {
                clear_bits(m, m->places[i], m->bytes[i]);
            }
        }
        end_command(m, 's', READY);
    }
}

static void buffer_cycle(FlashModel *m, uint32_t at, uint32_t value, unsigned size)
{
    unsigned width = m->chip ? m->chip : m->bank;
    uint32_t count = width == 4 ? value : value & ((1u << width * 8) - 1);
    if (m->cycle == 1) {
        m->queued = 0;
        m->strayed = false;
        m->promised = count + 1;
        if (count >= buffer_bytes(m) / m->bank) {
            end_command(m, 's', READY | PROGRAM_FAILED | ERASE_FAILED);
            return;
        }
    } else if (m->promised > 0) {
        queue_word(m, at, value, size);
    } else if ((uint8_t)value == 0xd0) {
        program_queue(m);
        return;
    } else {
        end_command(m, 's', READY | PROGRAM_FAILED | ERASE_FAILED);
        return;
    }
    m->cycle++;
}

/* The second write of an erase or a lock. */
static void second_cycle(FlashModel *m, uint32_t at, uint8_t code)
{
    bool lock = m->command == 0x60;
    if (code == 0xff) {
        end_command(m, 'a', 0);
    } else if (lock && (code == 0x01 || code == 0xd0)) {
        m->locked[at / m->block] = code == 0x01;
        end_command(m, 's', READY);
    } else if (!lock && code == 0xd0) {
        erase_block(m, at);
    } else {
        end_command(m, 's', READY | PROGRAM_FAILED | ERASE_FAILED);
    }
}

static void first_cycle(FlashModel *m, uint8_t code)
{
    switch (code) {
    case 0x10:
    case 0x40:
    case 0x20:
    case 0x60:
    case 0xe8:
        m->command = code;
        m->cycle = 1;
        m->shows = 's';
        m->status |= code == 0xe8 ? READY : 0;
        break;
    case 0x70:
        m->shows = 's';
        break;
    case 0xb0:
    case 0xd0:
        m->shows = 's';
        m->status |= READY;
        break;
    case 0x90:
        m->shows = 'i';
        break;
    case 0x98:
        m->shows = 'q';
        break;
    case 0x50:
        m->status = 0;
        m->shows = 'a';
        break;
    default:
        m->shows = 'a';
    }
}

void flash_model_write(FlashModel *m, uint32_t at, uint32_t value, unsigned size)
{
    m->changed_at = m->changed_end = 0;
    switch (m->command) {
    case 0:
        first_cycle(m, (uint8_t)value);
        break;
    case 0x10:
    case 0x40:
        program_word(m, at, value, size);
        break;
    case 0xe8:
        buffer_cycle(m, at, value, size);
        break;
    default:
        second_cycle(m, at, (uint8_t)value);
    }
}
