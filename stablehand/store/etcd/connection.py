"""gRPC to an etcd cluster: one connection, to the first endpoint that works; the only door to grpc in the store.

What is read and written is the backend's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from stablehand.store.etcdpb import rpc_pb2 as pb

log = logging.getLogger("stablehand.store")

# A server that answers with one of these may or may not have done what it was asked, or never have got it.
_LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED")
_METHODS: dict[str, tuple[str, Any]] = {
    "Range": ("KV", pb.RangeResponse),
    "Txn": ("KV", pb.TxnResponse),
    "Compact": ("KV", pb.CompactionResponse),
    "Authenticate": ("Auth", pb.AuthenticateResponse),
}


class Lost(Exception):
    """No answer came, or none that tells whether the request was carried out."""


class Refused(Exception):
    """etcd answered that it did not do it (no space, no rights, too large)."""


class Compacted(Exception):
    """The revisions asked for are gone."""


@dataclass(frozen=True)
class EtcdConfig:
    """`endpoints` are "host:port"; `prefix` begins every key. PEM texts: the servers' authority, our certificate.

    `compact_seconds`: how much of its history etcd keeps for watches; 0 leaves compaction to others.
    """

    endpoints: tuple[str, ...]
    prefix: str = "/stablehand"
    tls: bool = False
    ca_pem: bytes | None = None
    cert_pem: bytes | None = None
    key_pem: bytes | None = None
    user: str = ""
    password: str = ""
    compact_seconds: float = 300.0

    def __str__(self) -> str:
        return "etcd at " + ", ".join(self.endpoints)


class Connection:
    """Calls raise Lost, Refused or Compacted. After Lost, the next call goes to the next endpoint."""

    def __init__(self, config: EtcdConfig) -> None:
        # As for containerd: we only fork to exec, and grpc's complaints about it help nobody.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        import grpc
        import grpc.aio

        self._grpc: Any = grpc
        self._error = grpc.aio.AioRpcError
        self._config = config
        self._at = 0
        self._channel: Any = None
        self._calls: dict[str, Any] = {}
        self._token = ""

    def _open(self) -> Any:
        if self._channel is None:
            aio = self._grpc.aio
            options = [
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 3000),  # how long one attempt may take
                ("grpc.max_reconnect_backoff_ms", 1000),
                # A member that vanished without a word: etcd allows a ping every 5 s.
                ("grpc.keepalive_time_ms", 10000),
                ("grpc.keepalive_timeout_ms", 5000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),
            ]
            config, target = self._config, self._config.endpoints[self._at]
            if config.tls:
                credentials = self._grpc.ssl_channel_credentials(config.ca_pem, config.key_pem, config.cert_pem)
                self._channel = aio.secure_channel(target, credentials, options=options)
            else:
                self._channel = aio.insecure_channel(target, options=options)
        return self._channel

    async def close(self) -> None:
        channel, self._channel, self._calls = self._channel, None, {}
        if channel is not None:
            await channel.close(None)

    async def next_endpoint(self) -> None:
        """Leaves an endpoint that does not answer, where there is another."""
        if len(self._config.endpoints) > 1:
            self._at = (self._at + 1) % len(self._config.endpoints)
            await self.close()

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """One unary call; `timeout` in seconds."""
        await self._authenticate(timeout)
        try:
            return await self._unary(method, request, timeout)
        except self._error as e:
            if e.code().name != "UNAUTHENTICATED" or not self._config.user:
                raise self._translated(e) from None
        self._token = ""  # it has run out
        await self._authenticate(timeout)
        try:
            return await self._unary(method, request, timeout)
        except self._error as e:
            raise self._translated(e) from None

    async def _unary(self, method: str, request: Any, timeout: float) -> Any:
        channel = self._open()
        call = self._calls.get(method)
        if call is None:
            service, answer = _METHODS[method]
            call = self._calls[method] = channel.unary_unary(
                f"/etcdserverpb.{service}/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
        return await call(request, timeout=timeout, metadata=self._metadata())

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        # hasleader: a member cut off from the others must say so, not go quiet.
        return (("hasleader", "true"), *((("token", self._token),) if self._token else ()))

    async def _authenticate(self, timeout: float) -> None:
        if not self._config.user or self._token:
            return
        request = pb.AuthenticateRequest(name=self._config.user, password=self._config.password)
        try:
            self._token = (await self._unary("Authenticate", request, timeout)).token
        except self._error as e:
            raise self._translated(e) from None

    def _translated(self, error: Any) -> Exception:
        code, text = error.code().name, error.details() or ""
        if code == "OUT_OF_RANGE" and "compacted" in text:
            return Compacted(text)
        if code in _LOST:
            return Lost(f"{text or code}")
        return Refused(text or code)

    async def watch(self, create: pb.WatchCreateRequest) -> AsyncIterator[pb.WatchResponse]:
        """The answers to one watch, until it breaks."""
        await self._authenticate(5)
        stream = self._open().stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )(metadata=self._metadata())
        try:
            await stream.write(pb.WatchRequest(create_request=create))
            while True:
                response = await stream.read()
                if response is self._grpc.aio.EOF:
                    raise Lost("the watch ended")
                if response.canceled:
                    if response.compact_revision:
                        raise Compacted(response.cancel_reason)
                    self._token = ""
                    raise Lost(response.cancel_reason or "the watch was cancelled")
                yield response
        except self._error as e:
            raise self._translated(e) from None
        finally:
            stream.cancel()
