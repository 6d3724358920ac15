/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dump/dump.h"

#include <stdatomic.h>
#include <unistd.h>
#include "hw/firmware/vmcoreinfo.h"
#include "vmm/dump/dump_elf.h"
#include "vmm/dump/dump_mappings.h"
#include "vmm/dump/dump_target.h"

#define DUMP_CHUNK ((uint64_t)1 << 20)

static struct Dump {
    /* main */
    VmListener listener; /* listens while `cancel` exists */
    DumpStatus status;
    bool paging;
    uint64_t begin, length;
    /* the worker's while the dump is opened or written, otherwise main's */
    const char *path;
    int fd;
    DumpTarget target;
    const GuestRam *ram;
    GByteArray *notes;  /* the core notes of all vCPUs, then their QEMU notes */
    GByteArray *qemu;   /* not appended yet */
    GArray *registers;  /* ArchPaging of each vCPU, for virtual mappings */
    uint64_t note_gpa;  /* the guest's note, as -device vmcoreinfo has it */
    uint32_t note_size; /* 0: none */
    GError *error;
    /* any thread */
    DumpCancel cancel;
    _Atomic uint64_t completed, total;
} dump = {.cancel = {.fd = -1}};

DumpProgress dump_progress(void)
{
    return (DumpProgress){.status = dump.status,
                          .completed = atomic_load(&dump.completed),
                          .total = atomic_load(&dump.total)};
}

/* The VM ends: the dump under way, if any, fails soon. */
static void dump_vm_ending(VmListener *l, VmCause cause, bool leaving)
{
    enter_main();
    if (leaving) {
        dump_cancel_all(&dump.cancel);
    }
}

/* ---- opening ---- */

static int dump_open_in_worker(void *opaque)
{
    enter_worker();
    struct Dump *d = opaque;
    bool ok = d->path != NULL ? dump_target_open(&d->target, d->path, &d->error)
                              : dump_target_adopt(&d->target, d->fd, &d->error);
    return ok ? 0 : -1;
}

static bool dump_finish(bool ok, GError **error)
{
    dump.status = ok ? DUMP_COMPLETED : DUMP_FAILED;
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&dump.error));
    }
    return ok;
}

/* Checks before a dump creates or truncates its target: false + error. */
static RUNS_IN_MAIN bool dump_may_begin(Vm *vm, const DumpOptions *options, GError **error)
{
    if (dump.status == DUMP_ACTIVE) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST,
                    "There's a dump in process, please wait.");
        return false;
    }
    if (!dump_elf_has_ram(&vm->machine.ram, options->begin, options->length)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "Invalid parameter 'begin': the guest has no RAM in the range");
        return false;
    }
    if (dump.cancel.fd >= 0) {
        return true;
    }
    if (!dump_cancel_init(&dump.cancel, error)) {
        return false;
    }
    dump.listener = (VmListener){.ending = dump_vm_ending};
    vm_listen(vm, &dump.listener);
    return true;
}

bool dump_co_begin(Vm *vm, const DumpOptions *options, GError **error)
{
    if (!dump_may_begin(vm, options, error)) {
        if (options->path == NULL) {
            close(options->fd);
        }
        return false;
    }
    dump.status = DUMP_ACTIVE;
    dump.paging = options->paging;
    dump.begin = options->begin;
    dump.length = options->length;
    dump.path = options->path;
    dump.fd = options->fd;
    dump.ram = &vm->machine.ram;
    atomic_store(&dump.completed, 0);
    atomic_store(&dump.total, 0);
    dump_target_init(&dump.target, &dump.cancel);
    return co_run_in_worker(dump_open_in_worker, &dump) == 0 || dump_finish(false, error);
}

/* ---- registers ---- */

static void dump_registers_in_vcpu(Vcpu *v, void *opaque)
{
    enter_vcpu();
    struct Dump *d = opaque;
    arch_vcpu_dump_notes(vcpu_fd(v), vcpu_index(v), d->notes, d->qemu);
    if (d->registers != NULL) {
        ArchPaging paging;
        arch_vcpu_get_paging(vcpu_fd(v), &paging);
        g_array_append_val(d->registers, paging);
    }
}

static coroutine_fn RUNS_IN_MAIN void dump_co_read_registers(Vm *vm)
{
    dump.notes = g_byte_array_new();
    dump.qemu = g_byte_array_new();
    dump.registers = dump.paging ? g_array_new(FALSE, FALSE, sizeof(ArchPaging)) : NULL;
    for (unsigned i = 0; i < vcpus_count(vm->machine.vcpus); i++) {
        vcpus_co_call(vm->machine.vcpus, i, dump_registers_in_vcpu, &dump);
    }
    g_byte_array_append(dump.notes, dump.qemu->data, dump.qemu->len);
    g_clear_pointer(&dump.qemu, g_byte_array_unref);
}

static RUNS_IN_MAIN void dump_find_guest_note(Vm *vm)
{
    const Device *dev = machine_find_type(&vm->machine, VMCOREINFO_TYPE);
    dump.note_size = 0;
    if (dev != NULL) {
        bql_lock();
        if (!vmcoreinfo_get(dev, &dump.note_gpa, &dump.note_size)) {
            dump.note_size = 0;
        }
        bql_unlock();
    }
}

/* ---- writing ---- */

static RUNS_IN_WORKER DumpElf *dump_plan(struct Dump *d)
{
    g_autoptr(GArray) mappings = NULL;
    if (d->registers != NULL) {
        mappings = dump_mappings_new((const ArchPaging *)(void *)d->registers->data,
                                     d->registers->len, d->ram, &d->error);
        if (d->error != NULL) {
            return NULL;
        }
    }
    if (!dump_add_guest_note(d->notes, d->ram, d->note_gpa, d->note_size)) {
        dump_add_vmcoreinfo(d->notes, d->ram);
    }
    return dump_elf_new(d->ram, d->begin, d->length, mappings, d->notes, &d->error);
}

static RUNS_IN_WORKER bool dump_write_piece(struct Dump *d, const DumpPiece *piece)
{
    for (uint64_t done = 0; done < piece->size;) {
        uint64_t n = MIN(piece->size - done, DUMP_CHUNK);
        if (!dump_target_write(&d->target, piece->host + done, n, &d->error)) {
            return false;
        }
        done += n;
        atomic_fetch_add(&d->completed, n);
    }
    return true;
}

static RUNS_IN_WORKER bool dump_write(struct Dump *d, const DumpElf *elf)
{
    atomic_store(&d->total, elf->memory_size);
    bool ok = dump_target_write(&d->target, elf->head->data, elf->head->len, &d->error);
    for (unsigned i = 0; i < elf->piece_count && ok; i++) {
        ok = dump_write_piece(d, &elf->pieces[i]);
    }
    return ok;
}

static int dump_write_in_worker(void *opaque)
{
    enter_worker();
    struct Dump *d = opaque;
    DumpElf *elf = dump_plan(d);
    bool ok = elf != NULL && dump_write(d, elf);
    dump_elf_free(elf);
    return dump_target_close(&d->target, ok, ok ? &d->error : NULL) && ok ? 0 : -1;
}

static int dump_drop_in_worker(void *opaque)
{
    enter_worker();
    struct Dump *d = opaque;
    dump_target_close(&d->target, false, NULL);
    return -1;
}

/* ---- the operation ---- */

/* Leaves the VM stopped. */
static coroutine_fn RUNS_IN_MAIN bool dump_co_write_stopped(Vm *vm)
{
    RunState *rs = &vm->run;
    VmStopped *token = co_vm_stop(rs, STOP_PAUSED);
    dump_co_read_registers(vm);
    dump_find_guest_note(vm);
    VM_ANNOUNCE(vm, memory_used, true);
    int ret = co_run_in_worker(dump_write_in_worker, &dump);
    VM_ANNOUNCE(vm, memory_used, false);
    g_clear_pointer(&dump.notes, g_byte_array_unref);
    g_clear_pointer(&dump.registers, g_array_unref);
    vm_stopped_put(rs, token);
    return ret == 0;
}

static coroutine_fn RUNS_IN_MAIN bool dump_co_abort(void)
{
    co_run_in_worker(dump_drop_in_worker, &dump);
    g_set_error(&dump.error, G_FILE_ERROR, G_FILE_ERROR_INTR, "dump: aborted, since skiff quits");
    return false;
}

bool dump_co_run(Vm *vm, DumpEndedFn *ended, GError **error)
{
    RunState *rs = &vm->run;
    vm_operation_begin(rs);
    bool ok = vm->life.quitting ? dump_co_abort() : dump_co_write_stopped(vm);
    GError *failure = NULL;
    dump_finish(ok, &failure);
    ended(failure);
    if (failure != NULL) {
        g_propagate_error(error, failure);
    }
    co_vm_resume(rs);
    vm_operation_end(rs);
    return ok;
}
