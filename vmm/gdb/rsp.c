/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/rsp.h"

#include <string.h>

#define RSP_RUN_BIAS 29 /* makes every count a printable character */
#define RSP_RUN_MIN 3   /* further repetitions: below, the encoding saves nothing */
#define RSP_RUN_MAX 97

static int rsp_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* ---- receiving ---- */

void rsp_reader_init(RspReader *r)
{
    r->state = RSP_IDLE;
    r->size = 0;
}

static void rsp_reader_begin(RspReader *r)
{
    r->state = RSP_PAYLOAD;
    r->sum = 0;
    r->size = 0;
    r->damaged = false;
}

static RspEvent rsp_reader_between(RspReader *r, uint8_t byte)
{
    switch (byte) {
    case '$':
        rsp_reader_begin(r);
        return RSP_MORE;
    case '+':
        return RSP_ACK;
    case '-':
        return RSP_NAK;
    case 0x03:
        return RSP_INTERRUPT;
    default:
        return RSP_MORE;
    }
}

static void rsp_reader_add(RspReader *r, uint8_t byte)
{
    if (r->size < RSP_PAYLOAD_MAX) {
        r->payload[r->size++] = (char)byte;
    } else {
        r->damaged = true; /* reads to the packet's end, to resynchronize */
    }
}

static void rsp_reader_inside(RspReader *r, uint8_t byte)
{
    if (byte == '$') { /* never inside a packet: the sender has started over */
        rsp_reader_begin(r);
        return;
    }
    if (byte == '#') {
        r->damaged |= r->state == RSP_ESCAPED;
        r->state = RSP_SUM_1;
        return;
    }
    r->sum += byte;
    if (r->state == RSP_ESCAPED) {
        rsp_reader_add(r, byte ^ 0x20);
        r->state = RSP_PAYLOAD;
    } else if (byte == '}') {
        r->state = RSP_ESCAPED;
    } else {
        rsp_reader_add(r, byte);
    }
}

static void rsp_reader_sum_digit(RspReader *r, uint8_t byte)
{
    int digit = rsp_hex_digit((char)byte);
    r->damaged |= digit < 0;
    r->given_sum = (uint8_t)(r->given_sum << 4 | (digit & 0xf));
}

static RspEvent rsp_reader_byte(RspReader *r, uint8_t byte)
{
    switch (r->state) {
    case RSP_IDLE:
        return rsp_reader_between(r, byte);
    case RSP_PAYLOAD:
    case RSP_ESCAPED:
        rsp_reader_inside(r, byte);
        return RSP_MORE;
    case RSP_SUM_1:
        r->given_sum = 0;
        rsp_reader_sum_digit(r, byte);
        r->state = RSP_SUM_2;
        return RSP_MORE;
    case RSP_SUM_2:
        rsp_reader_sum_digit(r, byte);
        r->state = RSP_IDLE;
        r->payload[r->size] = '\0';
        return r->damaged || r->sum != r->given_sum ? RSP_DAMAGED : RSP_PACKET;
    }
    return RSP_MORE;
}

RspEvent rsp_reader_feed(RspReader *r, const uint8_t *data, size_t size, size_t *used)
{
    for (size_t i = 0; i < size; i++) {
        RspEvent event = rsp_reader_byte(r, data[i]);
        if (event != RSP_MORE) {
            *used = i + 1;
            return event;
        }
    }
    *used = size;
    return RSP_MORE;
}

/* ---- sending ---- */

static bool rsp_must_escape(char c)
{
    return c == '#' || c == '$' || c == '}' || c == '*';
}

/* The number of further repetitions of the character at @at, up to the encoding's maximum. */
static size_t rsp_run_length(const char *at, const char *end)
{
    size_t more = 0;
    while (more < RSP_RUN_MAX && at + more + 1 < end && at[more + 1] == at[0]) {
        more++;
    }
    /* Counts that look like a packet's end or start, or an acknowledgement, are not allowed. */
    while (more >= RSP_RUN_MIN && strchr("#$+-", (int)(more + RSP_RUN_BIAS)) != NULL) {
        more--;
    }
    return more;
}

static void rsp_put_byte(GByteArray *out, uint8_t byte, uint8_t *sum)
{
    g_byte_array_append(out, &byte, 1);
    *sum += byte;
}

void rsp_put_packet(GByteArray *out, const char *payload, size_t size)
{
    uint8_t sum = 0;
    g_byte_array_append(out, (const uint8_t *)"$", 1);
    const char *end = payload + size;
    for (const char *at = payload; at < end; at++) {
        if (rsp_must_escape(*at)) {
            rsp_put_byte(out, '}', &sum);
            rsp_put_byte(out, (uint8_t)*at ^ 0x20, &sum);
            continue;
        }
        rsp_put_byte(out, (uint8_t)*at, &sum);
        size_t more = rsp_run_length(at, end);
        if (more >= RSP_RUN_MIN) {
            rsp_put_byte(out, '*', &sum);
            rsp_put_byte(out, (uint8_t)(more + RSP_RUN_BIAS), &sum);
            at += more;
        }
    }
    static const char digits[] = "0123456789abcdef";
    char tail[] = {'#', digits[sum >> 4], digits[sum & 0xf]};
    g_byte_array_append(out, (const uint8_t *)tail, sizeof(tail));
}

/* ---- inside of packets ---- */

void rsp_put_hex(GString *s, const void *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *b = bytes;
    for (size_t i = 0; i < size; i++) {
        g_string_append_c(s, digits[b[i] >> 4]);
        g_string_append_c(s, digits[b[i] & 0xf]);
    }
}

bool rsp_take_number(const char **at, uint64_t *value)
{
    const char *p = *at;
    uint64_t n = 0;
    for (int digit; (digit = rsp_hex_digit(*p)) >= 0; p++) {
        if (n >> 60 != 0) {
            return false;
        }
        n = n << 4 | (unsigned)digit;
    }
    if (p == *at) {
        return false;
    }
    *at = p;
    *value = n;
    return true;
}

bool rsp_take_char(const char **at, char c)
{
    if (**at != c) {
        return false;
    }
    ++*at;
    return true;
}

bool rsp_take_text(const char **at, const char *text)
{
    if (!g_str_has_prefix(*at, text)) {
        return false;
    }
    *at += strlen(text);
    return true;
}

bool rsp_take_bytes(const char **at, void *bytes, size_t size)
{
    uint8_t *b = bytes;
    for (size_t i = 0; i < size; i++) {
        int high = rsp_hex_digit((*at)[0]);
        int low = high < 0 ? -1 : rsp_hex_digit((*at)[1]);
        if (low < 0) {
            return false;
        }
        b[i] = (uint8_t)(high << 4 | low);
        *at += 2;
    }
    return true;
}

static bool rsp_take_thread_number(const char **at, RspThread *thread)
{
    *thread = (RspThread){0};
    if (rsp_take_text(at, "-1")) {
        thread->all = true;
        return true;
    }
    if (!rsp_take_number(at, &thread->id)) {
        return false;
    }
    thread->any = thread->id == 0;
    return true;
}

bool rsp_take_thread(const char **at, RspThread *thread)
{
    if (!rsp_take_char(at, 'p')) {
        return rsp_take_thread_number(at, thread);
    }
    if (!rsp_take_thread_number(at, thread)) { /* the process: there is only one */
        return false;
    }
    if (!rsp_take_char(at, '.')) {
        *thread = (RspThread){.all = true};
        return true;
    }
    return rsp_take_thread_number(at, thread);
}
