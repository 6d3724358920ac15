/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile gdb: packets whole, damaged, cut, nested and endless, fed in pieces of any size. What
 * must hold:
 *   - every byte is taken, at the latest by the event it causes, and a payload stays in bounds;
 *   - what is received does not depend on how the bytes were cut;
 *   - after any garbage a whole packet behind "#00" is received whole;
 *   - what is sent expands to what was to be sent;
 *   - taking numbers, bytes and threads out of a payload stays inside it.
 *
 *   fuzz_rsp [--seconds N] [--seed N] [--steps N]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/fuzzer.h"
#include "vmm/gdb/rsp.h"

static const char *const fuzz_pieces[] = {
    "$",        "#",
    "#00",      "}",
    "*",        "+",
    "-",        "\003",
    "$OK#9a",   "$?#3f",
    "$g#67",    "m",
    "vCont;",   "vCont?",
    "p1.-1",    "qSupported:",
    "Z0,",      "ffffffffffffffff",
    ",",        ";",
    ":",        "T05thread:01;",
    "$m0,4#fd",
};

static GByteArray *fuzz_stream(void)
{
    GByteArray *stream = g_byte_array_new();
    for (uint64_t n = fuzz_below(60); n > 0; n--) {
        if (fuzz_below(3) > 0) {
            const char *piece = FUZZ_PICK(fuzz_pieces);
            g_byte_array_append(stream, (const uint8_t *)piece, (guint)strlen(piece));
        } else if (fuzz_below(200) == 0) {
            g_autofree char *endless = g_strnfill(RSP_PAYLOAD_MAX + fuzz_below(64), 'x');
            g_byte_array_append(stream, (const uint8_t *)endless, (guint)strlen(endless));
        } else if (fuzz_below(2) == 0) {
            char payload[64];
            size_t size = fuzz_below(sizeof(payload));
            for (size_t i = 0; i < size; i++) {
                payload[i] = (char)fuzz_below(256);
            }
            rsp_put_packet(stream, payload, size);
        } else {
            uint8_t byte = (uint8_t)fuzz_below(256);
            g_byte_array_append(stream, &byte, 1);
        }
    }
    return stream;
}

/* Whatever the payload holds, nothing reads past its NUL (ASan watches). */
static void fuzz_take(const RspReader *r)
{
    g_autofree char *copy = g_memdup2(r->payload, r->size + 1);
    for (const char *at = copy; *at != '\0';) {
        uint64_t number;
        uint8_t bytes[8];
        RspThread thread;
        const char *before = at;
        switch (fuzz_below(3)) {
        case 0:
            rsp_take_number(&at, &number);
            break;
        case 1:
            rsp_take_bytes(&at, bytes, fuzz_below(9));
            break;
        default:
            rsp_take_thread(&at, &thread);
            break;
        }
        fuzz_require(at >= before && at <= copy + r->size, "reading left the payload", NULL);
        at += *at != '\0';
    }
}

static uint64_t fuzz_mix(uint64_t hash, const void *data, size_t size)
{
    const uint8_t *b = data;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ b[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Feeds @stream in pieces of at most @piece bytes; returns a hash of what was received. */
static uint64_t fuzz_feed(RspReader *r, const GByteArray *stream, size_t piece)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    rsp_reader_init(r);
    for (size_t at = 0; at < stream->len;) {
        size_t size = 1 + fuzz_below(piece), used = SIZE_MAX;
        size = MIN(size, stream->len - at);
        RspEvent event = rsp_reader_feed(r, stream->data + at, size, &used);
        fuzz_require(used > 0 && used <= size, "a feed took nothing, or too much", NULL);
        fuzz_require(event != RSP_MORE || used == size, "bytes were left without an event", NULL);
        fuzz_require(r->size <= RSP_PAYLOAD_MAX, "a payload is too long", NULL);
        at += used;
        if (event != RSP_MORE) {
            hash = fuzz_mix(hash, &event, sizeof(event));
        }
        if (event == RSP_PACKET) {
            fuzz_require(r->payload[r->size] == '\0', "a payload has no end", NULL);
            hash = fuzz_mix(hash, r->payload, r->size);
            fuzz_take(r);
        }
    }
    return hash;
}

static void fuzz_receive(void)
{
    static RspReader reader;
    g_autoptr(GByteArray) stream = fuzz_stream();
    uint64_t whole = fuzz_feed(&reader, stream, SIZE_MAX / 2);
    fuzz_require(fuzz_feed(&reader, stream, 5) == whole, "how it was cut makes a difference", NULL);
    size_t used;
    const char *end = "#00";
    while (*end != '\0') {
        rsp_reader_feed(&reader, (const uint8_t *)end, strlen(end), &used);
        end += used;
    }
    rsp_reader_feed(&reader, (const uint8_t *)"\x01", 1, &used); /* in case it was in a sum */
    RspEvent event = RSP_MORE;
    for (const char *next = "$OK#9a"; *next != '\0'; next += used) {
        event = rsp_reader_feed(&reader, (const uint8_t *)next, strlen(next), &used);
    }
    fuzz_require(event == RSP_PACKET && strcmp(reader.payload, "OK") == 0,
                 "a whole packet was lost", NULL);
}

static void fuzz_send(void)
{
    char payload[512];
    size_t size = 0, limit = fuzz_below(sizeof(payload));
    while (size < limit) {
        char c = (char)fuzz_below(256);
        for (uint64_t n = fuzz_below(4) == 0 ? fuzz_below(120) + 1 : 1; n > 0 && size < limit;
             n--) {
            payload[size++] = c;
        }
    }
    g_autoptr(GByteArray) out = g_byte_array_new();
    rsp_put_packet(out, payload, size);
    g_autoptr(GByteArray) back = g_byte_array_new();
    size_t at = 1;
    for (; out->data[at] != '#'; at++) {
        uint8_t byte = out->data[at];
        fuzz_require(byte != '$', "a '$' inside a packet", NULL);
        if (byte == '*') {
            byte = back->data[back->len - 1];
            for (int n = out->data[++at] - 29; n > 0; n--) {
                g_byte_array_append(back, &byte, 1);
            }
            continue;
        }
        if (byte == '}') {
            byte = out->data[++at] ^ 0x20;
        }
        g_byte_array_append(back, &byte, 1);
    }
    fuzz_require(at + 3 == out->len, "a packet ends before its end", NULL);
    fuzz_require(back->len == size && (size == 0 || memcmp(back->data, payload, size) == 0),
                 "what was sent is not what was to be sent", NULL);
}

int main(int argc, char **argv)
{
    fuzz_begin("fuzz_rsp", argc, argv);
    while (fuzz_goes_on()) {
        if (fuzz_below(2) == 0) {
            fuzz_receive();
        } else {
            fuzz_send();
        }
    }
    fuzz_end("steps");
    return 0;
}
