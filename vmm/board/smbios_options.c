/* SPDX-License-Identifier: Apache-2.0 */
/* -smbios: the fields of structures, by type, and whole structures from files. */
#include "vmm/board/smbios_int.h"

#include <stdio.h>
#include <string.h>
#include "util/user_file.h"

#define SMBIOS_HEADER_SIZE 4
#define SMBIOS_STRING_MAX 4096 /* of a file with one string */
#define SMBIOS_FILE_MAX 65535  /* of a file with one structure: the entry point has 16 bits */

#define TEXT(option, field) OPT_SPEC(SmbiosOptions, option, OPT_STRING, field)

static const OptSpec bios_specs[] = {
    TEXT("vendor", bios.vendor),
    TEXT("version", bios.version),
    TEXT("date", bios.date),
    TEXT("release", bios.release),
    OPT_SPEC(SmbiosOptions, "uefi", OPT_BOOL, bios.uefi),
    OPT_SPEC(SmbiosOptions, "vm", OPT_BOOL, bios.vm, .def = "on"),
    {0},
};

static const OptSpec system_specs[] = {
    TEXT("manufacturer", system.manufacturer),
    TEXT("product", system.product),
    TEXT("version", system.version),
    TEXT("serial", system.serial),
    TEXT("uuid", system.uuid),
    TEXT("sku", system.sku),
    TEXT("family", system.family),
    {0},
};

static const OptSpec board_specs[] = {
    TEXT("manufacturer", board.manufacturer),
    TEXT("product", board.product),
    TEXT("version", board.version),
    TEXT("serial", board.serial),
    TEXT("asset", board.asset),
    TEXT("location", board.location),
    {0},
};

static const OptSpec chassis_specs[] = {
    TEXT("manufacturer", chassis.manufacturer),
    TEXT("version", chassis.version),
    TEXT("serial", chassis.serial),
    TEXT("asset", chassis.asset),
    TEXT("sku", chassis.sku),
    {0},
};

static const OptSpec processor_specs[] = {
    TEXT("sock_pfx", processor.socket_prefix),
    TEXT("manufacturer", processor.manufacturer),
    TEXT("version", processor.version),
    TEXT("serial", processor.serial),
    TEXT("asset", processor.asset),
    TEXT("part", processor.part),
    OPT_SPEC(SmbiosOptions, "max-speed", OPT_U16, processor.max_speed, .def = "2000"),
    OPT_SPEC(SmbiosOptions, "current-speed", OPT_U16, processor.current_speed, .def = "2000"),
    OPT_SPEC(SmbiosOptions, "processor-family", OPT_U16, processor.family, .def = "1"),
    OPT_SPEC(SmbiosOptions, "processor-id", OPT_U64, processor.id),
    {0},
};

static const OptSpec memory_specs[] = {
    TEXT("loc_pfx", memory.locator_prefix),
    TEXT("bank", memory.bank),
    TEXT("manufacturer", memory.manufacturer),
    TEXT("serial", memory.serial),
    TEXT("asset", memory.asset),
    TEXT("part", memory.part),
    OPT_SPEC(SmbiosOptions, "speed", OPT_U16, memory.speed),
    {0},
};

/* The structures that exist once: options of the same type add up. */
static const struct {
    uint8_t type;
    const OptSpec *specs;
} smbios_single[] = {
    {0, bios_specs},    {1, system_specs},    {2, board_specs},
    {3, chassis_specs}, {4, processor_specs}, {17, memory_specs},
};

static const OptSpec port_specs[] = {
    OPT_SPEC(SmbiosPort, "internal_reference", OPT_STRING, internal_reference),
    OPT_SPEC(SmbiosPort, "external_reference", OPT_STRING, external_reference),
    OPT_SPEC(SmbiosPort, "connector_type", OPT_U8, connector_type),
    OPT_SPEC(SmbiosPort, "port_type", OPT_U8, port_type),
    {0},
};

/* ---- life cycle ---- */

static void smbios_file_free(void *opaque)
{
    SmbiosFile *file = opaque;
    g_bytes_unref(file->bytes);
    g_free(file);
}

static void smbios_port_free(void *opaque)
{
    opts_clear(port_specs, opaque);
    g_free(opaque);
}

void smbios_options_free(SmbiosOptions *o)
{
    if (o == NULL) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(smbios_single); i++) {
        opts_clear(smbios_single[i].specs, o);
    }
    g_ptr_array_unref(o->ports);
    g_ptr_array_unref(o->oem_strings);
    g_ptr_array_unref(o->files);
    g_free(o);
}

static SmbiosOptions *smbios_options_empty(void)
{
    SmbiosOptions *o = g_new0(SmbiosOptions, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(smbios_single); i++) {
        opts_init(smbios_single[i].specs, o);
    }
    o->ports = g_ptr_array_new_with_free_func(smbios_port_free);
    o->oem_strings = g_ptr_array_new_with_free_func(g_free);
    o->files = g_ptr_array_new_with_free_func(smbios_file_free);
    return o;
}

/* ---- file= ---- */

static bool smbios_fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool smbios_fail(GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-smbios %s", text);
    return false;
}

/* Whether @data is one structure: a header with a plausible length, then strings that end with two
 * NULs at the end of the file. */
static bool smbios_is_structure(const uint8_t *data, gsize size)
{
    if (size < SMBIOS_HEADER_SIZE + 2 || data[1] < SMBIOS_HEADER_SIZE || data[1] > size - 2) {
        return false;
    }
    gsize at = data[1];
    while (at + 1 < size && (data[at] != 0 || data[at + 1] != 0)) {
        at++;
    }
    return at + 2 == size;
}

static bool smbios_take_file(SmbiosOptions *o, const char *path, GError **error)
{
    gsize size;
    g_autoptr(GError) failure = NULL;
    g_autoptr(GBytes) bytes = user_file_read(path, SMBIOS_FILE_MAX, &failure);
    if (bytes == NULL) {
        return smbios_fail(error, "file=%s: %s", path, failure->message);
    }
    const uint8_t *structure = g_bytes_get_data(bytes, &size);
    if (!smbios_is_structure(structure, size)) {
        return smbios_fail(error, "file=%s: is no SMBIOS structure", path);
    }
    const uint8_t type = structure[0];
    if (type == SMBIOS_TYPE_END || o->has_type[type]) {
        return smbios_fail(error, "file=%s: its type %u %s", path, type,
                           type == SMBIOS_TYPE_END ? "ends the tables, and skiff adds it"
                                                   : "also has type= options");
    }
    SmbiosFile *file = g_new(SmbiosFile, 1);
    *file = (SmbiosFile){.type = type, .bytes = g_steal_pointer(&bytes)};
    g_ptr_array_add(o->files, file);
    o->has_file[type] = true;
    return true;
}

static bool smbios_parse_file(SmbiosOptions *o, const OptDict *dict, bool read_files,
                              GError **error)
{
    const char *path = opt_dict_get(dict, "file");
    if (path == NULL || opt_dict_count(dict) != 1) {
        return smbios_fail(error, "file=: takes no other options");
    }
    return !read_files || smbios_take_file(o, path, error);
}

/* ---- type= ---- */

typedef struct SmbiosOem {
    GPtrArray *values, *paths;
} SmbiosOem;

static const OptSpec oem_specs[] = {
    OPT_SPEC(SmbiosOem, "value", OPT_STRLIST, values),
    OPT_SPEC(SmbiosOem, "path", OPT_STRLIST, paths),
    {0},
};

static bool smbios_read_oem_string(SmbiosOptions *o, const char *path, GError **error)
{
    gsize size;
    g_autoptr(GError) failure = NULL;
    g_autoptr(GBytes) bytes = user_file_read(path, SMBIOS_STRING_MAX, &failure);
    if (bytes == NULL) {
        return smbios_fail(error, "type=11,path=%s: %s", path, failure->message);
    }
    const char *text = g_bytes_get_data(bytes, &size);
    if (size == 0 || memchr(text, 0, size) != NULL) {
        return smbios_fail(error, "type=11,path=%s: a string has 1 to %u bytes, none of them NUL",
                           path, SMBIOS_STRING_MAX);
    }
    g_ptr_array_add(o->oem_strings, g_strndup(text, size));
    return true;
}

static bool smbios_take_oem(SmbiosOptions *o, const SmbiosOem *oem, bool read_files, GError **error)
{
    bool ok = true;
    for (unsigned i = 0; oem->values != NULL && i < oem->values->len; i++) {
        g_ptr_array_add(o->oem_strings, g_strdup(oem->values->pdata[i]));
    }
    for (unsigned i = 0; oem->paths != NULL && i < oem->paths->len && read_files && ok; i++) {
        ok = smbios_read_oem_string(o, oem->paths->pdata[i], error);
    }
    if (ok && o->oem_strings->len > UINT8_MAX) {
        ok = smbios_fail(error, "type=11: there is room for %u strings", UINT8_MAX);
    }
    return ok;
}

static bool smbios_parse_oem(SmbiosOptions *o, const OptDict *dict, bool read_files, GError **error)
{
    SmbiosOem oem;
    opts_init(oem_specs, &oem);
    if (!opts_bind(oem_specs, &oem, dict, "-smbios type=11", error)) {
        return false;
    }
    bool ok = smbios_take_oem(o, &oem, read_files, error);
    opts_clear(oem_specs, &oem);
    return ok;
}

static bool smbios_parse_port(SmbiosOptions *o, const OptDict *dict, GError **error)
{
    SmbiosPort *port = g_new0(SmbiosPort, 1);
    opts_init(port_specs, port);
    if (!opts_bind(port_specs, port, dict, "-smbios type=8", error)) {
        g_free(port);
        return false;
    }
    g_ptr_array_add(o->ports, port);
    return true;
}

static void smbios_merge_entry(const char *key, const char *value, void *opaque)
{
    opt_dict_set(opaque, key, value);
}

/* Binds all options of a type at once: the last value of a key counts. */
static bool smbios_bind_single(SmbiosOptions *o, OptDict *const *merged, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(smbios_single); i++) {
        g_autofree char *what = g_strdup_printf("-smbios type=%u", smbios_single[i].type);
        if (merged[i] != NULL && !opts_bind(smbios_single[i].specs, o, merged[i], what, error)) {
            opts_init(smbios_single[i].specs, o); /* opts_bind() has freed its strings */
            return false;
        }
    }
    return true;
}

static bool smbios_take_type(SmbiosOptions *o, OptDict *dict, OptDict **merged, bool read_files,
                             GError **error)
{
    uint64_t type;
    g_autofree char *text = opt_dict_take(dict, "type");
    if (!opt_parse_u64(text, 0, SMBIOS_TYPE_END, &type, error)) {
        g_prefix_error(error, "-smbios type=%s: ", text);
        return false;
    }
    if (o->has_file[type]) {
        return smbios_fail(error, "type=%s: a file= has this type too", text);
    }
    o->has_type[type] = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(smbios_single); i++) {
        if (smbios_single[i].type == type) {
            merged[i] = merged[i] != NULL ? merged[i] : opt_dict_new();
            opt_dict_foreach(dict, smbios_merge_entry, merged[i]);
            return true;
        }
    }
    if (type == 8 || type == 11) {
        return type == 8 ? smbios_parse_port(o, dict, error)
                         : smbios_parse_oem(o, dict, read_files, error);
    }
    return smbios_fail(
        error, "type=%s: skiff has types 0, 1, 2, 3, 4, 8, 11 and 17; others by file=", text);
}

static bool smbios_parse_all(SmbiosOptions *o, const GPtrArray *options, OptDict **merged,
                             bool read_files, GError **error)
{
    for (unsigned i = 0; options != NULL && i < options->len; i++) {
        const OptDict *dict = options->pdata[i];
        g_autoptr(OptDict) copy = opt_dict_copy(dict);
        if (opt_dict_has(dict, "file")) {
            if (!smbios_parse_file(o, dict, read_files, error)) {
                return false;
            }
        } else if (opt_dict_get(dict, "type") == NULL) {
            return smbios_fail(error, "needs type=number or file=path");
        } else if (!smbios_take_type(o, copy, merged, read_files, error)) {
            return false;
        }
    }
    return smbios_bind_single(o, merged, error);
}

/* "MAJOR.MINOR" */
static bool smbios_parse_release(SmbiosOptions *o, GError **error)
{
    unsigned major, minor;
    char rest;
    if (o->bios.release == NULL) {
        return true;
    }
    if (sscanf(o->bios.release, "%u.%u%c", &major, &minor, &rest) != 2 || major > UINT8_MAX ||
        minor > UINT8_MAX) {
        return smbios_fail(error, "type=0,release=%s: must be two numbers up to 255, as 1.0 is",
                           o->bios.release);
    }
    o->release_major = (uint8_t)major;
    o->release_minor = (uint8_t)minor;
    return true;
}

static bool smbios_check(SmbiosOptions *o, GError **error)
{
    const char *uuid = o->system.uuid;
    if (uuid != NULL && !g_uuid_string_is_valid(uuid)) {
        return smbios_fail(error, "type=1,uuid=%s: is no UUID", uuid);
    }
    return smbios_parse_release(o, error);
}

SmbiosOptions *smbios_options_new(const GPtrArray *options, bool read_files, GError **error)
{
    g_autoptr(SmbiosOptions) o = smbios_options_empty();
    OptDict *merged[G_N_ELEMENTS(smbios_single)] = {0};
    bool ok = smbios_parse_all(o, options, merged, read_files, error) && smbios_check(o, error);
    for (unsigned i = 0; i < G_N_ELEMENTS(merged); i++) {
        opt_dict_free(merged[i]);
    }
    return ok ? g_steal_pointer(&o) : NULL;
}
