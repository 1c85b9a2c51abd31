"""MailerQ's keys that Mailrace does not have under the same name, so that a configuration written for MailerQ loads.

Collected from MailerQ's documentation, versions 3.0 to 5.15. What has no effect gives one warning. What decides where
mail goes, or whether it goes, is made to work (`broker`), or refused (`REFUSED`): never a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from settings.config.sources import Given, SourceNotes

_NAMES = """
cache-dimensions cache-size cluster-host cluster-password cluster-user cluster-vhost daemon database-threads
database-validate disable-crash-post disable-crash-report dns-buffersize dns-capacity dns-expire dns-force
dns-getaddrinfo dns-helofile dns-interval dns-rotate dns-sockets dns-spread dns-threads download-bin-log-file
download-cache download-log-compression download-log-directory download-log-file download-log-format
download-log-history download-log-maxage download-log-maxsize download-log-prefix dsn-envelope dsn-mta
error-exchange error-routingkey heartbeat heartbeat-enabled heartbeat-ip heartbeat-period heartbeat-port
license loopback max-messages rabbitmq-consumers rabbitmq-flush-qos rabbitmq-lazy rabbitmq-messages
rabbitmq-minqos rabbitmq-mirror rabbitmq-mirror-expire rabbitmq-publishers rabbitmq-threads rabbitmq-throttle
received-bin-log-file received-log-compression received-log-history received-log-maxage received-log-maxsize
render-useragent send-bin-log-directory send-bin-log-file send-bin-log-history send-bin-log-maxage
send-bin-log-maxsize send-bin-log-prefix send-log-compression send-log-maxage smtp-auth-results
smtp-authentication-results smtp-check smtp-check-dkim smtp-check-dmarc smtp-check-spf smtp-protection
smtp-threads smtp-validate-address spamassassin-host spamassassin-port spool-open-files spool-threads
storage-policy storage-threads storage-ttl temporary-declare temporary-durable temporary-exchange
temporary-type www-bin-log-file www-cache-control www-connections
www-host www-log-compression www-log-directory www-log-file www-log-format www-log-history www-log-maxage
www-log-maxsize www-log-prefix
"""

KEYS = frozenset(_NAMES.split())

LOGS = ("send-log-directory", "send-log-prefix", "received-log-directory", "received-log-prefix",
        "error-log", "error-log-directory", "error-log-prefix")  # fmt: skip
BROKER = ("rabbitmq-host", "rabbitmq-user", "rabbitmq-password", "rabbitmq-vhost")
_DATABASE = "write it as database-address: mysql://user:password@host/name, postgresql://... or sqlite:///file"
REFUSED = {
    "plugin-directory": "plugins of MailerQ cannot be loaded; `operators` has custom operators",
    **dict.fromkeys(
        ("database-engine", "database-host", "database-name", "database-password", "database-user"), _DATABASE
    ),
}


def broker(given: Sequence[Given], notes: SourceNotes) -> Sequence[Given]:
    """`rabbitmq-address`, of the keys that have its parts; nothing where there are none of them.

    Args:
        given: everything that was given, the weakest first.
        notes: gets a mistake where the parts cannot be used.
    """
    found = {one.key: one for one in given if one.text}
    parts = [found[name] for name in BROKER if name in found]
    if not parts:
        return ()
    first = parts[0]
    if "rabbitmq-address" in found:
        notes.mistakes.append(f"{first.key} ({first.origin}): cannot be used together with rabbitmq-address")
    elif first.key != BROKER[0]:
        notes.mistakes.append(f"{first.key} ({first.origin}): needs rabbitmq-host as well, or write rabbitmq-address")
    else:
        user, password, vhost = (found[name].text if name in found else None for name in BROKER[1:])
        login = f"{quote(user or 'guest', safe='')}:{quote(password or 'guest', safe='')}"
        return [
            first._replace(key="rabbitmq-address", text=f"amqp://{login}@{first.text}/{quote(vhost or '/', safe='')}")
        ]
    return ()


def logs(given: Sequence[Given], notes: SourceNotes) -> Sequence[Given]:
    """Log files, where a folder and a name are given apart; the log of errors is the program's, beside stderr."""
    found = {one.key: one for one in given if one.text}
    made = []
    for kind, key in {
        "send-log": "send-log-file",
        "received-log": "received-log-file",
        "error-log": "error-log",
    }.items():
        folder, name = found.get(f"{kind}-directory"), found.get(f"{kind}-prefix")
        if folder is not None and key not in found:
            made.append(folder._replace(key=key, text=f"{folder.text.rstrip('/')}/{name.text if name else kind}"))
    errors = next((one for one in (*made, *found.values()) if one.key == "error-log"), None)
    if errors is not None and "application-log" in found:
        notes.warnings.append(f"{errors.key} ({errors.origin}): has no effect beside application-log")
    rest = [one for one in made if one.key != "error-log"]
    return [*rest, errors._replace(key="application-log", text=f"stderr,{errors.text}")] if errors else rest


def newer(given: Sequence[Given], notes: SourceNotes) -> Sequence[tuple[str, str]]:
    """From 5.14 on the queue that is read is `rabbitmq-queue`, and there are no results and retry copies besides.

    Retries wait in queues of Mailrace's own, and come back to the queue that is read: `rabbitmq-retries` can only name
    that. Returns the (key, origin) of queues that are off where a configuration of that time does not name them.
    """
    found = {one.key: one for one in given if one.text}
    outbox = next((found[key].text for key in ("rabbitmq-queue", "rabbitmq-outbox") if key in found), "outbox")
    if (retries := found.get("rabbitmq-retries")) is not None and retries.text != outbox:
        notes.mistakes.append(
            f"rabbitmq-retries ({retries.origin}): must be {outbox!r}, the queue that is read: retries come back to it"
        )
    if (queue := found.get("rabbitmq-queue")) is None:
        return ()
    return [(key, queue.origin) for key in ("rabbitmq-results", "rabbitmq-retry") if key not in found]
