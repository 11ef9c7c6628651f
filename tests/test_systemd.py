"""The units under a real systemd: what an operator's host does. One boot serves all of these, in their order."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runbook import code_lines, section, shell_lines, with_values
from syncd.config_file import load
from systemd_host import PROJECT, Host, boot, lacking
from world import Clock, World, row, rows

UNITS = "/usr/local/lib/systemd/system"
STATE = "/var/lib/syncd"
CHECKOUT = "/root/checkout"
EXPOSURE = 17
"""The most that systemd-analyze(1) may find, in tenths."""
EXAMPLE = (PROJECT / "systemd" / "examples" / "syncd.toml").read_text()
CONFIG = EXAMPLE.replace("https://feed.example.org/", "http://127.0.0.1:8480/") + 'interval = "1d"\n'
TOKEN = "partner-token-0123456789abcdef"
QUICK = """
[Service]
RestartSec=100ms
WatchdogSec=4
Environment=PYTHONPATH=/opt/hang
"""
HANG = """
import signal
import time


def hang(*_):
    while True:
        time.sleep(1)


def hang_the_loop(*_):
    import asyncio, gc

    for one in gc.get_objects():
        if isinstance(one, asyncio.AbstractEventLoop) and one.is_running():
            one.call_soon_threadsafe(hang)


signal.signal(signal.SIGUSR1, hang)
signal.signal(signal.SIGUSR2, hang_the_loop)
"""

ASK = """
import sys
import urllib.error
import urllib.request

request = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Bearer {sys.argv[2]}"})
try:
    with urllib.request.urlopen(request, timeout=20) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as answer:
    print(answer.code, answer.read().decode())
"""
SIGN_IN = """
import re
import sys
import urllib.parse
import urllib.request

url, token = sys.argv[1:]
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
form = re.search(r'name="form" value="([0-9a-f]+)"', browser.open(f"{url}/login").read().decode())[1]
fields = urllib.parse.urlencode({"form": form, "after": "/", "token": token}).encode()
request = urllib.request.Request(f"{url}/login", fields, {"Sec-Fetch-Site": "same-origin"})
print(browser.open(request).read().decode())
"""
PROBE = """
import ctypes
import json
import mmap
import os
import sys
from pathlib import Path

from syncd.kernel_clock import _Timex, kernel_clock


def try_to(what, act):
    try:
        return act()
    except OSError:
        denied.append(what)


def system_call(function, *arguments):
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "refused")


def can_write(folder):
    try:
        (Path(folder) / "probe").touch()
        (Path(folder) / "probe").unlink()
    except OSError:
        return False
    return True


libc = ctypes.CDLL(None, use_errno=True)
folders = ["/"]
for folder, below, _ in os.walk("/"):
    below[:] = [name for name in below if not os.path.islink(f"{folder}/{name}")]
    if folder in ("/proc", "/sys") or folder.count("/") > 3:
        below.clear()
    folders.extend(os.path.join(folder, name) for name in below)
denied = []
try_to("new code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC))
try_to("namespaces", lambda: system_call(libc.unshare, 0x10000000))
try_to("debugging", lambda: system_call(libc.ptrace, 0, 0, 0, 0))
try_to("host name", lambda: system_call(libc.sethostname, b"x", 1))
try_to("own priority up", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
clock = _Timex()
libc.adjtimex(ctypes.byref(clock))
clock.modes = 0x0010  # ADJ_STATUS: sets the status that was just read
try_to("the clock", lambda: system_call(libc.adjtimex, ctypes.byref(clock)))
status = dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\\t" in line)
json.dump(
    {
        "written": sorted(folder for folder in folders if can_write(folder)),
        "denied": denied,
        "capabilities": status["CapEff"],
        "kernel clock": kernel_clock().synchronised is not None,
        "seen": sorted({path.owner() for path in Path("/proc").glob("[0-9]*")}),
    },
    sys.stdout,
)
"""
PROBE_UNIT = """
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
StateDirectory=
StateDirectory=probe
RuntimeDirectory=
RuntimeDirectory=probe
ExecStart=
ExecStart=/opt/syncd/bin/python /opt/probe.py
StandardOutput=truncate:/run/probe.json
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A partner with one list; its folder is ``/run/host`` in the host."""
    folder = tmp_path_factory.mktemp("shared")
    folder.chmod(0o755)
    world = World(folder, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 30))
    return world


@pytest.fixture(scope="module")
def host(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A Debian host on which syncd was installed and set up as docs/install.md says."""
    scratch = tmp_path_factory.mktemp("scratch")
    reason = lacking(scratch)
    if reason:
        pytest.skip(f"no systemd can be booted here: {reason}")
    with boot(scratch, world.base) as host:
        install(host)
        set_up(host)
        yield host


def install(host: Host) -> None:
    """Units, users and folders: the lines of docs/install.md, in a checkout."""
    host.run("install", "-d", CHECKOUT)
    host.run("cp", "-r", "/srv/project/Makefile", "/srv/project/systemd", CHECKOUT)
    for line in shell_lines(section("Units, users, folders", "install.md")):
        walk(host, line)
    host.write("/etc/systemd/system/syncd.service.d/test.conf", QUICK)
    host.write("/opt/hang/sitecustomize.py", HANG)
    host.run("systemctl", "daemon-reload")


def set_up(host: Host) -> None:
    """An operator with keys in the hands of root: the lines of docs/install.md. Of two people, one may give orders."""
    host.run("useradd", "olga")
    host.run("useradd", "mallory")
    host.run("cp", "/run/host/partner/root.json", f"{CHECKOUT}/iwf-root.json")
    host.write(f"{CHECKOUT}/iwf.token", TOKEN)
    *lines, as_olga = shell_lines(section("First set-up", "install.md").partition("If a source is a folder")[0])
    assert as_olga == "syncd sync"  # no partner answers yet
    for line in lines:
        walk(host, line)
        if line.startswith("cp "):  # "enter the partner's address in it"
            assert host.run("cat", "/etc/syncd/syncd.toml").stdout == EXAMPLE
            host.write("/etc/syncd/syncd.toml", CONFIG)


def walk(host: Host, line: str) -> str:
    """Do a line of a guide, as root, in the checkout; return its output."""
    return host.run("/bin/sh", "-ec", f"cd {CHECKOUT}\n{line}").stdout


def operator(host: Host) -> str:
    """The operator's token."""
    return host.run("cat", "/etc/syncd/secrets/operator.token").stdout.strip()


def test_an_installation_can_be_staged_and_taken_away(tmp_path: Path) -> None:
    """Below DESTDIR, with paths for the prefix; nothing is left of it afterwards."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    make = ("make", "--silent", "-C", str(PROJECT), f"DESTDIR={tmp_path}", "prefix=/usr")
    subprocess.run([*make, "install"], check=True)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "usr/lib/systemd/system/syncd-feed@.service",
        "usr/lib/systemd/system/syncd-feed@.timer",
        "usr/lib/systemd/system/syncd-mirror@.service",
        "usr/lib/systemd/system/syncd-pull@.service",
        "usr/lib/systemd/system/syncd-sync.service",
        "usr/lib/systemd/system/syncd-sync.timer",
        "usr/lib/systemd/system/syncd.service",
        "usr/lib/sysusers.d/syncd.conf",
        "usr/lib/tmpfiles.d/syncd.conf",
        "usr/share/doc/syncd/feed.env",
        "usr/share/doc/syncd/mirror.env",
        "usr/share/doc/syncd/syncd.toml",
    ]
    starts = [line for path in tmp_path.rglob("*.service") for line in path.read_text().splitlines() if "Exec" in line]
    assert sum(line.startswith("ExecStart=/usr/bin/syncd ") for line in starts) == 5
    subprocess.run([*make, "uninstall"], check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_example_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be copied."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert load(PROJECT / "systemd" / "examples" / "syncd.toml").sources["iwf"].url == "https://feed.example.org/"


def sync(host: Host, user: str = "olga") -> "subprocess.CompletedProcess[str]":
    """Somebody forces a sync."""
    return host.run("syncd", "sync", "--json", user=user, check=False)


def ask(host: Host, path: str, token: str = "") -> tuple[int, str]:
    """Ask the API: status and body."""
    done = host.run("/opt/syncd/bin/python", "-c", ASK, f"http://127.0.0.1:8470{path}", token)
    status, _, body = done.stdout.partition(" ")
    return int(status), body


def main_pid(host: Host) -> int:
    """The daemon's."""
    return int(host.show("syncd", "MainPID"))


def started(host: Host) -> int:
    """The daemon, running; its process."""
    host.run("systemctl", "start", "syncd")
    return main_pid(host)


@pytest.mark.parametrize("unit", sorted((PROJECT / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_each_service_is_limited_in_memory_and_tasks(unit: Path) -> None:
    """What a bug can take from the host; and a crash writes no core, which would contain digests and secrets."""
    lines = unit.read_text().splitlines()
    assert {"MemoryMax", "TasksMax"} <= {line.partition("=")[0] for line in lines}
    assert "LimitCORE=0" in lines


def test_the_units_are_sound_and_shut_in(host: Host) -> None:
    """As installed: nothing that systemd does not understand, and hardly anything that they need not do."""
    units = host.run("find", UNITS, "-name", "syncd*").stdout.split()
    assert len(units) == 7
    verified = host.run("systemd-analyze", "verify", "--man=no", *units)
    assert (verified.stdout, verified.stderr) == ("", "")
    for unit in units:
        if unit.endswith(".service"):
            host.run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit)


def test_a_dead_partner_at_the_first_start_is_a_state(host: Host) -> None:
    """The daemon gets ready, says what it is about, and stays; a sync tells that nobody is there."""
    host.run("systemctl", "start", "syncd")
    assert ask(host, "/readyz")[0] == 200
    limit = host.run("sed", "-n", "s/^Max open files *//p", f"/proc/{main_pid(host)}/limits").stdout
    assert int(limit.split()[0]) > 4096
    assert host.show("syncd", "SubState") == "running"
    assert re.match(r"1 source; next sync \d\d:\d\d:\d\d UTC", host.show("syncd", "StatusText"))
    assert sync(host).returncode == 5
    assert (host.show("syncd", "ActiveState"), host.show("syncd", "NRestarts")) == ("active", "0")


def test_the_journal_is_filtered_by_priority(host: Host) -> None:
    """`-p warning` shows warnings and errors, of the daemon and of commands, and nothing below."""
    started(host)
    sync(host)  # the partner is still dead
    host.run("systemd-run", "--wait", "--unit=asked", "syncd", "sync", "unknown", check=False)
    host.run("journalctl", "--sync")

    def lines(unit: str, *priority: str) -> str:
        return host.run("journalctl", "-u", unit, *priority, "-o", "cat").stdout

    shown = lines("syncd", "-p", "warning")
    events = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    assert "warning" in {event["level"] for event in events} <= {"warning", "error"}
    assert {"sync_finished"} <= {event["event"] for event in events}
    assert '"event": "daemon_ready"' in lines("syncd")
    assert lines("asked", "-p", "warning").startswith("error: ")
    assert "Started asked.service" in lines("asked")


def test_a_sync_is_forced_through_the_socket_by_operators_alone(host: Host) -> None:
    """Key and token come as credentials: neither is anywhere that the daemon's user could read them on disk."""
    host.write("/run/host/token", TOKEN)
    with host.journal("partner") as journal:
        host.run(
            *("systemd-run", "--unit=partner", "--collect", "syncd", "feed", "serve", "/run/host/partner"),
            *("--listen", "127.0.0.1:8480", "--token-file", "/run/host/token"),
        )
        journal.until("serving")
    started(host)
    done = sync(host)
    assert json.loads(done.stdout)["syncs"][0]["outcome"] == "published", done.stdout
    assert sync(host, "mallory").returncode == 6
    assert host.run("ls", f"{STATE}/keys", check=False).returncode == 2
    assert host.run("cat", "/etc/syncd/secrets/iwf.token", user="syncd", check=False).returncode == 1


def test_members_of_the_group_ask_everything_and_nobody_else_does(host: Host) -> None:
    """Olga is neither root nor the owner of the state; the runbook's questions need no second user."""
    digest = f"sha256:{row(3)[1]}"
    newest = json.loads(host.run("syncd", "snapshots", "iwf.images", "--json", user="olga").stdout)
    versions = [str(one["version"]) for one in newest["snapshots"]]
    for question in (
        ("snapshots", "iwf.images"),
        ("diff", "iwf.images", versions[-1], versions[0]),
        ("verify",),
        ("explain", digest),
        ("lookup", digest),
        ("audit",),
        ("audit", "verify"),
        ("holds",),
        ("suppressions",),
        ("status",),
        ("matchers",),
    ):
        asked = host.run("syncd", *question, user="olga", check=False)
        assert asked.returncode == 0, (question, asked.stderr)
        refused = host.run("syncd", *question, user="mallory", check=False)
        assert (refused.returncode, refused.stdout) == (6, ""), question
        assert "only members of the group syncd-operators may " in refused.stderr
    assert host.run("cat", f"{STATE}/catalog.sqlite3", user="olga", check=False).returncode == 1


def test_the_owner_of_the_token_signs_in_to_the_dashboard(host: Host) -> None:
    """It is a credential: root reads it as docs/install.md says, and the daemon's user cannot read it on disk."""
    started(host)
    (read,) = re.findall(r"root reads by\n`(cat [^`]+)`", section("First set-up", "install.md"))
    token = walk(host, read).strip()
    assert host.run(*read.split(), user="syncd", check=False).returncode == 1
    sign_in = ("/opt/syncd/bin/python", "-c", SIGN_IN, "http://127.0.0.1:8470")
    with host.journal("syncd") as journal:
        page = host.run(*sign_in, token).stdout
        assert journal.event("dashboard_signed_in")["operator"] == "operator"
    assert ("iwf.images" in page, "Sign out" in page) == (True, True)
    refused = host.run(*sign_in, "f" * 64, check=False)
    assert ("HTTP Error 403" in refused.stderr, "iwf.images" in refused.stdout) == (True, False)


def test_the_state_is_closed_to_all_but_its_group(host: Host) -> None:
    """What is published is for the group to read; catalog, locks and what was seen of partners for the daemon alone."""
    find = "find {} {} -not -type l -printf '%y %m %u:%g\\n' | sort -u"
    published = host.run("/bin/sh", "-ec", find.format(f"{STATE}/feed", "-not -path '*/.work/*'")).stdout
    assert published.splitlines() == ["d 750 syncd:syncd", "f 640 syncd:syncd"]
    others = "-type f -not -path '*/v1/*' -not -path '*/feed/*' -not -path '*/history/*/segments/*'"
    private = host.run("/bin/sh", "-ec", find.format(STATE, others)).stdout
    assert private.splitlines() == ["f 600 syncd:syncd"]
    history = host.run("/bin/sh", "-ec", find.format(STATE, "-type d -path '*/history*'")).stdout
    assert {*history.splitlines()} <= {"d 700 syncd:syncd"}, "its segments are links to those of feed and source"
    open_to_others = host.run("find", STATE, "-not", "-type", "l", "-perm", "/0027").stdout
    assert open_to_others == ""
    assert host.run("stat", "-c", "%a %U:%G", "/run/syncd", "/run/syncd/control.sock").stdout.splitlines() == [
        "711 syncd:syncd",
        "660 syncd:syncd-operators",
    ]


def test_nothing_can_be_written_but_the_state(host: Host) -> None:
    """Not even by root, once shut in as the daemon is; no new code, namespace or time, and no others' processes."""
    host.write("/opt/probe.py", PROBE)
    host.run("cp", f"{UNITS}/syncd.service", "/run/systemd/system/probe.service")
    host.write("/run/systemd/system/probe.service.d/probe.conf", PROBE_UNIT)
    host.run("systemctl", "daemon-reload")
    for user in ("root", "syncd"):
        host.write("/run/systemd/system/probe.service.d/user.conf", f"[Service]\nUser={user}\nGroup={user}\n")
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "start", "probe")
        found = json.loads(host.run("cat", "/run/probe.json").stdout)
        assert found["written"] == ["/run/probe", "/tmp", "/var/lib/probe", "/var/tmp"]  # /tmp: of its own
        assert found["capabilities"] == "0000000000000000"
        assert found["denied"] == ["new code", "namespaces", "debugging", "host name", "own priority up", "the clock"]
        assert found["kernel clock"], "the daemon may ask whether the clock is synchronised"
    assert found["seen"] == ["syncd"]


def test_a_check_by_hand_passes_in_the_documented_layout(host: Host) -> None:
    """It names what only the service has; with the credentials, as the hint says, it checks everything."""
    by_hand = host.run("syncd", "run", "--check", user="syncd")
    assert "not checked, since only the service has these credentials: sources.iwf.token_file" in by_hand.stderr
    command = by_hand.stderr.partition("to check them too: ")[2].split()
    whole = host.run(*command)
    assert ("iwf" in whole.stdout, "credentials" in whole.stderr) == (True, False)


def test_a_changed_configuration_is_in_force_after_reload(host: Host) -> None:
    """The same process goes on by the new one; a wrong one changes nothing and the unit stays up."""
    pid = started(host)
    with host.journal("syncd") as journal:
        host.write("/etc/syncd/syncd.toml", CONFIG.replace('"1d"', '"2d"'))
        host.run("systemctl", "reload", "syncd")
        assert journal.event("config_reloaded")["changed"] == ["iwf.interval"]
        host.write("/etc/syncd/syncd.toml", CONFIG.replace("interval", "intervall"))
        host.run("systemctl", "reload", "syncd")
        assert "unknown key" in journal.event("config_rejected")["message"]
        forced = sync(host)
        assert (forced.returncode, "the configuration on disk is refused" in forced.stderr) == (0, True)
        host.run("journalctl", "--sync")
        severe = host.run("journalctl", "-u", "syncd", "-p", "err", "-o", "cat")
        assert ("config_rejected" in severe.stdout, "config_reloaded" in severe.stdout) == (True, False)
        host.write("/etc/syncd/syncd.toml", CONFIG)
        host.run("systemctl", "reload", "syncd")
        journal.event("config_reloaded")
    assert main_pid(host) == pid
    assert host.show("syncd", "ActiveState") == "active"


def test_a_killed_daemon_comes_back(host: Host) -> None:
    """By itself, with its state, and answers."""
    pid = started(host)
    with host.journal("syncd") as journal:
        host.run("kill", "-KILL", pid)
        journal.event("daemon_ready")
    assert main_pid(host) not in {0, pid}
    assert ask(host, "/readyz")[0] == 200
    assert json.loads(sync(host).stdout)["syncs"][0]["outcome"] == "up_to_date"


@pytest.mark.parametrize("number", ["-USR1", "-USR2"], ids=["daemon", "event loop"])
def test_what_hangs_is_ended_by_the_watchdog_and_comes_back(host: Host, number: str) -> None:
    """The daemon, or the event loop of its API alone; it says where, since nobody could look; then it serves again."""
    pid = started(host)
    with host.journal("syncd") as journal:
        host.run("kill", number, pid)
        journal.until("Watchdog timeout")
        assert journal.until("in hang") == '  File "/opt/hang/sitecustomize.py", line 8 in hang'
        journal.event("daemon_ready")
    assert main_pid(host) not in {0, pid}
    assert ask(host, "/readyz")[0] == 200
    assert ask(host, "/api/v1/status", operator(host))[0] == 200


def test_a_stop_is_clean(host: Host) -> None:
    """Told by its last event and by its exit status; the socket is gone, the state stays."""
    started(host)
    with host.journal("syncd") as journal:
        host.run("systemctl", "stop", "syncd")
        assert journal.event("daemon_stopped")["unfinished"] == []
    assert (host.show("syncd", "Result"), host.show("syncd", "ExecMainStatus")) == ("success", "0")
    assert host.run("ls", "/run/syncd", check=False).returncode == 2
    assert host.run("syncd", "verify", user="syncd").returncode == 0


def test_damage_is_served_on_and_told(host: Host) -> None:
    """What is stored is proved before the service is ready; what is wrong with it is in its status and its log."""
    host.run("systemctl", "stop", "syncd")
    host.run("mv", f"{STATE}/feed/v1", f"{STATE}/aside")
    with host.journal("syncd") as journal:
        host.run("systemctl", "start", "syncd")
        assert journal.event("state_not_proved")["list"] == "iwf.images"
    assert host.show("syncd", "StatusText").startswith("not proved: iwf.images; 1 source;")
    assert ask(host, "/readyz")[0] == 503
    host.run("systemctl", "stop", "syncd")
    host.run("mkdir", "-p", f"{STATE}/feed/v1")  # a sync may have begun to mend it
    host.run("cp", "-a", f"{STATE}/aside/.", f"{STATE}/feed/v1/")
    host.run("rm", "-r", f"{STATE}/aside")


def test_a_wrong_configuration_is_no_restart_loop(host: Host) -> None:
    """It fails once, and the journal says what to do."""
    host.run("systemctl", "stop", "syncd")
    host.write("/etc/syncd/syncd.toml", CONFIG.replace("interval", "intervall"))
    try:
        with host.journal("syncd") as journal:
            assert host.run("systemctl", "start", "syncd", check=False).returncode == 1
            journal.until("did you mean interval?")
        assert (host.show("syncd", "SubState"), host.show("syncd", "NRestarts")) == ("failed", "0")
    finally:
        host.write("/etc/syncd/syncd.toml", CONFIG)


def test_a_timer_does_the_same_without_the_daemon(host: Host) -> None:
    """The one-shot unit syncs with the same credentials; so does what an operator runs as docs/install.md says."""
    host.run("systemctl", "stop", "syncd")
    host.run("systemctl", "start", "syncd-sync")
    assert host.show("syncd-sync", "Result") == "success"
    found = re.search(r"^systemd-run .*\\\n.*$", (PROJECT / "docs" / "install.md").read_text(), re.M)
    assert found
    assert "iwf.images version 5001 published" in host.run("/bin/sh", "-c", found[0]).stdout


def test_a_key_that_is_a_credential_is_rotated(host: Host) -> None:
    """Line by line as docs/install.md has it; the service starts with the new key, and signs with it."""
    started(host)
    text = section("Credentials", "install.md")
    lines = code_lines(text)
    values = {"OLD": "timestamp.pem", "ROLE": "timestamp", "R": "yearly"}
    for line in lines[lines.index("systemctl stop syncd") : lines.index("systemctl start syncd") + 1]:
        walk(host, with_values(line, values))
    assert ask(host, "/readyz")[0] == 200
    assert sync(host).returncode == 0
    keys = host.run("find", "/etc/syncd/keys", "/run/rotate", STATE, "-name", "*.pem", check=False).stdout.split()
    assert sorted(keys) == [f"/etc/syncd/keys/{name}.pem" for name in ("lists", "snapshot", "timestamp-1")]
    assert host.run("stat", "-c", "%a %U", *keys).stdout.split("\n")[:-1] == ["600 root"] * 3


def test_a_lost_state_is_restored(host: Host) -> None:
    """The first line of the section by root, the others by the daemon's user; what signs gets the credentials."""
    started(host)
    file, text = "/var/tmp/backup.tar", section("Backup and restore")
    host.run("syncd", "backup", file, user="syncd")
    host.run("systemctl", "stop", "syncd")
    host.run("mv", STATE, "/var/lib/lost")
    signing = re.search(r"^systemd-run .*\\\n.* (?=syncd recover)", section("Credentials", "install.md"), re.M)
    assert signing
    for number, line in enumerate(code_lines(text)):
        command = with_values(line, {"FILE": file, "N": 9000})
        if "recover" in line or "sync" in line.split()[1]:
            host.run("/bin/sh", "-ec", signing[0] + command)
        else:
            host.run("/bin/sh", "-ec", command, user="root" if number == 0 else "syncd")
    host.run("rmdir", f"{STATE}/keys")
    started(host)
    assert ask(host, "/readyz")[0] == 200
    assert sync(host).returncode == 0
    assert host.run("syncd", "verify", user="syncd").returncode == 0


def test_a_matcher_host_follows_a_feed(host: Host) -> None:
    """The lines of docs/install.md, by a token of its own; the copy is for those in the group, and for nobody else."""
    started(host)
    digest = f"sha256:{row(7)[1]}"
    text = (PROJECT / "docs" / "install.md").read_text().partition("## A matcher host")[2].partition("\n## ")[0]
    (at_operator,) = re.findall(r"^# at the operator: (.*)$", text, re.M)
    host.run("runuser", "-u", "olga", "--", *at_operator.replace("operator.token", "/tmp/operator.token").split())
    host.run("mv", "/tmp/operator.token", f"{CHECKOUT}/operator.token")
    host.run("cp", f"{STATE}/feed/root.json", f"{CHECKOUT}/operator-root.json")
    copy, unit = "/var/lib/syncd-pull/operator", "syncd-pull@operator"
    with host.journal(unit) as journal:
        for line in shell_lines(text):
            walk(host, line)
            if "feed.env" in line:  # "enter the feed's address in it"
                host.write("/etc/syncd/pull/operator/feed.env", "URL=http://127.0.0.1:8470/feed/\n")
        assert ", new here" in journal.until("iwf.images version")
    assert host.run("stat", "-c", "%a %U:%G", copy).stdout == "750 syncd-pull:syncd-pull\n"
    (group,) = re.findall(r"`(SupplementaryGroups=[^`]+)` in their units", text)
    host.run("useradd", "matcher")
    as_service = ("systemd-run", "--quiet", "--pipe", "--wait", "-p", "User=matcher", "-p", group)
    assert "MATCH iwf.images" in host.run(*as_service, "syncd", "lookup", copy, digest).stdout
    assert host.run("ls", copy, user="matcher", check=False).returncode == 2
    assert host.run("systemctl", "is-enabled", unit).stdout == "enabled\n"
    host.run("systemctl", "stop", unit)
    assert host.show(unit, "Result") == "success"


def test_a_web_server_serves_the_feed_as_a_member_of_the_group(host: Host) -> None:
    """The line of docs/install.md; it reads the feed, and neither catalog nor locks."""
    started(host)
    (line,) = re.findall(r"`(usermod [^`]+)`", section("A web server", "install.md"))
    assert host.run("cat", f"{STATE}/feed/root.json", user="www-data", check=False).returncode == 1
    walk(host, line)
    served = host.run("find", f"{STATE}/feed", "-type", "f", "-not", "-path", "*/.*").stdout.split()
    assert any(file.endswith(".arrow") for file in served)
    host.run("cksum", *served, user="www-data")
    private = (f"{STATE}/catalog.sqlite3", f"{STATE}/feed/.work/lock", "/etc/syncd/keys/lists.pem")
    for file in private:
        assert host.run("ls", file, check=False).returncode == 0, file
        assert host.run("cat", file, user="www-data", check=False).returncode == 1


def test_a_mirror_follows_the_daemon(host: Host) -> None:
    """The lines of docs/install.md; a matcher reads there with the token that the daemon gave it."""
    started(host)
    host.run("syncd", "matchers", "add", "eu-1", "--mirror", "--token-file", "/tmp/mirror.token", user="olga")
    host.run("mv", "/tmp/mirror.token", f"{CHECKOUT}/mirror.token")
    host.run("cp", f"{STATE}/feed/root.json", f"{CHECKOUT}/operator-root.json")
    matcher = host.run("syncd", "matchers", "add", "near", user="olga").stdout.strip()
    *lines, enable = shell_lines(section("A mirror's host", "install.md"))
    for line in lines:
        walk(host, line)
    env = "URL=http://127.0.0.1:8470/feed/\nLISTEN=127.0.0.1:8490\nOPTIONS=\n"
    host.write("/etc/syncd/mirror/operator/mirror.env", env)  # "enter addresses and options in it"
    with host.journal("syncd-mirror@operator") as journal:
        walk(host, enable)
        journal.until("mirroring")
    asked = host.run("/opt/syncd/bin/python", "-c", ASK, "http://127.0.0.1:8490/feed/metadata/timestamp.json", matcher)
    assert asked.stdout.startswith("200 ")
    folder = "/var/lib/syncd-mirror/operator"
    assert host.run("stat", "-c", "%a %U:%G", folder).stdout == "750 syncd-mirror:syncd-mirror\n"
    host.run("systemctl", "stop", "syncd-mirror@operator")
    assert host.show("syncd-mirror@operator", "Result") == "success"


def test_the_second_upgrade_works_as_the_first(host: Host) -> None:
    """Line by line as docs/install.md has it; only the registry cannot be reached here."""
    started(host)
    lines = shell_lines(section("Upgrading", "install.md"))
    assert lines[2] == "/opt/syncd/bin/pip install --upgrade '.[daemon]'"
    before = host.run("ls", CHECKOUT).stdout
    for _ in range(2):
        pid = main_pid(host)
        host.run("install", "-D", "/dev/null", f"{CHECKOUT}/build/lib/syncd/gone.py")
        for line in lines[:2] + lines[3:]:
            walk(host, line)
        assert main_pid(host) not in {0, pid}
        assert ask(host, "/readyz")[0] == 200
        assert host.run("ls", CHECKOUT).stdout == before
    backups = host.run("/bin/sh", "-ec", f"ls {STATE}/upgrade-*.tar; rm {STATE}/upgrade-*.tar").stdout
    assert len(backups.split()) == 2


def test_a_partners_timer_signs_again(host: Host) -> None:
    """The commands of docs/install.md, as they are; the group can then read the feed, and no key."""
    guide = (PROJECT / "docs" / "install.md").read_text().partition("## A partner's host")[2]
    commands = guide.partition("```sh\n")[2].partition("```")[0]
    host.write("/srv/export/images.csv", f"algorithm,digest\nmd5,{'0' * 31}5\n")
    host.run("/bin/sh", "-ec", commands)
    feed = "/var/lib/syncd-feed/images/feed"
    before = host.run("cat", f"{feed}/metadata/timestamp.json").stdout
    host.run("systemctl", "start", "syncd-feed@images.service")
    assert host.show("syncd-feed@images.service", "Result") == "success"
    assert host.run("systemctl", "is-active", "syncd-feed@images.timer").stdout == "active\n"
    host.run("useradd", "--groups", "syncd-feed", "web")
    after = host.run("cat", f"{feed}/metadata/timestamp.json", user="web").stdout
    assert after != before
    assert host.run("cat", "/var/lib/syncd-feed/images/keys/timestamp.pem", user="web", check=False).returncode == 1
