"""The actions of the demo Tencent API for TCR, the enterprise edition: instances and what they hold.

Field names, the forms of names and times, and the odd doubly encoded `Config` are those of the definition's
examples. Inferred: the order of the lists, that a name filter finds parts of names, which code an unknown
instance, an index and arrears give, and that an instance that is not running refuses everything but its row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from demo.blobs import BlobStore
from demo.catalog import DOCKER_LIST, OCI_INDEX, Artifact, Project, Repository, Tag, number
from demo.tencent_calls import ApiError, Call
from demo.tencent_model import CloudAccount, CloudContent, Instance
from demo.tencent_regions import BY_NAME, REGIONS
from demo.tencent_times import go_time, offset_time, zulu_time
from demo.tencent_tokens import InstanceTokens

Json = dict[str, Any]
KIND = "Artifact::"
SORTS: Mapping[str, Callable[[Project, Repository], Any]] = {
    "-creation_time": lambda _, repository: repository.created,
    "-name": lambda namespace, repository: f"{namespace.name}/{repository.name}",
    "-update_time": lambda _, repository: repository.updated,
}
FIRST_REGION = datetime(2020, 9, 22, tzinfo=UTC)


class Enterprise:
    """Answers calls out of a content. The two addresses are where an instance's registry listens."""

    def __init__(
        self,
        blobs: BlobStore,
        tokens: InstanceTokens,
        *,
        public: Callable[[str], str],
        private: Callable[[str], str],
    ) -> None:
        self._blobs = blobs
        self._tokens = tokens
        self._public = public
        self._private = private
        self.actions: Mapping[str, Callable[[CloudContent, Call], Json]] = {
            "DescribeRegions": self._regions,
            "DescribeInstances": self._instances,
            "DescribeNamespaces": self._namespaces,
            "DescribeRepositories": self._repositories,
            "DescribeImages": self._images,
            "DescribeImageManifests": self._manifests,
            "CreateInstanceToken": self._token,
            "DescribeExternalEndpointStatus": self._external,
            "DescribeInternalEndpoints": self._internal,
            "DescribeSecurityPolicies": self._policies,
        }

    def _regions(self, _content: CloudContent, _call: Call) -> Json:
        rows = [
            {
                "Alias": region.alias,
                "RegionId": region.id,
                "RegionName": region.name,
                "Status": "alluser",
                "Remark": "alluser",
                "CreatedAt": offset_time(FIRST_REGION),
                "UpdatedAt": offset_time(FIRST_REGION),
                "Id": place,
            }
            for place, region in enumerate(REGIONS, 1)
        ]
        return {"TotalCount": len(rows), "Regions": rows}

    def _instances(self, content: CloudContent, call: Call) -> Json:
        wanted = call.texts("Registryids")
        found = [
            each
            for each in content.instances
            if (call.flag("AllRegion") or each.region == call.region)
            and (not wanted or each.id in wanted)
            and _tagged(each.tags, call)
        ]
        shown = call.by_offset(found)
        return {"TotalCount": len(found), "Registries": [self._instance(each) for each in shown]}

    def _instance(self, instance: Instance) -> Json:
        linked = bool(instance.networks)
        return {
            "RegistryId": instance.id,
            "RegistryName": instance.name,
            "RegistryType": instance.type,
            "Status": instance.status,
            "PublicDomain": self._public(instance.id),
            "CreatedAt": offset_time(instance.created),
            "RegionName": instance.region,
            "RegionId": BY_NAME[instance.region].id,
            "EnableAnonymous": instance.anonymous,
            "TokenValidTime": instance.token_hours,
            "InternalEndpoint": self._private(instance.id) if linked else "",
            "TagSpecification": _tag_specification("instance", instance.tags),
            "ExpiredAt": offset_time(instance.expires) if instance.expires else "",
            "PayMod": 1 if instance.expires else 0,
            "RenewFlag": 0,
            "DeletionProtection": True,
        }

    def _namespaces(self, content: CloudContent, call: Call) -> Json:
        instance = _running(content, call)
        name = call.text("NamespaceName")
        found = [each for each in instance.catalog.projects if name in each.name and _tagged({}, call)]
        if call.flag("KmsSignPolicy"):
            found = []
        shown = found if call.flag("All") else call.by_page(found)
        rows = [_namespace(instance, each) for each in shown]
        return {"NamespaceList": rows, "TotalCount": len(found)}

    def _repositories(self, content: CloudContent, call: Call) -> Json:
        instance = _running(content, call)
        inside, name, sort = (call.text(each) for each in ("NamespaceName", "RepositoryName", "SortBy"))
        if sort and sort not in SORTS:
            raise ApiError.wrong_value("SortBy", sort)
        namespaces = [_namespace_named(instance, inside)] if inside else instance.catalog.projects
        found = [
            (namespace, repository)
            for namespace in namespaces
            for repository in namespace.repositories
            if name in repository.name
        ]
        found.sort(key=lambda pair: SORTS[sort or "-name"](*pair), reverse=bool(sort))
        rows = [
            {
                "Name": f"{namespace.name}/{repository.name}",
                "Namespace": namespace.name,
                "CreationTime": go_time(repository.created),
                "Public": namespace.public,
                "Description": repository.description,
                "BriefDescription": repository.description[:100],
                "UpdateTime": go_time(repository.updated),
            }
            for namespace, repository in call.by_page(found)
        ]
        return {"RepositoryList": rows, "TotalCount": len(found)}

    def _images(self, content: CloudContent, call: Call) -> Json:
        repository = _repository(content, call)
        version, digest = call.text("ImageVersion"), call.text("Digest")
        found = [
            (artifact, tag)
            for artifact, tag in by_push_time(repository)
            if (version == tag.name if call.flag("ExactMatch") and version else version in tag.name)
            and digest in ("", artifact.digest)
        ]
        rows = [
            {
                "Digest": artifact.digest,
                "Size": artifact.size,
                "ImageVersion": tag.name,
                "UpdateTime": zulu_time(tag.push_time),
                "Kind": KIND + artifact.manifest_media_type,
                "KmsSignature": "",
            }
            for artifact, tag in call.by_page(found)
        ]
        return {"ImageInfoList": rows, "TotalCount": len(found)}

    def _manifests(self, content: CloudContent, call: Call) -> Json:
        version = call.text("ImageVersion")
        artifact = _repository(content, call).find(version)
        if artifact is None or version == artifact.digest:
            raise ApiError(
                "ResourceNotFound.TcrResourceNotFound", f"The image version {version} is not found."
            )
        if artifact.manifest_media_type in (OCI_INDEX, DOCKER_LIST):
            raise ApiError("FailedOperation.ErrorTcrInvalidMediaType", "The media type is not supported.")
        manifest = self._blobs.read(artifact.digest).decode()
        config = self._blobs.read(json.loads(manifest)["config"]["digest"]).decode()
        runtime = json.loads(config).get("config")
        labels = (runtime.get("Labels") if isinstance(runtime, dict) else None) or {}
        return {
            "Manifest": manifest,
            "Config": json.dumps(config),
            "Labels": [{"Key": key, "Value": value} for key, value in labels.items()],
            "Size": artifact.size,
        }

    def _token(self, content: CloudContent, call: Call) -> Json:
        instance = _running(content, call)
        kind = call.text("TokenType") or "temp"
        if kind not in ("temp", "longterm"):
            raise ApiError.wrong_value("TokenType", kind)
        given = self._tokens.issue(content.account, instance, lasting=kind == "longterm")
        return {
            "Username": content.account.uin,
            "Token": given.text,
            "ExpTime": int(given.ends.timestamp() * 1000),
            "TokenId": given.id,
        }

    def _external(self, content: CloudContent, call: Call) -> Json:
        return {"Status": _running(content, call).entry, "Reason": ""}

    def _internal(self, content: CloudContent, call: Call) -> Json:
        instance = _running(content, call)
        rows = [
            {
                "VpcId": each.id,
                "SubnetId": each.subnet,
                "Status": each.status,
                "AccessIp": self._private(instance.id),
            }
            for each in instance.networks
        ]
        return {"AccessVpcSet": rows, "TotalCount": len(rows)}

    def _policies(self, content: CloudContent, call: Call) -> Json:
        rows = [
            {
                "PolicyIndex": place,
                "Description": each.description,
                "CidrBlock": each.network,
                "PolicyVersion": "1",
            }
            for place, each in enumerate(_running(content, call).allowlist)
        ]
        return {"SecurityPolicySet": rows}


def by_push_time(repository: Repository) -> list[tuple[Artifact, Tag]]:
    """Every tag with what it points at, the newest first; what has no tag is not listed."""
    pairs = [(artifact, tag) for artifact in repository.artifacts for tag in artifact.tags]
    pairs.sort(key=lambda pair: pair[1].name)
    pairs.sort(key=lambda pair: pair[1].push_time, reverse=True)
    return pairs


def solvent(account: CloudAccount) -> None:
    """Raises ApiError when the account is in arrears."""
    if account.in_arrears:
        raise ApiError("FailedOperation.TradeFailed", "The account is in arrears.")


def _running(content: CloudContent, call: Call) -> Instance:
    """The instance that a call names, of the call's own region and usable. Raises ApiError."""
    instance_id = call.text("RegistryId")
    instance = content.instance(instance_id)
    if instance is None or instance.region != call.region:
        raise ApiError("ResourceNotFound", f"The instance {instance_id} is not found in {call.region}.")
    solvent(content.account)
    if instance.status != "Running":
        reason = f"The status of the instance is {instance.status}."
        raise ApiError("ResourceInsufficient.ErrorInstanceNotRunning", reason)
    return instance


def _namespace_named(instance: Instance, name: str) -> Project:
    namespace = instance.catalog.project(name)
    if namespace is None:
        raise ApiError("ResourceNotFound.TcrResourceNotFound", f"The namespace {name} is not found.")
    return namespace


def _repository(content: CloudContent, call: Call) -> Repository:
    namespace = _namespace_named(_running(content, call), call.text("NamespaceName"))
    repository = namespace.find(call.text("RepositoryName"))
    if repository is None:
        raise ApiError("ResourceNotFound.TcrResourceNotFound", "The repository is not found.")
    return repository


def _namespace(instance: Instance, project: Project) -> Json:
    return {
        "Name": project.name,
        "CreationTime": zulu_time(project.created),
        "Public": project.public,
        "NamespaceId": number(instance.id, project.name),
        "TagSpecification": _tag_specification("namespace", {}),
        "Metadata": [{"Key": "auto_scan", "Value": "false"}, {"Key": "prevent_vul", "Value": "false"}],
        "CVEWhitelistItems": [],
        "AutoScan": False,
        "PreventVUL": False,
        "Severity": "",
    }


def _tag_specification(kind: str, tags: Mapping[str, str]) -> Json:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _tagged(tags: Mapping[str, str], call: Call) -> bool:
    """Whether tags pass the call's filters, each of which wants one of its `key:value` words."""
    filters: Iterable[Json] = call.parameters.get("Filters") or ()
    words = {f"{key}:{value}" for key, value in tags.items()}
    for each in filters:
        if each["Name"] != "Tags":
            raise ApiError.wrong_value("Filters", each["Name"])
        if not words & set(each["Values"]):
            return False
    return True
