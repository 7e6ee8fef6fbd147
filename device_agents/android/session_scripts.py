"""The scripts that begin, keep and end a session in a phone's shell; names in braces are filled in, quoted, by `session`."""

from __future__ import annotations

BUSY = 4  # exit code: somebody else measures

RESTORE = """cd {session} || exit 0
for folder in b*; do
    pid=; visit=; runner=
    {{ read -r pid <"$folder/pid"; }} 2>/dev/null
    [ -z "$pid" ] || kill -9 "-$pid" 2>/dev/null || kill -9 "$pid" 2>/dev/null
    {{ read -r visit runner rest <"$folder/now"; }} 2>/dev/null
    [ -z "$runner" ] || kill -9 "$runner" 2>/dev/null
done
{changes}
cd / && rm -rf {session}
"""
KEEPER = """cd {session} || exit 1
echo $$ >keeper
{up}
root={root}; misses=0
while sleep {every}; do
    seen=
    [ -f alive ] || break
    {{ read -r seen <alive; }} 2>/dev/null || {{ misses=$((misses + 1)); [ $misses -lt 3 ] && continue; break; }}
    misses=0; up
    [ $((${{up%%.*}} - ${{seen%%.*}})) -le {lease} ] || break
done
exec sh {restore}
"""
START_KEEPER = """cd {session} || exit 1
{up}
root={root}; keeper=
{{ read -r keeper <keeper; }} 2>/dev/null
[ -n "$keeper" ] && lives "$keeper" && exit 0
up; echo "$up" >alive
apart=setsid
command -v setsid >/dev/null 2>&1 || apart=nohup
$apart sh keeper.sh </dev/null >/dev/null 2>&1 &
echo $! >keeper
exit 0
"""
BEGIN = """{up}
mkdir -p {folder} || exit 1
if ! mkdir {session} 2>/dev/null; then
    [ -d {session} ] || exit 1
    owner=; keeper=
    {{ read -r owner <{session}/owner; read -r keeper <{session}/keeper; }} 2>/dev/null
    [ "$owner" = {owner} ] && exit 0
    if [ -n "$keeper" ] && lives "$keeper"; then echo "$owner"; exit {busy}; fi
    [ -f {restore} ] && sh {restore}
    rm -rf {session}; mkdir {session} || exit 1
fi
echo {owner} >{session}/owner
"""
END = """keeper=
{{ read -r keeper <{session}/keeper; }} 2>/dev/null
[ -z "$keeper" ] || kill -9 "-$keeper" 2>/dev/null || kill -9 "$keeper" 2>/dev/null
if [ -f {restore} ]; then sh {restore}; else rm -rf {session}; fi
[ ! -e {session} ]
"""
