/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a subcommand: one loop over getopt_long(), driven by the subcommand's table. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "block/img/img.h"
#include "block/node.h"

enum {
    OPTIONS_MAX = 48,
    OPTIONS_OBJECT = 500,
    OPTIONS_LONG_BASE = 256, /* getopt's value of table[i] is OPTIONS_LONG_BASE + i */
};

bool img_parse_output(const char *text, bool *json)
{
    *json = strcmp(text, "json") == 0;
    if (!*json && strcmp(text, "human") != 0) {
        img_error("--output must be used with human or json as argument.");
        return false;
    }
    return true;
}

bool img_parse_size(const char *what, const char *text, uint64_t *size)
{
    if (!opt_parse_size(text, 1, size, NULL)) {
        img_error("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
        img_error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
        return false;
    }
    if (*size > BLOCK_SIZE_MAX) {
        img_error("Invalid %s specified. Must be between 0 and %" PRIu64 ".", what, BLOCK_SIZE_MAX);
        return false;
    }
    return true;
}

static bool options_parse_named_size(const ImgOption *o, const char *text)
{
    g_autofree char *what = g_strdelimit(g_strdup(o->name), "-", ' ');
    return img_parse_size(what, text, o->target);
}

static bool options_parse_number(const ImgOption *o, const char *text)
{
    g_autoptr(GError) error = NULL;
    if (opt_parse_u64(text, 0, UINT64_MAX, o->target, &error)) {
        return true;
    }
    if (o->name != NULL) {
        img_error("Invalid value for --%s: %s", o->name, error->message);
    } else {
        img_error("Invalid value for -%c: %s", o->letter, error->message);
    }
    return false;
}

static void options_append(const ImgOrder *order, char *argument)
{
    g_array_append_val(order->list, order->value);
    if (order->texts != NULL) {
        g_ptr_array_add(order->texts, argument);
    }
}

static bool options_take(const ImgOption *o, char *argument)
{
    switch (o->kind) {
    case IMG_FLAG:
        *(bool *)o->target = true;
        return true;
    case IMG_TEXT:
        *(const char **)o->target = argument;
        return true;
    case IMG_TEXTS:
        g_ptr_array_add(o->target, argument);
        return true;
    case IMG_SIZE:
        return options_parse_named_size(o, argument);
    case IMG_NUMBER:
        return options_parse_number(o, argument);
    case IMG_OUTPUT:
        return img_parse_output(argument, o->target);
    case IMG_ORDER:
    case IMG_ORDER_TEXT:
        options_append(o->target, argument);
        return true;
    }
    return false;
}

/* Fills what getopt_long() needs, and returns the number of options. */
static unsigned options_describe(const ImgOption *table, GString *shorts, struct option *longs)
{
    unsigned count = 0, named = 0;
    for (; table[count].target != NULL; count++) {
        const ImgOption *o = &table[count];
        bool argument = o->kind != IMG_FLAG && o->kind != IMG_ORDER;
        g_assert(count < OPTIONS_MAX);
        if (o->letter != 0) {
            g_string_append_printf(shorts, "%c%s", o->letter, argument ? ":" : "");
        }
        if (o->name != NULL) {
            longs[named++] = (struct option){o->name, argument ? required_argument : no_argument,
                                             NULL, OPTIONS_LONG_BASE + (int)count};
        }
    }
    return count;
}

static bool options_has(const ImgOption *table, const char *name)
{
    bool has = false;
    for (; table->target != NULL; table++) {
        has = has || g_strcmp0(table->name, name) == 0;
    }
    return has;
}

static void options_add_object(Img *img, char *argument)
{
    if (img->objects == NULL) {
        img->objects = g_ptr_array_new();
    }
    g_ptr_array_add(img->objects, argument);
}

static const ImgOption *options_find(const ImgOption *table, unsigned count, int c)
{
    for (unsigned i = 0; i < count; i++) {
        if (c == OPTIONS_LONG_BASE + (int)i || c == table[i].letter) {
            return &table[i];
        }
    }
    return NULL;
}

bool img_parse_options(Img *img, const ImgOption *table, int *status)
{
    struct option longs[OPTIONS_MAX + 3] = {0};
    g_autoptr(GString) shorts = g_string_new(":h");
    bool own = options_has(table, "object"); /* a subcommand's own one */
    unsigned count = options_describe(table, shorts, longs + (own ? 1 : 2));
    longs[0] = (struct option){"help", no_argument, NULL, 'h'};
    if (!own) {
        longs[1] = (struct option){"object", required_argument, NULL, OPTIONS_OBJECT};
    }
    opterr = 0;
    for (int c; (c = getopt_long(img->argc, img->argv, shorts->str, longs, NULL)) != -1;) {
        const ImgOption *o = options_find(table, count, c);
        if (c == 'h' && o == NULL) {
            img->print_help();
            *status = 0;
            return false;
        }
        *status = 1;
        if (c == OPTIONS_OBJECT) {
            options_add_object(img, optarg);
            continue;
        }
        if (c == ':') {
            img_usage_error("missing argument for option '%s'", img->argv[optind - 1]);
        } else if (o == NULL) {
            img_usage_error("unrecognized option '%s'", img->argv[optind - 1]);
        }
        if (o == NULL || !options_take(o, optarg)) {
            return false;
        }
    }
    img->files = img->argv + optind;
    img->file_count = (unsigned)(img->argc - optind);
    return true;
}

bool img_parse_for_image(Img *img, const ImgOption *table, int *status)
{
    if (!img_parse_options(img, table, status)) {
        return false;
    }
    if (img->file_count != 1) {
        *status = img_usage_error("Expecting one image file name");
        return false;
    }
    return true;
}
