"""persistentVolumeClaim and generic ephemeral volumes: from claim to volume to the kind that the volume is made of."""

from __future__ import annotations

from stablehand.machinery.resources import resource
from stablehand.machinery.types import Obj
from stablehand.node.volumes import hostpath, local, nfs
from stablehand.node.volumes.contract import ClaimError, Context, Mounted, VolumeError


async def setup(context: Context, source: Obj) -> Mounted:
    """A volume that names a claim."""
    return await _claim(context, source["claimName"], bool(source.get("readOnly")), None)


async def setup_ephemeral(context: Context, source: Obj) -> Mounted:
    """A volume whose claim is made for the pod, as <pod>-<volume>, by the ephemeral volume controller."""
    meta = context.pod["metadata"]
    return await _claim(context, f"{meta['name']}-{context.name}", bool(source.get("readOnly")), meta["uid"])


async def _claim(context: Context, name: str, readonly: bool, owner: str | None) -> Mounted:
    claims, volumes = resource("persistentvolumeclaims"), resource("persistentvolumes")
    ref = (claims, context.namespace, name)
    title = f"error processing PVC {context.namespace}/{name}: "
    claim = await context.host.objects.get(claims, context.namespace, name)
    if claim is None:
        message = f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found'
        raise ClaimError(title + message, ref)
    if owner is not None:
        owners = [o.get("uid") for o in claim["metadata"].get("ownerReferences") or () if o.get("controller")]
        if owner not in owners:
            raise ClaimError(f"PVC {context.namespace}/{name} was not created for pod (pod is not owner)", ref)
    if claim["metadata"].get("deletionTimestamp"):
        raise ClaimError(f"{title}can't start pod because PVC {context.namespace}/{name} is being deleted", ref)
    if (claim.get("status") or {}).get("phase") != "Bound" or not claim["spec"].get("volumeName"):
        raise ClaimError(f"{title}PVC is not bound", ref)
    volume_name = claim["spec"]["volumeName"]
    volume_ref = (volumes, "", volume_name)
    volume = await context.host.objects.get(volumes, "", volume_name)
    if volume is None:
        raise ClaimError(f"{title}failed to fetch PV {volume_name} from API server: not found", ref, volume_ref)
    bound = volume["spec"].get("claimRef") or {}
    if bound.get("uid") != claim["metadata"]["uid"]:
        raise ClaimError(f"{title}PV {volume_name} is bound to another claim", ref, volume_ref)
    spec = volume["spec"]
    if spec.get("volumeMode") == "Block":
        if not spec.get("local"):
            raise VolumeError(
                f"volume {volume_name} is of a kind that this node cannot show as a device: only local is"
            )
        device = await local.setup_block(context, spec["local"])
        device.readonly = readonly
        return device
    context.mount_options = tuple(spec.get("mountOptions") or ())
    if inner := spec.get("nfs"):
        context.readonly = readonly or bool(inner.get("readOnly"))
        mounted = await nfs.setup(context, inner)
    elif inner := spec.get("local"):
        mounted = await local.setup(context, inner)
        mounted.own = True
    elif inner := spec.get("hostPath"):
        mounted = await hostpath.setup(context, inner)
        made_by = (volume["metadata"].get("annotations") or {}).get("pv.kubernetes.io/provisioned-by", "")
        mounted.own = made_by.startswith("stablehand.dev/")
    else:
        kinds = set(spec) - {"capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy"}
        kinds -= {"storageClassName", "volumeMode", "mountOptions", "nodeAffinity", "volumeAttributesClassName"}
        raise VolumeError(f"volume {volume_name} is of a kind this node cannot mount: {', '.join(sorted(kinds))}")
    mounted.readonly = mounted.readonly or readonly
    return mounted
