/* SPDX-License-Identifier: Apache-2.0 */
/* What the queries of nodes show of an image, compared with qemu-img. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "block/block.h"
#include "block/driver/fault.h"
#include "tests/support/shell.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"

#define CREATE "blockdev-snapshot-internal-sync"
#define DELETE "blockdev-snapshot-delete-internal-sync"

/* Makes an image in a new folder with a shell command, which runs there. */
static char *folder_new(const char *command)
{
    char *dir = g_strdup("build/skiff-qmp-image-XXXXXX");
    assert_non_null(g_mkdtemp(dir));
    assert_int_equal(shell("cd %s && %s", dir, command), 0);
    return dir;
}

static void folder_free(char *dir)
{
    assert_int_equal(shell("rm -r %s", dir), 0);
    g_free(dir);
}

static void node_add(QmpRig *rig, const char *dir, const char *options)
{
    g_autofree char *add = g_strdup_printf("{'driver':'qcow2','node-name':'disk',%s"
                                           "'file':{'driver':'file','filename':'%s/top'}}",
                                           options, dir);
    g_free(qmp_ok(rig, "blockdev-add", add));
}

/* The member "image" of the node "disk". Owned by the caller. */
static struct json_object *query_image(QmpRig *rig)
{
    g_autofree char *text = qmp_ok(rig, "query-named-block-nodes", NULL);
    struct json_object *list = json_tokener_parse(text), *image = NULL;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *node = json_object_array_get_idx(list, i);
        const char *name = json_object_get_string(json_object_object_get(node, "node-name"));
        if (strcmp(name, "disk") == 0) {
            image = json_object_get(json_object_object_get(node, "image"));
        }
    }
    json_object_put(list);
    assert_non_null(image);
    return image;
}

static struct json_object *qemu_img_info(const char *dir)
{
    char *text = NULL;
    g_autofree char *command =
        g_strdup_printf("qemu-img info -U --backing-chain --output=json %s/top", dir);
    assert_true(g_spawn_command_line_sync(command, &text, NULL, NULL, NULL));
    struct json_object *list = json_tokener_parse(text);
    g_free(text);
    assert_non_null(list);
    return list;
}

/* @image has all that qemu-img says of it, and nothing else but its backing image. */
static void expect_as_qemu_img(struct json_object *image, struct json_object *info)
{
    json_object_object_foreach(info, name, value)
    {
        struct json_object *ours = json_object_object_get(image, name);
        if (!json_object_equal(value, ours)) {
            fail_msg("%s: %s, qemu-img has %s", name, json_object_to_json_string(ours),
                     json_object_to_json_string(value));
        }
    }
    json_object_object_foreach(image, our_name, our_value)
    {
        bool file = json_object_object_get_ex(our_value, "data", NULL) &&
                    strstr(json_object_to_json_string(our_value), "file") != NULL;
        if (strcmp(our_name, "backing-image") != 0 && !file &&
            !json_object_object_get_ex(info, our_name, NULL)) {
            fail_msg("%s: only in skiff", our_name);
        }
    }
}

static void an_image_and_those_below_are_shown_as_by_qemu_img(void **state)
{
    QmpRig *rig = *state;
    char *dir = folder_new(
        "truncate -s 1M base && qemu-img create -q -f qcow2 -b base -F raw -o compat=v2 mid && "
        "qemu-img create -q -f qcow2 -b mid -F qcow2 "
        "-o lazy_refcounts=on,extended_l2=on,compression_type=zstd,refcount_bits=32 top && "
        "qemu-img snapshot -c first top && qemu-io -c 'write -q 0 64k' top && "
        "qemu-img snapshot -c second top");
    node_add(rig, dir, "'read-only':true,");
    struct json_object *image = query_image(rig), *list = qemu_img_info(dir), *at = image;
    assert_int_equal(json_object_array_length(list), 3);
    for (size_t i = 0; i < 3; i++) {
        expect_as_qemu_img(at, json_object_array_get_idx(list, i));
        at = json_object_object_get(at, "backing-image");
    }
    assert_null(at);
    json_object_put(list);
    json_object_put(image);
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'disk'}"));
    folder_free(dir);
}

static int64_t used_on_host(const char *dir, const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", dir, name);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (int64_t)st.st_blocks * 512;
}

/* qemu-img does not open the data file, so its size on the host is too small. */
static void an_image_with_a_data_file_is_shown_as_by_qemu_img(void **state)
{
    QmpRig *rig = *state;
    char *dir = folder_new("qemu-img create -q -f qcow2 -o data_file=data,data_file_raw=on top 1M");
    node_add(rig, dir, "'read-only':true,");
    struct json_object *image = query_image(rig), *list = qemu_img_info(dir);
    struct json_object *used = json_object_object_get(image, "actual-size");
    assert_int_equal(json_object_get_int64(used),
                     used_on_host(dir, "top") + used_on_host(dir, "data"));
    json_object_object_add(json_object_array_get_idx(list, 0), "actual-size",
                           json_object_get(used));
    expect_as_qemu_img(image, json_object_array_get_idx(list, 0));
    json_object_put(list);
    json_object_put(image);
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'disk'}"));
    folder_free(dir);
}

static size_t snapshots_shown(QmpRig *rig)
{
    struct json_object *image = query_image(rig), *list = NULL;
    bool some = json_object_object_get_ex(image, "snapshots", &list);
    size_t count = some ? json_object_array_length(list) : 0;
    json_object_put(image);
    return count;
}

static bool dirty_shown(QmpRig *rig)
{
    struct json_object *image = query_image(rig);
    bool dirty = json_object_get_boolean(json_object_object_get(image, "dirty-flag"));
    json_object_put(image);
    return dirty;
}

/* The first change of an image with lazy refcounts sets its dirty bit. */
static void changes_of_an_open_image_are_shown(void **state)
{
    QmpRig *rig = *state;
    char *dir = folder_new("qemu-img create -q -f qcow2 -o lazy_refcounts=on top 1M");
    node_add(rig, dir, "");
    assert_false(dirty_shown(rig));
    g_free(qmp_ok(rig, CREATE, "{'device':'disk','name':'one'}"));
    assert_int_equal(snapshots_shown(rig), 1);
    assert_true(dirty_shown(rig));
    g_free(qmp_ok(rig, CREATE, "{'device':'disk','name':'two'}"));
    assert_int_equal(snapshots_shown(rig), 2);
    g_free(qmp_ok(rig, DELETE, "{'device':'disk','name':'one'}"));
    assert_int_equal(snapshots_shown(rig), 1);
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'disk'}"));
    folder_free(dir);
}

static void release_at_home(void *opaque)
{
    BlockNode *slow = opaque;
    enter_iothread(block_node_home(slow));
    block_fault_release(slow, 1);
}

/* The snapshot waits for a write that hangs; the query is executed meanwhile. */
static void an_image_is_shown_while_its_storage_hangs(void **state)
{
    QmpRig *rig = *state;
    char *dir =
        folder_new("qemu-img create -q -f qcow2 -o lazy_refcounts=on top 1M && truncate -s 4M top");
    g_autofree char *add = g_strdup_printf(
        "{'driver':'qcow2','node-name':'disk','file':{'driver':'fault','node-name':'slow',"
        "'fail-op':'write','fail-count':1,'hold':true,'errno':0,'file':{'driver':'file','filename':"
        "'%s/top'}}}",
        dir);
    g_free(qmp_ok(rig, "blockdev-add", add));
    BlockNode *slow = block_node_find("slow");
    RigCall create;
    rig_call_start(rig, &create, CREATE, "{'device':'disk','name':'one'}");
    while (block_fault_held(slow) == 0) {
        aio_context_step(rig->vm.ctx, false);
    }
    assert_true(dirty_shown(rig)); /* as in memory: the write of the header hangs */
    assert_int_equal(snapshots_shown(rig), 0);
    assert_false(create.done);
    aio_post(block_node_home(slow), release_at_home, slow);
    rig_call_finish(&create);
    if (create.error != NULL) {
        fail_msg("%s", create.error->message);
    }
    json_object_put(create.result);
    assert_int_equal(snapshots_shown(rig), 1);
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'disk'}"));
    folder_free(dir);
}

static void a_filter_is_shown_above_the_image_that_it_copies_to(void **state)
{
    QmpRig *rig = *state;
    char *dir = folder_new("truncate -s 1M base && qemu-img create -q -f qcow2 -b base -F raw top");
    node_add(rig, dir, "");
    g_free(
        qmp_ok(rig, "blockdev-add", "{'driver':'copy-on-read','node-name':'cor','file':'disk'}"));
    qmp_returns(rig, "query-named-block-nodes", NULL,
                "\"node-name\":\"cor\",\"ro\":false,\"drv\":\"copy-on-read\",\"encrypted\":false,"
                "\"active\":true,\"detect_zeroes\":\"off\",\"backing_file_depth\":2");
    struct json_object *image = query_image(rig), *list = qemu_img_info(dir);
    expect_as_qemu_img(image, json_object_array_get_idx(list, 0));
    json_object_put(list);
    json_object_put(image);
    qmp_fails(rig, "blockdev-del", "{'node-name':'disk'}", "GenericError", "is in use");
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'cor'}"));
    g_free(qmp_ok(rig, "blockdev-del", "{'node-name':'disk'}"));
    folder_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(an_image_and_those_below_are_shown_as_by_qemu_img),
        QMP_TEST(an_image_with_a_data_file_is_shown_as_by_qemu_img),
        QMP_TEST(changes_of_an_open_image_are_shown),
        QMP_TEST(an_image_is_shown_while_its_storage_hangs),
        QMP_TEST(a_filter_is_shown_above_the_image_that_it_copies_to),
    };
    return cmocka_run_group_tests_name("qmp image", tests, NULL, NULL);
}
