#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 400
# Linux, booted directly, sees DMI, the files of fw_cfg and the generation id, and gives its crash note.
. "$(dirname "$0")/common.bash"

guest_script='
for f in sys_vendor product_name product_serial product_uuid bios_vendor chassis_asset_tag; do
    echo "dmi $f: $(cat /sys/class/dmi/id/$f)"
done
echo "dmi structures: $(ls -d /sys/firmware/dmi/entries/*-0 | wc -l)"
dd if=/sys/firmware/dmi/entries/11-0/raw bs=1 2>/dev/null | tr "\0" "\n" | sed -n "s/^oem/dmi oem/p"
modprobe qemu_fw_cfg || insmod $(find /lib/modules -name "qemu_fw_cfg.ko")
echo "fw_cfg rev: $(cat /sys/firmware/qemu_fw_cfg/rev)"
echo "fw_cfg text: $(cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.example/text/raw)"
echo "fw_cfg sum: $(md5sum < /sys/firmware/qemu_fw_cfg/by_name/opt/org.example/large/raw)"
echo "fw_cfg note: $(hexdump -v -e "1/1 \"%02x\"" /sys/firmware/qemu_fw_cfg/by_name/etc/vmcoreinfo/raw)"
echo "vmgenid: $(ls -d /sys/bus/acpi/devices/QEMUVGID:00) $(cat /sys/bus/acpi/devices/QEMUVGID:00/status)"
dmesg | grep -iE "acpi.*(error|warning|exception|bug)|firmware (bug|warn)" | grep -v "report a bug"
echo "end of the script"
'

test_linux_reads_what_the_options_say() {
    head -c 300000 /dev/urandom >"$work/large"
    linux_guest "$guest_script" -uuid 01234567-89ab-cdef-0123-456789abcdef \
        -smbios type=1,serial=SER-1 -smbios type=3,asset=A-2 -smbios type=11,value=oem,value=oem2 \
        -fw_cfg opt/org.example/text,string=hello -fw_cfg "opt/org.example/large,file=$work/large" \
        -device vmgenid -device vmcoreinfo
    expect_status 0
    expect_guest_status 0
    expect_output '^dmi sys_vendor: QEMU'
    expect_output '^dmi product_name: Standard PC \(Q35 \+ ICH9, 2009\)'
    expect_output '^dmi product_serial: SER-1'
    expect_output '^dmi product_uuid: 01234567-89ab-cdef-0123-456789abcdef'
    expect_output '^dmi bios_vendor: skiff'
    expect_output '^dmi chassis_asset_tag: A-2'
    expect_output '^dmi oem2'
    expect_output '^fw_cfg rev: 3'
    expect_output '^fw_cfg text: hello'
    expect_output "^fw_cfg sum: $(md5sum <"$work/large" | cut -d' ' -f1)"
    expect_output '^fw_cfg note: 01000100[0-9a-f]{8}[0-9a-f]{16}'
    expect_output '^vmgenid: /sys/bus/acpi/devices/QEMUVGID:00 15'
    expect_output '^end of the script'
    if printed 'ACPI.*(Error|Exception)'; then
        fail "Linux complains of the tables"
    fi
}

run_tests
