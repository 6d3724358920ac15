/* SPDX-License-Identifier: Apache-2.0 */
/* Expansion ROMs: PCI Local Bus 3.0 §6.2.5.2 and §6.3. */
#include <string.h>
#include "hw/pci/pci_int.h"
#include "util/user_file.h"

/* In the header of an image, §6.3.1: 55 aa, its size in units of 512 bytes, and further on the offset of
 * its data structure, "PCIR". In images for BIOS the bytes add up to 0; byte 6 is free for that. */
#define PCI_ROM_SIGNATURE 0xaa55
#define PCI_ROM_FREE_BYTE 6
#define PCI_ROM_DATA_POINTER 0x18
#define PCI_ROM_DATA_VENDOR 4
#define PCI_ROM_DATA_DEVICE 6
#define PCI_ROM_DATA_SIZE 0x18

static const char *const rom_folders[] = {"/usr/share/qemu", "/usr/lib/ipxe/qemu"};

static MmioResult rom_access(void *opaque, IoAccess *access)
{
    const PciDevice *dev = opaque;
    gsize size;
    const uint8_t *bytes = g_bytes_get_data(dev->rom.image, &size);
    assert_bql();
    for (unsigned i = 0; i < access->size && !access->is_write; i++) {
        uint64_t byte = access->offset + i < size ? bytes[access->offset + i] : 0xff;
        access->value &= ~(UINT64_C(0xff) << (i * 8));
        access->value |= byte << (i * 8);
    }
    return MMIO_DONE;
}

static const IoRegionOps rom_ops = {.access = rom_access, .unaligned = true};

void pci_device_add_rom(PciDevice *dev, GBytes *image)
{
    uint64_t size = PCI_ROM_MIN;
    while (size < g_bytes_get_size(image)) {
        size *= 2;
    }
    dev->rom.image = g_bytes_ref(image);
    dev->rom.region =
        (IoRegion){.name = "expansion-rom", .ops = &rom_ops, .opaque = dev, .size = size};
    dev->bars[PCI_ROM_BAR] = (PciBar){.region = &dev->rom.region, .size = size};
    uint32_t writable = ~(uint32_t)(size - 1) | PCI_ROM_ENABLE;
    for (unsigned i = 0; i < 4; i++) {
        dev->wmask[PCI_REG_ROM + i] = (uint8_t)(writable >> (i * 8));
    }
}

void pci_rom_free(PciDevice *dev)
{
    g_clear_pointer(&dev->rom.image, g_bytes_unref);
}

/* ---- files ---- */

typedef struct RomRead {
    const char *name; /* of the type's own ROM, or NULL */
    char *path;       /* with `name`: where it was found, or NULL */
    GBytes *image;
    GError *error;
} RomRead;

/* NULL: none of the folders has the type's own ROM. */
static RUNS_IN_WORKER char *rom_find(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rom_folders); i++) {
        g_autofree char *path = g_build_filename(rom_folders[i], name, NULL);
        if (g_file_test(path, G_FILE_TEST_EXISTS)) {
            return g_steal_pointer(&path);
        }
    }
    return NULL;
}

static int rom_read_in_worker(void *opaque)
{
    RomRead *r = opaque;
    enter_worker();
    if (r->name != NULL) {
        r->path = rom_find(r->name);
    }
    if (r->path != NULL) {
        r->image = user_file_read(r->path, PCI_ROM_MAX, &r->error);
    }
    return 0;
}

static unsigned rom_get16(const uint8_t *bytes)
{
    return bytes[0] | (unsigned)bytes[1] << 8;
}

/* A ROM serves devices of several IDs, and names one of them. Firmware runs it only for that one, so
 * the first image gets the ID of @dev, and stays valid: its bytes still add up to 0. */
static GBytes *rom_with_id(const PciDevice *dev, GBytes *image)
{
    gsize size;
    g_autofree uint8_t *bytes = g_bytes_unref_to_data(image, &size);
    unsigned at = size > PCI_ROM_DATA_POINTER + 1 ? rom_get16(bytes + PCI_ROM_DATA_POINTER) : 0;
    if (at >= PCI_ROM_DATA_POINTER + 2 && at + PCI_ROM_DATA_SIZE <= size &&
        rom_get16(bytes) == PCI_ROM_SIGNATURE && memcmp(bytes + at, "PCIR", 4) == 0) {
        uint8_t before = 0, after = 0;
        for (unsigned i = 0; i < 4; i++) {
            uint8_t *byte = bytes + at + PCI_ROM_DATA_VENDOR + i;
            before = (uint8_t)(before + *byte);
            *byte = dev->state.config[PCI_REG_VENDOR + i];
            after = (uint8_t)(after + *byte);
        }
        bytes[PCI_ROM_FREE_BYTE] = (uint8_t)(bytes[PCI_ROM_FREE_BYTE] + before - after);
    }
    return g_bytes_new_take(g_steal_pointer(&bytes), size);
}

bool pci_device_load_rom(PciDevice *dev, GError **error)
{
    const PciRom *rom = &dev->rom;
    bool own = rom->file == NULL;
    if (!rom->bar ||
        (own ? rom->fallback == NULL || !dev->base.env->has_firmware : rom->file[0] == '\0')) {
        return true;
    }
    enter_coroutine();
    RomRead r = {.name = own ? rom->fallback : NULL, .path = own ? NULL : g_strdup(rom->file)};
    co_run_in_worker(rom_read_in_worker, &r);
    g_autofree char *path = r.path;
    if (path == NULL) {
        return true;
    }
    if (r.image != NULL && g_bytes_get_size(r.image) == 0) {
        g_set_error(&r.error, OPT_ERROR, OPT_ERROR_VALUE, "is empty");
        g_clear_pointer(&r.image, g_bytes_unref);
    }
    if (r.image == NULL) {
        g_propagate_prefixed_error(error, r.error, "romfile=%s: ", path);
        return false;
    }
    if (own) {
        r.image = rom_with_id(dev, r.image);
    }
    pci_device_add_rom(dev, r.image);
    g_bytes_unref(r.image);
    return true;
}
