/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/x86_64/page_walk.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/arch.h"

#define X86_PTE_PRESENT (UINT64_C(1) << 0)
#define X86_PTE_WRITABLE (UINT64_C(1) << 1)
#define X86_PTE_USER (UINT64_C(1) << 2)
#define X86_PTE_LARGE (UINT64_C(1) << 7)
#define X86_PTE_NX (UINT64_C(1) << 63)
#define X86_PTE_ADDRESS UINT64_C(0x000ffffffffff000)

#define X86_PAGE_SHIFT 12

/* A paging mode: its tables from the root down to the level whose entries map pages. */
typedef struct X86WalkMode {
    unsigned levels;
    unsigned entry_bytes;
    unsigned index_bits;
    unsigned large_levels;   /* number of levels above the last whose entries may map large pages */
    unsigned linear_bits;    /* higher address bits must be zeroes, or a sign extension */
    uint64_t root_mask;      /* of CR3 */
    bool root_has_no_rights; /* PAE: the four top entries carry no R/W, U/S and NX */
} X86WalkMode;

static X86WalkMode x86_walk_mode(const ArchPaging *paging)
{
    if ((paging->efer & X86_EFER_LMA) != 0) {
        bool five = (paging->cr4 & X86_CR4_LA57) != 0;
        return (X86WalkMode){.levels = five ? 5 : 4,
                             .entry_bytes = 8,
                             .index_bits = 9,
                             .large_levels = 2,
                             .linear_bits = five ? 57 : 48,
                             .root_mask = X86_PTE_ADDRESS};
    }
    if ((paging->cr4 & X86_CR4_PAE) != 0) {
        return (X86WalkMode){.levels = 3,
                             .entry_bytes = 8,
                             .index_bits = 9,
                             .large_levels = 1,
                             .linear_bits = 32,
                             .root_mask = UINT64_C(0xffffffe0),
                             .root_has_no_rights = true};
    }
    return (X86WalkMode){.levels = 2,
                         .entry_bytes = 4,
                         .index_bits = 10,
                         .large_levels = (paging->cr4 & X86_CR4_PSE) != 0 ? 1 : 0,
                         .linear_bits = 32,
                         .root_mask = UINT64_C(0xfffff000)};
}

static bool x86_address_is_valid(const X86WalkMode *mode, uint64_t gva)
{
    if (mode->linear_bits == 32) {
        return gva >> 32 == 0;
    }
    unsigned unused = 64 - mode->linear_bits;
    return (uint64_t)((int64_t)(gva << unused) >> unused) == gva;
}

static bool x86_walk_fail(GError **error, uint64_t gva, const char *why)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAULT, "address %#" PRIx64 " %s", gva, why);
    return false;
}

/* The address of a large page of 32-bit tables: bits 20:13 are bits 39:32 of the address
 * (PSE-36). */
static uint64_t x86_large_page_32(uint64_t entry)
{
    return (entry & UINT64_C(0xffc00000)) | ((entry >> 13 & 0xff) << 32);
}

/* The physical address that @entry maps; its page has 1 << @shift bytes. */
static uint64_t x86_page_gpa(const X86WalkMode *mode, uint64_t entry, bool large, unsigned shift)
{
    return large && mode->entry_bytes == 4
               ? x86_large_page_32(entry)
               : entry & X86_PTE_ADDRESS & ~((UINT64_C(1) << shift) - 1);
}

bool arch_translate(const ArchPaging *paging, const GuestRam *ram, uint64_t gva, ArchTranslation *t,
                    GError **error)
{
    X86WalkMode mode = x86_walk_mode(paging);
    if (!x86_address_is_valid(&mode, gva)) {
        return x86_walk_fail(error, gva, "is not canonical");
    }
    *t = (ArchTranslation){.writable = true, .user = true, .executable = true};
    if ((paging->cr0 & X86_CR0_PG) == 0) {
        t->gpa = gva;
        t->page_size = UINT64_C(1) << X86_PAGE_SHIFT;
        return true;
    }
    uint64_t table = paging->cr3 & mode.root_mask;
    for (unsigned level = mode.levels; level-- > 0;) { /* 0: maps pages of 4 KiB */
        unsigned shift = X86_PAGE_SHIFT + level * mode.index_bits;
        uint64_t index = gva >> shift & ((UINT64_C(1) << mode.index_bits) - 1);
        uint64_t entry = 0;
        if (!guest_ram_read(ram, table + index * mode.entry_bytes, &entry, mode.entry_bytes)) {
            return x86_walk_fail(error, gva, "is mapped by a page table that is not in RAM");
        }
        if ((entry & X86_PTE_PRESENT) == 0) {
            return x86_walk_fail(error, gva, "is not mapped");
        }
        if (!mode.root_has_no_rights || level != mode.levels - 1) {
            t->writable &= (entry & X86_PTE_WRITABLE) != 0;
            t->user &= (entry & X86_PTE_USER) != 0;
            t->executable &= (entry & X86_PTE_NX) == 0 || (paging->efer & X86_EFER_NXE) == 0;
        }
        bool large = level > 0 && level <= mode.large_levels && (entry & X86_PTE_LARGE) != 0;
        if (level == 0 || large) {
            uint64_t offset_mask = (UINT64_C(1) << shift) - 1;
            t->gpa = x86_page_gpa(&mode, entry, large, shift) | (gva & offset_mask);
            t->page_size = offset_mask + 1;
            return true;
        }
        table = entry & X86_PTE_ADDRESS;
    }
    return x86_walk_fail(error, gva, "is not mapped"); /* not reached: level 0 returns */
}

/* ---- all mappings ---- */

typedef struct X86List {
    X86WalkMode mode;
    const GuestRam *ram;
    uint64_t *tables_left;
    ArchMappingFn *fn;
    void *opaque;
} X86List;

static uint64_t x86_sign_extend(const X86WalkMode *mode, uint64_t gva)
{
    unsigned unused = 64 - mode->linear_bits;
    return mode->linear_bits == 32 ? gva : (uint64_t)((int64_t)(gva << unused) >> unused);
}

/* Lists the table at @table, whose entries of @level start at @gva. The recursion is at most @level
 * deep. */
static bool x86_list_table(X86List *l, uint64_t table, unsigned level, uint64_t gva)
{
    const X86WalkMode *mode = &l->mode;
    unsigned shift = X86_PAGE_SHIFT + level * mode->index_bits;
    unsigned count = 1u << MIN(mode->index_bits, mode->linear_bits - shift);
    const uint8_t *entries =
        guest_ram_map(l->ram, table, (uint64_t)count * mode->entry_bytes, false);
    if (entries == NULL) {
        return true; /* maps nothing */
    }
    if (*l->tables_left == 0) {
        return false;
    }
    --*l->tables_left;
    for (unsigned i = 0; i < count; i++) {
        uint64_t entry = 0;
        memcpy(&entry, entries + i * mode->entry_bytes, mode->entry_bytes);
        if ((entry & X86_PTE_PRESENT) == 0) {
            continue;
        }
        uint64_t at = gva | (uint64_t)i << shift;
        bool large = level > 0 && level <= mode->large_levels && (entry & X86_PTE_LARGE) != 0;
        bool more = true;
        if (level == 0 || large) {
            more = l->fn(l->opaque, x86_sign_extend(mode, at),
                         x86_page_gpa(mode, entry, large, shift), UINT64_C(1) << shift);
        } else {
            more = x86_list_table(l, entry & X86_PTE_ADDRESS, level - 1, at);
        }
        if (!more) {
            return false;
        }
    }
    return true;
}

bool arch_list_mappings(const ArchPaging *paging, const GuestRam *ram, uint64_t *tables_left,
                        ArchMappingFn *fn, void *opaque)
{
    if ((paging->cr0 & X86_CR0_PG) == 0) {
        return true;
    }
    X86List l = {.mode = x86_walk_mode(paging),
                 .ram = ram,
                 .tables_left = tables_left,
                 .fn = fn,
                 .opaque = opaque};
    return x86_list_table(&l, paging->cr3 & l.mode.root_mask, l.mode.levels - 1, 0);
}

void arch_vcpu_get_paging(int vcpu_fd, ArchPaging *paging)
{
    struct kvm_sregs sregs = {0}; /* does not fail; zeroes would mean no paging */
    ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);
    *paging =
        (ArchPaging){.cr0 = sregs.cr0, .cr3 = sregs.cr3, .cr4 = sregs.cr4, .efer = sregs.efer};
}
