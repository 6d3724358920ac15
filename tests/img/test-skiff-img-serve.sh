#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img serve with other programs as clients: nbdinfo, nbdcopy, qemu-img, qemu-io, nbdkit, fio; TLS; many
# clients at once.
# tier: unit
# timeout: 300
. "$(dirname "$0")/img.bash"
clients=$OLDPWD/tests/support/nbd_clients.py
for tool in nbdinfo nbdcopy nbdkit qemu-nbd qemu-io certtool psktool fio; do
    command -v $tool >/dev/null || { echo "$tool is missing"; exit 77; }
done
sock=$PWD/sock
uri="nbd+unix:///?socket=$sock"

# holds NAME COMMAND…: a function, too
holds() {
    local name=$1
    shift
    "$@"
    report $? "$name"
}

# serve ARGUMENT…: in the background, on $sock
serve() {
    "$img" serve --fork --pid-file "$PWD/pid" -k "$sock" "$@"
}
stop() {
    kill "$(cat pid)"
    while [ -e pid ]; do sleep 0.01; done
    [ ! -e "$sock" ]
}

qemu-img create -q -f qcow2 a.qcow2 64M
qemu-io -f qcow2 -c 'write -q -P 7 1M 3M' -c 'write -q -z 10M 1M' -c 'write -q -P 9 63M 64k' a.qcow2
qemu-img bitmap --add -g 64k a.qcow2 b0
qemu-io -f qcow2 -c 'write -q -P 8 20M 1M' a.qcow2
qemu-img convert -f qcow2 -O raw a.qcow2 a.raw

# ---- reading ----
holds "it begins in the background" serve -t -e 0 -r -f qcow2 -x disk -D "a text" -B b0 -A a.qcow2
uri_disk="nbd+unix:///disk?socket=$sock"
nbdinfo --list "$uri" >list
holds "nbdinfo lists the export" grep -q 'export="disk"' list
holds "with its description" grep -q 'description: a text' list
holds "and its contexts" test "$(grep -cE 'base:allocation|qemu:allocation-depth|qemu:dirty-bitmap:b0' list)" = 3
nbdcopy "$uri_disk" copy.raw
holds "nbdcopy copies it" cmp copy.raw a.raw
image="driver=nbd,server.type=unix,server.path=$sock,export=disk"
qemu-img convert -m 16 -W --image-opts "$image" -O raw copy2.raw
holds "qemu-img convert copies it" cmp copy2.raw a.raw
holds "qemu-img compare finds no difference" qemu-img compare -q --image-opts "$image" driver=raw,file.driver=file,file.filename=a.raw
map_of() { qemu-img map --output=json --image-opts "$1" | sed 's/, "depth.*"zero"/, "zero"/; s/, "offset": [0-9]*//; s/, "compressed": false//'; }
map_of "$image,x-dirty-bitmap=qemu:dirty-bitmap:b0" >ours
nbdkit -U - nbd socket="$sock" export=disk --run 'nbdcopy "$uri" proxied.raw'
holds "nbdkit's client copies it" cmp proxied.raw a.raw
holds "it ends by a signal" stop
qemu-nbd -r -t -f qcow2 -x disk -B b0 -k "$sock" --fork --pid-file="$PWD/pid" a.qcow2
map_of "$image,x-dirty-bitmap=qemu:dirty-bitmap:b0" >theirs
kill "$(cat pid)"
while [ -e "$sock" ]; do sleep 0.01; done
rm -f pid
holds "the bitmap is what qemu-nbd shows" cmp ours theirs

# ---- writing ----
truncate -s 16M w.raw
head -c 16777216 /dev/urandom >random.raw
serve -t -e 8 -f raw --discard=unmap w.raw
nbdcopy --connections=4 random.raw "$uri"
nbdcopy --flush random.raw "$uri"
holds "nbdcopy writes through several connections" cmp random.raw w.raw
holds "qemu-io writes, zeroes, discards and reads" qemu-io -f raw -c 'write -q -f -P 5 1M 64k' \
    -c 'write -q -z -u 2M 1M' -c 'discard -q 4M 1M' -c 'read -q -P 5 1M 64k' -c 'read -q -P 0 2M 1M' -c 'read -q -P 0 4M 1M' \
    -c flush "$uri"
fio --name=f --ioengine=nbd --uri="$uri" --rw=randrw --bs=4k --iodepth=32 --size=8M --verify=crc32c \
    --output=fio.log >/dev/null 2>&1
holds "fio verifies what it has written" grep -q 'err= 0' fio.log
holds "it ends" stop

# ---- many clients ----
serve -t -e 300 -r -f raw random.raw
holds "200 clients at once beside slow ones" "$clients" "$sock" random.raw 200
holds "it ends" stop

# ---- TLS ----
mkdir psk x509 other
psktool -u alice -p psk/keys.psk >/dev/null 2>&1
serve -t -e 0 -r -f raw --object "tls-creds-psk,id=t,endpoint=server,dir=$PWD/psk" --tls-creds t random.raw
size_of() { timeout 20 nbdinfo --size "$1"; }
holds "a client with a key is served" test "$(size_of "nbds+unix://alice@/?socket=$sock&tls-psk-file=$PWD/psk/keys.psk")" = 16777216
holds "a client without TLS is not" test -z "$(size_of "$uri" 2>/dev/null)"
psktool -u mallory -p other/keys.psk >/dev/null 2>&1
holds "nor one with another key" test -z "$(size_of "nbds+unix://mallory@/?socket=$sock&tls-psk-file=$PWD/other/keys.psk" 2>/dev/null)"
holds "it ends" stop

certificate() { # certificate DIR NAME CA_DIR TEMPLATE
    certtool --generate-privkey --key-type ecdsa --outfile "$1/$2-key.pem" 2>/dev/null
    printf 'cn=%s\n%s\n' "$2" "$4" >template
    if [ "$2" = ca ]; then
        certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template template --outfile "$1/ca-cert.pem" 2>/dev/null
    else
        certtool --generate-certificate --load-ca-certificate "$3/ca-cert.pem" --load-ca-privkey "$3/ca-key.pem" \
            --load-privkey "$1/$2-key.pem" --template template --outfile "$1/$2-cert.pem" 2>/dev/null
    fi
}
for dir in x509 other; do
    certificate $dir ca $dir $'ca\ncert_signing_key'
done
certificate x509 server x509 $'ip_address=127.0.0.1\ntls_www_server\nsigning_key'
certificate x509 client x509 $'tls_www_client\nsigning_key'
certificate other client other $'tls_www_client\nsigning_key'
cp x509/ca-cert.pem other/ca-of-server.pem
serve_tcp() { # serve_tcp ARGUMENT…: on $port
    local try
    for try in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 20000))
        "$img" serve --fork --pid-file "$PWD/pid" -b 127.0.0.1 -p $port -t -e 0 -r -f raw "$@" random.raw 2>/dev/null && return
    done
}
serve_tcp --object "tls-creds-x509,id=t,endpoint=server,dir=$PWD/x509" --tls-creds t
size_x509() { size_of "nbds://127.0.0.1:$port/?tls-certificates=$1"; }
holds "a client with a certificate is served" test "$(size_x509 "$PWD/x509")" = 16777216
cp other/ca-of-server.pem other/ca-cert.pem
holds "one of another CA is not" test -z "$(size_x509 "$PWD/other" 2>/dev/null)"
mkdir none && cp x509/ca-cert.pem none
holds "nor one without" test -z "$(size_x509 "$PWD/none" 2>/dev/null)"
qemu-img convert --object "tls-creds-x509,id=c,endpoint=client,dir=$PWD/x509" --image-opts \
    "driver=nbd,server.type=inet,server.host=127.0.0.1,server.port=$port,tls-creds=c" -O raw tls.raw
holds "qemu-img copies by TLS" cmp tls.raw random.raw
stop
serve_tcp --object "tls-creds-x509,id=t,endpoint=server,dir=$PWD/x509,verify-peer=off" --tls-creds t
holds "verify-peer=off accepts any client" test "$(size_x509 "$PWD/none")" = 16777216
stop

# ---- the end, and what is refused ----
"$img" serve -k "$sock" -f raw -r random.raw &
pid=$!
until [ -S "$sock" ]; do sleep 0.01; done
nbdinfo --size "$uri" >/dev/null
holds "it ends with its last client" wait $pid
refused "Could not open 'nothing'" serve --fork -k "$sock" nothing
refused "Invalid cache mode" serve -k "$sock" --cache=x a.raw
refused "No TLS credentials with id 'x'" serve -k "$sock" -f raw --tls-creds x a.raw
refused "only tls-creds-anon" serve -k "$sock" -f raw --object secret,id=x a.raw
refused "keys.psk" serve -k "$sock" -f raw --object tls-creds-psk,id=x,endpoint=server,dir=/nowhere a.raw
refused "exclude each other" serve -k "$sock" -p 1 a.raw
refused "Bitmap 'x' is not found" serve -k "$sock" -f qcow2 -r -B x a.qcow2
refused "Expecting one image file name" serve -k "$sock"
finish
