/* SPDX-License-Identifier: Apache-2.0 */
/* Objects: iothreads and memory backends. */
#include "util/opts/json.h"
#include "vmm/monitor/commands/qmp_object.h"

/* ---- object-add, object-del ---- */

/* Holds no operation lock: allocating memory may take long, and changes nothing in use. */
static struct json_object *qmp_object_add(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts = opt_dict_from_json(args, error);
    if (opts != NULL) {
        backends_co_add_object(&call->vm->backends, opts, error);
    }
    return NULL;
}

static struct json_object *qmp_object_del(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&call->vm->run);
    machine_co_del_object(&call->vm->machine, qmp_arg_str(args, "id"), error);
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- queries ---- */

struct json_object *qmp_iothread_info(const IoThread *t)
{
    struct json_object *info = json_object_new_object();
    qmp_put_str(info, "id", iothread_id(t));
    qmp_put_int(info, "thread-id", iothread_tid(t));
    qmp_put_int(info, "poll-max-ns", iothread_poll_max_ns(t));
    qmp_put_int(info, "poll-grow", 0);
    qmp_put_int(info, "poll-shrink", 0);
    qmp_put_int(info, "aio-max-batch", 0);
    return info;
}

static struct json_object *qmp_query_iothreads(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < call->vm->backends.iothreads->len; i++) {
        json_object_array_add(list, qmp_iothread_info(call->vm->backends.iothreads->pdata[i]));
    }
    return list;
}

struct json_object *qmp_memdev_info(const MemoryBackend *m)
{
    struct json_object *info = json_object_new_object();
    qmp_put_str(info, "id", m->id);
    qmp_put_int(info, "size", (int64_t)m->size);
    qmp_put_bool(info, "merge", false);
    qmp_put_bool(info, "dump", false);
    qmp_put_bool(info, "prealloc", m->prealloc);
    qmp_put_bool(info, "share", m->fd >= 0);
    qmp_put_bool(info, "reserve", false);
    qmp_put(info, "host-nodes", json_object_new_array());
    qmp_put_str(info, "policy", "default");
    return info;
}

static struct json_object *qmp_query_memdev(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    const Vm *vm = call->vm;
    struct json_object *list = json_object_new_array();
    bool listed = vm->machine.memory == NULL;
    for (unsigned i = 0; i < vm->backends.memory_backends->len; i++) {
        const MemoryBackend *m = vm->backends.memory_backends->pdata[i];
        json_object_array_add(list, qmp_memdev_info(m));
        listed = listed || m == vm->machine.memory;
    }
    if (!listed) {
        json_object_array_add(list, qmp_memdev_info(vm->machine.memory)); /* made by -m */
    }
    return list;
}

/* ---- schema ---- */

static const QmpType object_options = {
    .name = "ObjectOptions",
    .kind = QMP_KIND_STRUCT,
    .open = true,
    .members = QMP_MEMBERS({"qom-type", &qmp_str, .doc = "its type: iothread, memory-backend-*"},
                           {"id", &qmp_str, .doc = "its id"}),
    .doc = "An object, with the options of -object.",
};
static const QmpType object_id_arg = {
    .name = "object-del-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "its id"}),
};

static const QmpType iothread_info = {
    .name = "IOThreadInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"id", &qmp_str, .doc = "its id"},
        {"thread-id", &qmp_int, .doc = "the host's id of the thread"},
        {"poll-max-ns", &qmp_int, .doc = "longest busy polling before it sleeps; 0 if none"},
        {"poll-grow", &qmp_int, .doc = "always 0: automatic"},
        {"poll-shrink", &qmp_int, .doc = "always 0: automatic"},
        {"aio-max-batch", &qmp_int, .doc = "always 0: the engine's limit"}),
    .doc = "A thread that serves devices. \"default\" always exists.",
};
static const QmpType iothread_list = {.kind = QMP_KIND_ARRAY, .element = &iothread_info};

static const QmpType host_mem_policy = {
    .name = "HostMemPolicy",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("default", "preferred", "bind", "interleave"),
    .doc = "The policy for the host's NUMA nodes.",
};
static const QmpType u16_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_u16};

static const QmpType memdev = {
    .name = "Memdev",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"id", &qmp_str, true, .doc = "its id"}, {"size", &qmp_size, .doc = "bytes"},
                    {"merge", &qmp_bool, .doc = "always false: pages are not merged"},
                    {"dump", &qmp_bool, .doc = "always false: not in a core file of skiff"},
                    {"prealloc", &qmp_bool, .doc = "whether pages are allocated at the start"},
                    {"share", &qmp_bool, .doc = "whether other processes can map it"},
                    {"reserve", &qmp_bool, true, .doc = "always false: no swap is reserved"},
                    {"host-nodes", &u16_list, .doc = "always empty: any node"},
                    {"policy", &host_mem_policy, .doc = "always default"}),
    .doc = "A memory backend.",
};
static const QmpType memdev_list = {.kind = QMP_KIND_ARRAY, .element = &memdev};

static const QmpCommand qmp_object_commands[] = {
    {"object-add", &object_options, NULL, 0, qmp_object_add, "Creates an object, as -object does."},
    {"object-del", &object_id_arg, NULL, 0, qmp_object_del, "Destroys an unused object."},
    {"query-iothreads", NULL, &iothread_list, QMP_INSTANT, qmp_query_iothreads, "All iothreads."},
    {"query-memdev", NULL, &memdev_list, QMP_INSTANT, qmp_query_memdev,
     "All memory backends, including the machine's own."},
    {0},
};

static const QmpEvent qmp_object_events[] = {{0}};

QMP_GROUP(object);
