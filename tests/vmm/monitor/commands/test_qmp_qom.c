/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of objects, and the queries of tools about machines and models. tests/guest/qmp.sh
 * tests CPU features and the options of a real command line. */
#include "hw/core/device.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

typedef struct Sample {
    Device base;
    bool flag;
    uint8_t small;
    uint32_t number;
    uint64_t size;
    int word;
    char *text;
} Sample;

static const char *const sample_words[] = {"one", "two", NULL};
static const OptSpec sample_properties[] = {
    OPT_SPEC(Sample, "flag", OPT_BOOL, flag, .help = "a flag"),
    OPT_SPEC(Sample, "small", OPT_U8, small),
    OPT_SPEC(Sample, "number", OPT_U32, number),
    OPT_SPEC(Sample, "size", OPT_SIZE, size),
    OPT_SPEC(Sample, "word", OPT_ENUM, word, .names = sample_words),
    OPT_SPEC(Sample, "text", OPT_STRING, text),
    {0}};
static const DeviceType sample_type = {.name = "virtio-sample-pci",
                                       .properties = sample_properties};

static char sample_id[] = "dev0", sample_path[] = "/machine/peripheral/dev0";
static char other_path[] = "/machine/peripheral/other";

/* Adds a device with an id, and one that is not realized yet. */
static void add_devices(QmpRig *rig, Sample *done, Sample *unfinished)
{
    *done = (Sample){
        .base = {.type = &sample_type, .id = sample_id, .path = sample_path, .realized = true},
        .flag = true,
        .small = 255,
        .number = UINT32_MAX,
        .size = UINT64_MAX,
        .word = 1};
    *unfinished = (Sample){.base = {.type = &sample_type}};
    g_ptr_array_add(rig->vm.machine.devices, done);
    g_ptr_array_add(rig->vm.machine.devices, unfinished);
}

static void remove_devices(QmpRig *rig)
{
    g_ptr_array_set_size(rig->vm.machine.devices, 0);
}

static void children_are_listed_with_their_types(void **state)
{
    QmpRig *rig = *state;
    Sample done, unfinished;
    add_devices(rig, &done, &unfinished);
    qmp_returns(rig, "qom-list", "{'path':'/'}",
                "[{\"name\":\"type\",\"type\":\"string\"},"
                "{\"name\":\"machine\",\"type\":\"child<pc-q35-machine>\"},"
                "{\"name\":\"objects\",\"type\":\"child<container>\"},"
                "{\"name\":\"chardevs\",\"type\":\"child<container>\"}]");
    qmp_returns(rig, "qom-list", "{'path':'/machine/peripheral'}",
                "[{\"name\":\"type\",\"type\":\"string\"},"
                "{\"name\":\"dev0\",\"type\":\"child<virtio-sample-pci>\"}]");
    qmp_returns(rig, "qom-list", "{'path':'/machine/peripheral/dev0'}",
                "{\"name\":\"flag\",\"type\":\"bool\"}");
    qmp_returns(rig, "qom-list", "{'path':'/machine/peripheral/dev0'}",
                "{\"name\":\"virtio-backend\",\"type\":\"child<virtio-sample-device>\"}");
    qmp_returns(rig, "qom-list", "{'path':'/objects'}",
                "{\"name\":\"default\",\"type\":\"child<iothread>\"}");
    remove_devices(rig);
}

static void values_have_the_types_of_their_properties(void **state)
{
    QmpRig *rig = *state;
    Sample done, unfinished;
    static const char *const wanted[][2] = {
        {"type", "\"virtio-sample-pci\""},
        {"realized", "true"},
        {"flag", "true"},
        {"small", "255"},
        {"number", "4294967295"},
        {"size", "18446744073709551615"},
        {"word", "\"two\""},
        {"text", "\"\""},
        {"virtio-backend", "\"/machine/peripheral/dev0/virtio-backend\""},
    };
    add_devices(rig, &done, &unfinished);
    for (unsigned i = 0; i < G_N_ELEMENTS(wanted); i++) {
        g_autofree char *args = g_strdup_printf("{'path':'dev0','property':'%s'}", wanted[i][0]);
        g_autofree char *value = qmp_ok(rig, "qom-get", args);
        assert_string_equal(value, wanted[i][1]);
    }
    remove_devices(rig);
    qmp_returns(rig, "qom-get", "{'path':'/machine','property':'smp'}", "\"maxcpus\":1");
    qmp_returns(rig, "qom-get", "{'path':'/objects/default','property':'poll-max-ns'}", "0");
}

/* qom-get returns every property that qom-list lists, and the path of a child leads to it. */
static void check_node(QmpRig *rig, const char *path)
{
    g_autofree char *list_args = g_strdup_printf("{'path':'%s'}", path);
    g_autofree char *text = qmp_ok(rig, "qom-list", list_args);
    struct json_object *list = json_tokener_parse(text);
    assert_true(json_object_array_length(list) > 0);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *info = json_object_array_get_idx(list, i);
        const char *name = qmp_arg_str(info, "name");
        g_autofree char *get_args = g_strdup_printf("{'path':'%s','property':'%s'}", path, name);
        g_autofree char *value = qmp_ok(rig, "qom-get", get_args);
        if (g_str_has_prefix(qmp_arg_str(info, "type"), "child<")) {
            g_autofree char *child = g_strndup(value + 1, strlen(value) - 2);
            check_node(rig, child);
        }
    }
    json_object_put(list);
}

static void listed_properties_can_be_read(void **state)
{
    QmpRig *rig = *state;
    Sample done, unfinished;
    add_devices(rig, &done, &unfinished);
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'memory-backend-ram','id':'m','size':2097152}"));
    check_node(rig, "/");
    g_free(qmp_ok(rig, "object-del", "{'id':'m'}"));
    remove_devices(rig);
}

static void paths_may_be_partial_if_they_are_unique(void **state)
{
    QmpRig *rig = *state;
    Sample done, other;
    add_devices(rig, &done, &other);
    other.base.path = other_path;
    qmp_returns(rig, "qom-get", "{'path':'dev0/virtio-backend','property':'type'}",
                "\"virtio-sample-device\"");
    qmp_returns(rig, "qom-get", "{'path':'//machine//peripheral/','property':'type'}",
                "\"container\"");
    qmp_fails(rig, "qom-list", "{'path':'virtio-backend'}", "GenericError",
              "Path 'virtio-backend' is ambiguous");
    qmp_fails(rig, "qom-list", "{'path':'ev0'}", "DeviceNotFound", "Device 'ev0' not found");
    qmp_fails(rig, "qom-list", "{'path':'/dev0'}", "DeviceNotFound", "Device '/dev0' not found");
    qmp_fails(rig, "qom-get", "{'path':'dev0','property':'none'}", "GenericError",
              "Property 'virtio-sample-pci.none' not found");
    remove_devices(rig);
}

static void types_have_properties_and_ancestors(void **state)
{
    QmpRig *rig = *state;
    qmp_returns(rig, "qom-list-properties", "{'typename':'virtio-rng-pci'}",
                "{\"name\":\"realized\"");
    qmp_returns(rig, "qom-list-properties", "{'typename':'virtio-rng-pci'}", "{\"name\":\"addr\"");
    qmp_returns(rig, "qom-list-properties", "{'typename':'iothread'}", "{\"name\":\"poll-max-ns\"");
    qmp_returns(rig, "qom-list-properties", "{'typename':'pc-q35-machine'}",
                "{\"name\":\"memory-backend\"");
    qmp_fails(rig, "qom-list-properties", "{'typename':'none'}", "DeviceNotFound",
              "Class 'none' not found");
    qmp_returns(rig, "qom-list-types", "{'implements':'machine'}",
                "[{\"name\":\"pc-q35-machine\",\"parent\":\"machine\"}]");
    qmp_returns(rig, "qom-list-types", "{'implements':'accel'}", "[{\"name\":\"kvm-accel\"");
    qmp_returns(rig, "qom-list-types", "{'implements':'x86_64-cpu'}",
                "{\"name\":\"host-x86_64-cpu\"");
    /* Each transport carries a device of a type that is listed. */
    g_autofree char *carried = qmp_ok(rig, "qom-list-types", "{'implements':'virtio-device'}");
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        if (g_str_has_prefix((*t)->name, "virtio-") && g_str_has_suffix((*t)->name, "-pci")) {
            g_autofree char *name = g_strdup_printf(
                "\"%.*s-device\"", (int)(strlen((*t)->name) - strlen("-pci")), (*t)->name);
            assert_non_null(strstr(carried, name));
        }
    }
}

static void the_machine_and_its_models_are_described(void **state)
{
    QmpRig *rig = *state;
    rig->vm.machine.kvm.max_vcpus = 4096;
    qmp_returns(rig, "query-target", NULL, "{\"arch\":\"x86_64\"}");
    qmp_returns(rig, "query-machines", NULL,
                "[{\"name\":\"pc-q35\",\"alias\":\"q35\",\"is-default\":true,\"cpu-max\":255,");
    qmp_returns(
        rig, "query-cpu-definitions", NULL,
        "{\"name\":\"host\",\"migration-safe\":false,\"static\":false,"
        "\"unavailable-features\":[],\"typename\":\"host-x86_64-cpu\",\"deprecated\":false}");
    qmp_fails(rig, "query-cpu-model-expansion", "{'type':'full','model':{'name':'486'}}",
              "GenericError", "CPU model '486' not found");
    qmp_fails(rig, "query-cpu-model-expansion",
              "{'type':'full','model':{'name':'host','props':{'a,b':true}}}", "GenericError",
              "'a,b' is not a feature");
    qmp_fails(rig, "query-cpu-model-expansion",
              "{'type':'full','model':{'name':'host','props':{'sse2':[]}}}", "GenericError",
              "'sse2' is not a feature");
    qmp_fails(rig, "query-cpu-model-expansion",
              "{'type':'full','model':{'name':'host','props':[]}}", "GenericError", "model.props");
    qmp_fails(rig, "query-cpu-model-expansion",
              "{'type':'full','model':{'name':'host','props':{'sse9':true}}}", "GenericError",
              "skiff has no feature 'sse9'");
}

static void options_are_listed_together_and_alone(void **state)
{
    QmpRig *rig = *state;
    qmp_returns(rig, "query-command-line-options", NULL, "\"option\":\"smp-opts\"");
    qmp_returns(rig, "query-command-line-options", "{'option':'memory'}",
                "[{\"option\":\"memory\",\"parameters\":[{\"name\":\"size\",\"type\":\"size\"}]}]");
    qmp_returns(rig, "query-command-line-options", "{'option':'device'}",
                "[{\"option\":\"device\",\"parameters\":[]}]");
    qmp_fails(rig, "query-command-line-options", "{'option':'none'}", "GenericError",
              "invalid option name: none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(children_are_listed_with_their_types),
        QMP_TEST(values_have_the_types_of_their_properties),
        QMP_TEST(listed_properties_can_be_read),
        QMP_TEST(paths_may_be_partial_if_they_are_unique),
        QMP_TEST(types_have_properties_and_ancestors),
        QMP_TEST(the_machine_and_its_models_are_described),
        QMP_TEST(options_are_listed_together_and_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
