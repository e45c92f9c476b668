"""One thin module a command: parse, print the plan, call the library, return the exit code."""
