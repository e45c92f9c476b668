"""What Ray tells a driver of the cluster by itself: a line each, once, and nothing of what it mends.

Ray prints these messages to stdout as they come, among them many lines of a lost node's log.
"""

import re
from typing import Any

import ray._private.worker

from imagewizard.progress import Reporter

_LOST_NODE = re.compile(r"node id: (\w{8})\w* and address: (\S+) .*marked dead", re.DOTALL)
# The second is also told, by the first pattern above, of nodes that are not the driver's own.
_MENDED = re.compile(r"Task .* will be retried|Raylet is terminated", re.DOTALL)


def line_of(message: str) -> str | None:
    """The line for the user: a message's first sentence, or that a node is lost; None for what Ray mends."""
    if lost := _LOST_NODE.search(message):
        return f"lost     node {lost[1]} ({lost[2]}); what it was doing is done again elsewhere"
    if _MENDED.search(message):
        return None
    return "ray      " + re.split(r"(?<=\.)\s", message.strip(), maxsplit=1)[0].replace("\n", " ")


def report_to(report: Reporter) -> None:
    """Has Ray's messages to this process reported from now on, those that differ in numbers alone once."""
    told: set[str] = set()

    def tell(data: dict[str, Any], ignore_prefix: bool) -> None:
        for message in data["lines"]:
            if (text := line_of(message)) is None:
                continue
            kind = text if _LOST_NODE.search(message) else re.sub(r"\d+", "", text)
            if kind not in told:
                told.add(kind)
                report(text)

    # There is no other way: Ray's thread reads the messages and calls this function.
    ray._private.worker.print_to_stdstream = tell
