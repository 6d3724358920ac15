/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/boot_images.h"

#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

#define TEST_RAM_GUARD (64 * X86_KIB) /* catches writes beyond RAM */

void test_ram_init(TestRam *t, uint64_t size)
{
    X86Layout layout;
    *t = (TestRam){.size = size};
    g_assert(x86_layout_compute(size, 40, &layout, NULL));
    uint8_t *map = mmap(NULL, size + 2 * TEST_RAM_GUARD, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert(map != MAP_FAILED);
    t->host = map + TEST_RAM_GUARD;
    g_assert(mprotect(t->host, size, PROT_READ | PROT_WRITE) == 0);
    for (unsigned i = 0; i < layout.ram_count; i++) {
        const RamBlock block = {.gpa = layout.ram[i].gpa,
                                .size = layout.ram[i].size,
                                .host = t->host + layout.ram[i].offset,
                                .fd = -1,
                                .name = "ram"};
        guest_ram_add(&t->ram, &block);
    }
}

void test_ram_clear(TestRam *t)
{
    munmap(t->host - TEST_RAM_GUARD, t->size + 2 * TEST_RAM_GUARD);
    t->host = NULL;
}

void image_poke(GByteArray *image, size_t offset, const void *value, size_t size)
{
    g_assert(offset + size <= image->len);
    memcpy(image->data + offset, value, size);
}

static GByteArray *image_new(size_t size)
{
    GByteArray *image = g_byte_array_new();
    g_byte_array_set_size(image, (guint)size);
    memset(image->data, 0, size);
    return image;
}

static void image_fill_pattern(GByteArray *image, size_t offset, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        image->data[offset + i] = image_pattern(i);
    }
}

GByteArray *image_new_bzimage(void)
{
    GByteArray *image = image_new(TEST_BZIMAGE_PAYLOAD + TEST_BZIMAGE_SIZE);
    struct setup_header h = {
        .setup_sects = TEST_BZIMAGE_PAYLOAD / 512 - 1,
        .syssize = TEST_BZIMAGE_SIZE / 16,
        .boot_flag = 0xaa55,
        .jump = 0x66eb, /* to 0x268 */
        .header = 0x53726448,
        .version = 0x20f,
        .loadflags = LOADED_HIGH | CAN_USE_HEAP,
        .code32_start = 0x100000,
        .initrd_addr_max = 0x7fffffff,
        .kernel_alignment = 0x200000,
        .relocatable_kernel = 1,
        .min_alignment = 21,
        .xloadflags = XLF_KERNEL_64,
        .cmdline_size = 2047,
        .setup_data = 0xdeadbeef,
        .pref_address = TEST_BZIMAGE_GPA,
        .init_size = 0x100000,
    };
    image_poke(image, 0x1f1, &h, sizeof(h));
    image_fill_pattern(image, TEST_BZIMAGE_PAYLOAD, TEST_BZIMAGE_SIZE);
    return image;
}

/* Appends a note at @at; returns the offset for the next one. */
static size_t image_put_note(GByteArray *image, size_t at, const char *name, uint32_t type,
                             const void *desc, uint32_t desc_size)
{
    Elf64_Nhdr n = {.n_namesz = (uint32_t)strlen(name) + 1, .n_descsz = desc_size, .n_type = type};
    image_poke(image, at, &n, sizeof(n));
    image_poke(image, at + sizeof(n), name, n.n_namesz);
    at += sizeof(n) + ((n.n_namesz + 3) & ~3u);
    image_poke(image, at, desc, desc_size);
    return at + ((desc_size + 3) & ~3u);
}

#define NOTE_OFFSET 0x400
#define NOTE_SIZE 0x80

static void image_put_notes(GByteArray *image, uint32_t pvh_entry, bool is_linux)
{
    const uint32_t salt = 0;
    size_t at = NOTE_OFFSET;
    if (is_linux) {
        at = image_put_note(image, at, "Linux", 0x100, &salt, sizeof(salt));
    }
    if (pvh_entry != 0) {
        at = image_put_note(image, at, "Xen", 18, &pvh_entry, sizeof(pvh_entry));
    }
    const uint8_t filler[NOTE_SIZE] = {0};
    image_put_note(image, at, "x", 0, filler, (uint32_t)(NOTE_OFFSET + NOTE_SIZE - at - 16));
}

GByteArray *image_new_elf64(uint32_t pvh_entry, bool is_linux)
{
    GByteArray *image = image_new(TEST_ELF_DATA_OFFSET + TEST_ELF_DATA);
    Elf64_Ehdr e = {.e_type = ET_EXEC,
                    .e_machine = EM_X86_64,
                    .e_version = EV_CURRENT,
                    .e_entry = TEST_ELF_VADDR + 0x10,
                    .e_phoff = sizeof(e),
                    .e_ehsize = sizeof(e),
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = 2};
    memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_ident[EI_DATA] = ELFDATA2LSB;
    e.e_ident[EI_VERSION] = EV_CURRENT;
    const Elf64_Phdr p[2] = {
        {.p_type = PT_NOTE, .p_offset = NOTE_OFFSET, .p_filesz = NOTE_SIZE, .p_align = 4},
        {.p_type = PT_LOAD,
         .p_flags = PF_R | PF_X,
         .p_offset = TEST_ELF_DATA_OFFSET,
         .p_vaddr = TEST_ELF_VADDR,
         .p_paddr = TEST_ELF_GPA,
         .p_filesz = TEST_ELF_DATA,
         .p_memsz = 2 * TEST_ELF_DATA},
    };
    image_poke(image, 0, &e, sizeof(e));
    image_poke(image, sizeof(e), p, sizeof(p));
    image_put_notes(image, pvh_entry, is_linux);
    image_fill_pattern(image, TEST_ELF_DATA_OFFSET, TEST_ELF_DATA);
    return image;
}

GByteArray *image_new_elf32(uint32_t pvh_entry)
{
    GByteArray *image = image_new(TEST_ELF_DATA_OFFSET + TEST_ELF_DATA);
    Elf32_Ehdr e = {.e_type = ET_EXEC,
                    .e_machine = EM_386,
                    .e_version = EV_CURRENT,
                    .e_entry = TEST_ELF_GPA + 0x10,
                    .e_phoff = sizeof(e),
                    .e_ehsize = sizeof(e),
                    .e_phentsize = sizeof(Elf32_Phdr),
                    .e_phnum = 2};
    memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS32;
    e.e_ident[EI_DATA] = ELFDATA2LSB;
    e.e_ident[EI_VERSION] = EV_CURRENT;
    const Elf32_Phdr p[2] = {
        {.p_type = PT_NOTE, .p_offset = NOTE_OFFSET, .p_filesz = NOTE_SIZE, .p_align = 4},
        {.p_type = PT_LOAD,
         .p_flags = PF_R | PF_X,
         .p_offset = TEST_ELF_DATA_OFFSET,
         .p_vaddr = TEST_ELF_GPA,
         .p_paddr = TEST_ELF_GPA,
         .p_filesz = TEST_ELF_DATA,
         .p_memsz = 2 * TEST_ELF_DATA},
    };
    image_poke(image, 0, &e, sizeof(e));
    image_poke(image, sizeof(e), p, sizeof(p));
    image_put_notes(image, pvh_entry, false);
    image_fill_pattern(image, TEST_ELF_DATA_OFFSET, TEST_ELF_DATA);
    return image;
}

void image_put_multiboot(GByteArray *image, size_t offset, uint32_t flags)
{
    const uint32_t header[3] = {0x1badb002, flags, 0u - 0x1badb002 - flags};
    image_poke(image, offset, header, sizeof(header));
}

char *image_write(const uint8_t *data, size_t size)
{
    char *path = NULL;
    int fd = g_file_open_tmp("skiff-image-XXXXXX", &path, NULL);
    g_assert(fd >= 0);
    g_assert(write(fd, data, size) == (ssize_t)size);
    close(fd);
    return path;
}

char *image_write_array(const GByteArray *image)
{
    return image_write(image->data, image->len);
}

void image_unlink(char *path)
{
    unlink(path);
    g_free(path);
}

bool image_boot(const BootRequest *request, TestRam *ram, BootState *state, GError **error)
{
    const BootTables tables = {.rsdp_gpa = X86_ACPI_BASE};
    g_autoptr(BootImage) image = boot_open(request, error);
    return image != NULL && boot_load(image, &ram->ram, &tables, state, error);
}
