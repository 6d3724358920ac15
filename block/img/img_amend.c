/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img amend: changes the options of an image. */
#include <stdio.h>
#include <string.h>
#include "block/img/img_create.h"
#include "block/qcow2/qcow2_amend.h"

typedef struct Amend {
    BlockBackend *blk;
    Qcow2Amend change;
    bool ok;
    GError *error;
} Amend;

/* ---- options ---- */

static void amend_print_options(void)
{
    puts("Amend options for 'qcow2':\n"
         "  backing_file=<str>     - File name of a base image\n"
         "  backing_fmt=<str>      - Image format of the base image\n"
         "  compat=<str>           - Compatibility level (v2 [0.10] or v3 [1.1])\n"
         "  data_file=<str>        - File name of an external data file\n"
         "  data_file_raw=<bool (on/off)> - The external data file must stay valid as a raw image\n"
         "  lazy_refcounts=<bool (on/off)> - Postpone refcount updates\n"
         "  refcount_bits=<num>    - Width of a reference count entry in bits\n"
         "  size=<size>            - Virtual disk size");
}

static bool amend_supports(const char *format)
{
    bool supported = strcmp(format, "qcow2") == 0;
    if (!supported && block_driver_find(format) == NULL) {
        img_error("Unknown file format '%s'", format);
    } else if (!supported) {
        img_error("Format driver '%s' does not support option amendment", format);
    }
    return supported;
}

static bool amend_asks_help(const GPtrArray *options)
{
    for (unsigned i = 0; i < options->len; i++) {
        g_auto(GStrv) words = g_strsplit(options->pdata[i], ",", -1);
        if (g_strv_contains((const char *const *)words, "help") ||
            g_strv_contains((const char *const *)words, "?")) {
            return true;
        }
    }
    return false;
}

static bool amend_parse(const GPtrArray *options, CreateValues *v)
{
    static const struct {
        CreateOption option;
        const char *name;
    } fixed[] = {{CREATE_CLUSTER_SIZE, "cluster_size"},
                 {CREATE_EXTENDED_L2, "extended_l2"},
                 {CREATE_PREALLOCATION, "preallocation"},
                 {CREATE_COMPRESSION_TYPE, "compression_type"}};
    g_autoptr(GError) error = NULL;
    for (unsigned i = 0; i < options->len; i++) {
        if (!create_parse(v, "qcow2", options->pdata[i], &error)) {
            img_error("%s", error->message);
            return false;
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(fixed); i++) {
        if (v->texts[fixed[i].option] != NULL) {
            img_error("Invalid parameter '%s'", fixed[i].name);
            fputs("This option is only supported for image creation\n", stderr);
            return false;
        }
    }
    return true;
}

static Qcow2AmendBool amend_bool(const char *text)
{
    return text == NULL              ? QCOW2_AMEND_KEEP
           : strcmp(text, "on") == 0 ? QCOW2_AMEND_ON
                                     : QCOW2_AMEND_OFF;
}

static uint64_t amend_number(const char *text)
{
    return text != NULL ? g_ascii_strtoull(text, NULL, 10) : 0;
}

/* Texts are borrowed from @v. */
static bool amend_convert(const CreateValues *v, Qcow2Amend *a)
{
    const char *compat = v->texts[CREATE_COMPAT];
    *a = (Qcow2Amend){
        .refcount_bits = amend_number(v->texts[CREATE_REFCOUNT_BITS]),
        .has_refcount_bits = v->texts[CREATE_REFCOUNT_BITS] != NULL,
        .lazy_refcounts = amend_bool(v->texts[CREATE_LAZY_REFCOUNTS]),
        .data_file_raw = amend_bool(v->texts[CREATE_DATA_FILE_RAW]),
        .data_file = v->texts[CREATE_DATA_FILE],
        .backing_file = v->texts[CREATE_BACKING_FILE],
        .backing_format = v->texts[CREATE_BACKING_FMT],
        .size = amend_number(v->texts[CREATE_SIZE]),
    };
    if (compat != NULL) {
        bool two = strcmp(compat, "0.10") == 0 || strcmp(compat, "v2") == 0;
        bool three = strcmp(compat, "1.1") == 0 || strcmp(compat, "v3") == 0;
        if (!two && !three) {
            img_error("Unknown compatibility level %s", compat);
            return false;
        }
        a->version = two ? 2 : 3;
    }
    if (a->size % BLOCK_SECTOR_SIZE != 0) {
        img_error("The new size must be a multiple of %u", BLOCK_SECTOR_SIZE);
        return false;
    }
    return true;
}

/* ---- the change ---- */

static void amend_at_home(void *opaque)
{
    Amend *a = opaque;
    enter_coroutine();
    enter_iothread(blk_home(a->blk));
    a->ok = qcow2_co_amend(blk_root(a->blk), &a->change, &a->error);
}

/* False: reported. */
static coroutine_fn RUNS_IN_MAIN bool amend_co_call(Amend *a)
{
    co_call_in(blk_home(a->blk), amend_at_home, a);
    if (!a->ok) {
        img_error("%s", a->error->message);
        if (strcmp(a->error->message, QCOW2_AMEND_NO_BACKING) == 0) {
            fputs("You can use 'skiff-img rebase' instead.\n", stderr);
        }
        g_clear_error(&a->error);
    }
    return a->ok;
}

static coroutine_fn RUNS_IN_MAIN bool amend_co_run(Amend *a)
{
    g_autoptr(GError) error = NULL;
    uint64_t size = a->change.size;
    if (!amend_co_call(a)) {
        return false;
    }
    if (size == 0) {
        return true;
    }
    if (blk_co_truncate(a->blk, size, &error) < 0) {
        img_error("%s", error->message);
        return false;
    }
    a->change = (Qcow2Amend){.version = a->change.version};
    return amend_co_call(a);
}

/* ---- the command ---- */

static coroutine_fn RUNS_IN_MAIN int amend_co_open(Img *img, const ImgOpen *o,
                                                   const GPtrArray *options, bool progress)
{
    Amend a = {0};
    CreateValues v = {0};
    BlockNodeInfo info;
    ImgProgress p;
    bool ok = false;
    a.blk = img_co_open(img, "image", o);
    if (a.blk == NULL) {
        return 1;
    }
    block_node_info(blk_root(a.blk), &info);
    if (!amend_supports(info.driver)) {
        blk_co_free(a.blk);
        return 1;
    }
    if (amend_asks_help(options)) {
        amend_print_options();
        ok = true;
    } else if (amend_parse(options, &v) && amend_convert(&v, &a.change)) {
        img_progress_init(&p, progress, 1.0);
        img_progress_set(&p, 0, 1);
        ok = amend_co_run(&a);
        if (ok) {
            img_progress_set(&p, 1, 1);
        }
        img_progress_end(&p);
    }
    create_clear(&v);
    blk_co_free(a.blk);
    return ok ? 0 : 1;
}

int img_co_amend(Img *img)
{
    ImgOpen o = {.writable = true};
    bool progress = false, quiet = false, force = false;
    const char *cache = NULL;
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    const ImgOption options[] = {
        {NULL, 'f', IMG_TEXT, &o.format},
        {NULL, 'o', IMG_TEXTS, list},
        {NULL, 'p', IMG_FLAG, &progress},
        {NULL, 'q', IMG_FLAG, &quiet},
        {NULL, 't', IMG_TEXT, &cache},
        {"force", 0, IMG_FLAG, &force},
        {"image-opts", 0, IMG_FLAG, &o.image_opts},
        {0},
    };
    int status;
    if (!img_parse_options(img, options, &status)) {
        return status;
    }
    if (list->len == 0) {
        return img_usage_error("Must specify options (-o)");
    }
    if (o.format != NULL && amend_asks_help(list)) {
        if (!amend_supports(o.format)) {
            return 1;
        }
        amend_print_options();
        return 0;
    }
    if (img->file_count != 1) {
        img_error("Expecting one image file name");
        return 1;
    }
    if (cache != NULL && !img_parse_cache(cache, &o.cache)) {
        img_error("Invalid cache option: %s", cache);
        return 1;
    }
    o.filename = img->files[0];
    return amend_co_open(img, &o, list, progress && !quiet);
}
