"""What Ray tells a driver of the cluster by itself: a line each, and nothing of what needs no one's attention.

Ray prints these messages to stdout as they come, among them many lines of a lost node's log.
"""

import re
from typing import Any

import ray._private.worker

from imagewizard.errors import one_line
from imagewizard.progress import Reporter

# Of Ray's messages, without line breaks: what is found, and the line for the user. The first that is found counts.
_KNOWN = [
    (
        re.compile(r"node id: (\w{8})\w* and address: (\S+) .*marked dead"),
        "lost     node {0} ({1}); its work, if it had any, goes to the others",
    ),
    (
        re.compile(r"^Raylet is terminated"),
        "lost     a node's raylet: it was killed, or memory ran out; if it was the driver's, the job ends",
    ),
    (
        re.compile(r"running low on memory.*?\(IP: ([^,)]+)"),
        "memory   node {0} ran low on it; Ray ended a worker there, and its work is done again",
    ),
    (
        re.compile(r"worker died or was killed.* Worker IP address: (\S+) .*Worker PID: (\d+) .*exit detail: (.+?)\. "),
        "died     process {1} on {0}: {2}",
    ),
]
_NEEDS_NO_ONE = re.compile(r"^Task .* will be retried")
_MOST_LETTERS = 200


def line_of(message: str) -> str | None:
    """The line for the user: of a message that we do not know the first sentence; None for what Ray mends by itself."""
    text = one_line(message) + " "
    for pattern, line in _KNOWN:
        if found := pattern.search(text):
            return line.format(*found.groups())
    return None if _NEEDS_NO_ONE.search(text) else f"ray      {text.split('. ')[0].strip()[:_MOST_LETTERS]}"


def report_to(report: Reporter) -> None:
    """Has Ray's messages to this process reported from now on, each line once."""
    told: set[str] = set()

    def tell(data: dict[str, Any], ignore_prefix: bool) -> None:
        for message in data["lines"]:
            text = line_of(message)
            if text is not None and text not in told:
                told.add(text)
                report(text)

    # There is no other way: Ray's thread reads the messages and calls this function.
    ray._private.worker.print_to_stdstream = tell
