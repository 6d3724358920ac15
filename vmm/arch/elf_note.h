/* SPDX-License-Identifier: Apache-2.0 */
/* Notes of an ELF file. Source: System V ABI, "Note Section". */
#ifndef SKIFF_VMM_ARCH_ELF_NOTE_H
#define SKIFF_VMM_ARCH_ELF_NOTE_H

#include <glib.h>
#include <stdint.h>
#include "util/loop/thread.h"

/* Appends a note to @notes. Name and description (@size bytes) are padded to 4 bytes. */
void elf_note_append(GByteArray *notes, const char *name, uint32_t type, const void *desc,
                     uint32_t size) ANY_THREAD;

#endif
