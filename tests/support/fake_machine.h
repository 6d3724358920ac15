/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine without KVM for device tests: MachineOps that record, RAM, two address spaces, 24
 * gates.
 *
 * The fake irqfd: fake_machine_settle() stands for the kernel. It takes events written to attached
 * routes' descriptors and counts the routes' messages as delivered. tests/support/msi_contract.h
 * checks these operations and KVM's with the same tests. Thread-safe where MachineOps
 * are.
 */
#ifndef SKIFF_TESTS_SUPPORT_FAKE_MACHINE_H
#define SKIFF_TESTS_SUPPORT_FAKE_MACHINE_H

#include "hw/core/device.h"

#define FAKE_GSI_COUNT 24
#define FAKE_RAM_SIZE (16u << 20)
#define FAKE_LOG_MAX 4096
#define FAKE_ROUTE_LIMIT 4056 /* as KVM on x86 */

typedef struct FakeDoorbell {
    bool pio, match;
    uint64_t address, data;
    unsigned size;
    int event_fd;
} FakeDoorbell;

typedef struct FakeRequest {
    int request;
    int64_t detail;
} FakeRequest;

typedef struct FakeMachine {
    Machine machine;
    DeviceEnv env;
    GuestRam ram;
    IrqGate gates[FAKE_GSI_COUNT];
    IrqGate *gate_list[FAKE_GSI_COUNT];
    /* records; read from the test's thread when other threads are quiet */
    pthread_mutex_t lock;
    bool gsi_level[FAKE_GSI_COUNT];
    unsigned gsi_raised[FAKE_GSI_COUNT]; /* rising edges */
    GPtrArray *routes;                   /* reserved */
    unsigned attached;                   /* of them */
    unsigned route_limit;                /* msi_route_new fails above it */
    unsigned route_commits;              /* so far */
    MsiMessage delivered[FAKE_LOG_MAX];  /* MSIs, in the order they arrived */
    unsigned delivered_count;            /* may exceed FAKE_LOG_MAX: the rest is only counted */
    FakeDoorbell doorbells[256];
    unsigned doorbell_count;
    FakeRequest requests[64];
    unsigned request_count;
    bool refuse_attach;   /* msi_route_attach fails */
    bool rom_hidden;      /* the block of set_rom_mapped(), of which a test has one */
    unsigned rom_changes; /* successful calls so far */
    bool refuse_rom;      /* set_rom_mapped fails */
} FakeMachine;

/* The calling thread becomes main (if it has no role yet) and owns env.main_ctx, which has virtual
 * time. Chardevs are those of fake_chardev_new(). */
FakeMachine *fake_machine_new(void);
void fake_machine_free(FakeMachine *m);
/* Runs the main context until it has nothing to do. */
void fake_machine_run(FakeMachine *m);
/* Moves virtual time (main context's and so the VM's) and runs what is due. */
void fake_machine_advance(FakeMachine *m, int64_t duration_ns);
/* Delivers the events in the routes' eventfds; returns the number of messages. */
unsigned fake_machine_settle(FakeMachine *m);
/* The number of delivered messages with @data. */
unsigned fake_machine_delivered(const FakeMachine *m, uint32_t data);
/* The newest request, or {-1, -1}. */
FakeRequest fake_machine_last_request(const FakeMachine *m);

/* One access under the BQL, like a vCPU's. Reads return the value the guest sees. */
uint64_t fake_read(AddressSpace *as, uint64_t address, unsigned size);
void fake_write(AddressSpace *as, uint64_t address, uint64_t value, unsigned size);
uint8_t fake_in8(FakeMachine *m, uint16_t port);
uint16_t fake_in16(FakeMachine *m, uint16_t port);
uint32_t fake_in32(FakeMachine *m, uint16_t port);
void fake_out8(FakeMachine *m, uint16_t port, uint8_t value);
void fake_out16(FakeMachine *m, uint16_t port, uint16_t value);
void fake_out32(FakeMachine *m, uint16_t port, uint32_t value);

/* A realized device of type @name with properties "a=b,c=d" (NULL: none); ends the process with the
 * error's text on failure. */
Device *fake_device(FakeMachine *m, const char *name, const char *properties);
/* The same for a type that is not in the table. */
Device *fake_device_of(FakeMachine *m, const DeviceType *type, const char *properties);
/* The same; NULL + error if it is refused. */
Device *fake_device_try(FakeMachine *m, const DeviceType *type, const char *properties,
                        GError **error);
/* Unrealizes and frees. */
void fake_device_gone(Device *dev);

#endif
