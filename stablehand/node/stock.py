"""Taking stock: everything that the runtime has, as observations by pod. What they lead to is agent's and worker's."""

from __future__ import annotations

import asyncio

from stablehand.node.container import ASKED_IMAGE
from stablehand.node.cri.client import CriError, Runtime
from stablehand.node.cri.pb import cri_pb2 as pb
from stablehand.node.sandbox import CONTAINER_NAME, POD_UID
from stablehand.node.state import Observed, Record, Sandbox, State

STATES: dict[int, State] = {0: "created", 1: "running", 2: "exited", 3: "unknown"}


def apply_status(record: Record, status: pb.ContainerStatus) -> None:
    """Takes over what CRI says about a container."""
    record.state = STATES[status.state]
    record.created_at = status.created_at / 1e9
    record.started_at = status.started_at / 1e9
    record.finished_at = status.finished_at / 1e9
    record.exit_code = status.exit_code
    record.reason = "" if status.reason in ("Completed", "Error") else status.reason
    record.message = status.message
    record.image = record.image or status.image.image
    record.image_id = record.image_id or status.image_ref


async def take_stock(runtime: Runtime) -> dict[str, Observed]:
    """What there is, by the pod's uid. Raises CriError: a pod whose address is not known must not be taken up."""
    sandboxes, containers = await asyncio.gather(runtime.sandboxes(), runtime.containers())
    found: dict[str, Observed] = {}
    for box in sandboxes:
        uid = box.labels.get(POD_UID) or box.metadata.uid
        observed = found.setdefault(uid, Observed())
        observed.sandboxes.append(Sandbox(box.id, box.metadata.attempt, box.state == 0, box.created_at / 1e9))
    records = []
    for item in containers:
        uid = item.labels.get(POD_UID, "")
        if uid not in found:
            continue
        record = Record(
            item.id,
            item.labels.get(CONTAINER_NAME) or item.metadata.name,
            item.metadata.attempt,
            item.pod_sandbox_id,
            STATES[item.state],
            created_at=item.created_at / 1e9,
            image_id=item.image_ref,
            asked_image=item.annotations.get(ASKED_IMAGE, ""),
        )
        records.append(record)
        found[uid].add(record)

    async def details(record: Record) -> None:
        try:
            apply_status(record, await runtime.container_status(record.id))
        except CriError as e:
            if e.code != "NOT_FOUND":
                raise
            record.state = "unknown"

    async def address(sandbox: Sandbox) -> None:
        try:
            sandbox.ip = (await runtime.sandbox_status(sandbox.id)).network.ip
        except CriError as e:
            if e.code != "NOT_FOUND":
                raise
            sandbox.ready = False

    for observed in found.values():
        observed.sandboxes.sort(key=lambda s: (s.attempt, s.created_at), reverse=True)
    boxes = [observed.sandboxes[0] for observed in found.values()]
    await asyncio.gather(*(details(r) for r in records), *(address(s) for s in boxes if s.ready))
    return found
