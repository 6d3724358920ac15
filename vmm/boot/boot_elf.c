/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF images: segments, and the notes that define the entry. System V gABI chapters 4, 5; Xen
 * elfnote.h; Linux elfnote-lto.h for Linux' own notes. Every offset and count comes from the file
 * and is bounded by its size before use.
 */
#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

#define XEN_NOTE_PHYS32_ENTRY 18
#define ELF_MAX_PROGRAM_HEADERS 256
#define ELF_MAX_NOTES_SIZE (64 * X86_KIB)

/* A program header of either class. */
typedef struct ElfProgramHeader {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, file_size, mem_size, align;
} ElfProgramHeader;

typedef struct ElfHeader {
    uint64_t entry, phoff;
    uint16_t type, machine, phentsize, phnum;
} ElfHeader;

static const char *elf_machine_name(uint16_t machine)
{
    switch (machine) {
    case EM_AARCH64:
        return "AArch64";
    case EM_ARM:
        return "32-bit ARM";
    case EM_RISCV:
        return "RISC-V";
    case EM_PPC64:
        return "POWER";
    case EM_S390:
        return "IBM Z";
    default:
        return NULL;
    }
}

static bool elf_check_ident(const BootFile *file, const uint8_t *ident, GError **error)
{
    if (ident[EI_CLASS] != ELFCLASS32 && ident[EI_CLASS] != ELFCLASS64) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is no ELF file skiff can read: class %u at offset 4 "
                               "(32-bit is 1, 64-bit is 2)",
                               ident[EI_CLASS]);
    }
    if (ident[EI_DATA] != ELFDATA2LSB || ident[EI_VERSION] != EV_CURRENT) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is an ELF file of another architecture (byte order %u, version "
                               "%u); give an x86_64 kernel",
                               ident[EI_DATA], ident[EI_VERSION]);
    }
    return true;
}

static bool elf_check_header(const BootFile *file, const ElfHeader *h, size_t phentsize,
                             GError **error)
{
    if (h->machine != EM_X86_64 && h->machine != EM_386) {
        const char *name = elf_machine_name(h->machine);
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is an ELF file for %s (machine %u); give an x86_64 kernel",
                               name != NULL ? name : "another architecture", h->machine);
    }
    if (h->type != ET_EXEC && h->type != ET_DYN) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is an ELF file of type %u, not an executable (2); "
                               "give a linked kernel",
                               h->type);
    }
    if (h->phnum == 0 || h->phnum > ELF_MAX_PROGRAM_HEADERS || h->phentsize != phentsize) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "has %u program headers of %u bytes; 1 to %u of %zu can be loaded",
                               h->phnum, h->phentsize, ELF_MAX_PROGRAM_HEADERS, phentsize);
    }
    return true;
}

static bool elf_read_header(const BootFile *file, bool is_64, ElfHeader *h, GError **error)
{
    if (is_64) {
        Elf64_Ehdr e;
        if (!boot_file_read(file, 0, &e, sizeof(e), "the ELF header", error)) {
            return false;
        }
        *h = (ElfHeader){.entry = e.e_entry,
                         .phoff = e.e_phoff,
                         .type = e.e_type,
                         .machine = e.e_machine,
                         .phentsize = e.e_phentsize,
                         .phnum = e.e_phnum};
        return elf_check_header(file, h, sizeof(Elf64_Phdr), error);
    }
    Elf32_Ehdr e;
    if (!boot_file_read(file, 0, &e, sizeof(e), "the ELF header", error)) {
        return false;
    }
    *h = (ElfHeader){.entry = e.e_entry,
                     .phoff = e.e_phoff,
                     .type = e.e_type,
                     .machine = e.e_machine,
                     .phentsize = e.e_phentsize,
                     .phnum = e.e_phnum};
    return elf_check_header(file, h, sizeof(Elf32_Phdr), error);
}

/* Element @i of the program headers in @raw. */
static ElfProgramHeader elf_program_header(const uint8_t *raw, bool is_64, unsigned i)
{
    if (is_64) {
        Elf64_Phdr p;
        memcpy(&p, raw + i * sizeof(p), sizeof(p));
        return (ElfProgramHeader){p.p_type,  p.p_flags,  p.p_offset, p.p_vaddr,
                                  p.p_paddr, p.p_filesz, p.p_memsz,  p.p_align};
    }
    Elf32_Phdr p;
    memcpy(&p, raw + i * sizeof(p), sizeof(p));
    return (ElfProgramHeader){p.p_type,  p.p_flags,  p.p_offset, p.p_vaddr,
                              p.p_paddr, p.p_filesz, p.p_memsz,  p.p_align};
}

static void elf_take_note(BootElf *elf, const char *name, uint32_t name_size, uint32_t type,
                          const uint8_t *desc, uint32_t desc_size)
{
    if (name_size == sizeof("Linux") && memcmp(name, "Linux", sizeof("Linux")) == 0) {
        elf->is_linux = true;
    }
    if (name_size != sizeof("Xen") || memcmp(name, "Xen", sizeof("Xen")) != 0 ||
        type != XEN_NOTE_PHYS32_ENTRY) {
        return;
    }
    if (desc_size >= 8) {
        memcpy(&elf->pvh_entry, desc, 8);
        elf->has_pvh = true;
    } else if (desc_size >= 4) {
        uint32_t entry;
        memcpy(&entry, desc, 4);
        elf->pvh_entry = entry;
        elf->has_pvh = true;
    }
}

static void elf_walk_notes(BootElf *elf, const uint8_t *notes, uint64_t size, uint64_t align)
{
    uint64_t at = 0;
    while (size - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr n; /* the same in both classes */
        memcpy(&n, notes + at, sizeof(n));
        uint64_t name = at + sizeof(n);
        uint64_t desc = (name + n.n_namesz + align - 1) & ~(align - 1);
        if (desc > size || n.n_descsz > size - desc) {
            return; /* the rest is not a note */
        }
        elf_take_note(elf, (const char *)notes + name, n.n_namesz, n.n_type, notes + desc,
                      n.n_descsz);
        at = (desc + n.n_descsz + align - 1) & ~(align - 1);
        if (at > size) {
            return;
        }
    }
}

static bool elf_read_notes(const BootFile *file, const ElfProgramHeader *p, BootElf *elf,
                           GError **error)
{
    if (p->file_size > ELF_MAX_NOTES_SIZE) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "has %" PRIu64 " bytes of ELF notes at offset 0x%" PRIx64
                               "; at most %" PRIu64 " are accepted",
                               p->file_size, p->offset, ELF_MAX_NOTES_SIZE);
    }
    g_autofree uint8_t *notes = g_malloc(p->file_size + 1);
    if (!boot_file_read(file, p->offset, notes, p->file_size, "a note segment", error)) {
        return false;
    }
    elf_walk_notes(elf, notes, p->file_size, p->align == 8 ? 8 : 4);
    return true;
}

static bool elf_take_segment(const BootFile *file, const ElfProgramHeader *p, unsigned index,
                             BootElf *elf, GError **error)
{
    if (p->mem_size == 0) {
        return true;
    }
    if (p->file_size > p->mem_size || p->offset > file->size ||
        p->file_size > file->size - p->offset) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "is truncated or corrupt: program header %u has %" PRIu64
                               " bytes at offset 0x%" PRIx64 " (%" PRIu64
                               " in memory), the file ends at 0x%" PRIx64,
                               index, p->file_size, p->offset, p->mem_size, file->size);
    }
    if (p->paddr >= X86_4GIB || p->mem_size > X86_4GIB - p->paddr) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "program header %u loads %" PRIu64 " bytes at 0x%" PRIx64
                               "; kernels are loaded below 4 GiB",
                               index, p->mem_size, p->paddr);
    }
    if (elf->count == BOOT_ELF_MAX_SEGMENTS) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file, "has more than %u segments to load",
                               BOOT_ELF_MAX_SEGMENTS);
    }
    elf->segments[elf->count++] = (BootElfSegment){
        .offset = p->offset, .file_size = p->file_size, .gpa = p->paddr, .mem_size = p->mem_size};
    return true;
}

static bool elf_take_program_header(const BootFile *file, const ElfProgramHeader *p, unsigned index,
                                    uint64_t entry, BootElf *elf, GError **error)
{
    if (p->type == PT_NOTE) {
        return elf_read_notes(file, p, elf, error);
    }
    if (p->type != PT_LOAD) {
        return true;
    }
    /* The header has the entry's virtual address; the entry runs without paging. */
    if (entry >= p->vaddr && entry - p->vaddr < p->mem_size) {
        elf->entry = entry - p->vaddr + p->paddr;
    }
    return elf_take_segment(file, p, index, elf, error);
}

bool boot_elf_parse(const BootFile *file, BootElf *elf, GError **error)
{
    uint8_t ident[EI_NIDENT];
    ElfHeader h;
    *elf = (BootElf){0};
    if (!boot_file_read(file, 0, ident, sizeof(ident), "the ELF header", error) ||
        !elf_check_ident(file, ident, error)) {
        return false;
    }
    elf->is_64 = ident[EI_CLASS] == ELFCLASS64;
    if (!elf_read_header(file, elf->is_64, &h, error)) {
        return false;
    }
    elf->entry = h.entry;
    uint64_t size = (uint64_t)h.phnum * h.phentsize;
    g_autofree uint8_t *raw = g_malloc(size);
    if (!boot_file_read(file, h.phoff, raw, size, "the program header table", error)) {
        return false;
    }
    for (unsigned i = 0; i < h.phnum; i++) {
        ElfProgramHeader p = elf_program_header(raw, elf->is_64, i);
        if (!elf_take_program_header(file, &p, i, h.entry, elf, error)) {
            return false;
        }
    }
    if (elf->count == 0) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                               "has no segment to load (PT_LOAD); give a linked kernel");
    }
    return true;
}

bool boot_elf_load(const BootFile *file, const BootElf *elf, BootSpace *space, GError **error)
{
    for (unsigned i = 0; i < elf->count; i++) {
        const BootElfSegment *s = &elf->segments[i];
        uint8_t *host = boot_space_take(space, s->gpa, s->mem_size);
        if (host == NULL) {
            return boot_file_error(
                error, BOOT_ERROR_NO_ROOM, file,
                "segment %u needs 0x%" PRIx64 "-0x%" PRIx64
                ", which overlaps another segment or is not free guest RAM (below 4 GiB that is "
                "0x1000-0x%" PRIx64 " and 0x100000-0x%" PRIx64 "); link it elsewhere or raise -m",
                i, s->gpa, s->gpa + s->mem_size - 1, X86_EBDA_BASE - 1,
                boot_space_low_end(space) - 1);
        }
        if (!boot_file_read(file, s->offset, host, s->file_size, "a segment", error)) {
            return false;
        }
        memset(host + s->file_size, 0, s->mem_size - s->file_size);
    }
    return true;
}
