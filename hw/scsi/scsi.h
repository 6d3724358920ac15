/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SCSI target without a transport: a bus of logical units, their commands and task management
 * (SAM-5, SPC-4, SBC-3, MMC-6).
 *
 * A controller (virtio-scsi) embeds a ScsiBus. It makes a ScsiRequest of what its driver sends and
 * runs it as a coroutine in the bus' home loop. All logical units of a bus have their drives there,
 * so a request is served by one thread without a lock.
 *
 *   run --LUN absent, no room for the data--> ended, never in a task set
 *     | in the task set of its logical unit
 *     +--command done, CHECK CONDITION, error that is reported or ignored--> ended
 *     +--cancelled by task management or an unplug--> ended once its I/O has ended
 *     +--error, werror/rerror=stop--> held (still in the task set)
 *     +--throttled, or between two parts, while the bus hurries--> held
 *                                       +--cancelled, unplug--> ended by ScsiBusOps.held_ended
 *                                       +--scsi_request_release()--> the controller's again
 *
 * Invariants
 *   1. A request in a task set ends exactly once. Task management returns after the requests that it
 *      cancelled have ended.
 *   2. A request uses the backend that it found at its start. A logical unit that loses its backend
 *      or leaves the bus waits until its task set is empty.
 *   3. The task set, the bounce slot and the home's table of logical units are the home loop's. State
 *      that queries or a reset use from other threads is atomic.
 *   4. Guest memory is read once: parameters are copied before they are checked.
 */
#ifndef SKIFF_HW_SCSI_SCSI_H
#define SKIFF_HW_SCSI_SCSI_H

#include "block/throttle.h"
#include "hw/core/disk.h"
#include "hw/scsi/scsi_cdb.h"
#include "hw/scsi/scsi_sense.h"

#define SCSI_MAX_TARGET 255
#define SCSI_MAX_LUN 16383
#define SCSI_BUS_TYPE "SCSI" /* DeviceType.bus and provides_bus */

/* Status codes, SAM-5 §5.3.1. */
enum { SCSI_STATUS_GOOD = 0x00, SCSI_STATUS_CHECK_CONDITION = 0x02 };

/* Peripheral device types, SPC-4 table 143. */
enum { SCSI_TYPE_DISK = 0x00, SCSI_TYPE_CD = 0x05 };

typedef struct ScsiBus ScsiBus;
typedef struct ScsiLun ScsiLun;
typedef struct ScsiRequest ScsiRequest;

/* How a request ended, for the controller. */
typedef enum ScsiOutcome {
    SCSI_DONE,       /* status and sense are set */
    SCSI_BAD_TARGET, /* no logical unit of that target */
    SCSI_OVERRUN,    /* the CDB needs more data than the buffers have, or in the other direction */
    SCSI_ABORTED,    /* cancelled */
    SCSI_RESET,      /* cancelled by a reset of the logical unit */
    SCSI_HELD,       /* not ended: an I/O error stops the VM, or the bus hurries */
} ScsiOutcome;

struct ScsiRequest {
    /* set by the controller */
    ScsiBus *bus;
    uint8_t target;
    uint16_t lun_number;
    uint64_t tag;
    uint8_t cdb[SCSI_CDB_MAX];
    struct iovec *out, *in; /* the guest's data; the request may change the lists */
    unsigned out_num, in_num;
    uint64_t out_len, in_len;
    /* result */
    uint8_t status;
    uint8_t sense[SCSI_SENSE_FIXED_BYTES];
    unsigned sense_len;
    uint64_t transferred; /* bytes of data in or out */
    /* internal */
    ScsiLun *lun;
    BlockBackend *blk; /* the medium at its start; NULL: none */
    ScsiOutcome outcome;
    ScsiOutcome cancel; /* SCSI_ABORTED or SCSI_RESET; SCSI_DONE: not cancelled */
    bool held;
    uint64_t number;           /* in the order of arrival at the bus */
    uint64_t xfer;             /* bytes of data that the CDB asks for */
    ScsiRequest *next, **link; /* in the task set */
};

typedef struct ScsiBusOps {
    /* Home loop: a held request was cancelled and has left its task set; r->outcome says how. */
    void (*held_ended)(ScsiRequest *r);
    /* Main, a coroutine: the driver should be notified. @present: it was added, else removed. */
    void (*lun_changed)(ScsiBus *bus, const ScsiLun *lun, bool present);
    /* Main: the capacity of @lun has changed; lun->changed is set. */
    void (*capacity_changed)(ScsiBus *bus);
} ScsiBusOps;

/* In the controller's struct; Device.child_bus points to it. */
struct ScsiBus {
    const ScsiBusOps *ops;
    Device *controller;
    AioContext *home;
    uint32_t max_transfer_sectors; /* of 512 bytes, for VPD page B0; 0: no limit */
    GPtrArray *luns;               /* ScsiLun; written by main with the BQL */
    GHashTable *home_luns;         /* home: by address */
    uint64_t next_number;          /* home */
    CoQueue task_ended;            /* home: waits for requests to leave a task set */
    bool hurries;                  /* home: see scsi_bus_set_hurry() */
};

/* Pending unit attentions, the first to report first. */
enum {
    SCSI_ATTENTION_RESET = 1,
    SCSI_ATTENTION_LUNS = 2,
    SCSI_ATTENTION_CAPACITY = 4,
    SCSI_ATTENTION_NO_MEDIUM = 8,
    SCSI_ATTENTION_MEDIUM = 16,
    SCSI_ATTENTION_ALL = 31,
};

typedef struct ScsiLunState {
    uint8_t attentions;    /* SCSI_ATTENTION_*; any thread: atomic */
    bool tray_open;        /* any thread: atomic */
    bool tray_locked;      /* PREVENT ALLOW MEDIUM REMOVAL; any thread: atomic */
    bool eject_request;    /* an eject waits for the guest; any thread: atomic */
    bool media_event;      /* GET EVENT STATUS NOTIFICATION has a new medium to report; atomic */
    bool write_cache;      /* WCE of the caching page */
    bool descriptor_sense; /* D_SENSE of the control page */
    uint8_t pad;
} ScsiLunState;

/* scsi-hd or scsi-cd. */
struct ScsiLun {
    Device base;
    /* links */
    ScsiBus *bus;
    BlockBackend *blk;    /* main's, written with the BQL; NULL: no medium */
    ThrottleGroup *group; /* main: the limits while there is no medium; a reference */
    /* config */
    char *drive, *serial, *vendor, *product, *version, *device_id;
    uint32_t channel, target, lun;
    uint64_t wwn;
    uint16_t rotation_rate;
    uint64_t logical_block_size, physical_block_size, min_io_size, opt_io_size;
    uint64_t discard_granularity, max_unmap_size, max_io_size;
    int write_cache; /* on, off, auto */
    int werror, rerror;
    bool removable, share_rw, dpofua;
    uint8_t type; /* SCSI_TYPE_* */
    bool default_write_cache;
    /* state */
    ScsiLunState state;
    /* runtime */
    _Atomic bool changed; /* the capacity; the controller clears it when it reports that */
    /* runtime, home loop */
    BlockBackend *home_blk;           /* as blk */
    ScsiRequest *tasks, **tasks_tail; /* oldest first */
    unsigned pins;                    /* task management functions that wait for it */
    bool bounce_busy;                 /* one command at a time has a buffer of SCSI_BOUNCE_BYTES */
    CoQueue bounce_free;
};

extern const DeviceType scsi_hd_type;
extern const DeviceType scsi_cd_type;
extern const StateDesc scsi_lun_state_desc;

/* ---- the bus (scsi_bus.c) ---- */
void scsi_bus_init(ScsiBus *bus, const ScsiBusOps *ops, Device *controller, AioContext *home)
    RUNS_IN_MAIN;
/* No logical unit is left. */
void scsi_bus_cleanup(ScsiBus *bus) RUNS_IN_MAIN;
/* Resets every logical unit, as a reset of the controller does. No request is in flight. */
void scsi_bus_reset(ScsiBus *bus) BQL_HELD;
/* The logical unit at this address, or NULL. */
ScsiLun *scsi_bus_find(const ScsiBus *bus, uint8_t target, uint16_t lun) RUNS_IN_LOOP;
/* Whether the target has a logical unit. */
bool scsi_bus_has_target(const ScsiBus *bus, uint8_t target) RUNS_IN_LOOP;
/* Adds and removes @lun; the latter returns when no request uses it, or at once if @lun has left. */
void scsi_bus_co_join(ScsiBus *bus, ScsiLun *lun) coroutine_fn RUNS_IN_MAIN;
void scsi_bus_co_leave(ScsiBus *bus, ScsiLun *lun) coroutine_fn RUNS_IN_MAIN;

/* Home loop. On while the controller waits for its requests to end: requests that wait for throttling,
 * and commands of several parts, are held. */
void scsi_bus_set_hurry(ScsiBus *bus, bool on) RUNS_IN_IOTHREAD;

/* ---- requests (scsi_request.c): home loop ---- */
/* Executes @r. SCSI_HELD: the request stays in the task set until held_ended() or a release; else it
 * has ended. */
ScsiOutcome scsi_request_co_run(ScsiRequest *r) coroutine_fn RUNS_IN_IOTHREAD;
/* Takes a held request out of its task set: the controller will run it again, from its start. */
void scsi_request_release(ScsiRequest *r) RUNS_IN_LOOP;

/* ---- task management (scsi_task.c): home loop; SAM-5 §7 ---- */
typedef enum ScsiTaskFunction {
    SCSI_TASK_ABORT,
    SCSI_TASK_ABORT_SET,
    SCSI_TASK_CLEAR_SET,
    SCSI_TASK_LUN_RESET,
    SCSI_TASK_NEXUS_RESET, /* of a target: all its logical units */
    SCSI_TASK_QUERY,
    SCSI_TASK_QUERY_SET,
} ScsiTaskFunction;

typedef enum ScsiTaskResult {
    SCSI_TASK_COMPLETE,
    SCSI_TASK_SUCCEEDED, /* a query found a task */
    SCSI_TASK_BAD_TARGET,
    SCSI_TASK_INCORRECT_LUN,
} ScsiTaskResult;

/* Executes a task management function. Returns when the requests that it cancelled have ended;
 * *@waited is set if there was one. */
ScsiTaskResult scsi_task_co_manage(ScsiBus *bus, ScsiTaskFunction function, uint8_t target,
                                   uint16_t lun, uint64_t tag, bool *waited)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Cancels the requests of @lun, all or those with *@tag. Held ones end at once. Returns whether
 * there was one. */
bool scsi_task_cancel(ScsiLun *lun, const uint64_t *tag, ScsiOutcome how) RUNS_IN_IOTHREAD;

/* ---- logical units (scsi_disk.c) ---- */
void scsi_lun_attention(ScsiLun *lun, uint8_t attention) ANY_THREAD;

#endif
