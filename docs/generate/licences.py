"""Print the table of licences in `docs/licences.md`: `python docs/generate/licences.py`.

The table has a row for each direct dependency, with the licence that the metadata of the installed
package states.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata, requires

LONGEST = 60  # Some packages have the whole text of their licence in this field.
CLASSIFIER = "License :: OSI Approved :: "


def licence(name: str) -> str:
    """Return the licence of an installed package, as its metadata states it."""
    about = metadata(name)
    if expression := about.get("License-Expression"):
        return expression
    classifiers = about.get_all("Classifier") or []
    stated = [each.removeprefix(CLASSIFIER) for each in classifiers if each.startswith(CLASSIFIER)]
    if stated:
        return ", ".join(stated)
    text = (about.get("License") or "").strip()
    first = text.partition("\n")[0].strip()
    return first if 0 < len(first) <= LONGEST else "not stated"


def dependencies() -> dict[str, list[str]]:
    """Return the direct dependencies, each with the extras that need it; "" stands for no extra."""
    found: dict[str, list[str]] = {}
    for line in requires("auxgrad") or []:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name != "auxgrad":
            found.setdefault(name, []).append(extra[1] if extra else "")
    return found


def main() -> None:
    """Print the table."""
    print("| package | extra | licence |\n|---|---|---|")
    needed = {name: "" if "" in extras else ", ".join(extras) for name, extras in dependencies().items()}
    for name, extras in sorted(needed.items(), key=lambda item: (bool(item[1]), item[0])):
        try:
            print(f"| {name} | {extras} | {licence(name)} |")
        except PackageNotFoundError:
            print(f"| {name} | {extras} | not installed here |")


if __name__ == "__main__":
    main()
