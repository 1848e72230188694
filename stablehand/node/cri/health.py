"""gRPC health checks of containers (grpc probes). Here because grpc is used in this package only."""

from __future__ import annotations


async def serving(address: str, port: int, service: str, timeout: float) -> tuple[bool, str]:
    import grpc.aio

    from stablehand.node.cri.pb import health_pb2 as pb

    async with grpc.aio.insecure_channel(f"{address}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=pb.HealthCheckRequest.SerializeToString,
            response_deserializer=pb.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(pb.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.aio.AioRpcError as e:
            return False, f"error: health rpc probe failed: rpc error: code = {e.code().name} desc = {e.details()}"
    if answer.status == pb.HealthCheckResponse.SERVING:
        return True, "service healthy"
    name = pb.HealthCheckResponse.ServingStatus.Name(answer.status)
    return False, f'service unhealthy (responded with "{name}")'
