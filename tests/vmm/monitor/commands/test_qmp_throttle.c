/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of disks in QMP: block_set_io_throttle, throttle-group objects, queries. */
#include "block/graph.h"
#include "block/throttle.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "vmm/backends/throttle.h"

#define NO_LIMITS "'bps':0,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0"
#define ALL_ZERO "\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0"

/* ---- a drive, and the backend of a device that uses it ---- */

typedef struct Disk {
    QmpRig *rig;
    BlockDrive drive;
    BlockNode *node;
    BlockBackend *blk;
    Device dev;
    bool done;
    void (*fn)(struct Disk *d);
} Disk;

static void disk_run(void *opaque)
{
    Disk *d = opaque;
    enter_main();
    enter_coroutine();
    d->fn(d);
    d->done = true;
}

static void disk_do(Disk *d, void (*fn)(Disk *d))
{
    d->fn = fn;
    d->done = false;
    co_start(d->rig->vm.ctx, disk_run, d);
    while (!d->done) {
        aio_context_step(d->rig->vm.ctx, true);
    }
}

static void open_drive(Disk *d)
{
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts = opt_dict_parse("driver=null-co,if=none,id=d0,size=1M", NULL, NULL);
    assert_true(block_drive_to_blockdev(opts, &d->drive, NULL));
    d->node = block_co_open(d->drive.blockdev, d->rig->vm.machine.env.default_iothread, NULL);
    assert_non_null(d->node);
    d->drive.root = block_name_co_new(d->node, "drive 'd0'");
    g_ptr_array_add(d->rig->vm.backends.drives, &d->drive);
}

static const DeviceType disk_type = {.name = "virtio-blk-pci"};

static void plug(Disk *d)
{
    enter_main();
    enter_coroutine();
    d->blk = blk_co_new("vd0", d->node, true, NULL);
    assert_non_null(d->blk);
    d->dev = (Device){
        .type = &disk_type, .id = (char *)"vd0", .path = (char *)"/machine/peripheral/vd0"};
    g_ptr_array_add(d->rig->vm.machine.devices, &d->dev);
    blk_set_owner(d->blk, &d->dev);
    throttle_co_add_device(&d->rig->vm.backends, "d0", "vd0");
}

static void unplug(Disk *d)
{
    enter_main();
    enter_coroutine();
    g_ptr_array_remove(d->rig->vm.machine.devices, &d->dev);
    blk_co_free(d->blk);
}

static void close_drive(Disk *d)
{
    enter_main();
    enter_coroutine();
    g_ptr_array_remove(d->rig->vm.backends.drives, &d->drive);
    if (d->drive.group != NULL) {
        throttle_group_unref(d->drive.group);
    }
    block_user_co_free(d->drive.root);
    block_co_unref(d->node);
    block_drive_clear(&d->drive);
}

/* ---- block_set_io_throttle ---- */

static void limits_are_set_shown_and_removed(void **state)
{
    QmpRig *rig = *state;
    Disk d = {.rig = rig};
    enter_main();
    disk_do(&d, open_drive);
    qmp_returns(rig, "query-block", NULL, ALL_ZERO ",\"write_threshold\"");
    g_free(
        qmp_ok(rig, "block_set_io_throttle",
               "{'device':'d0','bps':1000,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':10,'iops_wr':20,"
               "'bps_max':5000,'iops_rd_max':40,'iops_rd_max_length':60,'iops_size':4096}"));
    static const char shown[] =
        "\"bps\":1000,\"bps_max\":5000,\"bps_max_length\":1,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,"
        "\"iops_rd\":10,\"iops_rd_max\":40,\"iops_rd_max_length\":60,\"iops_wr\":20,"
        "\"iops_size\":4096,\"group\":\"d0\",";
    qmp_returns(rig, "query-block", NULL, shown);
    disk_do(&d, plug); /* the drive's device gets them */
    qmp_returns(rig, "query-block", NULL, shown);
    assert_ptr_equal(blk_throttle_group(d.blk), throttle_group_find("d0"));
    /* a node has none, as in QEMU */
    qmp_returns(rig, "query-named-block-nodes", NULL, ALL_ZERO ",\"write_threshold\"");
    g_free(qmp_ok(rig, "block_set_io_throttle", "{'id':'vd0'," NO_LIMITS "}"));
    qmp_returns(rig, "query-block", NULL, ALL_ZERO ",\"write_threshold\"");
    assert_null(throttle_group_find("d0"));
    disk_do(&d, unplug);
    disk_do(&d, close_drive);
}

/* They belong to the drive, whatever selects it. */
static void limits_stay_for_the_next_device(void **state)
{
    QmpRig *rig = *state;
    Disk d = {.rig = rig};
    enter_main();
    disk_do(&d, open_drive);
    disk_do(&d, plug);
    g_free(
        qmp_ok(rig, "block_set_io_throttle",
               "{'id':'/machine/peripheral/vd0','group':'g','bps':0,'bps_rd':0,'bps_wr':0,'iops':7,"
               "'iops_rd':0,'iops_wr':0}"));
    assert_ptr_equal(blk_throttle_group(d.blk), throttle_group_find("g"));
    disk_do(&d, unplug);
    qmp_returns(rig, "query-block", NULL, "\"iops\":7,");
    disk_do(&d, plug);
    qmp_returns(rig, "query-block", NULL, "\"group\":\"g\"");
    /* without group= it stays in its group */
    g_free(
        qmp_ok(rig, "block_set_io_throttle",
               "{'device':'d0','bps':9,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0}"));
    qmp_returns(rig, "query-block", NULL, "\"group\":\"g\"");
    /* another group */
    g_free(qmp_ok(rig, "block_set_io_throttle",
                  "{'device':'d0','group':'h','bps':9,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,"
                  "'iops_wr':0}"));
    assert_null(throttle_group_find("g"));
    disk_do(&d, unplug);
    disk_do(&d, close_drive);
    assert_null(throttle_group_find("h"));
}

static void invalid_calls_are_refused(void **state)
{
    static const struct {
        const char *args, *class, *message;
    } cases[] = {
        {"{" NO_LIMITS "}", "GenericError", "Need exactly one of 'device' and 'id'"},
        {"{'device':'d0','id':'vd0'," NO_LIMITS "}", "GenericError",
         "Need exactly one of 'device' and 'id'"},
        {"{'device':'none'," NO_LIMITS "}", "DeviceNotFound", "Device 'none' not found"},
        {"{'id':'none'," NO_LIMITS "}", "DeviceNotFound", "Device 'none' not found"},
        {"{'device':'d0'," NO_LIMITS ",'bps_max':1}", "GenericError",
         "bps_max/iops_max require corresponding bps/iops values"},
        {"{'device':'d0','bps':-1,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0}",
         "GenericError", "bps/iops/max values must be within [0, 1000000000000000]"},
        {"{'device':'d0'," NO_LIMITS ",'bps_max_length':0}", "GenericError",
         "the burst length cannot be 0"},
        {"{'device':'d0'," NO_LIMITS ",'iops_size':-1}", "GenericError",
         "iops size requires an iops value to be set"},
    };
    QmpRig *rig = *state;
    Disk d = {.rig = rig};
    enter_main();
    disk_do(&d, open_drive);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        qmp_fails(rig, "block_set_io_throttle", cases[i].args, cases[i].class, cases[i].message);
    }
    assert_null(throttle_group_find("d0"));
    disk_do(&d, close_drive);
}

/* ---- objects ---- */

static void a_group_is_added_changed_and_deleted(void **state)
{
    QmpRig *rig = *state;
    enter_main();
    g_free(
        qmp_ok(rig, "object-add",
               "{'qom-type':'throttle-group','id':'g','limits':{'iops-total':5,'iops-size':512}}"));
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'throttle-group','id':'h','x-bps-total':100}"));
    qmp_returns(rig, "qom-get", "{'path':'/objects/g','property':'limits'}",
                "\"iops-total\":5,\"iops-total-max\":0,\"iops-total-max-length\":1,");
    qmp_returns(rig, "qom-get", "{'path':'h','property':'x-bps-total'}", "100");
    qmp_returns(rig, "qom-list", "{'path':'/objects'}",
                "{\"name\":\"g\",\"type\":\"child<throttle-group>\"}");
    qmp_returns(rig, "qom-list-types", "{'implements':'throttle-group'}",
                "[{\"name\":\"throttle-group\",\"parent\":\"object\"}]");
    qmp_returns(rig, "qom-list-properties", "{'typename':'throttle-group'}", "\"x-iops-size\"");
    /* what is not named stays */
    g_free(qmp_ok(rig, "qom-set",
                  "{'path':'/objects/g','property':'limits','value':{'iops-total-max':50}}"));
    qmp_returns(rig, "qom-get", "{'path':'/objects/g','property':'limits'}",
                "\"iops-total\":5,\"iops-total-max\":50,");
    g_free(qmp_ok(rig, "object-del", "{'id':'g'}"));
    g_free(qmp_ok(rig, "object-del", "{'id':'h'}"));
    assert_null(throttle_group_find("g"));
}

static void a_group_in_use_is_not_deleted(void **state)
{
    QmpRig *rig = *state;
    enter_main();
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'throttle-group','id':'g'}"));
    g_free(qmp_ok(rig, "blockdev-add",
                  "{'driver':'throttle','node-name':'t','throttle-group':'g',"
                  "'file':{'driver':'null-co'}}"));
    qmp_fails(rig, "object-del", "{'id':'g'}", "GenericError",
              "object 'g' is in use, can not be deleted");
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'t'}"));
    g_free(qmp_ok(rig, "object-del", "{'id':'g'}"));
}

static void invalid_groups_and_changes_are_refused(void **state)
{
    static const struct {
        const char *args, *message;
    } sets[] = {
        {"{'path':'/objects/g','property':'limits','value':{'foo':5}}",
         "Parameter 'limits.foo' is unexpected"},
        {"{'path':'/objects/g','property':'limits','value':{'bps-total':{'x':5}}}",
         "Parameter 'limits.bps-total.x' is unexpected"},
        {"{'path':'/objects/g','property':'limits','value':5}",
         "Invalid parameter type for 'limits', expected: object"},
        {"{'path':'/objects/g','property':'limits','value':{'bps-total-max':5}}",
         "bps_max/iops_max require corresponding bps/iops values"},
        {"{'path':'/objects/g','property':'limits','value':{'bps-total':-5}}",
         "bps/iops/max values must be within [0, 1000000000000000]"},
        {"{'path':'/objects/g','property':'x-bps-total','value':5}",
         "Property cannot be set after initialization"},
        {"{'path':'/objects/g','property':'foo','value':5}",
         "Property 'throttle-group.foo' not found"},
        {"{'path':'/objects/default','property':'poll-max-ns','value':5}",
         "Insufficient permission to perform this operation"},
        {"{'path':'/objects/g','property':'type','value':'x'}",
         "Insufficient permission to perform this operation"},
    };
    QmpRig *rig = *state;
    Disk d = {.rig = rig};
    enter_main();
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'throttle-group','id':'g'}"));
    for (unsigned i = 0; i < G_N_ELEMENTS(sets); i++) {
        qmp_fails(rig, "qom-set", sets[i].args, "GenericError", sets[i].message);
    }
    qmp_returns(rig, "qom-get", "{'path':'g','property':'limits'}", "{\"bps-total\":0,");
    qmp_fails(rig, "object-add", "{'qom-type':'throttle-group','id':'g'}", "GenericError",
              "is taken");
    qmp_fails(rig, "object-add", "{'qom-type':'throttle-group','id':'b','limits':{'x':1}}",
              "GenericError", "Parameter 'limits.x' is unexpected");
    qmp_fails(rig, "object-add", "{'qom-type':'throttle-group','id':'b','x-bps-read-max':1}",
              "GenericError", "bps_max/iops_max require corresponding bps/iops values");
    disk_do(&d, open_drive);
    g_free(
        qmp_ok(rig, "block_set_io_throttle",
               "{'device':'d0','bps':9,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0}"));
    qmp_fails(rig, "object-add", "{'qom-type':'throttle-group','id':'d0'}", "GenericError",
              "A group with this name already exists");
    disk_do(&d, close_drive);
    g_free(qmp_ok(rig, "object-del", "{'id':'g'}"));
}

/* A disk joins the group of an object, and sets its limits. */
static void a_disk_shares_the_group_of_an_object(void **state)
{
    QmpRig *rig = *state;
    Disk d = {.rig = rig};
    enter_main();
    disk_do(&d, open_drive);
    disk_do(&d, plug);
    g_free(qmp_ok(rig, "object-add", "{'qom-type':'throttle-group','id':'g'}"));
    g_free(qmp_ok(rig, "block_set_io_throttle",
                  "{'device':'d0','group':'g','bps':9,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,"
                  "'iops_wr':0}"));
    qmp_returns(rig, "qom-get", "{'path':'g','property':'limits'}", "{\"bps-total\":9,");
    g_free(qmp_ok(rig, "qom-set", "{'path':'g','property':'limits','value':{'bps-total':8}}"));
    qmp_returns(rig, "query-block", NULL, "\"bps\":8,");
    qmp_fails(rig, "object-del", "{'id':'g'}", "GenericError",
              "object 'g' is in use, can not be deleted");
    g_free(qmp_ok(rig, "block_set_io_throttle", "{'device':'d0'," NO_LIMITS "}"));
    g_free(qmp_ok(rig, "object-del", "{'id':'g'}"));
    disk_do(&d, unplug);
    disk_do(&d, close_drive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(limits_are_set_shown_and_removed),
        QMP_TEST(limits_stay_for_the_next_device),
        QMP_TEST(invalid_calls_are_refused),
        QMP_TEST(a_group_is_added_changed_and_deleted),
        QMP_TEST(a_group_in_use_is_not_deleted),
        QMP_TEST(invalid_groups_and_changes_are_refused),
        QMP_TEST(a_disk_shares_the_group_of_an_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
