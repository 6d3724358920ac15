/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dump/dump_mappings.h"

#include <elf.h>
#include <string.h>
#include "vmm/arch/elf_note.h"

/* ---- page tables ---- */

static uint64_t mapping_last(const DumpMapping *m)
{
    return m->gva + (m->size - 1);
}

/* Appends @m; its address is above all in the list. False when the list is full. */
static bool dump_mappings_add(GArray *list, const DumpMapping *m)
{
    if (list->len > 0) {
        DumpMapping *previous = &g_array_index(list, DumpMapping, list->len - 1);
        if (previous->gva + previous->size == m->gva && previous->gpa + previous->size == m->gpa) {
            previous->size += m->size;
            return true;
        }
    }
    if (list->len == DUMP_ELF_MAX_LOADS) {
        return false;
    }
    g_array_append_vals(list, m, 1);
    return true;
}

static bool dump_mappings_collect(void *opaque, uint64_t gva, uint64_t gpa, uint64_t size)
{
    return dump_mappings_add(opaque, &(DumpMapping){.gva = gva, .gpa = gpa, .size = size});
}

/* Appends to @out the parts of @m that no entry of @list from @at on covers; *@at advances to the
 * first entry that overlaps @m or is above it. */
static bool dump_mappings_add_uncovered(GArray *out, const GArray *list, unsigned *at,
                                        DumpMapping m)
{
    while (*at < list->len && mapping_last(&g_array_index(list, DumpMapping, *at)) < m.gva) {
        ++*at;
    }
    for (unsigned i = *at; i < list->len && m.size > 0; i++) {
        const DumpMapping *cover = &g_array_index(list, DumpMapping, i);
        if (cover->gva > mapping_last(&m)) {
            break;
        }
        if (cover->gva > m.gva) {
            DumpMapping front = {.gva = m.gva, .gpa = m.gpa, .size = cover->gva - m.gva};
            if (!dump_mappings_add(out, &front)) {
                return false;
            }
        }
        uint64_t covered = mapping_last(cover) - m.gva; /* less one, to avoid an overflow */
        if (covered >= m.size - 1) {
            m.size = 0;
        } else {
            m = (DumpMapping){.gva = m.gva + covered + 1,
                              .gpa = m.gpa + covered + 1,
                              .size = m.size - covered - 1};
        }
    }
    return m.size == 0 || dump_mappings_add(out, &m);
}

static int dump_mappings_compare(const void *a, const void *b)
{
    uint64_t x = ((const DumpMapping *)a)->gva, y = ((const DumpMapping *)b)->gva;
    return x < y ? -1 : x > y;
}

/* Adds to @list the mappings of @other that it lacks. */
static bool dump_mappings_unite(GArray *list, const GArray *other)
{
    g_autoptr(GArray) more = g_array_new(FALSE, FALSE, sizeof(DumpMapping));
    unsigned at = 0;
    for (unsigned i = 0; i < other->len; i++) {
        if (!dump_mappings_add_uncovered(more, list, &at, g_array_index(other, DumpMapping, i))) {
            return false;
        }
    }
    if (list->len + more->len > DUMP_ELF_MAX_LOADS) {
        return false;
    }
    g_array_append_vals(list, more->data, more->len);
    g_array_sort(list, dump_mappings_compare);
    return true;
}

static bool dump_paging_is_listed(const ArchPaging *paging, unsigned index)
{
    for (unsigned i = 0; i < index; i++) {
        if (memcmp(&paging[i], &paging[index], sizeof(*paging)) == 0) {
            return true;
        }
    }
    return false;
}

GArray *dump_mappings_new(const ArchPaging *paging, unsigned count, const GuestRam *ram,
                          GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(DumpMapping));
    uint64_t tables_left = DUMP_MAX_TABLES;
    bool ok = true;
    for (unsigned i = 0; i < count && ok; i++) {
        if (!dump_paging_is_listed(paging, i)) {
            g_autoptr(GArray) own = g_array_new(FALSE, FALSE, sizeof(DumpMapping));
            ok = arch_list_mappings(&paging[i], ram, &tables_left, dump_mappings_collect, own) &&
                 dump_mappings_unite(list, own);
        }
    }
    if (!ok) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "the guest has too many page tables or mappings for a dump with paging; "
                    "a dump without paging does not use them");
        return NULL;
    }
    return list->len > 0 ? g_steal_pointer(&list) : NULL;
}

/* ---- VMCOREINFO ---- */

#define VMCOREINFO_NAME "VMCOREINFO"
#define VMCOREINFO_BEGIN "OSRELEASE="
#define VMCOREINFO_MAX 4096u /* VMCOREINFO_BYTES */
#define VMCOREINFO_PAGE 4096u
#define NOTE_ALIGN 4

typedef struct VmcoreinfoHead {
    Elf64_Nhdr header;
    char name[12]; /* padded to 4 bytes */
    char text[sizeof(VMCOREINFO_BEGIN) - 1];
} VmcoreinfoHead;

static bool dump_is_vmcoreinfo(const uint8_t *page, uint64_t size)
{
    VmcoreinfoHead head;
    if (size < sizeof(head)) {
        return false;
    }
    memcpy(&head, page, sizeof(head));
    return head.header.n_namesz == sizeof(VMCOREINFO_NAME) && head.header.n_type == 0 &&
           head.header.n_descsz >= sizeof(head.text) && head.header.n_descsz <= VMCOREINFO_MAX &&
           memcmp(head.name, VMCOREINFO_NAME, sizeof(VMCOREINFO_NAME)) == 0 &&
           memcmp(head.text, VMCOREINFO_BEGIN, sizeof(head.text)) == 0 &&
           head.header.n_descsz <= size - offsetof(VmcoreinfoHead, text);
}

bool dump_add_guest_note(GByteArray *notes, const GuestRam *ram, uint64_t gpa, uint32_t size)
{
    Elf64_Nhdr header;
    g_autofree uint8_t *note = g_malloc0((gsize)size + NOTE_ALIGN);
    if (size < sizeof(header) || !guest_ram_read(ram, gpa, note, size)) {
        return false;
    }
    memcpy(&header, note, sizeof(header));
    uint64_t name = ((uint64_t)header.n_namesz + NOTE_ALIGN - 1) / NOTE_ALIGN * NOTE_ALIGN;
    uint64_t total = sizeof(header) + name + header.n_descsz;
    if (header.n_namesz == 0 || total > size) {
        return false;
    }
    g_byte_array_append(notes, note, (guint)total);
    g_byte_array_append(notes, note + size, -(guint)total % NOTE_ALIGN); /* zeros */
    return true;
}

void dump_add_vmcoreinfo(GByteArray *notes, const GuestRam *ram)
{
    const uint8_t *found = NULL;
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        for (uint64_t at = -b->gpa & (VMCOREINFO_PAGE - 1); at < b->size; at += VMCOREINFO_PAGE) {
            if (!dump_is_vmcoreinfo(b->host + at, b->size - at)) {
                continue;
            }
            if (found != NULL) {
                return;
            }
            found = b->host + at;
        }
    }
    if (found != NULL) {
        Elf64_Nhdr header;
        memcpy(&header, found, sizeof(header));
        elf_note_append(notes, VMCOREINFO_NAME, 0, found + offsetof(VmcoreinfoHead, text),
                        header.n_descsz);
    }
}
