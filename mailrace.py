"""Mailrace's front door: the command line. It builds settings -> pipeline -> console, and nothing else.

Exit codes: 0 fine; 1 failed while running; 2 wrong usage or configuration. Each mistake is one line on standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from settings import Settings

HELP = """\
Mailrace, an outbound mail transfer agent with a live web console.

  mailrace serve                  the server: console on www-port, SMTP on smtp-port
  mailrace demo                   the same with a simulated internet and traffic
  mailrace send [-f SENDER] [-t] [-i] [RECIPIENT ...]
                                  queue one message from standard input, as sendmail does
  mailrace queue [show|flush|purge|recover] [--yes]
                                  what waits; retry it now; throw it away; save what a damaged file holds
  mailrace logs [filters] [--follow] [--format table|json|csv|parquet]
                                  ask the delivery log; `mailrace logs --help` has the filters
  mailrace import mailerq --database URL [--dry-run]
                                  carry the rules of MailerQ's database over
  mailrace cluster [--format table|json]
                                  the instances that answer; also --list-cluster
  mailrace config                 the configuration in force, and where each value came from
  mailrace --version | --help

Each key of the configuration is an option, too: --www-port 8485 or --www-port=8485. Other places, the weakest first:
/etc/mailrace/config.txt, the file given with --config-file, the environment (MAILRACE_WWW_PORT).
"""
_OWN_HELP = ("queue", "logs")
LIST_CLUSTER = "--list-cluster"  # how MailerQ calls `cluster`


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    _keep_standard_descriptors()
    if argv is None:
        _speak_utf8()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None and Path(sys.argv[0]).name == "sendmail":  # linked there, to stand in for it
        arguments.insert(0, "send")
    if arguments[:1] in (["--help"], ["-h"], ["help"]) or ("--help" in arguments and arguments[0] not in _OWN_HELP):
        print(HELP, end="")
        return 0
    if arguments[:1] == ["--version"]:
        print(f"mailrace {_version()}")
        return 0
    serves = bool({"serve", "demo"} & set(arguments))
    if serves:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until `serve` has its handler: a rotation of logs ends nothing
    code = _guarded(arguments)
    if serves and argv is None:
        from pipeline.machine.garbage import end_at_once

        end_at_once(code)
    return code


def _speak_utf8() -> None:
    """Begin anew where texts would be read in another encoding by an odd locale: libraries read their own ones so."""
    import locale

    if not sys.flags.utf8_mode and locale.getencoding().lower() not in ("utf-8", "utf8"):
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - what was started


def _leave_what_is_gone() -> None:
    """Where the folder of the start was deleted, go on in `/`: libraries ask for it as they are imported."""
    try:
        Path.cwd()
    except FileNotFoundError:
        os.chdir("/")


def _keep_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, the queue's file could be opened as one, and be printed into."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest one that is free
    sys.stdin = sys.stdin or Path(os.devnull).open()  # noqa: SIM115 - Python has None for those
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115


def _version() -> str:
    import importlib.metadata  # 20 of the 80 ms that --help would take

    try:
        return importlib.metadata.version("mailrace")
    except importlib.metadata.PackageNotFoundError:
        return "(run from its folder, not installed)"


def _guarded(arguments: list[str]) -> int:
    from settings import ConfigurationErrors, StartError

    try:
        return _run(arguments)
    except ConfigurationErrors as error:
        return _complain(error.lines, 2)
    except StartError as error:
        return _complain([error.line], 1)
    except BrokenPipeError:  # `mailrace logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 1


def _run(arguments: list[str]) -> int:
    from settings import ConfigurationErrors, load, nearest, split

    arguments = ["cluster" if argument == LIST_CLUSTER else argument for argument in arguments]
    options, others = split(arguments, whole=False)
    command = others.pop(0) if others else ""
    if command not in COMMANDS:
        hidden = any(option.endswith("=") for option in options)  # `--www-password= x serve`: x may be a password
        word = "the word behind `=`" if hidden else repr(command.partition("=")[0][:60])
        near = f"{word}: no such command; the nearest is {'serve' if hidden else nearest(command, COMMANDS)}"
        there = f"There are {', '.join(COMMANDS)}; see mailrace --help"
        raise ConfigurationErrors([f"{near if command else 'no command'}. {there}"])
    act, own = COMMANDS[command]
    more, others = (others, []) if own is None else split(others, own)
    settings = load([*options, *more], os.environ)
    _leave_what_is_gone()  # only now: a path that is not whole must not be taken for one in `/`
    code = act(settings, others)
    sys.stdout.flush()
    return code


def _serve(settings: Settings, _: list[str]) -> int:
    return _with_console(settings)


def _demo(settings: Settings, _: list[str]) -> int:
    return _with_console(settings, demo=True)


def _with_console(settings: Settings, demo: bool = False) -> int:
    from gui.web.serve import Web  # these bring everything; `mailrace --help` need not wait for them
    from pipeline.commands.serve import run

    return _loop(run(_warned(settings), Web, demo))


def _send(settings: Settings, arguments: list[str]) -> int:
    from pipeline.commands.queue import send

    return send(settings, arguments, sys.stdin.buffer)


def _queue(settings: Settings, arguments: list[str]) -> int:
    from pipeline.commands.queue import queue

    return queue(settings, arguments)


def _logs(settings: Settings, arguments: list[str]) -> int:
    from pipeline.commands.folders import at
    from pipeline.commands.logs import logs

    return logs(at(settings, "logs") or settings, arguments)


def _import(settings: Settings, arguments: list[str]) -> int:
    from pipeline.commands.import_mailerq import import_rules

    return import_rules(settings, arguments)


def _cluster(settings: Settings, arguments: list[str]) -> int:
    from pipeline.commands.cluster import cluster

    return cluster(settings, arguments)


def _config(settings: Settings, _: list[str]) -> int:
    from settings import effective

    for key, value, origin in effective(_warned(settings)):
        print(f"{key + ':':<26} {value:<40}  # {origin}")
    return 0


def _warned(settings: Settings) -> Settings:
    for warning in settings.warnings:
        print(f"mailrace: warning: {warning}", file=sys.stderr)
    return settings


# The queue's threads wait for the interpreter this long at most while the loop is busy. Python's own 5 ms has them
# fall behind: 1,860 mails a second through the relay benchmark, against 2,440 with this (medians).
SWITCH = 0.0005  # seconds


def _loop(work: Coroutine[Any, Any, int]) -> int:
    import asyncio

    sys.setswitchinterval(SWITCH)
    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.run(work)
    return uvloop.run(work)


def _complain(lines: Sequence[str], code: int) -> int:
    for line in lines:
        print(f"mailrace: {line}", file=sys.stderr)
    return code


# What each does; and, where it has arguments of its own, those of them that are named like a key of the configuration.
COMMANDS: dict[str, tuple[Callable[[Settings, list[str]], int], tuple[str, ...] | None]] = {
    "serve": (_serve, None),
    "demo": (_demo, None),
    "send": (_send, ()),
    "queue": (_queue, ()),
    "logs": (_logs, ("user",)),
    "import": (_import, ("database",)),
    "cluster": (_cluster, ()),
    "config": (_config, None),
}

if __name__ == "__main__":
    sys.exit(main())
