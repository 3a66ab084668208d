"""The actions of the demo Tencent API for CCR, the personal edition: a shared registry in every region.

Field names and forms are those of the definition's examples. Trap: the tags' times carry `+0800 CST`, the
times of namespaces and repositories carry no zone at all. Inferred: the order of the lists, that name filters
find parts of names, and what an index has in the fields of an image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from demo.blobs import BlobStore
from demo.catalog import DOCKER_LIST, OCI_INDEX, Artifact, Repository, Tag, number
from demo.tencent_calls import ApiError, Call
from demo.tencent_enterprise import KIND, Json, by_push_time, solvent
from demo.tencent_model import CloudContent, Personal
from demo.tencent_times import bare_time, zoned_time


class PersonalEdition:
    """Answers calls out of a content. `address` says where the registry of a region listens."""

    def __init__(self, blobs: BlobStore, address: Callable[[str], str]) -> None:
        self._blobs = blobs
        self._address = address
        self.actions: Mapping[str, Callable[[CloudContent, Call], Json]] = {
            "DescribeNamespacePersonal": self._namespaces,
            "DescribeRepositoryOwnerPersonal": self._repositories,
            "DescribeImagePersonal": self._images,
            "DescribeUserQuotaPersonal": self._quotas,
        }

    def _namespaces(self, content: CloudContent, call: Call) -> Json:
        personal = _set_up(content, call)
        name = call.text("Namespace")
        found = [each for each in personal.catalog.projects if name in each.name]
        rows = [
            {
                "Namespace": each.name,
                "CreationTime": bare_time(each.created),
                "RepoCount": len(each.repositories),
            }
            for each in call.by_offset(found)
        ]
        return {"Data": {"NamespaceCount": len(found), "NamespaceInfo": rows}}

    def _repositories(self, content: CloudContent, call: Call) -> Json:
        personal = _set_up(content, call)
        name = call.text("RepoName")
        found = [
            (f"{namespace.name}/{repository.name}", namespace.public, repository)
            for namespace in personal.catalog.projects
            for repository in namespace.repositories
            if name in f"{namespace.name}/{repository.name}"
        ]
        rows = [
            {
                "RepoName": full_name,
                "RepoType": "QCLOUD HUB",
                "TagCount": sum(len(artifact.tags) for artifact in repository.artifacts),
                "Public": int(public),
                "IsUserFavor": False,
                "IsQcloudOfficial": False,
                "FavorCount": 0,
                "PullCount": repository.pull_count,
                "Description": repository.description,
                "CreationTime": bare_time(repository.created),
                "UpdateTime": bare_time(repository.updated),
            }
            for full_name, public, repository in call.by_offset(found)
        ]
        server = self._address(call.region)
        return {"Data": {"TotalCount": len(found), "RepoInfo": rows, "Server": server}}

    def _images(self, content: CloudContent, call: Call) -> Json:
        full_name = call.text("RepoName")
        repository = _set_up(content, call).catalog.repository(full_name)
        if repository is None:
            raise ApiError("ResourceNotFound.ErrNoRepo", f"The repository {full_name} is not found.")
        found = [pair for pair in by_push_time(repository) if call.text("Tag") in pair[1].name]
        rows = [self._image(repository, artifact, tag) for artifact, tag in call.by_offset(found)]
        return {
            "Data": {
                "TagCount": len(found),
                "TagInfo": rows,
                "Server": self._address(call.region),
                "RepoName": full_name,
            }
        }

    def _image(self, repository: Repository, artifact: Artifact, tag: Tag) -> Json:
        about = artifact.extra_attrs or {}
        pushed = zoned_time(tag.push_time)
        return {
            "TagName": tag.name,
            "TagId": artifact.digest,
            "ImageId": self._image_id(artifact),
            "Size": f"{artifact.size / 1_000_000:.0f} MB",
            "CreationTime": pushed,
            "DurationDays": "",
            "Author": str(about.get("author", "")),
            "Architecture": str(about.get("architecture", "")),
            "DockerVersion": "",
            "OS": str(about.get("os", "")),
            "SizeByte": artifact.size,
            "Id": number(repository.name, tag.name),
            "UpdateTime": pushed,
            "PushTime": pushed,
            "Kind": KIND + artifact.manifest_media_type,
        }

    def _image_id(self, artifact: Artifact) -> str:
        if artifact.manifest_media_type in (OCI_INDEX, DOCKER_LIST):
            return ""
        manifest: dict[str, Any] = json.loads(self._blobs.read(artifact.digest))
        return str(manifest["config"]["digest"])

    def _quotas(self, content: CloudContent, call: Call) -> Json:
        personal = _set_up(content, call)
        rows = [
            {"Username": content.account.uin, "Type": kind, "Value": value}
            for kind, value in personal.quotas.items()
        ]
        return {"Data": {"LimitInfo": rows}}


def _set_up(content: CloudContent, call: Call) -> Personal:
    personal = content.personal_in(call.region)
    if personal is None:
        raise ApiError("UnsupportedOperation.ErrNoUserInitialized", "The user is not initialized.")
    solvent(content.account)
    return personal
