"""OpenID Connect: a provider says who somebody is, and in which groups; these decide what he may (Core 1.0, code flow).

With PKCE (RFC 7636), state and nonce; of what comes back the signature, the issuer, the audience, the times and the
nonce are checked. A name of a group gives a role by `www-openid-roles`; without one nobody is let in. Signatures are
asymmetric ones only: never `none`, never one with the secret that both know.

Owner of: what the provider says of itself and its keys, for FRESH seconds; both are asked for anew where a signature is
of a key that is not among them, at most once in SOON seconds. Bounds: AT_ONCE requests, PATIENCE seconds and MOST
octets each.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry

from gui.access.users import NAME
from settings import Settings, StartError
from settings.config.values import GroupRole
from settings.store import ROLES, Role

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
SKEW = 120.0  # seconds that the clocks may differ
FRESH, SOON = 3600.0, 10.0
AT_ONCE, PATIENCE, MOST = 5, 10.0, 512 * 1024
OURS = ("invalid_client", "unauthorized_client")  # errors of RFC 6749 5.2 that the configuration is to blame for
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class OpenIdUnavailable(Exception):
    """The provider does not answer, or says what cannot be used; the text is for the log."""


class OpenIdRefused(Exception):
    """This person is not let in; the text is for him too, and has no secret."""


class OpenIdUser(msgspec.Struct, frozen=True):
    """Who was let in, and what he may."""

    name: str
    role: Role


class OpenIdStep(msgspec.Struct, frozen=True):
    """A login that was begun: where the browser goes, and what is needed when it comes back."""

    url: str
    state: str
    nonce: str
    verifier: str


class OpenId:
    """One provider.

    Args:
        settings: the keys `www-openid*`.
        clock: epoch seconds.

    Raises:
        StartError: they do not go together.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._issuer = _checked(settings)
        self._client_id, self._secret = settings.www_openid_client or "", settings.www_openid_secret
        self._settings, self._clock = settings, clock
        self._places = asyncio.Semaphore(AT_ONCE)
        self._http: httpx.AsyncClient | None = None
        self._said: tuple[float, dict[str, Any]] = (float("-inf"), {})
        self._keys: tuple[float, list[Mapping[str, Any]]] = (float("-inf"), [])
        self._failed: tuple[float, str] = (float("-inf"), "")
        self._asking = asyncio.Lock()

    @property
    def host(self) -> str:
        """How people know the provider."""
        return urlsplit(self._issuer).hostname or ""

    @property
    def trouble(self) -> str | None:
        """Why nobody can log in by it now; None where all is well, or nobody has tried for a while."""
        since, why = self._failed
        return f"nobody can log in by OpenID Connect: {why}" if why and self._clock() - since < 600 else None

    # -- the way there, and back --------------------------------------------------------------------------------------

    async def begin(self, back: str) -> OpenIdStep:
        """Where to send the browser, which comes back to `back`. Raises `OpenIdUnavailable`."""
        said = await self._about()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": back,
            "scope": self._settings.www_openid_scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        where = str(said["authorization_endpoint"])
        return OpenIdStep(f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}", state, nonce, verifier)

    async def finish(self, code: str, back: str, nonce: str, verifier: str, issuer: str = "") -> OpenIdUser:
        """Who it is that came back with this code. Raises `OpenIdRefused`, `OpenIdUnavailable`."""
        said = await self._about()
        if issuer and issuer != said["issuer"]:  # RFC 9207: another provider's answer
            raise OpenIdRefused("the answer is of another provider")
        tokens = await self._redeem(said, code, back, verifier)
        claims = await self._verified(said, str(tokens.get("id_token", "")), nonce)
        if self._needs_more(claims) and (where := said.get("userinfo_endpoint")):
            more = await self._ask("GET", str(where), headers={"Authorization": f"Bearer {tokens.get('access_token')}"})
            if more.get("sub") != claims["sub"]:  # Core 5.3.2
                raise OpenIdRefused("what the provider says of the user is of another one")
            claims = {**more, **claims}
        return self._judged(claims)

    async def goodbye(self, back: str) -> str:
        """Where one logs out at the provider too; empty where it does not say so, or does not answer."""
        try:
            where = (await self._about()).get("end_session_endpoint")
        except OpenIdUnavailable:
            return ""
        if not isinstance(where, str) or not where.startswith(("https://", "http://")):
            return ""
        query = urlencode({"client_id": self._client_id, "post_logout_redirect_uri": back})
        return f"{where}{'&' if '?' in where else '?'}{query}"

    # -- who it is ----------------------------------------------------------------------------------------------------

    def _needs_more(self, claims: Mapping[str, Any]) -> bool:
        groups, name = self._settings.www_openid_groups, self._settings.www_openid_user
        return found(claims, groups) is None or found(claims, name) is None

    def _judged(self, claims: Mapping[str, Any]) -> OpenIdUser:
        given = [found(claims, self._settings.www_openid_user), claims.get("email"), claims["sub"]]
        name = next((one for one in given if isinstance(one, str) and NAME.fullmatch(one)), None)
        if name is None:
            raise OpenIdRefused("the provider gives no name of letters, digits, and . _ @ + -, 60 at most")
        groups = named(found(claims, self._settings.www_openid_groups))
        roles = [one.role for one in self._settings.www_openid_roles if one.group in groups or one.group == "*"]
        if not roles:
            what = self._settings.www_openid_groups
            raise OpenIdRefused(f"{name} is in no group of www-openid-roles (claim {what}: {len(groups)} groups)")
        role: Role = max(roles, key=ROLES.index)  # type: ignore[assignment,arg-type]
        return OpenIdUser(name, role)

    async def _verified(self, said: Mapping[str, Any], token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token (Core 3.1.3.7). Raises `OpenIdRefused`, `OpenIdUnavailable`."""
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError, KeyError, TypeError):
            raise OpenIdUnavailable("the provider sent no ID token that can be read") from None
        if header.get("alg") not in ALGORITHMS:
            raise OpenIdUnavailable(
                f"the ID token is signed by {str(header.get('alg'))[:20]!r}; allowed are {', '.join(ALGORITHMS)}"
            )
        claims = self._decoded(token, header, await self._keys_of(said))
        if claims is None:  # the provider may have a new key
            claims = self._decoded(token, header, await self._keys_of(said, renew=True))
        if claims is None:
            raise OpenIdUnavailable("the ID token is signed by no key of the provider")
        if why := self._wrong(claims, str(said["issuer"]), nonce):
            raise OpenIdUnavailable(f"the ID token cannot be used: {why}")
        return claims

    def _decoded(
        self, token: str, header: Mapping[str, Any], keys: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        for key in _fitting(keys, header):
            try:
                found = jwt.decode(token, JWKRegistry.import_key(dict(key)), algorithms=list(ALGORITHMS))
            except (JoseError, ValueError, TypeError, KeyError):
                continue
            return dict(found.claims)
        return None

    def _wrong(self, claims: Mapping[str, Any], issuer: str, nonce: str) -> str:
        now, audience = self._clock(), claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
        if claims.get("iss") != issuer:
            return f"its issuer is {str(claims.get('iss'))[:200]!r}, not {issuer!r}"
        if self._client_id not in audiences:
            return "it is for another client (aud)"
        if claims.get("azp", self._client_id) != self._client_id or (len(audiences) > 1 and "azp" not in claims):
            return "it was issued to another client (azp)"
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            return "it has no subject (sub)"
        if not _number(claims.get("exp")) or claims["exp"] + SKEW <= now:
            return "it has expired (exp); are the clocks right?"
        if not _number(claims.get("iat")) or claims["iat"] - SKEW > now or claims.get("nbf", now) - SKEW > now:
            return "it is of a time to come (iat, nbf); are the clocks right?"
        if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            return "it is of another login (nonce)"
        return ""

    # -- what the provider says ---------------------------------------------------------------------------------------

    async def _about(self) -> dict[str, Any]:
        """What it says of itself (Discovery 1.0 section 4)."""
        async with self._asking:
            asked, said = self._said
            if said and self._clock() - asked < FRESH:
                return said
            since, why = self._failed
            if why and 0 <= self._clock() - since < SOON:
                raise OpenIdUnavailable(why)
            said = await self._ask("GET", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if str(said.get("issuer", "")).rstrip("/") != self._issuer.rstrip("/"):
                raise self._noted(f"www-openid {self._issuer}: calls itself {str(said.get('issuer'))[:200]!r}")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not str(said.get(name, "")).startswith(("https://", "http://")):
                    raise self._noted(f"www-openid {self._issuer}: says no {name}")
            self._said, self._failed = (self._clock(), said), (float("-inf"), "")
            return said

    async def _keys_of(self, said: Mapping[str, Any], renew: bool = False) -> list[Mapping[str, Any]]:
        asked, keys = self._keys
        if keys and self._clock() - asked < (SOON if renew else FRESH):
            return keys
        answer = (await self._ask("GET", str(said["jwks_uri"]))).get("keys")
        keys = [key for key in answer if isinstance(key, dict)] if isinstance(answer, list) else []
        self._keys = (self._clock(), keys)
        return keys

    async def _redeem(self, said: Mapping[str, Any], code: str, back: str, verifier: str) -> dict[str, Any]:
        """The tokens for a code (RFC 6749 4.1.3)."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": verifier}
        headers = {}
        methods = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if self._secret is not None and "client_secret_basic" in methods:  # RFC 6749 2.3.1: both as in a form
            both = f"{quote(self._client_id, safe='')}:{quote(self._secret.get_secret_value(), safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(both.encode()).decode()
        else:
            form["client_id"] = self._client_id
            if self._secret is not None:
                form["client_secret"] = self._secret.get_secret_value()
        return await self._ask("POST", str(said["token_endpoint"]), data=form, headers=headers)

    async def _ask(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        """A JSON object. Raises `OpenIdUnavailable`."""
        where = f"{urlsplit(url).scheme}://{urlsplit(url).netloc.rpartition('@')[2]}{urlsplit(url).path}"[:200]
        try:
            async with self._places, asyncio.timeout(PATIENCE):
                status, body = await self._fetched(method, url, more)
            answer = msgspec.json.decode(body)
        except TimeoutError:
            raise self._noted(f"{where} does not answer within {PATIENCE:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._noted(f"{where}: {' '.join(str(error).split())[:200] or type(error).__name__}") from None
        except msgspec.DecodeError:
            raise self._noted(f"{where} answers {status}, and no JSON") from None
        if status == 200 and isinstance(answer, dict):
            return answer
        code = str(answer.get("error", ""))[:60] if isinstance(answer, dict) else ""
        if 400 <= status < 500 and code and code not in OURS:  # an old code, or one that was used: of this login alone
            raise OpenIdRefused("this login has taken too long, or was used already; try again")
        raise self._noted(f"{where} answers {status} {code}".strip())

    async def _fetched(self, method: str, url: str, more: dict[str, Any]) -> tuple[int, bytes]:
        if self._http is None:
            self._http = httpx.AsyncClient(verify=ssl.create_default_context(), timeout=PATIENCE, trust_env=False)
        body = bytearray()
        headers = {"Accept": "application/json", **more.pop("headers", {})}
        async with self._http.stream(method, url, headers=headers, **more) as answer:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MOST:
                    raise httpx.DecodingError(f"sends more than {MOST} bytes")
        return answer.status_code, bytes(body)

    def _noted(self, why: str) -> OpenIdUnavailable:
        self._failed = (self._clock(), why)
        return OpenIdUnavailable(why)


def open_openid(settings: Settings) -> OpenId | None:
    """The provider, where one is configured. Raises `StartError`."""
    return OpenId(settings) if settings.www_openid else None


def found(claims: Mapping[str, Any], name: str) -> Any:
    """A claim; one with dots in its name may be inside of others: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    here: Any = claims
    for part in name.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def named(groups: Any) -> set[str]:
    """The groups of a claim: a list, one name, or an object that has them as keys."""
    if isinstance(groups, str):
        return {groups}
    return {one for one in groups if isinstance(one, str)} if isinstance(groups, list | Mapping) else set()


def _fitting(keys: Sequence[Mapping[str, Any]], header: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The keys that a token of this header may be signed by."""
    algorithm = str(header["alg"])
    kind = {"R": "RSA", "P": "RSA", "E": "EC"}[algorithm[0]] if algorithm[:2] != "Ed" else "OKP"
    for key in keys:
        mine = key.get("kty") == kind and key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm
        if mine and ("kid" not in header or "kid" not in key or key["kid"] == header["kid"]):
            yield {name: value for name, value in key.items() if name not in ("use", "key_ops")}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(settings: Settings) -> str:
    """The issuer, where all that it needs is there. Raises `StartError`."""
    issuer = settings.www_openid or ""
    parts = urlsplit(issuer)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise StartError(f"www-openid {issuer}: allowed is https://, and http:// on this machine alone")
    if settings.www_openid_client is None:
        raise StartError("www-openid: needs www-openid-client, the id that the provider knows this console by")
    if not settings.www_openid_roles:
        raise StartError("www-openid: needs www-openid-roles, such as mail-admins=administer;everybody=read")
    return issuer


__all__ = ["GroupRole", "OpenId", "OpenIdRefused", "OpenIdStep", "OpenIdUnavailable", "OpenIdUser", "open_openid"]
