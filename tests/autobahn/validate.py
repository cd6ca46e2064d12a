#!/usr/bin/env python3
"""Checks a report of Autobahn|Testsuite: validate.py INDEX_JSON AGENT all|small

A case passes when both its behaviour and its closing behaviour are OK, or INFORMATIONAL for
the three cases that can be nothing else. An expected case that is missing from the report has
failed. The last line is `N passed, N failed`; the exit code is 0 only if nothing failed.
`small` leaves out the largest sizes of compression (x.14 to x.18 of groups 12 and 13).
"""
import json
import sys

# Cases per group; groups 8 and 11 do not exist, 12 and 13 are compression: 18 sizes of each kind.
GROUPS = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1}
COMPRESSION = {"all": {"12": 5 * 18, "13": 7 * 18}, "small": {"12": 5 * 13, "13": 7 * 13}}
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


def case_order(case):
    return [int(part) for part in case.split(".")]


def passes(case, result):
    allowed = {"OK", "INFORMATIONAL"} if case in INFORMATIONAL else {"OK"}
    return result.get("behavior") in allowed and result.get("behaviorClose") in allowed


def validate(cases, expected):
    passed, failures = 0, []
    for case in sorted(cases, key=case_order):
        if case.split(".")[0] not in expected:
            failures.append(f"{case}: not expected")
        elif passes(case, cases[case]):
            passed += 1
        else:
            result = cases[case]
            failures.append(
                f"{case}: {result.get('behavior')}, closing {result.get('behaviorClose')}, "
                f"close code {result.get('remoteCloseCode')}"
            )
    for group, count in expected.items():
        there = sum(1 for case in cases if case.split(".")[0] == group)
        # Each missing case counts as one failure.
        failures += [f"{group}.*: {there} cases instead of {count}"] * abs(count - there)
    return passed, failures


def main(path, agent, sizes):
    expected = GROUPS | COMPRESSION[sizes]
    try:
        with open(path, encoding="utf-8") as file:
            cases = json.load(file).get(agent, {})
    except (OSError, ValueError) as error:
        print(f"autobahn: no report: {error}")
        cases = {}
    passed, failures = validate(cases, expected)
    for line in dict.fromkeys(failures):
        print(f"autobahn: {line}")
    print(f"{passed} passed, {len(failures)} failed")
    return 0 if passed == sum(expected.values()) and not failures else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
