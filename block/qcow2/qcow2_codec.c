/* SPDX-License-Identifier: Apache-2.0 */
/* Compression and decompression of a cluster in memory. The functions keep no state. */
#include <errno.h>
#include <zlib.h>
#include <zstd.h>
#include "block/qcow2/qcow2_int.h"

#define CODEC_ZLIB_MEMORY 9 /* of 1 to 9 */

/* ---- decompression ---- */

static int decompress_zlib(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    z_stream z = {
        .next_in = (Bytef *)(uintptr_t)in,
        .avail_in = (uInt)in_size,
        .next_out = out,
        .avail_out = (uInt)out_size,
    };
    if (inflateInit2(&z, QCOW2_ZLIB_WINDOW_BITS) != Z_OK) {
        return -EIO;
    }
    int ret = inflate(&z, Z_FINISH);
    bool full = z.avail_out == 0;
    inflateEnd(&z);
    /* The input ends with padding, so the stream's end may not have been reached. */
    return full && (ret == Z_STREAM_END || ret == Z_BUF_ERROR) ? 0 : -EIO;
}

/* A stream: one cluster may be several frames, and the input has padding after the last one. */
static int decompress_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    ZSTD_inBuffer input = {in, in_size, 0};
    ZSTD_outBuffer output = {out, out_size, 0};
    size_t ret = z == NULL ? 1 : 0;
    while (z != NULL && output.pos < output.size) {
        size_t in_before = input.pos, out_before = output.pos;
        ret = ZSTD_decompressStream(z, &output, &input);
        if (ZSTD_isError(ret) || (input.pos == in_before && output.pos == out_before)) {
            break;
        }
    }
    ZSTD_freeDCtx(z);
    return output.pos == output.size && !ZSTD_isError(ret) ? 0 : -EIO;
}

int qcow2_decompress(unsigned type, const uint8_t *in, size_t in_size, uint8_t *out,
                     size_t out_size)
{
    return type == QCOW2_COMPRESSION_ZSTD ? decompress_zstd(in, in_size, out, out_size)
                                          : decompress_zlib(in, in_size, out, out_size);
}

/* ---- compression ---- */

static size_t compress_zlib(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    z_stream z = {
        .next_in = (Bytef *)(uintptr_t)in,
        .avail_in = (uInt)in_size,
        .next_out = out,
        .avail_out = (uInt)out_size,
    };
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, QCOW2_ZLIB_WINDOW_BITS,
                     CODEC_ZLIB_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        return 0;
    }
    int ret = deflate(&z, Z_FINISH);
    size_t length = out_size - z.avail_out;
    deflateEnd(&z);
    return ret == Z_STREAM_END ? length : 0;
}

static size_t compress_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    size_t length = ZSTD_compress(out, out_size, in, in_size, ZSTD_CLEVEL_DEFAULT);
    return ZSTD_isError(length) ? 0 : length;
}

size_t qcow2_compress(unsigned type, const uint8_t *in, size_t in_size, uint8_t *out,
                      size_t out_size)
{
    return type == QCOW2_COMPRESSION_ZSTD ? compress_zstd(in, in_size, out, out_size)
                                          : compress_zlib(in, in_size, out, out_size);
}
