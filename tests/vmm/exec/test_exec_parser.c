/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the -exec agent, parsed from the bytes of a hostile guest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>
#include "vmm/exec/exec_parser.h"

static const uint8_t hello[] = {EXEC_HELLO, 0,   12,  0,   'S', 'K', 'I', 'F',
                                'F',        'E', 'X', 'E', 1,   0,   1,   0};

static ExecParse feed(ExecParser *p, const void *data, size_t size, size_t *used, ExecFrame *frame)
{
    const char *why;
    ExecParse result = exec_parser_feed(p, data, size, used, frame, &why);

    assert_true(*used <= size);
    assert_true((result == EXEC_PARSE_BAD) == (why != NULL));
    return result;
}

/* Feeds one whole frame, which must be good or bad as a whole. */
static ExecParse feed_frame(unsigned type, const void *payload, size_t size, ExecFrame *frame)
{
    ExecParser p = {0};
    g_autofree uint8_t *bytes = g_malloc0(EXEC_HEADER_BYTES + size);
    size_t used;

    bytes[0] = (uint8_t)type;
    bytes[2] = (uint8_t)size;
    bytes[3] = (uint8_t)(size >> 8);
    memcpy(bytes + EXEC_HEADER_BYTES, payload, size);
    return feed(&p, bytes, EXEC_HEADER_BYTES + size, &used, frame);
}

static void test_a_hello_is_decoded(void **state)
{
    ExecParser p = {0};
    ExecFrame f;
    size_t used;

    assert_int_equal(feed(&p, hello, sizeof(hello), &used, &f), EXEC_PARSE_FRAME);
    assert_int_equal(used, sizeof(hello));
    assert_int_equal(f.type, EXEC_HELLO);
    assert_int_equal(f.version, 1);
    assert_int_equal(f.flags, EXEC_HELLO_POWERS_OFF);
}

static void test_frames_may_come_in_any_pieces(void **state)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    static const uint8_t out[] = {EXEC_STDOUT, 0, 3, 0, 'a', 'b', 'c'};

    g_byte_array_append(stream, hello, sizeof(hello));
    g_byte_array_append(stream, out, sizeof(out));
    for (size_t piece = 1; piece <= stream->len; piece++) {
        ExecParser p = {0};
        unsigned frames = 0;

        for (size_t at = 0; at < stream->len;) {
            ExecFrame f;
            size_t used;
            ExecParse result = feed(&p, stream->data + at, MIN(piece, stream->len - at), &used, &f);

            at += used;
            frames += result == EXEC_PARSE_FRAME;
            assert_int_not_equal(result, EXEC_PARSE_BAD);
            if (result == EXEC_PARSE_FRAME && frames == 2) {
                assert_int_equal(f.size, 3);
                assert_memory_equal(f.data, "abc", 3);
            }
        }
        assert_int_equal(frames, 2);
    }
}

static void test_bytes_after_a_frame_are_not_consumed(void **state)
{
    ExecParser p = {0};
    uint8_t bytes[sizeof(hello) + 5];
    ExecFrame f;
    size_t used;

    memcpy(bytes, hello, sizeof(hello));
    memset(bytes + sizeof(hello), 0xff, 5);
    assert_int_equal(feed(&p, bytes, sizeof(bytes), &used, &f), EXEC_PARSE_FRAME);
    assert_int_equal(used, sizeof(hello));
}

static void test_unknown_types_are_bad_at_their_header(void **state)
{
    for (unsigned type = 0; type < 256; type++) {
        ExecParser p = {0};
        uint8_t header[] = {(uint8_t)type, 0, 0xff, 0xff};
        ExecFrame f;
        size_t used;

        assert_int_equal(feed(&p, header, sizeof(header), &used, &f), EXEC_PARSE_BAD);
    }
}

static void test_frames_to_the_agent_are_invalid_from_it(void **state)
{
    ExecFrame f;

    assert_int_equal(feed_frame(EXEC_BYE, "", 0, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed_frame(EXEC_STDIN, "x", 1, &f), EXEC_PARSE_BAD);
}

static void test_sizes_match_the_type(void **state)
{
    static const uint8_t zeroes[EXEC_DATA_MAX + 1];
    ExecFrame f;

    assert_int_equal(feed_frame(EXEC_STDOUT, zeroes, 0, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed_frame(EXEC_STDOUT, zeroes, EXEC_DATA_MAX, &f), EXEC_PARSE_FRAME);
    assert_int_equal(feed_frame(EXEC_STDERR, zeroes, EXEC_DATA_MAX + 1, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed_frame(EXEC_STDIN_WINDOW, zeroes, 3, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed_frame(EXEC_EXIT, zeroes, 5, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed_frame(EXEC_HELLO, hello + 4, 11, &f), EXEC_PARSE_BAD);
}

static void test_the_reserved_byte_is_zero(void **state)
{
    ExecParser p = {0};
    static const uint8_t bytes[] = {EXEC_STDOUT, 1, 1, 0, 'x'};
    ExecFrame f;
    size_t used;

    assert_int_equal(feed(&p, bytes, sizeof(bytes), &used, &f), EXEC_PARSE_BAD);
}

static void test_a_wrong_magic_is_refused(void **state)
{
    ExecFrame f;

    assert_int_equal(feed_frame(EXEC_HELLO, "SKIFFEXF\1\0\0\0", 12, &f), EXEC_PARSE_BAD);
}

static void test_an_exit_has_a_valid_status(void **state)
{
    ExecFrame f;

    assert_int_equal(feed_frame(EXEC_EXIT, "\0\377\0\0", 4, &f), EXEC_PARSE_FRAME);
    assert_int_equal(f.number, 255);
    assert_int_equal(feed_frame(EXEC_EXIT, "\1\11\0\0", 4, &f), EXEC_PARSE_FRAME);
    assert_int_equal(f.how, EXEC_EXIT_SIGNAL);
    assert_int_equal(feed_frame(EXEC_EXIT, "\1\0\0\0", 4, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed_frame(EXEC_EXIT, "\1\200\0\0", 4, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed_frame(EXEC_EXIT, "\2\0\0\0", 4, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed_frame(EXEC_EXIT, "\0\0\1\0", 4, &f), EXEC_PARSE_BAD);
}

static void test_a_bad_stream_stays_bad_until_reset(void **state)
{
    ExecParser p = {0};
    ExecFrame f;
    size_t used;

    assert_int_equal(feed(&p, "\377\377\377\377", 4, &used, &f), EXEC_PARSE_BAD);
    assert_int_equal(feed(&p, hello, sizeof(hello), &used, &f), EXEC_PARSE_BAD);
    assert_int_equal(used, 0);
    exec_parser_reset(&p);
    assert_int_equal(feed(&p, hello, sizeof(hello), &used, &f), EXEC_PARSE_FRAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hello_is_decoded),
        cmocka_unit_test(test_frames_may_come_in_any_pieces),
        cmocka_unit_test(test_bytes_after_a_frame_are_not_consumed),
        cmocka_unit_test(test_unknown_types_are_bad_at_their_header),
        cmocka_unit_test(test_frames_to_the_agent_are_invalid_from_it),
        cmocka_unit_test(test_sizes_match_the_type),
        cmocka_unit_test(test_the_reserved_byte_is_zero),
        cmocka_unit_test(test_a_wrong_magic_is_refused),
        cmocka_unit_test(test_an_exit_has_a_valid_status),
        cmocka_unit_test(test_a_bad_stream_stays_bad_until_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
