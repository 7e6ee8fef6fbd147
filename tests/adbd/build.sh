#!/usr/bin/env bash
# Builds Android's own adbd for this Linux machine from Debian's source package android-platform-tools, without a change to its sources.
#   build.sh [FOLDER]     FOLDER (default: .cache/adbd of the project) then holds `adbd`, which is about half a megabyte
# Nothing is done where FOLDER already has the adbd that this script builds. What is missing is installed where the user is root.
set -euo pipefail

readonly upstream=29.0.6
readonly packages=(clang dpkg-dev android-libboringssl-dev libcap-dev android-libbase-dev android-libcutils-dev android-liblog-dev)
readonly services=(adb mksh toybox iproute2 util-linux) # what the tests use besides: the second client, the userland, the namespaces
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$here/../../.cache/adbd}

fail() {
    echo "build.sh: $1" >&2
    exit 1
}

install_missing() {
    local missing=()
    for package in "${packages[@]}" "${services[@]}"; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || fail "adbd and its tests need packages that are missing; install them with: sudo apt-get install ${missing[*]}"
    apt-get update --quiet=2 || true
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >/dev/null
}

# Debian's sources, from the mirrors that this machine has its packages of, through lists of our own: the system's files stay as they are.
fetch_source() {
    local sources=$1
    mkdir -p "$sources/lists/partial" "$sources/cache/archives/partial"
    local signed=/usr/share/keyrings/debian-archive-keyring.gpg option=
    [ -r "$signed" ] && option="[signed-by=$signed]"
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
        sort --unique | sed "s|^|deb-src $option |" >"$sources/sources.list"
    [ -s "$sources/sources.list" ] || fail "no Debian mirror is known to apt-get; expected Debian 12, whose source package has adbd $upstream"
    local apt=(apt-get --quiet=2 -o "Dir::Etc::SourceList=$sources/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$sources/lists" -o "Dir::Cache=$sources/cache" -o "APT::Sandbox::User=$(id -un)")
    "${apt[@]}" update
    (cd "$sources" && "${apt[@]}" source android-platform-tools >/dev/null) || fail "apt-get source android-platform-tools failed"
    [ -d "$sources/android-platform-tools-$upstream" ] || fail "this Debian has $(cd "$sources" && ls -d android-platform-tools-*/); expected $upstream, of Debian 12"
}

# The daemon's 33 files. With the version texts in a header no word needs quoting twice.
compile() {
    local source=$1 objects=$2 adb=system/core/adb
    local files=(
        $adb/{adb,adb_io,adb_listeners,adb_trace,adb_unique_fd,adb_utils,services,sockets,socket_spec,transport,transport_fd}.cpp
        $adb/{transport_local,transport_usb,types,sysdeps_unix,shell_service_protocol}.cpp
        $adb/fdevent/{fdevent,fdevent_poll,fdevent_epoll}.cpp $adb/sysdeps/errno.cpp $adb/sysdeps/posix/network.cpp
        $adb/daemon/{auth,jdwp_service,usb_dummy,file_sync_service,services,shell_service,main}.cpp
        $adb/adbconnection/adbconnection_server.cpp frameworks/native/libs/adbd_auth/adbd_auth.cpp
        system/core/diagnose_usb/diagnose_usb.cpp system/core/libcrypto_utils/android_pubkey.c system/core/libasyncio/AsyncIO.cpp
    )
    local includes=(
        /usr/include/android $adb $adb/daemon/include $adb/adbconnection/include frameworks/native/libs/adbd_auth/include
        system/core/{include,base/include,libcrypto_utils/include,libcutils/include,diagnose_usb/include,libasyncio/include}
        system/core/{qemu_pipe,liblog}/include
    )
    mkdir -p "$objects"
    printf '#define ADB_VERSION "%s-debian"\n#define PLATFORM_TOOLS_VERSION "%s"\n' $upstream $upstream >"$objects/versions.h"
    # ALLOW_ADBD_NO_AUTH stays undefined: this daemon asks for keys.
    local flags=(-w -O2 -fPIC -D_GNU_SOURCE -DADB_HOST=0 -DALLOW_ADBD_ROOT=0 -DNDEBUG -include "$objects/versions.h" "${includes[@]/#/-I}")
    local library
    library=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)/android
    cd "$source"
    export flags_text="${flags[*]}" objects
    printf '%s\n' "${files[@]}" | xargs -P "${JOBS:-2}" -I{} bash -euc '
        case {} in
            *.c) clang $flags_text -c {} -o "$objects/$(echo {} | tr / _).o" ;;
            *) clang++ -std=gnu++2a -include atomic -include optional $flags_text -c {} -o "$objects/$(echo {} | tr / _).o" ;;
        esac' || fail "compiling adbd failed"
    clang++ -pie -o "$objects/adbd" "$objects"/*.o -L"$library" -Wl,-rpath="$library" -lbase -lcutils -llog -lcrypto -lcap -lresolv -lutil -lpthread
}

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
case $folder in *" "*) fail "the folder $folder has a space in its name; name another with build.sh FOLDER" ;; esac
install_missing
stamp=$(sha256sum "$here/build.sh" | cut -d' ' -f1)
if [ -x "$folder/adbd" ] && [ "$(cat "$folder/built-by" 2>/dev/null)" = "$stamp" ]; then
    echo "$folder/adbd"
    exit 0
fi
exec 9>"$folder/lock"
flock 9 # two sessions may want it at once
echo '*' >"$folder/.gitignore"
rm -rf "$folder/sources"
mkdir "$folder/sources"
trap 'rm -rf "$folder/sources"' EXIT
fetch_source "$folder/sources"
(compile "$folder/sources/android-platform-tools-$upstream" "$folder/sources/objects")
mv "$folder/sources/objects/adbd" "$folder/adbd"
echo "$stamp" >"$folder/built-by"
echo "$folder/adbd"
