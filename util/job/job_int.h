/* SPDX-License-Identifier: Apache-2.0 */
/* Internals of a job. Shared by job.c (life cycle), job_txn.c (the end) and job_verbs.c, all in
 * main, and job_step.c (the data step, in the home context). */
#ifndef SKIFF_UTIL_JOB_JOB_INT_H
#define SKIFF_UTIL_JOB_JOB_INT_H

#include <stdatomic.h>
#include "util/job/job.h"

/* Jobs that end together; each job belongs to one. Main only. */
struct JobTxn {
    GPtrArray *jobs;  /* not NULL yet, in creation order */
    bool sealed;      /* no more jobs join */
    unsigned missing; /* jobs whose data step has not ended */
    bool failed;      /* a job has failed or was cancelled: all are aborted */
    bool finalize;    /* the verb was used */
    bool decided;     /* prepares may begin; nothing is waited for any more */
    bool waiting;     /* the transaction's end waits with token `waiter` */
    CoToken waiter;
    CoQueue retry; /* a prepare is called again later */
};

struct Job {
    /* links */
    const JobDriver *driver;
    AioContext *home;
    JobTxn *txn; /* NULL once the job is NULL */
    void *state; /* owned */

    /* config */
    char *id;
    bool auto_finalize, auto_dismiss;

    /* written by main, read by the data step */
    _Atomic bool cancelled;
    _Atomic bool pause;
    _Atomic bool complete;
    _Atomic uint64_t speed;

    /* written by the data step, read by main */
    _Atomic uint64_t progress, progress_total;
    _Atomic bool sleeping;

    /* main */
    unsigned refs;
    JobStatus status;
    bool started;
    bool stepping;  /* the data step has begun, and main has not yet seen its end */
    bool arrived;   /* the data step has ended, or never begins */
    bool decided;   /* committed, or aborted */
    bool committed; /* valid if decided; false: aborted */
    JobIoStatus io_status;
    int ret;
    char *error;
    bool waiting; /* the job is at a pause point and waits in main with token `waiter` */
    CoToken waiter;
    CoQueue concluded; /* waiters for the end of the job */

    /* home */
    CoToken sleeper; /* while sleeping or in job_co_wait() */
    bool in_wait;    /* in job_co_wait() */
    AioTimer sleep_timer;
    int step_ret;
    char *step_error;
    AioBh kick_bh; /* scheduled by main only while stepping */
};

/* Sets of states. */
#define JOB_IN(status) (1u << JOB_STATUS_##status)
#define JOB_STEPPING (JOB_IN(RUNNING) | JOB_IN(PAUSED) | JOB_IN(READY) | JOB_IN(STANDBY))

static inline bool job_status_in(const Job *job, unsigned set)
{
    return (set & 1u << job->status) != 0;
}

/* ---- job.c, main ---- */
Job *job_at(unsigned index) RUNS_IN_MAIN; /* NULL: index is past the last job */
/* Coroutine: runs the whole life of a job. */
void job_run(void *job_opaque);
/* Resumes a job that is at a pause point. */
void job_continue(Job *job) RUNS_IN_MAIN;
/* Wakes the job's coroutine in main if it waits. */
void job_wake(Job *job) RUNS_IN_MAIN;
/* Makes the data step check the flags that main has set. */
void job_kick(Job *job) RUNS_IN_MAIN;
/* Moves the job to NULL and removes it from the list. */
void job_remove(Job *job) RUNS_IN_MAIN;
/* Moves the job, which was decided, to CONCLUDED, and dismisses it if that needs no verb. */
void job_conclude(Job *job) RUNS_IN_MAIN;
/* A move along job_moves[]; @by is the function that makes it. */
void job_move_by(Job *job, JobStatus to, const char *by) RUNS_IN_MAIN;
#define job_move(job, to) job_move_by(job, to, __func__)
void job_emit(const Job *job, JobEvent event) RUNS_IN_MAIN;
/* Coroutine in main: waits while the job is at a pause point, until it is resumed. */
void job_wait_while_paused(void *job_opaque);
/* RUNNING -> READY. */
void job_become_ready(Job *job) RUNS_IN_MAIN;
AioContext *job_main_context(void) ANY_THREAD;
const JobHost *job_host(void **opaque) RUNS_IN_MAIN;

/* ---- job_txn.c, main ---- */
/* Makes the new job a member of @txn; NULL: of a transaction of its own. */
void job_txn_join(Job *job, JobTxn *txn) RUNS_IN_MAIN;
/* The job becomes NULL. The last one frees the transaction, if it is sealed. */
void job_txn_leave(Job *job) RUNS_IN_MAIN;
/* The data step has ended, or never begins. The last job to arrive concludes all. */
void job_txn_co_arrive(Job *job) coroutine_fn RUNS_IN_MAIN;
/* All jobs of the transaction will be aborted: cancels those that run. */
void job_txn_fail(JobTxn *txn) RUNS_IN_MAIN;
/* The end of the transaction checks again what it waits for. */
void job_txn_wake(JobTxn *txn) RUNS_IN_MAIN;
/* Whether the end of the transaction waits for the verb finalize. */
bool job_txn_awaits_finalize(const JobTxn *txn) RUNS_IN_MAIN;

/* ---- job_step.c ---- */
/* A coroutine in the home context: runs the data step. */
void job_step_run(void *job_opaque);
/* Home: called when main will not kick the job any more. */
void job_step_retire(void *job_opaque);
/* The bottom half with which main ends a sleep. */
void job_step_kicked(void *job_opaque);

#endif
