"""`python -m tcss.embedded run | demo | services`: the console without setting anything up."""

import argparse
import os
import signal
import sys
from pathlib import Path

from tcss.embedded.installation import read_options
from tcss.embedded.problems import StartError, Terminal
from tcss.embedded.services import serve_until_stopped
from tcss.embedded.supervisor import StopRequested, Supervisor


def main(arguments: list[str] | None = None) -> int:
    """Runs one of the verbs; the answer is the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tcss.embedded", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("run", help="run the console")
    verbs.add_parser("demo", help="run the console with demo registries whose images are scanned")
    services = verbs.add_parser("services", help="run PostgreSQL and Valkey alone, and print their addresses")
    services.add_argument("directory", type=Path, help="where they keep their data")
    chosen = parser.parse_args(arguments)
    terminal = Terminal()
    try:
        if chosen.verb == "services":
            serve_until_stopped(chosen.directory, terminal)
        else:
            environment = dict(os.environ)
            Supervisor(read_options(environment), environment, terminal).run(demo=chosen.verb == "demo")
    except StartError as problem:
        terminal.complain(str(problem))
        return 1
    except OSError as error:
        terminal.complain(f"{error.filename or 'The system'}: {error.strerror}; the console cannot go on.")
        return 1
    except (StopRequested, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
