/* SPDX-License-Identifier: Apache-2.0 */
/* -cpu: the model's name and its enabled and disabled features. */
#include <string.h>

#include "util/opts/opts.h"
#include "vmm/arch/x86_64/cpuid_int.h"

#define CPU_PHYS_BITS_MIN 36
#define CPU_PHYS_BITS_MAX 52
#define CPU_PHYS_BITS_DEFAULT 40 /* QEMU's with host-phys-bits=off */

static bool model_check_name(const char *name, GError **error)
{
    if (strcmp(name, "host") == 0 || strcmp(name, "max") == 0) {
        return true;
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                "-cpu: skiff has no model '%s'; nearest is 'host', with features switched off as "
                "in -cpu host,-avx2",
                name);
    return false;
}

static bool model_refuse_feature(const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (unsigned i = 0; i < x86_feature_count; i++) {
        g_ptr_array_add(names, (gpointer)(uintptr_t)x86_features[i].name);
    }
    g_ptr_array_add(names, NULL);
    const char *nearest = opt_nearest(name, (const char *const *)names->pdata);
    if (nearest != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "-cpu: skiff has no feature '%s'; nearest is '%s'", name, nearest);
    } else {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "-cpu: skiff has no feature '%s'; -cpu help lists them", name);
    }
    return false;
}

/* Accepts `_` and `-` in feature names. */
static bool model_set_feature(X86CpuModel *model, const char *name, bool on, GError **error)
{
    g_autofree char *dashed = g_strdelimit(g_strdup(name), "_", '-');
    const char *canonical = x86_feature_canonical_name(dashed);
    bool found = false;
    for (unsigned i = 0; i < x86_feature_count; i++) {
        if (strcmp(x86_features[i].name, canonical) == 0) {
            model->wish[i] = on ? X86_FEATURE_ON : X86_FEATURE_OFF;
            found = true;
        }
    }
    return found || model_refuse_feature(name, error);
}

static bool model_set_phys_bits(X86CpuModel *model, const char *value, GError **error)
{
    uint64_t bits;
    if (!opt_parse_u64(value, CPU_PHYS_BITS_MIN, CPU_PHYS_BITS_MAX, &bits, error)) {
        g_prefix_error(error, "-cpu: phys-bits: ");
        return false;
    }
    model->phys_bits = (unsigned)bits;
    return true;
}

static bool model_set_vendor(X86CpuModel *model, const char *value, GError **error)
{
    if (strlen(value) != X86_VENDOR_LENGTH) {
        g_autofree char *excerpt = opt_excerpt(value);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-cpu: vendor=%s: expects %d characters, for example GenuineIntel", excerpt,
                    X86_VENDOR_LENGTH);
        return false;
    }
    memcpy(model->vendor, value, X86_VENDOR_LENGTH + 1);
    return true;
}

static bool model_set_property(X86CpuModel *model, const char *name, const char *value,
                               GError **error)
{
    bool on;
    if (strcmp(name, "phys-bits") == 0) {
        return model_set_phys_bits(model, value, error);
    }
    if (strcmp(name, "vendor") == 0) {
        return model_set_vendor(model, value, error);
    }
    if (!opt_parse_bool(value, &on, error)) {
        g_prefix_error(error, "-cpu: %s: ", name);
        return false;
    }
    if (strcmp(name, "host-phys-bits") == 0) {
        model->phys_bits = on ? 0 : CPU_PHYS_BITS_DEFAULT;
        return true;
    }
    if (strcmp(name, "kvm") == 0) {
        model->kvm = on;
        return true;
    }
    if (strcmp(name, "pmu") == 0) {
        model->pmu = on;
        return true;
    }
    if (strcmp(name, "migratable") == 0) {
        model->migratable = on;
        return true;
    }
    return model_set_feature(model, name, on, error);
}

static bool model_apply(X86CpuModel *model, const char *item, GError **error)
{
    if (item[0] == '+' || item[0] == '-') {
        return model_set_feature(model, item + 1, item[0] == '+', error);
    }
    const char *equals = strchr(item, '=');
    if (equals == NULL) {
        return model_set_property(model, item, "on", error);
    }
    g_autofree char *name = g_strndup(item, (gsize)(equals - item));
    return model_set_property(model, name, equals + 1, error);
}

bool x86_cpu_model_parse(const char *text, X86CpuModel *model, GError **error)
{
    *model = (X86CpuModel){.kvm = true, .pmu = true, .migratable = true};
    g_auto(GStrv) items = g_strsplit(text != NULL ? text : "host", ",", -1);
    if (!model_check_name(items[0] != NULL ? items[0] : "", error)) {
        return false;
    }
    for (unsigned i = 1; items[i] != NULL; i++) {
        if (!model_apply(model, items[i], error)) {
            return false;
        }
    }
    return true;
}

void x86_cpu_feature_foreach(void (*each)(const char *name, void *opaque), void *opaque)
{
    for (unsigned i = 0; i < x86_feature_count; i++) {
        /* kvmclock has a second row. */
        bool again = false;
        for (unsigned j = 0; j < i; j++) {
            again |= strcmp(x86_features[j].name, x86_features[i].name) == 0;
        }
        if (!again) {
            each(x86_features[i].name, opaque);
        }
    }
}
