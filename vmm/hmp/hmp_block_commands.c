/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: disks and jobs. */
#include <string.h>
#include "block/block.h"
#include "vmm/hmp/hmp_complete.h"

/* By the name of the -drive or -blockdev, or of the device that uses it. */
static RUNS_IN_MAIN BlockBackend *hmp_find_disk(const char *name)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(block_node_name(blk_root(list[i])), name) == 0) {
            return list[i];
        }
    }
    return blk_find(name);
}

static void hmp_block_resize(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    const char *name = qmp_arg_str(args, "device");
    vm_operation_begin(&call->vm->run);
    BlockBackend *blk = hmp_find_disk(name); /* now: it may have gone while we waited */
    if (blk == NULL) {
        hmp_printf(call, "Error: there is no disk '%s'; info block lists them\n", name);
    } else if (blk_co_truncate(blk, (uint64_t)qmp_arg_int(args, "size", 0), &error) < 0) {
        hmp_error(call, error);
    }
    vm_operation_end(&call->vm->run);
}

/* clang-format off */
#define HMP_JOB(name, qmp_name, member, text)                                                      \
    {name, NULL, HMP_PARAMS(HMP_PARAM(member, WORD)), text, .qmp = qmp_name}

const HmpCommand hmp_block_commands[] = {
    {"block_resize", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD, .complete = hmp_names_disks), HMP_PARAM("size", SIZE)),
     "give a disk another size, in MiB without a suffix", .run = hmp_block_resize},
    {"block_job_cancel", NULL,
     HMP_PARAMS(HMP_PARAM("force", FLAG, .flag = 'f'), HMP_PARAM("device", WORD)),
     "stop a block job; -f also where it would have to finish first", .qmp = "block-job-cancel"},
    HMP_JOB("block_job_complete", "block-job-complete", "device", "have a ready block job finish"),
    HMP_JOB("block_job_pause", "block-job-pause", "device", "pause a block job"),
    HMP_JOB("block_job_resume", "block-job-resume", "device", "let a paused block job go on"),
    {"block_job_set_speed", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD), HMP_PARAM("speed", SIZE)),
     "limit a block job, in MiB a second without a suffix", .qmp = "block-job-set-speed"},
    HMP_JOB("job_cancel", "job-cancel", "id", "stop a job"),
    HMP_JOB("job_complete", "job-complete", "id", "have a ready job finish"),
    HMP_JOB("job_pause", "job-pause", "id", "pause a job"),
    HMP_JOB("job_resume", "job-resume", "id", "let a paused job go on"),
    HMP_JOB("job_finalize", "job-finalize", "id", "commit what a pending job has done"),
    HMP_JOB("job_dismiss", "job-dismiss", "id", "forget a concluded job"),
    {0},
};
/* clang-format on */
