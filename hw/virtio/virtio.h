/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio device core: status, features, queues and configuration space (virtio 1.2 §2, §3).
 *
 * Three parties share a device, each with its own part:
 *   - a vCPU (or main) with the BQL: registers, through the transport's calls below;
 *   - the home loop: started queues, in-flight requests;
 *   - main: hand-over, recall, life cycle.
 * A device may have a back end, which serves the queues instead of the home loop.
 * They communicate by posted messages. Two waits exist, and neither holds a lock: a coroutine in
 * main that starts or stops the device, and a vCPU's pended access during a reset or while the
 * transport's DMA is being disabled.
 *
 * Status as the driver sees it (§2.1). Bits are only added, until a reset.
 *
 *   RESET --ACKNOWLEDGE--> ACKNOWLEDGED --DRIVER--> DRIVER --FEATURES_OK--> NEGOTIATED
 *                                                                               | DRIVER_OK
 *      any state --FAILED--> FAILED                                             v
 *      any but RESET --(device finds an error)--> NEEDS_RESET                 LIVE
 *      any state --status := 0--> RESET, at once or after draining (RESETTING)
 *
 * The owner of the queues (owner_moves[] in virtio_owner.c names the function of each move):
 *
 *           virtio_hand_over          virtio_recall                    virtio_queues_returned
 *   MAIN -----------------------> HOME ------------> RECALLING ------------------------------> MAIN
 *
 * and with a back end (virtio_back_end.h), which answers later and may refuse:
 *
 *        virtio_hand_over   virtio_back_end_started   virtio_recall      stop_answered
 *   MAIN -----------> STARTING -----------> BACK_END -----------> STOPPING -----------> MAIN
 *                        |                                           ^
 *                        | virtio_recall                             | virtio_back_end_started
 *                        +-------------------> CANCELLING -----------+
 *
 *   virtio_use_back_end() recalls the queues and hands them over again, to the home loop or to the back end.
 *
 *   With `home_queues`, the home loop has those queues from BACK_END until it has returned them in
 *   STOPPING. Then the answer that comes last, of the two, makes the move to MAIN (stop_answered).
 *
 *   refused (back_end_refused):
 *     CANCELLING -> MAIN   the request for the queues continues
 *     STARTING -> HOME     when the device can do without (falls_back)
 *     STARTING -> MAIN     at a start of the VM: virtio_co_start() fails, the device stays LIVE and
 *                          the next start tries again; else the device becomes NEEDS_RESET
 *     While a back end that was given up may still use the rings (VirtioBackEndOps.lingers), the device becomes
 *     NEEDS_RESET in each of these cases, and whenever the queues were to be handed over.
 *
 * Invariants (assert_virtio_state())
 *   1. HOME, BACK_END or STARTING owns the queues only when DRIVER_OK is set, the VM runs, and DMA
 *      is not blocked.
 *   2. RESETTING implies RECALLING, CANCELLING or STOPPING; the status register reads 0 only when
 *      MAIN owns the queues.
 *   3. Once FEATURES_OK is set, driver features are a subset of those offered and do not change.
 *   4. Queue registers do not change after DRIVER_OK.
 *   5. A message of the home loop from before a reset has no effect: it carries its reset generation, or
 *      the reset waits for it.
 *   6. Each lane executes each command to run or to return the queues once, in order, and answers the
 *      latter once.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_H
#define SKIFF_HW_VIRTIO_VIRTIO_H

#include <stdatomic.h>
#include "hw/core/device.h"
#include "hw/virtio/virtqueue.h"

#define VIRTIO_MAX_QUEUES 64
#define VIRTIO_MAX_CONFIG 64
#define VIRTIO_NO_VECTOR 0xffff
/* Requests taken from one queue before the other queues are served. */
#define VIRTIO_QUEUE_BUDGET 128

/* Device status bits, §2.1. */
enum {
    VIRTIO_STATUS_ACKNOWLEDGE = 1,
    VIRTIO_STATUS_DRIVER = 2,
    VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8,
    VIRTIO_STATUS_NEEDS_RESET = 64,
    VIRTIO_STATUS_FAILED = 128,
};

/* Reserved feature bits, §6. */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)

typedef enum VirtioPhase {
    VIRTIO_RESET,
    VIRTIO_ACKNOWLEDGED,
    VIRTIO_DRIVER,
    VIRTIO_NEGOTIATED,
    VIRTIO_LIVE,
    VIRTIO_NEEDS_RESET,
    VIRTIO_FAILED,
    VIRTIO_RESETTING,
    VIRTIO_PHASES,
} VirtioPhase;

typedef enum VirtioOwner {
    VIRTIO_OWNER_MAIN,
    VIRTIO_OWNER_HOME,
    VIRTIO_OWNER_RECALLING,
    VIRTIO_OWNER_STARTING,   /* start() of the back end is unanswered */
    VIRTIO_OWNER_CANCELLING, /* the same, and a recall follows the answer */
    VIRTIO_OWNER_BACK_END,
    VIRTIO_OWNER_STOPPING, /* stop() of the back end is unanswered */
    VIRTIO_OWNERS,
} VirtioOwner;

/* ---- state: saved ---- */

typedef struct VirtioQueueState {
    uint64_t desc_gpa, avail_gpa, used_gpa;
    uint16_t size;
    uint16_t vector; /* read by the home loop: atomic */
    uint16_t last_avail, used;
    bool enabled;
    uint8_t pad[7];
    uint8_t parked[VIRTQUEUE_MAX_SIZE / 8];
} VirtioQueueState;

typedef struct VirtioState {
    uint64_t driver_features;
    uint32_t device_feature_select, driver_feature_select;
    uint16_t config_vector;
    uint16_t queue_select;
    uint8_t status;
    uint8_t config_generation;
    bool config_changed; /* the next read of the config space increments config_generation */
    uint8_t isr;         /* any thread: atomic */
    VirtioQueueState queues[VIRTIO_MAX_QUEUES];
} VirtioState;

extern const StateDesc virtio_state_desc;

/* ---- defined by a device type ---- */

typedef struct VirtioDevice VirtioDevice;
typedef struct VirtioBackEndOps VirtioBackEndOps; /* virtio_back_end.h */

typedef struct VirtioOps {
    uint16_t device_id; /* §5 */
    /* BQL: fills @config (config_size bytes, zeroed). */
    void (*get_config)(VirtioDevice *vdev, uint8_t *config);
    /* BQL: the driver wrote @size bytes at @offset, inside config_size. NULL: read-only. */
    void (*set_config)(VirtioDevice *vdev, unsigned offset, unsigned size, uint32_t value);
    /* BQL: features were accepted; may be NULL. */
    void (*negotiated)(VirtioDevice *vdev);
    /* BQL: sets the device type's own registers to power-on; may be NULL. */
    void (*reset)(VirtioDevice *vdev);
    /* Home loop: queues have been started / are about to be stopped. `stopping` returns or
     * completes the requests it holds without waiting. May be NULL. */
    void (*started)(VirtioDevice *vdev);
    void (*stopping)(VirtioDevice *vdev);
    /* Home loop: nothing is in flight any more. May be NULL. */
    void (*stopped)(VirtioDevice *vdev);
    /* Home loop: takes from queue @index with virtio_pop() until that returns NULL. A device that
     * stops earlier calls virtio_look() when it can continue. */
    void (*handle_queue)(VirtioDevice *vdev, unsigned index);
} VirtioOps;

/* How the driver is interrupted for a queue: by a write to `event_fd`. */
typedef enum VirtioInterruptMode {
    VIRTIO_INTERRUPT_NONE,   /* none, the driver polls; event_fd is -1 */
    VIRTIO_INTERRUPT_VECTOR, /* event_fd raises the queue's MSI-X vector */
    VIRTIO_INTERRUPT_RELAY,  /* INTx: main reads event_fd and sets the ISR and the line */
} VirtioInterruptMode;

typedef struct VirtioInterrupt {
    VirtioInterruptMode mode;
    int event_fd; /* borrowed; valid until main owns the queues again */
    bool masked;  /* of a vector: events stay in event_fd, and arrive once when it is unmasked */
} VirtioInterrupt;

/* Defined by a transport. Any thread; called after the used ring or config is updated. */
typedef struct VirtioTransportOps {
    void (*notify_queue)(void *opaque, unsigned index);
    void (*notify_config)(void *opaque);
    void (*reset)(void *opaque); /* BQL: the device's registers have just been reset */
    /* BQL: the present interrupt of queue @index; of VIRTIO_INTERRUPT_RELAY without event_fd. The
     * transport calls virtio_interrupts_changed() when it may have changed. */
    VirtioInterrupt (*queue_interrupt)(void *opaque, unsigned index);
} VirtioTransportOps;

typedef struct VirtioQueue {
    VirtioDevice *vdev;
    struct VirtioLane *lane;
    unsigned index;
    VirtQueue *vq;
    int kick_fd; /* eventfd: written by the doorbell */
    /* With a back end that interrupts by eventfd, else -1 (virtio_interrupts.c). */
    int relay_fd;
    AioHandler *relay;         /* main's */
    VirtioInterrupt interrupt; /* BQL: the back end's interrupt */
    /* Handed over with the queue: written by the current owner before the hand-over. */
    bool active;
    bool at_home; /* the home loop serves it, if it is active */
    VirtQueueSetup setup;
    VirtQueuePosition position;
    /* home loop */
    AioHandler *handler;
    AioBh again;     /* the rest of a long queue, in the next turn */
    bool processing; /* handle_queue is being called: the budget applies */
    unsigned budget;
    bool polling;
    bool silent; /* the driver does not kick, see virtio_set_silent() */
} VirtioQueue;

/*
 * With limited requests: the queue that may take the next one (virtio_admission.c; home loop).
 *
 * Invariant: while a queue waits, the device takes requests and is below its limit, `turn` names a
 * queue whose `again` is scheduled, or the timer is armed.
 */
#define VIRTIO_NO_QUEUE VIRTIO_MAX_QUEUES
typedef struct VirtioAdmission {
    unsigned in_flight;
    uint64_t waiting; /* bit n: queue n waits for a request slot */
    unsigned turn;    /* the queue whose turn it is, or VIRTIO_NO_QUEUE */
    unsigned last;    /* the queue that had the last turn */
    AioTimer retry;   /* after an allocation of a stack failed */
} VirtioAdmission;

/*
 * The queues that one loop serves. A device has one lane, in its home; or several, each in another
 * loop, and the first one in its home. The lanes share nothing but the device's config, and `broken`.
 * Main's commands go to all of them. The first lane calls the device's operations other than
 * handle_queue, and returns its queues to main after all others have returned theirs to it.
 */
typedef struct VirtioLane {
    VirtioDevice *vdev;
    AioContext *home;
    AioBh run_bh, stop_bh; /* main's commands */
    AioBh idle_bh;         /* the lane's own: the last request has ended */
    AioBh returned_bh;     /* of a lane that is not the first one: its answer, for the first */
    /* home */
    bool running;
    bool stopping;
    uint32_t runs;     /* commands to run that it has executed */
    CoQueue run_begun; /* waits for the next one */
    VirtioAdmission admission;
} VirtioLane;

struct VirtioDevice {
    /* links */
    Device *dev;
    const VirtioOps *ops;
    VirtioState *state;
    const VirtioTransportOps *transport;
    void *transport_opaque;
    /* config: set before virtio_init() */
    AioContext *home;
    uint64_t features; /* offered, including the ring's features and VERSION_1 */
    unsigned num_queues;
    uint16_t queue_size; /* maximum, power of two */
    size_t request_size; /* size of an element; 0: sizeof(VirtQueueElement) */
    unsigned config_size;
    bool request_coroutines;   /* requests are coroutines of the home loop, limited in number */
    uint64_t unlimited_queues; /* bit n: queue n takes requests also when the limit is reached */
    const VirtioBackEndOps *back_end; /* NULL: the home loop serves the queues */
    void *back_end_opaque;            /* the back end's own */
    uint64_t home_queues;             /* bit n: with a back end, the home loop serves queue n */
    unsigned num_lanes;               /* 0: one */
    AioContext *const *lane_homes;    /* of @num_lanes; borrowed; the first one is @home */
    const uint8_t *queue_lanes;       /* the lane of each queue; borrowed */

    /* runtime, BQL */
    VirtioOwner owner;
    bool vm_running;
    bool resetting;
    bool dma_blocked;     /* the guest lets the device access no memory (set by the transport) */
    Pended pended;        /* waits for the queues to be with MAIN */
    uint32_t generation;  /* resets so far */
    GError **start_error; /* of the virtio_co_start() that waits for the back end, or NULL */
    bool home_part;       /* with a back end: the home loop has `home_queues` */
    bool back_end_done;   /* in STOPPING: the back end has answered */
    bool back_end_off;    /* the home loop serves all queues: virtio_use_back_end() */
    bool hand_over_again; /* when main owns the queues next */
    CoQueue returned;     /* main: waits for the owner to change */
    /* messages between main and the home loop; one bottom half for each kind, so that the message
     * is complete when it is posted */
    _Atomic uint32_t broken_generation; /* generation in which the home loop met an error */
    AioBh returned_bh, broken_bh;
    uint32_t running_generation; /* written before the hand-over */
    _Atomic bool broken;         /* a queue of some lane is broken: no lane takes requests */
    VirtioLane *lanes;
    /* runtime, home loop */
    unsigned quiesced;   /* the first lane takes nothing */
    unsigned lanes_back; /* other lanes that have returned their queues */
    VirtioQueue queues[VIRTIO_MAX_QUEUES];
};

/* Shared by virtio.c, virtio_owner.c and virtio_queues.c. */
bool virtio_queues_init(VirtioDevice *vdev, GError **error) RUNS_IN_MAIN;
void virtio_queues_cleanup(VirtioDevice *vdev) RUNS_IN_MAIN;
/* Commands the home loop to run, or to return the queues. Posts a message; does not wait. */
void virtio_queues_command(VirtioDevice *vdev, bool run) BQL_HELD;
/* Bottom halves in main: the home loop's messages. */
void virtio_queues_returned(void *opaque);
void virtio_broken_reported(void *opaque);
/* From MAIN, if the driver is ready, the VM runs and DMA is allowed. Posts a message; does not
 * wait. */
void virtio_hand_over(VirtioDevice *vdev) BQL_HELD;
/* Recalls the queues, unless main owns them or a recall is under way. Posts a message; does not
 * wait. */
void virtio_recall(VirtioDevice *vdev) BQL_HELD;
/* Executes a reset that waited for the queues. */
void virtio_finish_reset(VirtioDevice *vdev) BQL_HELD;
void virtio_set_needs_reset(VirtioDevice *vdev) BQL_HELD;

/* In virtio_interrupts.c, for virtio_queues.c and virtio_owner.c. */
bool virtio_relay_init(VirtioQueue *q, GError **error) RUNS_IN_MAIN;
void virtio_relay_cleanup(VirtioQueue *q) RUNS_IN_MAIN;
/* Called before start() of the back end: notes its interrupts. */
void virtio_interrupts_hand_over(VirtioDevice *vdev) BQL_HELD;
/* The back end has stopped: its earlier events reach the driver now. */
void virtio_interrupts_take_back(VirtioDevice *vdev) BQL_HELD;

/* Shared by virtio_queues.c and virtio_admission.c: home loop. */
void virtio_admission_init(VirtioLane *lane) RUNS_IN_MAIN;
void virtio_admission_start(VirtioLane *lane) RUNS_IN_LOOP;
void virtio_admission_stop(VirtioLane *lane) RUNS_IN_LOOP;
/* Whether queue @index may take a request now. If not, it is served again when it may. */
bool virtio_admit(VirtioDevice *vdev, unsigned index) RUNS_IN_LOOP;
/* Whether queue @index waits for a request slot. */
bool virtio_admission_waits(const VirtioDevice *vdev, unsigned index) RUNS_IN_LOOP;
/* Ends the turn of queue @index; the next waiting queue has its turn. */
void virtio_admission_pass(VirtioDevice *vdev, unsigned index) RUNS_IN_LOOP;
/* A request is no longer in flight. */
void virtio_admission_gone(VirtioLane *lane) RUNS_IN_LOOP;
/* Whether the lane may take requests. */
bool virtio_lane_taking(const VirtioLane *lane) RUNS_IN_LOOP;
/* Returns when the lane has executed @runs commands to run: as many as another lane of the device, which
 * may have executed the last one earlier. */
void virtio_lane_co_await_run(VirtioLane *lane, uint32_t runs) coroutine_fn RUNS_IN_LOOP;

/* ---- life cycle (main) ---- */
/* Builds the runtime from the links and config above. */
bool virtio_init(VirtioDevice *vdev, GError **error) RUNS_IN_MAIN;
/* The queues are with main. */
void virtio_cleanup(VirtioDevice *vdev) RUNS_IN_MAIN;
/* The VM starts: hands the queues over and waits for the back end's answer, if there is a back end.
 * False + error: it has refused. The device is unchanged, and may be started again. */
bool virtio_co_start(VirtioDevice *vdev, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Returns when main owns the queues and nothing is in flight. */
void virtio_co_stop(VirtioDevice *vdev) coroutine_fn RUNS_IN_MAIN;
/* A hard reset; main owns the queues. */
void virtio_reset(VirtioDevice *vdev) BQL_HELD;
/* Refuses state that no driver can produce. @vdev's own is not looked at. */
bool virtio_check_state(const VirtioDevice *vdev, const VirtioState *s, GError **error) ANY_THREAD;
/* Reports a change of the config space (a resized disk) to the driver. */
void virtio_config_changed(VirtioDevice *vdev) BQL_HELD;

/* ---- registers, for transports (BQL) ---- */
/* Whether a reset waits for the device: common config and device config accesses are then
 * pended. */
bool virtio_resetting(const VirtioDevice *vdev) BQL_HELD;
uint8_t virtio_read_status(const VirtioDevice *vdev) BQL_HELD;
void virtio_write_status(VirtioDevice *vdev, uint8_t value) BQL_HELD;
uint32_t virtio_read_features(const VirtioDevice *vdev, uint32_t select) BQL_HELD;
uint32_t virtio_read_driver_features(const VirtioDevice *vdev, uint32_t select) BQL_HELD;
void virtio_write_features(VirtioDevice *vdev, uint32_t select, uint32_t value) BQL_HELD;
/* The queue selected by queue_select, or NULL. */
VirtioQueueState *virtio_selected_queue(VirtioDevice *vdev) BQL_HELD;
void virtio_write_queue_size(VirtioDevice *vdev, uint16_t size) BQL_HELD;
/* @field points into the selected queue's state; @high: the upper half. */
void virtio_write_queue_gpa(VirtioDevice *vdev, uint64_t *field, bool high, uint32_t value)
    BQL_HELD;
void virtio_enable_queue(VirtioDevice *vdev) BQL_HELD;
uint32_t virtio_read_config(VirtioDevice *vdev, unsigned offset, unsigned size) BQL_HELD;
void virtio_write_config(VirtioDevice *vdev, unsigned offset, unsigned size, uint32_t value)
    BQL_HELD;
/* Disable and enable DMA (PCI's Bus Master). While it is blocked, the device takes no request and
 * accesses no guest memory. No kick is lost: all queues are served when DMA is allowed again.
 * Blocking returns whether main owns the queues. If not, requests are in flight, and the access
 * that blocks DMA must be pended. */
bool virtio_block_dma(VirtioDevice *vdev) BQL_HELD;
void virtio_allow_dma(VirtioDevice *vdev) BQL_HELD;
/* A queue's vector, the mask of a vector, or INTx against MSI-X may have changed. */
void virtio_interrupts_changed(VirtioDevice *vdev) BQL_HELD;
/* The doorbell's slow path. */
void virtio_kick(VirtioDevice *vdev, unsigned index) ANY_THREAD;

VirtioPhase virtio_phase(const VirtioDevice *vdev) BQL_HELD;
void assert_virtio_state(const VirtioDevice *vdev) BQL_HELD;
/* Logs a guest error: one rate-limited line. */
#define virtio_guest_error(vdev, ...)                                                              \
    log_guest_error(&(vdev)->dev->log_limit, device_label((vdev)->dev), __VA_ARGS__)

/* ---- the device's data path (home loop) ---- */
bool virtio_has_feature(const VirtioDevice *vdev, uint64_t bit) ANY_THREAD;
/* The next request of queue @index. NULL: none is available; the device is stopped, quiesced or
 * broken; or the queue must wait for its turn or a request slot (handle_queue is then called
 * again). */
void *virtio_pop(VirtioDevice *vdev, unsigned index) RUNS_IN_LOOP;
void virtio_unpop(VirtioDevice *vdev, unsigned index, VirtQueueElement *e) RUNS_IN_LOOP;
/* Completes the request; the driver is notified at the end of the turn. @e is invalid
 * afterwards. */
void virtio_complete(VirtioDevice *vdev, unsigned index, VirtQueueElement *e, uint32_t len)
    RUNS_IN_LOOP;
/* Makes the completed requests of queue @index visible to the driver now, before what the device
 * completes later in any queue. */
void virtio_flush(VirtioDevice *vdev, unsigned index) RUNS_IN_LOOP;
/* Within handle_queue(): the queue is to be processed again in the next turn, after what else the loop has to
 * do; virtio_pop() returns NULL until then. */
void virtio_yield(VirtioDevice *vdev, unsigned index) RUNS_IN_LOOP;
/* Sets the request aside until the VM is stopped and continued. @e is invalid afterwards. */
void virtio_park(VirtioDevice *vdev, unsigned index, VirtQueueElement *e) RUNS_IN_LOOP;
/* The same for all buffers of a frame but the last, which virtio_complete() then makes visible together. */
void virtio_fill(VirtioDevice *vdev, unsigned index, VirtQueueElement *e, uint32_t len)
    RUNS_IN_LOOP;
/* A silent queue is not kicked by the driver and not polled: the device takes buffers from it when it has
 * something to put in. When it is made audible again, handle_queue is called for what came meanwhile. Each
 * start makes all queues audible. */
void virtio_set_silent(VirtioDevice *vdev, unsigned index, bool silent) RUNS_IN_LOOP;
/* Schedules handle_queue for queue @index. */
void virtio_look(VirtioDevice *vdev, unsigned index) RUNS_IN_LOOP;
/* Whether the device runs and may take requests: its first lane. */
bool virtio_taking(const VirtioDevice *vdev) RUNS_IN_LOOP;
/* Whether the queues of the first lane run; whether they are being returned to main. */
static inline bool virtio_running(const VirtioDevice *vdev)
{
    return vdev->lanes[0].running;
}
static inline bool virtio_stopping(const VirtioDevice *vdev)
{
    return vdev->lanes[0].stopping;
}
/* The loop that serves queue @index. */
static inline AioContext *virtio_queue_home(const VirtioDevice *vdev, unsigned index)
{
    return vdev->queues[index].lane->home;
}
/* The first lane takes no new request until virtio_resume(). Calls nest. The requests of others wait
 * where they end up. */
void virtio_quiesce(VirtioDevice *vdev) RUNS_IN_LOOP;
void virtio_resume(VirtioDevice *vdev) RUNS_IN_LOOP;
/* The request's contents are invalid: the device needs a reset. @e is invalid afterwards. */
void virtio_fail_request(VirtioDevice *vdev, unsigned index, VirtQueueElement *e,
                         const char *reason) RUNS_IN_LOOP;

#endif
