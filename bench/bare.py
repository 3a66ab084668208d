"""The peer of a data update: the same pages, manifests and configs by requests alone, parsed and forgotten.

It verifies no digest, keeps nothing, checks no address and asks nobody for permission.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from bench.registry import ACCOUNT, INSTANCE, PASSWORD, REGION, SECRET_ID
from repositories.registries.tencent_api import SERVICE, VERSION as API_VERSION, _rate as rate

PAGE = 100


class _Bearer(AuthBase):
    """A token instead of the password."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Bare:
    """One client of one registry, asking so many things at once."""

    def __init__(self, url: str, concurrency: int) -> None:
        self._url = url
        self._concurrency = concurrency
        self._session = requests.Session()
        self._session.auth = (ACCOUNT, PASSWORD)
        self._session.trust_env = False
        self._session.mount("http://", HTTPAdapter(pool_maxsize=concurrency))
        self.requests = 0

    def get(self, path: str, token: str = "", **query: object) -> Any:
        """The JSON at a path."""
        self.requests += 1
        auth = _Bearer(token) if token else None
        answer = self._session.get(f"{self._url}{path}", params=query, timeout=60, auth=auth)  # type: ignore[arg-type] - parameters may be any text
        answer.raise_for_status()
        return answer.json()

    def pages(self, path: str, **query: object) -> Iterator[Any]:
        """Every entry of a paged list."""
        page = 1
        while entries := self.get(path, **query, page=page, page_size=PAGE):
            yield from entries
            if len(entries) < PAGE:
                return
            page += 1

    def token(self, repository: str) -> str:
        """A token for pulling from a repository."""
        scope = f"repository:{repository}:pull"
        return str(self.get("/service/token", service="harbor-registry", scope=scope)["token"])

    def content(self, repository: str, digest: str, token: str = "") -> None:
        """A manifest and its config."""
        manifest = self.get(f"/v2/{repository}/manifests/{digest}", token)
        self.get(f"/v2/{repository}/blobs/{manifest['config']['digest']}", token)

    def harbor2(self, *, contents: bool) -> None:
        """Everything a Harbor 2 lists, and the contents behind it."""

        def repositories(project: str) -> list[str]:
            path = f"/api/v2.0/projects/{project}/repositories"
            return [str(entry["name"]) for entry in self.pages(path)]

        def artifacts(name: str) -> None:
            project, _, rest = name.partition("/")
            path = (
                f"/api/v2.0/projects/{project}/repositories/{quote(quote(rest, safe=''), safe='')}/artifacts"
            )
            digests = [
                str(entry["digest"]) for entry in self.pages(path, with_tag="true", with_accessory="true")
            ]
            for digest in digests if contents else ():
                self.content(name, digest)

        projects = [str(entry["name"]) for entry in self.pages("/api/v2.0/projects", with_detail="false")]
        with ThreadPoolExecutor(self._concurrency) as pool:
            names = [name for found in pool.map(repositories, projects) for name in found]
            list(pool.map(artifacts, names))

    def harbor1(self, *, contents: bool) -> None:
        """Everything a Harbor 1 lists, and the contents behind it."""

        def repositories(project: int) -> list[str]:
            return [str(entry["name"]) for entry in self.pages("/api/repositories", project_id=project)]

        def tags(name: str) -> None:
            digests = {
                str(entry["digest"]) for entry in self.get(f"/api/repositories/{name}/tags", detail="true")
            }
            # Its registry takes no passwords, which Harbor 2's does.
            token = self.token(name) if contents else ""
            for digest in sorted(digests) if contents else ():
                self.content(name, digest, token)

        projects = [int(entry["project_id"]) for entry in self.pages("/api/projects")]
        with ThreadPoolExecutor(self._concurrency) as pool:
            names = [name for found in pool.map(repositories, projects) for name in found]
            list(pool.map(tags, names))

    def tcr(self, *, contents: bool) -> None:
        """Everything a TCR instance lists, and the contents behind it, within the rates the API allows."""
        api = _TencentAPI(self._url)
        registry = f"http://{api.call('DescribeInstances')['Registries'][0]['PublicDomain']}"

        def repositories(namespace: str) -> list[str]:
            found = api.pages("DescribeRepositories", "RepositoryList", NamespaceName=namespace)
            return [str(entry["Name"]) for entry in found]

        def images(name: str) -> None:
            namespace, _, rest = name.partition("/")
            words = {"NamespaceName": namespace, "RepositoryName": rest}
            digests = {
                str(entry["Digest"]) for entry in api.pages("DescribeImages", "ImageInfoList", **words)
            }
            token = client.token(name) if contents else ""
            for digest in sorted(digests) if contents else ():
                client.content(name, digest, token)

        client = Bare(registry, self._concurrency)
        if contents:
            key = api.call("CreateInstanceToken", RegistryId=INSTANCE, TokenType="temp")
            client.log_in(key["Username"], key["Token"])
        namespaces = [str(entry["Name"]) for entry in api.pages("DescribeNamespaces", "NamespaceList")]
        with ThreadPoolExecutor(self._concurrency) as pool:
            names = [name for found in pool.map(repositories, namespaces) for name in found]
            list(pool.map(images, names))
        self.requests += client.requests + api.calls

    def log_in(self, name: str, password: str) -> None:
        """Ask with another account from now on."""
        self._session.auth = (name, password)


class _TencentAPI:
    """Tencent Cloud's API by its own SDK, and the rates its documentation allows."""

    def __init__(self, url: str) -> None:
        self._endpoint = url.partition("://")[2]
        self._threads = threading.local()
        self.calls = 0

    def call(self, action: str, **parameters: object) -> Any:
        """The answer of one action."""
        client = getattr(self._threads, "client", None)
        if client is None:
            http = HttpProfile(protocol="http", endpoint=self._endpoint, keepAlive=True)
            credential = Credential(SECRET_ID, PASSWORD)
            client = CommonClient(SERVICE, API_VERSION, credential, REGION, ClientProfile(httpProfile=http))
            self._threads.client = client
        time.sleep(rate(SECRET_ID, action).take())
        self.calls += 1
        return client.call_json(action, parameters)["Response"]

    def pages(self, action: str, key: str, **parameters: object) -> Iterator[Any]:
        """Every entry of a list."""
        page = 1
        while entries := self.call(action, RegistryId=INSTANCE, Offset=page, Limit=PAGE, **parameters)[key]:
            yield from entries
            if len(entries) < PAGE:
                return
            page += 1


FACES: dict[str, Callable[..., None]] = {"harbor1": Bare.harbor1, "harbor2": Bare.harbor2, "tcr": Bare.tcr}


def measure(face: str, url: str, concurrency: int, *, contents: bool) -> tuple[float, int]:
    """Seconds and requests that the bare client takes."""
    client = Bare(url, concurrency)
    began = time.perf_counter()
    FACES[face](client, contents=contents)
    return time.perf_counter() - began, client.requests


if __name__ == "__main__":
    seconds, asked = measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), contents=sys.argv[4] == "contents")
    print(seconds, asked)
