#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img state prints what is in a saved state, and refuses what is none.
# tier: unit
. "$(dirname "$0")/img.bash"
sample="$OLDPWD/tests/util/state/state_sample_v1.h"

# prints NAME WORDS COMMAND…: status 0 and WORDS on standard output
prints() {
    local name=$1 words=$2 output status
    shift 2
    output=$(timeout 20 "$@" 2>&1)
    status=$?
    [ $status -eq 0 ] && [[ $output == *"$words"* ]] || printf '%s\n' "$status" "$output" | sed 's/^/# /'
    [ $status -eq 0 ] && [[ $output == *"$words"* ]]
    report $? "$name"
}

grep -o '0x[0-9a-f]*' "$sample" | sed 's/0x/\\x/' | tr -d '\n' | xargs -0 printf '%b' >vm.state
prints "the machine's texts" "machine: sample" "$img" state vm.state
prints "fields" "  timers[1]:
    deadline: 1000 (0x3e8)" "$img" state vm.state
prints "sections" "section 3: hint of /b, version 1, 4 bytes, may be ignored" "$img" state --brief vm.state
[[ $("$img" state --brief vm.state) != *deadline* ]]
report $? "--brief leaves out the fields"
"$img" state --output=json vm.state | python3 -c '
import json, os, sys
s = json.load(sys.stdin)
assert s["format-version"] == 1 and s["machine"]["configuration"] == "{\"memory\": 1}", s
assert s["bytes"] == os.path.getsize("vm.state"), s["bytes"]
names = [(x["instance"], x["name"]) for x in s["sections"]]
assert names == [("/a", "chip"), ("/a", "chip/extra"), ("/b", "chip"), ("/b", "hint")], names
assert s["sections"][0]["fields"]["regs"] == [7, 2**64 - 1] and s["sections"][1]["fields"] == {"level": 0xdeadbeef}
assert s["sections"][0]["fields"]["timers"] == [{"deadline": 99, "armed": True}, {"deadline": 1000, "armed": False}]
'
report $? "JSON"
[ -z "$("$img" state -q vm.state)" ]
report $? "-q only checks"
cp vm.state more.state
printf '%4096s' ram >>more.state
prints "what follows the stream is another's" "behind the stream: " "$img" state more.state
prints "options of an image" "machine: sample" "$img" state --image-opts driver=raw,file.filename=vm.state

size=$(stat -c %s vm.state)
for at in 0 1 31 32 100 $((size - 1)); do
    head -c $at vm.state >cut.state
    ends 2 "state stream: " state cut.state
done
cp vm.state bad.state
printf 'X' | dd of=bad.state bs=1 seek=200 conv=notrunc status=none
ends 2 "CRC of a record is wrong" state bad.state
printf '\2' | dd of=bad.state bs=1 seek=8 conv=notrunc status=none
ends 2 "CRC of the prefix is wrong" state bad.state
truncate -s 1M zero.raw
ends 2 "no saved state of skiff" state zero.raw
ends 2 "no saved state of skiff" state -q zero.raw
ends 1 "No such file" state missing.state
ends 1 "" state
ends 1 "" state vm.state vm.state
ends 1 "" state --output=xml vm.state
finish
