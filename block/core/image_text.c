/* SPDX-License-Identifier: Apache-2.0 */
#include "block/image_text.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <math.h>
#include <string.h>
#include <time.h>

char *block_size_text(uint64_t size)
{
    static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    int exponent;
    frexp((double)size / (1000.0 / 1024.0), &exponent); /* 1000 and more is the next unit */
    unsigned unit = exponent > 0 ? (unsigned)(exponent - 1) / 10 : 0;
    return g_strdup_printf("%0.3g %sB", (double)size / (double)((uint64_t)1 << (unit * 10)),
                           units[unit]);
}

/* Text from an image, for a terminal. */
static void text_append(GString *out, const char *prefix, const char *text, const char *suffix)
{
    g_autofree char *printable = opt_printable(text);
    g_string_append_printf(out, "%s%s%s", prefix, printable, suffix);
}

/* ---- snapshots ---- */

static void text_append_snapshot(GString *out, const BlockSnapshotInfo *s)
{
    time_t date = (time_t)s->date_s;
    uint64_t seconds = s->vm_clock_ns / 1000000000;
    struct tm tm = {0};
    char date_text[64] = "";
    localtime_r(&date, &tm);
    strftime(date_text, sizeof(date_text), "%Y-%m-%d %H:%M:%S", &tm);
    g_autofree char *clock_text = g_strdup_printf(
        "%02" PRIu64 ":%02u:%02u.%03u", seconds / 3600, (unsigned)(seconds / 60 % 60),
        (unsigned)(seconds % 60), (unsigned)(s->vm_clock_ns / 1000000 % 1000));
    g_autofree char *icount =
        s->icount != UINT64_MAX ? g_strdup_printf("%" PRIu64, s->icount) : g_strdup("");
    g_autofree char *id = opt_printable(s->id), *name = opt_printable(s->name);
    g_autofree char *size = block_size_text(s->vm_state_size);
    g_string_append_printf(out, "%-9s %-16s %8s%20s%13s%11s\n", id, name, size, date_text,
                           clock_text, icount);
}

void block_image_append_snapshots(GString *out, const BlockImageInfo *info)
{
    if (info->snapshot_count > 0) {
        g_string_append(out, "Snapshot list:\n");
        block_image_append_snapshot_table(out, info);
    }
}

void block_image_append_snapshot_table(GString *out, const BlockImageInfo *info)
{
    g_string_append_printf(out, "%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
                           "VM CLOCK", "ICOUNT");
    for (unsigned i = 0; i < info->snapshot_count; i++) {
        text_append_snapshot(out, &info->snapshots[i]);
    }
}

/* ---- what is specific to the format ---- */

static void text_append_value(GString *out, struct json_object *value, unsigned depth);

/* Appends "key: value", or "key:" and the members below it. */
static void text_append_member(GString *out, const char *key, struct json_object *value,
                               unsigned depth)
{
    bool nested =
        json_object_is_type(value, json_type_object) || json_object_is_type(value, json_type_array);
    g_string_append_printf(out, "%*s%s:%s", (int)depth * 4, "", key, nested ? "\n" : " ");
    text_append_value(out, value, depth + 1);
    if (!nested) {
        g_string_append_c(out, '\n');
    }
}

static void text_append_value(GString *out, struct json_object *value, unsigned depth)
{
    if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, key, member)
        {
            g_autofree char *words = g_strdelimit(g_strdup(key), "-", ' ');
            text_append_member(out, words, member, depth);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            g_autofree char *index = g_strdup_printf("[%zu]", i);
            text_append_member(out, index, json_object_array_get_idx(value, i), depth);
        }
    } else {
        text_append(out, "", json_object_get_string(value), "");
    }
}

/* ---- an image ---- */

static void text_append_backing(GString *out, const BlockImageInfo *info)
{
    if (info->backing_name == NULL) {
        return;
    }
    text_append(out, "backing file: ", info->backing_name, "");
    if (info->backing_path == NULL) {
        g_string_append(out, " (cannot determine actual path)");
    } else if (strcmp(info->backing_name, info->backing_path) != 0) {
        text_append(out, " (actual path: ", info->backing_path, ")");
    }
    g_string_append_c(out, '\n');
    if (info->backing_format != NULL) {
        text_append(out, "backing file format: ", info->backing_format, "\n");
    }
}

static void text_append_info(GString *out, const BlockImageInfo *info)
{
    struct json_object *specific = NULL;
    if (info->cluster_size != 0) {
        g_string_append_printf(out, "cluster_size: %" PRIu64 "\n", info->cluster_size);
    }
    if (info->dirty) {
        g_string_append(out, "cleanly shut down: no\n");
    }
    text_append_backing(out, info);
    block_image_append_snapshots(out, info);
    if (info->specific != NULL && json_object_object_get_ex(info->specific, "data", &specific) &&
        json_object_object_length(specific) > 0) {
        g_string_append(out, "Format specific information:\n");
        text_append_value(out, specific, 1);
    }
}

void block_image_append_text(GString *out, const BlockImageText *image)
{
    g_autofree char *size = block_size_text(image->size);
    g_autofree char *used =
        image->used >= 0 ? block_size_text((uint64_t)image->used) : g_strdup("unavailable");
    g_string_append_printf(out,
                           "image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\n"
                           "disk size: %s\n",
                           image->filename, image->format, size, image->size, used);
    if (image->info != NULL) {
        text_append_info(out, image->info);
    }
}
