/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DSDT of the lean q35. Addresses are those of layout.h; what is known only when the machine starts
 * comes as integers from the SSDT that acpi.c makes:
 *
 *   \DEVS       which optional devices there are: 1 COM1, 2 COM2, 4 pvpanic
 *   \ECMB       base of the ECAM
 *   \M32B \M32L base and length of the 32-bit PCI window
 *   \M64B \M64L the same of the 64-bit window; length 0: there is none
 */
DefinitionBlock ("", "DSDT", 2, "SKIFF ", "SKIFFQ35", 1)
{
    External (\DEVS, IntObj)
    External (\ECMB, IntObj)
    External (\M32B, IntObj)
    External (\M32L, IntObj)
    External (\M64B, IntObj)
    External (\M64L, IntObj)

    /* Soft-off: SLP_TYP of PM1a_CNT. The only sleep state. */
    Name (\_S5, Package () {0, 0, 0, 0})

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
                    0x0000, 0x0000, 0x0000, 0x0000, 0x0001)
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

            /* LPC bridge and what sits behind it. */
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

        /* What belongs to the board and is nobody's to hand out. */
        Device (MRES)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 1)
            Name (RES0, ResourceTemplate ()
            {
                IO (Decode16, 0x00B2, 0x00B2, 0x01, 0x02)
                IO (Decode16, 0x0600, 0x0600, 0x01, 0x80)
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
