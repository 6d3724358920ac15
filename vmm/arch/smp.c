/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/smp.h"

#include <inttypes.h>

#include "util/opts/opts.h"

/* 0: omitted. */
typedef struct SmpOptions {
    uint32_t cpus, sockets, dies, clusters, cores, threads, max_cpus;
} SmpOptions;

#define SMP_MAX UINT32_C(4096)
#define SMP_OPTION(field, key, text)                                                               \
    {                                                                                              \
        .name = key, .type = OPT_U32, .offset = offsetof(SmpOptions, field), .help = text,         \
        .min = 1, .max = SMP_MAX                                                                   \
    }

static const OptSpec smp_specs[] = {
    SMP_OPTION(cpus, "cpus", "processors"),
    SMP_OPTION(sockets, "sockets", "packages"),
    SMP_OPTION(dies, "dies", "dies per package; 1 only"),
    SMP_OPTION(clusters, "clusters", "clusters per die; 1 only"),
    SMP_OPTION(cores, "cores", "cores per package"),
    SMP_OPTION(threads, "threads", "threads per core"),
    SMP_OPTION(max_cpus, "maxcpus", "processors that could be plugged in; equals cpus"),
    {0},
};

static bool smp_error(GError **error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool smp_error(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-smp: %s", text);
    return false;
}

/* Completes omitted values: cores first, then sockets, then threads. */
static void smp_complete(SmpOptions *o)
{
    uint32_t total = o->max_cpus != 0 ? o->max_cpus : o->cpus;
    if (total != 0 && o->cores == 0) {
        uint32_t others = MAX(o->sockets, 1) * MAX(o->threads, 1);
        o->cores = MAX(total / others, 1);
    } else if (total != 0 && o->sockets == 0) {
        o->sockets = MAX(total / (o->cores * MAX(o->threads, 1)), 1);
    } else if (total != 0 && o->threads == 0) {
        o->threads = MAX(total / (o->sockets * o->cores), 1);
    }
    o->sockets = MAX(o->sockets, 1);
    o->cores = MAX(o->cores, 1);
    o->threads = MAX(o->threads, 1);
}

static bool smp_check(const SmpOptions *o, unsigned limit, SmpTopology *topology, GError **error)
{
    uint64_t total = (uint64_t)o->sockets * o->cores * o->threads;
    uint64_t max_cpus = o->max_cpus != 0 ? o->max_cpus : (o->cpus != 0 ? o->cpus : total);
    uint64_t cpus = o->cpus != 0 ? o->cpus : max_cpus;
    if (o->dies > 1 || o->clusters > 1) {
        return smp_error(error, "skiff has no dies or clusters; nearest is sockets=%u",
                         MAX(o->dies, o->clusters));
    }
    if (max_cpus < cpus) {
        return smp_error(error, "maxcpus (%" PRIu64 ") is less than cpus (%" PRIu64 ")", max_cpus,
                         cpus);
    }
    if (total != max_cpus) {
        return smp_error(error,
                         "sockets (%u) * cores (%u) * threads (%u) is %" PRIu64
                         ", which must equal the %" PRIu64 " processors",
                         o->sockets, o->cores, o->threads, total, max_cpus);
    }
    if (max_cpus != cpus) {
        return smp_error(
            error, "skiff has no CPU hotplug: maxcpus (%" PRIu64 ") must equal cpus (%" PRIu64 ")",
            max_cpus, cpus);
    }
    if (cpus > limit) {
        return smp_error(error, "%" PRIu64 " processors; machine and host support at most %u", cpus,
                         limit);
    }
    *topology = (SmpTopology){
        .cpus = (unsigned)cpus, .sockets = o->sockets, .cores = o->cores, .threads = o->threads};
    return true;
}

bool smp_parse(const char *text, unsigned limit, SmpTopology *topology, GError **error)
{
    SmpOptions options = {0};
    if (text != NULL) {
        g_autoptr(OptDict) dict = opt_dict_parse(text, "cpus", error);
        if (dict == NULL || !opts_bind(smp_specs, &options, dict, "-smp", error)) {
            return false;
        }
    }
    smp_complete(&options);
    return smp_check(&options, limit, topology, error);
}
