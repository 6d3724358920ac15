/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_image.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#define RAM_IMAGE_MAGIC "SKIFFRAM"
#define RAM_IMAGE_VERSION 1u
#define RAM_IMAGE_FIRST 16u /* of the block table in the header */
#define RAM_IMAGE_ENTRY 72u
#define RAM_IMAGE_DATA_ALIGN (UINT64_C(2) << 20)
#define RAM_IMAGE_READ_ONLY 1u

G_DEFINE_QUARK(ram - image - error - quark, ram_image_error)

static void ram_image_put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t ram_image_get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static uint64_t ram_image_align(uint64_t value, uint64_t to)
{
    return (value + to - 1) & ~(to - 1);
}

uint64_t ram_image_map_bytes(const RamImageBlock *block)
{
    return ram_image_align((block->size / GUEST_RAM_PAGE + 7) / 8, GUEST_RAM_PAGE);
}

/* The sizes are bounded, so nothing overflows. */
static void ram_image_place(RamImage *image)
{
    uint64_t at = RAM_IMAGE_HEADER;
    for (unsigned i = 0; i < image->count; i++) {
        image->blocks[i].map_offset = at;
        at += ram_image_map_bytes(&image->blocks[i]);
    }
    for (unsigned i = 0; i < image->count; i++) {
        at = ram_image_align(at, RAM_IMAGE_DATA_ALIGN);
        image->blocks[i].data_offset = at;
        at += image->blocks[i].size;
    }
    image->bytes = at;
}

/* @name: RAM_IMAGE_NAME bytes. Whether it is a name of graphic characters, padded with NUL. */
static bool ram_image_name_ok(const char *name)
{
    size_t length = strnlen(name, RAM_IMAGE_NAME);
    for (size_t c = 0; c < RAM_IMAGE_NAME; c++) {
        if (c < length ? !g_ascii_isgraph(name[c]) : name[c] != '\0') {
            return false;
        }
    }
    return length > 0 && length < RAM_IMAGE_NAME;
}

bool ram_image_plan(RamImage *image, const GuestRam *ram, GError **error)
{
    *image = (RamImage){.count = ram->count};
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *from = &ram->blocks[i];
        RamImageBlock *b = &image->blocks[i];
        strncpy(b->name, from->name != NULL ? from->name : "", sizeof(b->name));
        if (!ram_image_name_ok(b->name) || from->size == 0 || from->size % GUEST_RAM_PAGE != 0 ||
            from->size > RAM_IMAGE_MAX_BYTES) {
            g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_MACHINE,
                        "memory '%s' of %" PRIu64
                        " bytes cannot be saved: it needs a name of at most "
                        "%u bytes and a size in pages of %u bytes",
                        from->name != NULL ? from->name : "", from->size, RAM_IMAGE_NAME - 1,
                        GUEST_RAM_PAGE);
            return false;
        }
        b->gpa = from->gpa;
        b->size = from->size;
        b->read_only = from->read_only;
    }
    ram_image_place(image);
    return true;
}

static uint32_t ram_image_header_crc(const uint8_t *header)
{
    return (uint32_t)crc32_z(0, header, RAM_IMAGE_HEADER - 4);
}

void ram_image_encode(const RamImage *image, uint8_t header[RAM_IMAGE_HEADER])
{
    memset(header, 0, RAM_IMAGE_HEADER);
    memcpy(header, RAM_IMAGE_MAGIC, 8);
    ram_image_put(header + 8, RAM_IMAGE_VERSION, 4);
    ram_image_put(header + 12, image->count, 4);
    for (unsigned i = 0; i < image->count; i++) {
        const RamImageBlock *b = &image->blocks[i];
        uint8_t *at = header + RAM_IMAGE_FIRST + i * RAM_IMAGE_ENTRY;
        memcpy(at, b->name, strlen(b->name));
        ram_image_put(at + 32, b->gpa, 8);
        ram_image_put(at + 40, b->size, 8);
        ram_image_put(at + 48, b->map_offset, 8);
        ram_image_put(at + 56, b->data_offset, 8);
        ram_image_put(at + 64, b->read_only ? RAM_IMAGE_READ_ONLY : 0, 4);
        ram_image_put(at + 68, b->map_crc, 4);
    }
    ram_image_put(header + RAM_IMAGE_HEADER - 4, ram_image_header_crc(header), 4);
}

/* What is wrong with entry @i; NULL: nothing. */
static const char *ram_image_entry(RamImage *image, unsigned i, const uint8_t *at)
{
    RamImageBlock *b = &image->blocks[i];
    memcpy(b->name, at, RAM_IMAGE_NAME);
    if (!ram_image_name_ok(b->name)) {
        return "a block's name is missing, too long or has odd characters";
    }
    b->gpa = ram_image_get(at + 32, 8);
    b->size = ram_image_get(at + 40, 8);
    uint64_t flags = ram_image_get(at + 64, 4);
    b->read_only = (flags & RAM_IMAGE_READ_ONLY) != 0;
    b->map_crc = (uint32_t)ram_image_get(at + 68, 4);
    if ((flags & ~(uint64_t)RAM_IMAGE_READ_ONLY) != 0) {
        return "a block has unknown flags";
    }
    if (b->size == 0 || b->size > RAM_IMAGE_MAX_BYTES || (b->size | b->gpa) % GUEST_RAM_PAGE != 0) {
        return "a block's size or address is not in whole pages";
    }
    if (b->gpa > UINT64_MAX - b->size ||
        (i > 0 && b->gpa < image->blocks[i - 1].gpa + image->blocks[i - 1].size)) {
        return "blocks overlap";
    }
    return NULL;
}

static const char *ram_image_read_table(RamImage *image, const uint8_t *header, uint64_t room)
{
    for (unsigned i = 0; i < image->count; i++) {
        const char *wrong =
            ram_image_entry(image, i, header + RAM_IMAGE_FIRST + i * RAM_IMAGE_ENTRY);
        if (wrong != NULL) {
            return wrong;
        }
    }
    ram_image_place(image);
    for (unsigned i = 0; i < image->count; i++) {
        const uint8_t *at = header + RAM_IMAGE_FIRST + i * RAM_IMAGE_ENTRY;
        if (ram_image_get(at + 48, 8) != image->blocks[i].map_offset ||
            ram_image_get(at + 56, 8) != image->blocks[i].data_offset) {
            return "a block is at the wrong place";
        }
    }
    for (unsigned i = RAM_IMAGE_FIRST + image->count * RAM_IMAGE_ENTRY; i < RAM_IMAGE_HEADER - 4;
         i++) {
        if (header[i] != 0) {
            return "unused bytes of the header are not zero";
        }
    }
    return image->bytes > room ? "the file is too short" : NULL;
}

bool ram_image_decode(RamImage *image, const uint8_t header[RAM_IMAGE_HEADER], uint64_t room,
                      GError **error)
{
    const char *wrong = NULL;
    *image = (RamImage){0};
    uint64_t version = ram_image_get(header + 8, 4), count = ram_image_get(header + 12, 4);
    if (memcmp(header, RAM_IMAGE_MAGIC, 8) != 0) {
        wrong = "there is none, or it was not completed";
    } else if (version != RAM_IMAGE_VERSION) {
        wrong = "its version is unknown to this skiff";
    } else if (ram_image_get(header + RAM_IMAGE_HEADER - 4, 4) != ram_image_header_crc(header)) {
        wrong = "the checksum of its header is wrong";
    } else if (count == 0 || count > GUEST_RAM_MAX_BLOCKS) {
        wrong = "the count of blocks is out of range";
    } else {
        image->count = (unsigned)count;
        wrong = ram_image_read_table(image, header, room);
    }
    if (wrong != NULL) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_FORMAT, "no valid image of memory: %s",
                    wrong);
    }
    return wrong == NULL;
}

bool ram_image_matches(const RamImage *image, const GuestRam *ram, GError **error)
{
    if (image->count != ram->count) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_MACHINE,
                    "the image has %u blocks of memory, the machine has %u", image->count,
                    ram->count);
        return false;
    }
    for (unsigned i = 0; i < image->count; i++) {
        const RamImageBlock *b = &image->blocks[i];
        const RamBlock *r = &ram->blocks[i];
        if (strcmp(b->name, r->name != NULL ? r->name : "") != 0 || b->gpa != r->gpa ||
            b->size != r->size || b->read_only != r->read_only) {
            g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_MACHINE,
                        "the image has memory '%s' at 0x%" PRIx64 " with %" PRIu64 " bytes%s, the "
                        "machine has '%s' at 0x%" PRIx64 " with %" PRIu64 " bytes%s",
                        b->name, b->gpa, b->size, b->read_only ? " (read-only)" : "",
                        r->name != NULL ? r->name : "", r->gpa, r->size,
                        r->read_only ? " (read-only)" : "");
            return false;
        }
    }
    return true;
}
