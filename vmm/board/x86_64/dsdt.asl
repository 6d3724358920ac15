/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DSDT of the lean q35. Addresses are those of layout.h. Values known only at start are integers
 * in the SSDT of acpi.c:
 *
 *   \DEVS       the optional devices: 1 COM1, 2 COM2, 4 pvpanic
 *   \ECMB       base of the ECAM
 *   \M32B \M32L base and length of the 32-bit PCI window
 *   \M64B \M64L the same of the 64-bit window; length 0: no such window
 *   \LBUS       the number of the last PCI bus
 */
DefinitionBlock ("", "DSDT", 2, "SKIFF ", "SKIFFQ35", 1)
{
    External (\DEVS, IntObj)
    External (\ECMB, IntObj)
    External (\M32B, IntObj)
    External (\M32L, IntObj)
    External (\M64B, IntObj)
    External (\M64L, IntObj)
    External (\LBUS, IntObj)

    /* Soft-off: SLP_TYP of PM1a_CNT. The only sleep state. */
    Name (\_S5, Package () {0, 0, 0, 0})

    Scope (\_GPE)
    {
        Method (_L01, 0, NotSerialized)
        {
            \_SB.PCI0.PHEV ()
        }
    }

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CCA, 1)

            Name (WIN0, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0x0000, 0x0000, 0x0000, 0x0000, 0x0001,
                    ,, BUSN)
                IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0x0000, 0x0000, 0x0CF7, 0x0000, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0x0000, 0x0D00, 0xFFFF, 0x0000, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
                    NonCacheable, ReadWrite,
                    0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000,
                    ,, MM32)
            })

            Name (WIN1, ResourceTemplate ()
            {
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
                    Cacheable, ReadWrite,
                    0x0000000000000000, 0x0000000000000000, 0x0000000000000000,
                    0x0000000000000000, 0x0000000000000000,
                    ,, MM64)
            })

            Method (_CRS, 0, Serialized)
            {
                CreateDWordField (WIN0, ^MM32._MIN, MIN0)
                CreateDWordField (WIN0, ^MM32._MAX, MAX0)
                CreateDWordField (WIN0, ^MM32._LEN, LEN0)
                CreateWordField (WIN0, ^BUSN._MAX, BUSM)
                CreateWordField (WIN0, ^BUSN._LEN, BUSL)
                BUSM = \LBUS
                BUSL = \LBUS + 1
                MIN0 = \M32B
                MAX0 = \M32B + \M32L - 1
                LEN0 = \M32L
                If (\M64L == 0)
                {
                    Return (WIN0)
                }
                CreateQWordField (WIN1, ^MM64._MIN, MIN1)
                CreateQWordField (WIN1, ^MM64._MAX, MAX1)
                CreateQWordField (WIN1, ^MM64._LEN, LEN1)
                MIN1 = \M64B
                MAX1 = \M64B + \M64L - 1
                LEN1 = \M64L
                Return (ConcatenateResTemplate (WIN0, WIN1))
            }

            /* INTx of every slot: pin P (0 is A) is GSI 16 + ((slot + P) & 3). */
            Method (_PRT, 0, Serialized)
            {
                Local0 = Package (128) {}
                Local1 = 0
                While (Local1 < 128)
                {
                    Local2 = Package (4) {0, 0, 0, 0}
                    Local3 = Local1 >> 2
                    Local4 = Local1 & 3
                    Local2 [0] = (Local3 << 16) | 0xFFFF
                    Local2 [1] = Local4
                    Local2 [3] = 16 + ((Local3 + Local4) & 3)
                    Local0 [Local1] = Local2
                    Local1++
                }
                Return (Local0)
            }

            /* The system takes over all PCI Express features; there is no firmware to share them
             * with. PCI Firmware 3.2 section 4.5.1. */
            Method (_OSC, 4, NotSerialized)
            {
                CreateDWordField (Arg3, 0, STS0)
                If (Arg0 != ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
                {
                    STS0 |= 0x04 /* unrecognized UUID */
                    Return (Arg3)
                }
                If (Arg1 != 1)
                {
                    STS0 |= 0x08 /* unrecognized revision */
                }
                Return (Arg3)
            }

            /* Hotplug: the registers of hw/platform/acpi_hotplug.h, a bit for each slot. */
            OperationRegion (PHPR, SystemIO, 0x0CC0, 0x10)
            Field (PHPR, DWordAcc, NoLock, WriteAsZeros)
            {
                PINS, 32, /* a device was added; 1 clears */
                PWNT, 32, /* the host requests its removal; 1 clears */
                PPRS, 32, /* a device is present */
                PEJR, 32  /* 1: ejects */
            }

            Method (PSTA, 1, NotSerialized)
            {
                If ((PPRS >> Arg0) & 1)
                {
                    Return (0x0F)
                }
                Return (0)
            }

            Method (PEJT, 1, NotSerialized)
            {
                PEJR = 1 << Arg0
            }

            /* Notifies the system of Arg1 for every slot in Arg0. */
            Method (PNTF, 2, NotSerialized)
            {
                If (Arg0 & 0x00000002) {Notify (S01, Arg1)}
                If (Arg0 & 0x00000004) {Notify (S02, Arg1)}
                If (Arg0 & 0x00000008) {Notify (S03, Arg1)}
                If (Arg0 & 0x00000010) {Notify (S04, Arg1)}
                If (Arg0 & 0x00000020) {Notify (S05, Arg1)}
                If (Arg0 & 0x00000040) {Notify (S06, Arg1)}
                If (Arg0 & 0x00000080) {Notify (S07, Arg1)}
                If (Arg0 & 0x00000100) {Notify (S08, Arg1)}
                If (Arg0 & 0x00000200) {Notify (S09, Arg1)}
                If (Arg0 & 0x00000400) {Notify (S0A, Arg1)}
                If (Arg0 & 0x00000800) {Notify (S0B, Arg1)}
                If (Arg0 & 0x00001000) {Notify (S0C, Arg1)}
                If (Arg0 & 0x00002000) {Notify (S0D, Arg1)}
                If (Arg0 & 0x00004000) {Notify (S0E, Arg1)}
                If (Arg0 & 0x00008000) {Notify (S0F, Arg1)}
                If (Arg0 & 0x00010000) {Notify (S10, Arg1)}
                If (Arg0 & 0x00020000) {Notify (S11, Arg1)}
                If (Arg0 & 0x00040000) {Notify (S12, Arg1)}
                If (Arg0 & 0x00080000) {Notify (S13, Arg1)}
                If (Arg0 & 0x00100000) {Notify (S14, Arg1)}
                If (Arg0 & 0x00200000) {Notify (S15, Arg1)}
                If (Arg0 & 0x00400000) {Notify (S16, Arg1)}
                If (Arg0 & 0x00800000) {Notify (S17, Arg1)}
                If (Arg0 & 0x01000000) {Notify (S18, Arg1)}
                If (Arg0 & 0x02000000) {Notify (S19, Arg1)}
                If (Arg0 & 0x04000000) {Notify (S1A, Arg1)}
                If (Arg0 & 0x08000000) {Notify (S1B, Arg1)}
                If (Arg0 & 0x10000000) {Notify (S1C, Arg1)}
                If (Arg0 & 0x20000000) {Notify (S1D, Arg1)}
                If (Arg0 & 0x40000000) {Notify (S1E, Arg1)}
            }

            /* The hotplug event. What is cleared has been read: the event stays while there is
             * more. */
            Method (PHEV, 0, Serialized)
            {
                Local0 = PINS
                PINS = Local0
                PNTF (Local0, 1) /* device check */
                Local0 = PWNT
                PWNT = Local0
                PNTF (Local0, 3) /* eject request */
            }

            /* The hotplug slots: all but the board's own. */
            Device (S01)
            {
                Name (_ADR, 0x00010000)
                Name (_SUN, 1)
                Method (_STA, 0, NotSerialized) {Return (PSTA (1))}
                Method (_EJ0, 1, NotSerialized) {PEJT (1)}
            }

            Device (S02)
            {
                Name (_ADR, 0x00020000)
                Name (_SUN, 2)
                Method (_STA, 0, NotSerialized) {Return (PSTA (2))}
                Method (_EJ0, 1, NotSerialized) {PEJT (2)}
            }

            Device (S03)
            {
                Name (_ADR, 0x00030000)
                Name (_SUN, 3)
                Method (_STA, 0, NotSerialized) {Return (PSTA (3))}
                Method (_EJ0, 1, NotSerialized) {PEJT (3)}
            }

            Device (S04)
            {
                Name (_ADR, 0x00040000)
                Name (_SUN, 4)
                Method (_STA, 0, NotSerialized) {Return (PSTA (4))}
                Method (_EJ0, 1, NotSerialized) {PEJT (4)}
            }

            Device (S05)
            {
                Name (_ADR, 0x00050000)
                Name (_SUN, 5)
                Method (_STA, 0, NotSerialized) {Return (PSTA (5))}
                Method (_EJ0, 1, NotSerialized) {PEJT (5)}
            }

            Device (S06)
            {
                Name (_ADR, 0x00060000)
                Name (_SUN, 6)
                Method (_STA, 0, NotSerialized) {Return (PSTA (6))}
                Method (_EJ0, 1, NotSerialized) {PEJT (6)}
            }

            Device (S07)
            {
                Name (_ADR, 0x00070000)
                Name (_SUN, 7)
                Method (_STA, 0, NotSerialized) {Return (PSTA (7))}
                Method (_EJ0, 1, NotSerialized) {PEJT (7)}
            }

            Device (S08)
            {
                Name (_ADR, 0x00080000)
                Name (_SUN, 8)
                Method (_STA, 0, NotSerialized) {Return (PSTA (8))}
                Method (_EJ0, 1, NotSerialized) {PEJT (8)}
            }

            Device (S09)
            {
                Name (_ADR, 0x00090000)
                Name (_SUN, 9)
                Method (_STA, 0, NotSerialized) {Return (PSTA (9))}
                Method (_EJ0, 1, NotSerialized) {PEJT (9)}
            }

            Device (S0A)
            {
                Name (_ADR, 0x000A0000)
                Name (_SUN, 10)
                Method (_STA, 0, NotSerialized) {Return (PSTA (10))}
                Method (_EJ0, 1, NotSerialized) {PEJT (10)}
            }

            Device (S0B)
            {
                Name (_ADR, 0x000B0000)
                Name (_SUN, 11)
                Method (_STA, 0, NotSerialized) {Return (PSTA (11))}
                Method (_EJ0, 1, NotSerialized) {PEJT (11)}
            }

            Device (S0C)
            {
                Name (_ADR, 0x000C0000)
                Name (_SUN, 12)
                Method (_STA, 0, NotSerialized) {Return (PSTA (12))}
                Method (_EJ0, 1, NotSerialized) {PEJT (12)}
            }

            Device (S0D)
            {
                Name (_ADR, 0x000D0000)
                Name (_SUN, 13)
                Method (_STA, 0, NotSerialized) {Return (PSTA (13))}
                Method (_EJ0, 1, NotSerialized) {PEJT (13)}
            }

            Device (S0E)
            {
                Name (_ADR, 0x000E0000)
                Name (_SUN, 14)
                Method (_STA, 0, NotSerialized) {Return (PSTA (14))}
                Method (_EJ0, 1, NotSerialized) {PEJT (14)}
            }

            Device (S0F)
            {
                Name (_ADR, 0x000F0000)
                Name (_SUN, 15)
                Method (_STA, 0, NotSerialized) {Return (PSTA (15))}
                Method (_EJ0, 1, NotSerialized) {PEJT (15)}
            }

            Device (S10)
            {
                Name (_ADR, 0x00100000)
                Name (_SUN, 16)
                Method (_STA, 0, NotSerialized) {Return (PSTA (16))}
                Method (_EJ0, 1, NotSerialized) {PEJT (16)}
            }

            Device (S11)
            {
                Name (_ADR, 0x00110000)
                Name (_SUN, 17)
                Method (_STA, 0, NotSerialized) {Return (PSTA (17))}
                Method (_EJ0, 1, NotSerialized) {PEJT (17)}
            }

            Device (S12)
            {
                Name (_ADR, 0x00120000)
                Name (_SUN, 18)
                Method (_STA, 0, NotSerialized) {Return (PSTA (18))}
                Method (_EJ0, 1, NotSerialized) {PEJT (18)}
            }

            Device (S13)
            {
                Name (_ADR, 0x00130000)
                Name (_SUN, 19)
                Method (_STA, 0, NotSerialized) {Return (PSTA (19))}
                Method (_EJ0, 1, NotSerialized) {PEJT (19)}
            }

            Device (S14)
            {
                Name (_ADR, 0x00140000)
                Name (_SUN, 20)
                Method (_STA, 0, NotSerialized) {Return (PSTA (20))}
                Method (_EJ0, 1, NotSerialized) {PEJT (20)}
            }

            Device (S15)
            {
                Name (_ADR, 0x00150000)
                Name (_SUN, 21)
                Method (_STA, 0, NotSerialized) {Return (PSTA (21))}
                Method (_EJ0, 1, NotSerialized) {PEJT (21)}
            }

            Device (S16)
            {
                Name (_ADR, 0x00160000)
                Name (_SUN, 22)
                Method (_STA, 0, NotSerialized) {Return (PSTA (22))}
                Method (_EJ0, 1, NotSerialized) {PEJT (22)}
            }

            Device (S17)
            {
                Name (_ADR, 0x00170000)
                Name (_SUN, 23)
                Method (_STA, 0, NotSerialized) {Return (PSTA (23))}
                Method (_EJ0, 1, NotSerialized) {PEJT (23)}
            }

            Device (S18)
            {
                Name (_ADR, 0x00180000)
                Name (_SUN, 24)
                Method (_STA, 0, NotSerialized) {Return (PSTA (24))}
                Method (_EJ0, 1, NotSerialized) {PEJT (24)}
            }

            Device (S19)
            {
                Name (_ADR, 0x00190000)
                Name (_SUN, 25)
                Method (_STA, 0, NotSerialized) {Return (PSTA (25))}
                Method (_EJ0, 1, NotSerialized) {PEJT (25)}
            }

            Device (S1A)
            {
                Name (_ADR, 0x001A0000)
                Name (_SUN, 26)
                Method (_STA, 0, NotSerialized) {Return (PSTA (26))}
                Method (_EJ0, 1, NotSerialized) {PEJT (26)}
            }

            Device (S1B)
            {
                Name (_ADR, 0x001B0000)
                Name (_SUN, 27)
                Method (_STA, 0, NotSerialized) {Return (PSTA (27))}
                Method (_EJ0, 1, NotSerialized) {PEJT (27)}
            }

            Device (S1C)
            {
                Name (_ADR, 0x001C0000)
                Name (_SUN, 28)
                Method (_STA, 0, NotSerialized) {Return (PSTA (28))}
                Method (_EJ0, 1, NotSerialized) {PEJT (28)}
            }

            Device (S1D)
            {
                Name (_ADR, 0x001D0000)
                Name (_SUN, 29)
                Method (_STA, 0, NotSerialized) {Return (PSTA (29))}
                Method (_EJ0, 1, NotSerialized) {PEJT (29)}
            }

            Device (S1E)
            {
                Name (_ADR, 0x001E0000)
                Name (_SUN, 30)
                Method (_STA, 0, NotSerialized) {Return (PSTA (30))}
                Method (_EJ0, 1, NotSerialized) {PEJT (30)}
            }

            /* The firmware configuration device. */
            Device (FWCF)
            {
                Name (_HID, "QEMU0002")
                Name (_STA, 0x0B)
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0510, 0x0510, 0x01, 0x0C)
                })
            }

            /* LPC bridge and the devices behind it. */
            Device (ISA)
            {
                Name (_ADR, 0x001F0000)

                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0070, 0x0070, 0x01, 0x08)
                        IRQNoFlags () {8}
                    })
                }

                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x03F8, 0x03F8, 0x00, 0x08)
                        IRQNoFlags () {4}
                    })
                    Method (_STA, 0, NotSerialized)
                    {
                        If (\DEVS & 1)
                        {
                            Return (0x0F)
                        }
                        Return (0)
                    }
                }

                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x02F8, 0x02F8, 0x00, 0x08)
                        IRQNoFlags () {3}
                    })
                    Method (_STA, 0, NotSerialized)
                    {
                        If (\DEVS & 2)
                        {
                            Return (0x0F)
                        }
                        Return (0)
                    }
                }

                Device (PEVT)
                {
                    Name (_HID, "QEMU0001")
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0505, 0x0505, 0x01, 0x01)
                    })
                    Method (_STA, 0, NotSerialized)
                    {
                        If (\DEVS & 4)
                        {
                            Return (0x0F)
                        }
                        Return (0)
                    }
                }
            }
        }

        /* Resources of the board, not to be allocated. */
        Device (MRES)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 1)
            Name (RES0, ResourceTemplate ()
            {
                IO (Decode16, 0x00B2, 0x00B2, 0x01, 0x02)
                IO (Decode16, 0x0600, 0x0600, 0x01, 0x80)
                IO (Decode16, 0x0CC0, 0x0CC0, 0x01, 0x10)
                Memory32Fixed (ReadWrite, 0x00000000, 0x10000000, ECAM)
            })
            Method (_CRS, 0, Serialized)
            {
                CreateDWordField (RES0, ^ECAM._BAS, BAS0)
                BAS0 = \ECMB
                Return (RES0)
            }
        }
    }
}
