/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP commands of objects. */
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "util/loop/sched_point.h"

static void an_iothread_is_added_used_and_deleted(void **state)
{
    QmpRig *rig = *state;
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'iothread','id':'io1','poll-max-ns':500}"));
    qmp_returns(rig, "query-iothreads", NULL, "{\"id\":\"default\",\"thread-id\":");
    g_autofree char *all = qmp_ok(rig, "query-iothreads", NULL);
    char *mine = strstr(all, "\"id\":\"io1\",\"thread-id\":");
    assert_non_null(mine);
    assert_true(atoi(mine + strlen("\"id\":\"io1\",\"thread-id\":")) > 1);
    assert_non_null(strstr(mine, "\"poll-max-ns\":500"));
    g_free(qmp_ok(rig, "object-del", "{'id':'io1'}"));
    g_autofree char *rest = qmp_ok(rig, "query-iothreads", NULL);
    assert_null(strstr(rest, "io1"));
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'iothread','id':'io1'}"));
    g_free(qmp_ok(rig, "object-del", "{'id':'io1'}"));
}

static void a_memory_backend_is_added_and_deleted(void **state)
{
    QmpRig *rig = *state;
    qmp_returns(rig, "query-memdev", NULL, "[]");
    g_free(qmp_ok(rig, "object-add",
                  "{'qom-type':'memory-backend-memfd','id':'m','size':2097152,'prealloc':true}"));
    qmp_returns(rig, "query-memdev", NULL,
                "[{\"id\":\"m\",\"size\":2097152,\"merge\":false,\"dump\":false,\"prealloc\":true,"
                "\"share\":true,\"reserve\":false,\"host-nodes\":[],\"policy\":\"default\"}]");
    g_free(qmp_ok(rig, "object-del", "{'id':'m'}"));
    qmp_returns(rig, "query-memdev", NULL, "[]");
}

static void the_machines_memory_is_not_deleted(void **state)
{
    QmpRig *rig = *state;
    enter_main();
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'memory-backend-ram','id':'m','size':2097152}"));
    rig->vm.machine.memory = backends_find_memory(&rig->vm.backends, "m");
    qmp_fails(rig, "object-del", "{'id':'m'}", "GenericError",
              "object 'm' is in use, can not be deleted");
    rig->vm.machine.memory = NULL;
    g_free(qmp_ok(rig, "object-del", "{'id':'m'}"));
    rig->vm.machine.memory = memory_backend_new_ram("pc.ram", 2 << 20, NULL);
    qmp_returns(rig, "query-memdev", NULL, "{\"id\":\"pc.ram\",\"size\":2097152");
    memory_backend_free(rig->vm.machine.memory);
}

static void an_unfinished_iothread_can_be_neither_deleted_nor_added_again(void **state)
{
    QmpRig *rig = *state;
    RigCall calls[2];
    sched_point_hold("iothread.start");
    rig_call_start(rig, &calls[0], "object-add", "{'qom-type':'iothread','id':'io1'}");
    rig_settle(rig);
    sched_point_await("iothread.start");
    qmp_fails(rig, "object-del", "{'id':'io1'}", "GenericError", "object 'io1' not found");
    rig_call_start(rig, &calls[1], "object-add", "{'qom-type':'iothread','id':'io1'}");
    rig_settle(rig);
    sched_point_release("iothread.start");
    unsigned made = 0;
    for (unsigned i = 0; i < 2; i++) {
        rig_call_finish(&calls[i]);
        made += calls[i].error == NULL;
        g_clear_error(&calls[i].error);
        json_object_put(calls[i].result);
    }
    sched_point_reset();
    assert_int_equal(made, 1);
    g_free(qmp_ok(rig, "object-del", "{'id':'io1'}"));
}

typedef struct NamesIothread {
    Device base;
    char *iothread;
} NamesIothread;

static void an_iothread_in_use_is_not_deleted(void **state)
{
    QmpRig *rig = *state;
    static const OptSpec properties[] = {OPT_SPEC(NamesIothread, "iothread", OPT_STRING, iothread),
                                         {0}};
    static const DeviceType type = {.name = "test", .properties = properties};
    NamesIothread dev = {.base.type = &type, .iothread = (char[]){"io1"}};
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'iothread','id':'io1'}"));
    g_ptr_array_add(rig->vm.machine.devices, &dev);
    qmp_fails(rig, "object-del", "{'id':'io1'}", "GenericError",
              "object 'io1' is in use, can not be deleted");
    g_ptr_array_remove(rig->vm.machine.devices, &dev);
    g_free(qmp_ok(rig, "object-del", "{'id':'io1'}"));
    qmp_fails(rig, "object-del", "{'id':'default'}", "GenericError", "is in use");
}

typedef struct NamesRng {
    Device base;
    char *rng;
} NamesRng;

static void an_rng_backend_in_use_is_not_deleted(void **state)
{
    QmpRig *rig = *state;
    static const OptSpec properties[] = {OPT_SPEC(NamesRng, "rng", OPT_STRING, rng), {0}};
    static const DeviceType type = {.name = "test", .properties = properties};
    NamesRng dev = {.base.type = &type, .rng = (char[]){"rng0"}};
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'rng-random','id':'rng0'}"));
    g_free(qmp_ok(rig, "object-add",
                  "{'qom-type':'rng-random','id':'rng1','filename':'/dev/urandom'}"));
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'rng-builtin','id':'rng2'}"));
    qmp_fails(rig, "object-add", "{'qom-type':'rng-builtin','id':'rng0'}", "GenericError",
              "is taken");
    g_ptr_array_add(rig->vm.machine.devices, &dev);
    qmp_fails(rig, "object-del", "{'id':'rng0'}", "GenericError",
              "object 'rng0' is in use, can not be deleted");
    g_ptr_array_remove(rig->vm.machine.devices, &dev);
    g_free(qmp_ok(rig, "object-del", "{'id':'rng0'}"));
    g_free(qmp_ok(rig, "object-del", "{'id':'rng1'}"));
    g_free(qmp_ok(rig, "object-del", "{'id':'rng2'}"));
    qmp_fails(rig, "object-del", "{'id':'rng0'}", "GenericError", "not found");
}

static void an_iothread_with_a_node_is_not_deleted(void **state)
{
    QmpRig *rig = *state;
    enter_main();
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'iothread','id':'io1'}"));
    rig->vm.machine.env.default_iothread =
        iothread_context(backends_find_iothread(&rig->vm.backends, "io1"));
    g_free(qmp_ok(rig, "blockdev-add", "{'driver':'null-co','node-name':'n'}"));
    qmp_fails(rig, "object-del", "{'id':'io1'}", "GenericError", "is in use");
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'n'}"));
    g_free(qmp_ok(rig, "object-del", "{'id':'io1'}"));
}

static void invalid_objects_are_refused(void **state)
{
    QmpRig *rig = *state;
    static const char *const cases[][2] = {
        {"{'qom-type':'iothread'}", "Parameter 'id' is missing"},
        {"{'id':'x'}", "Parameter 'qom-type' is missing"},
        {"{'qom-type':'iothreads','id':'x'}", "nearest is iothread"},
        {"{'qom-type':'iothread','id':'x','bogus':1}", "bogus"},
        {"{'qom-type':'iothread','id':'x','poll-max-ns':-1}", "poll-max-ns"},
        {"{'qom-type':'iothread','id':'default'}", "is taken"},
        {"{'qom-type':'iothread','id':'1x'}", "is invalid"},
        {"{'qom-type':'rng-builtin'}", "Parameter 'id' is missing"},
        {"{'qom-type':'rng-builtin','id':'x','filename':'/dev/urandom'}", "filename"},
        {"{'qom-type':'rng-random','id':'x','filename':'/dev/hwrng'}", "use filename=/dev/urandom"},
        {"{'qom-type':'rng-random','id':'default'}", "is taken"},
        {"{'qom-type':'rng-egd','id':'x'}", "has no 'rng-egd'"},
        {"{'qom-type':'memory-backend-ram','id':'x'}", "size"},
        {"{'qom-type':'memory-backend-ram','id':'x','size':1}", "size"},
        {"{'qom-type':'memory-backend-ram','id':'a/b','size':2097152}", "is invalid"},
        {"{'qom-type':'memory-backend-ram','id':'x','size':2097152,'share':true}", "share=on"},
        {"{'qom-type':'memory-backend-ram','id':'x','size':70368744177664,'prealloc':true}",
         "memory"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(rig, "object-add", cases[i][0], "GenericError", cases[i][1]);
    }
    qmp_fails(rig, "object-del", "{'id':'x'}", "GenericError", "object 'x' not found");
}

/* Two clients add the same id at once, and allocating the memory takes a while. */
static void one_of_two_with_the_same_id_is_added(void **state)
{
    QmpRig *rig = *state;
    RigCall calls[2];
    for (unsigned i = 0; i < 2; i++) {
        rig_call_start(rig, &calls[i], "object-add",
                       "{'qom-type':'memory-backend-ram','id':'m','size':2097152}");
    }
    unsigned won = 0;
    for (unsigned i = 0; i < 2; i++) {
        rig_call_finish(&calls[i]);
        won += calls[i].error == NULL;
        g_clear_error(&calls[i].error);
        json_object_put(calls[i].result);
    }
    assert_int_equal(won, 1);
    assert_int_equal(rig->vm.backends.memory_backends->len, 1);
    g_free(qmp_ok(rig, "object-del", "{'id':'m'}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(an_iothread_is_added_used_and_deleted),
        QMP_TEST(an_unfinished_iothread_can_be_neither_deleted_nor_added_again),
        QMP_TEST(a_memory_backend_is_added_and_deleted),
        QMP_TEST(the_machines_memory_is_not_deleted),
        QMP_TEST(an_iothread_in_use_is_not_deleted),
        QMP_TEST(an_rng_backend_in_use_is_not_deleted),
        QMP_TEST(an_iothread_with_a_node_is_not_deleted),
        QMP_TEST(invalid_objects_are_refused),
        QMP_TEST(one_of_two_with_the_same_id_is_added),
    };
    return cmocka_run_group_tests_name("qmp objects", tests, NULL, NULL);
}
