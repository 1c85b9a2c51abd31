"""Alert rules: what is watched, from when on it is said, to whom, and when not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, computed_field, model_validator

from settings.rules.acting import window
from settings.rules.fields import Count, Domain, Ip, Line, Maybe, Several, domain_name, one_line, quoted
from settings.rules.rule import READ_ONLY, REMOVED, Rule, check, unit
from settings.rules.warming import Zone

Watch = Literal[
    "verdict", "failures", "deferrals", "queue", "age", "flood", "fault", "member", "suppressions", "blocked"
]
DEFAULTS: Mapping[str, int] = {
    "failures": 25, "deferrals": 50, "queue": 10_000, "age": 60, "suppressions": 1000, "blocked": 25,
}  # fmt: skip
PERCENT = ("failures", "deferrals", "blocked")
CHOOSES: Mapping[str, tuple[str, ...]] = {  # what each may be narrowed to
    "failures": ("ip", "domain", "tag"),
    "deferrals": ("ip", "domain", "tag"),
    "flood": ("ip", "domain"),
    "blocked": ("ip", "domain"),
}
MOST = 100  # rules: each is looked at every few seconds
LONGEST_URL = 2000


def _url(value: SecretStr) -> SecretStr:
    """It is secret as a whole: Slack's and others' have their token in the path."""
    text = one_line(value.get_secret_value())
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        usable = None
    if not usable or len(text) > LONGEST_URL or re.search(r"[\s\\]", text):
        raise ValueError(f"is no address; allowed is http(s)://host/path of {LONGEST_URL} characters at most")
    return SecretStr(text)


def _mailbox(value: str) -> str:
    local, at, domain = one_line(value).rpartition("@")
    if not (at and re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", local)):
        raise ValueError(f"{quoted(value)} is no address; allowed are such as you@example.com")
    return f"{local}@{domain_name(domain)}"


def _line(value: SecretStr) -> SecretStr:
    one_line(value.get_secret_value())
    return value


def _removed(value: Any) -> Any:
    """The word that takes away what is never shown."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return None if text == REMOVED else value


def _secret(help_: str, title: str, **more: Any) -> Any:
    extra = {"write_only": True, **unit("", "To whom")}
    return Field(None, title=title, description=help_, exclude=True, repr=False, json_schema_extra=extra, **more)


Mailbox = Annotated[str, AfterValidator(_mailbox)]
Hidden = Annotated[Maybe[Annotated[SecretStr, AfterValidator(_line)]], BeforeValidator(_removed)]
HiddenUrl = Annotated[Maybe[Annotated[SecretStr, AfterValidator(_url)]], BeforeValidator(_removed)]
Minutes = Annotated[Count, Field(ge=1, le=60)]


class AlertRule(Rule):
    """Watches something, and tells somebody when it begins, while it lasts, and when it has ended."""

    identity: ClassVar[tuple[str, ...]] = ("name",)
    secrets: ClassVar[tuple[str, ...]] = ("webhook", "secret")
    live: ClassVar[Mapping[str, str]] = {"on": "What of it holds now, since when, and since when that was told"}

    name: Line = Field(title="Name", min_length=1, max_length=100, description="Stands in each notice.")
    watch: Watch = Field(
        "verdict",
        title="Watch",
        description="verdict: how all mail is. failures, deferrals: their share. queue, age: of what waits. flood: "
        "paused lanes. fault: of this program. member: instances and workers. suppressions: their growth. "
        "blocked: MTA IPs, by a provider.",
        json_schema_extra=unit("", "What"),
    )
    ip: Maybe[Ip] = Field(
        None,
        title="MTA IP",
        description="Only its mail. With failures, deferrals, flood, blocked. Empty: all.",
        json_schema_extra=unit("", "What"),
    )
    domain: Maybe[Domain] = Field(
        None,
        title="Domain",
        description="Only mail to it, or to a provider. With the same. Empty: all.",
        json_schema_extra=unit("", "What"),
    )
    tag: Maybe[Line] = Field(
        None,
        title="Tag",
        max_length=200,
        description="Only its mail. With failures and deferrals. Empty: all.",
        json_schema_extra=unit("", "What"),
    )
    level: Literal["watch", "bad"] = Field(
        "bad",
        title="Level",
        description="Of the verdict: from watch on, or only when it is bad.",
        json_schema_extra=unit("", "What"),
    )
    threshold: Maybe[Count] = Field(
        None,
        title="From",
        ge=1,
        description="failures 25, deferrals 50, blocked 25 percent; queue 10,000 messages; age 60 minutes; "
        "suppressions 1,000 more. Empty: these.",
        json_schema_extra=unit("", "What"),
    )
    minutes: Minutes = Field(
        5,
        title="Within",
        description="The time that shares and growth are taken over. Of blocked it is always 5.",
        json_schema_extra=unit("minutes", "What"),
    )
    attempts: Annotated[Count, Field(ge=1)] = Field(
        20,
        title="Of attempts",
        description="A share of fewer says nothing.",
        json_schema_extra=unit("attempts", "What"),
    )
    lasting: Annotated[Count, Field(le=1440)] = Field(
        0,
        title="Lasting",
        description="It is said when it has held for so long without a break.",
        json_schema_extra=unit("minutes", "When"),
    )
    again: Annotated[Count, Field(le=168)] = Field(
        24,
        title="Again",
        description="While it lasts it is said again after so long. 0: never.",
        json_schema_extra=unit("hours", "When"),
    )
    quiet: Maybe[Line] = Field(
        None,
        title="Quiet",
        description="No notices then: 22:00-06:00. What still holds at its end is said then. Empty: never.",
        json_schema_extra=unit("", "When"),
    )
    time_zone: Zone = Field(
        "UTC", title="Time zone", description="Of the quiet time: Europe/Berlin.", json_schema_extra=unit("", "When")
    )
    webhook: HiddenUrl = _secret(
        "POST there, http(s)://...; never shown again. Empty on a change: stays; none: removed.", "Webhook"
    )
    style: Literal["json", "slack"] = Field(
        "json",
        title="Style",
        description="json: all of it. slack: a text, as Slack, Mattermost and Rocket.Chat take it.",
        json_schema_extra=unit("", "To whom"),
    )
    secret: Hidden = _secret(
        "Signs what is posted (HMAC-SHA256 in X-Mailrace-Signature). Empty on a change: stays; none: removed.",
        "Secret",
        max_length=200,
    )
    email: Several[Mailbox] = Field(
        (),
        title="E-mail",
        max_length=10,
        description="Addresses; goes through the queue, so not while all mail is paused.",
        json_schema_extra=unit("", "To whom"),
    )
    browser: bool = Field(
        False,
        title="Browser",
        strict=True,
        description="In each open console that has notifications on.",
        json_schema_extra=unit("", "To whom"),
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        allowed = CHOOSES.get(self.watch, ())
        for name in ("ip", "domain", "tag"):
            if getattr(self, name) is not None and name not in allowed:
                what = f"allowed with it is {', '.join(allowed)}" if allowed else "it is of all mail"
                raise ValueError(f"{name}: does not go with {self.watch}; {what}")
        if self.threshold is not None and self.watch not in DEFAULTS:
            raise ValueError(f"threshold: does not go with {self.watch}; allowed is it empty")
        if self.threshold is not None and self.watch in PERCENT and self.threshold > 100:
            raise ValueError("threshold: is a share; allowed is 1 to 100 percent")
        if self.quiet is not None:
            check("quiet", window, self.quiet)
        if self.secret is not None and self.webhook is None:
            raise ValueError("secret: goes with a webhook, and there is none")
        if self.webhook is None and not self.email and not self.browser:
            raise ValueError("webhook: is missing, and so are email and browser; needed is one of them")
        return self

    @computed_field(title="Webhook at", json_schema_extra=READ_ONLY)  # type: ignore[prop-decorator]
    @property
    def webhook_at(self) -> str:
        """The webhook's server; the rest of its address is secret."""
        if self.webhook is None:
            return ""
        parts = urlsplit(self.webhook.get_secret_value())
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}/…"

    @computed_field(title="Signed", json_schema_extra=READ_ONLY)  # type: ignore[prop-decorator]
    @property
    def signed(self) -> bool:
        """Whether what is posted is signed."""
        return self.secret is not None

    @property
    def limit(self) -> int:
        """From when on it holds, in the unit of what is watched."""
        return self.threshold if self.threshold is not None else DEFAULTS.get(self.watch, 1)
