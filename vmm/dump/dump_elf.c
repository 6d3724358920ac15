/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dump/dump_elf.h"

#include <elf.h>
#include <inttypes.h>
#include <string.h>
#include "vmm/arch/arch.h"

#define DUMP_ELF_ALIGNMENT 4096u /* of the first piece, so that empty pages can become holes */

typedef struct DumpLoad {
    uint64_t gva, gpa, size;
    unsigned piece;
} DumpLoad;

/* Finds the selected parts of RAM; their offsets count from the first of them. */
static void dump_elf_find_pieces(DumpElf *elf, const GuestRam *ram, uint64_t begin, uint64_t length)
{
    uint64_t last = length == 0 || begin + (length - 1) < begin ? UINT64_MAX : begin + (length - 1);
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        uint64_t block_last = b->gpa + (b->size - 1);
        uint64_t from = MAX(begin, b->gpa), to = MIN(last, block_last);
        if (from > block_last || to < b->gpa) {
            continue;
        }
        elf->pieces[elf->piece_count++] = (DumpPiece){.gpa = from,
                                                      .size = to - from + 1,
                                                      .host = b->host + (from - b->gpa),
                                                      .offset = elf->memory_size};
        elf->memory_size += to - from + 1;
    }
}

bool dump_elf_has_ram(const GuestRam *ram, uint64_t begin, uint64_t length)
{
    DumpElf found = {0};
    dump_elf_find_pieces(&found, ram, begin, length);
    return found.piece_count != 0;
}

/* Adds the part of @m that is in piece @index, if any. */
static void dump_elf_add_load(const DumpElf *elf, GArray *loads, const DumpMapping *m,
                              unsigned index)
{
    const DumpPiece *p = &elf->pieces[index];
    uint64_t from = MAX(m->gpa, p->gpa);
    uint64_t to = MIN(m->gpa + (m->size - 1), p->gpa + (p->size - 1));
    if (m->size == 0 || from > to) {
        return;
    }
    DumpLoad load = {
        .gva = m->gva + (from - m->gpa), .gpa = from, .size = to - from + 1, .piece = index};
    g_array_append_val(loads, load);
}

static GArray *dump_elf_make_loads(const DumpElf *elf, const GArray *mappings, GError **error)
{
    g_autoptr(GArray) loads = g_array_new(FALSE, FALSE, sizeof(DumpLoad));
    if (mappings == NULL) {
        for (unsigned i = 0; i < elf->piece_count; i++) {
            const DumpPiece *p = &elf->pieces[i];
            dump_elf_add_load(elf, loads,
                              &(DumpMapping){.gva = p->gpa, .gpa = p->gpa, .size = p->size}, i);
        }
        return g_steal_pointer(&loads);
    }
    for (unsigned i = 0; i < mappings->len; i++) {
        for (unsigned j = 0; j < elf->piece_count; j++) {
            dump_elf_add_load(elf, loads, &g_array_index(mappings, DumpMapping, i), j);
        }
        if (loads->len > DUMP_ELF_MAX_LOADS) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                        "the guest's page tables have more than %u mappings; a dump without  "
                        "paging does not use them",
                        DUMP_ELF_MAX_LOADS);
            return NULL;
        }
    }
    return g_steal_pointer(&loads);
}

/* ---- the head ---- */

static void dump_elf_put_header(GByteArray *head, unsigned header_count)
{
    bool many = header_count >= PN_XNUM;
    Elf64_Ehdr h = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_CORE,
        .e_machine = ARCH_ELF_MACHINE,
        .e_version = EV_CURRENT,
        .e_phoff = sizeof(Elf64_Ehdr),
        .e_ehsize = sizeof(Elf64_Ehdr),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = many ? PN_XNUM : (Elf64_Half)header_count,
        .e_shoff = many ? sizeof(Elf64_Ehdr) + (uint64_t)header_count * sizeof(Elf64_Phdr) : 0,
        .e_shentsize = many ? sizeof(Elf64_Shdr) : 0,
        .e_shnum = many ? 1 : 0,
    };
    g_byte_array_append(head, (const uint8_t *)&h, sizeof(h));
}

static void dump_elf_put_loads(const DumpElf *elf, GByteArray *head, const GArray *loads)
{
    for (unsigned i = 0; i < loads->len; i++) {
        const DumpLoad *l = &g_array_index(loads, DumpLoad, i);
        const DumpPiece *p = &elf->pieces[l->piece];
        Elf64_Phdr ph = {.p_type = PT_LOAD,
                         .p_flags = PF_R | PF_W | PF_X,
                         .p_offset = p->offset + (l->gpa - p->gpa),
                         .p_vaddr = l->gva,
                         .p_paddr = l->gpa,
                         .p_filesz = l->size,
                         .p_memsz = l->size};
        g_byte_array_append(head, (const uint8_t *)&ph, sizeof(ph));
    }
}

static void dump_elf_build(DumpElf *elf, const GArray *loads, const GByteArray *notes)
{
    unsigned header_count = 1 + loads->len;
    uint64_t notes_at = sizeof(Elf64_Ehdr) + (uint64_t)header_count * sizeof(Elf64_Phdr) +
                        (header_count >= PN_XNUM ? sizeof(Elf64_Shdr) : 0);
    uint64_t end = notes_at + notes->len;
    uint64_t first = (end + DUMP_ELF_ALIGNMENT - 1) & -(uint64_t)DUMP_ELF_ALIGNMENT;
    for (unsigned i = 0; i < elf->piece_count; i++) {
        elf->pieces[i].offset += first;
    }
    elf->file_size = first + elf->memory_size;

    GByteArray *head = elf->head = g_byte_array_sized_new((guint)first);
    dump_elf_put_header(head, header_count);
    Elf64_Phdr note = {.p_type = PT_NOTE,
                       .p_offset = notes_at,
                       .p_filesz = notes->len,
                       .p_memsz = notes->len,
                       .p_align = 4};
    g_byte_array_append(head, (const uint8_t *)&note, sizeof(note));
    dump_elf_put_loads(elf, head, loads);
    if (header_count >= PN_XNUM) {
        Elf64_Shdr sh = {.sh_type = SHT_NULL, .sh_info = header_count};
        g_byte_array_append(head, (const uint8_t *)&sh, sizeof(sh));
    }
    g_byte_array_append(head, notes->data, notes->len);
    g_byte_array_set_size(head, (guint)first);
    memset(head->data + end, 0, first - end);
}

DumpElf *dump_elf_new(const GuestRam *ram, uint64_t begin, uint64_t length, const GArray *mappings,
                      const GByteArray *notes, GError **error)
{
    DumpElf *elf = g_new0(DumpElf, 1);
    g_autoptr(GArray) loads = NULL;
    dump_elf_find_pieces(elf, ram, begin, length);
    if (elf->piece_count == 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "there is no RAM in the range");
    } else {
        loads = dump_elf_make_loads(elf, mappings, error);
    }
    if (loads == NULL) {
        dump_elf_free(elf);
        return NULL;
    }
    dump_elf_build(elf, loads, notes);
    return elf;
}

void dump_elf_free(DumpElf *elf)
{
    if (elf != NULL) {
        if (elf->head != NULL) {
            g_byte_array_unref(elf->head);
        }
        g_free(elf);
    }
}
