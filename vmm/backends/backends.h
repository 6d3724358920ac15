/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's backends by name: iothreads and memory backends (-object), chardevs (-chardev, -serial,
 * -debugcon), disks (-blockdev, -drive), networks (-netdev, -nic); and the list of monitors.
 *
 * Backends do not depend on devices. All in main.
 */
#ifndef SKIFF_VMM_BACKENDS_BACKENDS_H
#define SKIFF_VMM_BACKENDS_BACKENDS_H

#include "block/block.h"
#include "hw/core/chardev.h"
#include "util/loop/iothread.h"
#include "vmm/backends/memory.h"
#include "vmm/config.h"

/* A monitor on a chardev: QMP (control) or for humans. */
typedef struct MonitorRequest {
    char *chardev;      /* its id; owned */
    const char *option; /* the option that created it, without dash; static */
    bool control, pretty;
} MonitorRequest;

typedef struct Backends {
    const VmConfig *config;
    GPtrArray *iothreads;       /* IoThread; [0] is the default one */
    GPtrArray *memory_backends; /* MemoryBackend, by -object */
    GPtrArray *rngs;            /* char *: ids of rng-builtin and rng-random, by -object */
    GPtrArray *throttle_groups; /* ThrottleGroup, by -object; a reference to each */
    GPtrArray *drives;          /* of -drive */
    GPtrArray *serials;         /* char *: chardev id of each serial port; NULL: no such port */
    char *debugcon;             /* chardev id, or NULL */
    GPtrArray *monitors;        /* MonitorRequest */
    /* the first serial port's; its last lines are shown after a time-out */
    Chardev *console;
} Backends;

/* Empty lists. @config is borrowed for as long as @b lives. */
void backends_init(Backends *b, const VmConfig *config) RUNS_IN_MAIN;

/* ---- objects.c: iothreads, memory backends, throttle groups ---- */
/* Creates the default iothread and all of -object. */
bool backends_co_make_objects(Backends *b, GError **error) coroutine_fn RUNS_IN_MAIN;
/* @opts (borrowed) with "qom-type" and "id". */
bool backends_co_add_object(Backends *b, const OptDict *opts, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The caller has checked that no device uses it. False + error: no object has that id, or a block
 * node's home is in it. */
bool backends_co_del_object(Backends *b, const char *id, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Sets the error of an object that is in use; returns false. */
bool backends_object_in_use(const char *id, GError **error) ANY_THREAD;
IoThread *backends_find_iothread(Backends *b, const char *id) RUNS_IN_MAIN;    /* NULL: none */
MemoryBackend *backends_find_memory(Backends *b, const char *id) RUNS_IN_MAIN; /* NULL: none */
bool backends_has_rng(const Backends *b, const char *id) RUNS_IN_MAIN;         /* of -object */
/* The context of the default iothread. */
AioContext *backends_default_home(const Backends *b) RUNS_IN_MAIN;

/* ---- chardevs.c: -chardev, -serial, -debugcon, -nographic ---- */
bool backends_co_make_chardevs(Backends *b, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Creates the chardev of a short spelling ("stdio", "unix:PATH,server=on"), for -@option. *@id is
 * its name, for its user to claim: @label, or that of chardev:ID; NULL for "none". "mon:" also
 * records a human monitor. */
bool backends_co_open_string(Backends *b, const char *text, const char *label, const char *option,
                             char **id, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The same, but a socket without server= or reconnect= is a server that waits for no client. */
bool backends_co_open_listening(Backends *b, const char *text, const char *label,
                                const char *option, char **id, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Calls chardev_claim(); the first serial port's chardev becomes the console. */
Chardev *backends_claim_chardev(Backends *b, const char *id, const char *user, GError **error)
    RUNS_IN_MAIN;
/* Records a human monitor on the chardev @id_taken, which @option created ("serial"; static). */
void backends_add_human_monitor(Backends *b, char *id_taken, const char *option) RUNS_IN_MAIN;

/* ---- drives.c: -blockdev and -drive ---- */
bool backends_co_open_drives(Backends *b, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Copies the device's part of -drive (werror=, cache=) into @props where they have no value;
 * `drive` becomes the name of the drive's node. */
void backends_apply_drive_defaults(Backends *b, OptDict *props) RUNS_IN_MAIN;
/* Appends a -device row (OptDict, owned by the list) for each -drive if=virtio. */
void backends_add_implied_devices(Backends *b, GPtrArray *rows) RUNS_IN_MAIN;
/* The id of -drive if=pflash,unit=@unit, borrowed; NULL: there is none. */
#define BACKENDS_PFLASH_COUNT 2
const char *backends_pflash_drive(Backends *b, unsigned unit) RUNS_IN_MAIN;
/* The id of the -drive that created node @node_name; "" if none did. */
const char *backends_drive_of_node(Backends *b, const char *node_name) RUNS_IN_MAIN;
/* The id of the -drive that a CD drive began with: @node_name is what -drive called its node, which
 * may be gone since. "" if none did; NULL has none. */
const char *backends_drive_of_medium(Backends *b, const char *node_name) RUNS_IN_MAIN;
/* The node of -drive id=@id; borrowed; NULL if there is none. */
BlockNode *backends_drive_node(Backends *b, const char *id) RUNS_IN_MAIN;
/* The medium of node @node_name was taken out of its drive: drops the reference of the -drive that
 * opened it, if one did. */
void backends_co_drop_medium(Backends *b, const char *node_name) coroutine_fn RUNS_IN_MAIN;
/* Waits until no request of a drive is in flight, and flushes the drives. */
void backends_co_drain(void) coroutine_fn RUNS_IN_MAIN;

/* ---- virtiofs.c: -virtiofs ---- */
/* Starts a virtiofsd and adds a chardev for each. */
bool backends_co_start_virtiofs(Backends *b, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Appends a -device row (OptDict, owned by the list) for each. */
void backends_add_implied_virtiofs(const Backends *b, GPtrArray *rows) RUNS_IN_MAIN;

/* ---- netdevs.c: -netdev and -nic ---- */
/* Creates the network back ends of -netdev and of -nic. */
bool backends_co_make_netdevs(Backends *b, GError **error) coroutine_fn RUNS_IN_MAIN;
/* -netdev, netdev_add: @opts (borrowed) with "type" and "id". */
bool backends_co_add_netdev(const OptDict *opts, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Appends a -device row (OptDict, owned by the list) for each -nic. */
void backends_add_implied_nics(const Backends *b, GPtrArray *rows) RUNS_IN_MAIN;

#endif
