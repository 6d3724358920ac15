/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of the VM: iothreads, memory backends, sources of random bytes, TLS credentials and throttle
 * groups, created by -object and object-add, deleted by object-del. */
#include <string.h>
#include "block/block.h"
#include "util/tls_options.h"
#include "vmm/backends/backends.h"
#include "vmm/backends/throttle.h"

/* ---- finding ---- */

IoThread *backends_find_iothread(Backends *b, const char *id)
{
    for (unsigned i = 0; i < b->iothreads->len; i++) {
        IoThread *t = b->iothreads->pdata[i];
        if (strcmp(iothread_id(t), id) == 0) {
            return t;
        }
    }
    return NULL;
}

MemoryBackend *backends_find_memory(Backends *b, const char *id)
{
    for (unsigned i = 0; i < b->memory_backends->len; i++) {
        MemoryBackend *m = b->memory_backends->pdata[i];
        if (strcmp(m->id, id) == 0) {
            return m;
        }
    }
    return NULL;
}

AioContext *backends_default_home(const Backends *b)
{
    return iothread_context(b->iothreads->pdata[0]);
}

bool backends_has_rng(const Backends *b, const char *id)
{
    return g_ptr_array_find_with_equal_func(b->rngs, id, g_str_equal, NULL);
}

/* ---- adding ---- */

/* Objects of all kinds share one name space. */
static RUNS_IN_MAIN bool backends_check_object_id(Backends *b, const char *id, const char *type,
                                                  GError **error)
{
    if (!opt_id_check(id, error)) {
        g_prefix_error(error, "-object %s: ", type);
        return false;
    }
    if (backends_find_iothread(b, id) == NULL && backends_find_memory(b, id) == NULL &&
        !backends_has_rng(b, id) && tls_objects_find(id) == NULL &&
        throttle_find_object(b, id) == NULL) {
        return true;
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                "-object %s: the id '%s' is taken; choose another", type, id);
    return false;
}

static void backends_nothing(void *opaque)
{
}

static int backends_join_in_worker(void *opaque)
{
    enter_worker();
    iothread_free(opaque);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN bool backends_co_add_iothread(Backends *b, const OptDict *opts,
                                                               GError **error)
{
    typedef struct {
        char *type, *id;
        uint64_t poll_max_ns;
    } IothreadOptions;
    static const OptSpec specs[] = {
        {.name = "qom-type", .type = OPT_STRING, .offset = offsetof(IothreadOptions, type)},
        {.name = "id",
         .type = OPT_STRING,
         .offset = offsetof(IothreadOptions, id),
         .required = true},
        {.name = "poll-max-ns",
         .type = OPT_U64,
         .offset = offsetof(IothreadOptions, poll_max_ns),
         .max = 1000000000,
         .def = "32768"},
        {0},
    };
    IothreadOptions o;
    opts_init(specs, &o);
    if (!opts_bind(specs, &o, opts, "-object iothread", error)) {
        return false;
    }
    bool ok = false;
    if (backends_check_object_id(b, o.id, "iothread", error)) {
        IoThread *t = iothread_new(o.id, (int64_t)o.poll_max_ns, error);
        if (t != NULL) {
            co_call_in(iothread_context(t), backends_nothing,
                       NULL); /* it runs, and has a thread id */
            /* checked again after the wait */
            ok = backends_check_object_id(b, o.id, "iothread", error);
            if (ok) {
                g_ptr_array_add(b->iothreads, t);
            } else {
                co_run_in_worker(backends_join_in_worker, t);
            }
        }
    }
    opts_clear(specs, &o);
    return ok;
}

typedef struct BackendsMemory {
    const OptDict *opts;
    MemoryBackend *made;
    GError *error;
} BackendsMemory;

static int backends_make_memory_in_worker(void *opaque)
{
    enter_worker();
    BackendsMemory *memory = opaque;
    memory->made = memory_backend_from_opts(memory->opts, &memory->error);
    return 0;
}

static int backends_free_memory_in_worker(void *opaque)
{
    enter_worker();
    memory_backend_free(opaque);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN bool backends_co_add_memory(Backends *b, const OptDict *opts,
                                                             GError **error)
{
    const char *id = opt_dict_get(opts, "id");
    if (id != NULL && !backends_check_object_id(b, id, opt_dict_get(opts, "qom-type"), error)) {
        return false;
    }
    BackendsMemory memory = {.opts = opts};
    co_run_in_worker(backends_make_memory_in_worker, &memory);
    if (memory.made == NULL) {
        g_propagate_error(error, memory.error);
        return false;
    }
    if (!backends_check_object_id(b, id, opt_dict_get(opts, "qom-type"),
                                  error)) { /* checked again after the wait */
        co_run_in_worker(backends_free_memory_in_worker, memory.made);
        return false;
    }
    g_ptr_array_add(b->memory_backends, memory.made);
    return true;
}

typedef struct RngOptions {
    char *type, *id, *filename;
} RngOptions;

/* virtio-rng reads the host kernel's generator, which both device files name. */
static bool backends_check_rng_file(const char *filename, GError **error)
{
    if (filename == NULL || strcmp(filename, "/dev/urandom") == 0 ||
        strcmp(filename, "/dev/random") == 0) {
        return true;
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                "-object rng-random: filename=%s: skiff's random bytes come from the host's "
                "kernel; use filename=/dev/urandom",
                filename);
    return false;
}

static RUNS_IN_MAIN bool backends_add_rng(Backends *b, const OptDict *opts, GError **error)
{
    static const OptSpec builtin_specs[] = {
        OPT_SPEC(RngOptions, "qom-type", OPT_STRING, type),
        OPT_SPEC(RngOptions, "id", OPT_STRING, id, .required = true),
        {0},
    };
    static const OptSpec random_specs[] = {
        OPT_SPEC(RngOptions, "qom-type", OPT_STRING, type),
        OPT_SPEC(RngOptions, "id", OPT_STRING, id, .required = true),
        OPT_SPEC(RngOptions, "filename", OPT_STRING, filename),
        {0},
    };
    bool builtin = strcmp(opt_dict_get(opts, "qom-type"), "rng-builtin") == 0;
    const OptSpec *specs = builtin ? builtin_specs : random_specs;
    RngOptions o = {0};
    if (!opts_bind(specs, &o, opts, builtin ? "-object rng-builtin" : "-object rng-random",
                   error)) {
        return false;
    }
    bool ok = backends_check_object_id(b, o.id, o.type, error) &&
              backends_check_rng_file(o.filename, error);
    if (ok) {
        g_ptr_array_add(b->rngs, g_strdup(o.id));
    }
    opts_clear(specs, &o);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool backends_co_add_tls(Backends *b, const OptDict *opts,
                                                          GError **error)
{
    const char *id = opt_dict_get(opts, "id"), *type = opt_dict_get(opts, "qom-type");
    if (id != NULL && !backends_check_object_id(b, id, type, error)) {
        return false;
    }
    TlsCreds *creds = tls_co_creds_from_options(opts, error);
    if (creds == NULL) {
        return false;
    }
    if (!backends_check_object_id(b, id, type, error)) { /* checked again after the wait */
        tls_creds_unref(creds);
        return false;
    }
    tls_objects_add(id, creds);
    return true;
}

bool backends_co_add_object(Backends *b, const OptDict *opts, GError **error)
{
    const char *type = opt_dict_get(opts, "qom-type");
    TlsKind kind;
    if (tls_find_type(type, &kind)) {
        return backends_co_add_tls(b, opts, error);
    }
    if (strcmp(type, "iothread") == 0) {
        return backends_co_add_iothread(b, opts, error);
    }
    if (strcmp(type, "memory-backend-memfd") == 0 || strcmp(type, "memory-backend-ram") == 0) {
        return backends_co_add_memory(b, opts, error);
    }
    if (strcmp(type, "rng-builtin") == 0 || strcmp(type, "rng-random") == 0) {
        return backends_add_rng(b, opts, error);
    }
    if (strcmp(type, "throttle-group") == 0) {
        const char *id = opt_dict_get(opts, "id");
        return (id == NULL || backends_check_object_id(b, id, type, error)) &&
               throttle_add_object(b, opts, error);
    }
    static const char *const types[] = {"iothread",           "memory-backend-memfd",
                                        "memory-backend-ram", "rng-builtin",
                                        "rng-random",         "throttle-group",
                                        "tls-creds-anon",     "tls-creds-psk",
                                        "tls-creds-x509",     NULL};
    const char *near = opt_nearest(type, types);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                "-object: skiff has no '%s'%s%s; '-object help' lists all", type,
                near != NULL ? "; nearest is " : "", near != NULL ? near : "");
    return false;
}

bool backends_co_make_objects(Backends *b, GError **error)
{
    IoThread *first = iothread_new("default", 32768, error);
    if (first == NULL) {
        return false;
    }
    g_ptr_array_add(b->iothreads, first);
    co_call_in(iothread_context(first), backends_nothing, NULL);
    for (unsigned i = 0; i < b->config->backends.objects->len; i++) {
        if (!backends_co_add_object(b, b->config->backends.objects->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

/* ---- deleting ---- */

bool backends_object_in_use(const char *id, GError **error)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "object '%s' is in use, can not be deleted", id);
    return false;
}

bool backends_co_del_object(Backends *b, const char *id, GError **error)
{
    IoThread *t = backends_find_iothread(b, id);
    MemoryBackend *m = backends_find_memory(b, id);
    if (t != NULL) {
        /* Nodes without an iothread= have their home in the first. */
        if (t == b->iothreads->pdata[0] || block_home_in_use(iothread_context(t))) {
            return backends_object_in_use(id, error);
        }
        g_ptr_array_remove(b->iothreads, t);
        co_run_in_worker(backends_join_in_worker, t);
        return true;
    }
    if (m != NULL) {
        g_ptr_array_remove(b->memory_backends, m);
        co_run_in_worker(backends_free_memory_in_worker, m);
        return true;
    }
    if (throttle_find_object(b, id) != NULL) {
        return throttle_del_object(b, id, error);
    }
    guint rng;
    if (g_ptr_array_find_with_equal_func(b->rngs, id, g_str_equal, &rng)) {
        g_ptr_array_remove_index(b->rngs, rng);
        return true;
    }
    if (tls_objects_remove(id)) {
        return true;
    }
    g_autofree char *excerpt = opt_excerpt(id);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "object '%s' not found", excerpt);
    return false;
}
