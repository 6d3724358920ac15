#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img convert to raw: the content, and what it says, are those of qemu-img; nothing half-made keeps its name.
# tier: unit
. "$(dirname "$0")/img.bash"

qemu-img create -q -f raw base.raw 8M
qemu-io -f raw -c 'write -q -P 3 1M 64k' -c 'write -q -P 0 4M 1M' -c 'write -q -P 5 6M 1536k' \
    -c 'write -q -P 7 2M 1k' -c 'write -q -P 8 2060k 7k' base.raw
qemu-img create -q -f qcow2 -b base.raw -F raw overlay.qcow2 9M
qemu-io -f qcow2 -c 'write -q -P 6 8500k 1k' -c 'write -q -z 6M 512k' overlay.qcow2
qemu-img convert -f qcow2 -O qcow2 -c -o cluster_size=16k overlay.qcow2 compressed.qcow2
qemu-img create -q -f qcow2 -o preallocation=metadata prealloc.qcow2 5M
qemu-io -f qcow2 -c 'write -q -P 8 128k 4k' prealloc.qcow2
head -c 1000 /dev/zero | tr '\0' y >odd.raw
: >empty.raw
sync

# converted OPTION… SOURCE…: the same result as qemu-img's, which is no larger on the host
converted() {
    local ours theirs
    rm -f ours theirs
    qemu-img convert "$@" theirs && timeout 60 "$img" convert "$@" ours && cmp ours theirs
    ours=$? theirs=$(stat -c %b theirs)
    [ $ours -eq 0 ] && [ "$(stat -c %b ours)" -le $((theirs + 16)) ] && [ ! -e ours.skiff-* ]
    report $? "convert $*"
}

for image in base.raw overlay.qcow2 compressed.qcow2 prealloc.qcow2 odd.raw empty.raw; do
    for options in "" "-S 0" "-S 64k" "-m 1" "-W -m 16" "-T none -t none" "-o preallocation=falloc" \
        "-o preallocation=full" "-t directsync" "-C" "-r 1G"; do
        converted $options "$image"
    done
    "$img" convert "$image" ours
    [ "$("$img" convert "$image" /dev/stdout | cmp - ours 2>&1)" = "" ]
    report $? "$image to a pipe"
done
converted base.raw overlay.qcow2 odd.raw base.raw
converted -f raw -O raw overlay.qcow2
converted --image-opts driver=qcow2,file.filename=overlay.qcow2
mkfifo fifo
cat fifo >copy &
succeeds "to a FIFO" "$img" convert overlay.qcow2 fifo
wait $!
qemu-img convert overlay.qcow2 theirs
cmp copy theirs
report $? "a FIFO gets the whole disk"

cat compressed.qcow2 >fifo &
succeeds "from a FIFO" "$img" convert -f qcow2 --force-share fifo ours
cmp ours theirs
report $? "a FIFO gives the whole image"
[ "$(cat base.raw | "$img" convert -f raw -O qcow2 /dev/stdin ours 2>&1)" = "" ] && qemu-img compare -q ours base.raw
report $? "raw data from standard input"
"$img" convert overlay.qcow2 /dev/stdout | "$img" convert /dev/stdin /dev/stdout | cmp - theirs
report $? "from a pipe to a pipe"
[ "$(printf '' | "$img" convert -f raw /dev/stdin ours 2>&1)" = "" ] && cmp ours empty.raw
report $? "an empty pipe"
output=$(head -c 3M /dev/zero | tr '\0' p | (ulimit -f 1024 && exec "$img" convert -f raw /dev/stdin full.raw) 2>&1)
[[ $output == *"writing to a temporary file: File too large" ]] && [ ! -e full.raw ]
report $? "a temporary file that cannot be written"
output=$(TMPDIR=$PWD/missing "$img" convert -f raw /dev/stdin full.raw 2>&1 < <(echo x))
[[ $output == *"creating a temporary file: No such file or directory" ]]
report $? "no place for a temporary file"

# an existing target: with -n in place, else replaced as a whole with the same rights, through a link
head -c 10M /dev/zero | tr '\0' z >target.raw
cp target.raw expected.raw
dd if=theirs of=expected.raw conv=notrunc status=none
inode=$(stat -c %i target.raw)
succeeds "-n writes in place" "$img" convert -n overlay.qcow2 target.raw
cmp target.raw expected.raw && [ "$(stat -c %i target.raw)" = "$inode" ]
report $? "-n leaves what lies behind the content"
truncate -s 0 zero.raw && truncate -s 9M zero.raw
succeeds "--target-is-zero" "$img" convert -n --target-is-zero --target-image-opts overlay.qcow2 \
    driver=raw,file.filename=zero.raw
cmp zero.raw theirs
report $? "--target-is-zero leaves zeroes"
chmod 640 target.raw && ln -s target.raw link.raw
succeeds "a link is followed" "$img" convert overlay.qcow2 link.raw
cmp target.raw theirs && [ -L link.raw ] && [ "$(stat -c %a target.raw)" = 640 ]
report $? "the linked file is replaced"

# what is refused leaves the target alone
cp theirs target.raw
refused "in use by" convert target.raw target.raw
mkfifo hold
qemu-io -f raw target.raw <hold >held 2>&1 &
user=$!
exec 3>hold
echo "read 0 512" >&3
until grep -q 'read 512' held; do sleep 0.05; done
refused "process $user (qemu-io)" convert base.raw target.raw
refused "process $user (qemu-io)" convert target.raw other.raw
exec 3>&-
wait $user
cmp target.raw theirs && [ ! -e other.raw ]
report $? "a refused target is unchanged"
refused "only raw images can be written in order" convert -O qcow2 base.raw /dev/stdout
refused "Unknown file format 'vmdk'" convert -O vmdk base.raw other.vmdk
refused "error while writing at byte 0: No space left" convert base.raw /dev/full
refused "No such file" convert base.raw missing/target.raw
(ulimit -f 2048 && exec "$img" convert -S 0 base.raw large.raw) >/dev/null 2>&1
[ $? -eq 1 ] && [ ! -e large.raw ] && [ -z "$(ls ./*.skiff-* 2>/dev/null)" ]
report $? "a write that fails leaves no file"

# signals: the temporary file goes, the old one stays
for signal in TERM INT HUP; do
    (trap - INT && exec env --default-signal=INT "$img" convert -r 1k base.raw target.raw) 2>/dev/null &
    until [ -e target.raw.skiff-* ] 2>/dev/null; do sleep 0.05; done
    kill -$signal $!
    wait $!
    status=$?
    [ $status -eq $((128 + $(kill -l $signal))) ] && cmp target.raw theirs && [ -z "$(ls ./*.skiff-* 2>/dev/null)" ]
    report $? "SIG$signal: $status"
done
"$img" convert -r 1k base.raw new.raw &
until [ -e new.raw.skiff-* ] 2>/dev/null; do sleep 0.05; done
kill -KILL $!
wait $! 2>/dev/null
[ ! -e new.raw ] && rm new.raw.skiff-*
report $? "SIGKILL leaves a file that looks unfinished"

# progress
"$img" convert -r 2M base.raw new.raw 2>asked & # takes 4 s
until [ -e new.raw.skiff-* ] 2>/dev/null; do sleep 0.05; done
kill -USR1 $!
wait $!
[ $? -eq 0 ] && grep -q '^    ([0-9.]*/100%)$' asked
report $? "SIGUSR1 prints the progress"
[[ $("$img" convert -p base.raw new.raw | tr '\r' '\n') == *"(0.00/100%)"*"(100.00/100%)"* ]]
report $? "-p prints the progress"

# damaged sources
qemu-img create -q -f qcow2 damaged.qcow2 1M
qemu-io -f qcow2 -c 'write -q -P 1 0 128k' damaged.qcow2
printf '\x40\0\0\x40\0\0\0\0' | dd of=damaged.qcow2 bs=1 seek=$((0x40000)) conv=notrunc status=none
refused "error while reading at byte 0: Input/output error" convert damaged.qcow2 new.raw
succeeds "--salvage" "$img" convert --salvage damaged.qcow2 new.raw
printf 'read -P 0 0 64k\nread -P 1 64k 64k\nread -P 0 128k 896k\n' | qemu-io -f raw new.raw | grep -q failed
[ $? -eq 1 ]
report $? "--salvage keeps what can be read"

for arguments in "" "a" "-O foo base.raw x" "-m 17 base.raw x" "-m 0 base.raw x" "-S 100 base.raw x" "-S 17M base.raw x" \
    "-t foo base.raw x" "-T foo base.raw x" "--target-is-zero base.raw x" "-C -S 4k base.raw x" "--salvage -C base.raw x" \
    "--target-image-opts base.raw driver=raw,file.filename=x" "-n -o preallocation=off base.raw theirs" \
    "-n base.raw odd.raw" "-c base.raw x" "-r 1x base.raw x"; do
    same convert $arguments
done
rm -f x
refused "No such file" convert missing x
refused "preallocation" convert -o preallocation=metadata base.raw x
refused "Invalid parameter 'bogus'" convert -o bogus=1 base.raw x
[ ! -e x ]
report $? "nothing was made"
finish
