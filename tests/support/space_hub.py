"""The Hub's side of Spaces: hardware, variables, secrets, builds and their logs.

The routes and bodies are those of `huggingface_hub`'s own source; what the Hub grants to whom (a
free account: two Spaces, on ZeroGPU) is its documentation's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.hub_server import Answer, Handler, Hub, Repository

HARDWARE = {"zero-a10g", "cpu-basic", "t4-small", "future-x9"}  # one that no client knows yet
FREE = {"zero-a10g"}
FREE_SPACES = 2
PAY = (
    "Static Spaces are free for everyone, but hosting Gradio and Docker Spaces on free cpu-basic "
    "requires a PRO subscription."
)


@dataclass
class Space:
    """What a Space is beside its repository."""

    sdk: str
    hardware: str
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    volumes: list[dict] = field(default_factory=list)
    # What becomes of each commit: stages in the order in which they are asked for; the last stays.
    stages: list[str] = field(default_factory=list)
    shown: str = "BUILDING"
    sha: str = ""  # the commit that runs


@dataclass
class SpaceRules:
    """How the Hub treats the next Spaces; a test changes it."""

    builds: list[str] = field(default_factory=lambda: ["BUILDING", "APP_STARTING", "RUNNING"])
    build_log: list[str] = field(default_factory=lambda: ["Building", "\x1b[2JDone"])
    run_log: list[str] = field(default_factory=lambda: ["Started"])
    message: str = ""  # the runtime's errorMessage
    subscribers: set[str] = field(default_factory=set)
    page: dict = field(default_factory=lambda: {"status": "ok"})  # what GET /health answers


@dataclass
class SpaceHub(Hub):
    """`running_hub(SpaceHub(users=...))`"""

    rules: SpaceRules = field(default_factory=SpaceRules)
    spaces: dict[str, Space] = field(default_factory=dict)
    buckets: dict[str, str] = field(default_factory=dict)  # name -> visibility

    def handler(self) -> type[Handler]:
        return SpaceHandler

    def put(self, name: str, files: dict[str, bytes], hardware: str = "cpu-basic") -> Repository:
        """A Space that is there already."""
        self.repositories[name] = Repository()
        self.repositories[name].commit("main", files)
        self.spaces[name] = Space("gradio", hardware, shown="RUNNING")
        return self.repositories[name]


class SpaceHandler(Handler):
    hub: SpaceHub

    def routes_of_kind(self) -> list[tuple[str, Callable]]:
        name = r"([\w.-]+/[\w.-]+)"
        return [
            (r"GET /api/spaces/hardware", self.list_hardware),
            (rf"GET /api/spaces/{name}/runtime", self.runtime),
            (rf"POST /api/spaces/{name}/hardware", self.set_hardware),
            (rf"GET /api/spaces/{name}/variables", self.list_variables),
            (rf"POST /api/spaces/{name}/variables", self.set_variable),
            (rf"POST /api/spaces/{name}/secrets", self.set_secret),
            (rf"PUT /api/spaces/{name}/settings", self.set_visibility),
            (rf"GET /api/spaces/{name}/logs/(build|run)", self.logs),
            (rf"PUT /api/spaces/{name}/volumes", self.set_volumes),
            (rf"POST /api/buckets/{name}", self.create_bucket),
            (rf"GET /of/{name}/health", self.health),
        ]

    def create(self) -> None:
        asked, user = json.loads(self.body), self.user()
        if asked.get("type") != "space":
            super().create()
        hardware = asked.get("hardware", "cpu-basic")
        if hardware not in HARDWARE:
            raise Answer(400, {"error": f"Invalid hardware {hardware}"})
        if user not in self.hub.rules.subscribers:
            held = [one for name, one in self.hub.spaces.items() if name.startswith(f"{user}/")]
            if hardware not in FREE:
                raise Answer(402, {"error": PAY}, X_Error_Message=PAY)
            if len(held) >= FREE_SPACES:
                told = "You have reached the limit of 2 ZeroGPU Spaces"
                raise Answer(403, {"error": told}, X_Error_Message=told)
        try:
            super().create()
        finally:
            name = f"{asked['organization'] or user}/{asked['name']}"
            if name in self.hub.repositories and name not in self.hub.spaces:
                self.hub.spaces[name] = Space(
                    asked["sdk"], hardware, _values(asked, "variables"), _values(asked, "secrets")
                )

    def commit(self, name: str, branch: str) -> None:
        if name in self.hub.spaces:
            self.writable(name)
            self.hub.spaces[name].stages = list(self.hub.rules.builds)
        super().commit(name, branch)

    def describe(self, name: str, revision: str = "main") -> None:
        try:
            super().describe(name, revision)
        except Answer as answer:
            if answer.status != 200 or name not in self.hub.spaces:
                raise
            about = json.loads(answer.body) | {
                "host": f"{self.hub.url}/of/{name}",
                "runtime": self.runtime_of(name),
            }
            raise Answer(200, about) from None

    def runtime_of(self, name: str) -> dict:
        space = self.hub.spaces[name]
        return {
            "stage": space.shown,
            "hardware": {"current": space.hardware, "requested": space.hardware},
            "sha": space.sha,
            "volumes": space.volumes,
            "errorMessage": self.hub.rules.message,
        }

    def runtime(self, name: str) -> None:
        self.readable(name)
        space = self.hub.spaces[name]
        if space.stages:
            space.shown = space.stages.pop(0)
        if space.shown == "RUNNING" and not space.stages:
            space.sha = self.hub.repositories[name].branches["main"]
        raise Answer(200, self.runtime_of(name))

    def list_hardware(self) -> None:
        common = {"prettyName": "", "cpu": "", "ram": "", "accelerator": None}
        cost = {"unitCostMicroUSD": 0, "unitCostUSD": 0, "unitLabel": "minute"}
        raise Answer(200, [{"name": name} | common | cost for name in sorted(HARDWARE)])

    def set_hardware(self, name: str) -> None:
        self.writable(name)
        self.hub.spaces[name].hardware = json.loads(self.body)["flavor"]
        raise Answer(200, self.runtime_of(name))

    def list_variables(self, name: str) -> None:
        self.writable(name)
        found = self.hub.spaces[name].variables.items()
        raise Answer(200, {key: {"value": value} for key, value in found})

    def set_variable(self, name: str) -> None:
        self.writable(name)
        asked = json.loads(self.body)
        self.hub.spaces[name].variables[asked["key"]] = asked["value"]
        self.list_variables(name)

    def set_secret(self, name: str) -> None:
        self.writable(name)
        asked = json.loads(self.body)
        self.hub.spaces[name].secrets[asked["key"]] = asked["value"]
        raise Answer(200, {})

    def set_volumes(self, name: str) -> None:
        self.writable(name)
        self.hub.spaces[name].volumes = json.loads(self.body)["volumes"]
        raise Answer(200, {})

    def create_bucket(self, name: str) -> None:
        if self.user() != name.partition("/")[0]:
            raise Answer(403, {"error": "Forbidden"})
        if name in self.hub.buckets:
            raise Answer(409, {"error": "exists", "url": f"{self.hub.url}/buckets/{name}"})
        self.hub.buckets[name] = json.loads(self.body)["visibility"]
        raise Answer(200, {"url": f"{self.hub.url}/buckets/{name}"})

    def set_visibility(self, name: str) -> None:
        asked = json.loads(self.body)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.writable(name).private = private
        raise Answer(200, {})

    def logs(self, name: str, kind: str) -> None:
        self.readable(name)
        lines = self.hub.rules.build_log if kind == "build" else self.hub.rules.run_log
        events = [{"data": f"{line}\n", "timestamp": "2026-11-25T10:00:00Z"} for line in lines]
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        raise Answer(200, body.encode(), Content_Type="text/event-stream")

    def health(self, name: str) -> None:
        """The page of the Space itself; the Hub lets nobody in who may not read it."""
        self.readable(name)
        raise Answer(200, self.hub.rules.page)


def _values(asked: dict, kind: str) -> dict[str, str]:
    return {one["key"]: one["value"] for one in asked.get(kind) or []}
