/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/elf_note.h"

#include <elf.h>
#include <string.h>

void elf_note_append(GByteArray *notes, const char *name, uint32_t type, const void *desc,
                     uint32_t size)
{
    static const uint8_t padding[4];
    uint32_t name_size = (uint32_t)strlen(name) + 1;
    Elf64_Nhdr header = {.n_namesz = name_size, .n_descsz = size, .n_type = type};
    g_byte_array_append(notes, (const uint8_t *)&header, sizeof(header));
    g_byte_array_append(notes, (const uint8_t *)name, name_size);
    g_byte_array_append(notes, padding, -name_size & 3);
    g_byte_array_append(notes, desc, size);
    g_byte_array_append(notes, padding, -size & 3);
}
