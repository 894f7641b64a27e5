"""Write the software bill of materials (SBOM) of eurosat[train] from a lock, as CycloneDX JSON.

    python requirements/make_sbom.py requirements/train.txt dist/eurosat.cdx.json

The SBOM has every package of the lock with the hashes of its files. A lock serves every platform
and Python version, so a package may be conditional: its property ``marker`` (PEP 508) says where
pip installs it. The SBOM names no package index: a package's address is its purl. The same inputs
and the same SOURCE_DATE_EPOCH give the same bytes.
"""

import os
import re
import sys
import tomllib
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

PIN = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; (.+?))? \\$((?:\n    --hash=\S+(?: \\)?)+)", re.M)


def component(name: str, version: str, marker: str, hashes: list[str]) -> Component:
    """One package of a lock; ``hashes`` are the SHA-256 of its files."""
    purl = PackageURL("pypi", name=name, version=version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(purl)),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=value) for value in hashes],
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=purl,
        bom_ref=str(purl),
        external_references=[files],
        properties=[Property(name="marker", value=marker)] if marker else [],
    )


def sbom(project: dict[str, str], lock: str, time: datetime) -> str:
    """The SBOM of a project, from its table in pyproject.toml and from a lock's text."""
    purl = PackageURL("pypi", name=project["name"], version=project["version"])
    root = Component(
        type=ComponentType.APPLICATION,
        name=project["name"],
        version=project["version"],
        description=project["description"],
        licenses=[DisjunctiveLicense(id=project["license"])],
        purl=purl,
        bom_ref=str(purl),
    )
    packages = [
        component(name, version, marker, re.findall(r"sha256:(\w+)", hashes))
        for name, version, marker, hashes in PIN.findall(lock)
    ]
    bom = Bom(components=packages, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{purl} {lock}"))
    bom.metadata.timestamp = time
    bom.metadata.component = root
    bom.register_dependency(root, packages)
    text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"the SBOM is not valid: {error}")
    return text


if __name__ == "__main__":
    lock, output = map(Path, sys.argv[1:])
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    time = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    output.write_text(sbom(project, lock.read_text("utf-8"), time), "utf-8")
