"""A parity report as JUnit XML, which CI systems show as tests.

    <testsuites><testsuite name="parity of digits version 3 over gRPC" tests="4" failures="1" errors="0" time="0.2">
      <testcase classname="parity.digits.gRPC" name="probabilities, 7 examples a request" time="0.01">
        <failure message="1 of 2560 values differ by more than ...">at [3, 7] expected 0.1, got 0.2</failure>

Source: the JUnit schema that Jenkins and GitLab read (testsuites, testsuite, testcase, failure, error).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from .result import ParityReport, Run, TransportParity

#: What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: str | os.PathLike[str], reports: Sequence[ParityReport]) -> None:
    """Write reports: one suite a transport, one test an output and request size.

    Args:
        path: The file to make or replace.
        reports: What was found.

    Raises:
        OSError: The file cannot be written.
    """
    suites = [
        _suite(report, name, each)
        for report in reports
        for name, each in zip(report.names, report.transports, strict=True)
    ]
    _write(path, suites)


def write_failure_junit(path: str | os.PathLike[str], model: str, message: str) -> None:
    """Write that no comparison could be made: one test with an error.

    Raises:
        OSError: The file cannot be written.
    """
    suite = _element("testsuite", name=f"parity of {model}", tests="1", failures="0", errors="1", time="0")
    case = _element("testcase", classname=f"parity.{model}", name="could be compared", time="0")
    error = _element("error", message=message)
    error.text = _clean(message)
    case.append(error)
    suite.append(case)
    _write(path, [suite])


def _write(path: str | os.PathLike[str], suites: Iterable[ElementTree.Element]) -> None:
    root = ElementTree.Element("testsuites")
    root.extend(suites)
    ElementTree.indent(root)
    Path(path).write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _suite(report: ParityReport, name: str, parity: TransportParity) -> ElementTree.Element:
    cases = [_case(f"parity.{report.model}.{name}", run, output) for run in parity.runs for output in run.comparisons]
    suite = _element(
        "testsuite",
        name=f"parity of {report.model} version {report.version} over {name}",
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors="0",
        time=f"{sum(sum(run.latencies_s) for run in parity.runs):.6f}",
    )
    suite.extend(cases)
    return suite


def _case(group: str, run: Run, output: str) -> ElementTree.Element:
    comparison = run.comparisons[output]
    case = _element(
        "testcase",
        classname=group,
        name=f"{output}, {run.batch_size} {'example' if run.batch_size == 1 else 'examples'} a request",
        time=f"{sum(run.latencies_s):.6f}",
    )
    if not comparison.equal:
        failure = _element("failure", message=comparison.reason)
        failure.text = _clean("\n".join(map(str, comparison.worst)))
        case.append(failure)
    return case


def _element(tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.Element(tag, {name: _clean(value) for name, value in attributes.items()})


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
