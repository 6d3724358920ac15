/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM in a file ("mapped RAM"): each page has a fixed place, so pages are written and read in any
 * order, in parallel, with O_DIRECT, and the data of a block can be mapped.
 *
 *   +--------+----------+----------+-----+---------+-----------------+-----------------+
 *   | header | page map | page map | ... | pad     | pages of        | pages of        |
 *   | 4 KiB  | block 0  | block 1  |     | to 2 MiB| block 0    (pad)| block 1         |
 *   +--------+----------+----------+-----+---------+-----------------+-----------------+
 *
 * Header, little-endian: magic "SKIFFRAM", version (u32), count of blocks (u32), then for each block: name
 * (32 bytes, padded with NUL), gpa (u64), size (u64), offset of its map (u64), offset of its pages
 * (u64), flags (u32; bit 0: read-only), CRC-32 of its map (u32). The last four bytes are the CRC-32 of all
 * before them; the rest is 0. A page map has a bit for each page, lowest bit first, padded with 0 to
 * 4 KiB. A page whose bit is clear is zero, and its place in the file reads as zeroes.
 *
 * Invariants
 *   1. Offsets follow from the sizes of the blocks (ram_image_plan()); a header with others is refused. So no
 *      two parts overlap.
 *   2. The header is valid only while everything else is complete: a save clears it first, on stable storage,
 *      and writes it last, after a flush.
 *   3. A load writes no RAM before header and page maps have been checked.
 */
#ifndef SKIFF_MIGRATION_RAM_RAM_IMAGE_H
#define SKIFF_MIGRATION_RAM_RAM_IMAGE_H

#include "block/block.h"
#include "migration/ram/ram_pages.h"

#define RAM_IMAGE_HEADER 4096u
#define RAM_IMAGE_NAME 32u
#define RAM_IMAGE_MAX_BYTES (UINT64_C(1) << 46) /* of all blocks */

#define RAM_IMAGE_ERROR ram_image_error_quark()
GQuark ram_image_error_quark(void);
enum {
    RAM_IMAGE_ERROR_FORMAT,  /* the file holds no valid image */
    RAM_IMAGE_ERROR_MACHINE, /* the image belongs to another machine */
    RAM_IMAGE_ERROR_IO,      /* reading or writing failed */
};

typedef struct RamImageBlock {
    char name[RAM_IMAGE_NAME]; /* with a NUL */
    uint64_t gpa, size;        /* bytes, multiples of GUEST_RAM_PAGE */
    bool read_only;
    uint64_t map_offset, data_offset; /* bytes from the begin of the image */
    uint32_t map_crc;
} RamImageBlock;

typedef struct RamImage {
    RamImageBlock blocks[GUEST_RAM_MAX_BLOCKS];
    unsigned count;
    uint64_t bytes; /* of the whole image */
} RamImage;

/* The image of @ram: everything but map_crc. False + @error: a block has no name that fits, or an odd
 * size. */
bool ram_image_plan(RamImage *image, const GuestRam *ram, GError **error) ANY_THREAD;
void ram_image_encode(const RamImage *image, uint8_t header[RAM_IMAGE_HEADER]) ANY_THREAD;
/* @room: bytes of the file from the begin of the image on. False + @error: no valid image. */
bool ram_image_decode(RamImage *image, const uint8_t header[RAM_IMAGE_HEADER], uint64_t room,
                      GError **error) ANY_THREAD;
/* False + @error, which names the first difference: the image is not one of RAM like @ram. */
bool ram_image_matches(const RamImage *image, const GuestRam *ram, GError **error) ANY_THREAD;
/* Words of 64 bits of a block's page map in memory, and its bytes in the file. */
uint64_t ram_image_map_bytes(const RamImageBlock *block) ANY_THREAD;

/* Copies @len bytes from @offset on of block @block, as they are saved. 0 or -errno. */
typedef int RamImageReadFn(void *opaque, unsigned block, uint64_t offset, void *buf, size_t len);

/* Finds pages that are zero as they are saved, without reading them: ram_blank_find() of @pages pages from byte @offset on of
 * block @block. 0, or -errno, which ends the save. Pages that were found are not read in this pass. */
typedef int RamImageBlankFn(void *opaque, unsigned block, uint64_t offset, uint64_t pages,
                            uint64_t *bits);

typedef struct RamImageSave {
    BlockBackend *blk;
    uint64_t offset; /* of the image in @blk; a multiple of 4 KiB keeps requests aligned */
    /* Called in workers, several at a time. */
    RamImageReadFn *read;
    RamImageBlankFn *blank; /* NULL: all pages are read; not used with `in_place` */
    void *opaque;
    /* Not NULL: pages are written from here, without a copy, instead of those that `read` gives. They may change meanwhile, also
     * between the test for zeroes and the write, as long as a later pass copies those that do. So only for files of the kernel, which
     * reads each byte once: a driver between could read twice what has to be the same, such as for a checksum. */
    const GuestRam *in_place;
    bool target_is_zero;        /* the file reads as zeroes: zero pages need no write */
    _Atomic bool cancelled;     /* set by any thread: the save ends with -ECANCELED */
    _Atomic uint64_t done;      /* bytes of RAM handled, in all passes */
    _Atomic uint64_t data;      /* bytes of pages that are not zero, written in all passes */
    struct RamStreams *streams; /* between begin and end */
    /* Of a pass over all pages: whether the piece with this byte is wanted ahead of its turn, since memory is held for it. Called
     * in the home with @opaque; NULL: none ever is. */
    bool (*urgent)(void *opaque, unsigned *block, uint64_t *offset);
} RamImageSave;

/* Writes the image, in the home of @s->blk, with bounded memory: the maps, and six buffers of 2 MiB if there is a copy.
 * Sets map_crc. 0 or -errno; then the file holds no valid image. Returns when no request is in flight. */
int ram_image_co_save(RamImageSave *s, RamImage *image) coroutine_fn RUNS_IN_IOTHREAD;

/*
 * The same in steps, for RAM that changes meanwhile:
 *
 *   begin --> pass over all pages --> (pass over some pages)* --> end
 *
 * A pass over all pages first looks which of them need not be read, and then handles the others; one over some pages looks when it
 * comes to them. So a page counts as read from the begin of its pass on.
 *
 * A pass copies @pages, which are the caller's again when it returns, or all pages if that is NULL. If each page
 * that changed after an earlier pass had begun is among the pages of a later one, the image is of the instant at which the
 * last pass began, as long as RAM does not change during that one.
 *
 * Begin clears the header of an earlier image. End with @ret 0 completes the image; with another one, which it
 * returns, it leaves none. Each returns 0 or -errno; end follows whatever begin returned.
 */
int ram_image_co_begin(RamImageSave *s, RamImage *image) coroutine_fn RUNS_IN_IOTHREAD;
int ram_image_co_pass(RamImageSave *s, const RamPages *pages) coroutine_fn RUNS_IN_IOTHREAD;
int ram_image_co_end(RamImageSave *s, RamImage *image, int ret) coroutine_fn RUNS_IN_IOTHREAD;

/* Whether the image at @offset is complete and one of RAM like @ram. False + @error. */
bool ram_image_co_check(BlockBackend *blk, uint64_t offset, const GuestRam *ram, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Reads the image at @offset into @ram, which nothing else uses: the VM is stopped. False + @error: with
 * RAM_IMAGE_ERROR_IO parts of RAM may have changed, else nothing has. */
bool ram_image_co_load(BlockBackend *blk, uint64_t offset, const GuestRam *ram, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;
/* The same, but private memory becomes a private mapping of the file: a page is read when it is first used, and copied
 * when it is first written; until then all machines that go on from the file share it. @fd is the file of @blk, raw;
 * the caller keeps it from being changed as long as the machine lives, for what is read later is not checked. Memory that
 * has a descriptor, and ROM, is read at once. */
bool ram_image_co_map(BlockBackend *blk, int fd, uint64_t offset, GuestRam *ram, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;

#endif
