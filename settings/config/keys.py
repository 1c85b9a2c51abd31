"""Every key of the configuration, in one place: kind, default, one line of help.

A new key is added here; it then works in files, the environment and on the command line, in `mailrace config`
and in the reference. Nothing here is changed after the start.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from settings.config.values import (
    LOOPBACK,
    Address,
    Addresses,
    Amount,
    Broker,
    Ciphers,
    Count,
    Credentials,
    Database,
    ExternalMtas,
    Factor,
    File,
    Flag,
    GroupRoles,
    Host,
    HostPort,
    Intervals,
    LineFormat,
    Link,
    Logs,
    Management,
    NameServers,
    Networks,
    Notify,
    OperatorNames,
    Places,
    Port,
    Ports,
    QueueName,
    Ret,
    Seconds,
    Secret,
    SecretAddress,
    SecretAddressText,
    Security,
    Sink,
    Size,
    Store,
    Text,
    Timeout,
    Token,
    Workers,
    choice,
    pattern,
    whole,
)

NOWHERE = ("0.0.0.0", "::")  # noqa: S104 - MailerQ's default of `smtp-sink-ip`, which means none
HostPortNumber = Annotated[int, whole(1, 65535, "a port")]


def key(default: Any, help: str, *, shown: str = "", also: tuple[str, ...] = ()) -> Any:
    """Declare a key.

    Args:
        default: its value where nothing gives one, or a function of the values of the keys above it.
        help: one line, for the reference.
        shown: how the reference shows the default, where the value itself would not do.
        also: names that MailerQ knows it by.
    """
    extra: dict[str, Any] = {"shown": shown, "also": also}
    if callable(default):
        return Field(default_factory=default, description=help, json_schema_extra=extra)
    return Field(default, description=help, json_schema_extra=extra)


def _under(*names: str) -> Callable[[dict[str, Any]], Path]:
    return lambda values: Path(values["data_dir"], *names)


def _instance(_: dict[str, Any]) -> str:
    """The host name, or as much of it as can stand in a message id: a machine may be called anything, or nothing."""
    return re.sub("[^A-Za-z0-9._-]+", "-", socket.gethostname())[:64].strip("-.") or "mailrace"


class Settings(BaseSettings):
    """The effective configuration. The attribute of `www-port` is `www_port`; what is turned off or not set is None."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=False)

    data_dir: File = key(
        Path("var"),
        "everything that Mailrace keeps: embedded queue, rules database, logs",
        shown="`./var` if writable, `/var/lib/mailrace` when started as a service",
    )
    server_id: Annotated[
        str, pattern("[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, hyphens and underscores")
    ] = key(_instance, "makes message ids unique over instances", shown="host name")
    user: Text | None = key(None, "the process changes to this user after its ports are open")
    lock: File = key(_under("mailrace.lock"), "stops a second start on the same `data-dir`", shown="in `data-dir`")
    shutdown_timeout: Seconds = key(30.0, "how long a stop waits for what is in flight; the rest returns to the queue")
    workers: Workers = key(1, "processes that carry mail; `auto`: one a core")
    operators: OperatorNames = key([], "custom operators to load: `module:function@stage`, several with commas")

    # -- the console -----------------------------------------------------------------------------------------------

    www_port: Port = key(8485, "console over HTTP; 0 turns it off")
    www_ip: Address = key("0.0.0.0", "address to bind; must be one of this machine's")  # noqa: S104
    www_password: Secret | None = key(
        None,
        "console password, plain or hashed; empty: one is generated at first start, its hash kept, and printed once",
    )
    www_dir: File | None = key(
        None, "folder with the console's static files; a file found there replaces the packaged one", shown="packaged"
    )
    www_secure_port: Port | None = key(None, "HTTPS port; with it and `www-port` both on, HTTP only redirects to HTTPS")
    www_certificate: File | None = key(None, "PEM file with the console's certificate chain")
    www_privatekey: File | None = key(
        None, "PEM file with the private key of `www-certificate`", also=("www-private-key",)
    )
    www_ciphers: Ciphers | None = key(None, "OpenSSL cipher list of the console")
    www_url: Link | None = key(
        None,
        "the console's address for people and for other instances, where a proxy gives it another",
        shown="detected",
    )
    www_trusted_proxies: Networks = key(
        [], "CIDR ranges of reverse proxies whose `X-Forwarded-*` and `Forwarded` are believed", shown="none"
    )
    www_auth: Credentials | None = key(
        None, "who may log in to the console by name, besides the users made in it: as `smtp-auth`"
    )
    www_role: Annotated[str, choice("read", "operate", "administer")] = key(
        "administer", "what those may who are not in the console's list of users: `read`, `operate` or `administer`"
    )
    www_user_header: Annotated[str, pattern("[A-Za-z][A-Za-z0-9-]{0,59}", "the name of a header field")] | None = key(
        None, "a field in which a trusted proxy names the user that it has let in, such as `X-Remote-User`"
    )
    www_openid: Link | None = key(
        None, "the issuer of an OpenID Connect provider that people log in by, besides the passwords"
    )
    www_openid_client: Text | None = key(None, "the id of this console there")
    www_openid_secret: Secret | None = key(None, "its secret there; empty: a public client, with PKCE alone")
    www_openid_roles: GroupRoles = key(
        [],
        "what members of groups may: `mail-admins=administer;mail-team=operate`; others are not let in; `*`: everybody",
    )
    www_openid_groups: Text = key(
        "groups", "the claim that has the groups; with dots for one inside another: `realm_access.roles`"
    )
    www_openid_user: Text = key("preferred_username", "the claim that has the name for the audit; else `email`, `sub`")
    www_openid_scopes: Text = key("openid profile email", "what is asked for; some providers need `groups` as well")
    api_token: Token | None = key(
        None, "one bearer token for the REST API and `/metrics`, besides those made in the console"
    )

    # -- queues ----------------------------------------------------------------------------------------------------

    rabbitmq_address: Broker | None = key(
        None, "`amqp(s)://user:password@host/vhost`, several with commas; empty: the embedded queue"
    )
    rabbitmq_outbox: QueueName = key("outbox", "the queue that is read", also=("rabbitmq-queue",))
    rabbitmq_inbox: QueueName | None = key(
        lambda values: values["rabbitmq_outbox"],
        "where received mail goes; the same as the outbox means relay it; empty: it is thrown away",
        shown="that of `rabbitmq-outbox`",
    )
    rabbitmq_local: QueueName | None = key(None, "where mail for local addresses goes")
    rabbitmq_reports: QueueName | None = key(None, "where reports sent to local addresses go")
    rabbitmq_refused: QueueName | None = key(None, "where what was turned away is recorded")
    rabbitmq_dsn: QueueName | None = key(None, "where delivery status notifications go; empty: to the outbox")
    rabbitmq_results: QueueName | None = key(
        "results", "every final result; empty turns it off; the embedded queue: only where given"
    )
    rabbitmq_success: QueueName | None = key(
        "success", "results of accepted messages; empty turns it off; the embedded queue: only where given"
    )
    rabbitmq_failure: QueueName | None = key(
        "failure", "results of messages given up; empty turns it off; the embedded queue: only where given"
    )
    rabbitmq_retry: QueueName | None = key(
        "retry", "copies of messages to be retried; empty turns it off; the embedded queue: only where given"
    )
    results_format: Annotated[str, choice("documented", "previous")] = key(
        "documented", "`previous`: results in the shapes of Mailrace 0.1, for readers that rely on them; for a while"
    )
    rabbitmq_exchange: QueueName | None = key(None, "exchange to publish to")
    rabbitmq_durable: Flag = key(True, "queues survive a restart of the broker")
    rabbitmq_persistent: Flag = key(True, "messages survive a restart of the broker")
    rabbitmq_declare: Flag = key(True, "declare the queues at start")
    rabbitmq_verify: Flag = key(True, "check the broker's certificate")
    rabbitmq_queue_type: Annotated[str, choice("classic", "quorum")] = key("classic", "`classic` or `quorum`")
    rabbitmq_maxpriority: Annotated[int, whole(0, 255)] = key(0, "x-max-priority of the queues")
    rabbitmq_encoding: Annotated[str, choice("gzip")] | None = key(
        None, "`gzip` compresses what is published; what is consumed may always be gzip"
    )
    rabbitmq_management: Management | None = key(
        None,
        "the broker's management API, for the AMQP monitor; without a login of its own it gets that of the broker",
        shown="its usual port on the broker's host",
    )
    rabbitmq_qos: Annotated[int, whole(1, 65535)] = key(1000, "credit: the most unsettled deliveries in memory")

    # -- rules -----------------------------------------------------------------------------------------------------

    database_address: Database = key(
        lambda values: SecretAddress(f"sqlite:///{values['data_dir'] / 'rules.db'}"),
        "the rules database: `sqlite:///file`, `postgresql://...`, `mysql://...`",
        shown="sqlite in `data-dir`",
        also=("database",),
    )
    database_ttl: Timeout = key(600.0, "time between reloads, for rows changed by others")

    # -- intake ----------------------------------------------------------------------------------------------------

    smtp_ip: Address = key("127.0.0.1", "address of the SMTP server")
    smtp_port: Ports = key([2525], "ports of the SMTP server, with STARTTLS where it has a certificate")
    smtp_secure_port: Ports = key([], "ports with TLS from the first byte")
    smtp_username: Text | None = key(None, "who may send, with `smtp-password`; for more than one `smtp-auth`")
    smtp_password: Secret | None = key(None, "the password of `smtp-username`")
    smtp_auth: Credentials | None = key(
        None,
        "where credentials come from: `hardcoded://user:password,...`, `file:///path`, `users://name,name*` (of this "
        "machine), `http://host/path`, `exec:///path`",
    )
    smtp_range: Networks = key(
        LOOPBACK,
        "CIDR ranges that may connect, with `;` between them",
        shown="loopback only",
        also=("smtp-ranges",),
    )
    smtp_proxy: Networks = key(
        [],
        "CIDR ranges of load balancers whose connections begin with a PROXY header (v1 or v2), with `;` between them",
        shown="none",
    )
    smtp_certificate: File | None = key(None, "PEM file with the certificate chain for STARTTLS and the secure port")
    smtp_privatekey: File | None = key(None, "PEM file with the private key of `smtp-certificate`", also=("smtp-key",))
    smtp_ciphers: Ciphers | None = key(None, "OpenSSL cipher list of the SMTP server")
    smtp_maxsize: Size = key(100_000_000, "the largest message", shown="100MB")
    smtp_connections: Amount = key(1000, "incoming connections at once", also=("smtp-connections-in",))
    smtp_client_connections: Amount | None = key(
        None,
        "of these, those of one client address (IPv6: /64); a newcomer takes the place of one that is idle",
        shown="nine in ten",
    )
    smtp_timeout: Timeout = key(300.0, "how long an incoming connection may be silent")
    long_lines: Annotated[str, choice("encode", "refuse", "pass")] = key(
        "encode",
        "mail with a line over 998 octets: `encode` the part that has it (refused where it is signed, or cannot be), "
        "`refuse`, or `pass` it on as it is",
    )
    smtp_extract: Flag = key(True, "turn `x-mq-*` headers into properties")
    mail_domain: Host | None = key(
        None, "completes addresses without a domain, of `mailrace send` and the spool directory", shown="host name"
    )
    spool_directory: File | None = key(None, "messages dropped into this folder are queued")
    spool_extract: Flag = key(True, "turn `x-mq-*` headers of these into properties")
    spool_delay: Seconds = key(0.0, "how long a dropped file is left alone first")
    spool_remove: Flag = key(True, "remove files once they are queued")
    spool_fail_directory: File | None = key(None, "where files go that cannot be read")

    # -- what messages name ----------------------------------------------------------------------------------------

    validate_envelope: Annotated[str, choice("strict", "loose")] = key(
        "strict", "`loose`: of messages on the queue the part before the @ may be anything, and is sent quoted"
    )
    validate_recipient: Annotated[str, choice("strict", "loose")] = key("strict", "the same of the recipient")
    storage_address: Store | None = key(
        None, "the message store: where messages with a `key` in place of `mime` have it; it is only read"
    )
    storage_timeout: Timeout = key(20.0, "how long the message store is waited for")
    storage_reschedule: Seconds = key(120.0, "when a message is tried again that the message store did not give")
    download_maxsize: Size = key(10_000_000, "the largest file of `attachments[].url`", shown="10MB")
    download_timeout: Timeout = key(20.0, "how long such a file may take")
    download_ttl: Seconds = key(3600.0, "how long it is kept in memory for other messages")
    download_proxy: SecretAddressText | None = key(
        None, "proxy through which files are fetched: `http://host:port`, `socks://host:port`", also=("proxy-server",)
    )
    download_whitelist: Places = key([], "addresses that files may come from though they are not public", shown="none")
    download_blacklist: Places = key([], "addresses that they may not come from", shown="none")
    download_user_agent: Text = key("Mailrace", "what the web servers are told")
    alert_whitelist: Places = key(
        [], "addresses that webhooks of alert rules may be at though they are not public", shown="none"
    )
    alert_sender: Text | None = key(
        None, "the From address of mail about alerts", shown="mailrace@ and `mail-domain`, else the host name"
    )

    # -- delivery --------------------------------------------------------------------------------------------------

    smtp_default_ips: Addresses = key(
        [], "MTA IPs that send", shown="all of this machine's", also=("smtp-defaultips", "smtp-defaultip")
    )
    smtp_mappable_ips: Networks = key(
        [], "mail submitted to one of these addresses leaves from it", shown="all of this machine's"
    )
    smtp_unmappable_ips: Networks = key([], "exceptions to `smtp-mappable-ips`")
    delivery_port: HostPortNumber = key(25, "port of the receiving servers")
    paused: Flag = key(False, "mail is taken and kept, and none leaves until a start without it")
    external_mtas: ExternalMtas = key(
        [], "MTA IPs that are not of this machine, and how their mail leaves: `203.0.113.7=socks://192.0.2.1:1080`"
    )
    delivery_sink: Sink | None = key(None, "`host:port`: every message goes there instead, for trials")
    smtp_sink_address: Host | None = key(
        None, "the same as two keys: the host, with `smtp-sink-port`", also=("smtp-sink-ip",)
    )
    smtp_sink_port: HostPortNumber | None = key(None, "port of `smtp-sink-address`", shown="25")
    smtp_sink_username: Text | None = key(None, "login at the sink, with `smtp-sink-password`")
    smtp_sink_password: Secret | None = key(None, "the password of `smtp-sink-username`")
    smarthost: Host | None = key(
        None, "a server that every message is given to, in place of its receiver; a message's own smarthost wins"
    )
    smarthost_port: HostPortNumber = key(25, "port of `smarthost`")
    smarthost_username: Text | None = key(None, "login at `smarthost`, with `smarthost-password`; needs TLS there")
    smarthost_password: Secret | None = key(None, "the password of `smarthost-username`")
    delivery_timeout_factor: Factor = key(1.0, "multiplies the time-outs of RFC 5321 4.5.3.2")
    domain_maxmessages: Count = key(0, "messages a minute to a destination; 0 is unlimited")
    domain_maxconnects: Count = key(0, "new connections a minute to a destination; 0 is unlimited")
    domain_maxconnections: Count = key(0, "connections at once to a destination; 0 is unlimited")
    domain_maxqueue: Count = key(
        500, "deliveries in memory for a destination; more are parked, unless they go within a second; 0 is unlimited"
    )
    ip_maxmessages: Count = key(0, "messages a minute to a remote IP; 0 is unlimited")
    ip_maxconnects: Count = key(0, "new connections a minute to a remote IP; 0 is unlimited")
    ip_maxconnections: Count = key(20, "connections at once to a remote IP; 0 is unlimited")
    connection_maxmessages: Count = key(0, "messages over one connection; 0 is unlimited")
    connection_maxidle: Seconds = key(5.0, "how long a connection is kept open between messages")
    connection_secure: Security = key(
        "opportunistic", "TLS towards receivers: `off`, `opportunistic`, `required`, `verified`"
    )
    max_connections: Amount = key(1000, "all outgoing connections together", also=("smtp-connections-out",))
    max_delivertime: Timeout = key(
        86400.0, "give up so long after the first pick-up", also=("max-deliver-time", "maxdelivertime")
    )
    max_attempts: Count = key(0, "give up after that many attempts; 0 is unlimited")
    retry_interval: Intervals = key(
        [600, 600, 1800, 1800, 3600, 3600, 7200], "seconds between attempts; the last one repeats"
    )
    dns_server: NameServers = key([], "name servers to ask", shown="system's")
    dns_timeout: Timeout = key(5.0, "how long one name server is waited for")
    dns_attempts: Amount = key(4, "how often a question is asked")
    dns_min_ttl: Seconds = key(0.0, "answers are kept at least so long")
    dkim_check_dns: Flag = key(True, "sign only with keys whose public half is in DNS")

    # -- notifications ---------------------------------------------------------------------------------------------

    dsn_notify: Notify | None = key(
        None,
        "of what senders are told whose messages do not say it: `failure`, `success`, `delay`, with commas; `never`",
    )
    dsn_ret: Ret | None = key(None, "what comes back with it, where the message does not say it: `full` or `hdrs`")
    dsn_advertise: Flag = key(True, "the SMTP server offers DSN (RFC 3461)")

    # -- logs ------------------------------------------------------------------------------------------------------

    send_log: File | None = key(
        _under("logs", "send.jsonl"), "delivery attempts, JSON Lines; empty turns it off", shown="in `data-dir`/logs"
    )
    received_log: File | None = key(
        _under("logs", "received.jsonl"),
        "received messages, JSON Lines; empty turns it off",
        shown="in `data-dir`/logs",
    )
    send_log_maxsize: Size = key(
        100_000_000, "a log of this size is rotated; rotated files become Parquet", shown="100MB"
    )
    send_log_history: Count = key(20, "rotated files to keep; 0 is all")
    send_log_file: File | None = key(
        None, "delivery attempts as text, a line each in the form of `send-log-format`; rotated by logrotate, not here"
    )
    send_log_format: LineFormat | None = key(
        None,
        "the line, in the template language of `data`: `$email`, `$result`, `$attempt`, `$date`, `$time`",
        shown="as MailerQ's",
    )
    received_log_file: File | None = key(None, "received messages as text; as `send-log-file`")
    received_log_format: LineFormat | None = key(None, "the line: `$json`, `$date`, `$time`", shown="as MailerQ's")
    application_log: Logs = key(["stderr"], "program log: `stderr`, `stdout`, `syslog` or a file; several with commas")
    application_log_format: Annotated[str, choice("console", "json")] = key("console", "`console` or `json`")

    # -- cluster ---------------------------------------------------------------------------------------------------

    cluster_address: Broker | None = key(
        None, "the broker that the instances talk over", shown="that of `rabbitmq-address`"
    )
    cluster_exchange: QueueName | None = key("cluster", "the exchange that they talk over; empty: no cluster")
    cluster_verify: Flag | None = key(None, "check that broker's certificate", shown="as `rabbitmq-verify`")
    cluster_timeout: Timeout = key(1.0, "how long `mailrace cluster` waits for answers")

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _warnings: list[str] = PrivateAttr(default_factory=list)

    def __init__(self, sources: Sequence[PydanticBaseSettingsSource]) -> None:
        """From these sources, the strongest first; `load` is the way to call it."""
        super().__init__(sources=sources)

    @property
    def warnings(self) -> list[str]:
        """One line for each key that was given and has no effect."""
        return self._warnings

    def origin(self, name: str) -> str:
        """Where a key's value came from: `file:line`, `environment NAME`, `command line` or `default`."""
        return self._origins.get(name.replace("-", "_"), "default")

    @property
    def sink(self) -> HostPort | None:
        """Where all mail goes instead, however it was written."""
        if self.smtp_sink_address is not None and self.smtp_sink_address not in NOWHERE:
            return HostPort(self.smtp_sink_address, self.smtp_sink_port or 25)
        return self.delivery_sink

    @property
    def cluster_broker(self) -> SecretAddress | None:
        """Where the instances meet; None where this one is alone."""
        return (self.cluster_address or self.rabbitmq_address) if self.cluster_exchange else None

    @property
    def cluster_checks(self) -> bool:
        """Whether that broker's certificate is checked."""
        return self.rabbitmq_verify if self.cluster_verify is None else self.cluster_verify

    def under(self, folder: Path) -> Settings:
        """The same with another `data-dir`, and what lies in it unless it was placed elsewhere."""
        placed = [name for name, field in FIELDS.items() if field.default_factory_takes_validated_data]
        moved = {name: self._placed(name, folder, dict(self)) for name in placed if self.origin(name) == "default"}
        return self.model_copy(update={"data_dir": folder, **moved})

    @staticmethod
    def _placed(name: str, folder: Path, values: dict[str, Any]) -> Any:
        return FIELDS[name].get_default(call_default_factory=True, validated_data={**values, "data_dir": folder})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources that `load` gives, and no others."""
        assert isinstance(init_settings, InitSettingsSource)
        return tuple(init_settings.init_kwargs["sources"])


FIELDS = Settings.model_fields


def more(name: str) -> dict[str, Any]:
    """What `key` noted of a field: shown, also."""
    extra = FIELDS[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra
