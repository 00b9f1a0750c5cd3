"""JUnit XML: a test case for each scenario x target x invariant.

A violation or a liveness finding is a ``failure``; an indeterminate one, or a run that could not be judged, an ``error``;
an invariant that could not be checked is ``skipped``. Characters that XML forbids are replaced: everything from the system
under test is untrusted text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from harness.run.folder import RunFolder

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")

PROPERTIES = ("seed", "engine", "verdict", "command", "folder")


class JUnit:
    """Renders runs as JUnit XML."""

    name = "junit"
    filename = "junit.xml"

    def render(self, folders: Sequence[Path], *, colours: bool = False, width: int = 100) -> str:
        """Return the XML text. Raises UsageError if a folder is not a run folder."""
        root = ET.Element("testsuites", name="racegate")
        for folder in folders:
            root.append(suite(RunFolder.open(folder).read_json("result.json")))
        for count in ("tests", "failures", "errors", "skipped"):
            root.set(count, str(sum(int(s.get(count, "0")) for s in root)))
        ET.indent(root)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def suite(result: Mapping[str, Any]) -> ET.Element:
    """Return one run as a test suite."""
    name = f"{result['scenario']} on {result['target']}"
    element = ET.Element("testsuite", name=_clean(name), time=f"{result['timings'].get('total', 0):.3f}")
    properties = ET.SubElement(element, "properties")
    for key in PROPERTIES:
        if key in result:
            ET.SubElement(properties, "property", name=key, value=_clean(str(result[key])))
    by_invariant: dict[str, list[Mapping[str, Any]]] = {}
    for finding in result["findings"]:
        by_invariant.setdefault(finding["invariant"], []).append(finding)
    invariants = dict.fromkeys([*result.get("checked", []), *result.get("skipped", {}), *by_invariant])
    for invariant in invariants:
        case = ET.SubElement(element, "testcase", classname=_clean(name), name=_clean(invariant))
        if invariant in result.get("skipped", {}) and invariant not in by_invariant:
            ET.SubElement(case, "skipped", message=_clean(result["skipped"][invariant]))
        for finding in by_invariant.get(invariant, []):
            _add_finding(case, finding)
    if not invariants:
        case = ET.SubElement(element, "testcase", classname=_clean(name), name="verdict")
        ET.SubElement(case, "error", message="nothing was checked")
    element.set("tests", str(len(element.findall("testcase"))))
    for kind, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        element.set(count, str(sum(case.find(kind) is not None for case in element.findall("testcase"))))
    return element


def _add_finding(case: ET.Element, finding: Mapping[str, Any]) -> None:
    if finding["class"] == "cost":
        ET.SubElement(case, "system-out").text = _clean(finding["message"])
        return
    kind = "error" if finding["class"] == "indeterminate" else "failure"
    outcome = ET.SubElement(case, kind, message=_clean(finding["message"]), type=finding["class"])
    lines = [finding["message"]]
    if finding.get("total", 1) > 1:
        lines.append(f"{finding['total']} times")
    if finding.get("schedule"):
        lines.append(f"schedule: {finding['schedule']}")
    outcome.text = _clean("\n".join(lines))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


FORMAT = JUnit()
