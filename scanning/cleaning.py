"""An engine's facts as unsaved rows: every outside text cleaned and bounded to its column."""

from decimal import Decimal

from images.models import Severity
from scanning.engines.protocol import MatchFact, PackageFact, SecretFact, VulnerabilityFact
from scanning.models import Match, Package, SecretFinding, Vulnerability
from tcss.text import clean_text

_DESCRIPTION_LENGTH = 16_000
_MOST_REFERENCES = 60
_WORST_SCORE = 10


def package_row(fact: PackageFact) -> Package:
    """One package."""
    return Package(
        identity=fact.identity,
        name=clean_text(fact.name, 255),
        version=clean_text(fact.version, 255),
        source_name=clean_text(fact.source_name, 255),
        source_version=clean_text(fact.source_version, 255),
        kind=clean_text(fact.kind, 64),
        os_release=clean_text(fact.os_release, 128),
        purl=clean_text(fact.purl, 1024),
    )


def vulnerability_row(fact: VulnerabilityFact) -> Vulnerability:
    """One published flaw."""
    return Vulnerability(
        identifier=clean_text(fact.identifier, 128),
        title=clean_text(fact.title, 500),
        description=clean_text(fact.description, _DESCRIPTION_LENGTH, multiline=True),
        severity=Severity(int(fact.severity)),
        cvss_score=_score(fact.cvss_score),
        cvss_vector=clean_text(fact.cvss_vector, 255),
        cwe_ids=[clean_text(each, 64) for each in fact.cwe_ids[:_MOST_REFERENCES]],
        references=[clean_text(each, 1024) for each in fact.references[:_MOST_REFERENCES]],
        primary_url=clean_text(fact.primary_url, 1024),
        published_at=fact.published_at,
        modified_at=fact.modified_at,
    )


def match_row(fact: MatchFact) -> Match:
    """What hits a package; the caller sets the package and the vulnerability."""
    return Match(
        data_source=clean_text(fact.data_source, 64),
        fixed_version=clean_text(fact.fixed_version, 500),
        status=clean_text(fact.status, 32),
        severity=Severity(int(fact.severity)),
    )


def secret_row(fact: SecretFact) -> SecretFinding:
    """Sensitive data; the caller sets the layer or the image."""
    return SecretFinding(
        fingerprint=fact.fingerprint,
        rule_id=clean_text(fact.rule_id, 128),
        category=clean_text(fact.category, 128),
        title=clean_text(fact.title, 255),
        severity=Severity(int(fact.severity)),
        path=clean_text(fact.path, 1024),
        start_line=fact.start_line,
        end_line=fact.end_line,
        masked_match=clean_text(fact.masked_match, 500),
    )


def _score(value: float | None) -> Decimal | None:
    """A CVSS score is 0 to 10 with one digit; anything else, not-a-number too, is no score."""
    if value is None or not 0 <= value <= _WORST_SCORE:
        return None
    return Decimal(f"{value:.1f}")
