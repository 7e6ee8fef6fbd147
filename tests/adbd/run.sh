#!/usr/bin/env bash
# Runs a real adbd as a phone has it: alone in namespaces of its own, as the user `shell` (2000), with Android's shell and tools and nothing else.
#   run.sh ADBD FOLDER INTERFACE HOST_ADDRESS DEVICE_ADDRESS PORT DISK_MB
# FOLDER/system and FOLDER/sys, which live on while it runs, become /system and /sys of the device; FOLDER/root is its root folder, seen through
# /proc/PID/root, PID being this process's one child. The daemon is started again whenever it dies. All of it ends with the caller. Needs root.
set -euo pipefail

if [ "${1-}" != --inside ]; then
    exec setpriv --pdeathsig KILL unshare --net --mount --propagation private bash "${BASH_SOURCE[0]}" --inside $PPID "$@"
fi

shift
caller=$1 adbd=$2 folder=$3 interface=$4 host=$5 device=$6 port=$7 disk_mb=$8
if [ "${9-}" != --init ]; then
    ip link set lo up
    ip link add eth0 type veth peer name "$interface" netns "$caller"
    ip addr add "$device/30" dev eth0
    ip link set eth0 up
    nsenter --target "$caller" --net ip addr add "$host/30" dev "$interface"
    nsenter --target "$caller" --net ip link set "$interface" up
    exec setpriv --pdeathsig KILL unshare --pid --fork --kill-child bash "${BASH_SOURCE[0]}" --inside "$@" --init
fi

# From here on this is the device's init: it mounts, starts the daemon again and again, and collects the processes that others left behind.
root=$folder/root
mount -t tmpfs -o size=16m,mode=755 tmpfs "$root"
cd "$root"
mkdir -p system data/misc/adb data/local/tmp proc sys dev etc usr/lib sbin
mount --bind -o ro "$folder/system" system
mount --rbind "$folder/sys" sys
mount -t proc proc proc
mount -t tmpfs -o "size=${disk_mb}m,mode=771,uid=2000,gid=2000" tmpfs data/local/tmp
for name in null zero full random urandom tty; do
    touch "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
# The libraries that Debian's mksh, toybox and the daemon itself are linked with.
mount --bind -o ro /usr/lib usr/lib
for name in lib lib64; do
    if [ -L "/$name" ]; then
        ln -s "$(readlink "/$name")" "$name"
        [ -d "$name" ] || { mkdir -p "usr/$name" && mount --bind "/usr/$name" "usr/$name"; }
    elif [ -d "/$name" ]; then
        mkdir "$name"
        mount --bind -o ro "/$name" "$name"
    fi
done
ln -s system/bin bin
echo 'root::0:0::/:/system/bin/sh
shell::2000:2000::/:/system/bin/sh' >etc/passwd
echo 'root::0:
shell::2000:
inet::3003:' >etc/group
touch sbin/adbd
mount --bind "$adbd" sbin/adbd
cp "$folder/adb_keys" data/misc/adb/adb_keys
chmod 644 data/misc/adb/adb_keys
touch ready
while :; do
    env -i "ADBD_PORT=$port" PATH=/system/bin HOME=/ ANDROID_DATA=/data ANDROID_ROOT=/system TMPDIR=/data/local/tmp \
        /usr/sbin/chroot --userspec=2000:2000 --groups=2000,3003 "$root" /sbin/adbd </dev/null >>"$folder/adbd.log" 2>&1 &
    wait $! || true
    sleep 0.1
done
