#!/bin/bash
# A journal, a bus and a nexusd of their own: journal.sh NEXUSD FOLDER life|end|lies. What the journal has of that nexusd comes
# out as JSON, a line a record. To be run in namespaces of its own for mounts and processes: what it starts ends with it.
#   life  a VM is created, started, killed and started again; its VMM crashes and comes back; its actor is restarted
#   end   nexusd finds that the VM crashed once more, and is asked for a change of a setting
#   lies  a VM is started; somebody takes the guest's place, at the socket that FOLDER/vsock names, and makes FOLDER/lies;
#         its control connection is closed, so that the next one is the liar's
set -euo pipefail
nexusd=$1 folder=$2 part=$3
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT

mkdir -p /run/systemd /run/log /var/log/journal
for place in /run/systemd /run/log /var/log/journal; do mount -t tmpfs nexus-test "$place"; done
mkdir -p /run/systemd/journal
/lib/systemd/systemd-journald &
export DBUS_SESSION_BUS_ADDRESS=unix:path=$folder/bus
rm -f "$folder/bus"
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
pid=$!
manager=(org.workfort.Nexus1 /org/workfort/Nexus1 org.workfort.Nexus1.Manager)
vm=(org.workfort.Nexus1 /org/workfort/Nexus1/vm/web org.workfort.Nexus1.Vm)
actor=("${vm[@]:0:2}" org.workfort.Nexus1.Supervised)
connection=("${vm[0]}" "${vm[1]}/connection/1" org.workfort.Nexus1.Connection)
is() { [ "$(busctl --user get-property "${vm[@]}" "$1")" = "$2" ]; }
leader() { busctl --user get-property "${vm[@]}" Leader | cut -d ' ' -f 2; }
has_another_leader() { [ "$(leader)" != 0 ] && [ "$(leader)" != "$1" ]; }
await busctl --user get-property "${manager[@]}" State

case $part in
life)
    busctl --user call "${manager[@]}" CreateVm 'sa{sv}' web 2 vmm s process env 'a{ss}' 1 TOKEN hunter2-hunter2 >&2
    busctl --user call "${manager[@]}" StartVm 'sa{sv}' web 0 >&2
    await is GuestReady 'b true'
    busctl --user call "${manager[@]}" KillVm s web >&2
    busctl --user call "${manager[@]}" KillVm s nothing 2>/dev/null && exit 1
    busctl --user call "${vm[@]}" Start 'a{sv}' 1 reason s 'to see it crash' >&2
    await is GuestReady 'b true'
    crashed=$(leader)
    kill -KILL "$crashed"
    await has_another_leader "$crashed"
    await is State 's "running"'
    busctl --user call "${actor[@]}" RestartActor 'a{sv}' 1 reason s 'to see it come back' >&2
    ;;
end)
    await is State 's "failed"'
    busctl --user set-property "${vm[@]}" Autostart b true
    ;;
lies)
    busctl --user call "${manager[@]}" CreateVm 'sa{sv}' web 1 vmm s process >&2
    busctl --user call "${manager[@]}" StartVm 'sa{sv}' web 0 >&2
    await is GuestReady 'b true'
    busctl --user get-property "${vm[@]}" VsockPath | cut -d '"' -f 2 >"$folder/asked"
    mv "$folder/asked" "$folder/vsock"
    await test -e "$folder/lies"
    busctl --user call "${connection[@]}" Close >&2
    has_heard() { journalctl --sync && journalctl --quiet "_PID=$pid" | grep owned; }
    await has_heard
    busctl --user call "${vm[@]:0:2}" org.workfort.Nexus1.Guest Run 'asa{sv}' 1 true 0 2>/dev/null && exit 1
    ;;
esac
journalctl --sync
journalctl --no-pager --quiet --all --output=json "_PID=$pid"
cat "$folder/stderr" >&2
