/* SPDX-License-Identifier: Apache-2.0 */
/* The options of -o. */
#include <inttypes.h>
#include <string.h>
#include "block/img/img_create.h"

typedef enum CreateKind { CREATE_TEXT, CREATE_BYTES, CREATE_BOOL, CREATE_NUMBER } CreateKind;

typedef struct CreateRow {
    const char *name;
    CreateKind kind;
    const char *value_qcow2; /* the default; NULL: none */
    bool raw;                /* format raw has it too */
    const char *help;
} CreateRow;

static const CreateRow create_rows[CREATE_OPTIONS] = {
    [CREATE_CLUSTER_SIZE] = {"cluster_size", CREATE_BYTES, "65536", false, "qcow2 cluster size"},
    [CREATE_EXTENDED_L2] = {"extended_l2", CREATE_BOOL, "off", false, "Extended L2 tables"},
    [CREATE_PREALLOCATION] = {"preallocation", CREATE_TEXT, NULL, true,
                              "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    [CREATE_COMPRESSION_TYPE] = {"compression_type", CREATE_TEXT, "zlib", false,
                                 "Compression method used for image cluster compression"},
    [CREATE_SIZE] = {"size", CREATE_BYTES, NULL, true, "Virtual disk size"},
    [CREATE_COMPAT] = {"compat", CREATE_TEXT, NULL, false,
                       "Compatibility level (v2 [0.10] or v3 [1.1])"},
    [CREATE_BACKING_FILE] = {"backing_file", CREATE_TEXT, NULL, false, "File name of a base image"},
    [CREATE_BACKING_FMT] = {"backing_fmt", CREATE_TEXT, NULL, false,
                            "Image format of the base image"},
    [CREATE_DATA_FILE] = {"data_file", CREATE_TEXT, NULL, false,
                          "File name of an external data file"},
    [CREATE_DATA_FILE_RAW] = {"data_file_raw", CREATE_BOOL, NULL, false,
                              "The external data file must stay valid as a raw image"},
    [CREATE_LAZY_REFCOUNTS] = {"lazy_refcounts", CREATE_BOOL, "off", false,
                               "Postpone refcount updates"},
    [CREATE_REFCOUNT_BITS] = {"refcount_bits", CREATE_NUMBER, "16", false,
                              "Width of a reference count entry in bits"},
};

bool create_format_has(const char *format, CreateOption option)
{
    return strcmp(format, "qcow2") == 0 || create_rows[option].raw;
}

void create_print_options(const char *format)
{
    static const char *const kinds[] = {"str", "size", "bool (on/off)", "num"};
    puts("Supported options:");
    for (unsigned i = 0; i < CREATE_OPTIONS; i++) {
        const CreateRow *row = &create_rows[i];
        if (create_format_has(format, i)) {
            g_autofree char *name = g_strdup_printf("%s=<%s>", row->name, kinds[row->kind]);
            printf("  %-22s - %s\n", name, row->help);
        }
    }
}

/* ---- values ---- */

void create_set(CreateValues *v, CreateOption option, const char *value)
{
    g_free(v->texts[option]);
    v->texts[option] = g_strdup(value);
}

void create_set_defaults(CreateValues *v, const char *format)
{
    for (unsigned i = 0; i < CREATE_OPTIONS; i++) {
        if (v->texts[i] == NULL && create_format_has(format, i)) {
            v->texts[i] = g_strdup(create_rows[i].value_qcow2);
        }
    }
}

void create_clear(CreateValues *v)
{
    for (unsigned i = 0; i < CREATE_OPTIONS; i++) {
        g_clear_pointer(&v->texts[i], g_free);
    }
}

static void create_print_one(const CreateValues *v, CreateOption option)
{
    if (v->texts[option] != NULL) {
        g_auto(GStrv) parts = g_strsplit(v->texts[option], ",", -1);
        g_autofree char *text = g_strjoinv(",,", parts);
        printf(" %s=%s", create_rows[option].name, text);
    }
}

void create_print(const CreateValues *v, const char *format)
{
    bool raw = strcmp(format, "raw") == 0;
    if (raw) {
        create_print_one(v, CREATE_SIZE);
    }
    for (unsigned i = 0; i < CREATE_OPTIONS; i++) {
        if (i != CREATE_SIZE || !raw) {
            create_print_one(v, i);
        }
    }
}

/* ---- parsing ---- */

typedef struct CreateParse {
    CreateValues *values;
    const char *format;
    GError **error;
    bool failed;
} CreateParse;

static bool create_refuse(GError **error, const char *name, const char *expects)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Parameter '%s' expects %s", name, expects);
    return false;
}

/* Stores the value in the spelling in which it is printed. */
static bool create_take(CreateValues *v, CreateOption option, const char *value, GError **error)
{
    const CreateRow *row = &create_rows[option];
    uint64_t number;
    bool on;
    char text[24];
    switch (row->kind) {
    case CREATE_TEXT:
        create_set(v, option, value);
        return true;
    case CREATE_BOOL:
        if (!opt_parse_bool(value, &on, NULL)) {
            return create_refuse(error, row->name, "'on' or 'off'");
        }
        create_set(v, option, on ? "on" : "off");
        return true;
    case CREATE_BYTES:
        if (!opt_parse_size(value, 1, &number, NULL)) {
            return create_refuse(error, row->name,
                                 "a size with an optional suffix k, M, G, T, P or E");
        }
        break;
    case CREATE_NUMBER:
        if (!opt_parse_u64(value, 0, UINT64_MAX, &number, NULL)) {
            return create_refuse(error, row->name, "a number");
        }
        break;
    }
    snprintf(text, sizeof(text), "%" PRIu64, number);
    create_set(v, option, text);
    return true;
}

static void create_parse_one(const char *key, const char *value, void *opaque)
{
    CreateParse *p = opaque;
    if (p->failed) {
        return;
    }
    for (unsigned i = 0; i < CREATE_OPTIONS; i++) {
        if (strcmp(key, create_rows[i].name) == 0 && create_format_has(p->format, i)) {
            p->failed = !create_take(p->values, i, value, p->error);
            return;
        }
    }
    g_autofree char *excerpt = opt_excerpt(key);
    g_set_error(p->error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Invalid parameter '%s'", excerpt);
    p->failed = true;
}

bool create_parse(CreateValues *v, const char *format, const char *text, GError **error)
{
    CreateParse p = {.values = v, .format = format, .error = error};
    g_autoptr(OptDict) d = opt_dict_parse(text, NULL, error);
    if (d == NULL) {
        return false;
    }
    opt_dict_foreach(d, create_parse_one, &p);
    return !p.failed;
}

/* ---- conversion ---- */

/* The index of @value in @names; false + error if it is not there. NULL is 0. */
static bool create_find(const char *value, const char *const *names, const char *name, int *index,
                        GError **error)
{
    *index = 0;
    for (int i = 0; value != NULL && names[i] != NULL; i++) {
        if (strcmp(value, names[i]) == 0) {
            *index = i;
            return true;
        }
    }
    if (value != NULL) {
        g_autofree char *excerpt = opt_excerpt(value);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Parameter '%s' does not accept value '%s'", name, excerpt);
    }
    return value == NULL;
}

static bool create_is_on(const CreateValues *v, CreateOption option)
{
    return g_strcmp0(v->texts[option], "on") == 0;
}

static uint64_t create_number(const CreateValues *v, CreateOption option)
{
    return v->texts[option] != NULL ? g_ascii_strtoull(v->texts[option], NULL, 10) : 0;
}

bool create_convert(const CreateValues *v, const char *format, Qcow2CreateOptions *o,
                    GError **error)
{
    static const char *const versions[] = {"1.1", "v3", "0.10", "v2", NULL};
    static const char *const compressions[] = {"zlib", "zstd", NULL};
    int version, compression, preallocation;
    if (!create_find(v->texts[CREATE_COMPAT], versions, "version", &version, error) ||
        !create_find(v->texts[CREATE_PREALLOCATION], block_preallocation_names, "preallocation",
                     &preallocation, error) ||
        !create_find(v->texts[CREATE_COMPRESSION_TYPE], compressions, "compression-type",
                     &compression, error)) {
        return false;
    }
    *o = (Qcow2CreateOptions){
        .size = create_number(v, CREATE_SIZE),
        .version = version < 2 ? 3 : 2,
        .cluster_size = create_number(v, CREATE_CLUSTER_SIZE),
        .refcount_bits = create_number(v, CREATE_REFCOUNT_BITS),
        .lazy_refcounts = create_is_on(v, CREATE_LAZY_REFCOUNTS),
        .extended_l2 = create_is_on(v, CREATE_EXTENDED_L2),
        .compression = compression == 0 ? QCOW2_COMPRESSION_ZLIB : QCOW2_COMPRESSION_ZSTD,
        .backing_file = v->texts[CREATE_BACKING_FILE],
        .backing_format = v->texts[CREATE_BACKING_FMT],
        .data_file = v->texts[CREATE_DATA_FILE],
        .data_file_raw = create_is_on(v, CREATE_DATA_FILE_RAW),
        .preallocation = (BlockPreallocation)preallocation,
    };
    if (o->size > BLOCK_SIZE_MAX) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "The image size is too large");
        return false;
    }
    o->size = block_align_up(o->size, BLOCK_SECTOR_SIZE);
    if (strcmp(format, "raw") == 0 && o->preallocation == BLOCK_PREALLOCATION_METADATA) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Unsupported preallocation mode: metadata");
        return false;
    }
    return strcmp(format, "raw") == 0 || qcow2_create_check(o, error);
}
