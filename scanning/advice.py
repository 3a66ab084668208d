"""What to do about a vulnerability, in one sentence; pure text, no Django."""

_NO_FIX = {
    "will_not_fix": "The publisher will not fix this in {package} {version}: remove the package if nothing "
    "needs it, or move to a newer release of the base image.",
    "fix_deferred": "The publisher has put off a fix for {package} {version}: look again after its next "
    "release, and remove the package if nothing needs it.",
    "end_of_life": "This release gets no more fixes: move the image to a supported base release.",
    "under_investigation": "The publisher is still looking into {package} {version}: scan again in "
    "a few days.",
    "not_affected": "The publisher says {package} {version} is not affected: nothing needs to be done.",
}
_WAIT = (
    "There is no fixed version of {package} yet: limit who can reach what uses it, and scan again after the "
    "next update of the vulnerability database."
)


def fix_advice(package: str, version: str, fixed_version: str, status: str) -> str:
    """The fix for one package in one version; several fixed versions come separated by commas."""
    fixes = [each.strip() for each in fixed_version.split(",") if each.strip()]
    if len(fixes) == 1:
        return f"Update {package} from {version} to {fixes[0]} or later, then rebuild the image."
    if fixes:
        choice = f"{', '.join(fixes[:-1])} or {fixes[-1]}"
        return (
            f"Update {package} from {version} to {choice}, whichever belongs to its series, then rebuild "
            "the image."
        )
    return _NO_FIX.get(status, _WAIT).format(package=package, version=version)
