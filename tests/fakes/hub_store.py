"""What the loopback Hub of hub_server.py keeps: git-like repositories in a folder, and the rules for them."""

import base64
import codecs
import hashlib
import json
import re
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from stroke_hub.files import write_text

__all__ = ["Commit", "File", "Refused", "Repo", "Store", "check_card", "describe_tree", "is_lfs", "read_metadata"]

LFS_SUFFIXES = (".safetensors", ".pth", ".onnx", ".bin", ".pt", ".npz", ".zip", ".gz")
REGULAR_LIMIT = 10 * 1024**2  # bytes; the Hub takes larger files as LFS only
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


class Refused(Exception):
    """An answer other than 2xx: status, message, the X-Error-Code, and what else the client is told."""

    def __init__(
        self, status: int, message: str, code: str | None = None, *, url: str | None = None, sha: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.url, self.sha = status, code, url, sha


def hash_blob(data: bytes) -> str:
    """Git's SHA-1 of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def is_lfs(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub wants a file as LFS: for its name, its size in bytes, or a beginning that is not text."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return True
    return path.endswith(LFS_SUFFIXES) or size > REGULAR_LIMIT or b"\0" in sample


@dataclass(frozen=True)
class File:
    """A file of a commit. oid: git's SHA-1, of the pointer where it is LFS; sha256: of the content, LFS only."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def key(self) -> str:
        """What its content is stored under; its ETag too."""
        return self.sha256 or self.oid

    @property
    def lfs(self) -> dict[str, Any]:
        """The entry that says that it is LFS; nothing where it is not."""
        if self.sha256 is None:
            return {}
        pointer = len(point(self.sha256, self.size))
        return {"lfs": {"oid": self.sha256, "sha256": self.sha256, "size": self.size, "pointerSize": pointer}}


@dataclass(frozen=True)
class Commit:
    """A commit; `files` is its whole tree, path -> File."""

    sha: str
    parents: list[str]
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repo:
    """A repository; `refs` maps full names (refs/heads/main, refs/tags/v1, refs/pr/1) to commits."""

    kind: str  # models, datasets or spaces
    id: str
    private: bool = False
    sdk: str | None = None
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit:
        """The commit of a branch, a tag, a full ref or (the beginning of) a SHA."""
        for prefix in ("", "refs/heads/", "refs/tags/"):
            if prefix + revision in self.refs:
                return self.commits[self.refs[prefix + revision]]
        found = [commit for sha, commit in self.commits.items() if sha.startswith(revision.lower())]
        if len(revision) < 7 or len(found) != 1:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0]

    def list_history(self, revision: str) -> list[Commit]:
        """That commit and what it was made on, newest first."""
        history = [self.resolve(revision)]
        while history[-1].parents:
            history.append(self.commits[history[-1].parents[0]])
        return history


class Store:
    """Repositories in a folder: contents under blobs/, everything else in repos.json, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        index = folder / "repos.json"
        for entry in json.loads(index.read_text(encoding="utf-8")) if index.exists() else []:
            for sha, commit in entry["commits"].items():
                files = {path: File(**file) for path, file in commit["files"].items()}
                entry["commits"][sha] = Commit(**commit | {"files": files})
            self.repos[entry["kind"], entry["id"]] = Repo(**entry)

    def save(self) -> None:
        """Make what changed last."""
        write_text(self.folder / "repos.json", json.dumps([asdict(repo) for repo in self.repos.values()]))

    def blob(self, key: str) -> Path:
        """Where the content of a File is or will be."""
        return self.folder / "blobs" / key

    def keep(self, data: bytes, *, lfs: bool = False) -> File:
        """Store a content."""
        file = File(hash_blob(data), len(data))
        if lfs:
            file = make_pointer(hashlib.sha256(data).hexdigest(), len(data))
        self.blob(file.key).write_bytes(data)
        return file

    def create(self, kind: str, repo_id: str, author: str, *, private: bool, sdk: str | None = None) -> Repo:
        """A new repository with the first commit that the Hub gives it."""
        first = {".gitattributes": "".join(f"*{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LFS_SUFFIXES)}
        if kind == "spaces":
            first["README.md"] = f"---\ntitle: {repo_id}\nsdk: {sdk}\ncolorFrom: blue\ncolorTo: red\n---\n"
        with self.lock:
            repo = self.repos[kind, repo_id] = Repo(kind, repo_id, private, sdk)
            files = {path: self.keep(text.encode()) for path, text in first.items()}
            self.commit(repo, "refs/heads/main", [], files, title="initial commit", author=author)
        return repo

    def commit(self, repo: Repo, ref: str, parents: list[str], files: dict[str, File], **about: str) -> Commit:
        """Add a commit and point `ref` at it; about: title, author and perhaps message."""
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about = {"message": "", "date": date} | about
        content = json.dumps([parents, about, [(path, file.oid) for path, file in files.items()]])
        with self.lock:
            commit = Commit(hash_blob(content.encode()), parents, files=files, **about)
            repo.commits[commit.sha] = commit
            repo.refs[ref] = commit.sha
            self.save()
        return commit

    def apply(
        self, repo: Repo, revision: str, lines: list[dict[str, Any]], *, author: str, create_pr: bool
    ) -> tuple[Commit, int | None]:
        """Do what a commit request says, all of it or nothing; gives the number of the pull request made, too."""
        header, *changes = lines
        with self.lock:
            parent, number = repo.resolve(revision), None
            if not parent.sha.startswith(header["value"].get("parentCommit", "").lower()):
                raise Refused(412, "A commit has happened since. Please refresh and try again.")
            ref = revision if revision.startswith("refs/pr/") else f"refs/heads/{revision}"
            if create_pr:
                number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
                ref = f"refs/pr/{number}"
            elif ref not in repo.refs:
                raise Refused(400, f"{revision} is not a branch")
            files = dict(parent.files)
            for change in changes:
                self.change(files, change["key"], change["value"])
            about = {"title": header["value"]["summary"], "message": header["value"].get("description", "")}
            return self.commit(repo, ref, [parent.sha], files, author=author, **about), number

    def change(self, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
        """One line of a commit request, done to a tree."""
        path = value["path"]
        if {"", ".", "..", ".git"} & set(path.removesuffix("/").split("/")):
            raise Refused(400, f"Invalid path: {path}")
        if key == "file":
            files[path] = self.keep(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if not self.blob(value["oid"]).exists():
                raise Refused(400, f"{path} points to an LFS object that was not uploaded")
            files[path] = make_pointer(value["oid"], self.blob(value["oid"]).stat().st_size)
        else:
            folder = path.rstrip("/") + "/" if key == "deletedFolder" else None
            gone = [name for name in files if (name.startswith(folder) if folder else name == path)]
            if not gone:
                raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]


def point(sha256: str, size: int) -> bytes:
    """The pointer that git holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def make_pointer(sha256: str, size: int) -> File:
    return File(hash_blob(point(sha256, size)), size, sha256)


def describe_tree(files: dict[str, File]) -> list[dict[str, Any]]:
    """Files and the folders they lie in, as the tree and paths-info routes give them, by path."""
    entries: dict[str, dict[str, Any]] = {}
    for path, file in files.items():
        entries[path] = {"type": "file", "path": path, "oid": file.oid, "size": file.size} | file.lfs
    for path in files:
        for folder in map(str, PurePosixPath(path).parents):
            if folder != ".":
                inside = [files[name].oid for name in sorted(files) if name.startswith(f"{folder}/")]
                tree = hash_blob("\n".join(inside).encode())
                entries[folder] = {"type": "directory", "path": folder, "oid": tree, "size": 0}
    return [entries[path] for path in sorted(entries)]


def read_metadata(card: str) -> Any:
    """The YAML block at the head of a README.md, None without one. Raises yaml.YAMLError."""
    block = re.match(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", card, re.DOTALL)
    return None if block is None else yaml.safe_load(block[1])


def check_card(card: str, repo_type: str) -> tuple[list[str], list[str]]:
    """Errors and warnings of a card, by those of the Hub's rules that ours could break."""
    try:
        data = read_metadata(card)
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"], []
    if not data:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(data, dict):
        return ["The metadata must be a mapping"], []
    strings = ("library_name", "pipeline_tag", "title", "sdk", "app_file")
    errors = [f'"{name}" must be a string' for name in strings if not isinstance(data.get(name, ""), str)]
    for name in ("license", "tags", "datasets", "metrics", "base_model"):
        values = data.get(name, [])
        if not isinstance(values, str | list) or not all(isinstance(value, str) for value in values):
            errors.append(f'"{name}" must be a string or a list of strings')
    errors += check_results(data.get("model-index") or [])
    if repo_type == "space":
        if data.get("sdk") not in ("gradio", "docker", "static"):
            errors.append('"sdk" must be one of [gradio, docker, static]')
        for name in ("colorFrom", "colorTo"):
            if data.get(name, COLORS[0]) not in COLORS:
                errors.append(f'"{name}" must be one of [{", ".join(COLORS)}]')
        if len(data.get("short_description", "")) > 60:
            errors.append('"short_description" length must be at most 60 characters')
    return errors, []


def check_results(models: Iterable[dict[str, Any]]) -> list[str]:
    """What a model-index lacks."""
    errors = []
    for i, model in enumerate(models):
        for j, result in enumerate(model.get("results", [])):
            needed = [("task", result.get("task"), ["type"]), ("dataset", result.get("dataset"), ["type", "name"])]
            needed += [(f"metrics[{k}]", m, ["type", "value"]) for k, m in enumerate(result.get("metrics", []))]
            for name, part, keys in needed:
                missing = [key for key in keys if (part or {}).get(key) is None]
                errors += [f'"model-index[{i}].results[{j}].{name}.{key}" is required' for key in missing]
    return errors
