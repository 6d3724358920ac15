/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: long operations that can be queried, paused and cancelled, and that take effect completely
 * or not at all. Names, states and verbs are QEMU's (chapter "Jobs" of its QMP reference).
 *
 * A job's life is one coroutine in main. It waits for the data step, a second coroutine in the home
 * context. When the data steps of all jobs of a transaction have ended, main runs prepare of all, then
 * commit or abort of all, then clean, as one control operation. The lock of control operations
 * belongs to the host; this module takes it through JobHost. A job without a transaction is the only
 * one of its own.
 *
 *                          +--------+  pause   +---------+
 *   CREATED --job_start--->| RUNNING|--------->| PAUSED  |
 *      |  |                |        |<---------|         |
 *      |  |                +--------+  resume  +---------+
 *      |  |  cancel         |     |  |
 *      |  |   +-------------+     |  +------+ job_co_ready
 *      |  |   | failed            |         v
 *      |  |   | or cancelled      |     +-------+  pause   +---------+
 *      |  |   |                   | ok  | READY |--------->| STANDBY |
 *      |  v   v                   |     |       |<---------|         |
 *      | ABORTING <---------------)-----+-------+  resume  +---------+
 *      |   |   ^  ^               v         |
 *      |   |   |  +----------- WAITING <----+ ok      (waits here for the other jobs)
 *      |   |   |    a job of      |
 *      |   |   |    them failed   | all succeeded
 *      |   |   | a prepare fails  v
 *      |   |   | or cancelled  PENDING    (waits here for the verb finalize, unless all auto-finalize)
 *      |   |   +------------------|
 *      |   v                      v committed
 *      |  CONCLUDED <-------------+
 *      |   | dismiss, auto-dismiss
 *      v   v
 *      NULL (freed)
 *
 * job_moves[] (job.c) names the function for each transition; a transition by any other aborts.
 *
 *   verb        legal in
 *   cancel      CREATED RUNNING PAUSED READY STANDBY WAITING PENDING
 *   pause       CREATED RUNNING PAUSED READY STANDBY
 *   resume      CREATED RUNNING PAUSED READY STANDBY
 *   set-speed   CREATED RUNNING PAUSED READY STANDBY
 *   complete    READY
 *   finalize    PENDING; finalizes all jobs of the transaction
 *   dismiss     CONCLUDED
 *
 * Invariants
 *   1. The state changes in main only, along job_moves[]; anything else aborts.
 *   2. PAUSED or STANDBY: the data step is at a pause point, where it holds nothing.
 *   3. The data step runs in RUNNING, PAUSED, READY and STANDBY only, and once.
 *   4. Exactly one of commit and abort is called, once, under the host's operation lock; prepare is
 *      called before it, only if all data steps of the transaction succeeded; clean is called after it.
 *   5. Verbs set state and post: only finalize waits. cancel is accepted in every phase.
 *   6. A job with an error was aborted; a committed job has no error.
 *   7. No job is PENDING while the data step of another job of its transaction runs. All jobs of a
 *      transaction commit, or all abort. All prepares come before the first commit or abort, and all
 *      of these are within one hold of the operation lock.
 *   8. A job that fails or is cancelled makes its transaction fail: the others are cancelled by force.
 */
#ifndef SKIFF_UTIL_JOB_JOB_H
#define SKIFF_UTIL_JOB_JOB_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/coroutine.h"

typedef struct Job Job;
typedef struct JobTxn JobTxn; /* jobs that conclude together */

typedef enum JobStatus {
    JOB_STATUS_UNDEFINED,
    JOB_STATUS_CREATED,
    JOB_STATUS_RUNNING,
    JOB_STATUS_PAUSED,
    JOB_STATUS_READY,
    JOB_STATUS_STANDBY,
    JOB_STATUS_WAITING,
    JOB_STATUS_PENDING,
    JOB_STATUS_ABORTING,
    JOB_STATUS_CONCLUDED,
    JOB_STATUS_NULL,
    JOB_STATUS_COUNT,
} JobStatus;
extern const char *const job_status_names[]; /* NULL-terminated: "undefined", "created", ... */

typedef enum JobVerb {
    JOB_VERB_CANCEL,
    JOB_VERB_PAUSE,
    JOB_VERB_RESUME,
    JOB_VERB_SET_SPEED,
    JOB_VERB_CHANGE,
    JOB_VERB_COMPLETE,
    JOB_VERB_FINALIZE,
    JOB_VERB_DISMISS,
    JOB_VERB_COUNT,
} JobVerb;
extern const char *const job_verb_names[]; /* NULL-terminated: "cancel", "pause", ... */

#define JOB_ERROR job_error_quark()
GQuark job_error_quark(void);
enum {
    JOB_ERROR_ID,   /* invalid or in use */
    JOB_ERROR_VERB, /* illegal in the present state */
};

/* A job type. clang cannot check thread roles of function pointers: comments state them. */
typedef struct JobDriver {
    const char *type;  /* QEMU's JobType: "mirror", "commit", ... */
    bool is_block_job; /* for query-block-jobs and the BLOCK_JOB_* events */
    bool can_complete; /* has a READY phase that the verb complete ends */

    /* The data step: a coroutine in the home context. Passes pause points (job_co_pause_point(),
     * job_co_sleep_ns()) and returns soon after one of them returns false. Returns 0, or -errno
     * with or without @error. */
    int (*co_run)(Job *job, GError **error);
    /* Coroutines in main, under the operation lock. abort can undo everything that prepare did.
     * May be NULL. -EAGAIN, if no other job of the transaction was prepared before: nothing was done,
     * and prepare is called again later, after a time without the lock. */
    int (*co_prepare)(Job *job, GError **error);
    void (*co_clean)(Job *job);
    /* Main, under the operation lock; must not yield. May be NULL. */
    void (*commit)(Job *job);
    void (*abort)(Job *job);
    /* Main, at once when a cancel is requested: shuts down whatever may block the data step. Not
     * under the lock, must not yield. Returns false if the job will still succeed, as a READY
     * mirror does when cancelled without force. NULL acts as a function that returns true. */
    bool (*cancel)(Job *job, bool force);
    void (*free)(void *state); /* may be NULL */
} JobDriver;

typedef enum JobEvent {
    JOB_EVENT_STATUS,    /* job_status() has changed */
    JOB_EVENT_READY,     /* the job waits for the verb complete */
    JOB_EVENT_PENDING,   /* the job waits for the verb finalize */
    JOB_EVENT_COMPLETED, /* the job has ended; job_error_text() tells success or failure */
    JOB_EVENT_CANCELLED, /* the job was ended by a cancel */
} JobEvent;

typedef enum JobErrorAction {
    JOB_ON_ERROR_REPORT, /* the job fails */
    JOB_ON_ERROR_IGNORE,
    JOB_ON_ERROR_STOP, /* the job pauses and retries after a resume */
} JobErrorAction;

typedef enum JobIoStatus { JOB_IO_OK, JOB_IO_FAILED, JOB_IO_NOSPACE } JobIoStatus;
extern const char *const job_io_status_names[]; /* "ok", "failed", "nospace" */

/* The environment of all jobs. */
typedef struct JobHost {
    /* The VM operation lock: coroutines in main. NULL in tests: no lock. */
    void (*co_operation_begin)(void *opaque);
    void (*co_operation_end)(void *opaque);
    /* Main; must not yield. May be NULL. */
    void (*event)(void *opaque, const Job *job, JobEvent event);
    void (*io_error)(void *opaque, const Job *job, bool is_read, JobErrorAction action);
} JobHost;

typedef struct JobConfig {
    const char *id;       /* unique: a letter, then letters, digits, '-', '.', '_' */
    AioContext *home;     /* where the data step runs */
    bool manual_finalize; /* waits in PENDING; false: auto-finalize */
    bool manual_dismiss;  /* stays CONCLUDED until dismissed; false: auto-dismiss */
    uint64_t speed;       /* bytes per second for job_co_throttle(); 0: unlimited */
    JobTxn *txn;          /* not sealed; NULL: the job concludes alone */
} JobConfig;

/* ---- main ---- */

/* Called before the first job. @host and @opaque must outlive all jobs. */
void jobs_init(AioContext *main_ctx, const JobHost *host, void *opaque) RUNS_IN_MAIN;

/* Creates a job in CREATED. Takes @state on success. The pointer is valid until the job is NULL; a
 * caller that yields before job_start() takes a reference. */
Job *job_new(const JobDriver *driver, const JobConfig *config, void *state, GError **error)
    RUNS_IN_MAIN;
/* Does nothing if the job was cancelled meanwhile; a job whose transaction has failed is cancelled.
 */
void job_start(Job *job) RUNS_IN_MAIN;
/* The creator's set-up failed: CREATED -> NULL, and the job leaves its transaction. Of the driver only
 * free is called. */
void job_abandon(Job *job) RUNS_IN_MAIN;
void job_ref(Job *job) RUNS_IN_MAIN;
void job_unref(Job *job) RUNS_IN_MAIN;

Job *job_find(const char *id) RUNS_IN_MAIN; /* borrowed; NULL: none */
/* Visits all jobs in creation order. @fn must not create or dismiss jobs. */
void job_foreach(void (*fn)(const Job *job, void *opaque), void *opaque) RUNS_IN_MAIN;

/* A transaction that jobs can join (JobConfig.txn). */
JobTxn *job_txn_new(void) RUNS_IN_MAIN;
/* No more jobs join; called once. The transaction lives as long as its jobs. They conclude after this
 * at the earliest. */
void job_txn_seal(JobTxn *txn) RUNS_IN_MAIN;

/* The verbs. False + error: not legal now. All but finalize return at once; their effect may come
 * later. */
bool job_verb_check(const Job *job, JobVerb verb, GError **error) RUNS_IN_MAIN;
/* A cancel after the decision (commit or abort) changes nothing. */
bool job_cancel(Job *job, bool force, GError **error) RUNS_IN_MAIN;
bool job_pause(Job *job, GError **error) RUNS_IN_MAIN;
bool job_resume(Job *job, GError **error) RUNS_IN_MAIN;
bool job_complete(Job *job, GError **error) RUNS_IN_MAIN;
bool job_set_speed(Job *job, uint64_t speed, GError **error) RUNS_IN_MAIN;
/* Calls @apply, which changes an option of the job, then lets the data step look at it. */
bool job_change(Job *job, void (*apply)(Job *job), GError **error) RUNS_IN_MAIN;
bool job_dismiss(Job *job, GError **error) RUNS_IN_MAIN;
/* Waits until the job has concluded. job_error_text() then tells whether it committed. */
bool job_co_finalize(Job *job, GError **error) coroutine_fn RUNS_IN_MAIN;

/* Waits until the job has concluded. The caller has a reference, and not the operation lock. */
void job_co_await(Job *job) coroutine_fn RUNS_IN_MAIN;

/* The host's operation lock, for what is left of a job after its end. */
void job_co_operation_begin(void) coroutine_fn RUNS_IN_MAIN;
void job_co_operation_end(void) coroutine_fn RUNS_IN_MAIN;

/* For shutdown: cancels jobs by force where possible and waits until none is active. Must not be
 * called under the operation lock, which jobs need to end. The caller bounds the wait. */
void jobs_cancel_all(void) RUNS_IN_MAIN;
void jobs_co_settle(void) coroutine_fn RUNS_IN_MAIN;

JobStatus job_status(const Job *job) RUNS_IN_MAIN;
bool job_user_paused(const Job *job) RUNS_IN_MAIN; /* a pause was requested, maybe not reached */
/* The data step runs and is neither paused nor asleep: "busy" of query-block-jobs. */
bool job_busy(const Job *job) RUNS_IN_MAIN;
JobIoStatus job_io_status(const Job *job) RUNS_IN_MAIN; /* not OK: paused by an I/O error */
bool job_auto_finalize(const Job *job) RUNS_IN_MAIN;
bool job_auto_dismiss(const Job *job) RUNS_IN_MAIN;
const char *job_error_text(const Job *job) RUNS_IN_MAIN; /* NULL: none */
void assert_job_state(const Job *job) RUNS_IN_MAIN;

/* ---- any thread, as long as the job lives ---- */
const char *job_id(const Job *job) ANY_THREAD;
const JobDriver *job_driver(const Job *job) ANY_THREAD;
void *job_state(const Job *job) ANY_THREAD;
bool job_is_cancelled(const Job *job) ANY_THREAD;
bool job_should_complete(const Job *job) ANY_THREAD;
bool job_should_pause(const Job *job) ANY_THREAD; /* a pause was requested, and no cancel */
uint64_t job_speed(const Job *job) ANY_THREAD;
/* Progress: the unit is the job's own, usually bytes. The total may grow while the job runs. */
void job_progress_set_total(Job *job, uint64_t total) ANY_THREAD;
void job_progress_add(Job *job, uint64_t done) ANY_THREAD;
void job_progress_get(const Job *job, uint64_t *current, uint64_t *total) ANY_THREAD;

/* ---- the data step, in its home context ---- */
/* A point where the job may be paused: the caller holds nothing (checked) and has no request in
 * flight. Returns when the job may continue; false: cancelled, return -ECANCELED. */
bool job_co_pause_point(Job *job) coroutine_fn RUNS_IN_LOOP;
/* Sleeps at a pause point; a verb that concerns the data step ends the sleep early. */
bool job_co_sleep_ns(Job *job, int64_t duration_ns) coroutine_fn RUNS_IN_LOOP;
/* A pause point after @bytes of work: sleeps as long as the speed limit requires. */
bool job_co_throttle(Job *job, uint64_t bytes) coroutine_fn RUNS_IN_LOOP;
/* Moves the job to READY; called once. The data step continues until job_should_complete(). */
void job_co_ready(Job *job) coroutine_fn RUNS_IN_LOOP;
/* Waits until job_signal(), @deadline_ns on the home's clock, or a verb that concerns the data step.
 * It is no pause point: the caller can have requests in flight. It must wait in a loop. */
void job_co_wait(Job *job, int64_t deadline_ns) coroutine_fn RUNS_IN_LOOP;
/* Ends job_co_wait(). Called in the home. */
void job_signal(Job *job) RUNS_IN_LOOP;

typedef struct JobIoError {
    bool is_read;
    bool no_space; /* for the I/O status: the target is full */
    JobErrorAction action;
} JobIoError;
/* Called at a pause point when I/O of the job failed. Reports it, and waits for a resume if the
 * action is to stop. True: retry, or ignore. False: fail, or cancelled. */
bool job_co_io_error(Job *job, const JobIoError *error) coroutine_fn RUNS_IN_LOOP;

#endif
