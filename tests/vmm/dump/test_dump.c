/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a dump: the ELF file of an artificial RAM, and listed page tables. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <elf.h>
#include <string.h>
#include "vmm/arch/elf_note.h"
#include "vmm/dump/dump_elf.h"
#include "vmm/dump/dump_mappings.h"

#define LOW_SIZE ((uint64_t)2 << 20)
#define HIGH_SIZE ((uint64_t)1 << 20)
#define HIGH_GPA ((uint64_t)1 << 32)

typedef struct Bench {
    GuestRam ram;
    uint8_t *low, *high;
    GByteArray *notes;
    DumpElf *elf;
} Bench;

static int bench_setup(void **state)
{
    Bench *b = g_new0(Bench, 1);
    b->low = g_malloc0(LOW_SIZE);
    b->high = g_malloc0(HIGH_SIZE);
    guest_ram_add(&b->ram, &(RamBlock){.gpa = 0, .size = LOW_SIZE, .host = b->low, .fd = -1});
    guest_ram_add(&b->ram,
                  &(RamBlock){.gpa = HIGH_GPA, .size = HIGH_SIZE, .host = b->high, .fd = -1});
    b->notes = g_byte_array_new();
    *state = b;
    return 0;
}

static int bench_teardown(void **state)
{
    Bench *b = *state;
    dump_elf_free(b->elf);
    g_byte_array_unref(b->notes);
    g_free(b->low);
    g_free(b->high);
    g_free(b);
    return 0;
}

/* ---- reads the head, like readelf ---- */

static const Elf64_Ehdr *bench_header(const Bench *b)
{
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)b->elf->head->data;
    assert_memory_equal(h->e_ident, ELFMAG, SELFMAG);
    assert_int_equal(h->e_ident[EI_CLASS], ELFCLASS64);
    assert_int_equal(h->e_type, ET_CORE);
    assert_int_equal(h->e_machine, EM_X86_64);
    assert_int_equal(h->e_phentsize, sizeof(Elf64_Phdr));
    return h;
}

static unsigned bench_program_count(const Bench *b)
{
    const Elf64_Ehdr *h = bench_header(b);
    if (h->e_phnum != PN_XNUM) {
        return h->e_phnum;
    }
    assert_int_equal(h->e_shnum, 1);
    return ((const Elf64_Shdr *)(const void *)(b->elf->head->data + h->e_shoff))->sh_info;
}

static const Elf64_Phdr *bench_program(const Bench *b, unsigned index)
{
    const Elf64_Ehdr *h = bench_header(b);
    assert_true(index < bench_program_count(b));
    return (const Elf64_Phdr *)(const void *)(b->elf->head->data + h->e_phoff) + index;
}

static void bench_make(Bench *b, uint64_t begin, uint64_t length, const GArray *mappings)
{
    g_autoptr(GError) error = NULL;
    b->elf = dump_elf_new(&b->ram, begin, length, mappings, b->notes, &error);
    assert_null(error);
    assert_non_null(b->elf);
}

static void assert_load(const Bench *b, unsigned index, uint64_t gva, uint64_t gpa, uint64_t size,
                        uint64_t offset)
{
    const Elf64_Phdr *p = bench_program(b, index);
    assert_int_equal(p->p_type, PT_LOAD);
    assert_int_equal(p->p_vaddr, gva);
    assert_int_equal(p->p_paddr, gpa);
    assert_int_equal(p->p_filesz, size);
    assert_int_equal(p->p_memsz, size);
    assert_int_equal(p->p_offset, offset);
}

static void physical_memory_is_one_load_for_each_block(void **state)
{
    Bench *b = *state;
    bench_make(b, 0, 0, NULL);
    assert_int_equal(bench_program_count(b), 3);
    uint64_t first = b->elf->head->len;
    assert_int_equal(first % 4096, 0);
    assert_load(b, 1, 0, 0, LOW_SIZE, first);
    assert_load(b, 2, HIGH_GPA, HIGH_GPA, HIGH_SIZE, first + LOW_SIZE);
    assert_int_equal(b->elf->piece_count, 2);
    assert_ptr_equal(b->elf->pieces[1].host, b->high);
    assert_int_equal(b->elf->memory_size, LOW_SIZE + HIGH_SIZE);
    assert_int_equal(b->elf->file_size, first + LOW_SIZE + HIGH_SIZE);
}

static void notes_are_where_PT_NOTE_says_padded_to_words(void **state)
{
    Bench *b = *state;
    elf_note_append(b->notes, "CORE", 1, "abcde", 5);
    elf_note_append(b->notes, "QEMU", 0, "x", 1);
    assert_int_equal(b->notes->len, 12 + 8 + 8 + 12 + 8 + 4);
    bench_make(b, 0, 0, NULL);
    const Elf64_Phdr *p = bench_program(b, 0);
    assert_int_equal(p->p_type, PT_NOTE);
    assert_int_equal(p->p_filesz, b->notes->len);
    const uint8_t *at = b->elf->head->data + p->p_offset;
    Elf64_Nhdr note;
    memcpy(&note, at, sizeof(note));
    assert_int_equal(note.n_namesz, 5);
    assert_int_equal(note.n_descsz, 5);
    assert_int_equal(note.n_type, 1);
    assert_memory_equal(at + 12, "CORE\0\0\0\0abcde\0\0\0", 16);
    assert_memory_equal(at + 12 + 16 + 12, "QEMU\0\0\0\0x\0\0\0", 12);
}

static void a_range_selects_parts_of_blocks(void **state)
{
    Bench *b = *state;
    bench_make(b, LOW_SIZE - 4096, HIGH_GPA - LOW_SIZE + 8192, NULL);
    uint64_t first = b->elf->head->len;
    assert_load(b, 1, LOW_SIZE - 4096, LOW_SIZE - 4096, 4096, first);
    assert_load(b, 2, HIGH_GPA, HIGH_GPA, 4096, first + 4096);
    assert_ptr_equal(b->elf->pieces[0].host, b->low + LOW_SIZE - 4096);
}

static void a_range_that_wraps_extends_to_the_end(void **state)
{
    Bench *b = *state;
    bench_make(b, HIGH_GPA + 4096, UINT64_MAX, NULL);
    assert_int_equal(b->elf->memory_size, HIGH_SIZE - 4096);
}

static void a_range_without_RAM_is_an_error(void **state)
{
    Bench *b = *state;
    g_autoptr(GError) error = NULL;
    assert_false(dump_elf_has_ram(&b->ram, LOW_SIZE, 4096));
    assert_true(dump_elf_has_ram(&b->ram, LOW_SIZE, HIGH_GPA));
    assert_null(dump_elf_new(&b->ram, LOW_SIZE, 4096, NULL, b->notes, &error));
    assert_non_null(error);
}

static GArray *mappings_new(const DumpMapping *m, unsigned count)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(DumpMapping));
    g_array_append_vals(list, m, count);
    return list;
}

static void mappings_are_cut_to_RAM_and_may_share_it(void **state)
{
    Bench *b = *state;
    const DumpMapping m[] = {
        {.gva = 0x400000, .gpa = 0x1000, .size = 0x2000},
        {.gva = 0x800000, .gpa = LOW_SIZE - 0x1000, .size = 0x4000}, /* extends beyond RAM */
        {.gva = 0xa00000, .gpa = 0xfe000000, .size = 0x1000},        /* a device */
        {.gva = UINT64_C(0xffff888000000000), .gpa = 0, .size = HIGH_GPA + HIGH_SIZE},
        {.gva = UINT64_C(0xfffffffffffff000), .gpa = 0x1000, .size = 0x1000}, /* the last page */
    };
    g_autoptr(GArray) list = mappings_new(m, G_N_ELEMENTS(m));
    bench_make(b, 0, 0, list);
    uint64_t first = b->elf->head->len;
    assert_int_equal(bench_program_count(b), 1 + 5);
    assert_load(b, 1, 0x400000, 0x1000, 0x2000, first + 0x1000);
    assert_load(b, 2, 0x800000, LOW_SIZE - 0x1000, 0x1000, first + LOW_SIZE - 0x1000);
    assert_load(b, 3, UINT64_C(0xffff888000000000), 0, LOW_SIZE, first);
    assert_load(b, 4, UINT64_C(0xffff888100000000), HIGH_GPA, HIGH_SIZE, first + LOW_SIZE);
    assert_load(b, 5, UINT64_C(0xfffffffffffff000), 0x1000, 0x1000, first + 0x1000);
}

static void more_program_headers_than_16_bits_count_are_counted_in_a_section_header(void **state)
{
    Bench *b = *state;
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(DumpMapping));
    for (uint64_t i = 0; i < 70000; i++) {
        DumpMapping m = {.gva = i << 13, .gpa = i % 2 << 12, .size = 4096};
        g_array_append_val(list, m);
    }
    elf_note_append(b->notes, "CORE", 1, "abcd", 4);
    bench_make(b, 0, 0, list);
    assert_int_equal(bench_header(b)->e_phnum, PN_XNUM);
    assert_int_equal(bench_program_count(b), 70001);
    assert_int_equal(bench_program(b, 70000)->p_vaddr, UINT64_C(69999) << 13);
    const Elf64_Phdr *note = bench_program(b, 0);
    assert_memory_equal(b->elf->head->data + note->p_offset + 12, "CORE", 5);
}

static void too_many_mappings_are_an_error(void **state)
{
    Bench *b = *state;
    g_autoptr(GArray) list = g_array_new(FALSE, TRUE, sizeof(DumpMapping));
    g_array_set_size(list, DUMP_ELF_MAX_LOADS + 1);
    for (unsigned i = 0; i < list->len; i++) {
        g_array_index(list, DumpMapping, i) = (DumpMapping){.gva = (uint64_t)i << 12, .size = 4096};
    }
    g_autoptr(GError) error = NULL;
    assert_null(dump_elf_new(&b->ram, 0, 0, list, b->notes, &error));
    assert_non_null(error);
}

/* ---- page tables ---- */

#define PTE_P UINT64_C(0x1)
#define PTE_PS UINT64_C(0x80)
#define LONG_MODE                                                                                  \
    {                                                                                              \
        .cr0 = X86_CR0_PE | X86_CR0_PG, .cr3 = 0x1000, .cr4 = X86_CR4_PAE, .efer = X86_EFER_LMA    \
    }

static uint64_t *table_at(Bench *b, uint64_t gpa)
{
    return (uint64_t *)(void *)(b->low + gpa);
}

static void assert_mapping(const GArray *list, unsigned index, uint64_t gva, uint64_t gpa,
                           uint64_t size)
{
    assert_true(index < list->len);
    const DumpMapping *m = &g_array_index(list, DumpMapping, index);
    assert_int_equal(m->gva, gva);
    assert_int_equal(m->gpa, gpa);
    assert_int_equal(m->size, size);
}

static void pages_of_all_sizes_are_listed_and_neighbours_joined(void **state)
{
    Bench *b = *state;
    ArchPaging paging = LONG_MODE;
    table_at(b, 0x1000)[0] = 0x2000 | PTE_P;
    table_at(b, 0x1000)[511] = 0x3000 | PTE_P;
    table_at(b, 0x1000)[7] = UINT64_C(0xf00000000) | PTE_P; /* a table that is not in RAM */
    table_at(b, 0x2000)[1] = UINT64_C(0x40000000) | PTE_P | PTE_PS;
    table_at(b, 0x2000)[2] = 0x4000 | PTE_P;
    /* continues where the GiB ends */
    table_at(b, 0x4000)[0] = UINT64_C(0x80000000) | PTE_P | PTE_PS;
    table_at(b, 0x4000)[1] = 0x5000 | PTE_P;
    table_at(b, 0x5000)[3] = 0x10000 | PTE_P;
    table_at(b, 0x5000)[4] = 0x11000 | PTE_P | UINT64_C(1) << 63;
    table_at(b, 0x5000)[5] = 0x10000 | PTE_P;
    table_at(b, 0x3000)[511] = 0x1000 | PTE_P | PTE_PS; /* the very last GiB */
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) list = dump_mappings_new(&paging, 1, &b->ram, &error);
    assert_null(error);
    assert_int_equal(list->len, 4);
    assert_mapping(list, 0, 0x40000000, 0x40000000, 0x40200000);
    assert_mapping(list, 1, 0x80203000, 0x10000, 0x2000);
    assert_mapping(list, 2, 0x80205000, 0x10000, 0x1000);
    assert_mapping(list, 3, UINT64_C(0xffffffffc0000000), 0, 0x40000000);
}

static void tables_of_32_bits_are_listed(void **state)
{
    Bench *b = *state;
    ArchPaging paging = {.cr0 = X86_CR0_PE | X86_CR0_PG, .cr3 = 0x1000, .cr4 = X86_CR4_PSE};
    uint32_t *top = (uint32_t *)(void *)(b->low + 0x1000);
    uint32_t *bottom = (uint32_t *)(void *)(b->low + 0x2000);
    top[1] = 0x2000 | PTE_P;
    top[1023] = 0x00400000 | PTE_P | PTE_PS;
    bottom[1023] = 0x7000 | PTE_P;
    g_autoptr(GArray) list = dump_mappings_new(&paging, 1, &b->ram, NULL);
    assert_int_equal(list->len, 2);
    assert_mapping(list, 0, 0x7ff000, 0x7000, 0x1000);
    assert_mapping(list, 1, 0xffc00000, 0x400000, 0x400000);
    /* PAE: four entries at the top. */
    paging.cr4 = X86_CR4_PAE;
    paging.cr3 = 0x3020;
    table_at(b, 0x3020)[3] = 0x4000 | PTE_P;
    table_at(b, 0x3020)[4] = 0x4000 | PTE_P; /* not part of it */
    table_at(b, 0x4000)[511] = 0x200000 | PTE_P | PTE_PS;
    g_autoptr(GArray) pae = dump_mappings_new(&paging, 1, &b->ram, NULL);
    assert_int_equal(pae->len, 1);
    assert_mapping(pae, 0, 0xffe00000, 0x200000, 0x200000);
}

static void of_several_vcpus_the_first_ones_mapping_counts(void **state)
{
    Bench *b = *state;
    ArchPaging paging[] = {LONG_MODE, LONG_MODE, LONG_MODE};
    paging[1].cr3 = 0x8000;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t root = i == 0 ? 0x1000 : 0x8000;
        table_at(b, root)[0] = (root + 0x1000) | PTE_P;
        table_at(b, root + 0x1000)[0] = (root + 0x2000) | PTE_P;
        table_at(b, root + 0x2000)[0] = (root + 0x3000) | PTE_P;
    }
    table_at(b, 0x4000)[1] = 0x21000 | PTE_P; /* [0x1000, 0x2000) of the first */
    table_at(b, 0x4000)[3] = 0x23000 | PTE_P;
    for (unsigned i = 0; i < 5; i++) { /* [0, 0x5000) of the second, one mapping */
        table_at(b, 0xb000)[i] = (0x30000 + i * 0x1000) | PTE_P;
    }
    g_autoptr(GArray) list = dump_mappings_new(paging, 3, &b->ram, NULL);
    assert_int_equal(list->len, 5);
    assert_mapping(list, 0, 0, 0x30000, 0x1000);
    assert_mapping(list, 1, 0x1000, 0x21000, 0x1000);
    assert_mapping(list, 2, 0x2000, 0x32000, 0x1000);
    assert_mapping(list, 3, 0x3000, 0x23000, 0x1000);
    assert_mapping(list, 4, 0x4000, 0x34000, 0x1000);
}

static void tables_that_contain_themselves_are_an_error_in_bounded_time(void **state)
{
    Bench *b = *state;
    ArchPaging paging = LONG_MODE;
    for (unsigned i = 0; i < 512; i++) {
        table_at(b, 0x1000)[i] = 0x1000 | PTE_P;
    }
    g_autoptr(GError) error = NULL;
    assert_null(dump_mappings_new(&paging, 1, &b->ram, &error));
    assert_non_null(error);
}

static void a_table_that_maps_itself_once_is_accepted(void **state)
{
    Bench *b = *state;
    ArchPaging paging = LONG_MODE;
    table_at(b, 0x1000)[510] = 0x1000 | PTE_P;
    g_autoptr(GArray) list = dump_mappings_new(&paging, 1, &b->ram, NULL);
    assert_int_equal(list->len, 1); /* the table itself, where all indices are 510 */
    assert_mapping(list, 0, UINT64_C(0xffffff7fbfdfe000), 0x1000, 0x1000);
}

static void garbage_tables_do_no_harm(void **state)
{
    Bench *b = *state;
    GRand *rand = g_rand_new_with_seed(1);
    for (unsigned round = 0; round < 30; round++) {
        for (unsigned i = 0; i < 64; i++) {
            uint64_t entry = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
            table_at(b, 0x1000)[g_rand_int_range(rand, 0, 4096)] =
                g_rand_boolean(rand) ? entry : (entry & 0x7000) | PTE_P;
        }
        ArchPaging paging = LONG_MODE;
        paging.cr4 |= g_rand_boolean(rand) ? X86_CR4_LA57 : 0;
        paging.efer = g_rand_boolean(rand) ? X86_EFER_LMA : 0;
        paging.cr3 = g_rand_boolean(rand) ? 0x1000 : g_rand_int(rand);
        g_autoptr(GError) error = NULL;
        g_autoptr(GArray) list = dump_mappings_new(&paging, 1, &b->ram, &error);
        if (list != NULL) {
            DumpElf *elf = dump_elf_new(&b->ram, 0, 0, list, b->notes, &error);
            dump_elf_free(elf);
        }
    }
    g_rand_free(rand);
}

/* ---- VMCOREINFO ---- */

static void put_vmcoreinfo(uint8_t *page, const char *text, uint32_t size)
{
    Elf64_Nhdr header = {.n_namesz = 11, .n_descsz = size, .n_type = 0};
    memcpy(page, &header, sizeof(header));
    memcpy(page + 12, "VMCOREINFO\0", 12);
    memcpy(page + 24, text, strlen(text));
}

static void vmcoreinfo_is_found_if_there_is_one(void **state)
{
    Bench *b = *state;
    dump_add_vmcoreinfo(b->notes, &b->ram);
    assert_int_equal(b->notes->len, 0);
    put_vmcoreinfo(b->high + 0x3000, "OSRELEASE=6.1\nKERNELOFFSET=0\n", 29);
    /* not at the start of a page */
    put_vmcoreinfo(b->high + 0x3800, "OSRELEASE=6.2\nKERNELOFFSET=0\n", 29);
    put_vmcoreinfo(b->low + 0x3000, "OSRELEASE=6.1\n", 1 << 20); /* too long */
    /* extends beyond RAM */
    put_vmcoreinfo(b->low + LOW_SIZE - 0x1000, "OSRELEASE=6.1\n", 4090);
    dump_add_vmcoreinfo(b->notes, &b->ram);
    assert_int_equal(b->notes->len, 12 + 12 + 32);
    assert_memory_equal(b->notes->data + 12, "VMCOREINFO\0\0OSRELEASE=6.1\n", 26);
}

static void the_note_that_the_guest_announces_is_added(void **state)
{
    Bench *b = *state;
    put_vmcoreinfo(b->low + 0x3004, "OSRELEASE=6.1\n", 14);
    const uint32_t size = 12 + 12 + 14;
    assert_true(dump_add_guest_note(b->notes, &b->ram, 0x3004, size));
    assert_int_equal(b->notes->len, size + 2); /* padded */
    assert_memory_equal(b->notes->data, b->low + 0x3004, size);
    assert_memory_equal(b->notes->data + size, "\0\0", 2);
    g_byte_array_set_size(b->notes, 0);
    assert_true(
        dump_add_guest_note(b->notes, &b->ram, 0x3004, 4096)); /* the rest is not the note */
    assert_int_equal(b->notes->len, size + 2);
    g_byte_array_set_size(b->notes, 0);
    assert_false(dump_add_guest_note(b->notes, &b->ram, 0x3004, size - 1));
    assert_false(dump_add_guest_note(b->notes, &b->ram, 0x3004, 11));
    assert_false(dump_add_guest_note(b->notes, &b->ram, 0x3004, 0));
    assert_false(dump_add_guest_note(b->notes, &b->ram, UINT64_MAX - 3, size));
    assert_false(dump_add_guest_note(b->notes, &b->ram, 0x8000, size)); /* zeros: no name */
    memset(b->low + 0x3004, 0xff, 8); /* lengths that add up to more than 32 bits */
    assert_false(dump_add_guest_note(b->notes, &b->ram, 0x3004, 4096));
    assert_int_equal(b->notes->len, 0);
}

static void two_vmcoreinfos_are_ignored(void **state)
{
    Bench *b = *state;
    put_vmcoreinfo(b->low + 0x3000, "OSRELEASE=6.1\n", 14);
    put_vmcoreinfo(b->high + 0x3000, "OSRELEASE=6.1\n", 14);
    dump_add_vmcoreinfo(b->notes, &b->ram);
    assert_int_equal(b->notes->len, 0);
}

#define BENCH_TEST(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(physical_memory_is_one_load_for_each_block),
        BENCH_TEST(notes_are_where_PT_NOTE_says_padded_to_words),
        BENCH_TEST(a_range_selects_parts_of_blocks),
        BENCH_TEST(a_range_that_wraps_extends_to_the_end),
        BENCH_TEST(a_range_without_RAM_is_an_error),
        BENCH_TEST(mappings_are_cut_to_RAM_and_may_share_it),
        BENCH_TEST(more_program_headers_than_16_bits_count_are_counted_in_a_section_header),
        BENCH_TEST(too_many_mappings_are_an_error),
        BENCH_TEST(pages_of_all_sizes_are_listed_and_neighbours_joined),
        BENCH_TEST(tables_of_32_bits_are_listed),
        BENCH_TEST(of_several_vcpus_the_first_ones_mapping_counts),
        BENCH_TEST(tables_that_contain_themselves_are_an_error_in_bounded_time),
        BENCH_TEST(a_table_that_maps_itself_once_is_accepted),
        BENCH_TEST(garbage_tables_do_no_harm),
        BENCH_TEST(vmcoreinfo_is_found_if_there_is_one),
        BENCH_TEST(the_note_that_the_guest_announces_is_added),
        BENCH_TEST(two_vmcoreinfos_are_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
