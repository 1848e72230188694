"""The node agent: containerd, network and Node object at start; then one worker for each pod bound to this node.

It routes what happens (watch events of pods, exits told by containerd) to the workers, finds what ran before it
started, and clears away what belongs to no pod. The life of one pod is `worker`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from stablehand.aiokit.backoff import Backoff
from stablehand.aiokit.tasks import TaskSet
from stablehand.client import ApiError, Unavailable
from stablehand.machinery.resources import resource
from stablehand.machinery.times import format_time
from stablehand.machinery.types import Obj
from stablehand.node import cgroups, leftovers, logs
from stablehand.node.admit import misplaced
from stablehand.node.config import NodeConfig, NodeError
from stablehand.node.containerd import Containerd
from stablehand.node.cri.client import CriError, Exits, Runtime
from stablehand.node.eviction import Evictor
from stablehand.node.images import ensure_pause, import_folder, wait_for_image
from stablehand.node.manifests import StaticPods
from stablehand.node.network import Network
from stablehand.node.nodeobject import Machine, allocatable
from stablehand.node.objects import Objects
from stablehand.node.pressure import Pressure
from stablehand.node.pull import Puller
from stablehand.node.pullrecords import PullRecords
from stablehand.node.registration import Registration
from stablehand.node.sandbox import POD_UID, log_directory
from stablehand.node.services import Services
from stablehand.node.state import Observed
from stablehand.node.stock import STATES, take_stock
from stablehand.node.upkeep import Upkeep
from stablehand.node.volumes.contract import Host
from stablehand.node.volumes.manager import remove_pod_folder
from stablehand.node.worker import PodWorker
from stablehand.runtime import EventRecorder, Informers

log = logging.getLogger("stablehand.node")

_RELIST = 30.0
_RUNTIME_PATIENCE = 30.0  # seconds without containerd before the node says NotReady, and all its pods with it
_LATE = (1.0, 4.0)


class Agent:
    def __init__(self, config: NodeConfig, containerd: Containerd | None = None) -> None:
        """`containerd`: one that was started ahead."""
        config.check()
        self.config = config
        self.workers: dict[str, PodWorker] = {}
        self._owners: dict[str, PodWorker] = {}
        self._tasks = TaskSet("node")
        self._containerd = containerd or Containerd(config)
        self._network = Network(config)
        self._runtime: Runtime | None = None
        self._runtime_ready = asyncio.Event()
        self._informers = Informers(config.client)
        self._events = EventRecorder(config.client, "kubelet", config.node_name)
        self._nodes = self._informers.get(resource("nodes"), field_selector=f"metadata.name={config.node_name}")
        self._found: dict[str, Observed] = {}
        self._leaving: set[str] = set()  # uids of pods that are gone, and being taken apart
        self._unknown: set[str] = set()  # running tasks that the runtime did not tell of when last looked at
        self._strange: set[str] = set()  # sandboxes that belonged to no pod when last looked at
        self._runtime_seen = -_RUNTIME_PATIENCE
        self._stock_taken = asyncio.Event()
        self._archives = asyncio.Event()  # set once the archives beside the node are imported
        config.data_dir.mkdir(parents=True, exist_ok=True)
        self.machine = Machine.read(config.data_dir)
        self.node = self._make_services()
        self.pressure = Pressure(self)
        self._registration = Registration(
            config, config.client, self.machine, lambda: self.runtime, self._events, self._problem, self._pressing
        )

    def _make_services(self) -> Services:
        config = self.config
        offered = allocatable(config, self.machine)
        objects = Objects(config.client)
        pods = self._informers.get(resource("pods"), field_selector=f"spec.nodeName={config.node_name}")
        return Services(
            config=config,
            client=config.client,
            pods=pods,
            services=self._informers.get(resource("services")),
            objects=objects,
            events=self._events,
            network=self._network,
            puller=Puller(lambda: self.runtime, self._archives, PullRecords(config.data_dir / "image-pulls.json")),
            volumes=Host(config.client, config, objects, self._events.event, self._facts, lambda: offered),
            background=TaskSet("node/background"),
            allocatable=lambda: offered,
            memory_capacity=self.machine.memory,
            runtime_ready=self._runtime_ready,
            runtime_getter=lambda: self.runtime,
        )

    @property
    def runtime(self) -> Runtime:
        if self._runtime is None:
            raise CriError("UNAVAILABLE", "containerd is not running yet")
        return self._runtime

    def _facts(self, pod: Obj) -> dict[str, str]:
        worker = self.workers.get(pod["metadata"]["uid"])
        return worker.facts() if worker is not None else {"hostIP": self.config.address}

    def _pressing(self) -> dict[str, bool]:
        return self.pressure.conditions()

    async def _static_pods(self) -> None:
        config = self.config
        await StaticPods(config.client, config.static_pods_dir, config.node_name, self.node.pods, self._nodes).run()

    def poke_node(self) -> None:
        """The Node object has something new to tell."""
        self._registration.poke()

    def node_event(self, kind: str, reason: str, message: str) -> None:
        """An event about the Node."""
        self._events.event(self._registration.reference(), kind, reason, message)

    def _problem(self) -> str:
        away = 0.0 if self._runtime_ready.is_set() else time.monotonic() - self._runtime_seen
        return "container runtime is down" if away > _RUNTIME_PATIENCE else ""

    # -- start

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Until cancelled; pods go on."""
        try:
            if not self._containerd.started:
                await self._containerd.start()
            self._tasks.spawn(self._informers.run(), "informers")
            await self._network.setup()
            await self._begin_runtime()
            lost = self._tasks.spawn(self._watch_runtime(), "runtime")
            await self._stock_taken.wait()
            # Not sooner: a node that comes back and says NotReady for a moment has all its pods marked unready.
            registered = asyncio.Event()
            self._tasks.spawn(self._registration.run(registered), "registration")
            await self.node.pods.synced()
            self._adopt_pods()
            self.node.pods.on_change(self._pod_changed)
            self._tasks.spawn(self._clear_orphans(), "orphans")
            self._tasks.spawn(self._relist_forever(), "relist")
            self._tasks.spawn(Upkeep(self).run(), "upkeep")
            self._tasks.spawn(Evictor(self).run(), "eviction")
            self._tasks.spawn(self.pressure.run(), "pressure")
            self._tasks.spawn(self._static_pods(), "static pods")
            self._tasks.spawn(self._import_archives(), "archives")
            await registered.wait()
            if ready is not None:
                ready.set()
            await lost
        finally:
            await self.close()

    async def close(self) -> None:
        await self._tasks.close()
        for worker in list(self.workers.values()):
            worker.volumes.forget()
        await self.node.background.close()
        await self.node.objects.close()
        if self._runtime is not None:
            await self._runtime.close()

    async def _connect(self) -> None:
        """A connection to a containerd that answers, and the sandbox image in it. Raises NodeError, CriError."""
        await self._containerd.ready()
        runtime = Runtime(self.config.socket)
        try:
            await self._get_ready(runtime)
        except BaseException:
            await runtime.close()
            raise
        if self._runtime is not None:
            await self._runtime.close()
        self._runtime = runtime

    async def _get_ready(self, runtime: Runtime) -> None:
        """All that has to be before anybody else has this connection."""
        deadline = time.monotonic() + 30
        while True:
            try:
                status = await runtime.status()
                bad = [c for c in status.status.conditions if not c.status]
                if not bad:
                    break
                problem = "; ".join(f"{c.reason}: {c.message}" for c in bad)
            except CriError as e:
                problem = e.message
            if time.monotonic() > deadline or not self._containerd.alive:
                raise NodeError(f"containerd does not get ready: {problem}")
            await asyncio.sleep(0.004)
        await leftovers.clear(self.config, runtime, self._containerd.began)
        if self._containerd.started_fresh:
            await leftovers.clear_networks(self.config, runtime)
        await ensure_pause(self.config, runtime)

    async def _begin_runtime(self) -> None:
        """The first connection. A containerd that ends at that moment is started once more. Raises NodeError, CriError."""
        try:
            await self._connect()
        except (NodeError, CriError) as e:
            if self._containerd.alive:
                raise
            log.warning("%s; starting containerd again", e)
            await self._containerd.start()
            await self._connect()

    async def _watch_runtime(self) -> None:
        """Keeps the stream of exits open, looks at everything whenever it begins anew, restarts a dead containerd."""
        backoff = Backoff(0.1, 5.0)
        while True:
            exits = Exits(self.runtime, self._exited, self._oom)
            stream = asyncio.ensure_future(exits.run())
            died = asyncio.ensure_future(self._containerd.died())
            connected = asyncio.ensure_future(exits.connected.wait())
            try:
                # It may be gone again before the stream has begun.
                await asyncio.wait({connected, stream, died}, return_when=asyncio.FIRST_COMPLETED)
                if exits.connected.is_set():
                    await self._take_stock()
                    self._runtime_ready.set()
                    self._registration.poke()
                    await asyncio.wait({stream, died}, return_when=asyncio.FIRST_COMPLETED)
            except CriError as e:
                log.warning("containerd: %s", e.message)
            finally:
                for task in (stream, died, connected):
                    task.cancel()
                await asyncio.gather(stream, died, connected, return_exceptions=True)
            log.warning("lost the connection to containerd; pods go on, and will be taken up again")
            if self._runtime_ready.is_set():
                self._runtime_ready.clear()
                self._runtime_seen = time.monotonic()
            await asyncio.sleep(backoff.next())
            try:
                await self._containerd.start()
                await self._connect()
                backoff.reset()
            except (NodeError, CriError, OSError) as e:  # killed again while it started, say
                log.error("starting containerd: %s", e)

    async def _take_stock(self) -> None:
        """Reads everything the runtime has. The first time it is what pods are adopted from."""
        if self._stock_taken.is_set():
            await self._relist()
        else:
            self._found = await take_stock(self.runtime)
            self._stock_taken.set()
        self._tasks.spawn(self._look_again(), "leftovers")

    async def _look_again(self) -> None:
        """What a killed containerd had begun may show only now."""
        for pause in _LATE:
            await asyncio.sleep(pause)
            with contextlib.suppress(CriError):
                await leftovers.clear(self.config, self.runtime, self._containerd.began)

    async def _relist(self) -> None:
        """Tells the workers what became of what they have, and ends what no pod is known to have. Raises CriError."""
        before = {worker: worker.up() for worker in self.workers.values()}
        sandboxes, containers = await asyncio.gather(self.runtime.sandboxes(), self.runtime.containers())
        states: dict[str, str] = {c.id: STATES[c.state] for c in containers}
        boxes = {s.id: s.state == 0 for s in sandboxes}
        for worker, up in before.items():
            worker.relisted(up, states, boxes)
        known = {pod["metadata"]["uid"] for pod in self.node.pods.items()} | set(self.workers) | self._leaving
        strange = {s.id for s in sandboxes if (s.labels.get(POD_UID) or s.metadata.uid) not in known | set(self._found)}
        for sandbox in strange & self._strange:  # twice in a row
            log.warning("removing sandbox %s, which belongs to no pod", sandbox[:12])
            await remove_sandbox(self.runtime, sandbox)
        self._strange = strange
        self._unknown = await leftovers.clear(self.config, self.runtime, self._containerd.began, self._unknown)

    # -- pods

    def _adopt_pods(self) -> None:
        for pod in self.node.pods.items():
            uid = pod["metadata"]["uid"]
            if uid in self._found:
                self._begin(pod, self._found.pop(uid))

    def _pod_changed(self, kind: str, old: Obj | None, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        worker = self.workers.get(uid)
        if kind == "DELETED":
            if worker is not None:
                worker.removed(pod)
            return
        if worker is not None:
            worker.update(pod)
        else:
            self._begin(pod, None)

    def _begin(self, pod: Obj, observed: Observed | None) -> None:
        worker = PodWorker(self, self.node, pod, observed)
        self.workers[worker.uid] = worker
        if observed is not None:
            for sandbox in observed.sandboxes:
                self._owners[sandbox.id] = worker
            for records in observed.containers.values():
                for record in records:
                    self._owners[record.id] = worker
        task = self._tasks.spawn(worker.run(), f"pod/{worker.key[0]}/{worker.key[1]}")
        task.add_done_callback(lambda _: self._ended(worker))

    def _ended(self, worker: PodWorker) -> None:
        if self.workers.get(worker.uid) is worker:
            del self.workers[worker.uid]
        current = self.node.pods.cached(*worker.key)
        if worker.finished or current is None or current["metadata"]["uid"] != worker.uid:
            self.worker_finished(worker)
        self.room_changed()

    def register(self, container: str, worker: PodWorker) -> None:
        self._owners[container] = worker

    def unregister(self, container: str) -> None:
        self._owners.pop(container, None)

    def worker_finished(self, worker: PodWorker) -> None:
        """Its exits interest nobody any more."""
        for container in [c for c, w in self._owners.items() if w is worker]:
            del self._owners[container]

    def leave(self, worker: PodWorker, work: asyncio.Task[None]) -> None:
        """`work` takes apart what is left of a pod that is gone."""
        self._leaving.add(worker.uid)
        work.add_done_callback(lambda _: self._leaving.discard(worker.uid))

    def neighbours(self, worker: PodWorker) -> list[Obj]:
        """The other pods that take room on this node, each with the resources it was given."""
        return [other.granted() for other in self.workers.values() if other is not worker and other.active]

    async def misplaced(self, worker: PodWorker) -> tuple[str, str] | None:
        """Why the pod should not have come here. Believes what the watch shows only where all is well."""
        others, nodes, name = self.neighbours(worker), resource("nodes"), self.config.node_name
        known = self._nodes.cached("", name)
        if known is None or misplaced(worker.pod, known, others) is None:
            return None
        try:
            return misplaced(worker.pod, await self.config.client.get(nodes, name), others)
        except (ApiError, Unavailable):
            return None

    def room_changed(self) -> None:
        """A pod ended or shrank: a resize that was put off may fit now."""
        for worker in self.workers.values():
            if worker.memory.resize_pending is not None:
                worker.wake()

    def find(self, namespace: str, name: str) -> PodWorker | None:
        return next((w for w in self.workers.values() if w.key == (namespace, name) and not w.finished), None)

    def _exited(self, container: str, code: int, at: int) -> None:
        if worker := self._owners.get(container):
            worker.exited(container, code, at / 1e9)

    def _oom(self, container: str) -> None:
        if worker := self._owners.get(container):
            worker.oom(container)

    # -- now and then

    async def _relist_forever(self) -> None:
        """A net below the stream of exits; and the sizes of logs."""
        while True:
            # At once for the first time: what ended between taking stock and adoption was told to nobody.
            if self.workers and self._runtime_ready.is_set():
                try:
                    await self._relist()
                    await self._rotate_logs()
                except CriError as e:
                    log.info("listing containers: %s", e.message)
            await asyncio.sleep(_RELIST)

    async def _rotate_logs(self) -> None:
        stamp = format_time(time.time()).replace(":", "").replace("-", "")
        for worker in list(self.workers.values()):
            for record in worker.observed.running():
                path = log_directory(self.config, worker.pod) / record.name / f"{record.attempt}.log"
                if logs.needs_rotation(path):
                    moved = logs.rotate(path, stamp)
                    try:
                        await self.runtime.reopen_log(record.id)
                    except CriError as e:
                        log.warning("reopening %s: %s", path, e.message)
                        with contextlib.suppress(OSError):
                            moved.rename(path)

    async def _import_archives(self) -> None:
        try:
            imported = await import_folder(self.config)
            for name in imported:
                await wait_for_image(self.runtime, name)
        except (NodeError, CriError) as e:
            log.warning("importing images: %s", e)
        else:
            if imported:
                log.info("imported %s", ", ".join(imported))
                self._registration.poke()  # the Node tells its images
        finally:
            self._archives.set()

    async def _clear_orphans(self) -> None:
        """Stops and removes what belongs to no pod of the (synced) API, and folders without a pod."""
        known = {pod["metadata"]["uid"] for pod in self.node.pods.items()}
        for uid, observed in self._found.items():
            if uid not in known:
                log.info("pod %s is gone from the API: removing its %s sandboxes", uid, len(observed.sandboxes))
                for sandbox in observed.sandboxes:
                    await remove_sandbox(self.runtime, sandbox.id)
        self._found = {}
        loop = asyncio.get_running_loop()
        # The folders first: a pod that comes meanwhile has none among them.
        there = await loop.run_in_executor(None, _pod_folders, self.config)
        known = {pod["metadata"]["uid"] for pod in self.node.pods.items()} | set(self.workers) | self._leaving
        cgroups.remove_others(self.config, known)
        await loop.run_in_executor(None, _remove_folders, [f for f, uid in there.items() if uid not in known])


async def remove_sandbox(runtime: Runtime, sandbox: str) -> None:
    try:
        await runtime.remove_sandbox(sandbox)  # which stops it, too
    except CriError as e:
        if e.code != "NOT_FOUND":
            log.warning("removing sandbox %s: %s", sandbox[:12], e.message)


def _pod_folders(config: NodeConfig) -> dict[Path, str]:
    """The folders of pods, of their volumes and of their logs: the pod's uid by folder."""
    parents = [p for p in (config.pods_dir, config.logs_dir) if p.is_dir()]
    return {folder: folder.name.rpartition("_")[2] for p in parents for folder in p.iterdir() if folder.is_dir()}


def _remove_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        if not remove_pod_folder(folder):
            log.warning("%s still holds a mount", folder)
