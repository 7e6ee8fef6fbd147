#!/usr/bin/env bash
# Makes an arm64 Debian root with its own sshd, Python, numpy and LiteRT, which qemu runs on this machine: a board's software without a board.
#   arm64_userland.sh [FOLDER]     FOLDER (default: .cache/arm64 of the project) then holds `root`, about 400 MB
# Nothing is done where FOLDER has the root that this script makes. Needs root; what is missing is installed.
# /sys and /proc are not mounted in it, on purpose: libraries that look at the processor there would find this machine's and crash.
# What they need to know is in plain files instead, as a Raspberry Pi 4's kernel says it: without them XNNPACK does not start.
set -euo pipefail

readonly suite=bookworm python=3.11
readonly needed=(mmdebstrap qemu-user-static debian-archive-keyring)
readonly packages=libc6,libgcc-s1,libstdc++6,python3.11-minimal,libpython3.11-stdlib,python3-minimal,bash,coreutils,util-linux,procps,dash,openssh-server,openssh-sftp-server
readonly wheels=(numpy ai-edge-litert)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$here/../.cache/arm64}
pip=${PYTHON:-python3}

fail() {
    echo "arm64_userland.sh: $1" >&2
    exit 1
}

install_missing() {
    local missing=()
    for package in "${needed[@]}"; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || {
        apt-get update --quiet=2 || true
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >/dev/null
    }
}

# Lets the kernel start arm64 programs by qemu. Flag F: the kernel opens qemu now, so that it works in any root.
register_arm64() {
    local binfmt=/proc/sys/fs/binfmt_misc
    [ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt || fail "this kernel has no binfmt_misc, which starts arm64 programs"
    if [ -e $binfmt/qemu-aarch64 ]; then
        grep -q '^flags:.*F' $binfmt/qemu-aarch64 && return
        echo -1 >$binfmt/qemu-aarch64
    fi
    local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    echo ":qemu-aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F" >$binfmt/register
}

describe_processor() {
    local root=$1 core
    mkdir -p "$root/sys/devices/system/cpu"
    for list in possible present; do echo 0-1 >"$root/sys/devices/system/cpu/$list"; done
    for core in 0 1; do
        printf '%s\n' "processor : $core" 'BogoMIPS : 108.00' 'Features : fp asimd evtstrm crc32 cpuid' 'CPU implementer : 0x41' \
            'CPU architecture: 8' 'CPU variant : 0x0' 'CPU part : 0xd08' 'CPU revision : 3' ''
    done >"$root/proc/cpuinfo"
    echo 'Model : Raspberry Pi 4 Model B Rev 1.4' >>"$root/proc/cpuinfo"
}

make_root() {
    local root=$1
    # extracted, not installed: maintainer scripts would run under qemu for minutes, and what they do for these packages is below
    mmdebstrap --quiet --architectures=arm64 --variant=extract --include="$packages" $suite "$root"
    mkdir -p "$root"/{root,tmp,dev,proc,run/sshd,etc/ssh,var/empty}
    chmod 1777 "$root/tmp"
    chmod 755 "$root"
    printf '%s\n' root:x:0:0:root:/root:/bin/bash sshd:x:100:65534::/run/sshd:/usr/sbin/nologin nobody:x:65534:65534::/:/usr/sbin/nologin >"$root/etc/passwd"
    printf '%s\n' root:x:0: nogroup:x:65534: >"$root/etc/group"
    printf '%s\n' 'root:*:19000:0:99999:7:::' 'sshd:!:19000::::::' >"$root/etc/shadow"
    [ -e "$root/bin/sh" ] || ln -s dash "$root/bin/sh"
    for node in "null 1 3" "zero 1 5" "random 1 8" "urandom 1 9"; do
        read -r name major minor <<<"$node"
        [ -e "$root/dev/$name" ] || mknod -m 666 "$root/dev/$name" c "$major" "$minor"
    done
    describe_processor "$root"
    local platforms=()
    for glibc in 36 35 34 31 28 27 26 17; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
    "$pip" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary=:all: --python-version "$python" --implementation cp \
        "${platforms[@]}" --platform manylinux2014_aarch64 --target "$root/usr/local/lib/python$python/dist-packages" "${wheels[@]}"
}

[ "$(id -u)" -eq 0 ] || fail "making a root for another machine, and starting its programs, needs to be done as root"
stamp=$(sha256sum "${BASH_SOURCE[0]}" | cut -d' ' -f1)
made=$folder/root
[ -e "$made/made-by" ] && [ "$(cat "$made/made-by")" = "$stamp" ] && [ -x "$(command -v qemu-aarch64-static)" ] && register_arm64 && exit 0
install_missing
register_arm64
rm -rf "$folder/root" "$folder/new"
mkdir -p "$folder"
make_root "$folder/new"
found=$(chroot "$folder/new" /usr/bin/python3 -c 'import platform, numpy; print(platform.machine())') || fail "the new root's Python does not start"
[ "$found" = aarch64 ] || fail "the new root's Python runs on $found; expected aarch64"
echo "$stamp" >"$folder/new/made-by"
mv "$folder/new" "$folder/root"
