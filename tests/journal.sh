#!/bin/bash
# A journal, a bus and a nexusd of their own: journal.sh NEXUSD FOLDER. A VM is created, started and killed, and what the
# journal has of it comes out as JSON, a line a record. To be run in a mount namespace of its own.
set -euo pipefail
nexusd=$1 folder=$2
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT

mkdir -p /run/systemd /run/log /var/log/journal
for place in /run/systemd /run/log /var/log/journal; do mount -t tmpfs nexus-test "$place"; done
mkdir -p /run/systemd/journal
/lib/systemd/systemd-journald &
export DBUS_SESSION_BUS_ADDRESS=unix:path=$folder/bus
dbus-daemon --session --nofork --nosyslog --address="$DBUS_SESSION_BUS_ADDRESS" 2>/dev/null &

mkdir -p "$folder"/{run,config/nexus}
printf 'vmm:\n  allow-process: true\n' >"$folder/config/nexus/nexus.yaml"
export XDG_RUNTIME_DIR=$folder/run XDG_CONFIG_HOME=$folder/config XDG_STATE_HOME=$folder/state XDG_DATA_HOME=$folder/data

# await COMMAND...: until it succeeds, a minute at most.
await() {
    local end=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { echo "in vain: $*" >&2; exit 1; }
        read -r -t 0.05 <> <(:) || true
    done
}
await test -S /run/systemd/journal/socket
await test -S "$folder/bus"

# systemd says in JOURNAL_STREAM which file standard error is.
: >"$folder/stderr"
JOURNAL_STREAM=$(stat -c %d:%i "$folder/stderr")
export JOURNAL_STREAM
"$nexusd" 2>>"$folder/stderr" &
manager=(org.workfort.Nexus1 /org/workfort/Nexus1 org.workfort.Nexus1.Manager)
vm=(org.workfort.Nexus1 /org/workfort/Nexus1/vm/web org.workfort.Nexus1.Vm)
await busctl --user get-property "${manager[@]}" State
busctl --user call "${manager[@]}" CreateVm 'sa{sv}' web 1 vmm s process >&2
busctl --user call "${manager[@]}" StartVm 'sa{sv}' web 0 >&2
guest_is_ready() { [ "$(busctl --user get-property "${vm[@]}" GuestReady)" = "b true" ]; }
await guest_is_ready
busctl --user call "${manager[@]}" KillVm s web >&2
busctl --user call "${manager[@]}" KillVm s nothing 2>/dev/null && exit 1
journalctl --sync
journalctl --no-pager --quiet --output=json NEXUS_VM=web
cat "$folder/stderr" >&2
