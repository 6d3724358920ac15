/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/template/template.h"

#include <string.h>
#include "hw/chardev/chardev_set.h"
#include "vmm/exec/exec_vm.h"
#include "vmm/snapshot/savevm.h"
#include "vmm/template/template_port.h"

typedef enum TemplateWhen { TEMPLATE_READY, TEMPLATE_LINE, TEMPLATE_PORT } TemplateWhen;

typedef enum TemplateState {
    TEMPLATE_OFF, /* no -snapshot-at */
    TEMPLATE_WAITING,
    TEMPLATE_SAVING,
    TEMPLATE_SAVED,
    TEMPLATE_FAILED,
    TEMPLATE_STATE_COUNT,
} TemplateState;

/* -snapshot-at as it is bound. */
typedef struct TemplateOptions {
    int when;
    char *line, *file;
    uint32_t port;
} TemplateOptions;

static struct {
    Vm *vm;
    TemplateState state;
    TemplateOptions options;
    ExitStatus status; /* of FAILED */
    char *reason;      /* of FAILED */
} template;

static const char *const template_whens[] = {"READY", "line", "port", NULL};

static const OptSpec template_specs[] = {
    OPT_SPEC(TemplateOptions, "when", OPT_ENUM, when, .names = template_whens, .def = "line",
             .help = "when the machine is saved"),
    OPT_SPEC(TemplateOptions, "line", OPT_STRING, line, .help = "a text on the console"),
    OPT_SPEC(TemplateOptions, "port", OPT_U32, port, .def = "4294967295",
             .help = "an I/O port that the guest writes to"),
    OPT_SPEC(TemplateOptions, "file", OPT_STRING, file, .required = true, .help = "the state file"),
    {0},
};

/* ---- the states ---- */

static const bool template_moves[TEMPLATE_STATE_COUNT][TEMPLATE_STATE_COUNT] = {
    [TEMPLATE_OFF] = {[TEMPLATE_WAITING] = true},
    [TEMPLATE_WAITING] = {[TEMPLATE_SAVING] = true, [TEMPLATE_FAILED] = true},
    [TEMPLATE_SAVING] = {[TEMPLATE_SAVED] = true, [TEMPLATE_FAILED] = true},
};

static RUNS_IN_MAIN void assert_template(void)
{
    if ((template.state == TEMPLATE_FAILED) != (template.reason != NULL)) {
        bug_abort("a template has a reason and has not failed, or the reverse");
    }
}

static RUNS_IN_MAIN void template_move(TemplateState to)
{
    if (!template_moves[template.state][to]) {
        bug_abort("a template moves from state %d to %d", template.state, to);
    }
    template.state = to;
    assert_template();
}

/* Takes @reason. */
static RUNS_IN_MAIN void template_fail(ExitStatus status, char *reason)
{
    if (template.state != TEMPLATE_WAITING && template.state != TEMPLATE_SAVING) {
        g_free(reason);
        return;
    }
    template.status = status;
    template.reason = reason;
    template_move(TEMPLATE_FAILED);
}

/* ---- the end ---- */

static const char *template_describe_end(ExitStatus status)
{
    switch ((int)status) {
    case EXIT_STATUS_OK:
        return "the guest powered off";
    case EXIT_STATUS_PANIC:
        return "the guest panicked";
    case EXIT_STATUS_RESET:
        return "the guest reset";
    case EXIT_STATUS_TRIPLE_FAULT:
        return "the guest reset by a triple fault";
    case EXIT_STATUS_WATCHDOG:
        return "the guest's watchdog expired";
    default:
        return "the guest ended";
    }
}

static ExitStatus template_status_of(ExitStatus status)
{
    return status == EXIT_STATUS_OK || status == EXIT_STATUS_RESET ? EXIT_STATUS_EXEC : status;
}

static bool template_guest_ended(void *opaque, ExitStatus status, VmCause cause)
{
    enter_main();
    template_fail(template_status_of(status), g_strdup(template_describe_end(status)));
    return false; /* the VM quits */
}

/* skiff quits, for whatever reason. */
static ExitStatus template_exit_status(void *opaque, ExitStatus status)
{
    enter_main();
    if (template.state == TEMPLATE_SAVED) {
        return EXIT_STATUS_OK;
    }
    template_fail(template_status_of(status),
                  g_strdup(status == EXIT_STATUS_TIMEOUT    ? "-timeout expired"
                           : status == EXIT_STATUS_INTERNAL ? "KVM could not go on"
                                                            : "skiff was asked to quit"));
    return template.status;
}

char *template_explain(void)
{
    if (template.state != TEMPLATE_FAILED) {
        return NULL;
    }
    return g_strdup_printf("-snapshot-at: %s; no state was saved", template.reason);
}

/* ---- saving ---- */

static void template_save(void *opaque)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    const char *failure = NULL;
    if (savevm_co_start_cached(template.vm, template.options.file, &error)) {
        savevm_co_wait();
        SavevmInfo info = savevm_info();
        failure = info.state == SAVEVM_COMPLETED ? NULL : info.error;
        failure = failure != NULL || info.state == SAVEVM_COMPLETED ? failure : "it was cancelled";
    } else {
        failure = error->message;
    }
    if (template.state != TEMPLATE_SAVING) {
        return; /* skiff quits already */
    }
    if (failure == NULL) {
        template_move(TEMPLATE_SAVED);
    } else {
        template_fail(EXIT_STATUS_USAGE, g_strdup(failure));
    }
    vm_quit_because(template.vm, EXIT_STATUS_OK, VM_CAUSE_HOST_UI);
}

static void template_now(void *opaque)
{
    enter_main();
    if (template.state == TEMPLATE_WAITING) {
        template_move(TEMPLATE_SAVING);
        co_start(template.vm->ctx, template_save, NULL);
    }
}

/* ---- start ---- */

/* Whether the guest's writes to a disk are lost when skiff exits. */
static bool template_loses_writes(const VmConfig *config)
{
    bool lost = config->backends.clone || config->backends.snapshot;
    for (unsigned i = 0; i < config->backends.drives->len; i++) {
        const char *value = opt_dict_get(config->backends.drives->pdata[i], "snapshot");
        bool on = false;
        lost |= value != NULL && opt_parse_bool(value, &on, NULL) && on;
    }
    return lost;
}

static bool template_check(const VmConfig *config, const TemplateOptions *o, GError **error)
{
    const char *wrong = NULL;
    unsigned given =
        (o->when == TEMPLATE_READY) + (o->line != NULL) + (o->port != TEMPLATE_PORT_NONE);
    if (given != 1) {
        wrong = "is one of READY, line=TEXT and port=PORT";
    } else if (o->file[0] == '\0' || (o->line != NULL && o->line[0] == '\0')) {
        wrong = "needs a text and a file that are not empty";
    } else if (config->control.exec != NULL) {
        wrong = "saves a machine that has no command yet: give -exec to the clones of it";
    } else if (config->life.no_shutdown) {
        wrong = "ends skiff, which -no-shutdown prevents; leave it off";
    } else if (config->process.daemonize) {
        wrong = "has an exit status, which a daemon cannot show; leave -daemonize off";
    } else if (template_loses_writes(config)) {
        wrong = "needs the disks as they are at that moment, and -snapshot, snapshot=on and -clone "
                "lose what "
                "the guest has written";
    }
    if (wrong != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-snapshot-at: %s", wrong);
    }
    return wrong == NULL;
}

static bool template_parse(const VmConfig *config, TemplateOptions *o, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_parse(config->process.snapshot_at, "when", error);
    opts_init(template_specs, o);
    if (d == NULL || !opts_bind(template_specs, o, d, "-snapshot-at", error)) {
        return false;
    }
    return template_check(config, o, error);
}

bool template_open(Vm *vm, GError **error)
{
    static const VmEnding ending = {.guest_ended = template_guest_ended,
                                    .exit_status = template_exit_status};
    if (vm->config->process.snapshot_at == NULL) {
        return true;
    }
    if (!template_parse(vm->config, &template.options, error)) {
        return false;
    }
    template.vm = vm;
    template_move(TEMPLATE_WAITING);
    vm_set_ending(vm, &ending);
    if (template.options.when == TEMPLATE_READY) {
        exec_vm_set_ready(template_now, NULL);
    }
    return true;
}

bool template_watch(Vm *vm, GError **error)
{
    if (template.state == TEMPLATE_OFF) {
        return true;
    }
    if (template.options.port != TEMPLATE_PORT_NONE) {
        return template_port_open(vm, template.options.port, template_now, error);
    }
    if (template.options.line == NULL) {
        return true;
    }
    if (vm->backends.console == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-snapshot-at line=: there is no serial port; give -serial");
        return false;
    }
    chardev_watch(vm->backends.console, template.options.line, template_now, NULL);
    return true;
}
