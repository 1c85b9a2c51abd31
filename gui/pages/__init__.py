"""The views. Each is a module with a `PAGE`; this table is the one place that lists them, in the menu's order."""

from gui.components.view import ConsolePage
from gui.pages import (
    alerts,
    amqp,
    audit,
    classes,
    cluster,
    dkim,
    dns,
    domains,
    errors,
    external,
    floods,
    ips,
    local,
    logs,
    overview,
    paused,
    pools,
    providers,
    queue,
    redirects,
    responses,
    rewrites,
    schedules,
    settings,
    smtp,
    suppressions,
    tags,
    throttling,
    warmups,
)

PAGES: tuple[ConsolePage, ...] = (
    overview.PAGE, ips.PAGE, domains.PAGE, tags.PAGE, queue.PAGE, logs.PAGE, smtp.PAGE, amqp.PAGE, cluster.PAGE,
    alerts.PAGE,
    throttling.PAGE, floods.PAGE, paused.PAGE, redirects.PAGE, pools.PAGE, external.PAGE, warmups.PAGE, schedules.PAGE,
    errors.PAGE, suppressions.PAGE, providers.PAGE, responses.PAGE, rewrites.PAGE, classes.PAGE, dkim.PAGE, dns.PAGE,
    local.PAGE,
    settings.PAGE, audit.PAGE,
)  # fmt: skip
SECTIONS: tuple[str, ...] = ("Monitor", "Deliver", "Receive", "System")
