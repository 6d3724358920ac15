/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP commands blockdev-create and x-blockdev-amend. */
#include <stdlib.h>
#include <unistd.h>
#include "block/block.h"
#include "tests/support/shell.h"
#include "tests/vmm/monitor/qmp/qmp_rig.h"
#include "util/loop/sched_point.h"

typedef struct Folder {
    QmpRig *rig;
    char *dir;
} Folder;

static Folder folder_new(QmpRig *rig)
{
    Folder f = {.rig = rig, .dir = g_strdup("build/skiff-qmp-create-XXXXXX")};
    assert_non_null(g_mkdtemp(f.dir));
    return f;
}

static void folder_free(Folder *f)
{
    assert_int_equal(shell("rm -r %s", f->dir), 0);
    g_free(f->dir);
}

/* Runs a command whose arguments have the folder's name in place of "DIR". */
static void folder_do(Folder *f, const char *command, const char *args)
{
    g_auto(GStrv) parts = g_strsplit(args, "DIR", -1);
    g_autofree char *text = g_strjoinv(f->dir, parts);
    g_free(qmp_ok(f->rig, command, text));
}

static void folder_fails(Folder *f, const char *command, const char *args, const char *says)
{
    g_auto(GStrv) parts = g_strsplit(args, "DIR", -1);
    g_autofree char *text = g_strjoinv(f->dir, parts);
    qmp_fails(f->rig, command, text, "GenericError", says);
}

static void job_await(QmpRig *rig)
{
    enter_main();
    while (job_status(job_find("j")) != JOB_STATUS_CONCLUDED) {
        aio_context_step(rig->vm.ctx, true);
    }
}

/* Waits for the job "j", whose error contains @says (NULL: it has none), and dismisses it. */
static void job_ends(Folder *f, const char *says)
{
    enter_main();
    job_await(f->rig);
    const char *error = job_error_text(job_find("j"));
    if (says == NULL ? error != NULL : error == NULL || strstr(error, says) == NULL) {
        fail_msg("the job's error: %s", error);
    }
    g_free(qmp_ok(f->rig, "job-dismiss", "{'id':'j'}"));
}

#define CREATE_FILE(rest)                                                                          \
    "{'job-id':'j','options':{'driver':'file','filename':'DIR/file'," rest "}}"
#define CREATE_QCOW2(rest) "{'job-id':'j','options':{'driver':'qcow2','file':'file0'," rest "}}"
#define ADD_FILE "{'driver':'file','node-name':'file0','filename':'DIR/file'}"
#define DEL_FILE "{'node-name':'file0'}"

static void an_image_is_created_in_a_new_file(void **state)
{
    Folder f = folder_new(*state);
    folder_do(&f, "blockdev-create", CREATE_FILE("'size':0"));
    job_ends(&f, NULL);
    folder_do(&f, "blockdev-add", ADD_FILE);
    folder_do(&f, "blockdev-create",
              CREATE_QCOW2("'size':1048576,'cluster-size':4096,'refcount-bits':32,"
                           "'compression-type':'zstd','lazy-refcounts':true,"
                           "'backing-file':'base','backing-fmt':'raw'"));
    job_ends(&f, NULL);
    g_free(qmp_ok(f.rig, "blockdev-del", DEL_FILE));
    assert_int_equal(shell("cd %s && truncate -s 1M base && qemu-img check -q file && "
                           "qemu-img info --output=json file >info && "
                           "grep -q '\"virtual-size\": 1048576' info && "
                           "grep -q '\"cluster-size\": 4096' info && "
                           "grep -q '\"refcount-bits\": 32' info && "
                           "grep -q '\"compression-type\": \"zstd\"' info && "
                           "grep -q '\"lazy-refcounts\": true' info && "
                           "grep -q '\"backing-filename\": \"base\"' info",
                           f.dir),
                     0);
    folder_free(&f);
}

static void the_job_has_qemus_states_and_shapes(void **state)
{
    Folder f = folder_new(*state);
    folder_do(&f, "blockdev-create", CREATE_FILE("'size':512"));
    job_await(f.rig);
    qmp_returns(f.rig, "query-jobs", NULL,
                "[{\"id\":\"j\",\"type\":\"create\",\"status\":\"concluded\","
                "\"current-progress\":1,\"total-progress\":1}]");
    qmp_returns(f.rig, "query-block-jobs", NULL, "[]");
    job_ends(&f, NULL);
    assert_non_null(strstr(f.rig->events->str, "\"status\":\"running\""));
    assert_null(strstr(f.rig->events->str, "BLOCK_JOB"));
    folder_free(&f);
}

static void a_file_that_exists_is_emptied_and_preallocated(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(shell("yes | head -c 2M >%s/file", f.dir), 0);
    folder_do(&f, "blockdev-create", CREATE_FILE("'size':1048576,'preallocation':'full'"));
    job_ends(&f, NULL);
    assert_int_equal(shell("cd %s && head -c 1M /dev/zero | cmp - file && "
                           "[ $(stat -c %%b file) -ge 2048 ]",
                           f.dir),
                     0);
    folder_free(&f);
}

static void a_data_file_and_new_nodes_are_given_in_the_options(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(shell("touch %s/file %s/data", f.dir, f.dir), 0);
    folder_do(&f, "blockdev-create",
              "{'job-id':'j','options':{'driver':'qcow2','size':1048576,'data-file-raw':true,"
              "'file':{'driver':'file','filename':'DIR/file'},"
              "'data-file':{'driver':'file','filename':'DIR/data'}}}");
    job_ends(&f, NULL);
    qmp_returns(f.rig, "query-named-block-nodes", NULL, "[]"); /* they are closed again */
    assert_int_equal(shell("qemu-img check -q %s/file && [ $(stat -c %%s %s/data) = 1048576 ] && "
                           "qemu-img info %s/file | grep -q 'data file raw: true'",
                           f.dir, f.dir, f.dir),
                     0);
    folder_free(&f);
}

static void bad_options_are_an_error_of_the_job(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(shell("echo keep >%s/file", f.dir), 0);
    folder_do(&f, "blockdev-add", ADD_FILE);
    folder_do(&f, "blockdev-create", CREATE_QCOW2("'size':512,'cluster-size':1000"));
    job_ends(&f, "Cluster size must be a power of two between 512 and 2048k");
    folder_do(&f, "blockdev-create", CREATE_QCOW2("'size':512,'refcount-bits':-1"));
    job_ends(&f, "Refcount width must be a power of two");
    folder_do(&f, "blockdev-create", CREATE_QCOW2("'size':512,'version':'v2','extended-l2':true"));
    job_ends(&f, "Extended L2 entries are only supported with compatibility level 1.1");
    assert_int_equal(shell("echo keep | cmp - %s/file", f.dir), 0);
    g_free(qmp_ok(f.rig, "blockdev-del", DEL_FILE));
    folder_do(&f, "blockdev-create",
              "{'job-id':'j','options':{'driver':'file','filename':'DIR/no/file','size':0}}");
    job_ends(&f, "No such file or directory");
    folder_free(&f);
}

static void a_file_that_the_job_has_made_is_removed_if_it_fails(void **state)
{
    Folder f = folder_new(*state);
    folder_do(&f, "blockdev-create", CREATE_FILE("'size':4611686018427387904"));
    job_ends(&f, "Could not resize file");
    assert_int_equal(shell("[ ! -e %s/file ]", f.dir), 0);
    folder_free(&f);
}

static void wrong_arguments_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"{'job-id':'j','options':{'driver':'no-such'}}",
         "Block driver 'no-such' not found or not supported"},
        {"{'job-id':'j','options':{'driver':'raw'}}", "Driver does not support blockdev-create"},
        {"{'job-id':'j','options':{'driver':'file','size':0}}", "Parameter 'filename' is missing"},
        {CREATE_FILE("'size':0,'cluster-size':512"), "Parameter 'cluster-size' is unexpected"},
        {CREATE_FILE("'size':0,'nocow':true"), "Parameter 'nocow'"},
        {CREATE_FILE("'size':0,'extent-size-hint':4096"), "Parameter 'extent-size-hint'"},
        {CREATE_FILE("'size':0,'preallocation':'metadata'"),
         "Unsupported preallocation mode: metadata"},
        {CREATE_QCOW2("'size':0"), "Cannot find device='' nor node-name='file0'"},
        {"{'job-id':'j','options':{'driver':'qcow2','size':0}}", "Parameter 'file' is missing"},
        {"{'job-id':'0','options':{'driver':'file','filename':'DIR/file','size':0}}",
         "Invalid job ID '0'"},
    };
    static const char *const more[][2] = {
        {CREATE_QCOW2("'size':0,'encrypt':{}"), "Parameter 'encrypt': skiff has no encryption"},
        {CREATE_QCOW2("'size':1000"), "Image size must be a multiple of 512 bytes"},
        {CREATE_QCOW2("'size':0,'data-file':'none'"), "Cannot find device='' nor node-name='none'"},
        {CREATE_QCOW2("'size':0,'data-file':'null0'"), "the node has no file name"},
        {CREATE_QCOW2("'size':0,'data-file':'file0'"), "file0"},
    };
    Folder f = folder_new(*state);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        folder_fails(&f, "blockdev-create", cases[i][0], cases[i][1]);
    }
    assert_int_equal(shell("touch %s/file", f.dir), 0);
    folder_do(&f, "blockdev-add", ADD_FILE);
    g_free(qmp_ok(f.rig, "blockdev-add", "{'driver':'null-co','node-name':'null0'}"));
    for (unsigned i = 0; i < G_N_ELEMENTS(more); i++) {
        folder_fails(&f, "blockdev-create", more[i][0], more[i][1]);
        qmp_returns(f.rig, "query-jobs", NULL, "[]");
    }
    g_free(qmp_ok(f.rig, "blockdev-del", DEL_FILE));
    g_free(qmp_ok(f.rig, "blockdev-del", "{'node-name':'null0'}"));
    folder_free(&f);
}

/* ---- while the job runs ---- */

static void start_held(Folder *f, const char *command, const char *args)
{
    unsigned before = sched_point_count("job.create");
    sched_point_hold("job.create");
    folder_do(f, command, args);
    while (sched_point_count("job.create") == before) {
        aio_context_step(f->rig->vm.ctx, false);
    }
    sched_point_await("job.create");
}

static void nobody_else_can_use_the_node_meanwhile(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(shell("touch %s/file", f.dir), 0);
    folder_do(&f, "blockdev-add", ADD_FILE);
    start_held(&f, "blockdev-create", CREATE_QCOW2("'size':1048576"));
    /* the home is held: only commands that do not need it */
    folder_fails(&f, "blockdev-del", DEL_FILE, "Node file0 is in use");
    folder_fails(&f, "blockdev-create",
                 "{'job-id':'k','options':{'driver':'qcow2','file':'file0','size':512}}",
                 "job 'j'");
    folder_fails(&f, "blockdev-add", "{'driver':'raw','node-name':'r','file':'file0'}", "job 'j'");
    sched_point_release("job.create");
    job_ends(&f, NULL);
    g_free(qmp_ok(f.rig, "blockdev-del", DEL_FILE));
    assert_int_equal(shell("qemu-img check -q -f qcow2 %s/file", f.dir), 0);
    folder_free(&f);
}

static void a_cancelled_job_ends_with_its_step_and_removes_its_file(void **state)
{
    Folder f = folder_new(*state);
    start_held(&f, "blockdev-create", CREATE_FILE("'size':512"));
    g_free(qmp_ok(f.rig, "job-cancel", "{'id':'j'}"));
    sched_point_release("job.create");
    job_ends(&f, "Operation canceled");
    assert_int_equal(shell("[ ! -e %s/file ]", f.dir), 0);
    folder_free(&f);
}

/* ---- amending ---- */

#define AMEND(rest) "{'job-id':'j','node-name':'disk','options':{" rest "}}"

static void options_of_an_image_are_amended(void **state)
{
    Folder f = folder_new(*state);
    assert_int_equal(shell("qemu-img create -q -f qcow2 %s/file 1M", f.dir), 0);
    folder_do(&f, "blockdev-add",
              "{'driver':'qcow2','node-name':'disk','file':{'driver':'file','node-name':'file0',"
              "'filename':'DIR/file'}}");
    folder_fails(&f, "x-blockdev-amend", "{'job-id':'j','node-name':'no','options':{'driver':'x'}}",
                 "Cannot find device='' nor node-name='no'");
    folder_fails(&f, "x-blockdev-amend", AMEND("'driver':'raw'"),
                 "x-blockdev-amend doesn't support changing the block driver");
    folder_fails(&f, "x-blockdev-amend",
                 "{'job-id':'j','node-name':'file0','options':{'driver':'file'}}",
                 "Driver does not support x-blockdev-amend");
    folder_fails(&f, "x-blockdev-amend", AMEND("'driver':'qcow2','encrypt':{}"), "'encrypt'");
    folder_fails(&f, "x-blockdev-amend", AMEND("'driver':'qcow2','size':1"), "'size'");
    folder_do(&f, "x-blockdev-amend",
              AMEND("'driver':'qcow2','refcount-bits':64,'lazy-refcounts':true"));
    job_ends(&f, NULL);
    folder_do(&f, "x-blockdev-amend", AMEND("'driver':'qcow2','version':'v2'"));
    job_ends(&f, "compat=0.10 requires refcount_bits=16");
    g_free(qmp_ok(f.rig, "blockdev-del", "{'node-name':'disk'}"));
    assert_int_equal(shell("qemu-img check -q %s/file && qemu-img info %s/file >%s/info && "
                           "grep -q 'refcount bits: 64' %s/info && "
                           "grep -q 'lazy refcounts: true' %s/info",
                           f.dir, f.dir, f.dir, f.dir, f.dir),
                     0);
    folder_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(an_image_is_created_in_a_new_file),
        QMP_TEST(the_job_has_qemus_states_and_shapes),
        QMP_TEST(a_file_that_exists_is_emptied_and_preallocated),
        QMP_TEST(a_data_file_and_new_nodes_are_given_in_the_options),
        QMP_TEST(bad_options_are_an_error_of_the_job),
        QMP_TEST(a_file_that_the_job_has_made_is_removed_if_it_fails),
        QMP_TEST(wrong_arguments_are_refused),
        QMP_TEST(nobody_else_can_use_the_node_meanwhile),
        QMP_TEST(a_cancelled_job_ends_with_its_step_and_removes_its_file),
        QMP_TEST(options_of_an_image_are_amended),
    };
    return cmocka_run_group_tests_name("qmp create", tests, NULL, NULL);
}
