/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/state_file.h"

#include <string.h>

#define STATE_FILE_UNIT 4096u /* what is written at once at the begin of the file */

uint64_t state_file_bytes(const RamImage *image)
{
    return STATE_FILE_RAM_OFFSET + image->bytes;
}

/* Writes the first unit of the file, durably; @stream NULL: zeroes. */
static coroutine_fn RUNS_IN_IOTHREAD int state_file_write_begin(BlockBackend *blk,
                                                                const GByteArray *stream)
{
    g_autofree uint8_t *unit = g_malloc0(STATE_FILE_UNIT);
    if (stream != NULL) {
        memcpy(unit, stream->data, MIN(stream->len, STATE_FILE_UNIT));
    }
    struct iovec iov = {unit, STATE_FILE_UNIT};
    int ret = blk_co_pwritev(blk, 0, STATE_FILE_UNIT, &iov, 1, 0);
    return ret != 0 ? ret : blk_co_flush(blk);
}

/* Writes all of the stream but the first unit, durably. */
static coroutine_fn RUNS_IN_IOTHREAD int state_file_write_rest(BlockBackend *blk,
                                                               const GByteArray *stream)
{
    int ret = 0;
    if (stream->len > STATE_FILE_UNIT) {
        struct iovec iov = {stream->data + STATE_FILE_UNIT, stream->len - STATE_FILE_UNIT};
        ret = blk_co_pwritev(blk, STATE_FILE_UNIT, iov.iov_len, &iov, 1, 0);
    }
    return ret != 0 ? ret : blk_co_flush(blk);
}

int state_file_co_clear(BlockBackend *blk)
{
    return state_file_write_begin(blk, NULL);
}

int state_file_co_begin(RamImageSave *s, RamImage *image)
{
    s->offset = STATE_FILE_RAM_OFFSET;
    int ret = state_file_write_begin(s->blk, NULL);
    int begun = ram_image_co_begin(s, image);
    return ret != 0 ? ret : begun;
}

int state_file_co_end(RamImageSave *s, RamImage *image, const GByteArray *stream, int ret)
{
    ret = ram_image_co_end(s, image, ret);
    ret = ret != 0 ? ret : state_file_write_rest(s->blk, stream);
    return ret != 0 ? ret : state_file_write_begin(s->blk, stream);
}

GByteArray *state_file_co_read_stream(BlockBackend *blk, GError **error)
{
    uint8_t prefix[STATE_STREAM_PREFIX];
    struct iovec iov = {prefix, sizeof(prefix)};
    uint64_t size = blk_size(blk);
    int ret = size < sizeof(prefix) ? 0 : blk_co_preadv(blk, 0, sizeof(prefix), &iov, 1, 0);
    uint64_t length = ret != 0 ? 0 : state_stream_length(prefix, MIN(size, sizeof(prefix)), error);
    if (length == 0) {
        if (ret != 0) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE, "it cannot be read: %s",
                        g_strerror(-ret));
        }
        return NULL;
    }
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_byte_array_set_size(stream, (guint)MIN(length, size));
    iov = (struct iovec){stream->data, stream->len};
    ret = blk_co_preadv(blk, 0, stream->len, &iov, 1, 0);
    if (ret != 0) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE, "it cannot be read: %s",
                    g_strerror(-ret));
        return NULL;
    }
    return g_steal_pointer(&stream);
}
