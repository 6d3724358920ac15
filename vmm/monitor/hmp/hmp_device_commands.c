/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: devices, objects, chardevs. */
#include "hw/chardev/chardev_set.h"
#include "vmm/monitor/hmp/hmp_complete.h"

/* Takes the arguments of -chardev; QMP's chardev-add nests them by backend. As in QMP, wait=off is
 * the default of a server, because the prompt is blocked while a command waits. */
static void hmp_chardev_add(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) opts = opt_dict_parse(qmp_arg_str(args, "args"), "backend", &error);
    const char *text = opts != NULL ? opt_dict_get(opts, "server") : NULL;
    bool server = false;
    if (text != NULL && opt_parse_bool(text, &server, NULL) && server) {
        opt_dict_set_default(opts, "wait", "off");
    }
    if (opts == NULL || !chardev_co_add(g_steal_pointer(&opts), &error)) {
        hmp_error(call, error);
    }
}

/* clang-format off */
const HmpCommand hmp_device_commands[] = {
    {"device_add", NULL, HMP_PARAMS(HMP_PARAM("driver", OPTS, .complete = hmp_names_device_types)),
     "plug a device in, as -device", .qmp = "device_add"},
    {"device_del", NULL, HMP_PARAMS(HMP_PARAM("id", WORD, .complete = hmp_names_devices)),
     "ask the guest to release a device", .qmp = "device_del"},
    {"object_add", NULL, HMP_PARAMS(HMP_PARAM("qom-type", OPTS)),
     "make an object, such as an iothread or TLS credentials, as -object", .qmp = "object-add"},
    {"object_del", NULL, HMP_PARAMS(HMP_PARAM("id", WORD, .complete = hmp_names_objects)),
     "destroy an object", .qmp = "object-del"},
    {"chardev-add", NULL, HMP_PARAMS(HMP_PARAM("args", REST)),
     "make a character backend, as -chardev", .run = hmp_chardev_add},
    {"chardev-remove", NULL, HMP_PARAMS(HMP_PARAM("id", WORD, .complete = hmp_names_chardevs)),
     "destroy a character backend", .qmp = "chardev-remove"},
    {"chardev-send-break", NULL,
     HMP_PARAMS(HMP_PARAM("id", WORD, .complete = hmp_names_chardevs)),
     "send a break to the device with the input of a character backend", .qmp = "chardev-send-break"},
    {0},
};
/* clang-format on */
