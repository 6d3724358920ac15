/* SPDX-License-Identifier: Apache-2.0 */
/* Compression and decompression of a cluster in memory. */
#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include "block/qcow2/qcow2_int.h"

#define CODEC_ZLIB_MEMORY 9 /* of 1 to 9 */

/* ---- decompression ---- */

/* For a stream that ends within the input and fills the output, as all programs write it: libdeflate
 * takes half the time of zlib, but does not decompress a part of a stream. */
static bool decompress_whole_stream(const uint8_t *in, size_t in_size, uint8_t *out,
                                    size_t out_size)
{
    size_t in_used, out_used = 0;
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    if (d == NULL) {
        return false;
    }
    enum libdeflate_result result =
        libdeflate_deflate_decompress_ex(d, in, in_size, out, out_size, &in_used, &out_used);
    libdeflate_free_decompressor(d);
    return result == LIBDEFLATE_SUCCESS && out_used == out_size;
}

static int decompress_zlib(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    if (decompress_whole_stream(in, in_size, out, out_size)) {
        return 0;
    }
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

struct Qcow2Compressor {
    z_stream zlib;
    bool
        zstd; /* its state is made anew each time: that is faster than one from another CPU's cache */
    size_t size;
    uint8_t *buffers; /* two */
    Qcow2Compressor *next;
};

static bool compressor_init(Qcow2Compressor *c, unsigned type)
{
    if (type == QCOW2_COMPRESSION_ZSTD) {
        c->zstd = true;
        return true;
    }
    return deflateInit2(&c->zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, QCOW2_ZLIB_WINDOW_BITS,
                        CODEC_ZLIB_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
}

Qcow2Compressor *qcow2_compressor_get(Qcow2Compressor **spare, unsigned type, size_t size)
{
    Qcow2Compressor *c = *spare;
    if (c != NULL) {
        *spare = c->next;
        return c;
    }
    c = g_new0(Qcow2Compressor, 1);
    c->size = size;
    c->buffers = aligned_alloc(BLOCK_MEMORY_ALIGNMENT_MAX,
                               block_align_up(2 * size, BLOCK_MEMORY_ALIGNMENT_MAX));
    if (c->buffers == NULL || !compressor_init(c, type)) {
        free(c->buffers);
        g_free(c);
        return NULL;
    }
    return c;
}

void qcow2_compressor_put(Qcow2Compressor **spare, Qcow2Compressor *c)
{
    c->next = *spare;
    *spare = c;
}

void qcow2_compressors_free(Qcow2Compressor **spare)
{
    while (*spare != NULL) {
        Qcow2Compressor *c = *spare;
        *spare = c->next;
        if (!c->zstd) {
            deflateEnd(&c->zlib);
        }
        free(c->buffers);
        g_free(c);
    }
}

uint8_t *qcow2_compressor_input(const Qcow2Compressor *c)
{
    return c->buffers;
}

uint8_t *qcow2_compressor_output(const Qcow2Compressor *c)
{
    return c->buffers + c->size;
}

static size_t compress_zlib(Qcow2Compressor *c)
{
    z_stream *z = &c->zlib;
    if (deflateReset(z) != Z_OK) {
        return 0;
    }
    z->next_in = qcow2_compressor_input(c);
    z->avail_in = (uInt)c->size;
    z->next_out = qcow2_compressor_output(c);
    z->avail_out = (uInt)c->size - 1;
    return deflate(z, Z_FINISH) == Z_STREAM_END ? c->size - 1 - z->avail_out : 0;
}

static size_t compress_zstd(Qcow2Compressor *c)
{
    size_t length = ZSTD_compress(qcow2_compressor_output(c), c->size - 1,
                                  qcow2_compressor_input(c), c->size, ZSTD_CLEVEL_DEFAULT);
    return ZSTD_isError(length) ? 0 : length;
}

size_t qcow2_compress(Qcow2Compressor *c)
{
    return c->zstd ? compress_zstd(c) : compress_zlib(c);
}
