/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share. */
#include "block/img/img.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "block/node.h"
#include "block/qcow2/qcow2.h"

/* ---- messages and arguments ---- */

static void img_print_error(const char *format, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(format, ap);
    g_autofree char *line = opt_printable(text);
    fprintf(stderr, "skiff-img: %s\n", line);
}

void img_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    img_print_error(format, ap);
    va_end(ap);
}

int img_usage_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    img_print_error(format, ap);
    va_end(ap);
    fputs("Try 'skiff-img --help' for more information\n", stderr);
    return 1;
}

char *img_size_text(uint64_t size)
{
    static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    int exponent;
    frexp((double)size / (1000.0 / 1024.0), &exponent); /* 1000 and more is the next unit */
    unsigned unit = exponent > 0 ? (unsigned)(exponent - 1) / 10 : 0;
    return g_strdup_printf("%0.3g %sB", (double)size / (double)((uint64_t)1 << (unit * 10)),
                           units[unit]);
}

/* ---- opening ---- */

static OptDict *img_describe(const ImgOpen *open, const char *format, GError **error)
{
    OptDict *d;
    if (open->image_opts) {
        d = opt_dict_parse(open->filename, "driver", error);
        if (d != NULL && opt_dict_has(d, "file.filename")) {
            opt_dict_set_default(d, "file.driver", "file");
        }
    } else {
        d = opt_dict_new();
        opt_dict_set(d, "driver", format);
        opt_dict_set(d, "file.driver", "file");
        opt_dict_set(d, "file.filename", open->filename);
    }
    if (d != NULL) {
        opt_dict_set_default(d, "read-only", "on");
        if (open->force_share) {
            opt_dict_set_default(d, "force-share", "on");
        }
    }
    return d;
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *
img_co_open_as(Img *img, const char *name, const ImgOpen *open, const char *format)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = img_describe(open, format, &error);
    BlockNode *node = d != NULL ? block_co_open(d, img->home, &error) : NULL;
    BlockBackend *blk = NULL;
    if (node != NULL) {
        blk = blk_co_new(name, node, false, &error);
        block_co_unref(node);
    }
    if (blk == NULL) {
        img_error("Could not open '%s': %s", open->filename, error->message);
    }
    return blk;
}

typedef struct ImgProbe {
    BlockBackend *blk;
    uint8_t head[QCOW2_PROBE_LENGTH];
    int ret;
} ImgProbe;

static void img_probe_at_home(void *opaque)
{
    ImgProbe *p = opaque;
    enter_coroutine();
    enter_iothread(blk_home(p->blk));
    uint64_t bytes = MIN(sizeof(p->head), blk_size(p->blk));
    struct iovec iov = {p->head, bytes};
    p->ret = blk_co_preadv(p->blk, 0, bytes, &iov, 1, 0);
}

const char *img_co_probe(BlockBackend *blk, const char *filename)
{
    ImgProbe p = {.blk = blk};
    co_call_in(blk_home(blk), img_probe_at_home, &p);
    if (p.ret < 0) {
        img_error("Could not open '%s': Could not read image for determining its format: %s",
                  filename, g_strerror(-p.ret));
        return NULL;
    }
    return qcow2_probe(p.head, sizeof(p.head));
}

/* The format that the first bytes of the image show; NULL: reported. */
static coroutine_fn RUNS_IN_MAIN const char *img_co_find_format(Img *img, const ImgOpen *open)
{
    BlockBackend *blk = img_co_open_as(img, "probe", open, "raw");
    const char *format = blk != NULL ? img_co_probe(blk, open->filename) : NULL;
    blk_co_free(blk);
    return format;
}

BlockBackend *img_co_open(Img *img, const char *name, const ImgOpen *open)
{
    const char *format = open->format;
    if (format == NULL && !open->image_opts) {
        format = img_co_find_format(img, open);
        if (format == NULL) {
            return NULL;
        }
    }
    if (!open->image_opts && block_driver_find(format) == NULL) {
        img_error("Could not open '%s': Unknown driver '%s'", open->filename, format);
        return NULL;
    }
    return img_co_open_as(img, name, open, format);
}
