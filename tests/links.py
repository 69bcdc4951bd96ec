"""Relative links of a Markdown text."""

import re
from pathlib import Path
from urllib.parse import unquote

_INLINE = r"\]\(\s*<?([^)\s>]+)>?[^)]*\)"
_HTML = r"(?:src|href)=[\"']([^\"']+)[\"']"
_REFERENCE = r"^\s*\[[^\]]+\]:\s*(\S+)"
_LINK = re.compile(f"{_INLINE}|{_HTML}|{_REFERENCE}", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def broken_links(text: str, folder: Path, root: Path) -> list[str]:
    """Links to files that are not there, or not in the repository, and to headings that the text does not have."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCED.sub("", text))
    targets = [next(filter(None, found.groups())) for found in _LINK.finditer(prose)]
    local = [target for target in targets if not re.match(r"[a-z][a-z+.-]*:", target)]
    return [target for target in local if not _leads_somewhere(target, text, folder, root)]


def _leads_somewhere(target: str, text: str, folder: Path, root: Path) -> bool:
    path, _, anchor = unquote(target).partition("#")
    if not path:
        return anchor in anchors(text)
    file = (folder / path).resolve()
    return file.exists() and file.is_relative_to(root.resolve())


def anchors(text: str) -> set[str]:
    """GitHub's and JupyterLab's names of the headings."""
    headings = re.findall(r"^#+\s+(.+?)\s*#*$", _FENCED.sub("", text), re.MULTILINE)
    plain = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", lambda found: found[1] or "", heading) for heading in headings]
    github = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}
    return github | {heading.replace(" ", "-") for heading in plain}
