/* SPDX-License-Identifier: Apache-2.0 */
/* Detects the kind of a direct boot's files by their content, and calls the loader for it. */
#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

#define BOOT_LINUX_CMDLINE "console=ttyS0"
#define BOOT_LINUX_CMDLINE_MAX 2047 /* COMMAND_LINE_SIZE of x86, without the NUL */

/* ---- files that do not boot ---- */

typedef struct BootForeignKind {
    uint32_t offset;
    const char *magic;
    uint32_t magic_len;
    const char *advice;
} BootForeignKind;

static const BootForeignKind boot_foreign_kinds[] = {
    {0x38, "ARM\x64", 4, "is a Linux Image for arm64; this machine is x86_64, give a bzImage"},
    {0x38, "RSC\x05", 4, "is a Linux Image for RISC-V; this machine is x86_64, give a bzImage"},
    {0, "\x1f\x8b", 2, "is gzip-compressed; unpack it (gunzip) or give a bzImage"},
    {0, "\x28\xb5\x2f\xfd", 4, "is zstd-compressed; unpack it (unzstd) or give a bzImage"},
    {0,
     "\xfd"
     "7zXZ",
     5, "is xz-compressed; unpack it (unxz) or give a bzImage"},
    {0, "070701", 6, "is a cpio archive; give it with -initrd"},
    {0, "QFI\xfb", 4, "is a qcow2 disk image; give it with -drive, and a kernel here"},
    {0, "MZ", 2, "is an EFI application without a Linux boot header; it needs firmware"},
    {510, "\x55\xaa", 2,
     "has a boot sector but no Linux boot header: a disk image is given with "
     "-drive, and a kernel here"},
};

static bool boot_refuse_foreign(const BootFile *file, const uint8_t *head, uint64_t len,
                                GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(boot_foreign_kinds); i++) {
        const BootForeignKind *k = &boot_foreign_kinds[i];
        if (len >= k->offset + k->magic_len &&
            memcmp(head + k->offset, k->magic, k->magic_len) == 0) {
            return boot_file_error(error, BOOT_ERROR_FORMAT, file, "%s", k->advice);
        }
    }
    return boot_file_error(error, BOOT_ERROR_FORMAT, file,
                           "is no kernel skiff can boot: neither a bzImage (HdrS at 0x202), nor "
                           "ELF, nor a Multiboot header in the first 8 KiB");
}

/* ---- detection ---- */

static bool boot_elf_has(const BootElf *elf, uint64_t gpa)
{
    for (unsigned i = 0; i < elf->count; i++) {
        if (gpa >= elf->segments[i].gpa && gpa - elf->segments[i].gpa < elf->segments[i].mem_size) {
            return true;
        }
    }
    return false;
}

static bool boot_check_entry(const BootImage *image, const char *kind, uint64_t entry,
                             GError **error)
{
    return boot_elf_has(&image->elf, entry) ||
           boot_file_error(error, BOOT_ERROR_FORMAT, &image->kernel,
                           "is corrupt: its %s entry 0x%" PRIx64 " is in no loaded segment", kind,
                           entry);
}

static bool boot_detect_multiboot(BootImage *image, const uint8_t *head, uint64_t len, bool is_elf,
                                  GError **error)
{
    image->kind = BOOT_KIND_MULTIBOOT;
    if (!boot_multiboot_check(&image->kernel, head, len, &image->multiboot, error)) {
        return false;
    }
    if (image->multiboot.has_addresses) {
        return true;
    }
    if (!is_elf) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, &image->kernel,
                               "has a Multiboot header without addresses (flag 16) but is no ELF "
                               "file, so nothing says where it goes");
    }
    return boot_elf_parse(&image->kernel, &image->elf, error) &&
           boot_check_entry(image, "ELF", image->elf.entry, error);
}

static bool boot_detect_pvh(BootImage *image, GError **error)
{
    image->kind = BOOT_KIND_PVH;
    if (!boot_elf_parse(&image->kernel, &image->elf, error)) {
        return false;
    }
    if (!image->elf.has_pvh) {
        return boot_file_error(error, BOOT_ERROR_FORMAT, &image->kernel,
                               "is an ELF file with neither a PVH note (Xen, type 18) nor a "
                               "Multiboot header; build Linux with CONFIG_PVH=y or give its "
                               "bzImage");
    }
    return boot_check_entry(image, "PVH", image->elf.pvh_entry, error);
}

/* Prefers PVH for 64-bit images that have both, Multiboot for 32-bit ones. */
static bool boot_prefers_pvh(const BootImage *image)
{
    BootElf elf;
    return boot_elf_parse(&image->kernel, &elf, NULL) && elf.has_pvh && elf.is_64;
}

static bool boot_detect(BootImage *image, GError **error)
{
    g_autofree uint8_t *head = g_malloc0(BOOT_HEAD_SIZE);
    uint64_t len = MIN(image->kernel.size, BOOT_HEAD_SIZE);
    if (!boot_file_read(&image->kernel, 0, head, len, "the header", error)) {
        return false;
    }
    if (boot_bzimage_probe(head, len)) {
        image->kind = BOOT_KIND_BZIMAGE;
        return boot_bzimage_parse(&image->kernel, &image->bzimage, error);
    }
    bool is_elf = len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0;
    bool is_multiboot = boot_multiboot_probe(head, len, &image->multiboot);
    if (is_multiboot && !(is_elf && boot_prefers_pvh(image))) {
        return boot_detect_multiboot(image, head, len, is_elf, error);
    }
    return is_elf ? boot_detect_pvh(image, error)
                  : boot_refuse_foreign(&image->kernel, head, len, error);
}

/* ---- opening ---- */

static bool boot_is_linux(const BootImage *image)
{
    return image->kind == BOOT_KIND_BZIMAGE ||
           (image->kind == BOOT_KIND_PVH && image->elf.is_linux);
}

/* Splits at commas; `,,` is a comma of the name. Elements are owned by the array. */
static GPtrArray *boot_split_list(const char *text)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);
    GString *item = g_string_new(NULL);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == ',' && p[1] == ',') {
            g_string_append_c(item, *p++);
        } else if (*p == ',') {
            g_ptr_array_add(list, g_string_free(item, false));
            item = g_string_new(NULL);
        } else {
            g_string_append_c(item, *p);
        }
    }
    g_ptr_array_add(list, g_string_free(item, false));
    return list;
}

static bool boot_open_module(BootImage *image, const char *text, GError **error)
{
    BootModule *module = &image->modules[image->module_count];
    /* Only a module can have arguments; a Linux initramfs may have spaces in its name. */
    size_t len = boot_is_linux(image) ? strlen(text) : strcspn(text, " ");
    g_autofree char *path = g_strndup(text, len);
    if (path[0] == '\0') {
        g_set_error(error, BOOT_ERROR, BOOT_ERROR_FILE,
                    "-initrd: empty file name; files are separated by one comma, a comma in a "
                    "name is written ,,");
        return false;
    }
    if (!boot_file_open(&module->file, "-initrd", path, error)) {
        return false;
    }
    module->text = g_strdup(text);
    image->module_count++;
    return true;
}

static bool boot_open_modules(BootImage *image, const char *initrd, GError **error)
{
    if (initrd == NULL) {
        return true;
    }
    g_autoptr(GPtrArray) list = boot_split_list(initrd);
    image->modules = g_new0(BootModule, list->len);
    for (unsigned i = 0; i < list->len; i++) {
        if (!boot_open_module(image, g_ptr_array_index(list, i), error)) {
            return false;
        }
    }
    return true;
}

static char *boot_make_cmdline(const BootImage *image, const BootRequest *request)
{
    if (image->kind == BOOT_KIND_MULTIBOOT) { /* starts with the kernel's name */
        return request->cmdline == NULL || request->cmdline[0] == '\0'
                   ? g_strdup(request->kernel)
                   : g_strdup_printf("%s %s", request->kernel, request->cmdline);
    }
    if (request->cmdline == NULL) {
        return g_strdup(boot_is_linux(image) ? BOOT_LINUX_CMDLINE : "");
    }
    return g_strdup(request->cmdline);
}

/* The longest command line that the kernel accepts, without its NUL. A Linux started by PVH copies
 * a longer one without the NUL and panics. */
static size_t boot_cmdline_limit(const BootImage *image)
{
    switch (image->kind) {
    case BOOT_KIND_BZIMAGE:
        return image->bzimage.header.cmdline_size;
    case BOOT_KIND_PVH:
        return image->elf.is_linux ? BOOT_LINUX_CMDLINE_MAX : SIZE_MAX;
    case BOOT_KIND_MULTIBOOT:
        break;
    }
    return SIZE_MAX;
}

static bool boot_check_cmdline(const BootImage *image, GError **error)
{
    size_t len = strlen(image->cmdline), limit = boot_cmdline_limit(image);
    return len <= limit ||
           boot_file_error(error, BOOT_ERROR_FORMAT, &image->kernel,
                           "takes a command line of %zu bytes at most; -append has %zu", limit,
                           len);
}

BootImage *boot_open(const BootRequest *request, GError **error)
{
    g_autoptr(BootImage) image = g_new0(BootImage, 1);
    if (!boot_file_open(&image->kernel, "-kernel", request->kernel, error) ||
        !boot_detect(image, error) || !boot_open_modules(image, request->initrd, error)) {
        return NULL;
    }
    image->cmdline = boot_make_cmdline(image, request);
    if (!boot_check_cmdline(image, error)) {
        return NULL;
    }
    return g_steal_pointer(&image);
}

void boot_free(BootImage *image)
{
    if (image == NULL) {
        return;
    }
    for (unsigned i = 0; i < image->module_count; i++) {
        boot_file_close(&image->modules[i].file);
        g_free(image->modules[i].text);
    }
    g_free(image->modules);
    boot_file_close(&image->kernel);
    g_free(image->cmdline);
    g_free(image);
}

BootKind boot_kind(const BootImage *image)
{
    return image->kind;
}

bool boot_load(BootImage *image, GuestRam *ram, const BootTables *tables, BootState *state,
               GError **error)
{
    BootSpace space;
    bool ok = false;
    boot_space_init(&space, ram);
    boot_place_bios_data(ram);
    switch (image->kind) {
    case BOOT_KIND_BZIMAGE:
        ok = boot_bzimage_load(image, &space, tables, state, error);
        break;
    case BOOT_KIND_PVH:
        ok = boot_pvh_load(image, &space, tables, state, error);
        break;
    case BOOT_KIND_MULTIBOOT:
        ok = boot_multiboot_load(image, &space, state, error);
        break;
    }
    boot_space_clear(&space);
    return ok;
}
