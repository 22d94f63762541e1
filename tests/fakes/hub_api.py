"""The HTTP API of the loopback Hub of hub_server.py: who may do what, and the routes that huggingface_hub calls."""

import base64
import hashlib
import json
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import yaml
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tests.fakes.hub_store import Commit, Refused, Repo, Store, check_card, describe_tree, is_lfs, read_metadata

__all__ = ["TOKENS", "Api", "Token"]


@dataclass(frozen=True)
class Token:
    """Who signs in with it, its role as whoami says it, and the namespaces that it opens, the user's own first."""

    user: str
    role: Literal["read", "write", "fineGrained"]
    namespaces: tuple[str, ...]


TOKENS = {  # the secret of "write" is hf_write, and so on
    "write": Token("owner", "write", ("owner", "lab")),
    "read": Token("owner", "read", ("owner", "lab")),
    "fine": Token("owner", "fineGrained", ("owner",)),
    "someone": Token("someone", "write", ("someone",)),
}


def sign_in(request: Request) -> Token | None:
    """Whose request it is; None for nobody's."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    name = header.removeprefix("Bearer hf_")
    if name not in TOKENS:
        raise Refused(401, "Invalid credentials in Authorization header")
    return TOKENS[name]


def require_writer(request: Request, namespace: str | None) -> Token:
    """Who asks, unless they may not write in the namespace; None for any (a pull request)."""
    token = sign_in(request)
    if token is None:
        raise Refused(401, "Invalid username or password.")
    if token.role == "read":
        raise Refused(403, "you must use a write token to upload to a repository.")
    if namespace is not None and namespace not in token.namespaces:
        raise Refused(403, f"You don't have the rights to write under the namespace {namespace}")
    return token


async def answer_refusal(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    message = " ".join(str(refused).encode("ascii", "replace").decode().split())
    headers = {"X-Error-Message": message, "X-Error-Code": refused.code, "X-Repo-Commit": refused.sha}
    content = {"error": str(refused)} | ({"url": refused.url} if refused.url else {})
    return JSONResponse(content, refused.status, {name: value for name, value in headers.items() if value})


class KindConvertor(Convertor[str]):
    """The kinds of repositories, {kind:kind} in a route."""

    regex = "models|datasets|spaces"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("kind", KindConvertor())


class Api:
    """The routes. Paths are matched as they are sent, so that refs%2Fpr%2F1 is one part of them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def build(self) -> Starlette:
        api, url = "/api/{kind:kind}/{owner}/{name}", "/{owner}/{name}"
        routes = [
            ("GET", "/api/whoami-v2", self.describe_user),
            ("POST", "/api/validate-yaml", self.validate_card),
            ("POST", "/api/repos/create", self.create_repo),
            ("GET", "/api/{kind:kind}/{name}", self.miss_repo),
            ("GET", api, self.describe_repo),
            ("GET", api + "/revision/{revision}", self.describe_repo),
            ("GET", api + "/auth-check", self.check_access),
            ("GET", api + "/auth-check/{write}", self.check_access),
            ("GET", api + "/tree/{revision}", self.list_tree),
            ("GET", api + "/tree/{revision}/{path:path}", self.list_tree),
            ("POST", api + "/paths-info/{revision}", self.list_paths),
            ("GET", api + "/refs", self.list_refs),
            ("GET", api + "/commits/{revision}", self.list_commits),
            ("POST", api + "/branch/{branch}", self.create_branch),
            ("POST", api + "/tag/{revision}", self.create_tag),
            ("POST", api + "/preupload/{revision}", self.choose_modes),
            ("POST", api + "/commit/{revision}", self.create_commit),
            ("PUT", "/lfs/{oid}", self.upload),
            ("POST", "/lfs/{oid}", self.verify),
            ("GET", "/{name}/resolve/{revision}/{path:path}", self.miss_repo),
        ]
        for prefix in ("", "/{kind:kind}"):
            routes.append(("POST", prefix + url + ".git/info/lfs/objects/batch", self.plan_uploads))
            routes.append(("GET", prefix + url + "/resolve/{revision}/{path:path}", self.download))
        other = Route("/{path:path}", self.give_up, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
        known = [Route(path, handle, methods=[method]) for method, path, handle in routes]
        return Starlette(routes=[*known, other], exception_handlers={Refused: answer_refusal})

    def find(self, request: Request) -> Repo:
        """The repository of the path, if it is there for who asks."""
        token, place = sign_in(request), request.path_params
        repo = self.store.repos.get((place.get("kind", "models"), f"{place['owner']}/{place['name']}"))
        if repo is None or (repo.private and (token is None or place["owner"] not in token.namespaces)):
            raise Refused(404 if token else 401, "Repository not found", "RepoNotFound")
        return repo

    def find_commit(self, request: Request) -> tuple[Repo, Commit]:
        repo = self.find(request)
        return repo, repo.resolve(unquote(request.path_params.get("revision", "main")))

    def address(self, request: Request, repo: Repo) -> str:
        return f"{request.base_url}{'' if repo.kind == 'models' else repo.kind + '/'}{repo.id}"

    async def give_up(self, request: Request) -> Response:
        raise Refused(501, f"this loopback Hub has no {request.method} {request.url.path}")

    async def miss_repo(self, request: Request) -> Response:
        """Names without a namespace: the Hub has some, this one has none."""
        raise Refused(404 if sign_in(request) else 401, "Repository not found", "RepoNotFound")

    async def describe_user(self, request: Request) -> Response:
        token = sign_in(request)
        if token is None:
            raise Refused(401, "Invalid username or password.")
        access: dict[str, Any] = {"displayName": "loopback", "role": token.role}
        if token.role == "fineGrained":
            rights = ["repo.content.read", "repo.write"]
            scopes = [{"entity": {"type": "user", "name": token.user}, "permissions": rights}]
            access["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scopes}
        orgs = [{"type": "org", "name": name, "roleInOrg": "write"} for name in token.namespaces[1:]]
        user = {"type": "user", "name": token.user, "fullname": token.user, "isPro": False, "orgs": orgs}
        return JSONResponse(user | {"auth": {"type": "access_token", "accessToken": access}})

    async def validate_card(self, request: Request) -> Response:
        body = await request.json()
        errors, warnings = check_card(body["content"], body.get("repoType", "model"))
        answer = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warnings]}
        return JSONResponse(answer, 400 if errors else 200)

    async def create_repo(self, request: Request) -> Response:
        body = await request.json()
        token = require_writer(request, body.get("organization"))
        kind, repo_id = body.get("type", "model") + "s", f"{body.get('organization') or token.user}/{body['name']}"
        if (kind, repo_id) in self.store.repos:
            url = self.address(request, self.store.repos[kind, repo_id])
            raise Refused(409, f"You already created this {kind[:-1]} repo", url=url)
        if not re.fullmatch(r"(?!.*(--|\.\.|\.git$))\w([\w.-]{0,94}\w)?", body["name"], re.ASCII):
            raise Refused(400, f"Invalid repo name: {body['name']}")
        private = body.get("visibility") == "private"
        repo = self.store.create(kind, repo_id, token.user, private=private, sdk=body.get("sdk"))
        return JSONResponse({"url": self.address(request, repo), "name": repo.id})

    async def check_access(self, request: Request) -> Response:
        repo = self.find(request)
        if "write" in request.path_params:
            require_writer(request, repo.id.split("/")[0])
        return JSONResponse({})

    async def describe_repo(self, request: Request) -> Response:
        repo, commit = self.find_commit(request)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.files)]
        if "blobs" in request.query_params:
            for entry in siblings:
                file = commit.files[entry["rfilename"]]
                entry |= {"size": file.size, "blobId": file.oid} | file.lfs
        info: dict[str, Any] = {"id": repo.id, "author": repo.id.split("/")[0], "sha": commit.sha, "sdk": repo.sdk}
        info |= {"siblings": siblings, "lastModified": commit.date, "private": repo.private, "gated": False}
        data = self.read_card(commit)
        info |= {"cardData": data, "tags": data.get("tags") or []}
        info |= {name: data[name] for name in ("library_name", "pipeline_tag", "model-index") if name in data}
        wanted = request.query_params.getlist("expand") or list(info)
        return JSONResponse({name: value for name, value in info.items() if name in (*wanted, "id")})

    def read_card(self, commit: Commit) -> dict[str, Any]:
        """The metadata of the card as JSON holds them; nothing where there is no card or it cannot be read."""
        data = None
        if "README.md" in commit.files:
            with suppress(yaml.YAMLError):
                data = read_metadata(self.store.blob(commit.files["README.md"].key).read_text(errors="replace"))
        return json.loads(json.dumps(data, default=str)) if isinstance(data, dict) else {}

    async def list_tree(self, request: Request) -> Response:
        _, commit = self.find_commit(request)
        folder = unquote(request.path_params.get("path", "")).strip("/")
        inside = f"{folder}/" if folder else ""
        entries = [entry for entry in describe_tree(commit.files) if entry["path"].startswith(inside)]
        if not entries:
            raise Refused(404, f"{folder} does not exist", "EntryNotFound")
        if request.query_params.get("recursive", "false").lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(inside)]
        return JSONResponse(entries)

    async def list_paths(self, request: Request) -> Response:
        async with request.form() as form:
            wanted = form.getlist("paths")
        return JSONResponse([e for e in describe_tree(self.find_commit(request)[1].files) if e["path"] in wanted])

    async def list_refs(self, request: Request) -> Response:
        repo, kinds = (
            self.find(request),
            {"branches": "refs/heads/", "converts": "refs/convert/", "tags": "refs/tags/"},
        )
        if "include_prs" in request.query_params:
            kinds["pullRequests"] = "refs/pr/"
        answer: dict[str, list[dict[str, str]]] = {kind: [] for kind in kinds}
        for ref, sha in repo.refs.items():
            for kind, prefix in kinds.items():
                if ref.startswith(prefix):
                    answer[kind].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha})
        return JSONResponse(answer)

    async def list_commits(self, request: Request) -> Response:
        repo, commit = self.find_commit(request)
        answer = [
            {"id": c.sha, "title": c.title, "message": c.message, "authors": [{"user": c.author}], "date": c.date}
            for c in repo.list_history(commit.sha)
        ]
        return JSONResponse(answer)

    async def create_branch(self, request: Request) -> Response:
        revision = (await request.json()).get("startingPoint", "main")
        return self.add_ref(request, f"refs/heads/{unquote(request.path_params['branch'])}", revision)

    async def create_tag(self, request: Request) -> Response:
        tag = (await request.json())["tag"]
        return self.add_ref(request, f"refs/tags/{tag}", unquote(request.path_params["revision"]))

    def add_ref(self, request: Request, ref: str, revision: str) -> Response:
        repo = self.find(request)
        require_writer(request, repo.id.split("/")[0])
        with self.store.lock:
            commit = repo.resolve(revision)
            if ref in repo.refs:
                raise Refused(409, f"Reference already exists: {ref}")
            repo.refs[ref] = commit.sha
            self.store.save()
        return JSONResponse({}, 201)

    async def choose_modes(self, request: Request) -> Response:
        body = await request.json()
        repo, commit = self.find_commit(request)
        require_writer(request, None if "create_pr" in request.query_params else repo.id.split("/")[0])
        answer = []
        for file in body["files"]:
            lfs = is_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
            there = commit.files.get(file["path"])
            entry = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            answer.append(entry | ({} if there is None else {"oid": there.key}))
        return JSONResponse({"files": answer})

    async def plan_uploads(self, request: Request) -> Response:
        body, repo = await request.json(), self.find(request)
        require_writer(request, repo.id.split("/")[0] if "ref" in body else None)  # a pull request names no ref
        objects = []
        for entry in body["objects"]:
            action = {"href": f"{request.base_url}lfs/{entry['oid']}", "header": {}}
            missing = not self.store.blob(entry["oid"]).exists()
            objects.append(entry | ({"actions": {"upload": action, "verify": action}} if missing else {}))
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def upload(self, request: Request) -> Response:
        oid, digest = request.path_params["oid"], hashlib.sha256()
        with tempfile.TemporaryDirectory(dir=self.store.folder) as folder:
            partial = Path(folder) / "partial"
            with partial.open("wb") as file:
                async for chunk in request.stream():
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != oid:
                raise Refused(400, "the content does not have the SHA-256 of its address")
            os.replace(partial, self.store.blob(oid))
        return Response()

    async def verify(self, request: Request) -> Response:
        body, blob = await request.json(), self.store.blob(request.path_params["oid"])
        if not blob.exists() or blob.stat().st_size != body["size"]:
            raise Refused(404, "the LFS object was not uploaded")
        return JSONResponse({})

    async def create_commit(self, request: Request) -> Response:
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        repo, create_pr = self.find(request), "create_pr" in request.query_params
        author = require_writer(request, None if create_pr else repo.id.split("/")[0]).user
        revision = unquote(request.path_params["revision"])
        commit, number = self.store.apply(repo, revision, lines, author=author, create_pr=create_pr)
        url = self.address(request, repo)
        answer = {"commitOid": commit.sha, "commitUrl": f"{url}/commit/{commit.sha}"}
        return JSONResponse(answer | ({"pullRequestUrl": f"{url}/discussions/{number}"} if create_pr else {}))

    async def download(self, request: Request) -> Response:
        _, commit = self.find_commit(request)
        file = commit.files.get(unquote(request.path_params["path"]))
        if file is None:
            raise Refused(404, "Entry not found", "EntryNotFound", sha=commit.sha)
        headers = {"ETag": f'"{file.key}"', "X-Repo-Commit": commit.sha}
        if file.sha256 is not None:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        return FileResponse(self.store.blob(file.key), headers=headers, media_type="application/octet-stream")
