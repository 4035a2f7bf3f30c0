"""A Ray without processes: nodes are rows of a list, actors are objects of this process.

It has what the program uses of Ray, and takes the place of the module ``ray``. What Ray itself does
(starting, killing and placing real processes, its error texts) is tested in ``tests/cli``.
"""

from __future__ import annotations

import socket
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

from engine.cluster.seat import News

Call = Callable[[], Any]


class RayError(Exception):
    """An actor or the cluster failed."""

    actor_init_failed = False


def actor_died(ip: str = "10.0.0.1") -> RayError:
    """Return what Ray raises where a process was killed."""
    return RayError(
        f"The actor died unexpectedly before finishing this task.\n\tclass_name: Seat\n\tip: {ip}\n"
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    )


def init_failed(ip: str, error: Exception) -> RayError:
    """Return what Ray raises where the constructor of an actor raised."""
    raised = RayError(
        "The actor died because of an error raised in its creation task, "
        f"ray::Seat.__init__() (pid=71, ip={ip}, actor_id=55)\n{type(error).__name__}: {error}"
    )
    raised.actor_init_failed = True
    return raised


def node(id: str = "aa", ip: str = "10.0.0.1", **resources: float) -> dict[str, Any]:
    """Return a node as Ray describes it."""
    return {"NodeID": id, "NodeManagerAddress": ip, "Alive": True, "Resources": resources}


class ScriptedSeat:
    """A worker that trains nothing and answers what the test tells it to.

    :ivar given: arguments of its constructor.
    :ivar begun: runs it was sent, as (number, id, archive).
    :ivar told: commands it was sent, as (number, state, reason).
    """

    def __init__(self, *given: Any) -> None:
        self.given = given
        self.begun: list[tuple[int, str, bytes]] = []
        self.told: list[tuple[int, str, str]] = []
        self.has_left = False
        self._news: deque[tuple[bytes, bytes]] = deque()

    def begin(self, number: int, run: str, archive: bytes) -> None:
        self.begun.append((number, run, archive))

    def tell(self, number: int, desired: str, reason: str) -> None:
        self.told.append((number, desired, reason))

    def leave(self) -> None:
        self.has_left = True

    def news(self, number: int) -> tuple[bytes, bytes] | None:
        return self._news.popleft() if self._news else None

    def say(self, news: News | bytes, archive: bytes = b"") -> None:
        """Have this fetched next."""
        self._news.append((news if isinstance(news, bytes) else news.to_bytes(), archive))


class Actor:
    """A process of the cluster, which waits for a node with free resources.

    :ivar worker: its object, once it has begun.
    :ivar error: why it is gone.
    """

    def __init__(self, ray: FakeRay, make: Call, options: dict[str, Any]) -> None:
        self.worker: Any = None
        self.node: dict[str, Any] | None = None
        self.options = options
        self.error: RayError | None = None
        self.ray = ray
        self._make = make
        self._calls: list[Call] = []

    def begin(self) -> None:
        """Begin, if there is a node for it."""
        if self.worker is None and self.error is None and (found := self.ray.place(self.options)):
            self.node = self.ray.this_node = found
            try:
                self.worker = self._make()
            except Exception as error:  # noqa: BLE001 - as Ray
                self.die(init_failed(found["NodeManagerAddress"], error))
            for call in self._calls:
                call()

    def call(self, name: str, arguments: Sequence[Any]) -> list[Reference]:
        is_question = name == "news"  # the answer is looked for whenever somebody waits for it
        result = Result(
            self,
            lambda: getattr(self.worker, name)(*arguments) or (None if is_question else "done"),
        )
        if not is_question:
            self._calls.append(result.is_ready)
            result.is_ready()
        return [Reference(result, 0), Reference(result, 1)]

    def die(self, error: RayError) -> None:
        """Be gone; what is asked of it raises."""
        self.error = self.error or error


class Result:
    """Of a call; there once the worker answers anything, or is gone."""

    def __init__(self, actor: Actor, call: Call) -> None:
        self._actor = actor
        self._call = call
        self._value: Any = None
        self._done = False

    def is_ready(self) -> bool:
        self._actor.begin()
        if self._actor.worker is not None and self._actor.error is None and not self._done:
            self._value = self._call()
            self._done = self._value is not None
        return self._done or self._actor.error is not None

    def get(self) -> Any:
        if not self._done:
            assert self._actor.error is not None, "nothing is there yet"
            raise self._actor.error
        return self._value


class Reference:
    """To one part of a result."""

    def __init__(self, result: Result, part: int) -> None:
        self.result = result
        self._part = part

    def get(self) -> Any:
        return self.result.get()[self._part]


class Handle:
    """What the program has of an actor; an actor ends with its last handle."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        weakref.finalize(self, actor.die, RayError("its handle is gone"))

    def __getattr__(self, name: str) -> Method:
        return Method(self.actor, name)


class Method:
    """Of an actor."""

    def __init__(self, actor: Actor, name: str) -> None:
        self._actor = actor
        self._name = name

    def options(self, *, num_returns: int) -> Method:
        return self

    def remote(self, *arguments: Any) -> list[Reference]:
        if self._name == "begin" and self._actor.ray.is_store_full:
            raise RayError("the object store is full")
        return self._actor.call(self._name, arguments)


class FakeRay(ModuleType):
    """The module ``ray``, and the cluster behind it.

    :ivar address: of the head; somebody listens there as long as there is one.
    :ivar machines: the nodes.
    :ivar actors: every actor that was ever made.
    :ivar worker: makes the objects of actors, instead of the program's class, if it is not None.
    :ivar init_error: raised when the program connects, if it is not None.
    :ivar init_options: of every connection.
    :ivar is_new: the head was started anew and does not know this process any more.
    :ivar is_store_full: no archive can be sent.
    :ivar sleep: lets the time pass for which the program waits in vain.
    """

    def __init__(self) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.exceptions = SimpleNamespace(RayError=RayError)
        self._private = SimpleNamespace(worker=SimpleNamespace())
        self._head = socket.create_server(("127.0.0.1", 0))
        self._head.setblocking(False)
        self.address = f"127.0.0.1:{self._head.getsockname()[1]}"
        self.machines = [node(CPU=1.0)]
        self.this_node = self.machines[0]
        self.actors: list[Actor] = []
        self.worker: Callable[..., Any] | None = None
        self.init_error: Exception | None = None
        self.init_options: list[dict[str, Any]] = []
        self.is_new = self.is_store_full = False
        self.sleep: Callable[[float], None] = lambda seconds: None

    @property
    def alive(self) -> list[Actor]:
        """Actors that have begun and are not gone."""
        return [a for a in self.actors if a.worker is not None and a.error is None]

    @property
    def seats(self) -> list[Any]:
        """The objects of :attr:`alive`."""
        return [actor.worker for actor in self.alive]

    def lose_head(self) -> None:
        self._head.close()

    def place(self, options: dict[str, Any]) -> dict[str, Any] | None:
        """Return the node with the fewest actors of those that may take one."""
        selector = (options.get("label_selector") or {}).get("ray.io/node-id", "!in()")
        excluded = selector.removeprefix("!in(").removesuffix(")").split(",")
        wanted = {"CPU": options["num_cpus"], "GPU": options["num_gpus"]}
        found = []
        for one in self.machines:
            there = [actor for actor in self.alive if actor.node is one]
            used = {key: sum(a.options[f"num_{key.lower()}s"] for a in there) for key in wanted}
            has_room = all(
                one["Resources"].get(key, 0.0) >= used[key] + wanted[key] for key in wanted
            )
            if has_room and one["NodeID"] not in excluded:
                found.append((len(there), one["NodeID"], one))
        return min(found, key=lambda one: one[:2])[2] if found else None

    def close(self) -> None:
        """End all actors."""
        for actor in self.actors:
            actor.die(RayError("the cluster is gone"))
            if actor.worker is not None:
                actor.worker.leave()
        self._head.close()

    # what the program calls

    def init(self, **options: Any) -> None:
        self.init_options.append(options)
        if self.init_error is not None:
            raise self.init_error

    def shutdown(self) -> None:
        for actor in self.alive:
            actor.die(RayError("who asked is gone"))

    def nodes(self) -> list[dict[str, Any]]:
        if self.is_new:
            raise RayError("the head knows us no more")
        while self._head.fileno() >= 0:  # take the connections that looked for a head
            try:
                self._head.accept()[0].close()
            except BlockingIOError:
                return self.machines
        raise AssertionError("without a head the question would wait")

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(
            gcs_address=self.address, get_node_id=lambda: self.this_node["NodeID"]
        )

    def remote(self, worker: Callable[..., Any]) -> Any:
        def make(options: dict[str, Any], given: Sequence[Any]) -> Handle:
            actor = Actor(self, lambda: (self.worker or worker)(*given), options)
            self.actors.append(actor)
            actor.begin()
            return Handle(actor)

        return SimpleNamespace(
            options=lambda **options: SimpleNamespace(remote=lambda *given: make(options, given))
        )

    def wait(
        self, references: Sequence[Any], *, num_returns: int, timeout: float
    ) -> tuple[list[Any], list[Any]]:
        assert references, "Ray refuses to wait for nothing"
        first = [one[0] if isinstance(one, list) else one for one in references]
        ready = [one for one in first if one.result.is_ready()][:num_returns]
        if not ready:
            self.sleep(timeout)
        return ready, [one for one in first if one not in ready]

    def get(self, references: Sequence[Reference]) -> list[Any]:
        return [reference.get() for reference in references]

    def kill(self, handle: Handle) -> None:
        handle.actor.die(actor_died())
