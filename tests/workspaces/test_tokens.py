"""Tokens of an issuer that runs, verified by what it publishes; some of the issuers are hostile."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from hack import issuer as provider
from workspaces.claims import Expected, TokenRefused
from workspaces.issuer import Issuer, IssuerError, Metadata
from workspaces.keys import AGE_MAX_SECONDS, REFRESH_SECONDS, UNKNOWN_SECONDS, Keys, KeySet, KeysUnavailable
from workspaces.tokens import REMEMBERED_SECONDS, TOKEN_MAX, Verifier, parse

USERS = {
    "alice": {"ws-alice": ["ws_admin"]},
    "many": {f"workspace-of-a-team-{number:03}": ["ws_access"] for number in range(300)},
}


@dataclass
class Clock:
    """Time that passes when a test says so, since the test began."""

    passed: float = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.passed

    def now(self) -> float:
        return time.time() + self.passed


@dataclass
class Scene:
    """A verifier and the issuer that it asks."""

    issuer: provider.Issuer
    keys: Keys
    verifier: Verifier
    clock: Clock

    async def outcome(self, token: str) -> str:
        """The user's name, or why the token is refused."""
        try:
            return (await self.verifier.identity(token)).name
        except TokenRefused as error:
            return error.reason
        except KeysUnavailable:
            return "unavailable"

    @property
    def fetches(self) -> int:
        return self.issuer.requests["/keys"]


@pytest.fixture(scope="module")
def shared_issuer() -> Iterator[provider.Issuer]:
    with provider.Issuer(USERS) as running:
        yield running


@pytest.fixture
def issuer(shared_issuer: provider.Issuer) -> Iterator[provider.Issuer]:
    """The module's issuer, as if it had just been started."""
    shared_issuer.requests.clear()
    del shared_issuer.keys[:-1]
    yield shared_issuer
    shared_issuer.fault, shared_issuer.is_away = None, False


@pytest.fixture
async def scene(issuer: provider.Issuer) -> AsyncIterator[Scene]:
    clock = Clock()
    asked = Issuer(issuer.url, clock=clock.monotonic)
    keys = Keys(asked, clock=clock.monotonic)
    algorithms = ("RS256", "PS256", "ES256")
    verifier = Verifier(keys, Expected(issuer.url, "workspace-api"), algorithms, now=clock.now)
    yield Scene(issuer, keys, verifier, clock)
    await keys.close()
    await asked.close()


async def test_a_good_token_is_verified_with_one_fetch_of_keys(scene: Scene) -> None:
    tokens = [scene.issuer.access_token("alice") for _ in range(5)]
    assert await asyncio.gather(*map(scene.outcome, tokens)) == ["alice"] * 5
    assert scene.fetches == 1


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _with_public_key(scene: Scene, algorithm: str = "HS256") -> str:
    """Signed with the issuer's public key as if it were a secret."""
    key = scene.issuer.keys[-1]
    pem = key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_part({'alg': algorithm, 'kid': key.kid})}.{_part(scene.issuer.claims('alice'))}"
    digest = hmac.digest(pem, signed.encode(), {"HS256": "sha256", "HS512": "sha512"}[algorithm])
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _with_other_key(scene: Scene, **header: Any) -> str:
    known = {"alg": "RS256", "kid": scene.issuer.keys[-1].kid}
    return jwt.encode(known | header, scene.issuer.claims("alice"), RSAKey.generate_key(2048))


def _changed(scene: Scene) -> str:
    head, _, signature = scene.issuer.access_token("alice").split(".")
    return ".".join([head, _part(scene.issuer.claims("many")), signature])


def _unsigned(scene: Scene, algorithm: str, **more: Any) -> str:
    header = {"alg": algorithm, "kid": scene.issuer.keys[-1].kid} | more
    return f"{_part(header)}.{_part(scene.issuer.claims('alice'))}."


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        pytest.param(lambda scene: _unsigned(scene, "none"), "algorithm", id="alg none"),
        pytest.param(lambda scene: _unsigned(scene, "None"), "algorithm", id="alg None"),
        pytest.param(lambda scene: _unsigned(scene, "RS256"), "signature", id="no signature"),
        pytest.param(_with_public_key, "algorithm", id="HS256 with the public key"),
        pytest.param(lambda scene: _with_public_key(scene, "HS512"), "algorithm", id="HS512 with the public key"),
        pytest.param(_with_other_key, "signature", id="another key of that id"),
        pytest.param(lambda scene: _with_other_key(scene, kid="other"), "key", id="a key that nobody published"),
        pytest.param(_changed, "signature", id="claims changed"),
        pytest.param(lambda scene: scene.issuer.access_token("alice", iss="https://evil"), "issuer", id="issuer"),
        pytest.param(lambda scene: scene.issuer.access_token("alice", aud=["account"]), "audience", id="audience"),
        pytest.param(lambda scene: scene.issuer.access_token("alice", exp=int(time.time()) - 31), "time", id="expired"),
        pytest.param(lambda scene: scene.issuer.access_token("alice", nbf=int(time.time()) + 60), "time", id="not yet"),
        pytest.param(lambda scene: scene.issuer.access_token("alice", typ="ID"), "type", id="ID token"),
        pytest.param(lambda scene: scene.issuer.access_token("alice", typ="Refresh"), "type", id="refresh token"),
        pytest.param(lambda scene: scene.issuer.sign(scene.issuer.claims("alice"), typ="logout+jwt"), "type", id="typ"),
        pytest.param(lambda scene: _unsigned(scene, "RS256", crit=["exp"]), "malformed", id="crit"),
        pytest.param(lambda scene: _unsigned(scene, "RS256", kid=7), "malformed", id="kid"),
        pytest.param(lambda scene: "x" * (TOKEN_MAX + 1), "too_large", id="100 KiB"),
        pytest.param(lambda scene: "a.b", "malformed", id="two parts"),
        pytest.param(lambda scene: f"{_part([])}.{_part({})}.x", "malformed", id="header as a list"),
        pytest.param(lambda scene: f"{_part({'alg': 'RS256'})}.{_part([1])}.x", "malformed", id="JSON list"),
        pytest.param(lambda scene: f"{_part({'alg': ['RS256']})}.{_part({})}.x", "algorithm", id="alg as a list"),
        pytest.param(lambda scene: f"{'W1tb' * 3000}.{_part({})}.x", "malformed", id="deep header"),
        pytest.param(lambda scene: f"{_part({'alg': 'RS256'})}.\udcff.x", "malformed", id="bytes that are no text"),
        pytest.param(lambda scene: scene.issuer.access_token("alice") + "\udcff", "signature", id="odd signature"),
        pytest.param(lambda scene: "...", "malformed", id="dots"),
    ],
)
async def test_a_bad_token_is_refused(scene: Scene, forge: Callable[[Scene], str], reason: str) -> None:
    assert await scene.outcome(scene.issuer.access_token("alice")) == "alice"
    scene.clock.passed = UNKNOWN_SECONDS if reason == "key" else 0
    assert await scene.outcome(forge(scene)) == reason


async def test_whoever_is_in_300_workspaces_gets_in(scene: Scene) -> None:
    token = scene.issuer.access_token("many")
    assert len(token) > 15_000
    assert len((await scene.verifier.identity(token)).roles) == 300


async def test_a_token_of_an_elliptic_curve_is_verified(scene: Scene) -> None:
    key = ECKey.generate_key("P-256", {"kid": "curve"})
    published = KeySet({"keys": [key.as_dict(private=False), scene.issuer.keys[-1].as_dict(private=False)]})
    assert published.find("curve", "ES256") is not None
    assert published.find("curve", "RS256") is None


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS1"])
def test_no_algorithm_of_a_secret_can_be_accepted(algorithm: str) -> None:
    with pytest.raises(ValueError, match=f"{algorithm} cannot be accepted"):
        Verifier(None, Expected("https://id", "workspace-api"), [algorithm])  # type: ignore[arg-type]  # not asked


# ---- What is remembered


async def test_a_verified_token_is_remembered_for_a_minute_and_not_beyond_its_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []
    find = scene.keys.find

    async def counted(kid: str | None, algorithm: str, age_seconds: float) -> Any:
        verified.append(kid)
        return await find(kid, algorithm, age_seconds)

    monkeypatch.setattr(scene.keys, "find", counted)
    token, short = scene.issuer.access_token("alice"), scene.issuer.access_token("alice", exp=int(time.time()) + 5)
    for passed in (0, REMEMBERED_SECONDS - 1, REMEMBERED_SECONDS + 1):
        scene.clock.passed = passed
        assert await scene.outcome(token) == "alice"
    assert len(verified) == 2
    scene.clock.passed = 0
    assert await scene.outcome(short) == "alice"
    scene.clock.passed = 36
    assert await scene.outcome(short) == "time"


async def test_nothing_of_a_token_is_kept_in_memory(scene: Scene) -> None:
    token = scene.issuer.access_token("alice")
    await scene.verifier.identity(token)
    assert token not in repr(vars(scene.verifier._remembered))
    assert token.split(".")[2] not in repr(vars(scene.verifier._remembered))


# ---- Keys


async def test_a_flood_of_unknown_keys_causes_one_fetch_in_ten_seconds(scene: Scene) -> None:
    await scene.keys.prepare()
    scene.clock.passed = UNKNOWN_SECONDS
    tokens = [_with_other_key(scene, kid=f"kid-{number}") for number in range(50)]
    await asyncio.gather(*map(scene.outcome, tokens))
    assert scene.fetches == 2
    scene.clock.passed = 2 * UNKNOWN_SECONDS - 0.1
    await asyncio.gather(*map(scene.outcome, tokens))
    assert scene.fetches == 2
    scene.clock.passed = 2 * UNKNOWN_SECONDS
    await asyncio.gather(*map(scene.outcome, tokens))
    assert scene.fetches == 3


async def test_keys_that_are_rotated_under_load_refuse_no_good_token(scene: Scene) -> None:
    outcomes: set[str] = set()
    began = scene.issuer.access_token("alice")
    assert await scene.outcome(began) == "alice"

    async def ask() -> None:
        for _ in range(10):
            outcomes.add(await scene.outcome(scene.issuer.access_token("alice")))
            await asyncio.sleep(0)

    for rotation in range(3):
        scene.clock.passed += UNKNOWN_SECONDS
        scene.issuer.rotate(keep=rotation > 0)
        await asyncio.gather(*(ask() for _ in range(8)))
    assert outcomes == {"alice"}
    assert scene.fetches == 4


async def test_a_token_of_a_key_that_is_newer_than_what_we_have_is_asked_to_come_again(scene: Scene) -> None:
    assert await scene.outcome(scene.issuer.access_token("alice")) == "alice"
    scene.issuer.rotate()
    scene.clock.passed = 5  # within ten seconds of the last fetch
    token = scene.issuer.access_token("alice", iat=int(scene.clock.now()))
    assert await scene.outcome(token) == "unavailable"
    scene.clock.passed = UNKNOWN_SECONDS + 1
    assert await scene.outcome(token) == "alice"


async def test_an_issuer_that_is_away_for_an_hour_keeps_nobody_out(scene: Scene) -> None:
    assert await scene.outcome(scene.issuer.access_token("alice")) == "alice"
    scene.issuer.is_away = True
    for minute in range(1, 61):
        scene.clock.passed = minute * 60
        token = scene.issuer.access_token("alice", exp=int(scene.clock.now()) + 300)
        assert await scene.outcome(token) == "alice"
    scene.issuer.rotate()
    newer = scene.issuer.access_token("alice", exp=int(scene.clock.now()) + 300)
    assert await scene.outcome(newer) == "unavailable"
    scene.issuer.is_away = False
    scene.clock.passed += UNKNOWN_SECONDS
    assert await scene.outcome(newer) == "alice"


async def test_keys_are_fetched_again_before_they_are_ten_minutes_old(scene: Scene) -> None:
    assert await scene.outcome(scene.issuer.access_token("alice")) == "alice"
    old = scene.issuer.access_token("alice", exp=int(time.time()) + 3600)
    scene.issuer.rotate()
    scene.clock.passed = REFRESH_SECONDS - 1
    assert (await scene.outcome(old), scene.fetches) == ("alice", 1)
    scene.clock.passed = AGE_MAX_SECONDS
    assert (await scene.outcome(old), scene.fetches) == ("key", 2)


async def test_keys_of_five_minutes_are_fetched_again_without_anybody_waiting(scene: Scene) -> None:
    assert await scene.outcome(scene.issuer.access_token("alice")) == "alice"
    scene.issuer.fault = "slow"
    scene.clock.passed = REFRESH_SECONDS
    token = scene.issuer.access_token("alice", exp=int(scene.clock.now()) + 300)
    async with asyncio.timeout(2):
        assert await scene.outcome(token) == "alice"


@pytest.mark.parametrize("fault", ["error", "redirect", "large", "no_json"])
async def test_without_keys_nobody_is_refused_and_nobody_let_in(scene: Scene, fault: Any) -> None:
    scene.issuer.fault = fault
    token = scene.issuer.access_token("alice")
    assert await scene.outcome(token) == "unavailable"
    assert not scene.keys.is_known
    scene.issuer.fault = None
    assert await scene.outcome(token) == "unavailable"  # at most one try a second
    scene.clock.passed = 1
    assert await scene.outcome(token) == "alice"


@pytest.mark.parametrize("fault", ["error", "redirect", "large", "no_json", "slow"])
async def test_keys_stay_when_the_issuer_goes_wrong(scene: Scene, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workspaces.issuer.TIMEOUT", aiohttp.ClientTimeout(total=0.5))
    assert await scene.outcome(scene.issuer.access_token("alice")) == "alice"
    scene.issuer.fault = fault
    scene.clock.passed = AGE_MAX_SECONDS
    token = scene.issuer.access_token("alice", exp=int(scene.clock.now()) + 300)
    assert await scene.outcome(token) == "alice"
    assert scene.issuer.requests["/elsewhere"] == 0


async def test_a_wrong_key_id_is_looked_up_once_and_then_refused(scene: Scene) -> None:
    scene.issuer.fault = "wrong_kid"
    scene.clock.passed = 0
    token = scene.issuer.access_token("alice", iat=int(time.time()) - 60)
    assert (await scene.outcome(token), scene.fetches) == ("key", 1)


def _rsa(**changed: Any) -> dict[str, Any]:
    return RSAKey.generate_key(2048, {"kid": "a"}).as_dict(private=False) | changed


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(OctKey.generate_key(256).as_dict(private=True), id="secret"),
        pytest.param(_rsa(use="enc"), id="for encryption"),
        pytest.param(_rsa(n="AQAB"), id="too short"),
        pytest.param(_rsa(n="A" * 4000), id="too long"),
        pytest.param(_rsa(e="A" * 100), id="exponent too long"),
        pytest.param(_rsa(n=7), id="modulus that is no text"),
        pytest.param({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, id="no point of the curve"),
        pytest.param({"kty": "EC", "crv": "no curve", "x": "AA", "y": "AA"}, id="no curve"),
        pytest.param({"kty": "RSA"}, id="without members"),
        pytest.param("a", id="text"),
    ],
)
def test_a_key_that_cannot_be_used_spoils_no_other(entry: Any) -> None:
    with pytest.raises(IssuerError):
        KeySet({"keys": [entry]})
    assert KeySet({"keys": [entry, _rsa(kid="b")]}).find("b", "RS256") is not None


@pytest.mark.parametrize("document", [[], {}, {"keys": {}}, {"keys": []}, {"keys": [{}] * 101}])
def test_what_is_no_set_of_keys_is_refused(document: Any) -> None:
    with pytest.raises(IssuerError):
        KeySet(document)


def test_a_token_without_a_key_id_is_of_the_only_key_there_is() -> None:
    assert KeySet({"keys": [_rsa()]}).find(None, "RS256") is not None
    assert KeySet({"keys": [_rsa(), _rsa(kid="b")]}).find(None, "RS256") is None


def test_parse_reads_claims_with_and_without_padding() -> None:
    part = base64.urlsafe_b64encode(b'{"a":"b"}1'[:-1]).decode()
    padded = base64.urlsafe_b64encode(b'{"a":"bc"}').decode()
    assert padded.endswith("=")
    assert parse(f"{part}.{padded}.") == ({"a": "b"}, {"a": "bc"})


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other", "jwks_uri": "https://id/keys"},
        {"issuer": "https://id"},
        {"issuer": "https://id", "jwks_uri": "http://id/keys"},
        {"issuer": "https://id", "jwks_uri": "https://id/keys", "token_endpoint": "ftp://id"},
        {"issuer": "https://id", "jwks_uri": 7},
        {"issuer": "https://id", "jwks_uri": "https://[id"},
        [],
    ],
)
def test_a_discovery_document_that_is_not_the_issuers_or_not_safe_is_refused(document: Any) -> None:
    with pytest.raises(IssuerError):
        Metadata.parse(document, "https://id")
