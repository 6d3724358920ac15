/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The facts that guests use from ACPI tables, without AML: CPUs, interrupt controllers, the PM
 * registers, ECAM. Boot CPU only. Without tables every field has its "none" value.
 * Source: ACPI 6.4 §5.2; PCI Firmware Specification 3.2 §4.1.2 (MCFG).
 */
#ifndef LIB_ACPI_H
#define LIB_ACPI_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/cpu.h"

typedef struct AcpiFacts {
    bool found; /* there are tables */
    unsigned cpu_count;
    uint32_t apic_ids[CPU_MAX]; /* of the enabled CPUs */
    uint32_t ioapic_gpa, ioapic_gsi_base;
    uint32_t isa_gsi[16];   /* GSI of each ISA interrupt */
    uint16_t isa_flags[16]; /* MADT polarity and trigger bits */
    uint16_t pm_timer_port; /* 0: none */
    uint16_t pm1a_event_port, pm1a_control_port;
    uint16_t gpe0_port; /* general-purpose events, status then enable; 0: none */
    uint8_t gpe0_size;  /* bytes of both together */
    int s5_type;        /* SLP_TYPa of \_S5, -1: not found */
    uint64_t ecam_gpa;
    uint8_t ecam_first_bus, ecam_last_bus;
} AcpiFacts;

/* Reads the tables at the first call. */
const AcpiFacts *acpi_facts(void);

#endif
