/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img check: whether the metadata of an image is consistent. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "block/img/img.h"
#include "block/qcow2/qcow2_check.h"
#include "util/opts/json.h"

#define CHECK_STATUS_ERROR 1
#define CHECK_STATUS_CORRUPT 2
#define CHECK_STATUS_LEAKS 3
#define CHECK_STATUS_UNSUPPORTED 63

/* ---- output ---- */

static void check_print_human(const Qcow2CheckResult *r)
{
    if (r->corruptions == 0 && r->leaks == 0 && r->check_errors == 0) {
        puts("No errors were found on the image.");
    }
    if (r->corruptions > 0) {
        printf("\n%" PRIu64 " errors were found on the image.\nData may be corrupted, or further "
               "writes to the image may corrupt it.\n",
               r->corruptions);
    }
    if (r->leaks > 0) {
        printf("\n%" PRIu64 " leaked clusters were found on the image.\nThis means waste of disk "
               "space, but no harm to data.\n",
               r->leaks);
    }
    if (r->check_errors > 0) {
        printf("\n%" PRIu64 " internal errors have occurred during the check.\n", r->check_errors);
    }
    if (r->total_clusters > 0 && r->allocated_clusters > 0) {
        double allocated = (double)r->allocated_clusters;
        printf("%" PRIu64 "/%" PRIu64
               " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
               r->allocated_clusters, r->total_clusters,
               allocated * 100.0 / (double)r->total_clusters,
               (double)r->fragmented_clusters * 100.0 / allocated,
               (double)r->compressed_clusters * 100.0 / allocated);
    }
    if (r->image_end > 0) {
        printf("Image end offset: %" PRIu64 "\n", r->image_end);
    }
}

/* The order of the members is that of qemu-img. */
static void check_print_json(const Qcow2CheckResult *r, const char *filename, const char *format)
{
    const struct {
        const char *name;
        uint64_t value;
        bool always;
    } members[] = {
        {"image-end-offset", r->image_end, false},
        {"compressed-clusters", r->compressed_clusters, false},
        {"total-clusters", r->total_clusters, false},
        {"corruptions", r->corruptions, false},
        {"corruptions-fixed", r->corruptions_fixed, false},
        {"check-errors", r->check_errors, true},
        {"leaks", r->leaks, false},
        {"leaks-fixed", r->leaks_fixed, false},
        {"allocated-clusters", r->allocated_clusters, false},
    };
    struct json_object *o = json_object_new_object();
    for (unsigned i = 0; i < G_N_ELEMENTS(members); i++) {
        if (members[i].value > 0 || members[i].always) {
            json_object_object_add(o, members[i].name, json_object_new_uint64(members[i].value));
        }
    }
    json_object_object_add(o, "filename", json_object_new_string(filename));
    json_object_object_add(o, "format", json_object_new_string(format));
    if (r->fragmented_clusters > 0) {
        json_object_object_add(o, "fragmented-clusters",
                               json_object_new_uint64(r->fragmented_clusters));
    }
    g_autoptr(GString) text = g_string_new(NULL);
    json_write_text(text, o, true);
    puts(text->str);
    json_object_put(o);
}

/* ---- the check ---- */

static void check_report(void *opaque, const char *line)
{
    g_autofree char *text = opt_printable(line);
    fprintf(stderr, "%s\n", text);
}

typedef struct ImgCheck {
    BlockBackend *blk; /* of the file */
    Qcow2CheckRequest request;
    int ret;
} ImgCheck;

static void check_at_home(void *opaque)
{
    ImgCheck *k = opaque;
    enter_coroutine();
    enter_iothread(blk_home(k->blk));
    k->request.file = blk_root(k->blk);
    k->ret = qcow2_co_check(&k->request);
}

/* The second check of a repaired image: what it finds is the result. */
static coroutine_fn RUNS_IN_MAIN void check_co_again(ImgCheck *k, bool json, bool quiet)
{
    Qcow2CheckResult *r = &k->request.result;
    uint64_t leaks = r->leaks_fixed, corruptions = r->corruptions_fixed;
    if (!json && !quiet) {
        printf("The following inconsistencies were found and repaired:\n\n    %" PRIu64
               " leaked clusters\n    %" PRIu64
               " corruptions\n\nDouble checking the fixed image now...\n",
               leaks, corruptions);
    }
    k->request.fix = 0;
    co_call_in(blk_home(k->blk), check_at_home, k);
    r->leaks_fixed = leaks;
    r->corruptions_fixed = corruptions;
}

static coroutine_fn RUNS_IN_MAIN int check_co_run(ImgCheck *k, const ImgFile *f, bool json,
                                                  bool quiet)
{
    const Qcow2CheckResult *r = &k->request.result;
    co_call_in(blk_home(k->blk), check_at_home, k);
    if (r->leaks_fixed > 0 || r->corruptions_fixed > 0) {
        check_co_again(k, json, quiet);
    }
    if (k->request.error != NULL) {
        img_error("Could not open '%s': %s", f->filename, k->request.error->message);
        g_clear_error(&k->request.error);
        return CHECK_STATUS_ERROR;
    }
    if (k->ret == 0 && !quiet) {
        if (json) {
            check_print_json(r, f->filename, f->format);
        } else {
            check_print_human(r);
        }
    }
    if (k->ret < 0) {
        img_error("Check failed: %s", g_strerror(-k->ret));
        return CHECK_STATUS_ERROR;
    }
    if (r->check_errors > 0) {
        img_error("Check failed");
        return CHECK_STATUS_ERROR;
    }
    return r->corruptions > 0 ? CHECK_STATUS_CORRUPT : r->leaks > 0 ? CHECK_STATUS_LEAKS : 0;
}

static coroutine_fn RUNS_IN_MAIN int check_co_image(Img *img, const ImgOpen *o, unsigned fix,
                                                    bool json, bool quiet)
{
    ImgFile f;
    ImgCheck k = {.request = {.report = check_report, .fix = fix}};
    if (!img_co_open_file(img, "image", o, &f)) {
        return CHECK_STATUS_ERROR;
    }
    int status = CHECK_STATUS_UNSUPPORTED;
    if (strcmp(f.format, "qcow2") == 0) {
        k.blk = f.blk;
        k.request.who = f.filename;
        status = check_co_run(&k, &f, json, quiet);
    } else {
        img_error("This image format does not support checks");
    }
    img_co_close_file(&f);
    return status;
}

static bool check_parse_repair(const char *text, unsigned *fix)
{
    if (text == NULL) {
        return true;
    }
    *fix = QCOW2_FIX_LEAKS;
    if (strcmp(text, "all") == 0) {
        *fix |= QCOW2_FIX_ERRORS;
        return true;
    }
    return strcmp(text, "leaks") == 0;
}

int img_co_check(Img *img)
{
    ImgOpen o = {0};
    bool json = false, quiet = false;
    const char *repair = NULL, *cache = NULL;
    const ImgOption options[] = {
        {"format", 'f', IMG_TEXT, &o.format},       {"repair", 'r', IMG_TEXT, &repair},
        {"output", 0, IMG_OUTPUT, &json},           {NULL, 'T', IMG_TEXT, &cache},
        {"quiet", 'q', IMG_FLAG, &quiet},           {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts}, {0},
    };
    int status;
    if (!img_parse_options(img, options, &status)) {
        return status;
    }
    unsigned fix = 0;
    if (!check_parse_repair(repair, &fix)) {
        return img_usage_error("Unknown option value for -r (expecting 'leaks' or 'all'): %s",
                               repair);
    }
    if (img->file_count != 1) {
        return img_usage_error("Expecting one image file name");
    }
    if (cache != NULL && !img_parse_cache(cache, &o.cache)) {
        img_error("Invalid source cache option: %s", cache);
        return CHECK_STATUS_ERROR;
    }
    o.filename = img->files[0];
    o.writable = fix != 0;
    return check_co_image(img, &o, fix, json, quiet);
}
