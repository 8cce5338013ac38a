"""A Hugging Face Hub in miniature: the real client talks to it over real HTTP.

It knows repositories with branches and pull requests, users by their tokens, LFS, and the errors
that the real one gives; `space_hub` adds what is special about Spaces. Everything is in memory; a
test reads and changes it directly.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

LFS_FILES = (".safetensors", ".bin")


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    disabled: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # id -> whole content
    branches: dict[str, str] = field(default_factory=dict)  # name -> commit id

    def __post_init__(self) -> None:
        self.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{branch} {len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = dict(files)
        self.branches[branch] = oid
        return oid

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        oid = self.branches.get(revision, revision)
        return (oid, self.commits[oid]) if oid in self.commits else None

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.branches["main"]]


@dataclass
class Fault:
    """What the server answers to requests whose "METHOD path" matches `pattern`."""

    pattern: str
    status: int  # CUT: the connection ends without an answer
    code: str = ""  # X-Error-Code
    message: str = ""


CUT = 0


@dataclass
class Hub:
    url: str = ""
    users: dict[str, str] = field(default_factory=dict)  # token -> name
    readers: set[str] = field(default_factory=set)  # tokens that may only read
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)  # what was PUT for LFS, by sha256
    faults: list[Fault] = field(default_factory=list)
    card_errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # "METHOD path"

    def handler(self) -> type[Handler]:
        return Handler


@contextmanager
def running_hub(hub: Hub | None = None, **settings: object) -> Iterator[Hub]:
    """A Hub on a free port of this machine: `hub`, or one with these settings."""
    hub = hub or Hub(**settings)
    handler = type("BoundHandler", (hub.handler(),), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class Answer(Exception):
    """Raised by a handler's parts: the response to give."""

    def __init__(self, status: int, body: object = b"", **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        self.route = unquote(parts.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {self.route}")
        try:
            self.fail_as_told()
            self.dispatch()
            raise Answer(404, {"error": "no such page"})
        except Answer as answer:
            if answer.status == CUT:
                self.close_connection = True
            else:
                self.send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *arguments: object) -> None:
        pass

    def send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def fail_as_told(self) -> None:
        for fault in self.hub.faults:
            if re.search(fault.pattern, f"{self.command} {self.route}"):
                told = {"X_Error_Code": fault.code, "X_Error_Message": fault.message}
                raise Answer(
                    fault.status,
                    {"error": fault.message},
                    **{name: value for name, value in told.items() if value},
                )

    def dispatch(self) -> None:
        for pattern, method in (*self.routes_of_kind(), *self.routes()):
            if found := re.fullmatch(pattern, f"{self.command} {self.route}"):
                method(*found.groups())

    def routes_of_kind(self) -> list[tuple[str, Callable]]:
        """What a kind of Hub adds, looked at first."""
        return []

    def routes(self) -> list[tuple[str, Callable]]:
        name, kind = r"([\w.-]+/[\w.-]+)", "(?:models|spaces)"
        return [
            (r"GET /api/whoami-v2", self.whoami),
            (r"POST /api/repos/create", self.create),
            (r"POST /api/validate-yaml", self.validate_card),
            (rf"POST /api/{kind}/{name}/branch/(.+)", self.branch),
            (rf"POST /api/{kind}/{name}/preupload/(.+)", self.preupload),
            (rf"POST /(?:spaces/)?{name}\.git/info/lfs/objects/batch", self.lfs_batch),
            (r"PUT /lfs/(\w+)", self.lfs_put),
            (rf"POST /api/{kind}/{name}/commit/(.+)", self.commit),
            (rf"GET /api/{kind}/{name}", self.describe),
            (rf"GET /api/{kind}/{name}/revision/(.+)", self.describe),
            (rf"GET /api/{kind}/{name}/tree/(.+)", self.tree),
            (rf"(?:GET|HEAD) /{name}/resolve/([^/]+|refs/pr/\d+)/(.+)", self.resolve),
        ]

    # Who asks, and for what

    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in self.hub.users:
            wrong = "Invalid credentials in Authorization header"
            raise Answer(401, {"error": wrong}, X_Error_Message=wrong)
        return self.hub.users[token]

    def whoami(self) -> None:
        user = self.user()
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        access = {"role": "read" if token in self.hub.readers else "write"}
        about = {"type": "user", "name": user, "orgs": [], "auth": {"accessToken": access}}
        raise Answer(200 if user else 401, about)

    def readable(self, name: str) -> Repository:
        user, repository = self.user(), self.hub.repositories.get(name)
        owned = user == name.partition("/")[0]
        if repository is None or (repository.private and not owned):
            raise Answer(404 if user else 401, X_Error_Code="RepoNotFound")
        if repository.disabled:
            raise Answer(403, X_Error_Message="Access to this resource is disabled.")
        return repository

    def writable(self, name: str) -> Repository:
        user = self.user()
        if user is None:
            raise Answer(401, {"error": "Unauthorized"})
        repository = self.readable(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.hub.readers:
            raise Answer(403, {"error": "Forbidden"}, X_Error_Message="This token only reads")
        if user != name.partition("/")[0] and "create_pr" not in self.query:
            raise Answer(403, {"error": "Forbidden"}, X_Error_Message="You have no write access")
        return repository

    @staticmethod
    def revision(repository: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
        if found := repository.at(revision):
            return found
        raise Answer(404, X_Error_Code="RevisionNotFound")

    # Writing

    def create(self) -> None:
        user, asked = self.user(), json.loads(self.body)
        owner = asked["organization"] or user
        name = f"{owner}/{asked['name']}"
        if user is None:
            raise Answer(401, {"error": "Unauthorized"})
        if owner != user:
            raise Answer(403, {"error": "Forbidden"}, X_Error_Message="no rights here")
        if name in self.hub.repositories:
            raise Answer(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        raise Answer(200, {"url": f"{self.hub.url}/{name}"})

    def validate_card(self) -> None:
        errors = [{"message": message} for message in self.hub.card_errors]
        raise Answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def branch(self, name: str, branch: str) -> None:
        repository = self.writable(name)
        if branch in repository.branches:
            raise Answer(409, {"error": "exists"})
        repository.branches[branch] = repository.branches["main"]
        raise Answer(200, {})

    def preupload(self, name: str, revision: str) -> None:
        files = self.revision(self.writable(name), revision)[1]
        answers = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(LFS_FILES) else "regular"
            known = {"oid": oid_of(path, files[path])} if path in files else {}
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        raise Answer(200, {"files": answers})

    def lfs_batch(self, name: str) -> None:
        self.user()
        objects = json.loads(self.body)["objects"]
        for asked in objects:
            if asked["oid"] not in self.hub.blobs:
                href = f"{self.hub.url}/lfs/{asked['oid']}"
                asked["actions"] = {"upload": {"href": href, "header": {}}}
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Answer(400, {"error": "another content"})
        self.hub.blobs[oid] = self.body
        raise Answer(200)

    def commit(self, name: str, branch: str) -> None:
        repository = self.writable(name)
        files = dict(self.revision(repository, branch)[1])
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        answer = {}
        if "create_pr" in self.query:
            number = 1 + sum(ref.startswith("refs/pr/") for ref in repository.branches)
            branch = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.hub.url}/{name}/discussions/{number}"
        oid = repository.commit(branch, files)
        raise Answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid}
                     | answer)  # fmt: skip

    # Reading

    def describe(self, name: str, revision: str = "main") -> None:
        oid, files = self.revision(self.readable(name), revision)
        siblings = [{"rfilename": path} for path in files]
        private = self.hub.repositories[name].private
        raise Answer(200, {"id": name, "sha": oid, "siblings": siblings, "private": private})

    def tree(self, name: str, revision: str) -> None:
        files = self.revision(self.readable(name), revision)[1]
        raise Answer(200, [tree_entry(path, content) for path, content in files.items()])

    def resolve(self, name: str, revision: str, path: str) -> None:
        repository = self.readable(name)
        if repository.gated and self.user() != name.partition("/")[0]:
            raise Answer(403, X_Error_Code="GatedRepo")
        oid, files = self.revision(repository, revision)
        if path not in files:
            raise Answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
        content = files[path]
        etag = f'"{oid_of(path, content)}"'
        headers = {"X_Repo_Commit": oid, "ETag": etag}
        if path.endswith(LFS_FILES):
            headers |= {"X_Linked_Etag": etag, "X_Linked_Size": str(len(content))}
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            begin = int(asked[1])
            headers["Content_Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            raise Answer(206, content[begin:], **headers)
        raise Answer(200, content, **headers)


def oid_of(path: str, content: bytes) -> str:
    """What the Hub calls a file's content: sha256 in LFS, git's own sha1 elsewhere."""
    if path.endswith(LFS_FILES):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def tree_entry(path: str, content: bytes) -> dict[str, object]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": oid_of(path, content)}
    if path.endswith(LFS_FILES):
        entry["lfs"] = {"oid": oid_of(path, content), "size": len(content), "pointerSize": 130}
    return entry
