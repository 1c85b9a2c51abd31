"""The table of bounce classes: patterns on a negative answer, in order; the first that matches decides. Data.

A pattern is RE2, without case, on `code status text`, as flood patterns see an answer. What is specific comes before
what is general, and words before status codes: receivers agree on words more often than on codes. tests/data/answers
has the answers that it is held against.
"""

from __future__ import annotations

TABLE: tuple[tuple[str, str], ...] = (
    # Greylisting says so; the rest of its words look like any other deferral.
    ("greylisted", r"gr[ea]y-?\s?list|tempgrey|postgrey|sqlgrey"),
    ("greylisted", r"^450 4\.3\.2 service currently unavailable"),  # Postfix's postscreen
    ("connection", r"try again later, closing connection"),
    # TLS and DANE.
    ("tls", r"starttls|tls (is )?(required|not available)|must issue a starttls|encryption (needed|required)"),
    ("tls", r"tlsa-invalid|dnssec-invalid|certificate-(expired|host-mismatch)"),
    ("tls", r"certificate (not trusted|verif|has expired)"),
    ("tls", r"^\d+ [45]\.7\.(10|32[0-9])\b"),
    # SPF, DKIM, DMARC.
    ("authentication", r"dmarc|\bdkim\b[^']*(fail|pass|did not|not? (verif|align|sign))|no passing dkim"),
    ("authentication", r"dkim authentication|valid dkim|dkim signature"),
    ("authentication", r"\bspf\b|sender policy framework|unauthenticated (e?mail|and)|sender is unauthenticated"),
    ("authentication", r"authentication (checks|information|requirements|level)|required authentication"),
    ("authentication", r"aligned with either the authenticated|multiple authentication checks"),
    ("authentication", r"^\d+ [45]\.7\.(2[0-46-79]|3[0-2]|509|515)\b.*(auth|sign|policy|https?://)"),
    # Names of the sending domain on lists, then the sending IP: lists, reputation, PTR.
    ("reputation-domain", r"\bdbl\b|dbl\.spamhaus|surbl|uribl|domain (is )?(present|listed|blacklisted|blocklisted)"),
    ("reputation-domain", r"reputation of the sending domain|domain (has|with) (a )?(bad|poor|low) reputation"),
    ("reputation-domain", r"mailfrom domain is listed"),
    ("invalid-recipient", r"not listed in (the |our |public |domino )"),
    ("rate-limit", r"unexpected volume or user complaints|due to user complaints"),
    ("spam-block", r"spamhaus|identified as (a )?spammer|spammer list|dns ?bl|\b\w*rbl\b"),
    ("spam-block", r"(poor|bad|low) reputation|mismatches client ip|denyip|:blocked\b|\(rtr:(bb|du|rd|sc|bl)\)"),
    ("spam-block", r"\d+\.\d+\.\d+\.\d+[^a-z0-9]{0,4}(is|has been|was)?[ _]?(blocked|banned|denied)"),
    ("spam-block", r"\bip[=:] ?\d.*problem occurred|access to (submit messages to )?this (e-?)?mail system"),
    ("spam-block", r"not allowed to connect|bad dns ptr"),
    ("rate-limit", r"tss0[1-68]|messages? from \S+ temporarily deferred"),
    ("rate-limit", r"rate of (e?mail|messages) (originating|coming)|unusual rate of (e?mail|messages)\b"),
    ("spam-block", r"(sending|source|client|your) ip (address )?(is )?(banned|blocked|blacklisted|bloquee)"),
    ("spam-block", r"banned sending ip"),
    ("spam-block", r"ip (address )?(is )?(black|block|deny) ?listed|ip reputation|reputation of the sending ip"),
    ("spam-block", r"not have a good reputation"),
    ("spam-block", r"\b(dns)?[rb]bl\b|blackli?st|on our block ?list|black list|blocked using|spamhaus|barracuda"),
    ("spam-block", r"spamcop|sorbs|proofpoint\.com/dnsbl|listed (in|on|at) "),
    ("spam-block", r"block(ed)? for (spam|abuse)|suspected spam ip|open relay|client host blocked"),
    ("spam-block", r"permanently deferred|connection denied"),
    ("spam-block", r"unusual rate of unsolicited|ip not in whitelist|your ip has been blocked|part of their network"),
    ("spam-block", r"\bptr\b|reverse[ -]dns|\brdns\b|ip name lookup|dns check failure|may not be mail exchanger"),
    ("spam-block", r"cannot find your (reverse )?hostname"),
    ("spam-block", r"^\d+ [45]\.7\.(25|60[0-9]|650)\b|#cdrbl"),
    # The message is too large, before quotas: "exceeds the limit" is said of both.
    ("too-large", r"(message|mail|size|data)(?:[^.;]|\.\S)* (is )?too (big|large|long)"),
    ("too-large", r"(message|fixed|maximum|max)(?:[^.;]|\.\S)* size(?:[^.;]|\.\S)* (exceed|limit|permitted)"),
    ("too-large", r"exceed(s|ed)(?:[^.;]|\.\S)*(message size|size (limit|permitted))"),
    ("too-large", r"size exceeds|recipsizelimit|length exceeds"),
    ("too-large", r"exceeds (the )?(maximum|administrative|fixed) (size|limit|message)|headers? too large"),
    ("too-large", r"number of attachments|header value|too big for"),
    ("rate-limit", r"(submission|sending|message|daily|hourly|relay|sender) (quota|limit)|quota for sending"),
    # An address that the receiver has asked another server of.
    ("invalid-recipient", r"unverified address: (mailbox|unknown|user)|recipient verify"),
    # The mailbox is full.
    ("mailbox-full", r"mail ?box (for user )?is (full|over)|(mail|in) ?box (is )?full|over ?quota"),
    ("mailbox-full", r"(disk )?quota (is )?(exceeded|full)|out of storage|exceeded storage"),
    ("mailbox-full", r"storage (limit|allocation)|shutoffquota|quota exceeded|insufficient (mailbox|user) storage"),
    ("mailbox-full", r"speichervolumen|storage (is )?full|(exceeds?|exceeded|over)( \w+){0,3} quota"),
    ("mailbox-full", r"(mailbox|recipient|account)(?:[^.;,]|\.\S){0,60} is (over)?full\b"),
    # Rates and counts.
    ("rate-limit", r"rate[ -]?limit|too many (\w+ )?(recipients|connections|messages|mails|emails|sessions|requests)"),
    ("rate-limit", r"too (many|much) (connection|concurrent|session|smtp|mail|message|recipient|request)"),
    ("rate-limit", r"too (fast|quickly|frequent)|slow down|throttl"),
    ("rate-limit", r"frequency limited|excessive volume|daily (limit|quota|relay quota)|relay quota|receive limit"),
    ("rate-limit", r"submission quota|thread limit|message (threshold|quota) exceeded"),
    ("rate-limit", r"exceeded (their|permitted) limit|limits? (for )?how many|max(imum)? messages? per"),
    ("rate-limit", r"receiving mail at a rate|quota for sending|smtp relay (sending )?limit|recipients this hour"),
    ("rate-limit", r"many messages in"),
    # Relaying.
    ("policy", r"sendernotauthenticatedforgroup|delivery restriction"),
    ("rate-limit", r"too much traffic"),
    ("no-relay", r"relay(ing)? (is )?(access )?(denied|not permitted|prohibited|not allowed)|unable to relay"),
    ("no-relay", r"(do|does) not relay|rcpthosts|credentials for relay|mail relay|no relaying|relaying denied"),
    ("no-relay", r"smtp relay at your|relay(ing)?\b(?:[^.;]|\.\S)*(denied|prohibited|not (permitted|allowed)|reject)"),
    ("no-relay", r"not (currently )?permitted to relay|unauthori[sz]ed relay|not a gateway|local user only"),
    ("no-relay", r"not authenticated to send anonymous|client was not authenticated|authentication required"),
    ("no-relay", r"smtp auth|exchange server authentication|not authorized to send e?mail directly"),
    # Loops and misrouting.
    ("routing", r"hop count|too many hops|mail loop|is looping|routing loop|exceeded \d+ hops"),
    ("routing", r"loops? back|points? back to|loop detected|mail for \S+ loops"),
    ("routing", r"message depth exceeded|list expansion|misconfigured forwarding"),
    ("protocol", r"address syntax"),
    # The sender's address, before the recipient's: both are "unknown" and "rejected".
    ("policy", r"sender (address )?(rejected|denied|is blocked|was not|not (in|auth))|sender address"),
    ("policy", r"outbound sender|unknown sender|banned sender|domain of sender|unresolvable rfc"),
    ("policy", r"^\d+ [45]\.1\.[78] "),
    ("policy", r"sending denied|sender (e-?mail )?(address )?is (not|rejected)"),
    # Content.
    ("spam-content", r"virus|malware|phish|spam (content|message|detected)"),
    ("spam-content", r"(contains?|as|like|suspicion of|suspected|rejected for|for|embedded)(?:[^.;]|\.\S){0,20} spam"),
    ("spam-content", r"spam is embedded|\bube\b|- spam|message looks like|likely unsolicited|nature of the content"),
    ("spam-content", r"content reject|mail data refused|blocked due to content"),
    ("spam-content", r"mail content denied|content (rejected|filter)|message filtered|mcspam|is spam"),
    # RFC violations.
    ("protocol", r"rfc ?-?(5322|5321|2822|822)\b|duplicate header|multiple (subject|addresses)|missing a valid"),
    ("protocol", r"malformed|8-bit data|disallowed header|encoded-word|invalid (characters|message content)"),
    ("protocol", r"smtputf8|mime/reject|mime error|invalid (mime )?structure"),
    ("protocol", r"syntax error|sequence of commands|unrecogni[sz]ed|command (parameter )?not implemented"),
    ("protocol", r"bad sequence|need (rcpt|mail)|send hello|helo|ehlo|line limit|data after bdat"),
    ("protocol", r"^501 5\.0\.0 invalid domain"),
    # The domain takes no mail.
    ("invalid-domain", r"host (or domain name )?(unknown|not found)|domain (does not exist|not found|name not found)"),
    ("invalid-domain", r"(nonexistent|unknown|invalid|no such|bad destination) ?(domain|host|system)|null mx"),
    ("invalid-domain", r"(host|domain) does not accept mail|unrout(e)?able|domain is not reachable|recipient domain"),
    ("invalid-domain", r"dns query failed|contact destination smtp|single label domains"),
    ("invalid-domain", r"^\d+ [45]\.1\.(2|10) (?i:.*domain)|does not accept mail"),
    # The mailbox sleeps.
    (
        "inactive-mailbox",
        r"(account|mailbox|address|recipient|user|email)(?:[^.;]|\.\S)*\b(disabled|inactive|suspended|deactivated|discontinued|frozen|locked|blocked|no longer valid|expired)",
    ),
    (
        "inactive-mailbox",
        r"temporar(y|ily) locked|expired (account|mailbox|user)|is (now |currently )?(disabled|deactivated)",
    ),
    ("inactive-mailbox", r"(account|mailbox|user)(?:[^.;]|\.\S)*(closed|not activated|not active\b)|deactivated"),
    ("inactive-mailbox", r"(disabled|inactive|suspended|deactivated) (recipient|account|mailbox|user|email)"),
    ("inactive-mailbox", r"mailbox cannot be accessed|bloque\b"),
    # Nobody there.
    (
        "invalid-recipient",
        r"(user|recipient|account|mailbox|address|person|alias|box)(?:[^.;]|\.\S)*(unknown|not (be )?found|does( not|n'?t) exist|not exist|no longer (on|exist|here|valid|available)|not available|invalid|misspelled|unavailable|is unavailable|not registered|ambiguous)",
    ),
    (
        "invalid-recipient",
        r"(unknown|invalid|illegal|no such|unrouteable|bad)(?:[^.;]|\.\S){0,20} (user|recipient|alias|account|address|mailbox|person)",
    ),
    ("invalid-recipient", r"recip(ient)?notfound|recipnotfound|exrecipnotfound|no such (user|person)|no mailbox here"),
    (
        "invalid-recipient",
        r"no valid (recipient|user|address)|(not|no) exist\b|not (an? )?(valid )?(member|account) of",
    ),
    ("invalid-recipient", r"(user|recipient|address)(?:[^.;]|\.\S)* (not ok\b|can(not|'t| not) be verified)"),
    ("invalid-recipient", r"(does not|doesn't) have an? ([\w.-]+ )?account|no such account"),
    ("invalid-recipient", r"not our (user|customer)|doesn't have an? |registered gateway user"),
    ("invalid-recipient", r"email account that you tried to reach|invalid x\.400|destinataire invalide"),
    ("invalid-recipient", r"recipient (rejected|verification)|address unknown|recipient no longer"),
    ("invalid-recipient", r"^\d+ (5\.1\.[1236]|5\.1\.10|4\.1\.1)\b|^550 5\.4\.1 .*access denied"),
    # The operator of the receiver does not want it.
    ("policy", r"polic(y|ies)|prohibit|attachment|security issue|access (is )?denied"),
    ("policy", r"not (allowed|authorized|accepted)|rejected by recipient|block list|forbidden"),
    ("policy", r"unregistered domains|not verified|sending denied|restrict|redundant|over ipv6|bounce attack"),
    ("policy", r"client host rejected|host network|before greeting|header (error|is too long)"),
    ("policy", r"smtp server of your|x-dg-ref"),
    # Words that mostly mean one thing, where nothing above has matched.
    ("mailbox-full", r"quota|(not enough|no|out of|insufficient) space|space (is )?not enough"),
    ("spam-content", r"spam|junk|unsolicited|phishing"),
    ("authentication", r"\b(spf|dkim|dmarc)\b"),
    ("tls", r"\b(tls|ssl)\b|encrypt|certificate"),
    ("greylisted", r"^4\d\d .*\b(in|after|for) \d+ ?(s\b|sec|min)"),
    ("rate-limit", r"\b(concurrency|batch|connection|connections|throughput|rate|message|recipients?) limits?\b"),
    ("invalid-domain", r"\b(host|domain)( name)?( is)? (unknown|not found|invalid|does not exist)"),
    ("inactive-mailbox", r"^5.*\b(disabled|suspended|deactivated|inactive|frozen|closed)\b"),
    ("protocol", r"\b(mime|boundary|charset|bare (lf|cr)|line too long|illegal)\b"),
    # The receiver is not there now.
    ("connection", r"tim(ed?|e)[ -]?out|connection (dropped|refused|expired|lost|reset)"),
    ("connection", r"closing (connection|transmission)|try again|try later|essayer plus tard|temporar|unavailable"),
    ("connection", r"not (active|accepting)|busy|lookup failure|internal (system )?error|server error|system error"),
    ("connection", r"configur|insufficient (system|disk|resource)|queue|delayed|expired|replicat|not available"),
    ("connection", r"resources|remoteservererror|no mail-enabled|missing or bad|file write|could not load"),
    ("connection", r"smtp connection"),
    ("invalid-recipient", r"#5\.1\.[0136]\b"),
    ("mailbox-full", r"^\d+ [45]\.2\.2\b"),
    ("too-large", r"^\d+ (5\.2\.3|5\.3\.4)\b"),
    ("connection", r"^(421|426|45[0-9]) |^\d+ [45]\.(3\.[0-25]|4\.[1-7])\b"),
    ("invalid-recipient", r"^55[0-3] 5\.1\.\d"),
    ("protocol", r"^50[0-4] |^\d+ 5\.5\.\d|^\d+ 5\.6\.\d"),
    ("policy", r"^\d+ [45]\.7\.\d|refused|reject|denied|no permit|not permitted|unwelcome|unwanted|blocked|mismatch"),
)
