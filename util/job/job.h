/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: long work that can be watched, paused, cancelled, and that takes effect all at once or not
 * at all. Names, states and verbs are QEMU's (its "Jobs" chapter of the QMP reference).
 *
 * A job's life is one coroutine in main. Its data step is another, in the home context, that it
 * waits for; at its end main decides: prepare, then commit or abort, then clean, as a control
 * operation. The lock of control operations is the host's, which this module knows by its JobHost
 * only.
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
 *      |   |   |  +----------- WAITING <----+ ok
 *      |   |   |                  |
 *      |   |   | prepare fails    v
 *      |   |   | or cancelled  PENDING    (waits here for the verb finalize, unless auto-finalize)
 *      |   |   +------------------|
 *      |   v                      v committed
 *      |  CONCLUDED <-------------+
 *      |   | dismiss, auto-dismiss
 *      v   v
 *      NULL (freed)
 *
 * job_moves[] (job.c) names the function that makes each move; a move by any other aborts.
 *
 *   verb        legal in
 *   cancel      CREATED RUNNING PAUSED READY STANDBY WAITING PENDING
 *   pause       CREATED RUNNING PAUSED READY STANDBY
 *   resume      CREATED RUNNING PAUSED READY STANDBY
 *   set-speed   CREATED RUNNING PAUSED READY STANDBY
 *   complete    READY
 *   finalize    PENDING
 *   dismiss     CONCLUDED
 *
 * Invariants
 *   1. The state is moved in main only, along job_moves[]; anything else aborts.
 *   2. PAUSED or STANDBY: the data step stands at a pause point, where it holds nothing.
 *   3. The data step runs in RUNNING, PAUSED, READY and STANDBY only, and once.
 *   4. Exactly one of commit and abort is called, once, under the host's operation lock; prepare
 *      before it, and only where the data step succeeded; clean after it.
 *   5. Verbs set state and post: none waits but finalize, and cancel is answered in every phase.
 *   6. A job with an error was aborted; a job that was committed has none.
 */
#ifndef SKIFF_UTIL_JOB_JOB_H
#define SKIFF_UTIL_JOB_JOB_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/coroutine.h"

typedef struct Job Job;

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
    JOB_VERB_COMPLETE,
    JOB_VERB_FINALIZE,
    JOB_VERB_DISMISS,
    JOB_VERB_COUNT,
} JobVerb;
extern const char *const job_verb_names[]; /* NULL-terminated: "cancel", "pause", ... */

#define JOB_ERROR job_error_quark()
GQuark job_error_quark(void);
enum {
    JOB_ERROR_ID,   /* not a name, or taken */
    JOB_ERROR_VERB, /* not now */
};

/* What a job is made of. clang knows no roles of function pointers: they stand here. */
typedef struct JobDriver {
    const char *type;  /* QEMU's JobType: "mirror", "commit", ... */
    bool is_block_job; /* for query-block-jobs and the BLOCK_JOB_* events */
    bool can_complete; /* has a READY phase that the verb complete ends */

    /* The data step: a coroutine in the home context. Passes pause points (job_co_pause_point(),
     * job_co_sleep_ns()), and returns soon once one of them says false. 0, or -errno with or
     * without @error. */
    int (*co_run)(Job *job, GError **error);
    /* Coroutines in main, under the operation lock. Whatever prepare did, abort can undo. NULL:
     * nothing to do. */
    int (*co_prepare)(Job *job, GError **error);
    void (*co_clean)(Job *job);
    /* Main, under the operation lock; must not yield. NULL: nothing to do. */
    void (*commit)(Job *job);
    void (*abort)(Job *job);
    /* Main, at once when a cancel is asked for: shuts down what the data step may hang in. Not
     * under the lock, must not yield. False: the job will end well all the same, as a mirror does
     * that is cancelled without force when READY. NULL: nothing to do, and true. */
    bool (*cancel)(Job *job, bool force);
    void (*free)(void *state); /* NULL: nothing to free */
} JobDriver;

typedef enum JobEvent {
    JOB_EVENT_STATUS,    /* job_status() has changed */
    JOB_EVENT_READY,     /* waits for the verb complete */
    JOB_EVENT_PENDING,   /* waits for the verb finalize */
    JOB_EVENT_COMPLETED, /* ended; job_error_text() says how */
    JOB_EVENT_CANCELLED, /* ended by a cancel */
} JobEvent;

typedef enum JobErrorAction {
    JOB_ON_ERROR_REPORT, /* the job fails */
    JOB_ON_ERROR_IGNORE,
    JOB_ON_ERROR_STOP, /* the job pauses, and tries again after a resume */
} JobErrorAction;

/* Whom jobs live with. */
typedef struct JobHost {
    /* The VM operation lock: coroutines in main. NULL: there is none (tests). */
    void (*co_operation_begin)(void *opaque);
    void (*co_operation_end)(void *opaque);
    /* Main; must not yield. NULL: nobody wants to know. */
    void (*event)(void *opaque, const Job *job, JobEvent event);
    void (*io_error)(void *opaque, const Job *job, bool is_read, JobErrorAction action);
} JobHost;

typedef struct JobConfig {
    const char *id;        /* unique: a letter, then letters, digits, '-', '.', '_' */
    AioContext *home;      /* where the data step runs */
    bool manual_finalize;  /* stops in PENDING; else auto-finalize */
    bool manual_dismiss;   /* stays CONCLUDED until dismissed; else auto-dismiss */
    uint64_t speed;        /* bytes a second for job_co_throttle(); 0: unlimited */
    JobErrorAction action; /* of job_co_io_error() */
} JobConfig;

/* ---- main ---- */

/* Before the first job. @host and its opaque live as long as jobs do. */
void jobs_init(AioContext *main_ctx, const JobHost *host, void *opaque) RUNS_IN_MAIN;

/* CREATED. Takes @state on success. The pointer is good until the job is NULL; who yields before
 * job_start() takes a reference. */
Job *job_new(const JobDriver *driver, const JobConfig *config, void *state, GError **error)
    RUNS_IN_MAIN;
/* Nothing when it was cancelled meanwhile. */
void job_start(Job *job) RUNS_IN_MAIN;
/* The creator's set-up failed: CREATED -> NULL. Nothing of the driver but free is called. */
void job_abandon(Job *job) RUNS_IN_MAIN;
void job_ref(Job *job) RUNS_IN_MAIN;
void job_unref(Job *job) RUNS_IN_MAIN;

Job *job_find(const char *id) RUNS_IN_MAIN; /* borrowed; NULL: none */
/* All jobs in the order they were made. @fn makes and dismisses none. */
void job_foreach(void (*fn)(const Job *job, void *opaque), void *opaque) RUNS_IN_MAIN;

/* The verbs. False + error: not legal now. Each but finalize is done when it returns, which does
 * not mean that its effect is there. */
bool job_verb_check(const Job *job, JobVerb verb, GError **error) RUNS_IN_MAIN;
/* A cancel that comes when the decision has fallen changes nothing. */
bool job_cancel(Job *job, bool force, GError **error) RUNS_IN_MAIN;
bool job_pause(Job *job, GError **error) RUNS_IN_MAIN;
bool job_resume(Job *job, GError **error) RUNS_IN_MAIN;
bool job_complete(Job *job, GError **error) RUNS_IN_MAIN;
bool job_set_speed(Job *job, uint64_t speed, GError **error) RUNS_IN_MAIN;
bool job_dismiss(Job *job, GError **error) RUNS_IN_MAIN;
/* Waits until the job has concluded. Whether it committed is for job_error_text() to say. */
bool job_co_finalize(Job *job, GError **error) coroutine_fn RUNS_IN_MAIN;

/* The way out: cancels what can be, by force; waits until no job is under way. Not under the
 * operation lock, which jobs need to end. The caller bounds the wait. */
void jobs_cancel_all(void) RUNS_IN_MAIN;
void jobs_co_settle(void) coroutine_fn RUNS_IN_MAIN;

JobStatus job_status(const Job *job) RUNS_IN_MAIN;
bool job_user_paused(const Job *job) RUNS_IN_MAIN; /* asked to pause; it may not stand yet */
/* The data step runs and does not stand or sleep: as query-block-jobs tells it. */
bool job_busy(const Job *job) RUNS_IN_MAIN;
bool job_io_failed(const Job *job) RUNS_IN_MAIN; /* stands because of an I/O error */
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
uint64_t job_speed(const Job *job) ANY_THREAD;
/* Progress: units are the job's own, usually bytes. The total may grow while the job runs. */
void job_progress_set_total(Job *job, uint64_t total) ANY_THREAD;
void job_progress_add(Job *job, uint64_t done) ANY_THREAD;
void job_progress_get(const Job *job, uint64_t *current, uint64_t *total) ANY_THREAD;

/* ---- the data step, in its home context ---- */
/* Where the job may be paused: the caller holds nothing (checked) and has no request in flight.
 * Returns when it may go on; false: cancelled, return -ECANCELED. */
bool job_co_pause_point(Job *job) coroutine_fn RUNS_IN_LOOP;
/* Sleeps at a pause point; a verb that concerns the data step ends the sleep early. */
bool job_co_sleep_ns(Job *job, int64_t duration_ns) coroutine_fn RUNS_IN_LOOP;
/* A pause point after @bytes of work: sleeps as long as the speed demands. */
bool job_co_throttle(Job *job, uint64_t bytes) coroutine_fn RUNS_IN_LOOP;
/* Is READY from here on; once. The data step goes on until job_should_complete(). */
void job_co_ready(Job *job) coroutine_fn RUNS_IN_LOOP;
/* I/O of the job failed. Tells it, and waits for a resume where the action is to stop. True: try
 * again, or go on as if it had not failed (*@ignore). False: fail with the error, or cancelled. */
bool job_co_io_error(Job *job, bool is_read, bool *ignore) coroutine_fn RUNS_IN_LOOP;

#endif
