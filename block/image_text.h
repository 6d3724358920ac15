/* SPDX-License-Identifier: Apache-2.0 */
/* Images and their snapshots as text for people, with the words of QEMU (block/core/image_text.c). */
#ifndef SKIFF_BLOCK_IMAGE_TEXT_H
#define SKIFF_BLOCK_IMAGE_TEXT_H

#include "block/block.h"

/* What is shown of an image. All is borrowed. */
typedef struct BlockImageText {
    const char *filename;
    const char *format;
    uint64_t size;              /* of the disk */
    int64_t used;               /* bytes on the host; negative: unknown */
    const BlockImageInfo *info; /* NULL: the image says nothing */
} BlockImageText;

/* Appends all lines about the image to @out. */
void block_image_append_text(GString *out, const BlockImageText *image) ANY_THREAD;
/* Appends a title and the table of snapshots, if there are any. */
void block_image_append_snapshots(GString *out, const BlockImageInfo *info) ANY_THREAD;
/* Appends the table only, also if it has no rows. */
void block_image_append_snapshot_table(GString *out, const BlockImageInfo *info) ANY_THREAD;
/* Returns "1.5 GiB", owned by the caller. */
char *block_size_text(uint64_t size) ANY_THREAD;

#endif
