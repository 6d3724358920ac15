/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu/vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "util/loop/sched_point.h"
#include "util/loop/waitgraph.h"
#include "vmm/vcpu/vcpu_int.h"

#define VCPU_KICK_SIGNAL SIGUSR1

static __thread Vcpu *current_vcpu;

/* ---- the vCPU's thread ---- */

static void vcpu_report_parked(Vcpu *v)
{
    SP("vcpu.parked", v);
    if (atomic_fetch_sub(&v->set->unparked, 1) == 1) {
        co_wake(v->set->parker);
    }
}

/* Runs the oldest call; false when there is none. */
static bool vcpu_run_call(Vcpu *v)
{
    pthread_mutex_lock(&v->lock);
    VcpuCall *call = v->calls;
    if (call != NULL) {
        v->calls = call->next;
    }
    if (v->calls == NULL) {
        atomic_fetch_and(&v->requests, ~(unsigned)VCPU_REQ_CALL);
    }
    pthread_mutex_unlock(&v->lock);
    if (call == NULL) {
        return false;
    }
    if (v->exit_pending) {
        bug_abort("invariant 4: a call to a vCPU with an exit that KVM has yet to complete");
    }
    call->fn(v, call->opaque);
    co_wake(call->caller); /* @call is invalid from here on */
    return true;
}

/* What a parked vCPU does next. Under the lock. */
typedef enum VcpuParkStep {
    VCPU_PARK_LEAVE,
    VCPU_PARK_REPORT,
    VCPU_PARK_CALL,
    VCPU_PARK_WAIT
} VcpuParkStep;

static VcpuParkStep vcpu_park_next(Vcpu *v)
{
    unsigned requests = atomic_load(&v->requests);
    if ((requests & ~(unsigned)VCPU_REQ_CALL) != VCPU_REQ_PARK) {
        return VCPU_PARK_LEAVE;
    }
    /* A vCPU that was unparked and parked again before it woke has to report once more. */
    if (v->reported_parking != v->parking) {
        return VCPU_PARK_REPORT;
    }
    return (requests & VCPU_REQ_CALL) != 0 ? VCPU_PARK_CALL : VCPU_PARK_WAIT;
}

/* Stays parked until main unparks it; runs calls meanwhile. */
static RUNS_IN_VCPU void vcpu_park(Vcpu *v)
{
    held_assert_none("parking");
    v->halted = false;
    VcpuParkStep step;
    do {
        pthread_mutex_lock(&v->lock);
        while ((step = vcpu_park_next(v)) == VCPU_PARK_WAIT) {
            pthread_cond_wait(&v->changed, &v->lock);
        }
        v->reported_parking = v->parking;
        pthread_mutex_unlock(&v->lock);
        if (step == VCPU_PARK_REPORT) {
            vcpu_report_parked(v);
        } else if (step == VCPU_PARK_CALL) {
            vcpu_run_call(v);
        }
    } while (step != VCPU_PARK_LEAVE);
    arch_vcpu_resumed(v->fd);
    const VcpuDebugger *debugger = atomic_load(&v->set->debugger);
    if (debugger != NULL) {
        debugger->resumed(v, v->set->debugger_opaque);
    }
}

/* The vCPU has requested an end of this run (a reset, say): it executes nothing until main has
 * parked it. */
static void vcpu_wait_for_request(Vcpu *v)
{
    pthread_mutex_lock(&v->lock);
    while (atomic_load(&v->requests) == 0) {
        pthread_cond_wait(&v->changed, &v->lock);
    }
    pthread_mutex_unlock(&v->lock);
}

/* The guest's clock is informed of the pause, as after parking. */
static RUNS_IN_VCPU void vcpu_wait_for_brake(Vcpu *v)
{
    held_assert_none("waiting for the brake");
    SP("vcpu.braked", v);
    pthread_mutex_lock(&v->lock);
    while (atomic_load(&v->set->braked) && atomic_load(&v->requests) == 0) {
        pthread_cond_wait(&v->changed, &v->lock);
    }
    pthread_mutex_unlock(&v->lock);
    arch_vcpu_resumed(v->fd);
}

static bool vcpu_create(Vcpu *v) RUNS_IN_VCPU;
static bool vcpu_create(Vcpu *v)
{
    Kvm *kvm = v->set->config.kvm;
    v->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, arch_vcpu_id(v->set->config.cpus, v->index));
    if (v->fd < 0) {
        g_set_error(&v->create_error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "KVM cannot create vCPU %u: %s", v->index, g_strerror(errno));
        return false;
    }
    v->run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED) {
        v->run = NULL;
        g_set_error(&v->create_error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "KVM cannot map vCPU %u: %s", v->index, g_strerror(errno));
        return false;
    }
    v->arch = arch_vcpu_new(v->set->config.cpus, v->fd, v->index, &v->create_error);
    return v->arch != NULL;
}

static void *vcpu_thread(void *opaque)
{
    Vcpu *v = opaque;
    enter_vcpu();
    current_vcpu = v;
    atomic_store(&v->thread_id, gettid());
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, VCPU_KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
    vcpu_create(v); /* main finds an error when all are parked */

    unsigned requests;
    while (((requests = atomic_load(&v->requests)) & VCPU_REQ_END) == 0) {
        if (requests != 0) {
            if (!v->exit_pending) {
                if ((requests & VCPU_REQ_PARK) != 0) {
                    vcpu_park(v);
                } else {
                    vcpu_run_call(v);
                }
                continue;
            }
            /* KVM completes the last access, and runs nothing. */
            __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        } else if (v->halted) {
            vcpu_wait_for_request(v);
            continue;
        } else if (atomic_load(&v->set->braked)) {
            vcpu_wait_for_brake(v);
            continue;
        }
        vcpu_run_once(v);
    }
    return NULL;
}

void vcpu_halt_self(void)
{
    if (current_vcpu != NULL) {
        current_vcpu->halted = true;
    }
}

/* ---- main ---- */

static void vcpu_on_kick(int signal)
{
    (void)signal; /* its only purpose is to interrupt KVM_RUN */
}

/* Called after the request is set: the vCPU does not begin such a wait while there is one. */
static RUNS_IN_MAIN void vcpu_cancel_wait(Vcpu *v)
{
    bql_lock();
    if (v->cancellable != NULL) {
        pended_cancel(v->cancellable);
    }
    bql_unlock();
}

/* Sets and clears requests and makes the vCPU handle them, in any state. */
static RUNS_IN_MAIN void vcpu_request(Vcpu *v, unsigned set, unsigned clear)
{
    pthread_mutex_lock(&v->lock);
    v->parking += (set & VCPU_REQ_PARK) != 0;
    atomic_store(&v->requests, (atomic_load(&v->requests) | set) & ~clear);
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
    if (set == 0) {
        return;
    }
    vcpu_cancel_wait(v);
    if (v->run != NULL) {
        /* In this order: a vCPU about to enter finds the flag, one inside gets the signal. */
        __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        pthread_kill(v->thread, VCPU_KICK_SIGNAL);
    }
}

void vcpus_co_call(VcpuSet *set, unsigned index, VcpuCallFn *fn, void *opaque)
{
    Vcpu *v = &set->vcpus[index];
    VcpuCall call = {.fn = fn, .opaque = opaque, .caller = co_arm()};
    pthread_mutex_lock(&v->lock);
    VcpuCall **at = &v->calls;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = &call;
    pthread_mutex_unlock(&v->lock);
    vcpu_request(v, VCPU_REQ_CALL, 0);
    WaitRecord record;
    wait_begin(&record, NULL, "a call to a vCPU");
    co_wait(call.caller);
    wait_end(&record);
}

void vcpus_hold(VcpuSet *set, unsigned index, bool held)
{
    if (!set->parked) {
        bug_abort("invariant 5: a vCPU that is not parked is to be held");
    }
    set->vcpus[index].held = held;
}

void vcpus_brake(VcpuSet *set, bool on)
{
    atomic_store(&set->braked, on);
    for (unsigned i = 0; i < set->count; i++) {
        Vcpu *v = &set->vcpus[i];
        if (on) { /* in this order: see vcpu_request() */
            __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
            pthread_kill(v->thread, VCPU_KICK_SIGNAL);
        } else {
            pthread_mutex_lock(&v->lock);
            pthread_cond_broadcast(&v->changed);
            pthread_mutex_unlock(&v->lock);
        }
    }
}

void vcpus_set_debugger(VcpuSet *set, const VcpuDebugger *debugger, void *opaque)
{
    set->debugger_opaque = opaque;
    atomic_store(&set->debugger, debugger);
}

static void vcpu_init(Vcpu *v, VcpuSet *set, unsigned index)
{
    v->set = set;
    v->index = index;
    v->fd = -1;
    snprintf(v->name, sizeof(v->name), "vcpu/%u", index);
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->changed, NULL);
    atomic_init(&v->requests, VCPU_REQ_PARK);
    v->parking = 1;
}

static bool vcpus_start_threads(VcpuSet *set, GError **error)
{
    for (unsigned i = 0; i < set->count; i++) {
        Vcpu *v = &set->vcpus[i];
        if (!thread_start(&v->thread, THREAD_VCPU, v->name, vcpu_thread, v)) {
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                        "cannot start the thread of vCPU %u: %s", i, g_strerror(errno));
            /* vCPUs without a thread count as parked. */
            if (atomic_fetch_sub(&set->unparked, set->count - i) == set->count - i) {
                co_wake(set->parker);
            }
            return false;
        }
        v->started = true;
    }
    return true;
}

VcpuSet *vcpus_co_new(const VcpuSetConfig *config, GError **error)
{
    struct sigaction kick = {.sa_handler = vcpu_on_kick};
    sigaction(VCPU_KICK_SIGNAL, &kick, NULL);

    VcpuSet *set = g_new0(VcpuSet, 1);
    set->config = *config;
    set->count = config->count;
    set->vcpus = g_new0(Vcpu, set->count);
    for (unsigned i = 0; i < set->count; i++) { /* all: vcpus_free() also frees unstarted vCPUs */
        vcpu_init(&set->vcpus[i], set, i);
    }
    atomic_init(&set->unparked, set->count);
    set->parker = co_arm();
    bool ok = vcpus_start_threads(set, error);
    co_wait(set->parker);
    set->parked = true;
    for (unsigned i = 0; ok && i < set->count; i++) {
        Vcpu *v = &set->vcpus[i];
        if (v->create_error != NULL) {
            g_propagate_error(error, g_steal_pointer(&v->create_error));
            ok = false;
        }
    }
    if (!ok) {
        vcpus_free(set);
        return NULL;
    }
    return set;
}

void vcpus_free(VcpuSet *set)
{
    if (set == NULL) {
        return;
    }
    for (unsigned i = 0; i < set->count; i++) {
        Vcpu *v = &set->vcpus[i];
        if (v->started) {
            vcpu_request(v, VCPU_REQ_END, 0);
            pthread_join(v->thread, NULL);
        }
        arch_vcpu_free(v->arch);
        if (v->run != NULL) {
            munmap(v->run, set->config.kvm->run_size);
        }
        if (v->fd >= 0) {
            close(v->fd);
        }
        pthread_cond_destroy(&v->changed);
        pthread_mutex_destroy(&v->lock);
        g_clear_error(&v->create_error);
    }
    g_free(set->vcpus);
    g_free(set);
}

void vcpus_co_park(VcpuSet *set)
{
    if (set->parked) {
        return;
    }
    unsigned running = 0;
    for (unsigned i = 0; i < set->count; i++) {
        running += !set->vcpus[i].held;
    }
    if (running == 0) {
        set->parked = true;
        return;
    }
    set->parker = co_arm();
    atomic_store(&set->unparked, running);
    for (unsigned i = 0; i < set->count; i++) {
        if (!set->vcpus[i].held) {
            vcpu_request(&set->vcpus[i], VCPU_REQ_PARK, 0);
        }
    }
    WaitRecord record;
    wait_begin(&record, NULL, "parking of the vCPUs");
    co_wait(set->parker);
    wait_end(&record);
    set->parked = true;
}

void vcpus_unpark(VcpuSet *set)
{
    if (!set->parked) {
        bug_abort("not all vCPUs to be unparked are parked");
    }
    set->parked = false;
    for (unsigned i = 0; i < set->count; i++) {
        if (!set->vcpus[i].held) {
            vcpu_request(&set->vcpus[i], 0, VCPU_REQ_PARK);
        }
    }
}

bool vcpus_parked(const VcpuSet *set)
{
    return set->parked;
}

unsigned vcpus_count(const VcpuSet *set)
{
    return set->count;
}

const ArchCpus *vcpus_arch(const VcpuSet *set)
{
    return set->config.cpus;
}

typedef struct VcpuReset {
    const BootState *boot;
    GError *error;
} VcpuReset;

int vcpu_fd(const Vcpu *v)
{
    return v->fd;
}

unsigned vcpu_index(const Vcpu *v)
{
    return v->index;
}

ArchVcpu *vcpu_arch(Vcpu *v)
{
    return v->arch;
}

pid_t vcpu_thread_id(const VcpuSet *set, unsigned index)
{
    return atomic_load(&set->vcpus[index].thread_id);
}

bool vcpu_is_halted(const Vcpu *v)
{
    struct kvm_mp_state state;
    return ioctl(v->fd, KVM_GET_MP_STATE, &state) == 0 && state.mp_state == KVM_MP_STATE_HALTED;
}

static void vcpu_reset_in_thread(Vcpu *v, void *opaque)
{
    enter_vcpu();
    VcpuReset *reset = opaque;
    arch_vcpu_reset(v->arch, v->fd, v->index, reset->boot, &reset->error);
}

bool vcpus_co_reset(VcpuSet *set, const BootState *boot, GError **error)
{
    if (!set->parked) {
        bug_abort("vCPUs to be reset are not parked");
    }
    for (unsigned i = 0; i < set->count; i++) {
        VcpuReset reset = {.boot = boot};
        vcpus_co_call(set, i, vcpu_reset_in_thread, &reset);
        if (reset.error != NULL) {
            g_propagate_error(error, reset.error);
            return false;
        }
    }
    return true;
}
