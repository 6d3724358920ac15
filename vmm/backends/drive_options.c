/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/backends/drive_options.h"

#include <string.h>
#include "block/nbd/nbd_client_name.h"
#include "block/node.h"

static bool drive_refuse(GError **error, const char *option, const char *value, const char *instead)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "skiff has no %s%s%s for drives; %s",
                option, value != NULL ? "=" : "", value != NULL ? value : "", instead);
    return false;
}

/* ---- unsupported options ---- */

typedef struct DriveLack {
    const char *option;
    const char *harmless; /* the value that changes nothing, or NULL */
    const char *instead;
} DriveLack;

static const DriveLack drive_lacks[] = {
    {"bus", "0",
     "there is one bus; place a disk with if=none,id=X and "
     "-device virtio-blk-pci,drive=X,addr=Y"},
};

static bool drive_is_harmless(const char *value, const char *harmless)
{
    bool on;
    return harmless != NULL &&
           (strcmp(value, harmless) == 0 ||
            (strcmp(harmless, "off") == 0 && opt_parse_bool(value, &on, NULL) && !on));
}

static bool drive_refuse_lacking(OptDict *d, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(drive_lacks); i++) {
        const DriveLack *lack = &drive_lacks[i];
        g_autofree char *value = opt_dict_take(d, lack->option);
        if (value == NULL ? opt_dict_has(d, lack->option)
                          : !drive_is_harmless(value, lack->harmless)) {
            return drive_refuse(error, lack->option, value, lack->instead);
        }
    }
    return true;
}

/* ---- media= ---- */

/* A CD is read-only, and a drive of its own: scsi-cd. */
static bool drive_take_media(OptDict *d, const BlockDrive *drive, GError **error)
{
    g_autofree char *value = opt_dict_take(d, "media");
    if (value == NULL || strcmp(value, "disk") == 0) {
        return true;
    }
    if (strcmp(value, "cdrom") != 0) {
        return drive_refuse(error, "media", value, "it has media=disk and media=cdrom");
    }
    if (drive->interface != BLOCK_DRIVE_IF_NONE) {
        return drive_refuse(error, "media", value,
                            "attach it with if=none,id=X and -device virtio-scsi-pci "
                            "-device scsi-cd,drive=X");
    }
    opt_dict_set(d, "read-only", "on");
    return true;
}

/* ---- if= and id= ---- */

static bool drive_take_interface(OptDict *d, BlockDrive *drive, GError **error)
{
    static const char *const names[] = {
        [BLOCK_DRIVE_IF_NONE] = "none",
        [BLOCK_DRIVE_IF_VIRTIO] = "virtio",
        [BLOCK_DRIVE_IF_PFLASH] = "pflash",
    };
    g_autofree char *value = opt_dict_take(d, "if");
    drive->interface = BLOCK_DRIVE_IF_VIRTIO;
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (value == NULL || strcmp(value, names[i]) == 0) {
            drive->interface = value == NULL ? drive->interface : (BlockDriveInterface)i;
            return true;
        }
    }
    if (strcmp(value, "scsi") == 0) {
        return drive_refuse(error, "if", value,
                            "the machine has no SCSI controller of its own: if=none,id=X with "
                            "-device virtio-scsi-pci -device scsi-hd,drive=X");
    }
    return drive_refuse(error, "if", value, "it has if=virtio, if=none and if=pflash");
}

/* ---- index= and unit= ---- */

static bool drive_parse_number(const char *option, const char *text, uint64_t *number,
                               GError **error)
{
    if (opt_parse_u64(text, 0, BLOCK_DRIVE_MAX_INDEX, number, error)) {
        return true;
    }
    g_prefix_error(error, "%s=%s: ", option, text);
    return false;
}

/* With one bus, unit= is the same as index=. */
static bool drive_take_index(OptDict *d, BlockDrive *drive, GError **error)
{
    bool has_bus = opt_dict_has(d, "bus");
    g_autofree char *index = opt_dict_take(d, "index");
    g_autofree char *unit = opt_dict_take(d, "unit");
    uint64_t number;
    drive->index = BLOCK_DRIVE_NO_INDEX;
    if (index != NULL && (unit != NULL || has_bus)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "index cannot be used with bus and unit");
        return false;
    }
    const char *text = index != NULL ? index : unit;
    if (text == NULL) {
        return true;
    }
    if (!drive_parse_number(index != NULL ? "index" : "unit", text, &number, error)) {
        return false;
    }
    drive->index = (int)number;
    return true;
}

/* ---- cache= ---- */

typedef struct DriveCache {
    const char *name;
    bool direct, no_flush, write_cache;
} DriveCache;

static const DriveCache drive_caches[] = {
    {"writeback", false, false, true},     {"none", true, false, true},
    {"writethrough", false, false, false}, {"directsync", true, false, false},
    {"unsafe", false, true, true},
};

static const char *drive_on_off(bool on)
{
    return on ? "on" : "off";
}

static bool drive_take_cache(OptDict *d, BlockDrive *drive, GError **error)
{
    g_autofree char *writeback = opt_dict_take(d, "cache.writeback");
    if (writeback != NULL) {
        opt_dict_set(drive->device, "write-cache", writeback);
    }
    g_autofree char *value = opt_dict_take(d, "cache");
    if (value == NULL) {
        /* none given, or cache.direct= and cache.no-flush=, which are passed on unchanged */
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(drive_caches); i++) {
        const DriveCache *c = &drive_caches[i];
        if (strcmp(value, c->name) == 0) {
            opt_dict_set(d, "cache.direct", drive_on_off(c->direct));
            opt_dict_set(d, "cache.no-flush", drive_on_off(c->no_flush));
            opt_dict_set(drive->device, "write-cache", drive_on_off(c->write_cache));
            return true;
        }
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                "cache=%s: wants one of none, writeback, writethrough, directsync, unsafe", value);
    return false;
}

/* ---- snapshot= ---- */

static bool drive_take_snapshot(OptDict *d, BlockDrive *drive, GError **error)
{
    g_autofree char *value = opt_dict_take(d, "snapshot");
    bool on;
    drive->snapshot = BLOCK_DRIVE_SNAPSHOT_DEFAULT;
    if (value == NULL) {
        return true;
    }
    if (!opt_parse_bool(value, &on, error)) {
        g_prefix_error(error, "snapshot=%s: ", value);
        return false;
    }
    drive->snapshot = on ? BLOCK_DRIVE_SNAPSHOT_ON : BLOCK_DRIVE_SNAPSHOT_OFF;
    return true;
}

/* ---- copy-on-read= ---- */

static bool drive_take_copy_on_read(OptDict *d, BlockDrive *drive, GError **error)
{
    g_autofree char *value = opt_dict_take(d, "copy-on-read");
    if (value != NULL && !opt_parse_bool(value, &drive->copy_on_read, error)) {
        g_prefix_error(error, "copy-on-read=%s: ", value);
        return false;
    }
    return true;
}

/* ---- file= ---- */

/* "nbd:..." names a protocol unless a slash comes first, as in "./a:b". */
static char *drive_take_protocol(const char **filename)
{
    size_t length = strcspn(*filename, ":/");
    if ((*filename)[length] != ':') {
        return g_strdup("file");
    }
    char *protocol = g_strndup(*filename, length);
    *filename += length + 1;
    return protocol;
}

/* The node of file=@filename. */
static OptDict *drive_file_node(const char *filename, GError **error)
{
    if (nbd_client_is_name(filename)) {
        return nbd_client_describe_name(filename, error);
    }
    const char *path = filename;
    g_autofree char *protocol = drive_take_protocol(&path);
    const BlockDriver *drv = block_driver_find(protocol);
    if (drv == NULL || drv->has_file) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "file=%s: skiff has no protocol '%s'; a path with a colon is written ./%s",
                    filename, protocol, filename);
        return NULL;
    }
    OptDict *node = opt_dict_new();
    opt_dict_set(node, "driver", protocol);
    if (strcmp(protocol, "file") == 0 || strcmp(protocol, "host_device") == 0) {
        opt_dict_set(node, "filename", path);
    } else if (strcmp(path, "//") != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "file=%s: use file.driver=%s and file.OPTION=VALUE", filename, protocol);
        g_clear_pointer(&node, opt_dict_free);
    }
    return node;
}

/* Places the file's node below the format's; @aio belongs to it. */
static void drive_place_file(OptDict *d, OptDict *file, const char *aio)
{
    if (opt_dict_get(file, "driver") == NULL) {
        opt_dict_set(file, "driver", "file");
    }
    if (aio != NULL && strcmp(opt_dict_get(file, "driver"), "nbd") != 0) {
        opt_dict_set(file, "aio", aio);
    }
    opt_dict_set_dict(d, "file", file);
}

static bool drive_take_file(OptDict *d, const BlockDriver *format, GError **error)
{
    g_autofree char *aio = opt_dict_take(d, "aio");
    OptDict *file = opt_dict_take_dict(d, "file");
    g_autofree char *filename = file == NULL ? opt_dict_take(d, "file") : NULL;
    if (format != NULL && !format->has_file) { /* driver=file,filename=x: no format above it */
        if (aio != NULL) {
            opt_dict_set(d, "aio", aio);
        }
        if (filename != NULL) {
            opt_dict_set(d, "filename", filename);
        } else if (file != NULL) {
            opt_dict_set_dict(d, "file", file); /* refused when the node is opened */
        }
        return true;
    }
    if (filename != NULL) {
        file = drive_file_node(filename, error);
    } else if (file == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "file= is missing: give the path of the image");
    }
    if (file == NULL) {
        return false;
    }
    drive_place_file(d, file, aio);
    return true;
}

/* ---- format= ---- */

static bool drive_take_format(OptDict *d, BlockDrive *drive, const BlockDriver **format,
                              GError **error)
{
    g_autofree char *value = opt_dict_take(d, "format");
    g_autofree char *driver = opt_dict_take(d, "driver");
    if (value != NULL && driver != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "format=%s and driver=%s are the same option: give one", value, driver);
        return false;
    }
    const char *name = value != NULL ? value : driver;
    if (name == NULL) {
        name = "raw";
        drive->format_implied = true;
    }
    *format = block_driver_find(name);
    opt_dict_set(d, "driver", name); /* opening it refuses an unknown one by name */
    return true;
}

/* ---- all of it ---- */

typedef struct DriveKeys {
    GHashTable *seen;
    const char *twice;
} DriveKeys;

static void drive_note_key(const char *key, const char *value, void *opaque)
{
    DriveKeys *keys = opaque;
    if (!g_hash_table_add(keys->seen, g_strdup(key)) && keys->twice == NULL) {
        keys->twice = g_hash_table_lookup(keys->seen, key);
    }
}

/* Called before options are removed one by one, which would hide duplicates. */
static bool drive_check_keys(const OptDict *d, GError **error)
{
    DriveKeys keys = {.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL)};
    opt_dict_foreach(d, drive_note_key, &keys);
    if (keys.twice != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "option '%s' is given twice",
                    keys.twice);
    }
    g_hash_table_unref(keys.seen);
    return keys.twice == NULL;
}

static void drive_move(OptDict *from, const char *old, OptDict *to, const char *name)
{
    g_autofree char *value = opt_dict_take(from, old);
    if (value != NULL) {
        opt_dict_set(to, name, value);
    }
}

/* A flash reports errors in its status. */
static bool drive_take_errors(OptDict *d, BlockDrive *drive, GError **error)
{
    static const char *const names[] = {"werror", "rerror"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (drive->interface == BLOCK_DRIVE_IF_PFLASH && opt_dict_has(d, names[i])) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                        "%s is not supported by this bus type", names[i]);
            return false;
        }
        drive_move(d, names[i], drive->device, names[i]);
    }
    return true;
}

/* The node has the drive's name. An id may exceed a node name's length: then it is the beginning of
 * the id, and a hash of all of it. */
static char *drive_node_name(const char *id)
{
    enum { HASH_CHARS = 9 }; /* "-01234567" */
    return strlen(id) <= BLOCK_NODE_NAME_MAX
               ? g_strdup(id)
               : g_strdup_printf("%.*s-%08x", BLOCK_NODE_NAME_MAX - HASH_CHARS, id, g_str_hash(id));
}

static bool drive_translate(OptDict *d, BlockDrive *drive, GError **error)
{
    const BlockDriver *format;
    if (!drive_check_keys(d, error) || !drive_take_index(d, drive, error) ||
        !drive_refuse_lacking(d, error) || !block_drive_take_throttling(d, drive, error) ||
        !drive_take_snapshot(d, drive, error) || !drive_take_copy_on_read(d, drive, error) ||
        !drive_take_interface(d, drive, error) || !drive_take_media(d, drive, error) ||
        !drive_take_cache(d, drive, error) || !drive_take_format(d, drive, &format, error) ||
        !drive_take_file(d, format, error)) {
        return false;
    }
    drive_move(d, "readonly", d, "read-only");
    if (!drive_take_errors(d, drive, error)) {
        return false;
    }
    drive->id = opt_dict_take(d, "id");
    if (drive->id != NULL && !opt_dict_has(d, "node-name")) {
        g_autofree char *name = drive_node_name(drive->id);
        opt_dict_set(d, "node-name", name);
    }
    return true;
}

bool block_drive_to_blockdev(const OptDict *opts, BlockDrive *drive, GError **error)
{
    *drive = (BlockDrive){.blockdev = opt_dict_copy(opts), .device = opt_dict_new()};
    if (!drive_translate(drive->blockdev, drive, error)) {
        block_drive_clear(drive);
        return false;
    }
    return true;
}

void block_drive_clear(BlockDrive *drive)
{
    g_free(drive->id);
    g_free(drive->group_name);
    opt_dict_free(drive->blockdev);
    opt_dict_free(drive->device);
    *drive = (BlockDrive){0};
}
