/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/backends/throttle.h"

#include <string.h>

/* ---- names ---- */

#define THROTTLE_BUCKET(bucket, option, query)                                                     \
    {option, query, offsetof(RateLimits, buckets[bucket].avg), false},                             \
        {option "-max", query "_max", offsetof(RateLimits, buckets[bucket].max), false},           \
    {                                                                                              \
        option "-max-length", query "_max_length", offsetof(RateLimits, buckets[bucket].length_s), \
            true                                                                                   \
    }

const ThrottleName throttle_names[THROTTLE_NAMES] = {
    THROTTLE_BUCKET(RATE_BPS_TOTAL, "bps-total", "bps"),
    THROTTLE_BUCKET(RATE_BPS_READ, "bps-read", "bps_rd"),
    THROTTLE_BUCKET(RATE_BPS_WRITE, "bps-write", "bps_wr"),
    THROTTLE_BUCKET(RATE_IOPS_TOTAL, "iops-total", "iops"),
    THROTTLE_BUCKET(RATE_IOPS_READ, "iops-read", "iops_rd"),
    THROTTLE_BUCKET(RATE_IOPS_WRITE, "iops-write", "iops_wr"),
    {"iops-size", "iops_size", offsetof(RateLimits, iops_size), false},
};

/* ---- values ---- */

static bool throttle_parse(const char *text, uint64_t *value, GError **error)
{
    if (text[0] == '-' && opt_parse_u64(text + 1, 1, UINT64_MAX, value, NULL)) {
        *value = UINT64_MAX;
        return true;
    }
    return opt_parse_u64(text, 0, UINT64_MAX, value, error);
}

/* Takes the value of @option, whose short name is @alias or NULL. *@text is owned; NULL: absent. */
static bool throttle_take_text(OptDict *d, const char *option, const char *alias, char **text,
                               GError **error)
{
    *text = opt_dict_take(d, option);
    g_autofree char *other = alias != NULL ? opt_dict_take(d, alias) : NULL;
    if (*text != NULL && other != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                    "'%s' and its alias '%s' can't be used at the same time", option, alias);
        g_clear_pointer(text, g_free);
        return false;
    }
    if (other != NULL) {
        *text = g_steal_pointer(&other);
    }
    return true;
}

static bool throttle_take_value(OptDict *d, const char *prefix, bool short_names,
                                const ThrottleName *name, RateLimits *limits, GError **error)
{
    uint64_t value;
    g_autofree char *text = NULL, *option = g_strconcat(prefix, name->option, NULL);
    const char *alias = short_names && !name->is_length ? name->query : NULL;
    if (!throttle_take_text(d, option, alias, &text, error)) {
        return false;
    }
    if (text == NULL) {
        return true;
    }
    if (!throttle_parse(text, &value, error)) {
        g_prefix_error(error, "%s: ", option);
        return false;
    }
    throttle_set_value(limits, name, value);
    return true;
}

bool throttle_take_values(OptDict *d, const char *prefix, bool short_names, RateLimits *limits,
                          GError **error)
{
    for (unsigned i = 0; i < THROTTLE_NAMES; i++) {
        if (!throttle_take_value(d, prefix, short_names, &throttle_names[i], limits, error)) {
            return false;
        }
    }
    return true;
}

/* Removes an object whose values were all taken. */
static void throttle_remove_empty(OptDict *d, const char *key)
{
    const OptDict *nested = opt_dict_get_dict(d, key);
    if (nested != NULL && opt_dict_count(nested) == 0) {
        opt_dict_remove(d, key);
    }
}

bool block_drive_take_throttling(OptDict *d, BlockDrive *drive, GError **error)
{
    rate_limits_init(&drive->limits);
    if (!throttle_take_text(d, "throttling.group", "group", &drive->group_name, error) ||
        !throttle_take_values(d, "throttling.", true, &drive->limits, error) ||
        !rate_limits_check(&drive->limits, error)) {
        return false;
    }
    throttle_remove_empty(d, "throttling");
    return true;
}

/* ---- groups ---- */

/* Returns a reference to the group @name, whose limits become @limits. */
static RUNS_IN_MAIN ThrottleGroup *throttle_obtain_group(const char *name, const RateLimits *limits)
{
    ThrottleGroup *g = throttle_group_find(name);
    if (g == NULL) {
        return throttle_group_new(name, limits);
    }
    throttle_group_ref(g);
    throttle_group_set_limits(g, limits);
    return g;
}

/* ---- -object throttle-group ---- */

static void throttle_note_key(const char *key, const char *value, void *opaque)
{
    char **first = opaque;
    *first = *first != NULL ? *first : g_strdup(key);
}

/* Refuses what is left of limits after all values were taken. */
static bool throttle_check_left(const OptDict *values, GError **error)
{
    g_autofree char *unknown = NULL;
    if (opt_dict_count(values) == 0) {
        return true;
    }
    opt_dict_foreach(values, throttle_note_key, &unknown);
    g_autofree char *excerpt = opt_excerpt(unknown != NULL ? unknown : "?");
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "Parameter 'limits.%s' is unexpected",
                excerpt);
    return false;
}

bool throttle_add_object(Backends *b, const OptDict *opts, GError **error)
{
    typedef struct {
        char *type, *id;
    } GroupOptions;
    static const OptSpec specs[] = {
        OPT_SPEC(GroupOptions, "qom-type", OPT_STRING, type),
        OPT_SPEC(GroupOptions, "id", OPT_STRING, id, .required = true),
        {0},
    };
    g_autoptr(OptDict) d = opt_dict_copy(opts);
    RateLimits limits;
    GroupOptions o = {0};
    rate_limits_init(&limits);
    if (!throttle_take_values(d, "x-", false, &limits, error) ||
        !throttle_take_values(d, "limits.", false, &limits, error)) {
        return false;
    }
    const OptDict *left = opt_dict_get_dict(d, "limits");
    if (left != NULL && !throttle_check_left(left, error)) {
        return false;
    }
    throttle_remove_empty(d, "limits");
    if (!opts_bind(specs, &o, d, "-object throttle-group", error)) {
        return false;
    }
    bool ok = rate_limits_check(&limits, error);
    if (ok && throttle_group_find(o.id) != NULL) { /* of a -drive */
        g_set_error_literal(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                            "A group with this name already exists");
        ok = false;
    }
    if (ok) {
        g_ptr_array_add(b->throttle_groups, throttle_group_new(o.id, &limits));
    }
    opts_clear(specs, &o);
    return ok;
}

ThrottleGroup *throttle_find_object(const Backends *b, const char *id)
{
    for (unsigned i = 0; i < b->throttle_groups->len; i++) {
        ThrottleGroup *g = b->throttle_groups->pdata[i];
        if (strcmp(throttle_group_name(g), id) == 0) {
            return g;
        }
    }
    return NULL;
}

bool throttle_del_object(Backends *b, const char *id, GError **error)
{
    ThrottleGroup *g = throttle_find_object(b, id);
    if (throttle_group_in_use(g)) {
        return backends_object_in_use(id, error);
    }
    g_ptr_array_remove(b->throttle_groups, g);
    throttle_group_unref(g);
    return true;
}

bool throttle_set_object_limits(ThrottleGroup *g, OptDict *values, GError **error)
{
    RateLimits limits;
    throttle_group_limits(g, &limits);
    if (!throttle_take_values(values, "", false, &limits, error) ||
        !throttle_check_left(values, error) || !rate_limits_check(&limits, error)) {
        return false;
    }
    throttle_group_set_limits(g, &limits);
    return true;
}

/* ---- disks ---- */

void throttle_add_drive(BlockDrive *d)
{
    if (rate_limits_any(&d->limits)) {
        d->group = throttle_obtain_group(d->group_name != NULL ? d->group_name : d->id, &d->limits);
    }
}

static RUNS_IN_MAIN const BlockDrive *throttle_drive_of(Backends *b, const char *node_name)
{
    const char *id = backends_drive_of_node(b, node_name);
    for (unsigned i = 0; i < b->drives->len; i++) {
        const BlockDrive *d = b->drives->pdata[i];
        if (strcmp(d->id, id) == 0) {
            return d;
        }
    }
    return NULL;
}

/* The backend of a device without an id has a number: "virtio-blk-pci#1". */
static bool throttle_is_backend_of(const BlockBackend *blk, const char *node_name,
                                   const char *label)
{
    size_t length = strlen(label);
    return strcmp(block_node_name(blk_root(blk)), node_name) == 0 &&
           strncmp(blk_name(blk), label, length) == 0 &&
           (blk_name(blk)[length] == '\0' || blk_name(blk)[length] == '#');
}

void throttle_co_add_device(Backends *b, const char *node_name, const char *label)
{
    const BlockDrive *d = node_name != NULL ? throttle_drive_of(b, node_name) : NULL;
    if (d == NULL || d->group == NULL) {
        return;
    }
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (throttle_is_backend_of(list[i], node_name, label)) {
            blk_co_set_throttle_group(list[i], d->group);
            return;
        }
    }
}

bool throttle_co_set_disk(const ThrottleDisk *disk, const RateLimits *limits, const char *group,
                          GError **error)
{
    ThrottleGroup *old = disk->blk != NULL ? blk_throttle_group(disk->blk) : disk->drive->group,
                  *g = NULL;
    if (!rate_limits_check(limits, error)) {
        return false;
    }
    if (rate_limits_any(limits)) {
        group = group != NULL ? group : old != NULL ? throttle_group_name(old) : disk->id;
        g = throttle_obtain_group(group, limits);
    }
    if (disk->drive != NULL) {
        ThrottleGroup *drives = disk->drive->group;
        if (g != NULL) {
            throttle_group_ref(g);
        }
        disk->drive->group = g;
        if (drives != NULL) {
            throttle_group_unref(drives);
        }
    }
    if (disk->blk != NULL) {
        blk_co_set_throttle_group(disk->blk, g);
    }
    if (g != NULL) {
        throttle_group_unref(g);
    }
    return true;
}
