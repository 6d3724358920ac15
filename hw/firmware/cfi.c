/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/firmware/cfi.h"

#include <string.h>
#include "util/opts/opts.h"

enum {
    CFI_CMD_READ_ARRAY_ZERO = 0x00, /* as QEMU's model has it */
    CFI_CMD_LOCK_SET = 0x01,
    CFI_CMD_PROGRAM_ALTERNATE = 0x10,
    CFI_CMD_ERASE = 0x20,
    CFI_CMD_PROGRAM = 0x40,
    CFI_CMD_CLEAR_STATUS = 0x50,
    CFI_CMD_LOCK = 0x60,
    CFI_CMD_READ_STATUS = 0x70,
    CFI_CMD_READ_ID = 0x90,
    CFI_CMD_QUERY = 0x98,
    CFI_CMD_SUSPEND = 0xb0,
    CFI_CMD_CONFIRM = 0xd0, /* also: resume, unlock */
    CFI_CMD_BUFFER = 0xe8,
    CFI_CMD_READ_ARRAY_AMD = 0xf0, /* ends the probe of another command set */
    CFI_CMD_READ_ARRAY = 0xff,
};

#define CFI_SR_SEQUENCE (CFI_SR_ERASE_ERROR | CFI_SR_PROGRAM_ERROR)
#define CFI_BUFFER_NARROW 256u /* bytes of the write buffer of a bank one byte wide */
#define CFI_BLOCK_MIN 4096u
#define CFI_SIZE_MAX (64u << 20)

const StateField cfi_state_fields[] = {
    STATE_FIELD_MAX(CfiState, STATE_U8, mode, CFI_MODE_COUNT - 1),
    STATE_FIELD(CfiState, STATE_U8, status),
    STATE_FIELD(CfiState, STATE_BOOL, buffer_error),
    STATE_FIELD(CfiState, STATE_BOOL, unflushed),
    STATE_FIELD(CfiState, STATE_U32, words_left),
    STATE_FIELD(CfiState, STATE_U32, window),
    STATE_FIELD(CfiState, STATE_U32, buffer_first),
    STATE_FIELD(CfiState, STATE_U32, buffer_end),
    STATE_ARRAY(CfiState, STATE_BYTES, buffer),
    STATE_ARRAY(CfiState, STATE_BYTES, locked),
    {0},
};

/* ---- geometry ---- */

static bool is_power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static bool is_width(unsigned width)
{
    return width == 1 || width == 2 || width == 4;
}

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

bool cfi_check_geometry(const CfiGeometry *g, GError **error)
{
    if (!is_width(g->bank_width)) {
        return refuse(error, "width=%u: a flash is 1, 2 or 4 bytes wide", g->bank_width);
    }
    if (g->device_width == 0
            ? g->max_device_width != 0
            : !is_width(g->device_width) || g->device_width > g->bank_width ||
                  !is_width(g->max_device_width) || g->max_device_width < g->device_width ||
                  (g->max_device_width != g->device_width && g->device_width != 1)) {
        return refuse(error,
                      "device-width=%u, max-device-width=%u: the first is 1, 2 or 4 and at most "
                      "width=%u; the second is equal, or greater for chips in x8 mode",
                      g->device_width, g->max_device_width, g->bank_width);
    }
    if (!is_power_of_two(g->block_size) || g->block_size < CFI_BLOCK_MIN) {
        return refuse(error, "sector-length=%u: wants a power of two, at least %u", g->block_size,
                      CFI_BLOCK_MIN);
    }
    if (g->block_count == 0 || g->block_count > CFI_BLOCKS_MAX ||
        g->block_count > CFI_SIZE_MAX / g->block_size) {
        return refuse(error, "num-blocks=%u: wants 1 to %u blocks and at most %u MiB",
                      g->block_count, CFI_BLOCKS_MAX, CFI_SIZE_MAX >> 20);
    }
    return true;
}

void cfi_init(CfiFlash *f, const CfiGeometry *g, CfiState *state, uint8_t *array, uint8_t *result,
              bool read_only)
{
    *f = (CfiFlash){.geometry = *g,
                    .size = g->block_size * g->block_count,
                    .buffer_size = g->bank_width == 1 ? CFI_BUFFER_NARROW : CFI_BUFFER_MAX,
                    .read_only = read_only,
                    .state = state,
                    .array = array,
                    .result = result};
    cfi_query_init(f);
    cfi_reset(f);
}

/* ---- state ---- */

static void buffer_clear(CfiState *s)
{
    s->buffer_error = false;
    s->words_left = 0;
    s->window = s->buffer_first = s->buffer_end = 0;
    memset(s->buffer, 0xff, sizeof(s->buffer));
}

void cfi_reset(CfiFlash *f)
{
    CfiState *s = f->state;
    memset(s, 0, sizeof(*s));
    s->mode = CFI_ARRAY;
    s->status = CFI_SR_READY;
    buffer_clear(s);
}

/* What is true of every state of this bank; NULL, or what is not. */
static const char *cfi_state_fault(const CfiFlash *f, const CfiState *s)
{
    if (s->mode >= CFI_MODE_COUNT) {
        return "mode";
    }
    if (s->words_left > f->buffer_size) {
        return "words_left";
    }
    if (s->window % f->buffer_size != 0 || s->window >= f->size) {
        return "window";
    }
    if (s->buffer_first > s->buffer_end || s->buffer_end > f->buffer_size) {
        return "buffer_first, buffer_end";
    }
    bool empty = s->buffer_first == s->buffer_end;
    if (!empty && s->mode != CFI_BUFFER_DATA && s->mode != CFI_BUFFER_CONFIRM) {
        return "a buffer without its command";
    }
    if ((s->mode == CFI_BUFFER_DATA) != (s->words_left > 0)) {
        return "words_left in this mode";
    }
    if (s->mode == CFI_BUFFER_CONFIRM && empty && !s->buffer_error) {
        return "nothing to confirm";
    }
    return NULL;
}

bool cfi_check_state(const CfiFlash *f, const CfiState *s, GError **error)
{
    const char *fault = cfi_state_fault(f, s);
    return fault == NULL || refuse(error, "the flash's state is impossible: %s", fault);
}

void assert_cfi_state(const CfiFlash *f)
{
    const char *fault = cfi_state_fault(f, f->state);
    if (fault != NULL) {
        bug_abort("flash: invariant broken: %s", fault);
    }
}

static void cfi_set_mode(CfiFlash *f, CfiMode mode)
{
    f->state->mode = (uint8_t)mode;
    assert_cfi_state(f);
}

/* A command has ended: reads give the status. */
static CfiOperation cfi_finish(CfiFlash *f, uint8_t errors)
{
    f->state->status |= CFI_SR_READY | errors;
    buffer_clear(f->state);
    cfi_set_mode(f, CFI_STATUS);
    return (CfiOperation){0};
}

static CfiOperation cfi_wait_for(CfiFlash *f, CfiMode mode)
{
    cfi_set_mode(f, mode);
    return (CfiOperation){0};
}

bool cfi_is_locked(const CfiFlash *f, uint32_t offset)
{
    uint32_t block = offset / f->geometry.block_size;
    return (f->state->locked[block / 8] >> (block % 8)) & 1;
}

/* ---- reads ---- */

static uint32_t read_array(const CfiFlash *f, uint32_t offset, unsigned size)
{
    uint32_t value = 0;
    memcpy(&value, f->array + offset, size); /* little-endian, as all of skiff's hosts */
    return value;
}

/* Each chip of the bank gives its status. */
static uint32_t read_status(const CfiFlash *f, unsigned size)
{
    unsigned step = f->geometry.device_width != 0 ? f->geometry.device_width : 2;
    uint32_t value = 0;
    for (unsigned at = 0; at < size; at += step) {
        value |= (uint32_t)f->state->status << (at * 8);
    }
    return value;
}

uint32_t cfi_read(const CfiFlash *f, uint32_t offset, unsigned size)
{
    switch ((CfiMode)f->state->mode) {
    case CFI_ARRAY:
        return read_array(f, offset, size);
    case CFI_ID:
        return cfi_read_id(f, offset, size);
    case CFI_QUERY:
        return cfi_read_query(f, offset, size);
    default:
        return read_status(f, size);
    }
}

/* ---- operations ---- */

/* Describes a program of @bytes bytes of @data at @offset, all in one block. */
static CfiOperation cfi_begin_program(CfiFlash *f, uint32_t offset, const uint8_t *data,
                                      uint32_t bytes)
{
    if (f->read_only) {
        return cfi_finish(f, CFI_SR_PROGRAM_ERROR);
    }
    if (cfi_is_locked(f, offset)) {
        return cfi_finish(f, CFI_SR_PROGRAM_ERROR | CFI_SR_LOCKED);
    }
    for (uint32_t i = 0; i < bytes; i++) {
        f->result[i] = f->array[offset + i] & data[i];
    }
    return (CfiOperation){.kind = CFI_OP_PROGRAM, .offset = offset, .bytes = bytes};
}

static CfiOperation cfi_begin_erase(CfiFlash *f, uint32_t offset)
{
    uint32_t bytes = f->geometry.block_size;
    if (f->read_only) {
        return cfi_finish(f, CFI_SR_ERASE_ERROR);
    }
    if (cfi_is_locked(f, offset)) {
        return cfi_finish(f, CFI_SR_ERASE_ERROR | CFI_SR_LOCKED);
    }
    memset(f->result, 0xff, bytes);
    return (CfiOperation){.kind = CFI_OP_ERASE, .offset = offset & ~(bytes - 1), .bytes = bytes};
}

void cfi_end(CfiFlash *f, const CfiOperation *op, uint32_t done)
{
    uint8_t errors = 0;
    if (done > 0) {
        memcpy(f->array + op->offset, f->result, done);
        f->state->unflushed = true;
    }
    if (done < op->bytes) {
        errors = op->kind == CFI_OP_ERASE ? CFI_SR_ERASE_ERROR : CFI_SR_PROGRAM_ERROR;
    }
    cfi_finish(f, errors);
}

/* ---- the second and later cycles ---- */

static CfiOperation write_word(CfiFlash *f, uint32_t offset, uint32_t value, unsigned size)
{
    uint8_t data[4];
    memcpy(data, &value, sizeof(data));
    /* An unaligned word may reach into the next block. The bus of a real bank has no such access. */
    if (offset % f->geometry.block_size + size > f->geometry.block_size) {
        return cfi_finish(f, CFI_SR_PROGRAM_ERROR);
    }
    return cfi_begin_program(f, offset, data, size);
}

static CfiOperation write_lock(CfiFlash *f, uint32_t offset, bool lock)
{
    uint32_t block = offset / f->geometry.block_size;
    uint8_t bit = (uint8_t)(1u << (block % 8));
    uint8_t *byte = &f->state->locked[block / 8];
    *byte = lock ? *byte | bit : *byte & (uint8_t)~bit;
    return cfi_finish(f, 0);
}

static CfiOperation write_count(CfiFlash *f, uint32_t value)
{
    const CfiGeometry *g = &f->geometry;
    unsigned width = g->device_width != 0 ? g->device_width : g->bank_width;
    uint32_t count = width == 4 ? value : value & ((1u << (width * 8)) - 1);
    if (count >= f->buffer_size / g->bank_width) {
        return cfi_finish(f, CFI_SR_SEQUENCE);
    }
    buffer_clear(f->state);
    f->state->words_left = count + 1;
    return cfi_wait_for(f, CFI_BUFFER_DATA);
}

/* A word for the buffer. The first one chooses the window. */
static CfiOperation write_buffer(CfiFlash *f, uint32_t offset, uint32_t value, unsigned size)
{
    CfiState *s = f->state;
    if (s->buffer_first == s->buffer_end && !s->buffer_error) {
        s->window = offset & ~(f->buffer_size - 1);
    }
    if (offset < s->window || offset + size > s->window + f->buffer_size) {
        s->buffer_error = true;
    } else {
        uint32_t at = offset - s->window;
        memcpy(s->buffer + at, &value, size);
        bool empty = s->buffer_first == s->buffer_end;
        s->buffer_first = empty || at < s->buffer_first ? at : s->buffer_first;
        s->buffer_end = empty || at + size > s->buffer_end ? at + size : s->buffer_end;
    }
    s->words_left--;
    return cfi_wait_for(f, s->words_left > 0 ? CFI_BUFFER_DATA : CFI_BUFFER_CONFIRM);
}

static CfiOperation write_confirm(CfiFlash *f, uint8_t command)
{
    const CfiState *s = f->state;
    if (command != CFI_CMD_CONFIRM || s->buffer_error) {
        return cfi_finish(f, command != CFI_CMD_CONFIRM ? CFI_SR_SEQUENCE : CFI_SR_PROGRAM_ERROR);
    }
    return cfi_begin_program(f, s->window + s->buffer_first, s->buffer + s->buffer_first,
                             s->buffer_end - s->buffer_first);
}

static CfiOperation write_erase(CfiFlash *f, uint32_t offset, uint8_t command)
{
    switch (command) {
    case CFI_CMD_CONFIRM:
        return cfi_begin_erase(f, offset);
    case CFI_CMD_READ_ARRAY:
        return cfi_wait_for(f, CFI_ARRAY);
    default:
        return cfi_finish(f, CFI_SR_SEQUENCE);
    }
}

static CfiOperation write_second(CfiFlash *f, uint32_t offset, uint8_t command)
{
    switch (command) {
    case CFI_CMD_LOCK_SET:
    case CFI_CMD_CONFIRM:
        return write_lock(f, offset, command == CFI_CMD_LOCK_SET);
    case CFI_CMD_READ_ARRAY:
        return cfi_wait_for(f, CFI_ARRAY);
    default:
        return cfi_finish(f, CFI_SR_SEQUENCE);
    }
}

/* ---- the first cycle ---- */

static CfiOperation write_command(CfiFlash *f, uint8_t command)
{
    switch (command) {
    case CFI_CMD_PROGRAM_ALTERNATE:
    case CFI_CMD_PROGRAM:
        return cfi_wait_for(f, CFI_PROGRAM);
    case CFI_CMD_ERASE:
        return cfi_wait_for(f, CFI_ERASE);
    case CFI_CMD_LOCK:
        return cfi_wait_for(f, CFI_LOCK);
    case CFI_CMD_BUFFER:
        f->state->status |= CFI_SR_READY; /* XSR.7: a buffer is free */
        return cfi_wait_for(f, CFI_BUFFER_COUNT);
    case CFI_CMD_READ_STATUS:
        return cfi_wait_for(f, CFI_STATUS);
    case CFI_CMD_SUSPEND:
    case CFI_CMD_CONFIRM: /* resume: nothing is suspended */
        return cfi_finish(f, 0);
    case CFI_CMD_READ_ID:
        return cfi_wait_for(f, CFI_ID);
    case CFI_CMD_QUERY:
        return cfi_wait_for(f, CFI_QUERY);
    case CFI_CMD_CLEAR_STATUS:
        f->state->status = 0;
        return cfi_wait_for(f, CFI_ARRAY);
    case CFI_CMD_READ_ARRAY_ZERO:
    case CFI_CMD_READ_ARRAY_AMD:
    case CFI_CMD_READ_ARRAY:
    default: /* an unknown command ends in the array */
        return cfi_wait_for(f, CFI_ARRAY);
    }
}

CfiOperation cfi_write(CfiFlash *f, uint32_t offset, uint32_t value, unsigned size)
{
    uint8_t command = (uint8_t)value;
    switch ((CfiMode)f->state->mode) {
    case CFI_PROGRAM:
        return write_word(f, offset, value, size);
    case CFI_ERASE:
        return write_erase(f, offset, command);
    case CFI_LOCK:
        return write_second(f, offset, command);
    case CFI_BUFFER_COUNT:
        return write_count(f, value);
    case CFI_BUFFER_DATA:
        return write_buffer(f, offset, value, size);
    case CFI_BUFFER_CONFIRM:
        return write_confirm(f, command);
    default:
        return write_command(f, command);
    }
}
