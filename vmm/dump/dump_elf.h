/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of a dump's ELF file. Makes the head (headers and notes) and the list of RAM pieces
 * that follow it; writes nothing.
 *
 *   +------------+-----------------+-----------------+--------+-----+--------------+--------------+
 *   | Elf64_Ehdr | PT_NOTE, PT_LOAD| section header, | notes  | pad | first piece  | next piece   |
 *   |            | ...             | if > 65534 loads|        |     | (page-aligned in the file)  |
 *   +------------+-----------------+-----------------+--------+-----+--------------+--------------+
 *
 * Each byte of RAM is in the file once, by physical address. With virtual mappings there is a
 * PT_LOAD for each of them, and several may refer to the same bytes; without, there is one for each
 * piece, with p_vaddr = p_paddr.
 *
 * Source: System V ABI, "ELF-64 Object File Format"; PN_XNUM from the System V gABI, chapter 4.
 */
#ifndef SKIFF_VMM_DUMP_DUMP_ELF_H
#define SKIFF_VMM_DUMP_DUMP_ELF_H

#include <glib.h>
#include <stdbool.h>
#include "hw/core/ram.h"

/* The maximum number of PT_LOADs; their headers are 56 MiB then. */
#define DUMP_ELF_MAX_LOADS (1u << 20)

/* Virtual addresses [gva, gva + size) map to [gpa, gpa + size), RAM or not. */
typedef struct DumpMapping {
    uint64_t gva, gpa, size;
} DumpMapping;

typedef struct DumpPiece {
    uint64_t gpa, size;
    const uint8_t *host;
    uint64_t offset; /* in the file */
} DumpPiece;

typedef struct DumpElf {
    GByteArray *head;                       /* everything before the first piece */
    DumpPiece pieces[GUEST_RAM_MAX_BLOCKS]; /* ascending and contiguous in the file */
    unsigned piece_count;
    uint64_t memory_size; /* bytes of all pieces */
    uint64_t file_size;
} DumpElf;

/* Whether any byte of [@begin, @begin + @length) is RAM; @length 0: up to the end. */
bool dump_elf_has_ram(const GuestRam *ram, uint64_t begin, uint64_t length) ANY_THREAD;
/* Describes the RAM in [@begin, @begin + @length) (@length 0: all of it), with @mappings (of
 * DumpMapping; NULL: physical) and @notes. NULL + error: there is no such RAM, or too many
 * mappings. */
DumpElf *dump_elf_new(const GuestRam *ram, uint64_t begin, uint64_t length, const GArray *mappings,
                      const GByteArray *notes, GError **error) ANY_THREAD;
void dump_elf_free(DumpElf *elf) ANY_THREAD;

#endif
