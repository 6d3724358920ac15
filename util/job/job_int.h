/* SPDX-License-Identifier: Apache-2.0 */
/* A job's inside: what job.c (life) and job_verbs.c, both in main, share with job_step.c (the data
 * step's side, in the home context). */
#ifndef SKIFF_UTIL_JOB_JOB_INT_H
#define SKIFF_UTIL_JOB_JOB_INT_H

#include <stdatomic.h>
#include "util/job/job.h"

struct Job {
    /* links */
    const JobDriver *driver;
    AioContext *home;
    void *state; /* owned */

    /* config */
    char *id;
    bool auto_finalize, auto_dismiss;
    JobErrorAction action;

    /* told by main, read by the data step */
    _Atomic bool cancelled;
    _Atomic bool pause;
    _Atomic bool complete;
    _Atomic uint64_t speed;

    /* told by the data step, read by main */
    _Atomic uint64_t progress, progress_total;
    _Atomic bool sleeping;

    /* main */
    unsigned refs;
    JobStatus status;
    bool started;
    bool stepping;  /* the data step has begun and main does not know yet that it has ended */
    bool finalize;  /* the verb was used */
    bool decided;   /* committed, or aborted */
    bool committed; /* which of the two */
    bool io_failed;
    int ret;
    char *error;
    bool waiting; /* a coroutine of the job waits in main by this token: job_wait() */
    CoToken waiter;
    CoQueue concluded; /* who waits for the end */

    /* home */
    CoToken sleeper; /* while sleeping */
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
Job *job_at(unsigned index) RUNS_IN_MAIN; /* NULL: there are no more */
/* All of a job's life: a coroutine. */
void job_live(void *job_opaque);
/* Takes a job that stands back to work. */
void job_go_on(Job *job) RUNS_IN_MAIN;
/* Ends the wait of its coroutine in main, if it waits. */
void job_wake(Job *job) RUNS_IN_MAIN;
/* Main has told the data step something: it shall look. */
void job_kick(Job *job) RUNS_IN_MAIN;
/* To NULL and off the list. */
void job_leave(Job *job) RUNS_IN_MAIN;
/* Main: the job stands at a pause point until it may go on. */
void job_stay_paused(void *job_opaque);
/* RUNNING -> READY. */
void job_become_ready(Job *job) RUNS_IN_MAIN;
AioContext *job_main_context(void) ANY_THREAD;
const JobHost *job_host(void **opaque) RUNS_IN_MAIN;

/* ---- job_step.c ---- */
/* A coroutine in the home context: runs the data step. */
void job_step_run(void *job_opaque);
/* Home: nobody kicks the job any more. */
void job_step_retire(void *job_opaque);
/* The bottom half by which main ends a sleep. */
void job_step_kicked(void *job_opaque);

#endif
