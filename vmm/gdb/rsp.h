/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet layer of gdb's Remote Serial Protocol: framing, checksums, escapes, run-length
 * encoding, and the numbers and bytes in packets. Independent of the VM, without I/O.
 *
 *     $ payload # c c      c c: the sum of the payload's bytes modulo 256, two hex digits
 *     } X                  in a payload: the byte X ^ 0x20
 *     X * N                in a payload from us: X, N - 29 times more
 *     + - 0x03             between packets: received, received damaged, interrupt
 *
 * Any thread; one at a time may use a reader or a buffer. Input is hostile: a payload is never
 * longer than RSP_PAYLOAD_MAX, garbage between packets is skipped, a '$' inside one starts over.
 *
 * Source: GDB manual, appendix "GDB Remote Serial Protocol", Overview.
 */
#ifndef SKIFF_VMM_GDB_RSP_H
#define SKIFF_VMM_GDB_RSP_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/loop/thread.h"

/* gdb's PacketSize: it sends nothing longer. */
#define RSP_PAYLOAD_MAX 0x4000

/* ---- receiving ---- */

typedef enum RspEvent {
    RSP_MORE,      /* nothing yet */
    RSP_PACKET,    /* reader->payload, reader->size; ends with a NUL that is not counted */
    RSP_DAMAGED,   /* wrong checksum, or too long */
    RSP_INTERRUPT, /* Ctrl-C */
    RSP_ACK,
    RSP_NAK,
} RspEvent;

typedef enum RspReaderState {
    RSP_IDLE,
    RSP_PAYLOAD,
    RSP_ESCAPED,
    RSP_SUM_1,
    RSP_SUM_2
} RspReaderState;

typedef struct RspReader {
    RspReaderState state;
    uint8_t sum, given_sum;
    bool damaged;
    size_t size;
    char payload[RSP_PAYLOAD_MAX + 1];
} RspReader;

void rsp_reader_init(RspReader *r) ANY_THREAD;
/* Takes bytes up to the first event; *@used is their number. */
RspEvent rsp_reader_feed(RspReader *r, const uint8_t *data, size_t size, size_t *used) ANY_THREAD;

/* ---- sending ---- */

/* Appends the packet that carries @payload. */
void rsp_put_packet(GByteArray *out, const char *payload, size_t size) ANY_THREAD;

/* ---- inside of packets ---- */

void rsp_put_hex(GString *s, const void *bytes, size_t size) ANY_THREAD;
/* Parses hex digits at *@at and advances it. False: there is none, or too many for 64 bits. */
bool rsp_take_number(const char **at, uint64_t *value) ANY_THREAD;
/* Skips @c, or does nothing and returns false. */
bool rsp_take_char(const char **at, char c) ANY_THREAD;
/* Skips @text, or does nothing and returns false. */
bool rsp_take_text(const char **at, const char *text) ANY_THREAD;
/* Parses 2 * @size hex digits; false if there are fewer. */
bool rsp_take_bytes(const char **at, void *bytes, size_t size) ANY_THREAD;

/* A thread: "-1" all, "0" any, else its number; also as "pPID.TID". */
typedef struct RspThread {
    bool all, any;
    uint64_t id;
} RspThread;
bool rsp_take_thread(const char **at, RspThread *thread) ANY_THREAD;

#endif
