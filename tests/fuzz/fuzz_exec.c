/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at the port of -exec: good frames in any order, frames with bytes changed, noise,
 * a port that opens and closes, a guest that ends at any time, in pieces of any size. What must
 * hold:
 *   - every byte is taken, no stream holds more than was granted;
 *   - the state moves forward only, and `finished` comes once;
 *   - what skiff sends is whole frames that an agent understands; without a command, nothing.
 *
 * A conversation may begin with a saved state, of any bytes.
 *
 *   fuzz_exec [--seconds N] [--seed N] [--steps N]
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/fuzzer.h"
#include "tests/support/chardev_harness.h"
#include "vmm/exec/exec.h"

typedef struct Conversation {
    AioContext *ctx;
    Exec *exec;
    bool made, listens; /* listens: there is no command */
    unsigned finished;
    ExecState state;
    size_t room; /* of the guest's receive buffers */
    GByteArray *said;
} Conversation;

static int null_fd;

static void on_finished(void *opaque)
{
    ((Conversation *)opaque)->finished++;
}

static void make_exec(void *opaque)
{
    Conversation *c = opaque;
    ExecConfig config = {.ctx = c->ctx,
                         .command = c->listens ? NULL : "true",
                         .fds = {null_fd, null_fd, null_fd},
                         .finished = on_finished,
                         .opaque = c};
    GError *error = NULL;

    enter_main();
    enter_coroutine();
    c->exec = exec_co_new(&config, &error);
    fuzz_require(c->exec != NULL, "no streams", NULL);
    c->made = true;
}

/* ---- what skiff says ---- */

static size_t guest_can_receive(void *opaque)
{
    return ((Conversation *)opaque)->room;
}

static void guest_receive(void *opaque, const uint8_t *data, size_t size)
{
    Conversation *c = opaque;

    fuzz_require(!c->listens, "bytes without a command", NULL);
    fuzz_require(size > 0 && size <= c->room, "more than there is room for", NULL);
    c->room -= size;
    g_byte_array_append(c->said, data, (guint)size);
    while (c->said->len >= EXEC_HEADER_BYTES) {
        const uint8_t *frame = c->said->data;
        unsigned whole = EXEC_HEADER_BYTES + (frame[2] | (unsigned)frame[3] << 8);

        fuzz_require(frame[0] >= EXEC_RUN && frame[0] <= EXEC_BYE && frame[1] == 0,
                     "skiff says what is no frame", NULL);
        if (c->said->len < whole) {
            return;
        }
        g_byte_array_remove_range(c->said, 0, whole);
    }
}

static const ChardevFrontendOps guest_ops = {.can_receive = guest_can_receive,
                                             .receive = guest_receive};

/* ---- what the guest says ---- */

static const uint8_t good_hello[] = {EXEC_HELLO, 0,   12,  0,   'S', 'K', 'I', 'F',
                                     'F',        'E', 'X', 'E', 1,   0,   0,   0};

static void append_frame(GByteArray *bytes, unsigned type, unsigned size)
{
    uint8_t header[] = {(uint8_t)type, 0, (uint8_t)size, (uint8_t)(size >> 8)};

    g_byte_array_append(bytes, header, sizeof(header));
    for (unsigned i = 0; i < size; i++) {
        /* Mostly small numbers: windows and statuses that are possible. */
        uint8_t byte = (uint8_t)(fuzz_below(4) ? fuzz_below(3) : fuzz_below(256));
        g_byte_array_append(bytes, &byte, 1);
    }
}

static void append_something(GByteArray *bytes)
{
    switch (fuzz_below(10)) {
    case 0:
        g_byte_array_append(bytes, good_hello, sizeof(good_hello));
        break;
    case 1:
    case 2:
    case 3:
    case 4:
        append_frame(bytes, EXEC_STDOUT + (unsigned)fuzz_below(2),
                     1 + (unsigned)fuzz_below(fuzz_below(2) ? 16 : EXEC_DATA_MAX));
        break;
    case 5:
    case 6:
        append_frame(bytes, EXEC_STDIN_WINDOW, 4);
        break;
    case 7:
        append_frame(bytes, fuzz_below(4) ? EXEC_STDERR : EXEC_EXIT, 4);
        break;
    case 8:
        append_frame(bytes, (unsigned)fuzz_below(24), (unsigned)fuzz_below(32));
        break;
    default:
        if (bytes->len > 0) {
            bytes->data[fuzz_below(bytes->len)] = (uint8_t)fuzz_below(256);
        }
        break;
    }
}

static RUNS_IN_MAIN void check(Conversation *c)
{
    ExecState now = exec_state(c->exec);
    int status;

    if (c->listens) {
        fuzz_require(now != EXEC_STATE_RUNNING && now < EXEC_STATE_ENDED,
                     "an end without a command", NULL);
        return;
    }
    fuzz_require(now >= c->state, "the state moves back", NULL);
    fuzz_require(c->finished == (now == EXEC_STATE_ENDED), "finished is not ended", NULL);
    fuzz_require(!exec_result(c->exec, &status) || (status >= 0 && status <= 255), "a status",
                 NULL);
    c->state = now;
}

static RUNS_IN_MAIN void say(Conversation *c, const GByteArray *bytes)
{
    for (size_t at = 0; at < bytes->len;) {
        size_t piece = 1 + fuzz_below(fuzz_below(2) ? 8 : 8192);

        piece = MIN(piece, bytes->len - at);
        fuzz_require(chardev_write(exec_chardev(c->exec), bytes->data + at, piece) == piece,
                     "bytes were not taken", NULL);
        at += piece;
        if (!fuzz_below(4)) {
            chardev_harness_settle(c->ctx);
        }
        check(c);
    }
}

/* Mostly a state that a machine may have. */
static RUNS_IN_MAIN void load_something(Conversation *c)
{
    ExecSaved s = {.phase = (uint8_t)fuzz_below(fuzz_below(8) ? 3 : 256),
                   .open = fuzz_below(2),
                   .powers_off = fuzz_below(2)};
    ExecSaved again;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    size_t used;
    if (s.phase == EXEC_PHASE_WAITING || !fuzz_below(8)) {
        s.partial_count = (uint8_t)fuzz_below(fuzz_below(8) ? EXEC_PARTIAL_BYTES + 1 : 256);
        memcpy(s.partial, good_hello, sizeof(s.partial));
        s.partial[fuzz_below(sizeof(s.partial))] += fuzz_below(2) ? 1 : 0;
    }
    state_save(&exec_state_desc, &s, bytes);
    if (state_load(&exec_state_desc, &s, bytes->data, bytes->len, &used, &error) &&
        exec_check_load(c->exec, &s, &error)) {
        exec_load(c->exec, &s);
        exec_save(c->exec, &again);
    }
    check(c);
}

static RUNS_IN_MAIN void converse(Conversation *c)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    if (!fuzz_below(4)) {
        load_something(c);
    }
    if (fuzz_below(8)) {
        g_byte_array_append(bytes, good_hello, sizeof(good_hello));
    }
    for (unsigned turns = 1 + (unsigned)fuzz_below(8); turns > 0; turns--) {
        for (unsigned n = (unsigned)fuzz_below(40); n > 0; n--) {
            append_something(bytes);
        }
        c->room = fuzz_below(3) ? fuzz_below(1 << 16) : 0;
        chardev_accept_input(exec_chardev(c->exec));
        say(c, bytes);
        g_byte_array_set_size(bytes, 0);
        if (!fuzz_below(6)) {
            exec_port_changed(c->exec, fuzz_below(2));
        }
        if (!c->listens && !fuzz_below(10)) {
            exec_guest_ended(c->exec);
        }
        chardev_harness_settle(c->ctx);
        check(c);
    }
    if (!c->listens) {
        exec_guest_ended(c->exec);
        STEP_UNTIL(c->ctx, c->finished > 0);
    }
    check(c);
}

static void fuzz_conversation(void)
{
    Conversation c = {
        .ctx = chardev_harness_begin(), .said = g_byte_array_new(), .listens = !fuzz_below(3)};

    enter_main();
    co_start(c.ctx, make_exec, &c);
    STEP_UNTIL(c.ctx, c.made);
    chardev_attach(exec_chardev(c.exec), &guest_ops, &c);
    converse(&c);
    chardev_attach(exec_chardev(c.exec), NULL, NULL);
    exec_free(c.exec);
    chardev_harness_end(c.ctx);
    g_byte_array_unref(c.said);
}

int main(int argc, char **argv)
{
    fuzz_begin("fuzz_exec", argc, argv);
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fuzz_goes_on()) {
        fuzz_conversation();
    }
    fuzz_end("conversations");
    return 0;
}
