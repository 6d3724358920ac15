/* SPDX-License-Identifier: Apache-2.0 */
/* The VM generation id. VGIA is the address of the page with the GUID. */
DefinitionBlock ("", "SSDT", 1, "SKIFF ", "VMGENID", 1)
{
    Name (VGIA, 0x12345678)

    Scope (\_SB)
    {
        Device (VGEN)
        {
            Name (_HID, "QEMUVGID")
            Name (_CID, "VM_Gen_Counter")
            Name (_DDN, "VM_Gen_Counter")
            Method (_STA, 0, NotSerialized)
            {
                If (\VGIA == 0)
                {
                    Return (0)
                }
                Return (0x0F)
            }

            Method (ADDR, 0, NotSerialized)
            {
                Local0 = Package (2) {}
                Local0 [0] = \VGIA + 40
                Local0 [1] = 0
                Return (Local0)
            }
        }
    }

    Method (\_GPE._E05, 0, NotSerialized)
    {
        Notify (\_SB.VGEN, 0x80)
    }
}
