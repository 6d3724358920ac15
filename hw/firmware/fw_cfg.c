/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/firmware/fw_cfg_int.h"

#include <string.h>
#include "hw/platform/isa.h"

#define FW_CFG_PORT 0x510
#define FW_CFG_DMA_PORT 0x514
#define FW_CFG_FEATURES 3        /* the ports, and DMA */
#define FW_CFG_DIR_ENTRY_SIZE 64 /* size, key, 2 reserved bytes, name; big-endian */
#define FW_CFG_DIR_NAME 8

static const StateField fw_cfg_fields[] = {
    STATE_FIELD_SINCE(FwCfgState, STATE_U64, dma_address, 2),
    STATE_FIELD(FwCfgState, STATE_U32, offset),
    STATE_FIELD(FwCfgState, STATE_U16, key),
    STATE_PADDING(FwCfgState, reserved),
    {0},
};

static const StateDesc fw_cfg_state =
    STATE_DESC("fw_cfg", 2, FwCfg, state, FwCfgState, fw_cfg_fields);

/* ---- items ---- */

const uint8_t *fw_cfg_item_data(const FwCfgItem *item, uint32_t *size)
{
    gsize length = item->size;
    const uint8_t *data = item->bytes != NULL ? g_bytes_get_data(item->bytes, &length) : item->data;
    *size = (uint32_t)length;
    return data;
}

static void fw_cfg_item_set(FwCfgItem *item, GBytes *data)
{
    g_assert(g_bytes_get_size(data) <= UINT32_MAX);
    g_clear_pointer(&item->bytes, g_bytes_unref);
    item->bytes = data;
}

/* The item without a name at @key, or NULL if there is no such key. */
static FwCfgItem *fw_cfg_fixed_item(FwCfg *f, uint16_t key)
{
    unsigned index = key & FW_CFG_ENTRY_MASK;
    if (key & FW_CFG_ARCH_LOCAL) {
        return index < FW_CFG_ARCH_ITEMS ? &f->arch_items[index] : NULL;
    }
    return index < FW_CFG_FILE_FIRST ? &f->items[index] : NULL;
}

void fw_cfg_set(Device *fw_cfg, uint16_t key, GBytes *data)
{
    FwCfgItem *item = fw_cfg_fixed_item((FwCfg *)fw_cfg, key);
    g_assert(item != NULL && key != FW_CFG_FILE_DIR);
    fw_cfg_item_set(item, data);
}

void fw_cfg_set_number(Device *fw_cfg, uint16_t key, uint64_t value, unsigned size)
{
    uint64_t le = GUINT64_TO_LE(value);
    fw_cfg_set(fw_cfg, key, g_bytes_new(&le, size));
}

/* ---- files ---- */

static void fw_cfg_file_free(void *opaque)
{
    FwCfgFile *file = opaque;
    g_clear_pointer(&file->item.bytes, g_bytes_unref);
    g_free(file->name);
    g_free(file);
}

static FwCfgFile *fw_cfg_find(const FwCfg *f, const char *name)
{
    for (unsigned i = 0; i < f->files->len; i++) {
        FwCfgFile *file = f->files->pdata[i];
        if (strcmp(file->name, name) == 0) {
            return file;
        }
    }
    return NULL;
}

static void fw_cfg_put_be(GByteArray *out, uint32_t value, unsigned size)
{
    uint32_t be = GUINT32_TO_BE(value << (32 - 8 * size));
    g_byte_array_append(out, (const uint8_t *)&be, size);
}

static void fw_cfg_build_directory(FwCfg *f)
{
    GByteArray *dir = g_byte_array_new();
    fw_cfg_put_be(dir, f->files->len, 4);
    for (unsigned i = 0; i < f->files->len; i++) {
        const FwCfgFile *file = f->files->pdata[i];
        char name[FW_CFG_DIR_ENTRY_SIZE - FW_CFG_DIR_NAME] = {0};
        uint32_t size;
        fw_cfg_item_data(&file->item, &size);
        memcpy(name, file->name, strlen(file->name));
        fw_cfg_put_be(dir, size, 4);
        fw_cfg_put_be(dir, FW_CFG_FILE_FIRST + i, 2);
        fw_cfg_put_be(dir, 0, 2);
        g_byte_array_append(dir, (const uint8_t *)name, sizeof(name));
    }
    fw_cfg_item_set(&f->items[FW_CFG_FILE_DIR], g_byte_array_free_to_bytes(dir));
}

static bool fw_cfg_check_name(const FwCfg *f, const char *name, GError **error)
{
    const char *fault = NULL;
    if (name[0] == '\0') {
        fault = "a file needs a name";
    } else if (strlen(name) > FW_CFG_FILE_NAME_MAX) {
        fault = "a name has at most " G_STRINGIFY(FW_CFG_FILE_NAME_MAX) " characters";
    } else if (fw_cfg_find(f, name) != NULL) {
        fault = "the file exists already";
    } else if (f->files->len == FW_CFG_FILES_MAX) {
        fault = "there is room for " G_STRINGIFY(FW_CFG_FILES_MAX) " files";
    }
    if (fault != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "fw_cfg file '%s': %s", name, fault);
    }
    return fault == NULL;
}

/* Adds a file without data. NULL + error. */
static FwCfgFile *fw_cfg_new_file(FwCfg *f, const char *name, GError **error)
{
    if (!fw_cfg_check_name(f, name, error)) {
        return NULL;
    }
    unsigned at = 0;
    while (at < f->files->len && strcmp(((FwCfgFile *)f->files->pdata[at])->name, name) < 0) {
        at++;
    }
    FwCfgFile *file = g_new0(FwCfgFile, 1);
    file->name = g_strdup(name);
    g_ptr_array_insert(f->files, (gint)at, file);
    return file;
}

bool fw_cfg_add_file(Device *fw_cfg, const char *name, GBytes *data, GError **error)
{
    FwCfg *f = (FwCfg *)fw_cfg;
    FwCfgFile *file = fw_cfg_new_file(f, name, error);
    if (file == NULL) {
        g_bytes_unref(data);
        return false;
    }
    fw_cfg_item_set(&file->item, data);
    fw_cfg_build_directory(f);
    return true;
}

bool fw_cfg_add_writable(Device *fw_cfg, const char *name, uint8_t *data, uint32_t size,
                         void (*written)(void *opaque, uint32_t offset, uint32_t size),
                         void *opaque, GError **error)
{
    FwCfg *f = (FwCfg *)fw_cfg;
    g_assert(size <= FW_CFG_DMA_CHUNK);
    FwCfgFile *file = fw_cfg_new_file(f, name, error);
    if (file == NULL) {
        return false;
    }
    file->item = (FwCfgItem){.data = data, .size = size, .written = written, .opaque = opaque};
    fw_cfg_build_directory(f);
    return true;
}

void fw_cfg_remove_file(Device *fw_cfg, const char *name)
{
    FwCfg *f = (FwCfg *)fw_cfg;
    FwCfgFile *file = f->files != NULL ? fw_cfg_find(f, name) : NULL;
    if (file != NULL) {
        g_ptr_array_remove(f->files, file);
        fw_cfg_build_directory(f);
    }
}

void fw_cfg_set_file(Device *fw_cfg, const char *name, GBytes *data)
{
    FwCfg *f = (FwCfg *)fw_cfg;
    FwCfgFile *file = fw_cfg_find(f, name);
    g_assert(file != NULL && file->item.data == NULL);
    bool resized = g_bytes_get_size(file->item.bytes) != g_bytes_get_size(data);
    fw_cfg_item_set(&file->item, data);
    if (resized) {
        fw_cfg_build_directory(f);
    }
}

void fw_cfg_set_generator(Device *fw_cfg, void (*generate)(void *opaque), void *opaque)
{
    FwCfg *f = (FwCfg *)fw_cfg;
    f->generate = generate;
    f->generate_opaque = opaque;
}

void fw_cfg_mark_generated(Device *fw_cfg, const char *name)
{
    FwCfgFile *file = fw_cfg_find((FwCfg *)fw_cfg, name);
    g_assert(file != NULL);
    file->generated = true;
}

GBytes *fw_cfg_get_file(Device *fw_cfg, const char *name)
{
    const FwCfgFile *file = fw_cfg_find((FwCfg *)fw_cfg, name);
    if (file == NULL) {
        return NULL;
    }
    return file->item.bytes != NULL ? g_bytes_ref(file->item.bytes)
                                    : g_bytes_new(file->item.data, file->item.size);
}

/* ---- the selector and the data port ---- */

static FwCfgFile *fw_cfg_file_of_key(const FwCfg *f, uint16_t key)
{
    unsigned index = (key & FW_CFG_ENTRY_MASK) - FW_CFG_FILE_FIRST;
    return (key & FW_CFG_ARCH_LOCAL) == 0 && index < f->files->len ? f->files->pdata[index] : NULL;
}

static void fw_cfg_generate(FwCfg *f, const FwCfgFile *file) BQL_HELD
{
    if (file != NULL && file->generated && !f->generated && f->generate != NULL) {
        f->generated = true;
        f->generate(f->generate_opaque);
    }
}

void fw_cfg_select(FwCfg *f, uint16_t key)
{
    f->state.key = key;
    f->state.offset = 0;
    fw_cfg_generate(f, fw_cfg_file_of_key(f, key));
}

FwCfgItem *fw_cfg_selected(FwCfg *f)
{
    FwCfgFile *file = fw_cfg_file_of_key(f, f->state.key);
    fw_cfg_generate(f, file); /* it was selected before a load */
    return file != NULL ? &file->item : fw_cfg_fixed_item(f, f->state.key);
}

static uint8_t fw_cfg_read(FwCfg *f) BQL_HELD;
static uint8_t fw_cfg_read(FwCfg *f)
{
    const FwCfgItem *item = fw_cfg_selected(f);
    uint32_t size = 0;
    const uint8_t *data = item != NULL ? fw_cfg_item_data(item, &size) : NULL;
    return f->state.offset < size ? data[f->state.offset++] : 0;
}

static MmioResult fw_cfg_access(void *opaque, IoAccess *access)
{
    FwCfg *f = opaque;
    assert_bql();
    if (fw_cfg_is_busy(f, access)) {
        return fw_cfg_wait(f, access);
    }
    if (access->is_write && access->size == 2) {
        fw_cfg_select(f, (uint16_t)access->value);
    } else if (!access->is_write && access->size == 1) {
        access->value = fw_cfg_read(f);
    }
    return MMIO_DONE;
}

static const IoRegionOps fw_cfg_ops = {.access = fw_cfg_access, .min_size = 1, .max_size = 2};

/* ---- pended accesses ---- */

static void fw_cfg_resume(void *opaque)
{
    enter_main();
    bql_lock();
    pended_finish(&((FwCfg *)opaque)->pended);
    bql_unlock();
}

MmioResult fw_cfg_wait(FwCfg *f, IoAccess *access)
{
    aio_bh_schedule(&f->resume);
    return pended_wait_for(&f->pended, access);
}

/* ---- life cycle ---- */

static void fw_cfg_add_basic_items(FwCfg *f)
{
    const DeviceEnv *env = f->base.env;
    unsigned cpus = MAX(env->cpu_count, 1);
    fw_cfg_set(&f->base, FW_CFG_SIGNATURE, g_bytes_new("QEMU", 4));
    fw_cfg_set_number(&f->base, FW_CFG_ID, FW_CFG_FEATURES, 4);
    fw_cfg_set_number(&f->base, FW_CFG_RAM_SIZE,
                      guest_ram_below_4g(env->ram) + guest_ram_above_4g(env->ram), 8);
    fw_cfg_set_number(&f->base, FW_CFG_NB_CPUS, cpus, 2);
    fw_cfg_set_number(&f->base, FW_CFG_MAX_CPUS, cpus, 2);
    fw_cfg_build_directory(f);
}

static void fw_cfg_free_items(FwCfg *f)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(f->items); i++) {
        g_clear_pointer(&f->items[i].bytes, g_bytes_unref);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(f->arch_items); i++) {
        g_clear_pointer(&f->arch_items[i].bytes, g_bytes_unref);
    }
    g_clear_pointer(&f->files, g_ptr_array_unref);
}

static void fw_cfg_unrealize(Device *dev)
{
    enter_main();
    FwCfg *f = (FwCfg *)dev;
    isa_device_detach(&f->region);
    isa_device_detach(&f->dma_region);
    aio_bh_cancel(&f->resume);
    bql_lock();
    pended_finish(&f->pended);
    bql_unlock();
    fw_cfg_free_items(f);
}

static bool fw_cfg_realize(Device *dev, GError **error)
{
    FwCfg *f = (FwCfg *)dev;
    enter_main();
    f->region = (IoRegion){.name = "fwcfg", .ops = &fw_cfg_ops, .opaque = f, .size = 2};
    f->dma_region = (IoRegion){.name = "fwcfg.dma", .ops = &fw_cfg_dma_ops, .opaque = f, .size = 8};
    f->pended.what = "a fw_cfg transfer";
    aio_bh_init(&f->resume, dev->env->main_ctx, fw_cfg_resume, f);
    f->files = g_ptr_array_new_with_free_func(fw_cfg_file_free);
    if (isa_device_attach(dev, &f->region, FW_CFG_PORT, error) &&
        isa_device_attach(dev, &f->dma_region, FW_CFG_DMA_PORT, error)) {
        fw_cfg_add_basic_items(f);
        return true;
    }
    fw_cfg_unrealize(dev);
    return false;
}

/* vCPUs are parked, so no access is pended. */
static void fw_cfg_reset(Device *dev)
{
    FwCfg *f = (FwCfg *)dev;
    f->state = (FwCfgState){0};
    f->transfer = (FwCfgTransfer){0};
    f->generated = false;
}

/* What the machine generates is as its loaded state is when the guest reads it next: other devices may not be
 * loaded yet. */
static bool fw_cfg_post_load(Device *dev, GError **error)
{
    assert_bql();
    ((FwCfg *)dev)->generated = false;
    return true;
}

const DeviceType fw_cfg_type = {
    .name = "fw_cfg_io",
    .description = "configuration that firmware reads",
    .instance_size = sizeof(FwCfg),
    .state = &fw_cfg_state,
    .bus = "isa",
    .realize = fw_cfg_realize,
    .reset = fw_cfg_reset,
    .unrealize = fw_cfg_unrealize,
    .post_load = fw_cfg_post_load,
};
