#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img on exports of NBD servers, nbdkit and qemu-nbd, says and does what qemu-img does.
# tier: unit
# timeout: 120
. "$(dirname "$0")/img.bash"

for program in nbdkit qemu-nbd; do
    command -v $program >/dev/null || { echo "$program is missing"; exit 77; }
done

socket=$(mktemp -u /tmp/skiff-nbd-XXXXXX) # a UNIX socket's path is short
server=
trap 'stop; rm -rf "$PWD" "$socket"' EXIT

stop() {
    [ -z "$server" ] || { kill -KILL "$server"; wait "$server"; } 2>/dev/null
    server=
}

wait_socket() {
    until [ -S "$socket" ]; do
        kill -0 "$server" || { echo "# the server has ended: $(cat log)"; exit 1; }
        sleep 0.01
    done
}

kit() { # kit ARGUMENT…: nbdkit on $socket
    stop
    rm -f "$socket"
    nbdkit -f -U "$socket" "$@" >log 2>&1 &
    server=$!
    wait_socket
}

serve() { # serve ARGUMENT…: qemu-nbd on $socket
    stop
    rm -f "$socket"
    qemu-nbd --persistent --shared=8 --socket="$socket" "$@" >log 2>&1 &
    server=$!
    wait_socket
}

uri=nbd+unix:///?socket=$socket
node=driver=nbd,server.type=unix,server.path=$socket

# ---- names, information, block status ----
dd if=/dev/urandom of=base.raw bs=64k count=16 status=none
truncate -s 32M base.raw
dd if=/dev/urandom of=base.raw bs=64k count=3 seek=100 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 base.raw base.qcow2

serve -f qcow2 -x name base.qcow2
same map --output=json "nbd+unix:///name?socket=$socket"
same map --output=json "nbd:unix:$socket:exportname=name"
same map --output=json --image-opts "$node,export=name"
same map -f raw "nbd+unix:///name?socket=$socket"
succeeds "compare with the image" "$img" compare -U base.qcow2 "nbd+unix:///name?socket=$socket"
refused "server" info "nbd+unix:///other?socket=$socket"
refused "x-dirty-bitmap qemu:dirty-bitmap:b not found" info --image-opts "$node,export=name,x-dirty-bitmap=qemu:dirty-bitmap:b"
refused "nbd+unix:///EXPORT?socket=PATH" info nbd+unix:///name

# ---- a server with one client ----
stop
rm -f "$socket"
qemu-nbd -r -f raw --socket="$socket" base.qcow2 >log 2>&1 &
server=$!
wait_socket
succeeds "the format is found and the image is opened over one connection" "$img" compare -U base.qcow2 "$uri"
wait $server
report $? "the server has ended with its client"
server=

# ---- the bits of a bitmap ----
qemu-img bitmap --add base.qcow2 b
qemu-io -f qcow2 -c 'write -q 1M 128k' -c 'write -q 5M 64k' base.qcow2
serve -r -f qcow2 -B b base.qcow2
same map --output=json --image-opts "$node,x-dirty-bitmap=qemu:dirty-bitmap:b,read-only=on"
refused "read-only" convert -n -f raw -O raw base.raw "$uri"

# ---- copies ----
kit memory 32M
succeeds "convert to an export" "$img" convert -n -f raw -O raw base.raw "$uri"
succeeds "qemu-img finds them equal" qemu-img compare -f raw -F raw base.raw "$uri"
succeeds "convert from an export" "$img" convert -f raw -O qcow2 "$uri" copy.qcow2
succeeds "it is the same" qemu-img compare -f raw base.raw copy.qcow2
succeeds "over four connections" "$img" convert -m 16 --image-opts -O raw "$node,multi-conn=4" copy.raw
succeeds "it is the same" cmp base.raw copy.raw
succeeds "bench" "$img" bench --image-opts -c 2000 -d 32 -s 4096 "$node,multi-conn=4"
succeeds "bench of writes" "$img" bench --image-opts -w --flush-interval=100 -c 1000 -d 32 -s 4096 "$node"

kit --filter=blocksize-policy memory 32M blocksize-minimum=4096 blocksize-maximum=64K blocksize-error-policy=error
succeeds "block sizes of the server" "$img" convert -n -f raw -O raw base.raw "$uri"
succeeds "qemu-img finds them equal" qemu-img compare -f raw -F raw base.raw "$uri"
succeeds "unaligned requests" "$img" io -f raw -c 'write -P 3 1000 5000' -c 'read -P 3 1000 5000' "$uri"

kit --filter=error memory 32M error-pwrite=ENOSPC error-pwrite-rate=100%
refused "No space left on device" convert -n -f raw -O raw base.raw "$uri"
kit --filter=noextents --filter=error memory 1M error-pread=EIO error-pread-rate=100%
refused "Input/output error" convert -f raw -O raw "$uri" failed.raw

kit --filter=noextents data size=1000 '1 2 3'
succeeds "a size of no whole sectors" "$img" convert -f raw -O raw "$uri" odd.raw
succeeds "it ends with zeroes" cmp odd.raw <(printf '\1\2\3'; head -c 1021 /dev/zero)

# ---- qcow2 on an export; an export as backing file ----
qemu-img create -q -f qcow2 disk.qcow2 32M
cp disk.qcow2 disk.raw
truncate -s 48M disk.raw
kit file disk.raw
succeeds "convert to qcow2 on an export" "$img" convert -n -f raw -O qcow2 base.raw "$uri"
succeeds "check" "$img" check "$uri"
succeeds "qemu-img check" qemu-img check "$uri"
succeeds "qemu-img finds them equal" qemu-img compare -f raw -F qcow2 base.raw "$uri"
kit memory 48M
succeeds "create a qcow2 image on an export" "$img" create -q -f qcow2 "$uri" 32M
succeeds "qemu-img check" qemu-img check "$uri"
same info "$uri"
succeeds "convert to a new image on an export" "$img" convert -f raw -O qcow2 base.raw "$uri"
succeeds "qemu-img finds them equal" qemu-img compare -f raw -F qcow2 base.raw "$uri"
succeeds "convert to the bytes of an export" "$img" convert -f raw -O raw base.raw "$uri"
succeeds "qemu-img finds them equal" qemu-img compare -f raw -F raw base.raw "$uri"
succeeds "create a raw image that fits" "$img" create -q -f raw "$uri" 48M
refused "No space left" create -q -f raw "$uri" 49M
kit file base.raw
succeeds "an overlay of an export" "$img" create -q -f qcow2 -b "$uri" -F raw overlay.qcow2
succeeds "its content" "$img" compare -f raw -F qcow2 base.raw overlay.qcow2
succeeds "its content, for qemu-img" qemu-img compare -f raw -F qcow2 base.raw overlay.qcow2
same info overlay.qcow2

# ---- TLS ----
mkdir -m 700 psk
(umask 077; printf 'alice:%064x\n' 4711 >psk/keys.psk)
kit --tls=require --tls-psk="$PWD/psk/keys.psk" memory 32M
key=tls-creds-psk,id=t,endpoint=client,dir=$PWD/psk,username=alice
succeeds "convert over TLS" "$img" convert -n --object "$key" --target-image-opts -f raw base.raw "driver=raw,file.$(sed 's/,/,file./g' <<<"$node"),file.tls-creds=t"
succeeds "it is the same" "$img" compare --object "$key" --image-opts driver=raw,file.filename=base.raw "$node,tls-creds=t"
refused "No TLS credentials with id 't'" info --image-opts "$node,tls-creds=t"
refused "server" info "$uri"
refused "client endpoint" info --object "${key/client/server}" --image-opts "$node,tls-creds=t"
refused "only tls-creds-anon" info --object iothread,id=i "$uri"

# ---- no server ----
stop
refused "Connection refused" info "$uri"
finish
