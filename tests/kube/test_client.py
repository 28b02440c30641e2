"""The client against a server that misbehaves in the ways API servers, proxies and networks do."""

import asyncio
import base64
import datetime
import gc
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from datalabd import errors
from datalabd.api.meta import Manifest
from datalabd.kube import resources as kinds
from datalabd.kube.client import LARGE_PAGES, Client, path
from hack.deadlines import scaled
from tests.kube.scripted import Scripted, listing, serve, status, stream, text, write_kubeconfig
from webhooks import certificates

DENIED = (
    'secrets is forbidden: User "system:serviceaccount:datalabd:datalabd" cannot list resource "secrets" in API group '
    '"" in the namespace "team"'
)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(status(404, "NotFound"), errors.NotFound, id="404"),
        pytest.param(status(409, "AlreadyExists"), errors.Conflict, id="409"),
        pytest.param(status(422, "Invalid"), errors.Invalid, id="422"),
        pytest.param(status(400, "BadRequest"), errors.Invalid, id="400"),
        pytest.param(status(410, "Expired"), errors.Expired, id="410"),
        pytest.param(status(403, "Forbidden"), errors.Forbidden, id="403"),
        pytest.param(
            status(403, "Forbidden", message="secrets is forbidden: exceeded quota: one, requested: secrets=1"),
            errors.Forbidden,
            id="a quota",
        ),
        pytest.param(status(403, "Forbidden", message=DENIED), errors.Denied, id="RBAC"),
        pytest.param(status(429, "TooManyRequests"), errors.Throttled, id="429"),
        pytest.param(status(500, "InternalError"), errors.Unavailable, id="500"),
        pytest.param(status(503, "ServiceUnavailable"), errors.Unavailable, id="503"),
        pytest.param(status(418, "Teapot"), errors.KubeError, id="an unknown status"),
        pytest.param(
            status(500, message=".spec.nonsense: field not declared in schema"),
            errors.Invalid,
            id="an apply with an unknown field is not transient",
        ),
        pytest.param(
            status(403, "Forbidden", details={"causes": [{"reason": "NamespaceTerminating"}]}),
            errors.NamespaceTerminating,
            id="a terminating namespace",
        ),
        pytest.param(text(200, '{"kind":'), errors.Unavailable, id="half an answer"),
        pytest.param(text(502, "<html>Bad Gateway</html>"), errors.Unavailable, id="a proxy's HTML"),
        pytest.param(text(403, '"no"'), errors.Forbidden, id="JSON that is no object"),
    ],
)
async def test_each_refusal_is_mapped_once(tmp_path: Path, reply, kind: type[errors.KubeError]) -> None:  # type: ignore[no-untyped-def]
    server = Scripted(reply)
    async with serve(server, tmp_path) as client:
        with pytest.raises(errors.KubeError) as caught:
            await client.get(kinds.NAMESPACES, "", "x")
    assert type(caught.value) is kind
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(DENIED, ("system:serviceaccount:datalabd:datalabd", "list secrets", "team"), id="in a namespace"),
        pytest.param(
            'nodes "a" is forbidden: User "ann" cannot get resource "nodes" in API group "" at the cluster scope',
            ("ann", "get nodes", ""),
            id="in the cluster",
        ),
        pytest.param(
            'datalabs.pkg.internal "a" is forbidden: User "ann" cannot patch resource "datalabs/status" in API group '
            '"pkg.internal" in the namespace "team": RBAC: clusterrole "x" not found',
            ("ann", "patch datalabs/status", "team"),
            id="a subresource",
        ),
    ],
)
async def test_what_rbac_refuses_is_told(tmp_path: Path, message: str, expected: tuple[str, str, str]) -> None:
    async with serve(Scripted(status(403, "Forbidden", message=message)), tmp_path) as client:
        with pytest.raises(errors.Denied) as caught:
            await client.get(kinds.NAMESPACES, "", "x")
    assert (caught.value.account, caught.value.what, caught.value.namespace) == expected


POLICY = {"kind": "NetworkPolicy", "metadata": {"name": "deny-egress", "namespace": "lab", "uid": "x"}}
Request = Callable[[Client], Awaitable[object]]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(lambda client: client.get(kinds.NETWORK_POLICIES, "lab", "deny-egress"), id="get"),
        pytest.param(lambda client: client.create(kinds.NETWORK_POLICIES, POLICY), id="create"),
        pytest.param(lambda client: client.apply(kinds.NETWORK_POLICIES, POLICY), id="apply"),
        pytest.param(lambda client: client.replace(kinds.NETWORK_POLICIES, POLICY), id="replace"),
        pytest.param(lambda client: client.patch(kinds.NETWORK_POLICIES, "lab", "deny-egress", {}), id="patch"),
        pytest.param(lambda client: client.delete(kinds.NETWORK_POLICIES, "lab", "deny-egress", "x"), id="delete"),
    ],
)
async def test_a_refusal_names_the_object(tmp_path: Path, request_: Request) -> None:
    async with serve(Scripted(status(500, message="injected")), tmp_path) as client:
        with pytest.raises(errors.Unavailable) as raised:
            await request_(client)
    assert str(raised.value) == "NetworkPolicy lab/deny-egress: injected"
    assert raised.value.message == "injected"


async def test_a_refusal_of_a_cluster_wide_object_has_no_namespace(tmp_path: Path) -> None:
    async with serve(Scripted(status(404, "NotFound", "no such object")), tmp_path) as client:
        with pytest.raises(errors.NotFound, match=r"^Workshop lab: no such object$"):
            await client.get(kinds.WORKSHOPS, "", "lab")


@pytest.mark.parametrize("details", [None, [], "x", {"causes": None}, {"causes": "x"}, {"causes": [None, 1]}], ids=str)
async def test_a_refusal_is_repeated_in_few_bytes_whatever_else_it_holds(tmp_path: Path, details: object) -> None:
    reply = status(500, "é" * 5000, "é" * 500_000, details=details)
    async with serve(Scripted(reply), tmp_path) as client:
        with pytest.raises(errors.Unavailable) as raised:
            await client.get(kinds.WORKSHOPS, "", "lab")
    assert (len(raised.value.message.encode()), len(raised.value.reason.encode())) == (4095, 255)


async def test_a_throttled_request_tells_for_how_long(tmp_path: Path) -> None:
    async with serve(Scripted(status(429, headers={"Retry-After": "7"})), tmp_path) as client:
        with pytest.raises(errors.Throttled) as caught:
            await client.get(kinds.NAMESPACES, "", "x")
    assert caught.value.retry_after == 7


async def test_a_broken_connection_is_unavailable(tmp_path: Path) -> None:
    async with serve(Scripted(stream(b"{", abort=True)), tmp_path) as client:
        with pytest.raises(errors.Unavailable):
            await client.get(kinds.NAMESPACES, "", "x")


DEEP = '{"metadata":{"name":"a","managedFields":[{"fieldsV1":%s}]},"text":"} \\" {"}' % (
    '{"f:}":' * 2000 + "{}" + "}" * 2000
)
"""An object as anybody may write one, too deep for every parser."""


async def test_field_sets_that_are_nested_deep_keep_nothing_from_being_read(tmp_path: Path) -> None:
    pages = text(200, f'{{"metadata":{{"resourceVersion":"1"}},"items":[{DEEP}]}}')
    event = f'{{"type":"ADDED","object":{DEEP}}}\n'.encode()
    async with serve(Scripted(pages, stream(event)), tmp_path) as client:
        (listed,), since = await client.list(kinds.SECRETS)
        ((_, watched),) = [event async for event in client.watch(kinds.SECRETS, "", since)]
    for obj in (listed, watched):
        assert obj["text"] == '} " {'
        assert obj["metadata"] == {"name": "a", "managedFields": [{"fieldsV1": None}]}


async def test_nobody_listening_is_unavailable(tmp_path: Path) -> None:
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9", "x")
    client = await Client.connect(str(tmp_path / "kubeconfig"))
    try:
        with pytest.raises(errors.Unavailable):
            await client.get(kinds.NAMESPACES, "", "x")
    finally:
        await client.close()


def test_closing_waits_for_connections_that_take_their_time_to_close(tmp_path: Path) -> None:
    """Of a watch left in its midst, TLS wants the other side's goodbye, too."""
    bundle = certificates.issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    context = certificates.server_context()
    certificates.load(context, bundle)
    left = threading.Event()

    def answer(listening: socket.socket) -> None:
        plain, _ = listening.accept()
        with context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(4096)
            event = b'{"type":"ADDED","object":{}}\n'
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + b"%x\r\n%b\r\n" % (len(event), event))
            left.wait(10)

    async def watch_a_while(url: str) -> None:
        write_kubeconfig(tmp_path / "kubeconfig", url, "x", bundle.ca)
        client = await Client.connect(str(tmp_path / "kubeconfig"))
        watch = client.watch(kinds.SECRETS, "", "1")
        await anext(watch)
        await watch.aclose()  # type: ignore[attr-defined]  # it is a generator
        asyncio.get_running_loop().call_later(0.3, left.set)
        await client.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=[listening])
        thread.start()
        asyncio.run(watch_a_while(f"https://127.0.0.1:{listening.getsockname()[1]}"))
        thread.join()
    gc.collect()  # which tells of a socket that was never closed


async def test_what_a_kubeconfig_holds_is_left_on_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private keys least of all: neither when they are read, nor when they are read again."""
    bundle = certificates.issue(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    where = tmp_path / "kubeconfig"
    write_kubeconfig(where, "https://127.0.0.1:9", "x", bundle.ca)
    written = yaml.safe_load(where.read_text())
    pems = {"client-certificate-data": bundle.certificate, "client-key-data": bundle.key}
    written["users"][0]["user"] |= {key: base64.b64encode(pem).decode() for key, pem in pems.items()}
    where.write_text(yaml.safe_dump(written))
    client = await Client.connect(str(where))
    assert list(scratch.iterdir()) == []
    for token in ("x", "renewed"):
        written["users"][0]["user"]["token"] = token
        where.write_text(yaml.safe_dump(written))
        await client._api.renew()
        assert list(scratch.iterdir()) == []
    await client.close()


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """But for hosts that it names."""
    server = Scripted(listing("1"))
    async with serve(server, tmp_path) as direct:
        monkeypatch.setenv("http_proxy", scheme + direct.server.removeprefix("http://"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        for url in ("http://api.example.org", "http://127.0.0.1:9"):
            write_kubeconfig(tmp_path / "kubeconfig", url, "x")
            client = await Client.connect(str(tmp_path / "kubeconfig"))
            if url.endswith(":9"):
                with pytest.raises(errors.Unavailable):
                    await client.list(kinds.NAMESPACES)
            else:
                assert await client.list(kinds.NAMESPACES) == ([], "1")
            await client.close()
    assert [request.host for request in server.requests] == ["api.example.org"]


async def test_an_expired_token_is_read_again_once(tmp_path: Path) -> None:
    """Service-account tokens are rotated on disk; a request that finds its own expired goes again with the new one."""
    server = Scripted(status(401, "Unauthorized"), listing("1"))
    async with serve(server, tmp_path) as client:
        write_kubeconfig(tmp_path / "kubeconfig", client.server, "renewed")
        await client.list(kinds.NAMESPACES)
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer secret", "Bearer renewed"]


async def test_a_token_that_stays_invalid_is_an_error(tmp_path: Path) -> None:
    async with serve(Scripted(status(401, "Unauthorized"), status(401, "Unauthorized")), tmp_path) as client:
        with pytest.raises(errors.KubeError, match="HTTP 401"):
            await client.list(kinds.NAMESPACES)


async def test_a_long_list_comes_in_pages(tmp_path: Path) -> None:
    server = Scripted(
        listing("5", {"metadata": {"name": "a"}}, token="next"), listing("5", {"metadata": {"name": "b"}})
    )
    async with serve(server, tmp_path) as client:
        items, version = await client.list(kinds.NAMESPACES)
    assert [item["metadata"]["name"] for item in items] == ["a", "b"]
    assert items[0]["kind"] == "Namespace"
    assert version == "5"
    assert server.requests[1].query["continue"] == "next"


async def test_each_page_is_reduced_to_what_is_kept_before_the_next(tmp_path: Path) -> None:
    kept: list[str] = []

    def keep(obj: Manifest) -> Manifest:
        kept.append(obj["metadata"]["name"])
        return {"kind": obj["kind"]}

    async def last(request: web.Request) -> web.StreamResponse:
        assert kept == ["a"]
        return await listing("5", {"metadata": {"name": "b"}})(request)

    async with serve(Scripted(listing("5", {"metadata": {"name": "a"}}, token="next"), last), tmp_path) as client:
        assert await client.list(kinds.SECRETS, keep=keep) == ([{"kind": "Secret"}] * 2, "5")
    assert kept == ["a", "b"]


async def test_a_list_that_fails_takes_no_place_of_others(tmp_path: Path) -> None:
    def keep(_: Manifest) -> Manifest:
        raise ValueError("odd")

    pages = [listing("5", {"metadata": {"name": "a"}})] * (LARGE_PAGES + 1)
    async with serve(Scripted(*pages), tmp_path) as client:
        for _ in range(LARGE_PAGES):
            with pytest.raises(ValueError, match="odd"):
                await client.list(kinds.SECRETS, keep=keep)
        async with asyncio.timeout(scaled(5)):
            assert (await client.list(kinds.SECRETS))[1] == "5"


async def test_of_what_may_be_large_little_is_in_memory_at_once(tmp_path: Path) -> None:
    """Ten of a page, and two pages, however many namespaces are listed."""
    under_way, most = 0, 0

    async def count(request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        assert request.query["limit"] == "10"
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    async with serve(Scripted(*[count] * 12), tmp_path) as client:
        await asyncio.gather(*(client.list(kinds.SECRETS, f"ns-{number}") for number in range(12)))
    assert most == 2


async def test_a_list_may_be_null(tmp_path: Path) -> None:
    """Custom resources without any object are listed as null right after their CRD was created."""

    async def null(request):  # type: ignore[no-untyped-def]
        from aiohttp import web

        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": None})

    async with serve(Scripted(null), tmp_path) as client:
        assert await client.list(kinds.DATALABS) == ([], "1")


async def test_deleting_what_is_gone_or_replaced_is_no_error(tmp_path: Path) -> None:
    async with serve(Scripted(status(404, "NotFound"), status(409, "Conflict")), tmp_path) as client:
        assert await client.delete(kinds.NAMESPACES, "", "x", "uid") is False
        assert await client.delete(kinds.NAMESPACES, "", "x", "uid") is False


@pytest.mark.parametrize(
    ("resource", "where", "expected"),
    [
        (kinds.NAMESPACES, ("", "x"), "/api/v1/namespaces/x"),
        (kinds.SECRETS, ("ns", "x"), "/api/v1/namespaces/ns/secrets/x"),
        (kinds.DATALABS, ("", ""), "/apis/pkg.internal/v1beta2/datalabs"),
        (kinds.DATALABS, ("ns", "x", "status"), "/apis/pkg.internal/v1beta2/namespaces/ns/datalabs/x/status"),
    ],
)
def test_paths(resource: kinds.Resource, where: tuple[str, ...], expected: str) -> None:
    assert path(resource, *where) == expected
