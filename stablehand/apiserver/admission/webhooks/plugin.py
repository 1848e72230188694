"""The two admission plugins that ask webhooks: mutating ones in turn, validating ones all at once.

Which writes a webhook is about is `admission.rules`'; what is said, `review`'s; how it is reached, `outbound`'s.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass

import orjson

from stablehand.apiserver import conversion, errors
from stablehand.apiserver.admission import rules
from stablehand.apiserver.admission.adopt import Unfit, adopt
from stablehand.apiserver.admission.webhooks import review
from stablehand.apiserver.contract import StatusError
from stablehand.apiserver.core import Attributes, Core
from stablehand.apiserver.outbound import CallFailed, target
from stablehand.apiserver.storage.collection import Collection
from stablehand.machinery.resources import Resource, resource
from stablehand.machinery.types import Obj

log = logging.getLogger("stablehand.webhooks")

_GROUP = "admissionregistration.k8s.io"
_MUTATING = resource(f"mutatingwebhookconfigurations.{_GROUP}")
_VALIDATING = resource(f"validatingwebhookconfigurations.{_GROUP}")


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook; `id` tells it from all others."""

    id: str
    spec: Obj

    @property
    def name(self) -> str:
        return str(self.spec["name"])


class _Hooks:
    """The webhooks of one kind of configuration, by configuration name; read anew when a configuration changed."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._version = -1
        self._hooks: list[Hook] = []

    def all(self) -> list[Hook]:
        if self._version != self._collection.version:
            self._version = self._collection.version
            self._hooks = [
                Hook(f"{key[1]}/{index}/{spec['name']}", spec)
                for key, entry in self._collection.ordered()
                for index, spec in enumerate(entry.obj.get("webhooks") or ())
            ]
        return self._hooks


class Webhooks:
    """`mutate` and `validate` are admission plugins."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._mutating = _Hooks(core.storage.collection(_MUTATING))
        self._validating = _Hooks(core.storage.collection(_VALIDATING))

    async def _row(self, a: Attributes, hook: Hook) -> Resource | None:
        """The row in whose version the webhook is to be told of the write; None: it is not about it."""
        spec = hook.spec
        row = rules.matching(self._core, a, spec.get("rules") or (), spec.get("matchPolicy"))
        if row is None:
            return None
        if not rules.selected(self._core, a, spec.get("namespaceSelector"), spec.get("objectSelector")):
            return None
        if spec.get("matchConditions"):
            from stablehand.apiserver.admission.variables import conditions_hold

            await conversion.tell(self._core, a, row)
            if not conditions_hold(self._core, a, row, spec):
                return None
        return row

    async def mutate(self, core: Core, a: Attributes) -> None:
        hooks = self._mutating.all()
        if not hooks or a.resource.key in rules.EXEMPT:
            return
        again = a.mutations_seen is not None
        for hook in hooks:
            if again:
                # Second round: only who asked for it, and whose work was changed by somebody after it.
                seen = (a.mutations_seen or {}).get(hook.id)
                if hook.spec.get("reinvocationPolicy") != "IfNeeded" or seen is None or seen == orjson.dumps(a.obj):
                    continue
            row = await self._row(a, hook)
            if row is None:
                continue
            verdict = await self._ask(a, hook, row, mutating=True)
            if verdict is not None and verdict.patch and a.obj is not None:
                await self._take(a, hook, row, verdict.patch)
            if not again:
                a.calls[hook.id] = orjson.dumps(a.obj)

    async def _take(self, a: Attributes, hook: Hook, row: Resource, change: list[object]) -> None:
        told = review.converted(a, a.obj, row)
        assert told is not None and a.obj is not None
        try:
            out = review.patched(told, change)
        except review.BadAnswer as e:
            raise errors.internal(f'failed calling webhook "{hook.name}": {e}') from e
        if out == told:
            return
        try:
            adopt(self._core, a, row, await conversion.told(self._core, a, row, out))
        except Unfit as e:
            raise errors.internal(f'failed calling webhook "{hook.name}": its patch does not fit: {e}') from e

    async def validate(self, core: Core, a: Attributes) -> None:
        hooks = self._validating.all()
        if not hooks or a.resource.key in rules.EXEMPT:
            return
        asked = [(hook, row) for hook in hooks if (row := await self._row(a, hook)) is not None]
        if not asked:
            return
        outcomes = await asyncio.gather(*(self._ask(a, hook, row) for hook, row in asked), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _ask(self, a: Attributes, hook: Hook, row: Resource, *, mutating: bool = False) -> review.Verdict | None:
        """One call. None when it failed and may; raises StatusError when it denies, or fails and may not."""
        uid, version = str(uuid.uuid4()), review.version_of(hook.spec.get("admissionReviewVersions") or [])
        try:
            await conversion.tell(self._core, a, row)
            body = orjson.dumps(review.request(a, row, uid, version))
            raw = await self._core.outbound.post(
                target(hook.spec["clientConfig"]), body, float(hook.spec.get("timeoutSeconds") or 10)
            )
            verdict = review.answer(raw, uid, version, mutating=mutating)
        except (CallFailed, review.BadAnswer) as e:
            called = "failed to call webhook: " if isinstance(e, CallFailed) else ""
            if hook.spec.get("failurePolicy") == "Ignore":
                log.warning("webhook %s failed, and its failures are ignored: %s", hook.name, e)
                return None
            raise errors.internal(f'failed calling webhook "{hook.name}": {called}{e}') from e
        a.request.warnings.extend(verdict.warnings)
        if not verdict.allowed:
            refused: StatusError = review.refusal(hook.name, verdict.status)
            raise refused
        return verdict
